package main

import (
	"io"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"
)

// The limit is the process's: it follows what the node says, and not against what the environment says.
func TestTheHeapIsLimitedUnlessTheEnvironmentSays(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	limiter := func(env ...string) func(int64) {
		debug.SetMemoryLimit(math.MaxInt64)
		return (&app{env: env, stderr: io.Discard}).heapLimiter(slog.New(slog.DiscardHandler))
	}
	for _, env := range [][]string{nil, {"GOMEMLIMIT="}, {"XGOMEMLIMIT=1"}} {
		limit := limiter(env...)
		for _, step := range []struct{ told, want int64 }{{1 << 40, 1 << 40}, {0, 1 << 40}, {1<<40 + 1<<30, 1 << 40}, {1 << 39, 1 << 39},
			{1 << 41, 1 << 41}} {
			if limit(step.told); debug.SetMemoryLimit(-1) != step.want {
				t.Errorf("%q: after %d it is %d, want %d", env, step.told, debug.SetMemoryLimit(-1), step.want)
			}
		}
	}
	for _, env := range [][]string{{"GOMEMLIMIT=off"}, {"A=b", "GOMEMLIMIT=1GiB"}} {
		if limiter(env...) != nil {
			t.Errorf("%q counts for nothing", env)
		}
	}
	debug.SetMemoryLimit(1 << 40)
	if (&app{stderr: io.Discard}).heapLimiter(slog.New(slog.DiscardHandler)) != nil {
		t.Error("another's limit counts for nothing")
	}
}
