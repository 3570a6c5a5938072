//go:build !race

package delay

import "sync/atomic"

var calls atomic.Uint64

// next numbers the calls.
func next() uint64 { return calls.Add(1) }
