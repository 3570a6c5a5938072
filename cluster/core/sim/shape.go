package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// shape is what kind of run a seed makes.
type shape struct {
	available bool // without voters
	calm      bool // without faults
	chatty    bool // one actor asks another again and again
	length    time.Duration
}

// The phases of a run: faults for shape.length, then heal, then after settleTime everything must be served, and after restTime all be at rest.
const (
	settleTime = 10 * time.Second
	probeTime  = 2 * time.Second
	restTime   = 4 * time.Second
	calmTime   = time.Minute // after restTime, for the last moves
)

// build makes the cluster of a seed.
func (w *world) build() {
	w.shape.calm = w.seed%10 == 0
	w.shape.available = w.seed%10 == 9
	w.shape.chatty = w.seed%4 == 1
	w.shape.length = w.between(6*time.Second, 14*time.Second)
	if w.shape.calm {
		w.stats.Calm++
	}
	if w.shape.available {
		w.stats.Available++
	}
	count := 3 + w.rng.IntN(7)
	clients := w.rng.IntN(min(3, count-1))
	voters := pick(w, []int{1, 3, 3, 3, 5})
	for voters > count {
		voters -= 2
	}
	if w.shape.available {
		voters = 0
	}
	for i := range count {
		n := &node{w: w, i: i, id: core.NodeID(fmt.Sprintf("n%d", i)), voter: i < voters, client: i >= count-clients, rate: 1}
		n.member = core.Member{ID: n.id, Authority: fmt.Sprintf("h%d:1", i)}
		n.base = w.between(0, time.Hour)
		n.setRate(w.rate())
		if !n.client {
			n.kinds = slices.Clone(allKinds)
			if i > 1 && w.chance(0.15) {
				n.kinds = slices.Delete(n.kinds, i%3, i%3+1)
			}
		}
		w.nodes = append(w.nodes, n)
		if n.voter {
			w.voters.members = append(w.voters.members, n)
		}
	}
	for i := range 12 {
		kind := allKinds[i%len(allKinds)]
		id, err := abi.NewIdentity(kind, fmt.Sprintf("a%d", i))
		if err != nil {
			panic(err)
		}
		w.actors = append(w.actors, &actor{i: i, id: id, kind: kind, part: core.PartitionOf(id)})
	}
	w.net.init(count + 1)
	w.voters.init(w)
	w.store.init(len(w.actors))
	w.mon.init(w)
	w.faults.init(w)
	for _, n := range w.nodes {
		w.after(w.between(0, time.Second), func() {
			if n.p == nil {
				n.boot()
			}
		})
	}
}

// rate draws how fast a clock goes: any two are within 5 % of each other.
func (w *world) rate() float64 { return 0.977 + 0.046*w.rng.Float64() }

// play is the run.
func (w *world) play() {
	if !w.shape.available {
		w.each(50*time.Millisecond, w.voters.watch)
		w.each(200*time.Millisecond, w.faults.unblock)
		w.each(500*time.Millisecond, w.faults.operate)
	}
	w.each(25*time.Millisecond, w.clients)
	end := w.shape.length
	w.at(time.Second, nil, w.faults.next)
	w.run(end)
	w.faults.heal()
	w.run(end + settleTime)
	w.probe()
	w.run(end + settleTime + probeTime)
	w.quiet = true
	w.run(end + settleTime + probeTime + restTime)
	for last := w.now + calmTime; w.broken == nil && w.behind() && w.now < last; { // partitions may still be spread
		w.run(w.now + restTime/40)
	}
	if w.broken == nil {
		w.rest()
	}
}

func (w *world) each(d time.Duration, fn func()) {
	w.after(w.between(d/2, d*3/2), func() {
		fn()
		w.each(d, fn)
	})
}

func (w *world) byID(id core.Identity) *actor {
	for _, a := range w.actors {
		if a.id == id {
			return a
		}
	}
	panic("sim: there is no actor " + id.String())
}

func (w *world) nodeByID(id core.NodeID) *node {
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	panic("sim: there is no node " + string(id))
}

// clients ask something of somebody through somebody.
func (w *world) clients() {
	if w.quiet {
		return
	}
	a := pick(w, w.actors)
	o := op{add: w.chance(0.7)}
	switch other := pick(w, w.actors); {
	case !o.add || other == a:
	case w.faults.over && !w.hosted(other.kind): // who asks it would wait, and whoever waits for them
	case a.kind == kindMem && other.kind != kindMem && w.chance(0.4):
		o.call = other
	case a.kind == kindRow && other.kind == kindRow && w.chance(0.6):
		o.post = other
	}
	if from, to := w.actors[1], w.actors[0]; w.shape.chatty && w.chance(0.4) && (!w.faults.over || w.hosted(to.kind)) {
		a, o = from, op{add: true, call: to}
	}
	w.request(pick(w, w.nodes), a, o, pick(w, []time.Duration{2 * time.Second, 10 * time.Second}), nil)
}

