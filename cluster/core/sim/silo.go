package sim

import (
	"slices"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// silo is a process's activations, and what they have left.
type silo struct {
	live   []*activation
	images []*image // by actor; nil: none
	staged map[core.MoveID]*cargo
	moves  map[core.MoveID]*handOver
}

// image is the state of a hibernating actor without an activation.
type image struct {
	serial uint64
	actor  *actor
	value  int
	epoch  abi.Epoch // of the activation that left it, or of the release that brought it
}

// activation is one actor awake.
type activation struct {
	p       *proc
	actor   *actor
	lease   core.Lease
	member  *core.Member // this node, as the view had it
	mailbox []*work
	first   []*call // asked for it
	ready   bool
	busy    bool
	revoked bool // the machine took its right
	broken  bool // a commit failed: it is to be discarded
	leaving bool // it is about to sleep
	ended   bool
	value   int
	row     *durable
}

// op is what a request asks of an actor.
type op struct {
	add  bool
	from *actor // not nil: it is the outbox message seq of that actor
	seq  uint64
	call *actor // asked within the turn
	post *actor // sent a message with the turn
}

// work is a request in a mailbox.
type work struct {
	op       op
	id       uint64 // of the request
	deadline time.Duration
	chain    []core.Identity // who waits for it
	reply    func(reply)
}

// reply is what a request got. Code 0 is success.
type reply struct {
	code  abi.Code
	owner core.NodeID // to be asked instead
	value int
}

func (s *silo) init(actors int) {
	s.images = make([]*image, actors)
	s.staged = make(map[core.MoveID]*cargo)
	s.moves = make(map[core.MoveID]*handOver)
}

// step steps the machine, carries out what it wants and returns the effect that answers a resolve, if it is one.
func (p *proc) step(in *core.Input) core.Effect {
	effects := slices.Clone(p.machine.Step(in, p.local()))
	for i := range effects {
		p.effect(&effects[i])
	}
	p.machine.TakeEvents(nil)
	if len(effects) == 0 {
		return core.Effect{}
	}
	return effects[0]
}

func (p *proc) effect(e *core.Effect) {
	switch e.Type {
	case core.Revoke:
		a := e.Handle.(*activation)
		if !a.revoked {
			p.w.note(p, "revokes %s under %v", a.actor.id, a.lease.Epoch)
			a.revoked = true
			p.w.mon.ended(a)
			a.stop()
		}
	case core.Admit:
		a := e.Handle.(*activation)
		p.remember(a.actor, &core.Effect{Lease: e.Lease, Handle: a, Member: a.member, Held: e.Held})
	case core.Invalidate, core.Recheck, core.Withhold:
		p.recache(e)
	case core.Wake:
		p.wake(p.w.byID(e.Identity))
	case core.Forget:
		for i, img := range p.images {
			if img == nil || e.Epoch.Less(img.epoch) || e.Kind != "" && (img.actor.kind != e.Kind || !e.Moved[img.actor.part]) {
				continue
			}
			p.w.note(p, "forgets the image of %s under %v", img.actor.id, img.epoch)
			p.images[i] = nil
		}
	}
}

// mayRun is the check of rule 4, as production makes it: the lease is not revoked, and the session's deadline is ahead.
func (a *activation) mayRun() bool {
	p := a.p
	if a.ended || a.revoked || a.broken || !p.w.shape.available && p.local() >= p.until {
		p.w.stats.Refused++
		return false
	}
	p.w.stats.Checks++
	p.w.mon.passed(a)
	return true
}

// activate begins an activation under a lease.
func (p *proc) activate(lease core.Lease, member *core.Member, c *call) {
	w := p.w
	a := &activation{p: p, actor: w.byID(lease.Identity), lease: lease, member: member, first: []*call{c}}
	p.live = append(p.live, a)
	w.stats.Activations++
	w.mon.activated(a)
	w.note(p, "activates %s under %v/%d", a.actor.id, lease.Epoch, lease.Serial)
	p.after(w.between(0, 3*time.Millisecond), func() {
		if !slices.Contains(p.n.kinds, a.actor.kind) {
			a.failed(abi.ErrNotReady)
			return
		}
		switch a.actor.kind {
		case kindHib:
			img := p.images[a.actor.i]
			if img != nil && lease.Epoch.Less(img.epoch) {
				img = nil // it came with a later epoch, and this lease is out of date
			} else {
				p.images[a.actor.i] = nil
			}
			if img != nil {
				a.value = img.value
			}
			w.mon.woken(a, img)
		case kindRow:
			a.load()
			return
		}
		a.isReady()
	})
}

func (a *activation) isReady() {
	a.ready = true
	p := a.p
	first := a.first
	a.first = nil
	admitted := p.step(&core.Input{Type: core.Activated, Lease: a.lease, Handle: a}).Type == core.Admit
	if !a.revoked && !a.ended {
		p.step(&core.Input{Type: core.Started, Lease: a.lease})
	}
	for _, c := range first {
		if c.ended {
			continue
		}
		if admitted {
			c.local(a)
		} else {
			c.try()
		}
	}
}

// failed ends an activation that could not begin.
func (a *activation) failed(code abi.Code) {
	a.ended = true
	a.p.remove(a)
	a.p.w.mon.ended(a)
	a.p.step(&core.Input{Type: core.Failed, Lease: a.lease, Code: code})
	for _, c := range a.first {
		c.failed(code, "")
	}
}

func (p *proc) remove(a *activation) {
	if i := slices.Index(p.live, a); i >= 0 {
		p.live = slices.Delete(p.live, i, i+1)
	}
}

// stop ends an activation whose right is gone, as soon as its turn has noticed.
func (a *activation) stop() {
	if a.ended || a.busy || !a.ready {
		return
	}
	a.ended = true
	p := a.p
	p.w.mon.ended(a)
	for _, k := range a.mailbox {
		k.reply(reply{code: abi.ErrOwnershipChanged})
	}
	a.mailbox = nil
	if a.row != nil {
		a.row.discard(abi.ErrOwnershipChanged)
	}
	p.after(p.w.between(0, 5*time.Millisecond), func() {
		p.remove(a)
		p.step(&core.Input{Type: core.Terminated, Lease: a.lease, Reason: "revoked"})
	})
}

// idle reports whether nothing of an activation runs or waits.
func (a *activation) idle() bool {
	return a.ready && !a.busy && len(a.mailbox) == 0 && (a.row == nil || len(a.row.queue) == 0)
}

// sleep ends an activation in good order. The state of a hibernating actor stays as an image.
func (a *activation) sleep() {
	p := a.p
	a.ended = true
	p.w.mon.ended(a)
	p.remove(a)
	if a.actor.kind == kindHib && !a.revoked {
		p.w.images++
		p.images[a.actor.i] = &image{p.w.images, a.actor, a.value, a.lease.Epoch}
	}
	p.step(&core.Input{Type: core.Terminated, Lease: a.lease, Reason: "idle"})
}

// passivate puts one idle actor to sleep.
func (p *proc) passivate() {
	if len(p.live) == 0 {
		return
	}
	a := pick(p.w, p.live)
	if !a.idle() || a.revoked || a.ended || a.broken {
		return
	}
	a.leaving = true
	p.step(&core.Input{Type: core.Releasing, Lease: a.lease})
	p.after(p.w.between(0, 5*time.Millisecond), a.trySleep)
}

func (a *activation) trySleep() {
	if !a.ended && !a.revoked && !a.broken && a.idle() {
		a.sleep()
	}
}

// take puts work into the mailbox.
func (a *activation) take(k *work) {
	if a.ended || a.revoked || a.broken || a.leaving {
		k.reply(reply{code: abi.ErrOwnershipChanged})
		return
	}
	a.mailbox = append(a.mailbox, k)
	a.next()
}

// next begins a turn.
func (a *activation) next() {
	if a.revoked || a.broken {
		a.stop()
		return
	}
	if a.busy || a.ended || len(a.mailbox) == 0 {
		if a.leaving && !a.ended && a.idle() {
			a.p.after(0, a.trySleep)
		}
		return
	}
	p, w, k := a.p, a.p.w, a.mailbox[0]
	a.mailbox = a.mailbox[1:]
	if p.local() >= k.deadline {
		k.reply(reply{code: abi.ErrTimeout})
		a.next()
		return
	}
	a.busy = true
	if !a.mayRun() {
		a.done(k, reply{code: abi.ErrOwnershipChanged})
		return
	}
	w.stats.Turns++
	d := w.between(0, 2*time.Millisecond)
	if w.chance(0.05) {
		d = w.between(0, 300*time.Millisecond)
	}
	p.after(d, func() { a.middle(k) })
}

// turnTime is for how long a turn waits for another actor at most.
const turnTime = 3 * time.Second

// middle is what a turn does between its beginning and its end: perhaps a request to another actor, perhaps much computing.
func (a *activation) middle(k *work) {
	p, w := a.p, a.p.w
	if to := k.op.call; to != nil && len(k.chain) < 2 {
		if !a.mayRun() {
			a.done(k, reply{code: abi.ErrOwnershipChanged})
			return
		}
		w.stats.HostCalls++
		w.reqs++
		p.call(&call{actor: to, op: op{add: true}, deadline: min(k.deadline, p.local()+turnTime), id: w.reqs, chain: append(slices.Clone(k.chain), a.actor.id), caller: a.actor, epoch: a.lease.Epoch,
			finishing: true, idempotent: to.kind == kindRow, done: func(reply) { p.after(0, func() { a.last(k) }) }})
		return
	}
	if w.chance(0.1) { // a refill of fuel
		if !a.mayRun() {
			a.done(k, reply{code: abi.ErrOwnershipChanged})
			return
		}
		p.after(w.between(0, 50*time.Millisecond), func() { a.last(k) })
		return
	}
	a.last(k)
}

// last is the last access to the state: here the turn takes its place in the order of all.
func (a *activation) last(k *work) {
	if !a.mayRun() {
		a.done(k, reply{code: abi.ErrOwnershipChanged})
		return
	}
	if a.row != nil {
		a.busy = false
		a.row.turn(k)
		a.next()
		return
	}
	if k.op.add {
		a.value++
		a.p.w.mon.turn(a)
	}
	a.done(k, reply{value: a.value})
}

// done ends a turn. The reply leaves a moment later, whatever happens to the right to run until then.
func (a *activation) done(k *work, r reply) {
	a.busy = false
	a.p.after(a.p.w.between(0, time.Millisecond), func() { k.reply(r) })
	a.next()
}
