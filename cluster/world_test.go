package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// world is several nodes in one process, joined by transports that do what the link does: messages between two nodes keep
// their order, answers come later and from another goroutine, and whatever is on its way when a node dies is told apart by
// whether it may have been done.
type world struct {
	t     testing.TB
	nodes map[NodeID]*citizen
	order []Node

	mu    sync.Mutex
	fault func(from, to NodeID, env *abi.Envelope) error // before anything is sent
	sent  map[[2]NodeID]int
	calls map[*crossing]struct{}
	work  sync.WaitGroup
}

// citizen is a node of a world.
type citizen struct {
	*node
	w    *world
	self Node
	dead atomic.Bool

	mu     sync.Mutex
	arrive *sync.Cond
	mail   []func() // what arrives, in order
	closed bool
}

// put has f run on the goroutine of what arrives at c.
func (c *citizen) put(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mail = append(c.mail, f)
	c.arrive.Signal()
}

func (c *citizen) read() {
	for {
		c.mu.Lock()
		for len(c.mail) == 0 && !c.closed {
			c.arrive.Wait()
		}
		if len(c.mail) == 0 {
			c.mu.Unlock()
			return
		}
		f := c.mail[0]
		c.mail = c.mail[1:]
		c.mu.Unlock()
		f()
	}
}

func (c *citizen) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.arrive.Signal()
}

// member returns the i-th node that worlds are made of.
func member(i int) Node {
	return Node{ID: NodeID(fmt.Sprintf("n%d", i)), Authority: fmt.Sprintf("10.0.0.%d:7701", i)}
}

// newWorld starts n nodes that know one another and what each hosts.
func newWorld(t testing.TB, n int, change ...func(*Config)) *world {
	w := &world{t: t, nodes: make(map[NodeID]*citizen), sent: make(map[[2]NodeID]int), calls: make(map[*crossing]struct{})}
	for i := range n {
		w.order = append(w.order, member(i+1))
	}
	t.Cleanup(func() { // after the nodes' own, which stop them
		for _, c := range w.nodes {
			c.close()
		}
		w.work.Wait()
	})
	for _, m := range w.order {
		w.join(m, w.order, change...)
	}
	for _, m := range w.order {
		w.tell(m.ID, "counter", "bank")
	}
	return w
}

// join starts a node that sees members, and whose own kinds nobody else knows yet.
func (w *world) join(m Node, members []Node, change ...func(*Config)) *citizen {
	c := &citizen{w: w, self: m}
	c.arrive = sync.NewCond(&c.mu)
	w.mu.Lock()
	w.nodes[m.ID] = c
	w.mu.Unlock()
	w.work.Go(c.read)
	c.node = start(w.t, append([]func(*Config){func(cfg *Config) {
		cfg.Self, cfg.Topology, cfg.Transport = m, StaticTopology(members...), roads{c}
	}}, change...)...)
	return c
}

// tell makes every node know what one hosts.
func (w *world) tell(host NodeID, kinds ...string) {
	for _, c := range w.nodes {
		if c.self.ID != host {
			c.knows(host, kinds...)
		}
	}
}

func (c *citizen) knows(host NodeID, kinds ...string) {
	c.t.Helper()
	var all []Kind
	for _, k := range kinds {
		all = append(all, Kind{k})
	}
	if err := c.Runtime().SetPeerKinds(host, all); err != nil {
		c.t.Error(err)
	}
}

// sees changes one node's view.
func (c *citizen) sees(members ...Node) {
	c.Runtime().HandleTopologyChanged(must(NewTopology(members...)))
}

// node returns one by its number.
func (w *world) node(i int) *citizen { return w.nodes[member(i).ID] }

// kill ends a node as SIGKILL would, as far as the others can tell: what was on its way to it fails.
func (w *world) kill(c *citizen) {
	c.dead.Store(true)
	w.mu.Lock()
	var cut []*crossing
	for x := range w.calls {
		if x.to == c || x.from == c {
			cut = append(cut, x)
		}
	}
	w.mu.Unlock()
	for _, x := range cut {
		x.cut()
	}
}