// able reports whether a node is there to run a kind.
func (n *node) able(kind string) bool {
	return n.p != nil && !n.client && !n.draining && slices.Contains(n.kinds, kind)
}

// hosted reports whether some node is there to run a kind.
func (w *world) hosted(kind string) bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool { return n.able(kind) })
}

// probe checks I10: everything that can be served is.
func (w *world) probe() {
	if w.broken != nil {
		return
	}
	for i, a := range w.actors {
		if !w.hosted(a.kind) {
			continue
		}
		if !w.shape.available {
			w.probeTable(i, a)
		}
		for _, n := range w.nodes {
			w.stats.Probes++
			w.request(n, a, op{}, probeTime, func(p *proc, r reply) {
				w.stats.Served++
				if r.code != 0 {
					w.fail("I10", "%v after the end of all faults %s#%d gets %v for %s%s", settleTime, p.n.id, p.boot, r.code, a.id, w.mon.history(i))
				}
			})
		}
	}
	if !w.shape.available {
		w.probeAll()
	}
}

// probeTable checks that the log gives an actor's partition to a node that runs and may.
func (w *world) probeTable(i int, a *actor) {
	t := w.voters.truth
	slot := w.mon.slot(a)
	s, ok := t.Session(slot.Owner)
	if !ok {
		w.fail("I10", "%v after the end of all faults nobody owns the partition of %s%s", settleTime, a.id, w.mon.history(i))
		return
	}
	if p := w.nodeByID(s.Node).p; p == nil || p.boot != s.Boot || p.local() >= p.until {
		w.fail("I10", "%v after the end of all faults the partition of %s is owned by %s#%d, which does not run it%s", settleTime, a.id, s.Node, s.Boot,
			w.mon.history(i))
	}
}

// probeAll checks that every partition of every group has an owner that lives.
func (w *world) probeAll() {
	t := w.voters.truth
	for _, g := range t.Groups() {
		host := false
		for _, n := range w.nodes {
			all := true
			for _, k := range g.Kinds {
				all = all && n.able(k)
			}
			host = host || all
		}
		for p := range g.Slots {
			if host && g.Slots[p].Owner == 0 {
				w.fail("I10", "%v after the end of all faults nobody owns partition %d of %v", settleTime, p, g.Kinds)
				return
			}
		}
	}
}

// behind reports whether some node has not heard of all that the log makes.
func (w *world) behind() bool {
	return !w.shape.available && slices.ContainsFunc(w.nodes, func(n *node) bool { return n.p != nil && differs(w.voters.truth, n.p.table) != "" })
}

// rest is what must hold when nothing happens any more.
func (w *world) rest() {
	w.mon.last()
	if w.shape.available {
		return
	}
	t := w.voters.truth
	for _, n := range w.nodes {
		p := n.p
		if p == nil {
			continue
		}
		if what := differs(t, p.table); what != "" {
			w.fail("log", "%s#%d has another table than the log makes: %s", n.id, p.boot, what)
		}
		if !n.draining || n.client {
			continue
		}
		for _, g := range t.Groups() {
			elsewhere := false
			for _, o := range w.nodes {
				all := o != n
				for _, k := range g.Kinds {
					all = all && o.able(k)
				}
				elsewhere = elsewhere || all
			}
			left := 0
			for i := range g.Slots {
				if g.Slots[i].Owner == p.tenant.Session() {
					left++
				}
			}
			if elsewhere && left > 0 {
				w.fail("I10", "%s#%d is to be drained and still owns %d partitions of %v", n.id, p.boot, left, g.Kinds)
			}
		}
	}
}

// differs says in what two tables differ, apart from when sessions were renewed, which followers are not told.
func differs(a, b *core.Table) string {
	if a.Generation() != b.Generation() {
		return fmt.Sprintf("generation %d and %d", a.Generation(), b.Generation())
	}
	x, y := a.Sessions(), b.Sessions()
	if len(x) != len(y) {
		return fmt.Sprintf("%d and %d sessions", len(x), len(y))
	}
	for i := range x {
		p, q := *x[i], *y[i]
		p.Renewed, q.Renewed = 0, 0
		if p.ID != q.ID || p.Node != q.Node || p.Boot != q.Boot || p.Draining != q.Draining || !slices.Equal(p.Kinds, q.Kinds) {
			return fmt.Sprintf("session %v and %v", p, q)
		}
	}
	g, h := a.Groups(), b.Groups()
	if len(g) != len(h) {
		return fmt.Sprintf("%d and %d groups", len(g), len(h))
	}
	for i := range g {
		if g[i].ID != h[i].ID || !slices.Equal(g[i].Kinds, h[i].Kinds) || g[i].Slots != h[i].Slots {
			return fmt.Sprintf("group %d (%v) and %d (%v)", g[i].ID, g[i].Kinds, h[i].ID, h[i].Kinds)
		}
	}
	m, n := a.Moves(), b.Moves()
	if len(m) != len(n) {
		return fmt.Sprintf("%d and %d moves", len(m), len(n))
	}
	return ""
}
