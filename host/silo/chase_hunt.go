package silo

import (
	"slices"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
)

// hunt is one search for rings of waits over several nodes: the steps known so far, and what is to be asked next. It decides only;
// [chaser] asks.
type hunt struct {
	self     cluster.NodeID
	suspects map[abi.Identity][]actor.Queued // actors of this node, with the calls that stand at them
	steps    map[abi.Identity][]*step        // by From
	known    map[stepID]*step
	open     []*step // that lead to other nodes, not asked yet
	leaps    int     // ever asked or to be asked
	cut      bool    // something was left out
}

// step is one that a node has told, and where it leads.
type step struct {
	actor.Step
	at cluster.NodeID // the node whose actor waits
	// Of a message that went to another node:
	asked  bool
	anchor uint64 // its edge there; 0: it is not there, or nobody knows yet
	// behalf is the step by which From waits for the caller that owes it a reply, if From is not of the node at.
	behalf *step
}

type stepID struct {
	at   cluster.NodeID
	edge uint64
	from abi.Identity
}

// Bounds of a hunt. They are beyond what a cluster in good order needs, and keep one in disorder from asking for ever.
const (
	maxHops   = 16   // rounds of questions
	maxLeaps  = 2048 // messages that are asked about
	maxAsking = 64   // messages in one question
	maxSteps  = 256  // steps in one answer
)

func newHunt(self cluster.NodeID) *hunt {
	return &hunt{self: self, suspects: make(map[abi.Identity][]actor.Queued), steps: make(map[abi.Identity][]*step),
		known: make(map[stepID]*step)}
}

// learn takes what a node tells, in answer to a question about the messages asked; none: it is this one about its suspects.
func (h *hunt) learn(at cluster.NodeID, asked []*step, told *answer) {
	for i, s := range asked {
		s.anchor = told.anchors[i]
	}
	h.cut = h.cut || told.cut
	for _, st := range told.steps {
		id := stepID{at, st.Edge, st.From}
		if h.known[id] != nil {
			continue
		}
		s := &step{Step: st, at: at}
		if st.Caller != st.Waiter {
			i := slices.IndexFunc(asked, func(l *step) bool { return l.From == st.From && l.Waiter == st.Waiter && l.Target == st.Caller })
			if i >= 0 {
				s.behalf = asked[i]
			}
		}
		h.known[id] = s
		h.steps[st.From] = append(h.steps[st.From], s)
		if st.Node == "" {
			continue
		}
		if h.leaps++; h.leaps > maxLeaps {
			h.cut = true
			continue
		}
		h.open = append(h.open, s)
	}
}

// next returns what is to be asked now, by node.
func (h *hunt) next() map[cluster.NodeID][]*step {
	by := make(map[cluster.NodeID][]*step)
	var later []*step
	for _, s := range h.open {
		node := cluster.NodeID(s.Node)
		if len(by[node]) == maxAsking {
			later = append(later, s)
			continue
		}
		s.asked = true
		by[node] = append(by[node], s)
	}
	h.open = later
	return by
}

// ring is a cycle of waits, and the call that closes it.
type ring struct {
	id    abi.Identity // at which the call stands
	edge  uint64       // of the call
	steps []*step      // from id on; the last one is the call's
}

// cycle is the ring as people read it: its first actor comes last again.
func (r *ring) cycle() []abi.Identity {
	cycle := make([]abi.Identity, 0, len(r.steps)+1)
	for _, s := range r.steps {
		cycle = append(cycle, s.From)
	}
	return append(cycle, r.id)
}

// first reports whether the ring's call is the one to be refused before the others of the ring, should their nodes look too.
func (r *ring) first() bool {
	for _, s := range r.steps {
		if s.From.Key() > r.id.Key() {
			return false
		}
	}
	return true
}

// find looks for a shortest ring through a suspect, by what is known.
func (h *hunt) find(id abi.Identity) *ring {
	calls := h.suspects[id]
	by := map[abi.Identity]*step{id: nil}
	for todo := []abi.Identity{id}; len(todo) > 0; todo = todo[1:] {
		for _, s := range h.steps[todo[0]] {
			if edge := closes(s, h.self, id, calls); edge != 0 {
				r := &ring{id: id, edge: edge, steps: []*step{s}}
				for at := s.From; by[at] != nil; at = by[at].From {
					r.steps = append(r.steps, by[at])
				}
				slices.Reverse(r.steps)
				return r
			}
			if s.Node != "" && s.anchor == 0 {
				continue
			}
			if _, before := by[s.Target]; !before {
				by[s.Target] = s
				todo = append(todo, s.Target)
			}
		}
	}
	return nil
}

// closes returns the edge of the call that a step is the wait for; 0: it is none of those.
func closes(s *step, self cluster.NodeID, id abi.Identity, calls []actor.Queued) uint64 {
	if s.Target != id {
		return 0
	}
	for _, q := range calls {
		sent := s.Node == "" && s.at == self && s.Edge == q.Edge
		came := s.Node == string(self) && s.Wait == q.Wait
		if sent || came {
			return q.Edge
		}
	}
	return 0
}

// holds is what must still be so for the ring to be one, by node: see the proof at [Silo.Chase].
func (r *ring) holds() map[cluster.NodeID][]hold {
	by := make(map[cluster.NodeID][]hold)
	seen := make(map[*step]bool)
	var need func(s *step)
	need = func(s *step) {
		if seen[s] {
			return
		}
		seen[s] = true
		by[s.at] = append(by[s.at], hold{s.From, s.Edge})
		if s.anchor != 0 {
			node := cluster.NodeID(s.Node)
			by[node] = append(by[node], hold{s.Waiter, s.anchor})
		}
		if s.behalf != nil {
			need(s.behalf)
		}
	}
	for _, s := range r.steps {
		need(s)
	}
	return by
}
