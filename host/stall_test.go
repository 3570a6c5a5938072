package host

import (
	"strconv"
	"testing"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

func TestANodeThatStoodStillEndsItsActivations(t *testing.T) {
	p := newParty(t)
	alone := p.add(p.config("n1", counting("count")))
	const limit = 7 * time.Second
	mustCall(t, alone, "count/a", "add", "")
	alone.net.stood(time.Hour, limit) // nobody can have taken over
	if got := mustCall(t, alone, "count/a", "add", ""); got != "2" {
		t.Errorf("alone: %s, want 2", got)
	}

	p.add(p.config("n2", counting("count")))
	p.agree()
	const identities = 40
	add := func(i int) string { return mustCall(t, p.nodes["n1"], "count/"+strconv.Itoa(i), "add", "") }
	for i := range identities {
		add(i)
	}
	p.nodes["n2"].net.stood(limit-1, limit)
	for i := range identities {
		if got := add(i); got != "2" {
			t.Errorf("count/%d after a short pause: %s, want 2", i, got)
		}
	}
	p.nodes["n2"].net.stood(limit, limit)
	ended := 0
	for i := range identities {
		switch got := add(i); {
		case p.owner("n1", "count/"+strconv.Itoa(i)) == "n1" && got != "3":
			t.Errorf("count/%d of the other node: %s, want 3", i, got)
		case got == "1":
			ended++
		case got != "3":
			t.Errorf("count/%d: %s", i, got)
		}
	}
	if ended == 0 || ended == identities {
		t.Errorf("%d of %d actors began anew", ended, identities)
	}
}

func TestUptimeGoesOn(t *testing.T) {
	a := uptime()
	time.Sleep(time.Millisecond)
	if d := uptime() - a; d < time.Millisecond {
		t.Errorf("a millisecond took %s", d)
	}
}

// A process that waits for a processor between the readings of two clocks is not one whose machine was suspended.
func TestClocksThatAreReadApart(t *testing.T) {
	var now time.Duration // of both clocks
	pauses := []time.Duration{0, 3 * core.SuspendMost, 0, 0, 3 * core.SuspendMost, 0, 0, 0, 0}
	read := func(ahead time.Duration) func() time.Duration {
		return func() time.Duration {
			at := now + ahead
			now += time.Microsecond
			if len(pauses) > 0 {
				now += pauses[0]
				pauses = pauses[1:]
			}
			return at
		}
	}
	const ahead = time.Hour
	if got := aheadBy(read(ahead), read(0)); got > ahead || got < ahead-time.Millisecond {
		t.Errorf("one clock is ahead by %v, want %v", got, ahead)
	}
	if len(pauses) > 0 {
		t.Errorf("%d readings were not made", len(pauses))
	}
}
