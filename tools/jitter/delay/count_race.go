//go:build race

package delay

var calls uint64

// next numbers the calls, without an atomic operation: the race detector takes one for an agreement between goroutines. Two calls at
// the same moment may get the same number, which costs nothing but that.
//
//go:norace
func next() uint64 {
	calls++
	return calls
}
