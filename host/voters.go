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
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/link"
)

// Operators see and change the voters by way of any node: it asks each voter how it stands, and whoever leads for changes, over the link. The
// leader judges what is asked for; whoever is a member of the cluster may ask.

// The services of a node that has a voter. Questions and answers are CBOR arrays that begin with a version.
const (
	lookService   = "voters.look"
	changeService = "voters.change"

	votersVersion = 1
	lookTime      = 2 * time.Second        // for all voters to say how they stand
	leaderTime    = 4 * time.Second        // for there to be a leader
	leaderAgain   = 200 * time.Millisecond // it is looked for as often
)

var errNoVoters = abi.NewError(abi.ErrInvalidArgument, "this cluster has no voters: each node decides by what it sees. "+
	"For voters start all of its nodes with --voters or --quorum")

// voterView is how one voter stands.
type voterView struct {
	id        consensus.RaftID
	state     consensus.State
	leading   bool
	term      uint64
	last      uint64
	applied   uint64
	snapshot  uint64
	contact   int64  // milliseconds; -1: it has not heard of a leader, or is it
	config    uint64 // index of the configuration
	leader    cluster.NodeID
	members   []voterSeat
	authority string // not sent: where it was asked
	err       error  // likewise: why it did not answer
}

// voterSeat is a vote in the configuration.
type voterSeat struct {
	id        consensus.RaftID
	authority string
}

// voterChange is what is to become of a node, or of a raft id of one.
type voterChange struct {
	remove bool
	which  string
	even   bool
}

// voterChanged is what became of it.
type voterChanged struct {
	led    bool // else nothing was done, and leader may say who leads
	leader cluster.Node
	voter  string
	count  int
}

