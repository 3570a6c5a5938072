// Package wasilo makes virtual actors of plain Go types, for a wasilo node to run as WebAssembly.
//
// # An actor
//
// The state of an actor is a struct; its methods take a [Context] and a value and return a value and an error. [Kind]
// gives them names:
//
//	type Counter struct{ n int64 }
//
//	type Add struct {
//		By int64 `json:"by"`
//	}
//
//	type Value struct {
//		Value int64 `json:"value"`
//	}
//
//	func (c *Counter) Add(_ *wasilo.Context, in Add) (Value, error) {
//		c.n += in.By
//		return Value{c.n}, nil
//	}
//
//	func (c *Counter) Get(*wasilo.Context, wasilo.None) (Value, error) { return Value{c.n}, nil }
//
//	var Kind = wasilo.Kind("counter",
//		wasilo.Method("add", (*Counter).Add),
//		wasilo.ReadOnly("get", (*Counter).Get))
//
// A module is a package main that serves kinds, built by
// GOOS=wasip1 GOARCH=wasm go build -trimpath -buildmode=c-shared -ldflags="-s -w" -o actors/counter.wasm:
//
//	func init() { wasilo.Serve(counter.Kind) }
//	func main() {}
//
// # What is promised
//
// Every kind/identity always exists: its first message activates it, in a sandbox and with a state of its own. Its
// handlers run as turns, one at a time, each to its end, so state needs no locks. Goroutines that outlive their turn
// stand still until the next one; they must not use its Context.
//
// What a turn asks for ([Tell], [Then], [After], [Every], [Context.Cancel], [Deferred.Reply]) happens when the turn has
// succeeded, all or none: if the handler returns an error it is dropped. Nothing else is rolled back: what a handler
// changed in its state before it returned an error stays changed, and a [Call] that was made was made. So check first,
// then change.
//
// A panic, like os.Exit or a turn that outlasts its time, ends the instance: the state is lost, the caller gets the error
// trap, and the next message finds a new actor. State lives as long as the activation, which ends when nobody has used the
// actor for a while, unless its kind says otherwise ([Definition.Hibernates]).
//
// # Messages
//
// Inputs and results travel as CBOR. A struct is a map with text keys; json tags name its fields, and understand "-",
// omitempty and omitzero. The types that travel are booleans, numbers, strings, []byte and [N]byte (bytes), slices,
// arrays, maps with string keys, structs with embedded ones spread out, pointers (nil is null), [time.Time] (RFC 3339
// text), [time.Duration] (an integer of nanoseconds, as in encoding/json), [Identity] (text), any, and [Raw].
//
// Reading is strict about types (no number for a text, no 300 for an int8), and tolerant of keys that it does not know.
// A field must be there unless it is a pointer or has omitempty or omitzero. Input that cannot be read never
// reaches the handler: the caller gets an invalid_argument that says where it is wrong.
//
// # Errors
//
// [Errorf] makes an error of the actor's own, with a code for programs. An error of the node's is an [*Error] too, and
// errors.Is(err, abi.ErrTimeout) and the like tell them apart.
package wasilo
