package sim

import (
	"slices"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// Who votes changes while all else goes on: by operators, one voter at a time, through the log itself. What the modelled log can express of it is
// what changes for those beside raft: how many are a majority, who may lead, and that a voter begins with nothing, or with another's snapshot.
// That raft loses nothing by such a change is raft's to keep.

// change is an entry that gives a node a vote or takes it.
type change struct {
	n   *node
	add bool
}

// seats is that an operator takes somebody's vote, has another vote, or that a voter's disk is lost.
func (f *faults) seats() {
	w, v := f.w, &f.w.voters
	if v.down {
		return
	}
	switch w.rng.IntN(3) {
	case 0:
		if n := pick(w, w.nodes); !n.voter && !n.client && len(v.members) < 5 {
			n.again = true
		}
	case 1:
		n := pick(w, v.members)
		v.propose(&change{n: n})
		n.again = w.chance(0.7) // it comes back later
	case 2:
		n := pick(w, v.members)
		if !v.bears(n, 0) {
			return
		}
		w.stats.DisksLost++
		n.crash("its disk is lost")
		n.snapshot, n.snapAt, n.stored, n.lost, n.again = nil, 0, 0, true, true
		w.after(f.long(), f.back(n))
	}
}

// operate goes on with what operators have begun: a voter that has lost its disk is removed, and comes back as another.
func (f *faults) operate() {
	v := &f.w.voters
	if f.over || v.down {
		return
	}
	for _, n := range f.w.nodes {
		switch {
		case !n.again || f.w.chance(0.5):
		case n.lost:
			v.propose(&change{n: n})
		case n.voter: // its removal is under way, or was lost
			n.again = f.w.chance(0.8)
		case !n.leaving && len(v.members) < 5:
			v.propose(&change{n: n, add: true})
		}
	}
}

// bears reports whether the voters that have their disks are a majority without one of them, of as many as there are then.
func (v *voters) bears(without *node, removed int) bool {
	able := 0
	for _, o := range v.members {
		if o != without && !o.lost {
			able++
		}
	}
	return able > (len(v.members)-removed)/2
}

// propose has the leader propose a change, unless another one is under way: they go one at a time.
func (v *voters) propose(c *change) {
	l := v.leader
	if l == nil || l.over || !c.add && !v.bears(c.n, 1) || slices.ContainsFunc(l.pending, func(p *proposal) bool { return p.change != nil }) {
		return
	}
	v.w.at(v.w.now, l.p, func() {
		if l.p.lead == l {
			l.p.append(&proposal{change: c})
		}
	})
}

// changed is a change that was committed. A node that gets a vote begins anew as a voter, with an empty disk; one that loses it runs on for a while
// without hearing anything from the others.
func (v *voters) changed(c *change) {
	w, n := v.w, c.n
	if w.faults.over || c.add == n.voter || c.add && (n.leaving || len(v.members) >= 5) || !c.add && !v.bears(n, 1) {
		return // nobody waits for it any more
	}
	n.snapshot, n.snapAt, n.stored, n.lost = nil, 0, 0, false
	n.voter = c.add
	again := w.between(0, 100*time.Millisecond)
	if c.add {
		w.stats.VotersAdded++
		n.again = false
		v.members = append(v.members, n)
		w.note(nil, "%s votes: %d do", n.id, len(v.members))
	} else {
		w.stats.VotersRemoved++
		v.members = slices.DeleteFunc(slices.Clone(v.members), func(o *node) bool { return o == n })
		w.note(nil, "%s votes no more: %d do", n.id, len(v.members))
		if l := v.leader; l != nil && l.p.n == n {
			w.at(w.now, l.p, func() { l.p.deposed(l) })
		}
		again = w.between(0, 3*time.Second)
	}
	p := n.p
	w.after(again, func() {
		if p != nil && n.p == p {
			n.crash("restarted for its vote")
			n.boot()
		}
	})
}

// install takes the leader's snapshot in the place of entries, as raft sends it to those who are far behind.
func (p *proc) install(l *leadership) {
	w, from := p.w, l.p.n
	if p.lead != nil || from.snapshot == nil || from.snapAt <= p.applied+snapshotEvery/2 || !w.chance(0.5) {
		return
	}
	t, err := core.ReadSnapshot(from.snapshot)
	if err != nil {
		w.fail("log", "the leader's snapshot: %v", err)
		return
	}
	w.stats.Installed++
	n := p.n
	n.snapshot, n.snapAt, n.stored = from.snapshot, from.snapAt, max(n.stored, from.snapAt)
	p.table, p.applied, p.fedFrom, p.feed = t, from.snapAt, from.snapAt, nil
	p.chair.Restored(t, p.local())
	if p.tenant != nil {
		p.tell(&core.TenantInput{Type: core.TenantAdvanced, Table: t})
	}
}
