package link

import "time"

// Between two attempts to connect to a node.
const (
	backoffFirst   = 50 * time.Millisecond
	backoffMost    = 2 * time.Second  // of a node that does not answer: it may be back at any moment
	backoffRefused = 10 * time.Second // of one that refuses this node: somebody has to mend something
	// provenAfter is how long a connection must have held for the next failure to count as the first.
	provenAfter = time.Second
)

// backoff returns how long to wait after so many failures in a row: doubling, from half of it to all by chance, so that nodes do
// not come back in step. chance is within [0, 1).
func backoff(failures int, refused bool, chance float64) time.Duration {
	if failures <= 0 {
		return 0
	}
	d, most := backoffFirst, backoffMost
	if refused {
		d, most = backoffMost, backoffRefused
	}
	for i := 1; i < failures && d < most; i++ {
		d *= 2
	}
	d = min(d, most)
	return d/2 + time.Duration(chance*float64(d/2))
}
