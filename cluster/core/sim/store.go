package sim

import (
	"maps"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// store is the store of durable actors, as several nodes share it: it holds what is committed and forgets nothing. Its promises are those
// of a database: a transaction is committed or not, whether or not anybody hears of it.
type store struct {
	fences map[fenceKey]fence
	rows   []*row // by actor
}

type fenceKey struct {
	kind string
	part core.Partition
}

// fence is who may commit for a partition: the last who claimed it.
type fence struct {
	epoch abi.Epoch
	token uint64
}

// row is one actor's committed state.
type row struct {
	version uint64
	value   int
	turns   map[uint64]int // the value after each request: idempotency records
	marks   map[int]uint64 // the newest message taken, by sender
	sent    map[int]uint64 // the newest message of the outbox, by receiver
	outbox  []message      // not acknowledged yet, in order
	loaded  *durable       // last
}

type message struct {
	to  *actor
	seq uint64
}

func (s *store) init(actors int) {
	s.fences = make(map[fenceKey]fence)
	s.rows = make([]*row, actors)
	for i := range s.rows {
		s.rows[i] = &row{turns: map[uint64]int{}, marks: map[int]uint64{}, sent: map[int]uint64{}}
	}
}

// toStore runs a transaction and tells the process how it ended, if that can be known. The network may run it twice; each time it returns
// what its answer brings, and the first that arrives counts.
func (p *proc) toStore(do func() (bring func()), ended func(known bool)) {
	w := p.w
	end := len(w.nodes)
	over := false
	w.carry(p.n.i, end, func() {
		bring := do()
		w.carry(end, p.n.i, func() {
			w.at(w.now, p, func() {
				if !over {
					over = true
					bring()
					ended(true)
				}
			})
		})
	})
	p.after(time.Second, func() {
		if !over {
			over = true
			w.stats.Unknown++
			ended(false)
		}
	})
}

// claim makes whoever asks the only one who may commit for a partition, unless a newer epoch has claimed it.
func (w *world) claim(a *actor, epoch abi.Epoch) (token uint64, ok bool) {
	k := fenceKey{a.kind, a.part}
	f := w.store.fences[k]
	if epoch.Less(f.epoch) {
		return 0, false
	}
	next := fence{epoch, f.token + 1}
	if next.token <= f.token || next.epoch.Less(f.epoch) {
		w.fail("I6", "the fence of %v fell from %v to %v", k, f, next)
	}
	w.store.fences[k] = next
	return next.token, true
}

// durable is an activation of a durable actor: its state runs ahead of what is committed.
type durable struct {
	a         *activation
	token     uint64
	version   uint64 // of the state
	committed uint64
	value     int
	turns     map[uint64]int
	marks     map[int]uint64
	sent      map[int]uint64
	queue     []*commit // in order; the first is on its way
	loadedAt  uint64
}

// commit is a turn that is not committed yet, or an output that waits for those before it.
type commit struct {
	version uint64 // 0: it changes nothing
	work    *work
	out     reply
	after   uint64 // version that the output depends on
	mark    func(*row)
	sending bool
}

// load claims the fence, reads the row and begins.
func (a *activation) load() {
	w, p := a.p.w, a.p
	epoch := a.lease.Epoch
	if w.shape.available {
		epoch = abi.Epoch{}
	}
	d := &durable{a: a}
	claimed := false
	p.toStore(func() func() {
		got := durable{a: a}
		if core.ClaimsBeforeActivation() {
			ok := false
			if got.token, ok = w.claim(a.actor, epoch); !ok {
				return func() {}
			}
		}
		r := w.store.rows[a.actor.i]
		got.version, got.committed, got.value, got.loadedAt = r.version, r.version, r.value, r.version
		got.turns, got.marks, got.sent = maps.Clone(r.turns), maps.Clone(r.marks), maps.Clone(r.sent)
		r.loaded, d.loadedAt = d, r.version
		return func() { *d, claimed = got, true }
	}, func(known bool) {
		if !known || !claimed || a.revoked {
			a.ready = true
			a.failed(abi.ErrNotReady)
			return
		}
		a.row = d
		a.isReady()
	})
}

// turn runs one turn on the state as it is, committed or not. Its output waits for all that it has seen.
func (d *durable) turn(k *work) {
	w := d.a.p.w
	c := &commit{work: k, after: d.version}
	if v, done := d.turns[k.id]; done { // its idempotency record
		c.out.value = v
		d.enqueue(c)
		return
	}
	o := k.op
	if !o.add || o.from != nil && o.seq <= d.marks[o.from.i] {
		c.out.value = d.value
		d.enqueue(c)
		return
	}
	if o.from != nil && o.seq != d.marks[o.from.i]+1 { // somebody else has taken those before: this activation is out of date
		k.reply(reply{code: abi.ErrOwnershipChanged})
		d.fail(abi.ErrOwnershipChanged)
		return
	}
	d.version++
	d.value++
	d.turns[k.id] = d.value
	c.version, c.after, c.out.value = d.version, d.version, d.value
	version, value, id := d.version, d.value, k.id
	var seq uint64
	if o.from != nil {
		d.marks[o.from.i] = o.seq
	}
	if o.post != nil {
		d.sent[o.post.i]++
		seq = d.sent[o.post.i]
	}
	c.mark = func(r *row) {
		r.version, r.value, r.turns[id] = version, value, value
		if o.from != nil {
			if r.marks[o.from.i]+1 != o.seq {
				w.fail("I7", "message %d of %s takes effect at %s after message %d", o.seq, o.from.id, d.a.actor.id, r.marks[o.from.i])
			}
			r.marks[o.from.i] = o.seq
		}
		if o.post != nil {
			r.sent[o.post.i] = seq
			r.outbox = append(r.outbox, message{o.post, seq})
			w.stats.Messages++
		}
	}
	d.enqueue(c)
}

func (d *durable) enqueue(c *commit) {
	d.queue = append(d.queue, c)
	d.proceed()
}

// proceed sends the next commit, and lets outputs leave that wait for nothing.
func (d *durable) proceed() {
	for len(d.queue) > 0 {
		c := d.queue[0]
		if c.version != 0 {
			if !c.sending {
				c.sending = true
				d.send(c)
			}
			return
		}
		d.queue = d.queue[1:]
		d.reply(c)
	}
	d.a.next()
}

// reply lets an output leave.
func (d *durable) reply(c *commit) {
	w := d.a.p.w
	r := w.store.rows[d.a.actor.i]
	if r.version < c.after {
		w.fail("I8", "%s on %s answers request %d with version %d, and %d is committed", d.a.actor.id, d.a.p.n.id, c.work.id, c.after, r.version)
	}
	if o := r.loaded; c.version != 0 && o != nil && o != d && !o.a.ended && !o.a.p.dead && o.a.lease.Epoch != d.a.lease.Epoch && o.loadedAt < c.version {
		w.fail("I6", "%s: version %d is acknowledged by %s under %v; %s has loaded version %d under %v since", d.a.actor.id, c.version,
			d.a.p.n.id, d.a.lease.Epoch, o.a.p.n.id, o.loadedAt, o.a.lease.Epoch)
	}
	d.a.p.after(w.between(0, time.Millisecond), func() { c.work.reply(c.out) })
}

func (d *durable) send(c *commit) {
	a, w := d.a, d.a.p.w
	epoch := a.lease.Epoch
	if w.shape.available {
		epoch = abi.Epoch{}
	}
	ok := false
	a.p.toStore(func() func() {
		if d.token == 0 { // only with a planted bug
			d.token, _ = w.claim(a.actor, epoch)
		}
		r, f := w.store.rows[a.actor.i], w.store.fences[fenceKey{a.actor.kind, a.actor.part}]
		_, there := r.turns[c.work.id]
		switch {
		case f.token == d.token && r.version >= c.version && there: // it was this very commit
		case f.token != d.token || r.version != c.version-1:
			w.stats.Stale++
			return func() {}
		case there:
			w.fail("I7", "request %d would be committed twice by %s", c.work.id, a.actor.id)
		default:
			c.mark(r)
			w.stats.Commits++
		}
		return func() { ok = true }
	}, func(known bool) {
		if len(d.queue) == 0 || d.queue[0] != c {
			return // discarded meanwhile
		}
		switch {
		case !known:
			d.fail(abi.ErrOutcomeUnknown)
		case !ok:
			d.fail(abi.ErrOwnershipChanged)
		default:
			d.committed = c.version
			d.queue = d.queue[1:]
			d.reply(c)
			a.p.dispatch(a.actor)
			d.proceed()
		}
	})
}

// fail discards the activation after a commit that failed, or of which nobody knows, and with it all later turns.
func (d *durable) fail(code abi.Code) {
	d.a.broken = true
	d.discard(code)
	d.a.next()
}

// discard answers everything that waits: the first with a code, of the others nothing is done.
func (d *durable) discard(code abi.Code) {
	all := d.queue
	d.queue = nil
	for i, c := range all {
		switch {
		case i == 0:
			c.work.reply(reply{code: d.doubt(c, code)})
		default:
			c.work.reply(reply{code: abi.ErrOwnershipChanged})
		}
	}
}

// doubt is the code for a turn that is given up: one whose commit is on its way may have been done.
func (d *durable) doubt(c *commit, code abi.Code) abi.Code {
	if c.sending && !d.a.broken {
		return abi.ErrOutcomeUnknown
	}
	return code
}

// scanOutbox looks for messages of the durable actors that live here by this node's view: those whose owner is new, too, must go on.
func (p *proc) scanOutbox() {
	for _, a := range p.w.actors {
		if a.kind != kindRow {
			continue
		}
		if m, _ := p.machine.View().OwnerOf(a.id); m != nil && m.ID == p.n.id {
			p.dispatch(a)
		}
	}
}

// dispatch sends the first message to each receiver that an actor has in its outbox.
func (p *proc) dispatch(a *actor) {
	w := p.w
	if len(w.store.rows[a.i].outbox) == 0 {
		return
	}
	var first []message
	p.toStore(func() func() {
		var all []message
		seen := map[int]bool{}
		for _, m := range w.store.rows[a.i].outbox {
			if !seen[m.to.i] {
				seen[m.to.i] = true
				all = append(all, m)
			}
		}
		return func() { first = all }
	}, func(known bool) {
		if !known {
			return
		}
		for _, m := range first {
			key := pair{a.i, m.to.i}
			if p.busyOut[key] {
				continue
			}
			p.busyOut[key] = true
			w.reqs++
			p.call(&call{actor: m.to, op: op{add: true, from: a, seq: m.seq}, id: w.reqs, deadline: p.local() + 3*time.Second, idempotent: true,
				done: func(r reply) {
					if r.code != 0 {
						delete(p.busyOut, key)
						return
					}
					p.acknowledged(a, m)
				}})
		}
	})
}

// acknowledged takes a message out of the outbox.
func (p *proc) acknowledged(a *actor, m message) {
	w := p.w
	p.toStore(func() func() {
		r := w.store.rows[a.i]
		if w.store.rows[m.to.i].marks[a.i] < m.seq {
			w.fail("I7", "message %d of %s to %s was acknowledged and is not there", m.seq, a.id, m.to.id)
		}
		for i, o := range r.outbox {
			if o == m {
				r.outbox = append(r.outbox[:i:i], r.outbox[i+1:]...)
				w.stats.Delivered++
				break
			}
		}
		return func() {}
	}, func(known bool) {
		delete(p.busyOut, pair{a.i, m.to.i})
		if known && !w.quiet {
			p.dispatch(a)
		}
	})
}
