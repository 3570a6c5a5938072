package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// node is a machine: what stays when its process dies.
type node struct {
	w      *world
	i      int
	id     core.NodeID
	member core.Member // without the boot
	voter  bool        // it has a vote, or had until its disk was lost
	lost   bool        // its disk was lost: it has no vote, and counts as one that is down until it is removed
	again  bool        // it is to have a vote (again)
	client bool        // hosts nothing
	boots  uint64
	p      *proc // nil: it is down

	kinds    []string // deployed
	draining bool
	leaving  bool // its process ends when it has drained

	// The monotonic clock.
	rate     float64
	base     time.Duration
	baseTrue time.Duration
	asleep   bool          // the machine is suspended: the clock stands still
	slept    time.Duration // true time of its beginning
	lag      time.Duration // how long it was suspended in all: by how much another clock, which goes on, is ahead

	// The disk of a voter.
	snapshot []byte
	snapAt   uint64
	stored   uint64 // newest entry
}

func (n *node) clock() time.Duration {
	if n.asleep {
		return n.base
	}
	return n.base + time.Duration(float64(n.w.now-n.baseTrue)*n.rate)
}

func (n *node) setRate(rate float64) {
	n.base, n.baseTrue = n.clock(), n.w.now
	n.rate = rate
}

// proc is one run of a node.
type proc struct {
	w      *world
	n      *node
	boot   uint64
	serial int
	start  time.Duration // of the clock
	dead   bool
	paused bool
	stood  time.Duration // true time of the end of the last pause
	votes  bool          // it runs as a voter
	blind  bool          // its machine was suspended, and it has not looked since
	inbox  []func()

	table    *core.Table
	tenant   *core.Tenant
	machine  *core.Machine
	until    time.Duration
	suspends core.Suspends
	voting
	following
	silo
	calling
}

// local is what the process's monotonic clock shows.
func (p *proc) local() time.Duration { return p.n.clock() - p.start }

// after makes something happen once its own clock has gone on by d.
func (p *proc) after(d time.Duration, fn func()) {
	p.w.at(p.w.now+time.Duration(float64(d)/p.n.rate), p, fn)
}

// every does something again and again, a little unevenly.
func (p *proc) every(d time.Duration, fn func()) {
	p.after(p.w.between(d*3/4, d), func() {
		fn()
		p.every(d, fn)
	})
}

func (n *node) boot() {
	w := n.w
	n.wake()
	n.boots++
	w.procs++
	w.stats.Boots++
	// A boot is a nonce: nothing says that it grows.
	p := &proc{w: w, n: n, boot: w.rng.Uint64N(1e6) + 1, serial: w.procs, start: n.clock() - w.between(0, time.Minute)}
	n.p = p
	p.table = core.NewTable()
	if p.votes = n.voter && !n.lost; p.votes {
		p.replay()
	}
	quorum := !w.shape.available
	mode := core.MemberMode
	kinds := slices.Clone(n.kinds)
	hosts := kinds
	if n.client {
		mode, kinds, hosts = core.ClientMode, slices.Clone(allKinds), nil
	}
	p.machine = core.NewMachine(core.Config{Self: n.id, Mode: mode, Quorum: quorum, Boot: p.boot})
	p.silo.init(len(w.actors))
	p.calling.init(len(w.actors))
	p.step(&core.Input{Type: core.SetKinds, Node: n.id, Kinds: kinds})
	p.step(&core.Input{Type: core.Start})
	w.note(p, "starts")
	if quorum {
		p.tenant = core.NewTenant(core.TenantConfig{Node: n.id, Boot: p.boot, Authority: n.member.Authority, Kinds: hosts,
			Draining: n.draining}, p.table)
		p.every(core.RenewEvery/5, func() { p.tell(&core.TenantInput{Type: core.TenantTick}) })
		p.tell(&core.TenantInput{Type: core.TenantTick})
		p.suspends.Look(n.lag)
		if p.votes {
			p.every(50*time.Millisecond, p.chairTick)
		} else {
			p.every(60*time.Millisecond, p.poll)
		}
	}
	p.every(time.Second, p.passivate)
	p.every(time.Second, p.scanOutbox)
	w.gossip.changed(w)
}

// crash ends the process at once.
func (n *node) crash(why string) {
	p := n.p
	if p == nil {
		return
	}
	n.w.note(p, "ends: %s", why)
	n.p = nil
	p.dead = true
	p.inbox = nil
	n.w.gossip.changed(n.w)
}

// pause stops the process, as SIGSTOP does: its clock goes on.
func (p *proc) pause(d time.Duration) {
	if p.paused || p.dead {
		return
	}
	w := p.w
	w.stats.Pauses++
	w.note(p, "stands still for %v", d)
	p.paused = true
	w.after(d, func() {
		if p.dead {
			return
		}
		w.note(p, "goes on")
		p.paused, p.stood = false, w.now
		late := p.inbox
		p.inbox = nil
		if w.chance(0.5) { // goroutines do not wake in the order in which they fell asleep
			w.rng.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
		}
		for _, fn := range late {
			d := 2 * time.Millisecond
			if p.n.asleep && w.chance(0.15) { // nobody took it while the machine was suspended: it is sent again
				d = time.Second
			}
			w.at(w.now+w.between(0, d), p, fn)
		}
	})
}

