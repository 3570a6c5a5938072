// Package wasilotest runs actors natively, in a Go test, without a node and without WebAssembly:
//
//	func TestCounter(t *testing.T) {
//		node := wasilotest.New(t, counter.Kind)
//		v, err := wasilotest.Call[counter.Value](node, wasilo.ID("counter", "a"), "add", counter.Add{By: 2})
//		…
//	}
//
// A [Node] activates actors of the given kinds at their first message and carries messages between them, through the
// same bytes as a real one. Where a real node does many things at once, this one does one at a time, in an order that
// a seed decides: the order of sending by default, a random one after [Node.Shuffle]. Time is virtual. It passes when a
// test says so ([Node.Advance]), or when nothing else can happen and somebody waits; so a test of timers and time-outs
// takes no time. [Node.Interfere] loses messages.
//
// What it does not imitate: limits of memory, size and CPU time, and movement between nodes. A turn that never returns
// hangs the test.
package wasilotest
