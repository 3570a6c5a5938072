package actor

import (
	"cmp"
	"slices"

	"github.com/wasilo/wasilo/abi"
)

// A ring of waits that goes over several nodes is found by asking one node after the other what its own actors wait for. This file
// has what a node knows of that; who asks whom is the silo's business.
//
// What a node can say for sure is what its own actors wait for: an edge of a message that one of them has sent stands until
// the reply is there or the actor has given up, whichever node the message went to. Edges of messages that came from
// elsewhere name actors of other nodes, which may have given up since; they say no more than that a message is here and has
// no reply.

// Wait is the wait for the reply to one message.
type Wait struct {
	Caller abi.Identity // who sent the message
	Waiter abi.Identity // who waits: the caller, or an actor to which the caller owes a deferred reply that this one is to bring about
	Target abi.Identity
}

// Step is one way from an actor to another that it waits for, as the picture of one node has it.
type Step struct {
	Wait
	From abi.Identity // the waiter, or an actor of this node that waits for the waiter
	Edge uint64       // never used for another wait of that picture
	Node string       // where the message went; "": it is here
}

// maxSuspects bounds the actors that are remembered to be looked at. A node that has more of them in the few milliseconds between two
// looks leaves some to those that come after, and to the turns' limits.
const maxSuspects = 1024

// Suspects returns a channel that receives when there is something for [Waits.TakeSuspects]. Without this call nothing is noted.
func (w *Waits) Suspects() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suspects == nil {
		w.suspects = make(map[abi.Identity]struct{})
	}
	return w.noticed
}

// TakeSuspects returns the actors to which a message came since the last call while they waited for something themselves, and
// somebody here waited for another node. The last message of a ring that goes over several nodes always is such a one: see [Walk].
func (w *Waits) TakeSuspects() []abi.Identity {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]abi.Identity, 0, len(w.suspects))
	for id := range w.suspects {
		ids = append(ids, id)
	}
	clear(w.suspects)
	return ids
}

// suspect notes the target of an edge that was added. w.mu is held.
func (w *Waits) suspect(target abi.Identity) {
	if w.suspects == nil || w.away == 0 || len(w.edges[target]) == 0 || len(w.suspects) >= maxSuspects {
		return
	}
	if w.suspects[target] = struct{}{}; len(w.suspects) == 1 {
		select {
		case w.noticed <- struct{}{}:
		default:
		}
	}
}

// Walk follows waits from actor to actor of one node, up to where they leave it. It collects steps of which each says for
// sure that From waits for Target, at the moment when it is looked at.
//
// No ring is overlooked if each part of it is walked by the node it is on: an actor that runs a turn waits by messages that were
// sent on its node. One that stands at an actor which runs another turn is waited for by what that actor waits for; one whose
// reply is deferred also by the messages sent on its behalf, by the actor that deferred it, there. Turns that run inside
// their caller's have no edge, but then the chain of what the inner one sends has both. And the last thing that happens to a
// ring is that a message arrives in a mailbox, when all else stands: a message is sent before it arrives, its edge at the
// sender's is older, and nothing else makes anybody wait.
type Walk struct {
	waits *Waits
	here  func(abi.Identity) bool
	limit int
	seen  map[abi.Identity]struct{}
	todo  []abi.Identity

	Steps []Step
	Cut   bool // there were more than limit
}

// NewWalk begins a walk of at most limit steps. here tells whether an actor has an activation on this node.
func (w *Waits) NewWalk(here func(abi.Identity) bool, limit int) *Walk {
	return &Walk{waits: w, here: here, limit: limit, seen: make(map[abi.Identity]struct{})}
}

// From walks on from an actor of this node.
func (k *Walk) From(id abi.Identity) {
	k.reach(id)
	for len(k.todo) > 0 {
		at := k.todo[0]
		k.todo = k.todo[1:]
		if !k.here(at) {
			continue
		}
		for _, e := range k.waits.of(at) {
			if k.here(e.Caller) && k.local(e.chain, at) {
				k.take(at, e)
			}
		}
	}
}

// Arrived walks on from a message that another node's actor waits for, and returns the id of its edge; 0: it is not here, or has its
// reply.
func (k *Walk) Arrived(wait Wait) (edge uint64) {
	var behalf []standing
	for _, e := range k.waits.of(wait.Waiter) {
		switch {
		case e.Wait == wait && e.node == "" && edge == 0:
			edge = e.id
		case e.Caller == wait.Target && e.Waiter == wait.Waiter:
			behalf = append(behalf, e)
		}
	}
	if edge == 0 {
		return 0
	}
	for _, e := range behalf {
		k.take(wait.Waiter, e)
	}
	k.From(wait.Target)
	return edge
}

func (k *Walk) take(from abi.Identity, e standing) {
	if len(k.Steps) >= k.limit {
		k.Cut = true
		return
	}
	k.Steps = append(k.Steps, Step{Wait: e.Wait, From: from, Edge: e.id, Node: e.node})
	if e.node == "" {
		k.reach(e.Target)
	}
}

func (k *Walk) reach(id abi.Identity) {
	if _, before := k.seen[id]; !before {
		k.seen[id] = struct{}{}
		k.todo = append(k.todo, id)
	}
}

// local reports whether everything behind id in a chain is on this node. Then id waits for those as long as the chain says so; over
// another node it might have given up, and its own node knows.
func (k *Walk) local(chain []abi.Identity, id abi.Identity) bool {
	for i := len(chain) - 1; i >= 0 && chain[i] != id; i-- {
		if !k.here(chain[i]) {
			return false
		}
	}
	return true
}

// standing is an edge as it was at a moment.
type standing struct {
	Wait
	id    uint64
	node  string
	chain []abi.Identity
}

// of returns the edges from an actor, oldest first.
func (w *Waits) of(id abi.Identity) []standing {
	w.mu.Lock()
	all := make([]standing, 0, len(w.edges[id]))
	for e := range w.edges[id] {
		all = append(all, standing{e.Wait, e.id, e.node, e.chain})
	}
	w.mu.Unlock()
	slices.SortFunc(all, func(a, b standing) int { return cmp.Compare(a.id, b.id) })
	return all
}

// Holds reports whether an actor still waits by the edge of that id.
func (w *Waits) Holds(from abi.Identity, edge uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for e := range w.edges[from] {
		if e.id == edge {
			return true
		}
	}
	return false
}

// Queued is a call in a mailbox that an actor waits for.
type Queued struct {
	Wait
	Edge uint64
}

// Queued returns the calls in the mailbox that actors wait for.
func (a *Activation) Queued() []Queued {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Queued
	for i := range a.queue.n {
		if e := a.queue.ring[(a.queue.head+i)%len(a.queue.ring)].edge; e != nil {
			all = append(all, Queued{e.Wait, e.id})
		}
	}
	return all
}

// Deadlocked answers the call of an edge that it would close a cycle of waits, its target first and last, and will never have its
// turn. It reports whether the call was still in the mailbox.
func (a *Activation) Deadlocked(edge uint64, cycle []abi.Identity) bool {
	a.mu.Lock()
	m, ok := a.queue.remove(func(m *message) bool { return m.edge != nil && m.edge.id == edge })
	a.mu.Unlock()
	if ok {
		a.cfg.Counters.Deadlocks.Add(1)
		m.fail(deadlock(cycle))
	}
	return ok
}
