package silo

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// How long an actor has been idle is told by a clock that nobody sets: a step of the wall clock neither ends actors nor keeps them.
func TestIdlenessIsNotByTheWallClock(t *testing.T) {
	n := newNode(t, nil)
	n.must("a", "m", "x")
	e := n.silo.entry(id("a"))
	if used := e.act.LastUsed(); !strings.Contains(used.String(), " m=") || time.Since(used) < 0 || time.Since(used) > time.Minute {
		t.Errorf("used at %v, which has no monotonic part, or not now", used)
	}
	e.keptAwake(errors.New("not now"))
	if until := e.awake.Load(); !e.leftAlone(time.Now()) || !strings.Contains(until.String(), " m=") {
		t.Errorf("left alone until %v", until)
	}
	if e.leftAlone(time.Now().Add(longestAwake)) {
		t.Error("left alone for ever")
	}

	now := time.Now()
	first, later := n.silo.steady(now), n.silo.steady(now.Add(time.Hour))
	if later.Sub(first) != time.Hour || strings.Contains(first.String(), " m=") {
		t.Errorf("from %v to %v", first, later)
	}
	if d := first.Sub(now.Round(0)); d < -time.Minute || d > time.Minute { // nobody has set the clock
		t.Errorf("%s away from the wall clock", d)
	}
}