// Voters implements [gateway.Operator].
func (n *Node) Voters(ctx context.Context) (gateway.VoterList, error) {
	q, err := n.operated()
	if err != nil {
		return gateway.VoterList{}, err
	}
	standing, _ := q.resident.Standing()
	list := gateway.VoterList{Generation: standing.Generation, Index: standing.Index}
	views := q.look(ctx, n)
	seats, leader := seatsOf(views)
	if leader != nil {
		list.Leader, list.Term = string(leader.id.Node), leader.term
	}
	for _, s := range seats { // of nodes that were not asked, since nobody knew of them
		if !slices.ContainsFunc(views, func(v voterView) bool { return v.id.Node == s.id.Node }) {
			views = append(views, voterView{id: s.id, authority: s.authority, err: errors.New("no such node is in sight")})
		}
	}
	for _, v := range views {
		list.Term = max(list.Term, v.term)
		list.Voters = append(list.Voters, v.info(seats))
	}
	slices.SortFunc(list.Voters, func(a, b gateway.VoterInfo) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// seatsOf returns the voters of the newest configuration that somebody knows, and who leads.
func seatsOf(views []voterView) (seats []voterSeat, leader *voterView) {
	var newest *voterView
	for i := range views {
		v := &views[i]
		if v.err != nil {
			continue
		}
		if v.leading && (leader == nil || v.term > leader.term) {
			leader = v
		}
		if newest == nil || v.config > newest.config {
			newest = v
		}
	}
	switch {
	case leader != nil:
		return leader.members, leader
	case newest != nil:
		return newest.members, nil
	}
	return nil, nil
}

// info is a voter as operators see it.
func (v *voterView) info(seats []voterSeat) gateway.VoterInfo {
	i := gateway.VoterInfo{ID: string(v.id.Node), Link: v.authority, Leads: v.leading, State: gateway.VoterUnknown}
	seat := slices.IndexFunc(seats, func(s voterSeat) bool { return s.id.Node == v.id.Node })
	if seat >= 0 {
		i.Voter = seats[seat].id.String()
	}
	if v.err != nil {
		i.Problem = v.err.Error()
		return i
	}
	i.State, i.Last, i.Applied, i.Snapshot = string(v.state), v.last, v.applied, v.snapshot
	if v.contact >= 0 && !v.leading {
		i.ContactMS = &v.contact
	}
	switch {
	case seat >= 0 && seats[seat].id != v.id:
		i.State = gateway.VoterNone
		i.Problem = fmt.Sprintf("it has lost its disk, or has another one, and is %s now: `wasilo voters rm %s --even`, then `wasilo voters add %s`",
			v.id, i.Voter, v.id.Node)
	case seat < 0:
		i.Voter = v.id.String()
		if v.state != consensus.Waiting && v.state != consensus.Failed {
			i.State = gateway.VoterNone
		}
	}
	return i
}

// operated returns the node's part in a cluster with voters, once there is one.
func (n *Node) operated() (*quorum, error) {
	switch {
	case !n.up.Load():
		return nil, errNotServing
	case n.quorum == nil:
		return nil, errNoVoters
	case !n.quorum.opened.Load():
		return nil, abi.NewError(abi.ErrNotReady, "the node has not begun to follow the voters' log")
	}
	return n.quorum, nil
}

// look asks all voters how they stand, this node's own among them.
func (q *quorum) look(ctx context.Context, n *Node) []voterView {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var all []core.Member
	for _, m := range n.voters() {
		if m.ID != n.net.self.ID {
			all = append(all, m)
		}
	}
	if q.voter != nil {
		members, _ := q.voter.Voters()
		for _, m := range members {
			if m.ID.Node != n.net.self.ID && !slices.ContainsFunc(all, func(o core.Member) bool { return o.ID == m.ID.Node }) {
				all = append(all, core.Member{ID: m.ID.Node, Authority: m.Authority})
			}
		}
	}
	views := make([]voterView, len(all))
	var wg sync.WaitGroup
	for i, m := range all {
		wg.Go(func() {
			b, err := n.net.link.Ask(ctx, m, lookService, abi.AppendUint(abi.AppendArray(nil, 1), votersVersion))
			if err == nil {
				views[i], err = readVoterView(b)
			}
			if err == nil && views[i].id.Node != m.ID {
				err = fmt.Errorf("it says that it is %s", views[i].id)
			}
			if abi.CodeOf(err) == abi.ErrUnsupported {
				err = errors.New("the node has no voter: it was not started with --voter or --voters")
			}
			if err != nil {
				views[i] = voterView{id: consensus.RaftID{Node: m.ID}, err: err}
			}
			views[i].authority = m.Authority
		})
	}
	wg.Wait()
	if q.voter != nil {
		v := q.view()
		v.authority = n.net.self.Authority
		views = append(views, v)
	}
	return views
}

// view is how this node's own voter stands.
func (q *quorum) view() voterView {
	s := q.voter.Stats()
	members, index := q.voter.Voters()
	leader, _, _ := q.voter.Leader()
	v := voterView{id: q.voter.ID(), state: s.State, leading: s.Leading, term: s.Term, last: s.LastIndex, applied: s.AppliedIndex,
		snapshot: s.SnapshotIndex, contact: -1, config: index, leader: leader}
	if s.LastContact >= 0 && !s.Leading {
		v.contact = s.LastContact.Milliseconds()
	}
	for _, m := range members {
		v.members = append(v.members, voterSeat{m.ID, m.Authority})
	}
	return v
}

// AddVoter implements [gateway.Operator].
func (n *Node) AddVoter(ctx context.Context, node string, even bool) (gateway.VoterChange, error) {
	if err := core.CheckNodeID(cluster.NodeID(node)); err != nil {
		return gateway.VoterChange{}, abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("%.100q is no node: %v", node, err))
	}
	return n.changeVoters(ctx, voterChange{which: node, even: even})
}

// RemoveVoter implements [gateway.Operator].
func (n *Node) RemoveVoter(ctx context.Context, which string, even bool) (gateway.VoterChange, error) {
	return n.changeVoters(ctx, voterChange{remove: true, which: which, even: even})
}

// changeVoters finds who leads, and has it make a change.
func (n *Node) changeVoters(ctx context.Context, c voterChange) (gateway.VoterChange, error) {
	q, err := n.operated()
	if err != nil {
		return gateway.VoterChange{}, err
	}
	finding, cancel := context.WithTimeout(ctx, leaderTime)
	defer cancel()
	standing, _ := q.resident.Standing()
	first := cluster.Node{ID: standing.Leader}
	last := ""
	for {
		for _, m := range n.leaderCandidates(first) {
			var done voterChanged
			if m.ID == n.net.self.ID {
				done, err = q.change(ctx, n, c)
			} else {
				var b []byte
				if b, err = n.net.link.Ask(ctx, m, changeService, c.append(nil)); err == nil {
					done, err = readVoterChanged(b)
				}
			}
			switch code := abi.CodeOf(err); {
			case err == nil && done.led:
				return gateway.VoterChange{Voter: done.voter, Count: done.count}, nil
			case err == nil:
				if first = done.leader; first.ID != "" && first.ID != m.ID {
					last = fmt.Sprintf("node %s says that node %s leads", m.ID, first.ID)
				}
			case code == abi.ErrUnreachable || code == abi.ErrUnsupported || code == abi.ErrNotActive || code == abi.ErrBlocked:
				last = err.Error() // another one may lead
			default:
				return gateway.VoterChange{}, err
			}
		}
		t := time.NewTimer(leaderAgain)
		select {
		case <-t.C:
		case <-finding.Done():
			t.Stop()
			text := "the voters have no leader that this node can reach, so nothing was changed: a majority of them has to be up; `wasilo voters list` shows who answers"
			if last != "" {
				text += " (" + last + ")"
			}
			return gateway.VoterChange{}, abi.NewError(abi.ErrNoQuorum, text)
		}
	}
}

// leaderCandidates are the nodes that may lead, the likeliest first.
func (n *Node) leaderCandidates(first cluster.Node) (all []cluster.Node) {
	add := func(m cluster.Node) {
		if m.ID == "" || slices.ContainsFunc(all, func(o cluster.Node) bool { return o.ID == m.ID }) {
			return
		}
		if m.ID == n.net.self.ID {
			if n.quorum.voter != nil {
				all = append(all, n.net.self)
			}
			return
		}
		if authority, ok := n.net.authority(m.ID); ok {
			m.Authority = authority
		}
		if m.Authority != "" {
			all = append(all, m)
		}
	}
	add(first)
	if n.quorum.voter != nil {
		id, authority, _ := n.quorum.voter.Leader()
		add(cluster.Node{ID: id, Authority: authority})
		add(n.net.self)
	}
	for _, m := range n.voters() {
		add(m)
	}
	return all
}

// change makes a change if this node's voter leads.
func (q *quorum) change(ctx context.Context, n *Node, c voterChange) (voterChanged, error) {
	var id consensus.RaftID
	var err error
	if c.remove {
		id, err = q.voter.Remove(ctx, c.which, c.even)
	} else {
		node := cluster.Node{ID: cluster.NodeID(c.which)}
		var known bool
		if node.Authority, known = n.net.authority(node.ID); !known {
			l, _ := q.voter.Leadership()
			if l.Leading { // else another one may know it
				return voterChanged{}, abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("no node %s is in sight of the leader, %s: start it with --voter, "+
					"see that `wasilo members` shows it, and add it then", node.ID, n.net.self.ID))
			}
			return voterChanged{leader: cluster.Node{ID: l.Leader, Authority: l.Authority}}, nil
		}
		id, err = q.voter.Add(ctx, node, c.even)
	}
	var other *consensus.NotLeaderError
	switch {
	case errors.As(err, &other):
		return voterChanged{leader: cluster.Node{ID: other.Leader, Authority: other.Authority}}, nil
	case err != nil:
		return voterChanged{}, voterError(c, err)
	}
	members, _ := q.voter.Voters()
	return voterChanged{led: true, voter: id.String(), count: len(members)}, nil
}

