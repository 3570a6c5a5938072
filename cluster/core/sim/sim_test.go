package sim

import (
	"bytes"
	"flag"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seed  = flag.Uint64("seed", 0, "replay this seed alone, with its trace")
	seeds = flag.Uint64("seeds", 1000, "how many seeds to run")
	first = flag.Uint64("first", 1, "the first of them")
)

// TestSimulation runs many seeds, or with -seed one of them with its trace.
func TestSimulation(t *testing.T) {
	if *seed != 0 {
		r := Run(Options{Seed: *seed, Trace: os.Stdout})
		t.Logf("%s", &r.Stats)
		if v := r.Violation; v != nil {
			t.Errorf("%s broken at %v: %s", v.Invariant, v.At, v.Text)
		}
		return
	}
	var total Stats
	var mu sync.Mutex
	found := 0
	sweep(*first, *seeds, func(r *Result) bool {
		mu.Lock()
		defer mu.Unlock()
		total.Add(&r.Stats)
		if v := r.Violation; v != nil {
			found++
			t.Errorf("seed %d: %s broken at %v: %s\nreplay it with: go test ./cluster/core/sim -run TestSimulation -v -seed %d", r.Seed, v.Invariant, v.At,
				v.Text, r.Seed)
		}
		return found < 5
	})
	t.Logf("%s", &total)
	if found == 0 && *seeds >= 1000 {
		checkActivity(t, &total)
	}
}

// checkActivity fails for runs in which too little happened: such a simulator would find nothing. The figures are per 1,000 seeds, about a
// third of what there is.
func checkActivity(t *testing.T, s *Stats) {
	t.Helper()
	least := map[string]int64{"Calm": 90, "Available": 90, "Cuts": 300, "OneWay": 250, "Pairwise": 200, "Isolated": 300, "StoreCuts": 150,
		"Lost": 40000, "Late": 15000, "Doubled": 12000, "Pauses": 300, "Crashes": 200, "QuickRestarts": 200, "PowerCycles": 40, "Drifts": 120,
		"Elections": 900, "Transfers": 300, "Inherited": 500, "LostProposals": 500, "Repeated": 150, "Recoveries": 40, "LostEntries": 10,
		"Replays": 140, "Snapshots": 180, "KindChanges": 160, "Drains": 500, "Leaves": 110, "AtMoves": 50, "AtReleases": 30, "Blocks": 50, "Renewals": 70000,
		"Void": 1200, "Expiries": 500, "SessionsLost": 250, "Regroups": 500, "Moves": 10000, "Aborts": 45, "HandOversFailed": 50, "Images": 700,
		"Restored": 2, "StatesLost": 400, "Succeeded": 250000, "TimedOut": 13000, "Failed": 8000, "Turns": 300000, "HostCalls": 15000, "Checks": 650000,
		"Refused": 300, "Hits": 450000, "HeldEntries": 20000,
		"Invalidated": 38000, "Redirects": 3000, "VotersAdded": 60, "VotersRemoved": 70, "DisksLost": 45, "Installed": 30, "Suspends": 110,
		"GapPasses": 25, "Stuck": 400, "SendersAhead": 80, "StaleSenders": 40, "StaleByMessage": 1, "FarAhead": 4, "Commits": 70000, "Stale": 400, "Unknown": 1400, "Delivered": 8000, "Served": 20000}
	s.Each(func(name string, n int64) {
		if want := least[name] * int64(s.Seeds) / 1000; n < want {
			t.Errorf("%d %s in %d seeds; at least %d are wanted", n, name, s.Seeds, want)
		}
		delete(least, name)
	})
	for name := range least {
		t.Errorf("nothing counts %s", name)
	}
}

// sweep runs seeds, several at once, and tells each result until told to stop.
func sweep(first, count uint64, tell func(*Result) bool) {
	var next atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
				i := next.Add(1) - 1
				if i >= count {
					return
				}
				if r := Run(Options{Seed: first + i}); !tell(&r) {
					stop.Store(true)
				}
			}
		})
	}
	wg.Wait()
}

// TestOneSeedIsOneRun: two runs of a seed have one trace and one hash.
func TestOneSeedIsOneRun(t *testing.T) {
	for s := uint64(1); s <= min(20, *seeds/10); s++ {
		var a, b bytes.Buffer
		x, y := Run(Options{Seed: s, Trace: &a}), Run(Options{Seed: s, Trace: &b})
		if x.Hash != y.Hash || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("seed %d: hashes %x and %x", s, x.Hash, y.Hash)
		}
		if z := Run(Options{Seed: s}); z.Hash != x.Hash {
			t.Errorf("seed %d: without a trace it is another run", s)
		}
	}
}
