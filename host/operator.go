package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/link"
)

var _ gateway.Operator = (*Node)(nil)

// drain is what an operator has asked for: that the node give its actors away, and go on as one that passes calls on.
type drain struct {
	asking sync.Mutex // held while one is begun or taken back
	cancel context.CancelFunc
	work   sync.WaitGroup
	over   bool // the node ends: nothing is begun any more

	mu    sync.Mutex
	is    bool
	quiet bool // without voters: the others have not been told yet
	done  bool
	stays string
	kept  []string // without voters: kinds that nobody else hosts
}

const drainLook = 50 * time.Millisecond

// Drain implements [gateway.Operator]. With voters the partitions of the node move to others with what sleeps in them. Without, the node
// ends its actors in good order and hosts nothing any more: they begin anew elsewhere. What nobody else hosts stays, in both cases.
func (n *Node) Drain(undo bool) (gateway.DrainInfo, error) {
	switch {
	case !n.serving.Load():
		return gateway.DrainInfo{}, n.notServing()
	case n.net == nil:
		return gateway.DrainInfo{}, abi.NewError(abi.ErrInvalidArgument, "this node is alone: nobody could take its actors")
	case n.cfg.Net.Mode == cluster.Client:
		return gateway.DrainInfo{}, abi.NewError(abi.ErrInvalidArgument, "this node is a client: it hosts no actors")
	}
	d := &n.drain
	d.asking.Lock()
	defer d.asking.Unlock()
	if d.over {
		return gateway.DrainInfo{}, errLeaving
	}
	switch info := n.Drained(); {
	case undo && info.Draining:
		n.undrain()
	case !undo && !info.Draining, !undo && info.Done && info.Stays != "": // what stayed may go by now
		n.beginDrain()
	}
	return n.Drained(), nil
}

