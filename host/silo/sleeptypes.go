package silo

import (
	"time"

	"github.com/wasilo/wasilo/abi"
)

// The types of [Sleepers], as package sleep has them. They are to become aliases of its own: Sleeper = sleep.Sleeper,
// SleepInfo = sleep.Info, SleepStats = sleep.Stats.

// Sleeper is what is kept of one actor.
type Sleeper struct {
	Identity abi.Identity
	Epoch    abi.Epoch // of the lease it ended with
	Uses     uint8     // how often it was used lately, as the policy knows it
	Slept    time.Time
	State    []byte
}

// SleepInfo describes a sleeper.
type SleepInfo struct {
	Identity abi.Identity
	Epoch    abi.Epoch
	Uses     uint8
	Slept    time.Time
	Size     int // bytes of state
}

// SleepStats are figures of all sleepers.
type SleepStats struct {
	Sleepers int
	Bytes    int64 // of memory
}
