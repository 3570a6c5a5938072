package sim

import (
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// calling is the requests that a process carries for others: those of clients whose gateway it is, of turns, of outboxes.
type calling struct {
	cache   []*cached // by actor; nil: no entry
	senders core.Senders
	heard   map[senderKey]abi.Epoch // newest epoch of a message that came; the monitor's
	waits   [][]waiter              // by actor
	pausing []waiter                // in a back-off, which ends when the view names another owner
	busyOut map[pair]bool
}

// senderKey is a partition of a kind, whose actors have one epoch.
type senderKey struct {
	kind string
	part core.Partition
}

type pair struct{ from, to int }

type waiter struct {
	c   *call
	try int
}

func (k *calling) init(actors int) {
	k.cache = make([]*cached, actors)
	k.heard = make(map[senderKey]abi.Epoch)
	k.waits = make([][]waiter, actors)
	k.busyOut = make(map[pair]bool)
}

// call is one request on its way, tried again as cluster/tries.go does.
type call struct {
	p          *proc
	actor      *actor
	op         op
	id         uint64
	deadline   time.Duration // of p's clock
	chain      []core.Identity
	caller     *actor    // that asks within its turn; nil: a client, or an outbox
	epoch      abi.Epoch // of the caller's activation
	finishing  bool      // for a running turn
	here       bool      // it came from another node: only an activation of this one
	idempotent bool
	done       func(reply)

	tries, own int
	course     core.Course
	sends      int // to other nodes since the last back-off

	next          core.NodeID
	owner         core.NodeID
	refused       abi.Epoch
	refusedSerial uint64
	entry         *cached // that the present attempt uses
	ended         bool
}

// Limits as in cluster/tries.go.
// answerTime stands for the link's own notice that a peer does not answer.
const answerTime = 1500 * time.Millisecond

func (p *proc) call(c *call) {
	c.p = p
	p.after(c.deadline-p.local(), func() { c.end(reply{code: abi.ErrTimeout}) })
	if !c.hit() {
		c.try()
	}
}

func (c *call) end(r reply) {
	if !c.ended {
		c.ended = true
		c.done(r)
	}
}

func (c *call) again(try int) {
	if !c.ended && c.tries == try {
		c.try()
	}
}

func (c *call) ownerNow() core.NodeID {
	if m, _ := c.p.machine.View().OwnerOf(c.actor.id); m != nil {
		return m.ID
	}
	return ""
}

func (c *call) try() {
	p := c.p
	if c.ended {
		return
	}
	if p.local() >= c.deadline {
		c.end(reply{code: abi.ErrTimeout})
		return
	}
	c.tries++
	c.entry = nil
	p.w.stats.Tries++
	if to := c.next; to != "" {
		c.next = ""
		c.remote(to)
		return
	}
	c.owner = c.ownerNow()
	e := p.step(&core.Input{Type: core.Resolve, Identity: c.actor.id, Finishing: c.finishing && !c.here, Chain: c.chain, Refused: c.refused,
		RefusedSerial: c.refusedSerial})
	switch e.Type {
	case core.Use:
		c.entry = p.remember(c.actor, &e)
		c.local(e.Handle.(*activation))
	case core.Activate:
		p.activate(e.Lease, e.Member, c)
	case core.Forward:
		if c.here {
			c.end(reply{code: abi.ErrOwnershipChanged, owner: e.Member.ID})
			return
		}
		c.entry = p.remember(c.actor, &e)
		c.remote(e.Member.ID)
	case core.Wait:
		c.sends = 0
		try := c.tries
		p.waits[c.actor.i] = append(p.waits[c.actor.i], waiter{c, try})
		if e.Refused {
			p.after(c.backoff(), func() {
				if !c.ended && c.tries == try {
					c.refused, c.refusedSerial = abi.Epoch{}, 0
					c.try()
				}
			})
		}
	case core.Refuse:
		c.failed(e.Refusal.Code(), "")
	default:
		p.w.fail("machine", "a resolve of %s was answered with effect %d", c.actor.id, e.Type)
	}
}

// failed is when a resolve failed.
func (c *call) failed(code abi.Code, owner core.NodeID) {
	if c.ended {
		return
	}
	if c.here || !core.Reroutes(code) {
		c.end(reply{code: code, owner: owner})
		return
	}
	if code == abi.ErrNoQuorum {
		if c.own++; (core.RetryPolicy{}).Exhausted(c.own) {
			c.end(reply{code: code})
			return
		}
	}
	c.pause(code)
}

func (c *call) backoff() time.Duration {
	return c.course.Backoff(core.RetryPolicy{}, c.tries, c.p.w.rng.Float64())
}

func (c *call) pause(code abi.Code) {
	d := c.course.Pause(core.RetryPolicy{}, c.tries, code, c.p.w.rng.Float64())
	c.sends = 0
	try := c.tries
	if c.ownerNow() != c.owner {
		c.p.after(0, func() { c.again(try) })
		return
	}
	c.p.pausing = append(c.p.pausing, waiter{c, try})
	c.p.after(d, func() { c.again(try) })
}

// viewChanged ends the back-offs of those whose owner is another now.
func (p *proc) viewChanged() {
	left := p.pausing[:0]
	for _, v := range p.pausing {
		switch {
		case v.c.ended || v.c.tries != v.try:
		case v.c.ownerNow() != v.c.owner:
			p.after(0, func() { v.c.again(v.try) })
		default:
			left = append(left, v)
		}
	}
	clear(p.pausing[len(left):])
	p.pausing = left
}

// wake lets those ask again who wait for an actor.
func (p *proc) wake(a *actor) {
	all := p.waits[a.i]
	p.waits[a.i] = nil
	for _, v := range all {
		p.after(0, func() { v.c.again(v.try) })
	}
}

// local gives the request to an activation of this process.
func (c *call) local(a *activation) {
	try := c.tries
	a.take(&work{op: c.op, id: c.id, deadline: c.deadline, chain: c.chain, reply: func(r reply) {
		if c.ended || c.tries != try {
			return
		}
		if !core.Reroutes(r.code) && !(r.code == abi.ErrOutcomeUnknown && c.idempotent) {
			c.end(r)
			return
		}
		c.p.forget(c.actor, c.entry)
		if c.own++; (core.RetryPolicy{}).Exhausted(c.own) {
			c.end(r)
			return
		}
		c.refused, c.refusedSerial = a.lease.Epoch, a.lease.Serial
		c.p.after(0, func() { c.again(try) })
	}})
}

// remote sends the request to another node.
func (c *call) remote(id core.NodeID) {
	p, w := c.p, c.p.w
	to := w.nodeByID(id)
	try := c.tries
	c.sends++
	w.mon.sent(c)
	answered := func(r reply) {
		if !c.ended && c.tries == try {
			c.replied(r, id)
		}
	}
	if to.p == nil && w.net.both(p.n.i, to.i) {
		p.after(2*time.Millisecond, func() { answered(reply{code: abi.ErrUnreachable}) })
		return
	}
	left := c.deadline - p.local()
	send := func() { w.toNode(p.n, to, func(q *proc) { q.accept(c, p, left, answered) }) }
	if c.caller != nil && w.chance(4*w.faults.stale) {
		w.faults.hold(c, to, send)
	} else {
		send()
	}
	p.after(min(answerTime, left), func() { answered(reply{code: abi.ErrOutcomeUnknown}) })
}

// accept takes a request from another node, as cluster.API's Receive does.
func (q *proc) accept(c *call, from *proc, left time.Duration, answered func(reply)) {
	w := q.w
	answer := func(r reply) { w.toProc(q.n, from, func() { answered(r) }) }
	if c.caller != nil && !w.shape.available {
		verdict := q.senders.Judge(q.machine.View(), c.caller.id, c.epoch, from.n.id)
		w.mon.received(q, c, verdict)
		w.faults.overtaken(q, c)
		switch verdict {
		case core.Replaced, core.Invented:
			answer(reply{code: abi.ErrDenied})
			return
		case core.FarAhead:
			answer(reply{code: abi.ErrNotReady})
			return
		}
	}
	q.call(&call{actor: c.actor, op: c.op, id: c.id, deadline: q.local() + left, chain: c.chain, finishing: c.finishing, here: true,
		idempotent: c.idempotent, done: answer})
}

// settle has the process know how far it has heard of the log. In this world nobody makes epochs up.
func (p *proc) settle(upTo abi.Epoch) {
	for _, c := range p.senders.Settle(p.machine.View(), upTo) {
		p.w.fail("sender", "%s#%d takes epoch %v of %s, partition %d, from %s for made up, having heard of the log up to %v", p.n.id, p.boot, c.Epoch, c.Kind, c.Partition,
			c.From, upTo)
	}
}

// replied is the answer of another node.
func (c *call) replied(r reply, from core.NodeID) {
	switch {
	case core.Reroutes(r.code), r.code == abi.ErrShuttingDown, r.code == abi.ErrOutcomeUnknown && c.idempotent:
	default:
		c.end(r)
		return
	}
	c.p.forget(c.actor, c.entry)
	if c.course.MayFollow(r.owner, from, c.p.n.id) {
		c.course.Follow()
		c.p.w.stats.Redirects++
		c.next = r.owner
		c.try()
		return
	}
	if r.code == abi.ErrOwnershipChanged && c.tries == 1 {
		c.try()
		return
	}
	c.pause(r.code)
}

// request is what a client of the cluster asks, through some node. Every request ends by its deadline, unless its gateway does.
func (w *world) request(n *node, a *actor, o op, within time.Duration, done func(p *proc, r reply)) {
	p := n.p
	if p == nil {
		return
	}
	w.stats.Requests++
	w.reqs++
	id, began := w.reqs, w.now
	w.at(w.now+w.between(0, 2*time.Millisecond), p, func() {
		if w.now-began > within { // the gateway stood still
			w.stats.TimedOut++
			return
		}
		c := &call{actor: a, op: o, deadline: p.local() + within, id: id, idempotent: a.kind == kindRow || !o.add}
		began := w.now
		c.done = func(r reply) {
			switch {
			case r.code == 0:
				w.stats.Succeeded++
				w.mon.replied(c, r)
			case r.code == abi.ErrTimeout:
				w.stats.TimedOut++
			default:
				w.stats.Failed++
			}
			if w.shape.calm && r.code != 0 && began > 3*time.Second {
				w.fail("I10", "without faults a request to %s failed with %v, which began at %v", a.id, r.code, began)
			}
			if done != nil {
				done(p, r)
			}
		}
		p.call(c)
		w.at(w.now+within+within/10+10*time.Millisecond, nil, func() {
			if !c.ended && !p.dead && !p.paused && p.stood < began {
				w.fail("I10", "request %d to %s through %s of %v has not ended by its deadline", id, a.id, n.id, began)
			}
		})
	})
}