// beginDrain has the node drained in the background. d.asking is held.
func (n *Node) beginDrain() {
	d := &n.drain
	if d.cancel != nil {
		d.cancel()
		d.work.Wait()
	}
	var kept []string
	if n.quorum == nil {
		kept = n.hostedHereOnly()
	}
	d.mu.Lock()
	d.is, d.quiet, d.done, d.stays, d.kept = true, true, false, "", kept
	d.mu.Unlock()
	n.log.Info("this node is being drained: its actors go to other nodes")
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	d.work.Go(func() {
		err := n.runDrain(ctx, kept)
		if ctx.Err() != nil {
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.done = true; err != nil {
			d.stays = err.Error()
			n.log.Warn("the node is drained but for what stays with it", "why", err)
			return
		}
		n.log.Info("the node is drained")
	})
}

// undrain takes a drain back. d.asking is held.
func (n *Node) undrain() {
	d := &n.drain
	d.cancel()
	d.work.Wait()
	d.mu.Lock()
	d.is, d.quiet, d.done, d.stays, d.kept = false, false, false, "", nil
	d.mu.Unlock()
	n.log.Info("the drain of this node is taken back")
	if n.quorum != nil {
		n.quorum.undrain()
		return
	}
	n.rebuild()
}

// notServing is why a node that does not serve cannot do what an operator asks for.
func (n *Node) notServing() error {
	if n.leaving.Load() {
		return errLeaving
	}
	return errNotServing
}

// Drained implements [gateway.Operator].
func (n *Node) Drained() gateway.DrainInfo {
	d := &n.drain
	d.mu.Lock()
	info := gateway.DrainInfo{Draining: d.is, Done: d.done, Stays: d.stays}
	d.mu.Unlock()
	if !n.up.Load() {
		return info
	}
	info.Actors = int(n.silo.Stats().Activations)
	if q := n.quorum; q != nil && q.opened.Load() {
		s, _ := q.resident.Standing()
		info.Partitions, info.Moving = s.Owned, s.Moving
	}
	return info
}

// runDrain ends when nothing more goes, and says what stays.
func (n *Node) runDrain(ctx context.Context, kept []string) error {
	if n.quorum != nil {
		return n.quorum.drain(ctx)
	}
	t := time.NewTicker(drainLook)
	defer t.Stop()
	await := func(ok func() bool, most time.Duration) error {
		for limit := time.Now().Add(most); !ok(); {
			select {
			case <-t.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			if most > 0 && time.Now().After(limit) {
				break
			}
		}
		return nil
	}
	ended := func() bool { return n.activeBut(kept) == 0 }
	n.rebuild() // here first: actors end after what waits for them, and only then does anybody else host them
	if err := await(ended, drainTime); err != nil {
		return err
	}
	n.drain.mu.Lock()
	n.drain.quiet = false
	n.drain.mu.Unlock()
	n.rebuild() // and the others are told, though some may not have ended
	if err := await(ended, 0); err != nil {
		return err
	}
	if len(kept) > 0 {
		return fmt.Errorf("the kinds %s stay with this node: no other node hosts them", strings.Join(kept, ", "))
	}
	return nil
}

// activeBut counts activations of other kinds than those.
func (n *Node) activeBut(kept []string) (left int) {
	for _, k := range n.kinds.Load().sorted {
		if !slices.Contains(kept, k.Desc.Name) {
			page := n.Actors(gateway.ActorQuery{Kind: k.Desc.Name, State: gateway.ActorsActive, Limit: 1})
			left += len(page.Actors)
		}
	}
	return left
}

// hostedHereOnly are the kinds of this node that no other node hosts at present.
func (n *Node) hostedHereOnly() (only []string) {
	elsewhere := make(map[string]bool)
	for _, m := range n.Members() {
		if !m.Self && m.State == gateway.MemberAlive && m.Mode == cluster.Member.String() && !m.Blocked {
			for _, k := range m.Kinds {
				elsewhere[k] = true
			}
		}
	}
	for _, k := range n.kinds.Load().sorted {
		if !elsewhere[k.Desc.Name] {
			only = append(only, k.Desc.Name)
		}
	}
	return only
}

// offered is which of its kinds the node hosts at present: all, or, drained without voters, those that nobody else does. It reports whether
// the other nodes are to be told.
func (n *Node) offered(names []cluster.Kind) (offered []cluster.Kind, tell bool) {
	d := &n.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.is || n.quorum != nil {
		return names, true
	}
	return slices.DeleteFunc(slices.Clone(names), func(k cluster.Kind) bool { return !slices.Contains(d.kept, k.Name) }), !d.quiet
}

// end waits for a drain that is under way, and lets none begin.
func (d *drain) end() {
	d.asking.Lock()
	defer d.asking.Unlock()
	d.over = true
	if d.cancel != nil {
		d.cancel()
	}
	d.work.Wait()
}

// blockService tells a node without voters to put another one on its block list, or to take it off: a CBOR array of a version, the node and
// whether it is blocked.
const blockService = "members.block"

const (
	blockVersion = 1
	blockTime    = 10 * time.Second // for all nodes to hear of it
)

// Block implements [gateway.Operator]. With voters it is written into their log. Without, each node has a block list of its own, and all that are
// in sight are told; one that comes later does not know of it.
func (n *Node) Block(ctx context.Context, node string, undo bool) (gateway.BlockInfo, error) {
	id := cluster.NodeID(node)
	info := gateway.BlockInfo{Node: node, Blocked: !undo}
	if err := core.CheckNodeID(id); err != nil {
		return info, abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("%.100q is no node: %v", node, err))
	}
	switch {
	case !n.serving.Load():
		return info, n.notServing()
	case n.net == nil:
		return info, abi.NewError(abi.ErrInvalidArgument, "this node is alone: there is no cluster to block a node of")
	}
	for _, p := range n.net.watch.Peers() {
		info.Known = info.Known || p.ID == id
	}
	if n.quorum != nil {
		q, err := n.operated()
		if err != nil {
			return info, err
		}
		c := core.Command{Type: core.BlockNode, Node: id}
		if undo {
			c.Type = core.UnblockNode
		}
		if err := q.resident.Propose(ctx, c); err != nil {
			if code := abi.CodeOf(err); code != abi.ErrInvalidArgument {
				err = abi.NewError(abi.ErrNoQuorum, "it is not known to be in the voters' log; a repetition does no harm: "+err.Error())
			}
			return info, err
		}
		return info, nil
	}
	n.net.block(id, undo)
	info.Told = append(info.Told, n.cfg.ID)
	n.tellBlock(ctx, &info)
	return info, nil
}

// tellBlock tells the other nodes.
func (n *Node) tellBlock(ctx context.Context, info *gateway.BlockInfo) {
	ctx, cancel := context.WithTimeout(ctx, blockTime)
	defer cancel()
	question := abi.AppendBool(abi.AppendText(abi.AppendUint(abi.AppendArray(nil, 3), blockVersion), info.Node), info.Blocked)
	others := n.net.others()
	errs := make([]error, len(others))
	var wg sync.WaitGroup
	for i, m := range others {
		wg.Go(func() { _, errs[i] = n.net.link.Ask(ctx, m, blockService, question) })
	}
	wg.Wait()
	for i, m := range others {
		if errs[i] != nil {
			info.Missed = append(info.Missed, gateway.Unreached{Node: string(m.ID), Error: errs[i].Error()})
			continue
		}
		info.Told = append(info.Told, string(m.ID))
	}
	slices.Sort(info.Told)
}

// blocked is told by another node to block one, or not any more.
func (n *Node) blocked(_ context.Context, from cluster.NodeID, payload []byte) ([]byte, error) {
	r := abi.NewReader(payload)
	items, version, id, is := r.Array(), r.Uint(), cluster.NodeID(r.Text()), r.Bool()
	if r.End(); r.Err() == nil && (items != 3 || version != blockVersion) {
		r.Fail("it is of another version")
	}
	err := r.Err()
	if err == nil {
		err = core.CheckNodeID(id)
	}
	switch {
	case err != nil:
		return nil, abi.NewError(abi.ErrInvalidArgument, "whom to block cannot be read: "+err.Error())
	case n.quorum != nil:
		return nil, abi.NewError(abi.ErrInvalidArgument, "with voters, whom to block is in their log")
	case !n.up.Load():
		return nil, errNotServing
	}
	n.log.Info("an operator blocks a node, or does not any more", "node", id, "blocked", is, "by_way_of", from)
	n.net.block(id, !is)
	return nil, nil
}

var _ link.Service = (*Node)(nil).blocked

// block puts a node on this node's block list for an operator, or takes it off.
func (n *network) block(id cluster.NodeID, undo bool) {
	n.blocking.Lock()
	defer n.blocking.Unlock()
	if undo {
		delete(n.ordered, id)
		n.runtime.HandleUnblockedNode(id)
		return
	}
	if n.ordered == nil {
		n.ordered = make(map[cluster.NodeID]struct{})
	}
	n.ordered[id] = struct{}{}
	n.runtime.HandleBlockedNode(id)
}

// unblock takes a node off the block list that does not refuse connections any more, unless an operator wants it there.
func (n *network) unblock(id cluster.NodeID) {
	n.blocking.Lock()
	defer n.blocking.Unlock()
	if _, ordered := n.ordered[id]; !ordered {
		n.runtime.HandleUnblockedNode(id)
	}
}

// blockedNodes are those that are kept from hosting actors, as this node knows.
func (n *Node) blockedNodes() []cluster.NodeID {
	all := n.runtime.Blocked()
	if q := n.quorum; q != nil && q.opened.Load() {
		s, _ := q.resident.Standing()
		all = append(all, s.Blocked...)
	}
	return all
}

// errDrained is what a drained node is not ready for.
var errDrained = errors.New("the node is drained, or being so, by an operator: it passes calls on to others; `wasilo drain --undo` has it host actors again")
