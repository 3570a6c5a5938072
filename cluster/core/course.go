package core

import (
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Course is how a request goes on that another node has refused: at once to the node that the refusal names, or after a back-off. The zero
// value is its beginning.
type Course struct {
	hops  int // redirects since the last back-off
	jumps int // redirects in all
}

// MaxHops is how many redirects are followed before a back-off: views that name each other in a circle have to settle first.
const MaxHops = 2

// settling bounds the first back-offs after nodes were found to see different owners: mostly one of them learns within moments
// what the other knows, and this node's own view does not change by that.
const (
	settling      = 100 * time.Millisecond
	settlingTries = 8
)

// MayFollow reports whether the owner that a refusal names is worth a try: another one than the node that said so, and not this
// node, which would have known.
func (c *Course) MayFollow(owner, from, self NodeID) bool {
	return c.hops < MaxHops && owner != "" && owner != from && owner != self
}

// Follow says that it is tried.
func (c *Course) Follow() {
	c.hops++
	c.jumps++
}

// Backoff returns how long to wait after so many attempts; those that followed a redirect do not count. random is a number in [0, 1).
func (c *Course) Backoff(p RetryPolicy, attempts int, random float64) time.Duration {
	return p.Backoff(attempts-c.jumps, random)
}

// Pause is Backoff, for an attempt that failed with a code, and says that it is waited out.
func (c *Course) Pause(p RetryPolicy, attempts int, code abi.Code, random float64) time.Duration {
	d := c.Backoff(p, attempts, random)
	if (c.hops > 0 || code == abi.ErrOwnershipChanged) && attempts-c.jumps <= settlingTries {
		d = min(d, settling)
	}
	c.hops = 0
	return d
}
