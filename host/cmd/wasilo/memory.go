package main

import (
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/wasilo/wasilo/host"
)

// softMemory is the part of the memory at which the Go runtime collects garbage as hard as it may. The rest is for what it does not
// count: compiled modules, mapped files, the kernel's part of the process.
const softMemory = 0.8

// softMemoryLimit returns the limit that the Go runtime is to be given, and whether it is to be given one: not if it has one, and
// not where nobody knows what memory there is.
func softMemoryLimit(current int64, memory uint64, known bool) (int64, bool) {
	if current != math.MaxInt64 || !known || memory > math.MaxInt64 {
		return 0, false
	}
	return int64(float64(memory) * softMemory), true
}

// limitMemory has this process, which is a node's alone, collect its garbage in time rather than be killed for it. Garbage may
// take as much as the actors themselves: without a limit, a node in a cgroup dies although its actors would fit.
func (a *app) limitMemory(log *slog.Logger) {
	if slices.ContainsFunc(a.env, func(pair string) bool { return strings.HasPrefix(pair, "GOMEMLIMIT=") && pair != "GOMEMLIMIT=" }) {
		return // "off" is a wish too, and would read as no limit
	}
	memory, known := host.MachineMemory()
	if limit, ok := softMemoryLimit(debug.SetMemoryLimit(-1), memory, known); ok {
		debug.SetMemoryLimit(limit)
		log.Debug("the Go runtime's soft memory limit", "bytes", limit, "memory", memory)
	}
}
