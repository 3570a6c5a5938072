// Package sim is a simulated cluster: the production core on many nodes, on a virtual network and clock that one seed decides.
//
// Nodes run the core's own [core.Table], [core.Tenant], [core.Machine] and, on voters, [core.Chair]. What is modelled around them is what
// they must not trust: a log that stands in for raft, with leaders that change at any time and proposals that are lost, late, doubled or
// of unknown outcome, and voters that come, go and lose their disks; a network that cuts, delays, loses, doubles and reorders; clocks that drift
// apart, and stand still while a machine is suspended; processes that stand still, die and come back; a store with fences that may not answer. A
// modelled silo runs turns that check their right to run where production does, and modelled requests go by way of a PID cache whose rules
// ([core.Route], [core.Course], [core.Senders]) are the core's.
//
// The monitor looks on from outside, in true time, and compares what happened with the invariants I1 to I10 of docs/guarantees.md. The
// first one that is broken ends the run.
//
// A run is its seed: there is one order of events, no goroutine, no clock, and no iteration over a map that matters. [Run] of one seed
// gives one hash.
package sim
