package core

import (
	"slices"
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
	m.do(Effect{Type: Forget, Epoch: abi.Epoch{Index: m.epoch}})
}

// replan computes the view anew and revokes the leases of what this node no longer owns, before any other lease can be
// issued. It returns how many those were. Only leases of partitions that have moved are looked at: a node that joins or leaves
// takes or gives its own share of them, and a change of something that is hosted elsewhere concerns none.
func (m *Machine) replan(t *Topology, now time.Duration) (lost int) {
	prev := m.view
	m.view = newView(prev, t, &m.hosting, m.cfg.Strategy)
	moved := m.view.moved(prev)
	m.ledger.among(moved, func(e *entry) {
		if e.lease.State == LeaseRevoked {
			m.wake(e) // whoever waits for its end may find the actor elsewhere
			return
		}
		owner, _ := m.view.Owner(e.lease.Identity.Kind(), e.partition)
		if owner == nil || owner.ID != m.cfg.Self {
			m.revoke(e, now)
			lost++
		}
	})
	m.do(Effect{Type: Recheck, Moved: moved})
	if m.epoch > 0 { // there was an actor here
		for _, l := range m.view.lost(prev, m.cfg.Self) {
			m.do(Effect{Type: Forget, Kind: l.kind, Moved: l.partitions, Epoch: abi.Epoch{Index: m.epoch}})
		}
	}
	return lost
}
