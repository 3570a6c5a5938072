package core

import (
	"time"

	"github.com/wasilo/wasilo/abi"
)

// EventType says what an [Event] tells.
type EventType uint8

// The events of the cluster. Which fields are set is said beside each; Seq and At always are.
const (
	TopologyApplied      EventType = 1 + iota // Hash, Count (members)
	TopologyStreamEnded                       // Reason
	TopologyResubscribed                      //
	KindsChanged                              // Node, Count (its kinds)
	BlockListApplied                          // Node, Count (leases revoked by it)
	NodeUnblocked                             // Node
	ActivationStarted                         // Identity, Epoch, Node
	ActivationFailed                          // Identity, Epoch, Node, Code, Reason
	ActivationTerminated                      // Identity, Epoch, Node, Reason
	LeaseLost                                 // Identity, Epoch, Node: revoked, since its owner changed or was blocked
	ShutdownBegun                             // Count (leases to release)
	ShutdownCompleted                         // Count (leases that had to be released by force)
)

var eventNames = [...]string{TopologyApplied: "TopologyApplied", TopologyStreamEnded: "TopologyStreamEnded",
	TopologyResubscribed: "TopologyResubscribed", KindsChanged: "KindsChanged", BlockListApplied: "BlockListApplied",
	NodeUnblocked: "NodeUnblocked", ActivationStarted: "ActivationStarted", ActivationFailed: "ActivationFailed",
	ActivationTerminated: "ActivationTerminated", LeaseLost: "LeaseLost", ShutdownBegun: "ShutdownBegun",
	ShutdownCompleted: "ShutdownCompleted"}

// String returns the event's name.
func (t EventType) String() string {
	if int(t) < len(eventNames) && eventNames[t] != "" {
		return eventNames[t]
	}
	return "unknown"
}

// Event is something that happened in the cluster, for whoever wants to know. Events of a node are numbered from 1 without
// gaps.
type Event struct {
	Seq      uint64
	At       time.Duration // the machine's now
	Type     EventType
	Code     abi.Code
	Count    int
	Identity Identity
	Epoch    abi.Epoch
	Node     NodeID
	Hash     uint64
	Reason   string
}

// queue holds events until the adapter takes them.
type queue struct {
	seq    uint64
	events []Event
}

func (q *queue) push(now time.Duration, ev Event) {
	q.seq++
	ev.Seq, ev.At = q.seq, now
	q.events = append(q.events, ev)
}

// take returns what is queued and continues in spare's memory, which the caller has done with.
func (q *queue) take(spare []Event) []Event {
	events := q.events
	q.events = spare[:0]
	return events
}
