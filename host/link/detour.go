package link

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// detour is how messages to a member that cannot be reached go: through another one, which says that it reaches it. There is one at a time, and
// everything goes through it, so that what is sent one after the other arrives so.
//
// It begins when the connection was lost or could not be made, all that was to go over it has been answered for, and nothing waits for the
// next. It ends when that stands: the connection then takes messages but sends none until the relay has brought a last one through, the
// fence, behind which none of the earlier ones can be.
type detour struct {
	via *peer

	mu     sync.Mutex
	closed bool
	used   bool
}

func (d *detour) close() (used bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return d.used
}

const (
	asksEach  = 4  // members that are asked whether they reach one that this node does not, at a time
	fenceLess = 3  // attempts that fail for want of an answer from the relay, before the order is given up
	reachMost = 64 // nodes of one question
	reachKind = 1 << 20
)

// scout looks for relays while there is a member that cannot be reached: when one was lost, and then once in each keepalive.
func (l *Link) scout() {
	t := time.NewTicker(l.cfg.Keepalive)
	defer t.Stop()
	for {
		select {
		case <-l.lookOut:
		case <-t.C:
		case <-l.stop:
			return
		}
		if !l.closing.Load() {
			l.look()
		}
	}
}

// wakeScout has relays looked for at once.
func (l *Link) wakeScout() {
	select {
	case l.lookOut <- struct{}{}:
	default:
	}
}

// look asks members which of those that this node cannot reach they do, and has messages go through them.
func (l *Link) look() {
	var relays []*peer
	var lost []*peer
	for _, p := range *l.members.Load() {
		if p == nil {
			continue
		}
		if c := p.current.Load(); c != nil && c.stands(featureRelay) {
			relays = append(relays, p)
		} else if p.wantsDetour() {
			lost = append(lost, p)
		}
	}
	if len(lost) == 0 {
		return
	}
	questions := make(map[*peer][]*peer)
	order := make(map[*peer][]*peer)
	for _, p := range lost {
		order[p] = p.candidates(relays)
		for _, via := range order[p] {
			if len(questions[via]) < reachMost {
				questions[via] = append(questions[via], p)
			}
		}
	}
	var mu sync.Mutex
	found := make(map[*peer]map[*peer]bool)
	var work sync.WaitGroup
	for via, about := range questions {
		work.Go(func() {
			reached := l.inquire(via, about)
			mu.Lock()
			defer mu.Unlock()
			for _, p := range reached {
				if found[p] == nil {
					found[p] = make(map[*peer]bool)
				}
				found[p][via] = true
			}
		})
	}
	work.Wait()
	for _, p := range lost {
		p.reroute(order[p], found[p])
	}
}

// wantsDetour reports whether a relay is to be looked for.
func (p *peer) wantsDetour() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keep && p.down
}