// suspend suspends the machine: its process stands still, and its monotonic clock with it.
func (n *node) suspend(d time.Duration) {
	w, p := n.w, n.p
	if p == nil || p.paused {
		return
	}
	w.stats.Suspends++
	w.note(p, "is suspended")
	n.setRate(n.rate)
	n.asleep, n.slept = true, w.now
	slept := n.slept
	p.pause(d)
	w.after(d, func() {
		if n.slept == slept {
			n.wake()
		}
	})
}

// wake ends a suspension. The process finds out by its next look.
func (n *node) wake() {
	w := n.w
	if !n.asleep {
		return
	}
	n.asleep, n.baseTrue = false, w.now
	n.lag += w.now - n.slept
	if p := n.p; p != nil && p.tenant != nil {
		p.blind = true
		w.at(w.now+w.between(0, core.SuspendLook), p, p.look)
	}
}

// look is the watch for suspensions, at a moment at which there may be something to be seen.
func (p *proc) look() {
	p.blind = false
	if d := p.suspends.Look(p.n.lag); d != 0 {
		p.w.note(p, "was suspended for %v", d)
		p.tell(&core.TenantInput{Type: core.TenantSuspended})
	}
}

// uptime is the clock of a process that goes on while its machine is suspended.
func (p *proc) uptime() time.Duration {
	up := p.local() + p.n.lag
	if p.n.asleep {
		up += p.w.now - p.n.slept
	}
	return up
}

// tell steps the tenant and does what it wants.
func (p *proc) tell(in *core.TenantInput) {
	for _, e := range slices.Clone(p.tenant.Step(in, p.local())) {
		switch e.Type {
		case core.Ask:
			p.ask(e.Ask, e.Commands[0])
		case core.Propose:
			p.w.note(p, "proposes %v", describe(e.Commands))
			p.propose(e.Commands)
		case core.Until:
			p.until = e.Until
			p.w.mon.believes(p)
			p.step(&core.Input{Type: core.Renewed, Until: e.Until})
		case core.SessionLost:
			p.w.stats.SessionsLost++
			p.w.note(p, "lost its session")
		case core.TakeIn:
			p.takeIn(&e)
		case core.TurnAway:
			p.w.note(p, "turns away move %d", e.Part.Move)
			delete(p.staged, e.Part.Move)
		case core.TellAssigned:
			p.step(&core.Input{Type: core.Assigned, Assignments: e.Assignments, Session: e.Session})
			p.w.mon.enabled(p)
			p.viewChanged()
		case core.HandOver:
			p.handOver(e.Part, e.Target)
		case core.Resume:
			p.resume(e.Part)
		}
	}
	if p.n.leaving && p.tenant.Closed() {
		p.leave()
	}
}

// hosts says anew what the node hosts, and whether it is to be drained.
func (n *node) hosts() {
	p := n.p
	if p == nil || n.client {
		return
	}
	n.w.at(n.w.now, p, func() {
		p.step(&core.Input{Type: core.SetKinds, Node: n.id, Kinds: slices.Clone(n.kinds)})
		if p.tenant != nil {
			p.tell(&core.TenantInput{Type: core.TenantHosts, Kinds: n.kinds, Draining: n.draining})
		}
		n.w.gossip.changed(n.w)
	})
}

// drained closes the session of a node that leaves once all has moved away; the tenant waits for that.
func (p *proc) close() { p.tell(&core.TenantInput{Type: core.TenantClose}) }

// leave ends a process that has closed its session in good order.
func (p *proc) leave() {
	w := p.w
	w.stats.Leaves++
	w.note(p, "has left")
	p.n.leaving, p.n.draining = false, false
	p.n.crash("left")
}

func describe(commands []core.Command) string {
	var s string
	for _, c := range commands {
		s += fmt.Sprintf("[%v", c.Type)
		if c.Node != "" {
			s += fmt.Sprintf(" %s#%d", c.Node, c.Boot)
		}
		if c.Session != 0 {
			s += fmt.Sprintf(" s%d", c.Session)
		}
		if c.From != 0 {
			s += fmt.Sprintf(" from s%d", c.From)
		}
		if c.Group != 0 {
			s += fmt.Sprintf(" g%d", c.Group)
		}
		if c.Move != 0 {
			s += fmt.Sprintf(" m%d", c.Move)
		}
		if c.Index != 0 {
			s += fmt.Sprintf(" @%d", c.Index)
		}
		if len(c.Kinds) > 0 {
			s += fmt.Sprintf(" %v", c.Kinds)
		}
		if c.Draining {
			s += " draining"
		}
		if n := c.Partitions.Len(); n > 0 {
			s += fmt.Sprintf(" %d partitions", n)
		}
		s += "]"
	}
	return s
}
