package core

import (
	"slices"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func (m *Machine) topologyChanged(t *Topology, now time.Duration) {
	last := m.view.topology
	if t == nil || last != nil && last.Hash() == t.Hash() {
		return
	}
	if last != nil {
		for _, old := range last.members {
			if _, still := t.Member(old.ID); !still && old.ID != m.cfg.Self {
				m.hosting.miss(old.ID, m.hosting.hosted[old.ID], now)
				delete(m.hosting.hosted, old.ID) // it says anew what it hosts when it comes back
			}
		}
	}
	m.queue.push(now, Event{Type: TopologyApplied, Hash: t.Hash(), Count: t.Len()})
	m.replan(t, now)
}

func (m *Machine) setKinds(node NodeID, kinds []string, now time.Duration) {
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	self := node == m.cfg.Self
	before := m.hosting.hosted[node]
	if self {
		before = m.hosting.registered
	}
	switch {
	case slices.Equal(before, kinds):
		return
	case self:
		m.hosting.registered = kinds
		m.hosting.found(node, before, kinds)
	case len(kinds) == 0: // so it leaves
		m.hosting.miss(node, before, now)
	default:
		m.hosting.found(node, before, kinds)
	}
	if !self || m.cfg.Mode == MemberMode {
		m.hosting.hosted[node] = kinds
	}
	m.queue.push(now, Event{Type: KindsChanged, Node: node, Count: len(kinds)})
	m.replan(m.view.topology, now)
}

func (m *Machine) block(node NodeID, now time.Duration) {
	if _, already := m.hosting.blocked[node]; already {
		return
	}
	m.hosting.blocked[node] = struct{}{}
	lost := m.replan(m.view.topology, now)
	m.queue.push(now, Event{Type: BlockListApplied, Node: node, Count: lost})
}

func (m *Machine) unblock(node NodeID, now time.Duration) {
	if _, blocked := m.hosting.blocked[node]; blocked {
		delete(m.hosting.blocked, node)
		m.queue.push(now, Event{Type: NodeUnblocked, Node: node})
		m.replan(m.view.topology, now)
	}
}

// lapse revokes every lease; what comes next is activated anew, here or wherever it lives by then.
func (m *Machine) lapse(now time.Duration) {
	m.ledger.each(func(e *entry) {
		if e.lease.State != LeaseRevoked {
			m.revoke(e, now)
		}
	})
	if m.cfg.Quorum {
		if a := m.view.assigned; a != nil {
			m.do(Effect{Type: Forget, Epoch: abi.Epoch{Generation: a.Generation, Index: a.Index}})
		}
		return
	}
	m.do(Effect{Type: Forget, Epoch: abi.Epoch{Index: m.epoch}})
}

// assigned takes over what the log says. An activation goes on only under the very epoch that it began with.
func (m *Machine) assigned(in *Input, now time.Duration) {
	if !m.cfg.Quorum || in.Assignments == nil {
		return
	}
	lost := m.session != 0 && m.session != in.Session
	m.session = in.Session
	if lost {
		m.until = 0
		m.lapse(now)
	}
	m.missSessions(in.Assignments, now)
	m.assignments = in.Assignments
	m.replan(m.view.topology, now)
}

// missSessions remembers what sessions hosted that are gone: their kinds are not unknown, only nowhere at present.
func (m *Machine) missSessions(next *Assignments, now time.Duration) {
	if m.assignments == nil {
		return
	}
	for _, s := range m.assignments.sessions {
		if next.Session(s.ID) == nil && s.Node != m.cfg.Self {
			m.hosting.miss(s.Node, s.Kinds, now)
		}
	}
	for _, s := range next.sessions {
		before := m.assignments.Session(s.ID)
		switch {
		case before == nil:
			m.hosting.found(s.Node, nil, s.Kinds)
		case before != s:
			m.hosting.found(s.Node, before.Kinds, s.Kinds)
		}
	}
}

// heldPart is a part that is about to move.
type heldPart struct {
	Part
	sealed bool // nothing of it runs here any more
}

// has reports whether a partition of a kind is in p.
func (p *Part) has(kind string, partition Partition) bool {
	return p.Partitions.Has(partition) && slices.Contains(p.Kinds, kind)
}

// holds returns the part that is about to move with a partition of a kind, so that nothing new may begin there; nil: there is none.
func (m *Machine) holds(kind string, p Partition) *heldPart {
	for _, h := range m.held {
		if h.has(kind, p) { // a partition is in one move at a time
			return h
		}
	}
	return nil
}

// awaited reports whether an activation of a part waits for a message of this chain: its turn has to end before the part can move.
func (m *Machine) awaited(h *heldPart, chain []Identity) bool {
	if h.sealed {
		return false
	}
	for _, id := range chain {
		if e := m.ledger.byIdentity[id]; e != nil && e.lease.State != LeaseRevoked && h.has(id.Kind(), e.partition) {
			return true
		}
	}
	return false
}

// seal ends what may still begin of a part, once there is nothing left of it.
func (m *Machine) seal(p Part) {
	h := m.held[p.Move]
	if h == nil {
		return
	}
	left := false
	m.ledger.among(h.Partitions.Moved(), func(e *entry) {
		left = left || slices.Contains(h.Kinds, e.lease.Identity.Kind())
	})
	if !left {
		h.sealed = true
		m.do(Effect{Type: Sealed})
	}
}

// unhold lets those go on who wait for what was held.
func (m *Machine) unhold(id MoveID) {
	if _, ok := m.held[id]; !ok {
		return
	}
	delete(m.held, id)
	m.wakeHeld()
}

func (m *Machine) wakeHeld() {
	all := make([]Identity, 0, len(m.waiting))
	for who := range m.waiting {
		all = append(all, who)
	}
	slices.SortFunc(all, func(a, b Identity) int { return strings.Compare(a.Key(), b.Key()) })
	for _, who := range all {
		if m.holds(who.Kind(), PartitionOf(who)) == nil {
			delete(m.waiting, who)
			m.do(Effect{Type: Wake, Identity: who})
		}
	}
}

// newLease returns the lease of a new activation. Its epoch is that of the partition's assignment where the log decides, otherwise one of
// its own.
func (m *Machine) newLease(id Identity, p Partition) Lease {
	m.epoch++
	l := Lease{Identity: id, Epoch: abi.Epoch{Index: m.epoch}, Owner: m.cfg.Self}
	if m.cfg.Quorum {
		_, l.Epoch = m.view.slot(id.Kind(), p)
		l.Serial = m.epoch
	}
	return l
}

// mayKeep reports whether the view lets a lease go on.
func (m *Machine) mayKeep(e *entry) bool {
	kind := e.lease.Identity.Kind()
	if m.cfg.Quorum {
		s, epoch := m.view.slot(kind, e.partition)
		return s != 0 && s == m.session && epoch == e.lease.Epoch
	}
	owner, _ := m.view.Owner(kind, e.partition)
	return owner != nil && owner.ID == m.cfg.Self
}

// replan computes the view anew and revokes the leases of what this node no longer owns, before any other lease can be
// issued. It returns how many those were. Only leases of partitions that have moved are looked at: a node that joins or leaves
// takes or gives its own share of them, and a change of something that is hosted elsewhere concerns none.
func (m *Machine) replan(t *Topology, now time.Duration) (lost int) {
	prev := m.view
	if m.cfg.Quorum {
		m.view = assignedView(prev, t, &m.hosting, m.assignments)
	} else {
		m.view = newView(prev, t, &m.hosting, m.cfg.Strategy)
	}
	moved := m.view.moved(prev)
	m.ledger.among(moved, func(e *entry) {
		if e.lease.State == LeaseRevoked {
			m.wake(e) // whoever waits for its end may find the actor elsewhere
			return
		}
		if !m.mayKeep(e) {
			m.revoke(e, now)
			lost++
		}
	})
	m.do(Effect{Type: Recheck, Moved: moved})
	m.withdraw(prev)
	if m.epoch > 0 || m.cfg.Quorum { // there may have been an actor here
		for _, l := range m.view.lost(prev, m.cfg.Self) {
			epoch := abi.Epoch{Index: m.epoch}
			if m.cfg.Quorum {
				epoch = prev.newest(l)
			}
			m.do(Effect{Type: Forget, Kind: l.kind, Moved: l.partitions, Epoch: epoch})
		}
	}
	return lost
}

// withdraw has nobody find the activations of kinds that nobody hosts any more. They go on, and to sleep, for the kind may come back.
func (m *Machine) withdraw(prev *View) {
	var gone map[string]bool
	for kind, place := range m.view.kinds {
		if place.withdrawn && !prev.kinds[kind].withdrawn {
			if gone == nil {
				gone = make(map[string]bool)
			}
			gone[kind] = true
		}
	}
	if gone == nil {
		return
	}
	m.ledger.each(func(e *entry) {
		if gone[e.lease.Identity.Kind()] {
			m.do(Effect{Type: Invalidate, Lease: e.lease})
		}
	})
}