// candidates are the members to ask now: first the one in use, then some others, at each look the next ones, in an order that differs
// from pair to pair, so that not all go through one node.
func (p *peer) candidates(relays []*peer) (some []*peer) {
	all := slices.Clone(relays)
	score := func(via *peer) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(string(p.link.cfg.Self.ID) + "\x00" + string(p.id) + "\x00" + string(via.id)))
		return h.Sum64()
	}
	slices.SortFunc(all, func(a, b *peer) int {
		if x, y := score(a), score(b); x != y && x < y {
			return -1
		} else if x != y {
			return 1
		}
		return strings.Compare(string(a.id), string(b.id))
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.detour.Load(); d != nil && slices.Contains(all, d.via) {
		some = append(some, d.via)
	}
	for i := range all {
		if via := all[(p.looks*asksEach+i)%len(all)]; len(some) < asksEach && !slices.Contains(some, via) {
			some = append(some, via)
		}
	}
	p.looks++
	return some
}

// reroute has messages go through the first of the members asked that reaches the peer, unless they go through one already that does.
func (p *peer) reroute(asked []*peer, reached map[*peer]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.keep || !p.down {
		return
	}
	old := p.detour.Load()
	if old != nil && reached[old.via] {
		return
	}
	p.tried = p.tried[:0:0]
	var via *peer
	for _, a := range asked {
		if p.tried = append(p.tried, a.id); reached[a] && via == nil {
			via = a
		}
	}
	c := p.current.Load()
	switch {
	case via == nil && old != nil:
		p.endLocked(old, "nobody reaches it any more")
		return
	case via == nil, c != nil && !c.setAside():
		return
	}
	if old != nil {
		p.oweLocked(old)
	}
	p.looks = 0
	p.detour.Store(&detour{via: via})
	p.link.log.warn("a member cannot be reached; messages to it go through another", p.id, "node", p.id, "through", via.id, "why", p.cause)
}

// endLocked ends a detour without another way. p.mu is held.
func (p *peer) endLocked(d *detour, why string) {
	p.oweLocked(d) // a relay that does not say that it reaches the node may just be slow, and pass on what it has yet
	if !p.detour.CompareAndSwap(d, nil) {
		return
	}
	if c := p.current.Load(); c != nil {
		c.takeBack()
	}
	p.link.log.warn("messages to a member go through another no more", p.id, "node", p.id, "through", d.via.id, "why", why)
}

// strike ends a detour whose relay does not reach the node, and looks for another.
func (p *peer) strike(via *peer) {
	p.mu.Lock()
	if d := p.detour.Load(); d != nil && d.via == via {
		p.tried = []cluster.NodeID{via.id}
		p.endLocked(d, "it does not reach it either")
	}
	p.mu.Unlock()
	p.link.wakeScout()
}

// rejoin prepares a connection that stands for the messages that went through a relay until now. An error means that it is not known whether
// all of those have arrived.
func (p *peer) rejoin(c *outbound) error {
	p.mu.Lock()
	d := p.detour.Load()
	p.detour.Store(nil)
	p.standing, p.down, p.looks, p.tried = c, false, 0, nil
	c.takeBack()
	if next := p.current.Load(); next != nil && next != c { // c was retired since; nothing would end what has set its successor aside
		next.takeBack()
	}
	if d != nil {
		p.oweLocked(d)
	}
	p.mu.Unlock()
	for {
		p.mu.Lock()
		if len(p.owed) == 0 {
			p.unfenced = 0
			p.mu.Unlock()
			return nil
		}
		d := p.owed[0]
		p.mu.Unlock()
		if err := p.fence(d); unfenced(err) {
			p.mu.Lock()
			p.unfenced++
			again := p.unfenced < fenceLess
			p.mu.Unlock()
			if again {
				return fmt.Errorf("node %s does not say whether it has passed on what it was given for it: %w", d.via.id, err)
			}
			p.link.log.warn("messages to a member may have changed places: a relay did not say whether it has passed on all of them", p.id,
				"node", p.id, "through", d.via.id)
		}
		p.mu.Lock()
		p.owed = slices.DeleteFunc(p.owed, func(o *detour) bool { return o == d })
		p.mu.Unlock()
		p.link.log.info("a member is reached without help again", p.id, "node", p.id, "through", d.via.id)
	}
}

// oweLocked ends a detour, and notes that its fence is not through if anything took it. One fence is enough for all that went through one
// relay. p.mu is held.
func (p *peer) oweLocked(d *detour) {
	if !d.close() {
		return
	}
	p.owed = append(slices.DeleteFunc(p.owed, func(o *detour) bool { return o.via == d.via }), d)
}

// unfenced reports whether a fence that ended with err says nothing of what was passed on before it. What the other node itself answers, whatever
// that is, it answers after that; and where the relay, or the other node for the relay, cannot be reached, all has been answered for.
func unfenced(err error) bool {
	var here *Error
	var relay unrelayed
	switch abi.CodeOf(err) {
	case abi.ErrTimeout, abi.ErrCanceled:
		return true
	case abi.ErrOverloaded: // it was not passed on
		return errors.As(err, &here) || errors.As(err, &relay)
	}
	return false
}

// fence waits until all that went through the relay has been handed over.
func (p *peer) fence(d *detour) error {
	l := p.link
	c := d.via.current.Load()
	if c == nil {
		return errLost
	}
	ctx, cancel := context.WithTimeout(l.ctx, 2*l.cfg.Keepalive)
	defer cancel()
	k := l.getCall()
	k.pass = &passage{frame: frameRelay, node: p.id, service: fenceService}
	k.request, k.deadline = true, forever
	if at, ok := ctx.Deadline(); ok {
		k.deadline = l.at(at)
	}
	claimed, _, err := c.send(k, time.Now())
	if err != nil {
		return err
	}
	if claimed {
		c.out.kick()
	}
	_, err = c.wait(ctx, k)
	return err
}

// unreachable is the error of a message to a node that this one cannot reach, and nobody for it. It names them all.
func (p *peer) unreachable(text string) *Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unreachableLocked(text)
}

