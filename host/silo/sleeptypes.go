package silo

import bed "github.com/wasilo/wasilo/host/silo/sleep"

// The types of [Sleepers] are those of package sleep, whose Store is the one that nodes have.
type (
	Sleeper    = bed.Sleeper
	SleepInfo  = bed.Info
	SleepStats = bed.Stats
)

var _ Sleepers = (*bed.Store)(nil)
