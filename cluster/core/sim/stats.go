package sim

import (
	"fmt"
	"reflect"
	"strings"
)

// Stats counts what happened, so that one can see that a run is not empty.
type Stats struct {
	Seeds, Calm, Available int
	Events                 uint64

	// Faults.
	Cuts, OneWay, Pairwise, Isolated, StoreCuts, Heals              int
	Lost, Late, Doubled                                             int
	Suspends, GapPasses                                             int
	Pauses, Crashes, QuickRestarts, PowerCycles, Drifts             int
	Elections, Transfers, Inherited, LostProposals, Repeated        int
	VotersAdded, VotersRemoved, DisksLost, Installed                int
	Recoveries, LostEntries, Replays, Snapshots                     int
	KindChanges, Drains, Leaves, Boots, AtMoves, AtReleases, Blocks int
	Entries, Renewals, Void, Expiries, SessionsLost, Regroups       int
	MovesBegun, Moves, Aborts, HandOvers, HandOversFailed           int
	TakenIn, Images, Restored, StatesLost, OwnerChanges             int
	Requests, Succeeded, TimedOut, Failed, Tries                    int
	Stuck, SendersAhead, StaleSenders, StaleByMessage, FarAhead     int
	Hits, HeldEntries, Invalidated, Redirects                       int
	Activations, Turns, HostCalls, Checks, Refused                  int
	Commits, Stale, Unknown, Messages, Delivered, Probes, Served    int
}

// Add adds what another run counted.
func (s *Stats) Add(o *Stats) {
	to, from := reflect.ValueOf(s).Elem(), reflect.ValueOf(o).Elem()
	for i := range to.NumField() {
		if f := to.Field(i); f.CanInt() {
			f.SetInt(f.Int() + from.Field(i).Int())
		} else {
			f.SetUint(f.Uint() + from.Field(i).Uint())
		}
	}
}

// Each calls f for every count, in the order of the fields.
func (s *Stats) Each(f func(name string, n int64)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		n := int64(0)
		if c := v.Field(i); c.CanInt() {
			n = c.Int()
		} else {
			n = int64(c.Uint())
		}
		f(v.Type().Field(i).Name, n)
	}
}

// String is one line.
func (s *Stats) String() string {
	var b strings.Builder
	s.Each(func(name string, n int64) { fmt.Fprintf(&b, "%s %d, ", name, n) })
	return strings.TrimSuffix(b.String(), ", ")
}