func (p *peer) unreachableLocked(text string) *Error {
	e := p.error(abi.ErrUnreachable, text, nil)
	e.Self, e.Relays = p.link.cfg.Self.ID, slices.Clone(p.tried)
	if p.cause != nil {
		e.Err = p.cause.Err
	}
	return e
}

// member returns the peer of a member, nil if there is none of that id or it takes no connections.
func (l *Link) member(node cluster.NodeID) *peer { return (*l.members.Load())[node] }

func (l *Link) isMember(node cluster.NodeID) bool {
	_, ok := (*l.members.Load())[node]
	return ok
}

// relayable reports whether what ended a connection, or kept it from being made, is the matter of a network. Where one of the two nodes
// will not have the other, nobody is asked to help.
func relayable(err error) bool {
	var refusal *Refusal
	var f *fault
	switch {
	case errors.As(err, &refusal), errors.Is(err, errShutdown), errors.Is(err, errFinished), errors.Is(err, errLeft):
		return false
	case errors.As(err, &f):
		return !f.reason.misbehaviour()
	}
	return true
}

// reachService is what links ask each other: which of some nodes they reach. The question is a CBOR array of a version and an array of
// [id, boot, version of the kinds]; the answer one of a version and, in the same order, of [whether, boot, version of the kinds, whether they follow, kinds]: they
// do not where the one that asks knows them.
const (
	reachService = "link.reach"
	reachVersion = 1
)

type reachItem struct {
	id      cluster.NodeID
	boot    uint64
	version uint64
}

type reachAnswer struct {
	reaches bool
	boot    uint64
	version uint64
	told    bool
	kinds   []string
}

// inquire asks a member about others, takes note of what they host, and returns those that it reaches.
func (l *Link) inquire(via *peer, about []*peer) (reached []*peer) {
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.Keepalive)
	defer cancel()
	items := make([]reachItem, len(about))
	for i, p := range about {
		items[i] = reachItem{id: p.id, boot: p.boot.Load(), version: l.roster.heardOf(p.id, p.boot.Load())}
	}
	b, err := l.Ask(ctx, cluster.Node{ID: via.id, Authority: via.authority}, reachService, appendReachQuestion(nil, items))
	var answers []reachAnswer
	if err == nil {
		answers, err = readReachAnswer(b)
	}
	if err == nil && len(answers) != len(items) {
		err = errors.New("it was asked about " + strconv.Itoa(len(items)) + " nodes and answered about " + strconv.Itoa(len(answers)))
	}
	if err != nil {
		l.log.debug("a member was asked in vain whether it reaches others", via.id, "node", via.id, "err", err)
		return nil
	}
	for i, a := range answers {
		p := about[i]
		if !a.reaches || a.boot < items[i].boot {
			continue
		}
		reached = append(reached, p)
		l.roster.hear(p.id, &a)
	}
	return reached
}

