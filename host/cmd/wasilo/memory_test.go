package main

import (
	"io"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"github.com/wasilo/wasilo/host"
)

func TestSoftMemoryLimit(t *testing.T) {
	for _, c := range []struct {
		current int64
		memory  uint64
		known   bool
		want    int64 // 0: none
	}{
		{math.MaxInt64, 1000 << 20, true, 800 << 20},
		{math.MaxInt64, 1000 << 20, false, 0},
		{1 << 30, 1000 << 20, true, 0},
		{math.MaxInt64, math.MaxUint64, true, 0},
	} {
		if got, ok := softMemoryLimit(c.current, c.memory, c.known); got != c.want || ok != (c.want > 0) {
			t.Errorf("%+v: %d, %v", c, got, ok)
		}
	}
}

// The limit is the process's: it is set once, and not against what the environment says.
func TestMemoryIsLimitedUnlessTheEnvironmentSays(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	limit := func(env ...string) int64 {
		debug.SetMemoryLimit(math.MaxInt64)
		(&app{env: env, stderr: io.Discard}).limitMemory(slog.New(slog.DiscardHandler))
		return debug.SetMemoryLimit(-1)
	}
	want := int64(math.MaxInt64)
	if memory, known := host.MachineMemory(); known {
		want, _ = softMemoryLimit(want, memory, true)
	}
	for _, env := range [][]string{nil, {"GOMEMLIMIT="}, {"XGOMEMLIMIT=1"}} {
		if got := limit(env...); got != want {
			t.Errorf("%q: %d, want %d", env, got, want)
		}
	}
	for _, env := range [][]string{{"GOMEMLIMIT=off"}, {"A=b", "GOMEMLIMIT=1GiB"}} {
		if got := limit(env...); got != math.MaxInt64 {
			t.Errorf("%q: %d", env, got)
		}
	}
}
