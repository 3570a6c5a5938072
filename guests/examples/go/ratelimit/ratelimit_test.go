package ratelimit_test

import (
	"testing"
	"time"

	"github.com/wasilo/wasilo/guests/examples/go/ratelimit"
	"github.com/wasilo/wasilo/guests/go/wasilo"
	"github.com/wasilo/wasilo/guests/go/wasilotest"
)

func TestBucket(t *testing.T) {
	node := wasilotest.New(t, ratelimit.Kind)
	id := wasilo.ID("ratelimit", "ann")
	for i, step := range []struct {
		wait      time.Duration
		n         int64
		allowed   bool
		remaining int64
	}{
		{0, 3, true, 7},
		{0, 7, true, 0},
		{0, 1, false, 0},
		{999 * time.Millisecond, 1, false, 0},
		{time.Millisecond, 1, true, 0},
		{2500 * time.Millisecond, 3, false, 2},
		{0, 2, true, 0},
		{500 * time.Millisecond, 1, true, 0}, // the half that was left over
		{time.Hour, 11, false, 10},
		{0, 10, true, 0},
	} {
		node.Advance(step.wait)
		got, err := wasilotest.Call[ratelimit.Taken](node, id, "take", ratelimit.Take{N: step.n})
		if want := (ratelimit.Taken{Allowed: step.allowed, Remaining: step.remaining}); err != nil || got != want {
			t.Errorf("step %d: %+v, %v, want %+v", i, got, err, want)
		}
	}
	for _, n := range []int64{0, -1} {
		if _, err := wasilotest.Call[ratelimit.Taken](node, id, "take", ratelimit.Take{N: n}); wasilo.CodeOf(err) != ratelimit.InvalidCount {
			t.Errorf("take %d: %v", n, err)
		}
	}
}
