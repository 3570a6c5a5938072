package link

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// Error is a message that did not come to an answer, for a reason of the link and not of the actor. Its code tells what is
// known: unreachable, shutting_down and overloaded say that nothing was sent; outcome_unknown, timeout and canceled that the
// actor may have done what was asked. A call with outcome_unknown may be made again if it is flagged abi.Idempotent.
type Error struct {
	Node      cluster.NodeID
	Authority string
	Self      cluster.NodeID   // this node, where the two cannot reach each other; else ""
	Relays    []cluster.NodeID // members that were to help, and cannot reach it either
	Code      abi.Code
	Text      string // what happened, for people
	Err       error  // what it came from, or nil
}

func (e *Error) Error() string {
	s := "node " + string(e.Node) + " at " + e.Authority
	if e.Self != "" {
		s = "node " + string(e.Self) + " cannot reach " + s
	}
	for i, id := range e.Relays {
		if s += ", "; i == 0 {
			s += "and neither can "
		}
		s += string(id)
	}
	if len(e.Relays) > 0 {
		s += " for it"
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what it came from.
func (e *Error) Unwrap() error { return e.Err }

// WireCode returns the code.
func (e *Error) WireCode() abi.Code { return e.Code }

// Is makes errors.Is work with the code.
func (e *Error) Is(target error) bool {
	c, ok := target.(abi.Code)
	return ok && c == e.Code
}

// Reason says why a peer was refused or dropped. The numbers travel on the wire: append, never reorder, never reuse.
type Reason uint16

// The reasons.
const (
	Malformed      Reason = 1  // it speaks no frames, or none that can be read
	UnknownVersion Reason = 2  // no version of the protocol in common
	WrongCluster   Reason = 3  // it is of another cluster
	WrongNode      Reason = 4  // it says another id than its certificate, or another node answered than was dialled
	SameNode       Reason = 5  // it has the id of this node
	StaleBoot      Reason = 6  // a newer run of the same node is connected, or is known to gossip
	Leaving        Reason = 7  // the node shuts down. Nobody's fault
	BadCertificate Reason = 8  // of another authority, expired, or none
	Oversized      Reason = 9  // a frame beyond the limit
	Stalled        Reason = 10 // it began a frame and did not end it, or began to connect and said nothing
	Flood          Reason = 11 // more control frames or connections than anybody needs
	Silent         Reason = 12 // nothing was heard for too long, pings notwithstanding
	Unread         Reason = 13 // it does not read what is sent to it
	Reconnect      Reason = 14 // certificates end: connect anew. Nobody's fault
	NoStream       Reason = 15 // it opened a stream that this node does not have. Nobody's fault
)

var reasonNames = [...]string{Malformed: "malformed", UnknownVersion: "unknown_version", WrongCluster: "wrong_cluster",
	WrongNode: "wrong_node", SameNode: "same_node", StaleBoot: "stale_boot", Leaving: "leaving", BadCertificate: "bad_certificate",
	Oversized: "oversized", Stalled: "stalled", Flood: "flood", Silent: "silent", Unread: "unread", Reconnect: "reconnect",
	NoStream: "no_stream"}

// String returns the name, fit for a label.
func (r Reason) String() string {
	if int(r) < len(reasonNames) && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return "reason_" + strconv.Itoa(int(r))
}

// misbehaviour reports whether the reason is the fault of whoever it is said of, so that a block list should know.
func (r Reason) misbehaviour() bool {
	switch r {
	case Leaving, Reconnect, Silent, NoStream:
		return false
	}
	return true
}

// Refusal is what a peer said before it closed the connection: this node did something that it does not accept.
type Refusal struct {
	Reason Reason
	Text   string
}

func (e *Refusal) Error() string { return "it refused this node: " + e.Reason.String() + ": " + e.Text }

// fault is why this node closes a connection.
type fault struct {
	reason Reason
	text   string
	err    error // or nil
}

func (e *fault) Error() string {
	s := e.reason.String()
	if e.text != "" {
		s += ": " + e.text
	}
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}

func (e *fault) Unwrap() error { return e.err }

// printable makes text of a peer fit for a line of a log: UTF-8, printable, at most 300 bytes.
func printable(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	clean := utf8.ValidString(s)
	for _, c := range s {
		clean = clean && unicode.IsPrint(c)
	}
	if clean {
		return s
	}
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '.'
	}, strings.ToValidUTF8(s, "."))
}