// breaks sets what befalls messages before they are sent; nil: nothing.
func (w *world) breaks(fault func(from, to NodeID, env *abi.Envelope) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// crossed returns how many messages went from one node to another.
func (w *world) crossed(from, to int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[[2]NodeID{member(from).ID, member(to).ID}]
}

// roads is the transport of a citizen.
type roads struct{ from *citizen }

func (r roads) Target(to Node) (Target, error) { return road{r.from, to}, nil }

// road leads from a node to another.
type road struct {
	from *citizen
	to   Node
}

// crossing is a message on its way and its answer's way back.
type crossing struct {
	from, to *citizen
	done     func([]byte, error)
	mu       sync.Mutex
	taken    bool // by the other node
	over     bool
}

func unreachable(to Node) error {
	return abi.NewError(abi.ErrUnreachable, "node "+string(to.ID)+" cannot be reached; nothing was sent")
}

// end makes an outcome the only one.
func (x *crossing) end() (first, taken bool) {
	x.mu.Lock()
	first, taken = !x.over, x.taken
	x.over = true
	x.mu.Unlock()
	x.from.w.mu.Lock()
	delete(x.from.w.calls, x)
	x.from.w.mu.Unlock()
	return first, taken
}

// cut is the loss of the connection.
func (x *crossing) cut() {
	first, taken := x.end()
	if !first {
		return
	}
	err := unreachable(x.to.self)
	if taken {
		err = abi.NewError(abi.ErrOutcomeUnknown, "the connection was lost")
	}
	x.from.put(func() { x.done(nil, err) })
}

func (r road) Post(env *abi.Envelope, done func([]byte, error)) error {
	w := r.from.w
	w.mu.Lock()
	to, fault := w.nodes[r.to.ID], w.fault
	w.mu.Unlock()
	if fault != nil {
		if err := fault(r.from.self.ID, r.to.ID, env); err != nil {
			return err
		}
	}
	if to == nil || to.self != r.to || to.dead.Load() || r.from.dead.Load() {
		return unreachable(r.to)
	}
	x := &crossing{from: r.from, to: to, done: done}
	w.mu.Lock()
	w.sent[[2]NodeID{r.from.self.ID, r.to.ID}]++
	w.calls[x] = struct{}{}
	w.mu.Unlock()
	if to.dead.Load() { // died meanwhile
		x.cut()
		return nil
	}
	arrived := *env
	to.put(func() {
		x.mu.Lock()
		x.taken = !x.over
		taken := x.taken
		x.mu.Unlock()
		if !taken {
			return
		}
		answer := x.answer
		if done == nil {
			answer = nil
			x.end()
		}
		to.API().Receive(&arrived, r.from.self.ID, answer)
	})
	return nil
}

func (x *crossing) answer(payload []byte, err error) {
	if err != nil {
		r := abi.NewReader(abi.AppendError(nil, abi.AsError(err)))
		err = r.Error()
	}
	x.from.put(func() {
		if first, _ := x.end(); first {
			x.done(payload, err)
		}
	})
}

func (r road) Deliver(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	type outcome struct {
		payload []byte
		err     error
	}
	ch := make(chan outcome, 1)
	if err := r.Post(env, func(payload []byte, err error) { ch <- outcome{payload, err} }); err != nil {
		return nil, err
	}
	late := time.NewTimer(time.Until(env.Deadline))
	defer late.Stop()
	select {
	case o := <-ch:
		return o.payload, o.err
	case <-late.C:
		return nil, abi.NewError(abi.ErrTimeout, "no answer came in time")
	case <-ctx.Done():
		return nil, abi.NewError(abi.CodeOf(ctx.Err()), "the caller stopped waiting")
	}
}
