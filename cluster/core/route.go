package core

import "github.com/wasilo/wasilo/abi"

// Route is what an entry of the PID cache remembers of the decision it came from.
//
// The rules of the cache, in one place:
//
//	an activation failed, terminated, is releasing or was revoked → its identity's entry goes, if its epoch is that one
//	topology, hosted kinds or block list changed                  → every entry goes that [View.Keeps] no longer confirms
//	a part is held, for it is about to move                       → every entry of an activation of this node in it goes,
//	                                                                and none comes until the part is let go
//	a target answered ownership_changed                           → that very entry goes
//	the topology came again with an unchanged hash                → nothing goes
//	shutdown began                                                → nothing goes: calls between actors that still run
//	                                                                must find them; each entry goes as its activation ends
type Route struct {
	Member    *Member   // where messages go
	Epoch     abi.Epoch // of the lease; zero where another node keeps it
	Serial    uint64    // of the lease
	Partition Partition
}

// Local reports whether the activation is this node's own.
func (r Route) Local() bool { return r.Epoch != abi.Epoch{} }

// Withholds reports whether a route to an actor of a kind must not be used while the part is held: messages have to ask for their way.
func (p *Part) Withholds(kind string, r Route) bool { return r.Local() && p.has(kind, r.Partition) }

// Keeps reports whether a route to an actor of a kind still holds: its node owns the partition, in the same run and at the
// same address.
func (v *View) Keeps(kind string, r Route) bool {
	if planted(bugCacheKept) {
		return true
	}
	m, _ := v.Owner(kind, r.Partition)
	if v.assigned != nil && r.Local() && v.Epoch(kind, r.Partition) != r.Epoch {
		return false
	}
	return m == r.Member || m != nil && *m == *r.Member
}
