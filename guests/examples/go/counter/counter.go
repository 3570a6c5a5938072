// Package counter is the smallest actor that is of any use: every counter/NAME counts for itself.
//
// It is also the answer to a question that is awkward elsewhere, where to keep one number that many clients change at
// once: no lock, no transaction, no row, since one actor takes one message at a time.
//
// Like the other examples it hibernates: a counter that nobody asks for costs the node next to nothing, and counts on from where it was.
package counter

import "github.com/wasilo/wasilo/guests/go/wasilo"

// Counter is the state of one counter. It starts at zero and wraps around like any int64.
type Counter struct{ n int64 }

// Add is by how much to count; negative counts down.
type Add struct {
	By int64 `json:"by"`
}

// Value is what the counter shows.
type Value struct {
	Value int64 `json:"value"`
}

// Add counts and answers the new value.
func (c *Counter) Add(_ *wasilo.Context, in Add) (Value, error) {
	c.n += in.By
	return Value{c.n}, nil
}

// Get answers the value.
func (c *Counter) Get(*wasilo.Context, wasilo.None) (Value, error) { return Value{c.n}, nil }

// Kind is the kind "counter".
var Kind = wasilo.Kind("counter",
	wasilo.Method("add", (*Counter).Add, "Adds `by` and answers the new value."),
	wasilo.ReadOnly("get", (*Counter).Get, "Answers the value."),
).Doc("Counts, one number a name.").Hibernates()
