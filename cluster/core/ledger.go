package core

import (
	"errors"
	"fmt"

	"github.com/wasilo/wasilo/abi"
)

// LeaseState is where a lease stands. The zero value is no state.
type LeaseState uint8

// The states of a lease. [LeaseState.CanBecome] has the transitions.
const (
	LeaseActive    LeaseState = 1 + iota // the activation may run
	LeaseReleasing                       // it is ending in good order: passivation, shutdown
	LeaseReleased                        // it has ended; no ledger keeps such a lease
	LeaseRevoked                         // it lost its right to run and has not ended yet
)

// String returns the state in lower case.
func (s LeaseState) String() string {
	switch s {
	case LeaseActive:
		return "active"
	case LeaseReleasing:
		return "releasing"
	case LeaseReleased:
		return "released"
	case LeaseRevoked:
		return "revoked"
	}
	return "invalid"
}

// CanBecome reports whether a lease may go from s to next:
//
//	Active → Releasing → Released
//	Active, Releasing → Revoked → Released
//	Active → Released (it failed, or ended by itself)
func (s LeaseState) CanBecome(next LeaseState) bool {
	switch next {
	case LeaseReleasing:
		return s == LeaseActive
	case LeaseRevoked:
		return s == LeaseActive || s == LeaseReleasing
	case LeaseReleased:
		return s == LeaseActive || s == LeaseReleasing || s == LeaseRevoked
	}
	return false
}

// Lease is the right of one activation to run, and the ledger's entry of it. Identity, epoch and serial name it.
type Lease struct {
	Identity Identity
	Epoch    abi.Epoch
	// Serial tells activations of one identity under one epoch apart, where the epoch is that of the partition's assignment; 0 where every
	// activation has an epoch of its own.
	Serial uint64
	State  LeaseState // when it was handed out; the ledger has the present one
	Owner  NodeID
}

// Same reports whether both name the same lease, whatever its state.
func (l Lease) Same(o Lease) bool {
	return l.Epoch == o.Epoch && l.Serial == o.Serial && l.Identity == o.Identity
}

// What a ledger refuses.
var (
	ErrLeaseExists     = errors.New("an earlier lease of the identity has not ended")
	ErrStaleEpoch      = errors.New("the epoch is not newer than the identity's last one")
	ErrLeaseTransition = errors.New("no such transition of a lease")
)

// Ledger keeps this node's leases, keyed by identity and epoch: at most one of an identity at a time, since a new epoch
// has to wait until the activation of the old one has ended. Finding, issuing and releasing take constant time; the leases
// of one partition can be walked without looking at others, in an order that depends only on the calls made.
//
// The zero value is empty and ready.
type Ledger struct {
	byIdentity map[Identity]*entry
	heads      [Partitions]*entry
	inForce    int
	started    int
}

// entry is a lease with what the machine must know beside it.
type entry struct {
	lease     Lease
	handle    any // what the adapter gave with Activated; nil while the activation is being requested
	partition Partition
	started   bool // the silo said so
	waited    bool // somebody waits for a change and must be woken
	owed      bool // revoked while being requested: the revocation is told when the request returns

	prev, next *entry // in the partition's list
}

// pending reports whether the activation request has not returned yet.
func (e *entry) pending() bool { return e.handle == nil }

// Len returns how many leases have not ended.
func (l *Ledger) Len() int { return len(l.byIdentity) }

// InForce returns how many leases are active or releasing.
func (l *Ledger) InForce() int { return l.inForce }

// Started returns how many activations have started and not ended.
func (l *Ledger) Started() int { return l.started }

// Lease returns the lease of an identity that has not ended.
func (l *Ledger) Lease(id Identity) (Lease, bool) {
	if e := l.byIdentity[id]; e != nil {
		return e.lease, true
	}
	return Lease{}, false
}

// Leases calls yield for the leases of partition p until it returns false.
func (l *Ledger) Leases(p Partition, yield func(Lease) bool) {
	for e := l.heads[p]; e != nil; e = e.next {
		if !yield(e.lease) {
			return
		}
	}
}

// each calls f for every entry, by partition. f may end the entry.
func (l *Ledger) each(f func(*entry)) {
	for _, e := range l.heads {
		chain(e, f)
	}
}

// among is each for the partitions that have moved.
func (l *Ledger) among(moved *Moved, f func(*entry)) {
	if moved == nil {
		return
	}
	for p, e := range l.heads {
		if moved[p] {
			chain(e, f)
		}
	}
}

func chain(e *entry, f func(*entry)) {
	for e != nil {
		next := e.next
		f(e)
		e = next
	}
}

// issue enters an active lease.
func (l *Ledger) issue(lease Lease, p Partition) (*entry, error) {
	if old := l.byIdentity[lease.Identity]; old != nil {
		if !old.lease.Epoch.Less(lease.Epoch) {
			return nil, fmt.Errorf("lease of %s: %w", lease.Identity, ErrStaleEpoch)
		}
		return nil, fmt.Errorf("lease of %s: %w (it is %s)", lease.Identity, ErrLeaseExists, old.lease.State)
	}
	if l.byIdentity == nil {
		l.byIdentity = make(map[Identity]*entry)
	}
	lease.State = LeaseActive
	e := &entry{lease: lease, partition: p, next: l.heads[p]}
	if e.next != nil {
		e.next.prev = e
	}
	l.heads[p] = e
	l.byIdentity[lease.Identity] = e
	l.inForce++
	return e, nil
}

// find returns the entry of exactly this lease, or nil: reports about an earlier activation must not touch a later one.
func (l *Ledger) find(lease Lease) *entry {
	if e := l.byIdentity[lease.Identity]; e != nil && e.lease.Same(lease) {
		return e
	}
	return nil
}

// move changes an entry's state. A released entry is out of the ledger.
func (l *Ledger) move(e *entry, to LeaseState) error {
	from := e.lease.State
	if !from.CanBecome(to) {
		return fmt.Errorf("lease of %s: %w: %s to %s", e.lease.Identity, ErrLeaseTransition, from, to)
	}
	e.lease.State = to
	if from != LeaseRevoked && to != LeaseReleasing {
		l.inForce--
	}
	if to == LeaseReleased {
		l.remove(e)
	}
	return nil
}

func (l *Ledger) start(e *entry) {
	if !e.started {
		e.started = true
		l.started++
	}
}

func (l *Ledger) remove(e *entry) {
	if e.started {
		l.started--
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.heads[e.partition] = e.next
	}
	e.prev, e.next = nil, nil
	delete(l.byIdentity, e.lease.Identity)
}