// reach answers what inquire asks.
func (l *Link) reach(_ context.Context, _ cluster.NodeID, payload []byte) ([]byte, error) {
	items, err := readReachQuestion(payload)
	if err != nil {
		return nil, abi.NewError(abi.ErrInvalidArgument, err.Error())
	}
	answers := make([]reachAnswer, len(items))
	room := min(reachKind, l.cfg.MaxMessage)
	for i, item := range items {
		c := l.reaches(item.id, item.boot)
		if c == nil {
			continue
		}
		a := &answers[i]
		a.reaches, a.boot = true, c.peer.boot
		kinds, version, ok := l.roster.saidOf(item.id, c.peer.boot)
		if !ok || version == item.version && a.boot == item.boot {
			continue
		}
		size := 0
		for _, k := range kinds {
			size += len(k) + 2
		}
		if room -= size; room < 0 { // so many that they are for the node itself to say
			continue
		}
		a.version, a.told, a.kinds = version, true, kinds
	}
	return appendReachAnswer(nil, answers), nil
}

func appendReachQuestion(b []byte, items []reachItem) []byte {
	b = abi.AppendArray(abi.AppendUint(abi.AppendArray(b, 2), reachVersion), len(items))
	for _, i := range items {
		b = abi.AppendUint(abi.AppendUint(abi.AppendText(abi.AppendArray(b, 3), string(i.id)), i.boot), i.version)
	}
	return b
}

func readReachQuestion(b []byte) (items []reachItem, err error) {
	r := abi.NewReader(b)
	n := reachHead(&r)
	for ; n > 0 && r.Err() == nil; n-- {
		if r.Array() != 3 {
			r.Fail("a node, its run and the version of its kinds are expected")
		}
		items = append(items, reachItem{cluster.NodeID(r.Text()), r.Uint(), r.Uint()})
	}
	r.End()
	return items, r.Err()
}

// reachHead reads what question and answer begin with, and how many nodes follow.
func reachHead(r *abi.Reader) (n int) {
	items, version := r.Array(), r.Uint()
	switch {
	case r.Err() == nil && version > reachVersion:
		r.Fail("it is of version " + strconv.FormatUint(version, 10) + "; this node knows up to " + strconv.Itoa(reachVersion))
	case items != 2:
		r.Fail("it has two items")
	}
	if n = r.Array(); n > reachMost {
		r.Fail("more than " + strconv.Itoa(reachMost) + " nodes")
	}
	return n
}

func appendReachAnswer(b []byte, answers []reachAnswer) []byte {
	b = abi.AppendArray(abi.AppendUint(abi.AppendArray(b, 2), reachVersion), len(answers))
	for _, a := range answers {
		b = abi.AppendUint(abi.AppendUint(abi.AppendBool(abi.AppendArray(b, 5), a.reaches), a.boot), a.version)
		b = abi.AppendArray(abi.AppendBool(b, a.told), len(a.kinds))
		for _, k := range a.kinds {
			b = abi.AppendText(b, k)
		}
	}
	return b
}

func readReachAnswer(b []byte) (answers []reachAnswer, err error) {
	r := abi.NewReader(b)
	n := reachHead(&r)
	for ; n > 0 && r.Err() == nil; n-- {
		if r.Array() != 5 {
			r.Fail("whether a node is reached, its run and what it hosts are expected")
		}
		a := reachAnswer{reaches: r.Bool(), boot: r.Uint(), version: r.Uint(), told: r.Bool()}
		kinds := r.Array()
		if kinds > maxKinds {
			r.Fail("more than " + strconv.Itoa(maxKinds) + " kinds")
		}
		for ; kinds > 0 && r.Err() == nil; kinds-- {
			kind := r.Text()
			if err := abi.CheckKind(kind); err != nil {
				r.Fail(err.Error())
			}
			a.kinds = append(a.kinds, kind)
		}
		answers = append(answers, a)
	}
	r.End()
	return answers, r.Err()
}
