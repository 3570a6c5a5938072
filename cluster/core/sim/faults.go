package sim

import (
	"slices"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// faults is what goes wrong in a run. A seed takes some of what there is, so that runs differ in what they are about.
type faults struct {
	w       *world
	actions []func()
	mean    time.Duration // between two

	slowLog float64 // share of proposals that take long to be replicated
	again   float64 // share that is proposed a second time
	stale   float64 // share of what nodes propose that is held up for seconds

	moves float64 // share of hand-overs in which something goes wrong

	stuck []*stuck // messages of turns

	over bool
}

// stuck is a message of a turn that is stuck somewhere on its way. Whatever becomes of the activation does not recall it.
type stuck struct {
	c    *call
	to   *node
	send func()
	sent bool
}

// hold holds a message up for seconds, if not until another overtakes it.
func (f *faults) hold(c *call, to *node, send func()) {
	f.w.stats.Stuck++
	s := &stuck{c: c, to: to}
	s.send = func() {
		if !s.sent {
			s.sent = true
			f.stuck = slices.DeleteFunc(f.stuck, func(o *stuck) bool { return o == s })
			send()
		}
	}
	f.stuck = append(f.stuck, s)
	f.w.after(f.w.between(0, 9*time.Second), s.send)
}

// overtaken lets what is stuck go on at the worst moment: when a node has just heard of a later activation of the same sender.
func (f *faults) overtaken(q *proc, c *call) {
	for _, s := range slices.Clone(f.stuck) {
		if s.to == q.n && s.c.caller == c.caller && s.c.epoch.Less(c.epoch) && f.w.chance(0.7) {
			s.send()
		}
	}
}

func (f *faults) init(w *world) {
	f.w = w
	f.mean = w.between(200*time.Millisecond, 1500*time.Millisecond)
	if w.shape.calm {
		f.actions = []func(){f.drain}
		return
	}
	some := func(p float64, weight int, fn func()) {
		if w.chance(p) {
			for range weight {
				f.actions = append(f.actions, fn)
			}
		}
	}
	some(0.5, 3, f.split)
	some(0.5, 2, f.oneWay)
	some(0.4, 2, f.pairwise)
	some(0.5, 3, f.isolate)
	some(0.5, 3, f.pause)
	some(0.5, 2, f.crash)
	some(0.4, 2, f.restart)
	some(0.4, 2, f.kinds)
	some(0.6, 3, f.drain)
	some(0.5, 1, f.drift)
	some(0.3, 2, f.cutStore)
	some(0.8, 2, f.mend)
	if !w.shape.available {
		some(0.5, 3, f.transfer)
		some(0.2, 1, f.power)
		some(0.25, 1, f.block)
		some(0.25, 1, f.recover)
		some(0.4, 2, f.suspend)
		some(0.4, 3, f.seats)
	}
	if len(f.actions) == 0 {
		f.actions = []func(){f.pause}
	}
	if w.chance(0.5) {
		w.net.loss = 0.05 * w.rng.Float64()
	}
	if w.chance(0.5) {
		w.net.twice = 0.1 * w.rng.Float64()
	}
	if w.chance(0.5) {
		w.net.late, w.net.lateBy = 0.1*w.rng.Float64(), w.between(50*time.Millisecond, 3*time.Second)
	}
	f.slowLog, f.again, f.stale = 0.2*w.rng.Float64(), 0.2*w.rng.Float64(), 0.1*w.rng.Float64()
	if w.chance(0.3) {
		f.slowLog = 0.7
	}
	if w.chance(0.5) {
		f.moves = 0.1
	}
	if w.chance(0.5) {
		w.gossip.wrong = 0.5 * w.rng.Float64()
	}
}

// next does something and comes again.
func (f *faults) next() {
	if f.over {
		return
	}
	pick(f.w, f.actions)()
	f.w.after(f.w.between(f.mean/4, 2*f.mean), f.next)
}

// long is how long most faults last: around what a session does.
func (f *faults) long() time.Duration {
	if f.w.chance(0.4) {
		return f.w.between(2300*time.Millisecond, 3400*time.Millisecond) // around the end of the session
	}
	return f.w.between(100*time.Millisecond, 5500*time.Millisecond)
}

// atMove is what may happen in the middle of a hand-over.
func (f *faults) atMove(p *proc, target *node) {
	w := f.w
	if f.over || !w.chance(f.moves) {
		return
	}
	w.stats.AtMoves++
	w.after(w.between(0, 60*time.Millisecond), func() {
		if f.over {
			return
		}
		switch w.rng.IntN(4) {
		case 0:
			target.crash("killed at a hand-over")
			w.after(f.long(), f.back(target))
		case 1:
			if q := target.p; q != nil {
				q.pause(f.long())
			}
		case 2:
			p.pause(f.long())
		case 3:
			x, y := p.n.i, target.i
			f.cutting("a pair that hands over", func(a, b int) bool { return a == x && b == y || a == y && b == x })
		}
	})
}

// cutting cuts what hits says for a while.
func (f *faults) cutting(what string, hits func(a, b int) bool) {
	w := f.w
	w.note(nil, "cut: %s", what)
	ends := len(w.nodes)
	for a := range ends {
		for b := range ends {
			if a != b && hits(a, b) {
				w.net.cut[a][b] = true
			}
		}
	}
	w.after(f.long(), func() {
		if f.over {
			return
		}
		w.note(nil, "mended: %s", what)
		for a := range ends {
			for b := range ends {
				if hits(a, b) {
					w.net.cut[a][b] = false
				}
			}
		}
	})
}

func (f *faults) split() {
	f.w.stats.Cuts++
	side := f.w.rng.Uint64()
	f.cutting("two sides", func(a, b int) bool { return side>>a&1 != side>>b&1 })
}

func (f *faults) oneWay() {
	f.w.stats.OneWay++
	side := f.w.rng.Uint64()
	f.cutting("one way", func(a, b int) bool { return side>>a&1 == 1 && side>>b&1 == 0 })
}

func (f *faults) pairwise() {
	f.w.stats.Pairwise++
	x, y := f.w.rng.IntN(len(f.w.nodes)), f.w.rng.IntN(len(f.w.nodes))
	f.cutting("a pair", func(a, b int) bool { return a == x && b == y || a == y && b == x })
}

func (f *faults) isolate() {
	f.w.stats.Isolated++
	x := f.w.rng.IntN(len(f.w.nodes))
	if l := f.w.voters.leader; l != nil && f.w.chance(0.2) {
		x = l.p.n.i
	}
	f.cutting("one alone", func(a, b int) bool { return a == x || b == x })
}

// atRelease is that the target dies when it has everything, and the release does not come through.
func (f *faults) atRelease(h *handOver) {
	w := f.w
	share := f.moves / 4
	if len(h.cargo.images) > 0 {
		share = 4 * f.moves // few moves take states along
	}
	if f.over || !w.chance(share) {
		return
	}
	w.stats.AtReleases++
	h.stuck = true
	n := w.nodeByID(h.target.ID)
	n.crash("killed before the release")
	w.after(f.long(), f.back(n))
}

func (f *faults) cutStore() {
	w := f.w
	w.stats.StoreCuts++
	x, s := w.rng.IntN(len(w.nodes)), len(w.nodes)
	w.net.cut[x][s], w.net.cut[s][x] = w.chance(0.7), w.chance(0.7)
	w.after(f.long(), func() { w.net.cut[x][s], w.net.cut[s][x] = false, false })
}

func (f *faults) mend() {
	w := f.w
	w.stats.Heals++
	for i := range w.net.cut {
		clear(w.net.cut[i])
	}
}

// someone is a node with a process, now and then the leader's.
func (f *faults) someone() *node {
	if l := f.w.voters.leader; l != nil && !l.p.dead && f.w.chance(0.2) {
		return l.p.n
	}
	n := pick(f.w, f.w.nodes)
	if n.p == nil {
		return nil
	}
	return n
}

func (f *faults) pause() {
	n := f.someone()
	if n == nil {
		return
	}
	d := f.w.between(5*time.Millisecond, 500*time.Millisecond)
	if f.w.chance(0.6) {
		d = f.long()
	}
	n.p.pause(d)
}

// suspend is that the lid of a laptop is closed.
func (f *faults) suspend() {
	if n := f.someone(); n != nil {
		if f.w.chance(0.3) { // while it starts
			n.crash("restarted")
			n.boot()
			d := f.w.between(0, 200*time.Millisecond)
			f.w.after(d, func() { n.suspend(f.w.between(d+core.SuspendMost, 4*time.Second)) })
			return
		}
		n.suspend(max(f.long(), core.SuspendMost+10*time.Millisecond))
	}
}

func (f *faults) crash() {
	n := f.someone()
	if n == nil {
		return
	}
	f.w.stats.Crashes++
	n.crash("killed")
	f.w.after(f.long(), f.back(n))
}

// back starts a node again, unless something else has.
func (f *faults) back(n *node) func() {
	return func() {
		if n.p == nil && !f.over && !(n.voter && f.w.voters.down) {
			n.boot()
		}
	}
}

// restart is a restart within 100 ms, under the same id.
func (f *faults) restart() {
	n := f.someone()
	if n == nil {
		return
	}
	f.w.stats.QuickRestarts++
	n.crash("restarted")
	f.w.after(f.w.between(0, 100*time.Millisecond), f.back(n))
}

// kinds deploys or withdraws a kind on a node.
func (f *faults) kinds() {
	w := f.w
	n := pick(w, w.nodes)
	if n.client {
		return
	}
	w.stats.KindChanges++
	k := pick(w, allKinds)
	kinds := slices.Clone(n.kinds)
	if i := slices.Index(kinds, k); i >= 0 {
		kinds = slices.Delete(kinds, i, i+1)
	} else {
		kinds = append(kinds, k)
		slices.Sort(kinds)
	}
	n.kinds = kinds
	w.note(n.p, "hosts %v now", kinds)
	n.hosts()
}

// drain drains a node, or stops that. A drained node that is no voter may leave and come back.
func (f *faults) drain() {
	w := f.w
	n := pick(w, w.nodes)
	if n.client || w.shape.available {
		return
	}
	if n.draining {
		if n.leaving {
			return
		}
		n.draining = false
		w.note(n.p, "is drained no more")
		n.hosts()
		return
	}
	others := false
	for _, o := range w.nodes {
		others = others || o != n && len(o.kinds) == len(allKinds) && o.able(kindMem)
	}
	if !others {
		return
	}
	w.stats.Drains++
	n.draining = true
	n.leaving = !n.voter && w.chance(0.6)
	w.note(n.p, "is drained (and leaves: %v)", n.leaving)
	n.hosts()
	if n.leaving {
		if p := n.p; p != nil {
			w.at(w.now, p, p.close)
		}
		w.after(f.long()+2*time.Second, func() {
			if n.p == nil && !f.over {
				n.draining, n.leaving = false, false
				n.boot()
			}
		})
		return
	}
	d := f.long()
	if w.chance(0.5) { // it changes its mind
		d = w.between(200*time.Millisecond, 1500*time.Millisecond)
	}
	w.after(d, func() {
		if n.draining && !n.leaving && !f.over {
			n.draining = false
			n.hosts()
		}
	})
}

func (f *faults) drift() {
	f.w.stats.Drifts++
	pick(f.w, f.w.nodes).setRate(f.w.rate())
}

func (f *faults) transfer() {
	f.w.stats.Transfers++
	f.w.voters.elect()
}

// block is an operator who blocks a node for a while.
func (f *faults) block() {
	w := f.w
	w.stats.Blocks++
	n := pick(w, w.nodes)
	f.operator(core.Command{Type: core.BlockNode, Node: n.id})
	w.after(f.long(), func() { f.operator(core.Command{Type: core.UnblockNode, Node: n.id}) })
}

// operator proposes something through some node.
func (f *faults) operator(c core.Command) {
	w := f.w
	if p := pick(w, w.nodes).p; p != nil {
		w.at(w.now, p, func() { p.send(item{command: c, from: p}) })
	}
}

// unblock lets in again whom an operator has left blocked.
func (f *faults) unblock() {
	if !f.over {
		return
	}
	for _, id := range f.w.voters.truth.Blocked() {
		f.operator(core.Command{Type: core.UnblockNode, Node: id})
	}
}

// power takes the power from all voters at once.
func (f *faults) power() {
	w := f.w
	w.stats.PowerCycles++
	for _, n := range w.voters.members {
		n.crash("power failure")
		w.after(w.between(0, 2*time.Second), f.back(n))
	}
}

// recover loses the majority for good, and gives the voters a new life from what one of them has.
func (f *faults) recover() {
	w := f.w
	v := &w.voters
	if v.down {
		return
	}
	v.down = true
	for _, n := range v.members {
		n.crash("its disk is lost")
	}
	w.after(f.long(), func() {
		if !v.down {
			return
		}
		v.recover(f.survivor(), w.chance(0.5))
		for _, n := range w.nodes {
			if n.p == nil {
				w.after(w.between(0, 500*time.Millisecond), func() {
					if n.p == nil {
						n.boot()
					}
				})
			}
		}
	})
}

// survivor is the voter whose disk is left, now and then the one that had heard least.
func (f *faults) survivor() *node {
	able := slices.DeleteFunc(slices.Clone(f.w.voters.members), func(n *node) bool { return n.lost })
	least := pick(f.w, able)
	if f.w.chance(0.6) {
		for _, n := range able {
			if n.stored < least.stored {
				least = n
			}
		}
	}
	return least
}

// heal ends all faults: from here on everything must come back.
func (f *faults) heal() {
	w := f.w
	w.note(nil, "the end of all faults")
	f.over = true
	w.net.heal()
	f.slowLog, f.again, f.stale = 0, 0, 0
	w.gossip.wrong = 0
	v := &w.voters
	if v.down {
		v.recover(f.survivor(), w.chance(0.5))
	}
	for _, n := range w.nodes {
		if p := n.p; p != nil && p.paused {
			continue // it comes to itself within a few seconds
		}
		if n.p == nil && (n.voter || n.i < 2 || w.chance(0.7)) {
			n.leaving = false
			n.boot()
		}
	}
	for _, n := range w.nodes {
		w.after(time.Millisecond, func() { w.gossip.tell(n) })
	}
}
