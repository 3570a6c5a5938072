package host

import (
	"time"

	"github.com/wasilo/wasilo/serfwatch"
)

// A process that stands still (a stopped process, a machine that was suspended, a host that swaps) is given up by the others after
// a while, and its actors are activated elsewhere. It does not notice: when it goes on, it is a member again within moments, its share of the
// actors is its own again, and those that it still has in memory are older than what callers have been told meanwhile. So a node
// that stood still for as long as gossip needs to give it up ends its activations when it goes on, within moments: what its sockets
// brought while it stood is answered before or after.

// lapseAfter is the least that gossip takes to give a node up, by profile, with some room.
func lapseAfter(p serfwatch.Profile) time.Duration {
	switch p {
	case serfwatch.Fast:
		return 1250 * time.Millisecond // 1.34 s was the least measured
	case serfwatch.Local:
		return 3 * time.Second
	case serfwatch.WAN:
		return 15 * time.Second
	}
	return 4 * time.Second // LAN
}

// stallLook is how often a node looks at the clock.
const stallLook = 100 * time.Millisecond

// watchStalls ends all activations when the node has stood still for too long, unless it is alone.
func (n *network) watchStalls(limit time.Duration) {
	t := time.NewTicker(stallLook)
	defer t.Stop()
	for last := uptime(); ; {
		select {
		case <-t.C:
		case <-n.ctx.Done():
			return
		}
		n.stood(uptime()-last, limit)
		last = uptime()
	}
}

// stood is told how long the node has not looked at the clock.
func (n *network) stood(gap, limit time.Duration) {
	if top := n.runtime.View().Topology(); gap < limit || top == nil || top.Len() < 2 {
		return
	}
	n.log.Warn("this node stood still, and may have been given up by the others: its activations are ended", "for", gap.Round(time.Millisecond),
		"limit", limit)
	n.runtime.HandleLapse()
}
