package core

import "time"

// Reports about a lease that the ledger no longer has are late, not wrong: an activation can end before the request that
// made it returns. They change nothing, above all not a later lease of the same identity.

func (m *Machine) activated(in *Input) {
	e := m.ledger.find(in.Lease)
	if e == nil {
		// It has ended already, or was released by force: whatever came of the request must not live on.
		lease := in.Lease
		lease.State = LeaseRevoked
		m.do(Effect{Type: Revoke, Lease: lease, Handle: in.Handle})
		return
	}
	if !e.pending() {
		return
	}
	e.handle = in.Handle
	switch {
	case e.owed:
		e.owed = false
		m.do(Effect{Type: Revoke, Lease: e.lease, Handle: e.handle})
	case e.lease.State == LeaseActive:
		kind := e.lease.Identity.Kind()
		held := m.holds(kind, e.partition) != nil || m.view.kinds[kind].withdrawn
		m.do(Effect{Type: Admit, Lease: e.lease, Handle: e.handle, Held: held})
	}
	m.wake(e)
}

func (m *Machine) failed(in *Input, now time.Duration) {
	if e := m.ledger.find(in.Lease); e != nil {
		m.queue.push(now, Event{Type: ActivationFailed, Identity: e.lease.Identity, Epoch: e.lease.Epoch, Node: e.lease.Owner,
			Code: in.Code, Reason: in.Reason})
		m.end(e)
	}
}

func (m *Machine) started(in *Input, now time.Duration) {
	if e := m.ledger.find(in.Lease); e != nil && !e.started {
		m.ledger.start(e)
		m.queue.push(now, Event{Type: ActivationStarted, Identity: e.lease.Identity, Epoch: e.lease.Epoch, Node: e.lease.Owner})
	}
}

func (m *Machine) releasing(in *Input) {
	if e := m.ledger.find(in.Lease); e != nil && e.lease.State == LeaseActive {
		m.mustMove(e, LeaseReleasing)
		m.do(Effect{Type: Invalidate, Lease: e.lease})
	}
}

func (m *Machine) terminated(in *Input, now time.Duration) {
	if e := m.ledger.find(in.Lease); e != nil {
		m.terminate(e, in.Reason, now)
	}
}

func (m *Machine) terminate(e *entry, reason string, now time.Duration) {
	m.queue.push(now, Event{Type: ActivationTerminated, Identity: e.lease.Identity, Epoch: e.lease.Epoch, Node: e.lease.Owner,
		Reason: reason})
	m.end(e)
}

// end takes an activation's lease out of the ledger.
func (m *Machine) end(e *entry) {
	m.mustMove(e, LeaseReleased)
	m.do(Effect{Type: Invalidate, Lease: e.lease})
	m.wake(e)
	if m.phase == PhaseShuttingDown && m.ledger.Len() == 0 {
		m.do(Effect{Type: Empty})
	}
}

// revoke takes the right to run from an activation that has not ended.
func (m *Machine) revoke(e *entry, now time.Duration) {
	m.mustMove(e, LeaseRevoked)
	m.queue.push(now, Event{Type: LeaseLost, Identity: e.lease.Identity, Epoch: e.lease.Epoch, Node: e.lease.Owner})
	m.do(Effect{Type: Invalidate, Lease: e.lease})
	if e.pending() {
		e.owed = true // the silo must not hear of the revocation before it has heard of the lease
	} else {
		m.do(Effect{Type: Revoke, Lease: e.lease, Handle: e.handle})
	}
	m.wake(e)
}

// mustMove makes a transition that the callers have checked to exist.
func (m *Machine) mustMove(e *entry, to LeaseState) {
	if err := m.ledger.move(e, to); err != nil {
		panic("cluster/core: " + err.Error())
	}
}

// shutdown lets every activation end in good order; the adapter asks the silo to drain.
func (m *Machine) shutdown(now time.Duration) {
	if m.phase >= PhaseShuttingDown {
		return
	}
	m.phase = PhaseShuttingDown
	m.queue.push(now, Event{Type: ShutdownBegun, Count: m.ledger.Len()})
	clear(m.held) // who waits is told that this node leaves
	m.wakeHeld()
	m.ledger.each(func(e *entry) {
		if e.lease.State == LeaseActive {
			m.mustMove(e, LeaseReleasing)
			if e.pending() {
				e.owed = true // the silo may have drained by the time it gets this request
			}
		}
		m.wake(e)
	})
	if m.ledger.Len() == 0 {
		m.do(Effect{Type: Empty})
	}
}

func (m *Machine) releaseAll(now time.Duration) {
	if m.phase != PhaseShuttingDown {
		return
	}
	left := m.ledger.Len()
	m.ledger.each(func(e *entry) { m.terminate(e, "shutdown", now) })
	m.phase = PhaseStopped
	m.queue.push(now, Event{Type: ShutdownCompleted, Count: left})
}
