package sim

import (
	"slices"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// gossip is what nodes hear of each other. It is advice, and may be wrong for as long as it likes.
type gossip struct{ wrong float64 }

// changed lets every node hear, at some time, who is there.
func (g *gossip) changed(w *world) {
	for _, n := range w.nodes {
		if n.p != nil && (w.shape.available || w.chance(0.1)) {
			w.at(w.now+w.between(0, time.Second), n.p, func() { g.tell(n) })
		}
	}
}

// tell gives one node a view, which is the true one when nothing is wrong.
func (g *gossip) tell(n *node) {
	w, p := n.w, n.p
	if p == nil {
		return
	}
	var members []core.Member
	for _, o := range w.nodes {
		there := o.p != nil
		if w.chance(g.wrong) || n != o && w.net.cut[o.i][n.i] && w.chance(0.5) {
			there = !there
		}
		if o == n {
			there = true
		}
		if !there || o.client {
			continue
		}
		m := o.member
		if o.p != nil {
			m.Boot = o.p.boot
		}
		members = append(members, m)
		if w.shape.available && o != n {
			p.step(&core.Input{Type: core.SetKinds, Node: o.id, Kinds: slices.Clone(o.kinds)})
		}
	}
	t, err := core.NewTopology(members...)
	if err != nil {
		w.fail("machine", "a topology: %v", err)
		return
	}
	p.step(&core.Input{Type: core.TopologyChanged, Topology: t})
	p.viewChanged()
}
