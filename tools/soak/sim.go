package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wasilo/wasilo/cluster/core/sim"
)

// simulating runs 10,000 seeds of the cluster's simulator. A target is a thousand of them, "seeds FIRST-LAST"; one that is interrupted begins
// anew. -time is a limit: a target that does not get through in it has failed.
type simulating struct{}

// Sizes of the run.
const (
	simTargets = 10
	simSeeds   = 1000 // of a target
)

func (simulating) name() string         { return "sim" }
func (simulating) usual() time.Duration { return 10 * time.Minute }
func (simulating) about() string {
	return "10,000 seeds of the simulated cluster, a thousand at a time"
}

// simColumns are the counts of the report, with what of [sim.Stats] makes them up.
var simColumns = []struct {
	title  string
	fields []string
}{
	{"seeds", []string{"Seeds"}},
	{"cuts", []string{"Cuts", "OneWay", "Pairwise", "Isolated", "StoreCuts"}},
	{"messages lost", []string{"Lost"}},
	{"late or doubled", []string{"Late", "Doubled"}},
	{"pauses", []string{"Pauses"}},
	{"suspensions", []string{"Suspends"}},
	{"crashes", []string{"Crashes", "QuickRestarts"}},
	{"power cycles", []string{"PowerCycles"}},
	{"faults in moves", []string{"AtMoves", "AtReleases"}},
	{"elections", []string{"Elections"}},
	{"recoveries", []string{"Recoveries"}},
	{"voters added, removed", []string{"VotersAdded", "VotersRemoved"}},
	{"proposals lost or doubled", []string{"LostProposals", "Repeated"}},
	{"expiries", []string{"Expiries"}},
	{"moves", []string{"Moves"}},
	{"moves aborted", []string{"Aborts"}},
	{"states moved", []string{"Images"}},
	{"drains", []string{"Drains"}},
	{"kinds changed", []string{"KindChanges"}},
	{"requests", []string{"Requests"}},
	{"cache hits", []string{"Hits"}},
	{"redirects", []string{"Redirects"}},
	{"stale senders refused", []string{"StaleSenders", "StaleByMessage"}},
	{"turns", []string{"Turns"}},
	{"checks passed", []string{"Checks"}},
	{"checks failed", []string{"Refused"}},
	{"commits", []string{"Commits"}},
	{"stale commits", []string{"Stale"}},
	{"messages delivered", []string{"Delivered"}},
	{"probes after heal", []string{"Served"}},
}

func (simulating) columns() (all []column) {
	for _, c := range simColumns {
		all = append(all, column{title: c.title})
	}
	return all
}

func (simulating) targets(_ context.Context, s *settings) (all []string, err error) {
	for i := range simTargets {
		if t := fmt.Sprintf("seeds %d-%d", i*simSeeds+1, (i+1)*simSeeds); s.match.MatchString(t) {
			all = append(all, t)
		}
	}
	return all, nil
}

func (simulating) run(ctx context.Context, s *settings, target string, d time.Duration, tell func(stretch)) (stretch, error) {
	var first, last uint64
	if _, err := fmt.Sscanf(target, "seeds %d-%d", &first, &last); err != nil {
		return stretch{}, fmt.Errorf("target %q: %w", target, err)
	}
	began := time.Now()
	var mu sync.Mutex
	var total sim.Stats
	var failures []string
	seed := first
	// take hands out the next seed, and takes the result of the one before.
	take := func(r *sim.Result) (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if r != nil {
			total.Add(&r.Stats)
			if v := r.Violation; v != nil {
				failures = append(failures, fmt.Sprintf("seed %d: %s broken at %v: %s\nreplay: go test ./cluster/core/sim -run TestSimulation -v -seed %d",
					r.Seed, v.Invariant, v.At, v.Text, r.Seed))
			}
			tell(stretch{spent: time.Since(began), counts: simCounts(&total)})
		}
		if seed > last || ctx.Err() != nil || time.Since(began) >= d || len(failures) >= 5 {
			return 0, false
		}
		seed++
		return seed - 1, true
	}
	var wg sync.WaitGroup
	for range s.workers {
		wg.Go(func() {
			for n, ok := take(nil); ok; {
				r := sim.Run(sim.Options{Seed: n})
				n, ok = take(&r)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return stretch{}, nil // it begins anew
	}
	if n := uint64(total.Seeds); n < last-first+1 && len(failures) == 0 {
		failures = append(failures, fmt.Sprintf("only %d of %d seeds in %v: give it more -time", n, last-first+1, d))
	}
	return stretch{spent: time.Since(began), counts: simCounts(&total), failure: strings.Join(failures, "\n")}, nil
}

// simCounts are the columns of what was counted.
func simCounts(total *sim.Stats) []int64 {
	counts := make([]int64, len(simColumns))
	total.Each(func(name string, n int64) {
		for i, c := range simColumns {
			if slices.Contains(c.fields, name) {
				counts[i] += n
			}
		}
	})
	return counts
}