// voterError gives what became of a change its code.
func voterError(c voterChange, err error) error {
	code := abi.CodeOf(err)
	text := err.Error()
	switch {
	case errors.Is(err, consensus.ErrChangeRunning):
		code = abi.ErrNotReady
	case errors.Is(err, consensus.ErrRefused), errors.Is(err, consensus.ErrEvenVoters):
		code = abi.ErrInvalidArgument
	case errors.Is(err, consensus.ErrClosed):
		code = abi.ErrShuttingDown
	case errors.Is(err, consensus.ErrOutcomeUnknown), errors.Is(err, context.DeadlineExceeded):
		code = abi.ErrOutcomeUnknown
		text += "; see what became of it with `wasilo voters list`"
	case code == abi.ErrUnsupported, code == abi.ErrNotActive: // of the node that was to be added
		code = abi.ErrInvalidArgument
		text = fmt.Sprintf("node %s has no voter to be added: start it again with --voter (with the directory of data that it has), and add it then", c.which)
	case code == abi.ErrInternal:
		code = abi.ErrNotReady
	}
	return abi.NewError(code, text)
}

// voterServices are those of a node that has a voter.
func (q *quorum) voterServices(n *Node) map[string]link.Service {
	open := func() error {
		if !q.opened.Load() {
			return abi.NewError(abi.ErrNotActive, "the voter of this node is not open yet")
		}
		return nil
	}
	return map[string]link.Service{
		lookService: func(context.Context, cluster.NodeID, []byte) ([]byte, error) {
			if err := open(); err != nil {
				return nil, err
			}
			v := q.view()
			return v.append(nil), nil
		},
		changeService: func(ctx context.Context, from cluster.NodeID, payload []byte) ([]byte, error) {
			if err := open(); err != nil {
				return nil, err
			}
			c, err := readVoterChange(payload)
			if err != nil {
				return nil, err
			}
			q.log.Info("a change of the voters is asked for", "from", from, "which", c.which, "remove", c.remove)
			done, err := q.change(ctx, n, c)
			if err != nil {
				return nil, err
			}
			return done.append(nil), nil
		},
	}
}

