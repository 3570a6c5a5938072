package serfwatch

import (
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// Profile says how fast the gossip is, and how much it forgives. All nodes of a cluster should have the same.
type Profile string

// The profiles. Beside each: when the last of four nodes has found the fifth dead, then when both sides of a partition 2|3 have
// noticed, medians of a hundred runs on a fake clock (the package's tests log them).
const (
	Fast  Profile = "fast"  // 1.5 s, 4 s; one rack or one machine, with CPU to spare
	Local Profile = "local" // 5 s, 9 s; memberlist's own settings for loopback, but for one
	LAN   Profile = "lan"   // 6 s, 20 s; memberlist's own for one data centre. The default
	WAN   Profile = "wan"   // 40 s, 150 s; memberlist's own for several
)

// Profiles lists the profiles, fastest first.
func Profiles() []Profile { return []Profile{Fast, Local, LAN, WAN} }

// Figures that do not depend on the profile.
const (
	// reconnect is how often serf tries to reach a member that has failed: a partition heals within about that.
	reconnect = 2 * time.Second
	// forget is when a member that failed or left is forgotten. serf keeps them for a day; each run of a node is one.
	forget = 15 * time.Minute
)

// pace is what a profile comes down to.
type pace struct {
	list      *memberlist.Config
	dial      time.Duration // to connect; memberlist's own limit also covers the exchange, and is generous
	firstJoin time.Duration // how long Start waits for the seeds
	broadcast time.Duration // how long leaving waits for its two messages to go out, each
	linger    time.Duration // how long it then stays to answer probes, until the news has spread
}

// patient returns the pace with so much more time for answers.
func (p pace) patient(more time.Duration) pace {
	if more <= 0 {
		return p
	}
	p.dial += more
	p.firstJoin += more
	p.list.TCPTimeout += more
	// A suspicion lasts at least SuspicionMult intervals.
	p.list.SuspicionMult += int((more + p.list.ProbeInterval - 1) / p.list.ProbeInterval)
	return p
}

// pace returns the profile's settings, in a memberlist configuration that the caller may change.
func (p Profile) pace() (pace, error) {
	switch p {
	case Fast:
		c := memberlist.DefaultLANConfig()
		c.TCPTimeout = 2 * time.Second
		c.ProbeInterval, c.ProbeTimeout = 250*time.Millisecond, 100*time.Millisecond
		c.SuspicionMult, c.SuspicionMaxTimeoutMult, c.AwarenessMaxMultiplier = 4, 3, 4
		c.GossipInterval, c.PushPullInterval = 50*time.Millisecond, 5*time.Second
		return pace{c, time.Second, 2 * time.Second, time.Second, 500 * time.Millisecond}, nil
	case Local:
		c := memberlist.DefaultLocalConfig()
		c.RetransmitMult = 4 // with 2, in one leave of seven one of five nodes heard nothing of it, and took 20 s
		return pace{c, time.Second, 2 * time.Second, time.Second, 500 * time.Millisecond}, nil
	case LAN:
		return pace{memberlist.DefaultLANConfig(), 2 * time.Second, 4 * time.Second, 2 * time.Second, time.Second}, nil
	case WAN:
		return pace{memberlist.DefaultWANConfig(), 5 * time.Second, 10 * time.Second, 5 * time.Second, 3 * time.Second}, nil
	}
	return pace{}, fmt.Errorf("profile %q is none of %q", p, Profiles())
}
