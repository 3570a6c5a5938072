package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/cluster/core/sim"
)

// TestSimulatingCountsWhatThereIs: each column is made of counts that the simulator has.
func TestSimulatingCountsWhatThereIs(t *testing.T) {
	known := map[string]bool{}
	new(sim.Stats).Each(func(name string, _ int64) { known[name] = true })
	for _, c := range simColumns {
		for _, f := range c.fields {
			if !known[f] {
				t.Errorf("column %q: the simulator counts no %s", c.title, f)
			}
		}
	}
}

// TestSimulatingRunsItsSeeds: each seed of a target is run once; what does not get through in its time has failed; what is interrupted
// counts nothing.
func TestSimulatingRunsItsSeeds(t *testing.T) {
	s, _ := newSettings(t)
	s.workers = 2
	var p simulating
	s.match = regexp.MustCompile("seeds 1-")
	if targets, err := p.targets(t.Context(), s); err != nil || len(targets) != 1 || targets[0] != "seeds 1-1000" {
		t.Fatalf("targets %q, %v", targets, err)
	}
	told := 0
	got, err := p.run(t.Context(), s, "seeds 11-14", time.Hour, func(stretch) { told++ })
	if err != nil || got.failure != "" || got.counts[0] != 4 || told != 4 {
		t.Errorf("%v, %q, counts %v, told %d times", err, got.failure, got.counts, told)
	}
	if got, err = p.run(t.Context(), s, "seeds 11-14", 0, func(stretch) {}); err != nil || !strings.Contains(got.failure, "only 0 of 4 seeds") {
		t.Errorf("without time: %v, %q", err, got.failure)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err = p.run(ctx, s, "seeds 11-14", time.Hour, func(stretch) {}); err != nil || got.counts != nil || got.failure != "" {
		t.Errorf("interrupted: %v, %+v", err, got)
	}
}