func (c *voterChange) append(b []byte) []byte {
	b = abi.AppendBool(abi.AppendUint(abi.AppendArray(b, 4), votersVersion), c.remove)
	return abi.AppendBool(abi.AppendText(b, c.which), c.even)
}

func readVoterChange(b []byte) (c voterChange, err error) {
	r := abi.NewReader(b)
	votersHead(&r, 4)
	c = voterChange{remove: r.Bool(), which: r.Text(), even: r.Bool()}
	return c, votersTail(&r, "a change of the voters")
}

func (c *voterChanged) append(b []byte) []byte {
	b = abi.AppendBool(abi.AppendUint(abi.AppendArray(b, 6), votersVersion), c.led)
	b = abi.AppendText(abi.AppendText(b, string(c.leader.ID)), c.leader.Authority)
	return abi.AppendUint(abi.AppendText(b, c.voter), uint64(c.count))
}

func readVoterChanged(b []byte) (c voterChanged, err error) {
	r := abi.NewReader(b)
	votersHead(&r, 6)
	c = voterChanged{led: r.Bool(), leader: cluster.Node{ID: cluster.NodeID(r.Text()), Authority: r.Text()}, voter: r.Text(), count: int(r.Uint32())}
	return c, votersTail(&r, "what became of a change of the voters")
}

func (v *voterView) append(b []byte) []byte {
	b = abi.AppendText(abi.AppendUint(abi.AppendArray(b, 12), votersVersion), v.id.String())
	b = abi.AppendBool(abi.AppendText(b, string(v.state)), v.leading)
	for _, n := range []uint64{v.term, v.last, v.applied, v.snapshot} {
		b = abi.AppendUint(b, n)
	}
	b = abi.AppendText(abi.AppendUint(abi.AppendInt(b, v.contact), v.config), string(v.leader))
	b = abi.AppendArray(b, len(v.members))
	for _, m := range v.members {
		b = abi.AppendText(abi.AppendText(abi.AppendArray(b, 2), m.id.String()), m.authority)
	}
	return b
}

func readVoterView(b []byte) (v voterView, err error) {
	r := abi.NewReader(b)
	votersHead(&r, 12)
	raftID := func() (id consensus.RaftID) {
		text := r.Text()
		id, err := consensus.ParseRaftID(text)
		if err != nil && r.Err() == nil {
			r.Fail(err.Error())
		}
		return id
	}
	v.id = raftID()
	v.state, v.leading = consensus.State(r.Text()), r.Bool()
	v.term, v.last, v.applied, v.snapshot = r.Uint(), r.Uint(), r.Uint(), r.Uint()
	v.contact, v.config, v.leader = r.Int(), r.Uint(), cluster.NodeID(r.Text())
	const most = 64
	k := r.Array()
	if k > most {
		r.Fail("more voters than there can be")
	}
	for ; k > 0 && r.Err() == nil; k-- {
		if r.Array() != 2 {
			r.Fail("a voter is a raft id and an address")
		}
		v.members = append(v.members, voterSeat{raftID(), r.Text()})
	}
	return v, votersTail(&r, "how a voter stands")
}

// votersHead reads the head of a question or an answer of n items.
func votersHead(r *abi.Reader, n int) {
	items, version := r.Array(), r.Uint()
	switch {
	case r.Err() != nil:
	case version > votersVersion:
		r.Fail(fmt.Sprintf("it is of version %d, and this node knows up to %d: update it", version, votersVersion))
	case items != n:
		r.Fail(fmt.Sprintf("it has %d items, not %d", items, n))
	}
}

func votersTail(r *abi.Reader, what string) error {
	r.End()
	if err := r.Err(); err != nil {
		return abi.NewError(abi.ErrInvalidArgument, what+" cannot be read: "+err.Error())
	}
	return nil
}
