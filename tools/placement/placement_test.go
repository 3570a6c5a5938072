package main

import (
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// TestPlacement holds every strategy to bounds: 1,000 nodes and smaller clusters, a million actors.
func TestPlacement(t *testing.T) {
	p, err := populate(1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range p.perPartition { // 977 each; five standard deviations
		if n < 800 || n > 1150 {
			t.Errorf("a partition has %d actors of a million", n)
		}
	}
	type bounds struct {
		most     float64 // partitions of the fullest node, by its share
		actors   float64
		none     float64 // nodes without any
		moved    float64 // by one node's share, on average
		needless float64
	}
	for _, c := range []struct {
		strategy core.Strategy
		nodes    int
		bounds
	}{
		{core.Rendezvous{}, 5, bounds{1.15, 1.15, 0, 1.05, 0}},
		{core.Rendezvous{}, 20, bounds{1.35, 1.35, 0, 1.1, 0}},
		{core.Rendezvous{}, 1000, bounds{7, 7.5, 0.40, 1.2, 0}}, // 1.024 partitions a node
		{core.Weighted{}, 5, bounds{1.25, 1.25, 0, 1.05, 0}},
		{core.Weighted{}, 20, bounds{1.6, 1.6, 0, 1.1, 0}},
		{core.Weighted{}, 1000, bounds{13, 14, 0.47, 1.2, 0}},
		{core.Maglev{}, 5, bounds{1.01, 1.03, 0, 1.2, 0.15}},
		{core.Maglev{}, 20, bounds{1.02, 1.06, 0, 2, 0.5}}, // more than 1.2: the price of being even
		{core.Maglev{}, 1000, bounds{1.96, 2.4, 0, 7, 0.9}},
	} {
		f := measure(c.strategy, c.nodes, c.strategy == (core.Weighted{}), 4, 60, p)
		for _, check := range []struct {
			what       string
			got, bound float64
		}{{"most partitions", f.maxPartitions, c.most}, {"most actors", f.maxActors, c.actors}, {"nodes without any", f.none, c.none},
			{"moved partitions", f.moveMean, c.moved}, {"moved actors", f.moveActors, c.moved * 1.05}, {"needless moves", f.extra, c.needless}} {
			if check.got > check.bound {
				t.Errorf("%s, %d nodes: %s %.3f, want %.3f at most", f.strategy, f.nodes, check.what, check.got, check.bound)
			}
		}
		if f.moveMean < 0.8 || f.maxPartitions < 1 {
			t.Errorf("%s, %d nodes: %+v cannot be", f.strategy, f.nodes, f)
		}
	}
}

func TestReport(t *testing.T) {
	p, err := populate(5000)
	if err != nil {
		t.Fatal(err)
	}
	f := measure(core.Maglev{}, 5, false, 1, 2, p)
	text := report(p, []figures{f}, time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC))
	for _, want := range []string{"# Placement, 2026-11-28", "5000 actors", "| 5 | `maglev` | 1.00 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	var out, errs strings.Builder
	if code := command([]string{"extra"}, &out, &errs); code != 2 {
		t.Errorf("an argument too many: %d", code)
	}
}
