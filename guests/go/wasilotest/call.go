package wasilotest

import (
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// Reply is the outcome of a request from the test, once it is there.
type Reply[Out any] struct {
	n    *Node
	done bool
	res  abi.Result
}

// Done reports whether the outcome is there.
func (r *Reply[Out]) Done() bool { return r.done }

// Wait lets things happen, and time pass if nothing else can, until the outcome is there, and returns it.
func (r *Reply[Out]) Wait() (Out, error) {
	r.n.t.Helper()
	r.n.wait(func() bool { return r.done })
	var out Out
	if r.res.Err != nil {
		return out, r.res.Err
	}
	return wasilo.Decode[Out](r.res.Payload)
}

// Start sends a request to an actor, as a client from outside would, and returns before anything has happened.
func Start[Out, In any](n *Node, to abi.Identity, method string, in In) *Reply[Out] {
	n.t.Helper()
	return start[Out](n, encode(n, in), to, method, "")
}

// Call sends a request and waits for its outcome, ten seconds of virtual time at the most. The error is a
// [*wasilo.Error].
func Call[Out, In any](n *Node, to abi.Identity, method string, in In) (Out, error) {
	n.t.Helper()
	return Start[Out](n, to, method, in).Wait()
}

// CallKey is [Call] with an idempotency key.
func CallKey[Out, In any](n *Node, to abi.Identity, method string, in In, key string) (Out, error) {
	n.t.Helper()
	return start[Out](n, encode(n, in), to, method, key).Wait()
}

// Tell sends a message without waiting, and returns before anything has happened.
func Tell[In any](n *Node, to abi.Identity, method string, in In) {
	n.t.Helper()
	n.send(&message{tag: abi.EventMessage, to: to, method: method, payload: encode(n, in), flags: abi.OneWay})
}

func start[Out any](n *Node, payload []byte, to abi.Identity, method, key string) *Reply[Out] {
	n.t.Helper()
	if to.IsZero() {
		n.t.Fatalf("wasilotest: %s is sent to no valid actor", method)
	}
	r := &Reply[Out]{n: n}
	n.send(&message{tag: abi.EventCall, to: to, method: method, payload: payload, key: key, deadline: n.now.Add(timeout),
		outcome: func(res abi.Result) { r.done, r.res = true, res }})
	return r
}

// timeout is how long a client waits.
const timeout time.Duration = abi.DefaultRequest

func encode[In any](n *Node, in In) []byte {
	n.t.Helper()
	raw, err := wasilo.Encode(in)
	if err != nil {
		n.t.Fatalf("wasilotest: the input cannot travel: %v", err)
	}
	return raw
}
