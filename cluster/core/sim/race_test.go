//go:build race

package sim

// Simulations are single-threaded; the race detector only has to see that several at once share nothing.
func init() { *seeds = 60 }
