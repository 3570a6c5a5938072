package sim

import "time"

// network is what lies between nodes, and between nodes and the store.
type network struct {
	cut   [][]bool // [from][to]; the store is the last
	loss  float64
	twice float64
	late  float64 // share of messages that are held up, for up to lateBy
	lateBy,
	base time.Duration
}

func (n *network) init(ends int) {
	n.cut = make([][]bool, ends)
	for i := range n.cut {
		n.cut[i] = make([]bool, ends)
	}
	n.base = 4 * time.Millisecond
}

func (n *network) heal() {
	for i := range n.cut {
		clear(n.cut[i])
	}
	n.loss, n.twice, n.late = 0, 0, 0
}

func (n *network) both(a, b int) bool { return !n.cut[a][b] && !n.cut[b][a] }

// carry takes a message from one end to another: deliver is called at its arrival, perhaps never, perhaps twice, and in whatever order with
// others. What is on its way when a cut comes is lost.
func (w *world) carry(from, to int, deliver func()) {
	if from == to {
		w.after(0, deliver)
		return
	}
	copies := 1
	if w.chance(w.net.twice) {
		copies = 2
		w.stats.Doubled++
	}
	for range copies {
		d := w.between(w.net.base/8, w.net.base)
		if w.chance(w.net.late) {
			d += w.between(0, w.net.lateBy)
			w.stats.Late++
		}
		if w.net.cut[from][to] || w.chance(w.net.loss) {
			w.stats.Lost++
			continue
		}
		w.after(d, func() {
			if w.net.cut[from][to] {
				w.stats.Lost++
				return
			}
			deliver()
		})
	}
}

// toNode sends to whatever process of a node is there on arrival.
func (w *world) toNode(from, to *node, fn func(q *proc)) {
	w.carry(from.i, to.i, func() {
		if q := to.p; q != nil {
			w.at(w.now, q, func() { fn(q) })
		}
	})
}

// toProc answers one process: another one of the node does not get it.
func (w *world) toProc(from *node, to *proc, fn func()) {
	w.carry(from.i, to.n.i, func() { w.at(w.now, to, fn) })
}
