package main

import (
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"strings"
)

// heapStep is by how much of itself the limit must change to be set anew: each time costs the Go runtime a short stop.
const heapStep = 1.0 / 32

// heapLimiter returns what sets the Go runtime's soft memory limit as the node's budget says, nil where the environment or somebody else
// has set one. The process is a node's alone. Garbage may take as much as the actors themselves: without a limit, a node in a cgroup dies
// although its actors would fit. What the limit is depends on what the memories of actors take beside the Go heap, and follows it.
func (a *app) heapLimiter(log *slog.Logger) func(bytes int64) {
	if slices.ContainsFunc(a.env, func(pair string) bool { return strings.HasPrefix(pair, "GOMEMLIMIT=") && pair != "GOMEMLIMIT=" }) {
		return nil // "off" is a wish too, and would read as no limit
	}
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return nil
	}
	set := int64(0)
	return func(bytes int64) { // one at a time
		if d := bytes - set; bytes > 0 && (set == 0 || float64(max(d, -d)) > float64(set)*heapStep) {
			if set == 0 {
				log.Debug("the Go runtime's soft memory limit", "bytes", bytes)
			}
			set = bytes
			debug.SetMemoryLimit(bytes)
		}
	}
}
