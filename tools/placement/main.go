// Placement measures how the placement strategies of package cluster/core spread actors over nodes, and writes a report.
//
//	go run ./tools/placement -out docs/reports/2026-11-28-placement.md
//
// Everything but the times follows from fixed seeds.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

func main() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) }

func command(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("placement", flag.ContinueOnError)
	fs.SetOutput(stderr)
	out := fs.String("out", "", "`FILE` for the report (default: print it)")
	actors := fs.Int("actors", 1_000_000, "how many")
	if err := fs.Parse(args); err != nil || fs.NArg() > 0 || *actors < 1 {
		return 2
	}
	p, err := populate(*actors)
	if err == nil {
		text := report(p, series(p, 10, 100), time.Now())
		if *out == "" {
			_, err = io.WriteString(stdout, text)
		} else {
			err = os.WriteFile(*out, []byte(text), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "placement:", err)
		return 1
	}
	return 0
}

// series measures every strategy with clusters of growing size: so many clusters, and changes of each.
func series(p *population, clusters, changes int) (all []figures) {
	for _, n := range []int{3, 5, 10, 20, 50, 100, 1000} {
		for _, s := range core.Strategies() {
			all = append(all, measure(s, n, s == (core.Weighted{}), clusters, changes, p))
		}
	}
	return all
}

func report(p *population, all []figures, now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Placement, %s\n", now.Format(time.DateOnly))
	line("How the strategies of `placement` spread %d actors. Command: `make placement`. Each row is of ten clusters with node names of their own, and of", p.total)
	line("100 nodes that join or leave each. `weighted` has nodes of the weights 1, 2, 3 and 4 in turn, and its figures are relative to a node's weight. All but the times follow from fixed seeds. %s %s/%s.\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	line("- **most**: what the node with the most has, by its fair share; 1 is perfect.")
	line("- **nothing**: nodes that own no partition.")
	line("- **moved**: what one node that joins or leaves moves, by its fair share, on average and at most; 1 is its own share. A join and a leave are the")
	line("  same change, seen from its two sides.")
	line("- **needless**: the share of moved partitions that go from one node that stays to another.")
	line("- **table**: the time to compute who owns which partition, which a node does once for all kinds with the same hosts, when those change.\n")
	line("| nodes | placement | most partitions | most actors | nothing | moved | at most | actors moved | needless | table |")
	line("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, f := range all {
		line("| %d | `%s` | %.2f | %.2f | %.0f %% | %.2f | %.2f | %.2f | %.0f %% | %s |", f.nodes, f.strategy, f.maxPartitions, f.maxActors, 100*f.none,
			f.moveMean, f.moveMax, f.moveActors, 100*f.extra, f.place.Round(time.Microsecond))
	}
	line("\nA lookup, from an identity to the member that owns it, takes %s whatever the strategy: it reads the table.\n", p.timeLookup())
	line("## What that says\n")
	line("- With `rendezvous` and `weighted` a change moves what the node gains or gives, and nothing else: 1/n on average, within the 1.2/n that was asked for.")
	line("  A single change may move more, since shares are whole partitions and of uneven number: how uneven, the column *most* says.")
	line("- `maglev` is even, to one partition. What it pays for that grows with the number of nodes: at 5 nodes a change moves 1.1/n, at 10 1.3/n, at")
	line("  100 more than four times what had to move: the more often turns change hands in filling the table, the more slots do. The paper wants more than a hundred")
	line("  slots for each node; 1,024 partitions are that up to 10 nodes.")
	line("- 1,000 nodes have 1.024 partitions each. No strategy makes that even: with `rendezvous` a third of the nodes has nothing and one has six times")
	line("  its share; with `maglev` 24 nodes have two partitions and 976 one, so that the most is 1.95. Actors follow partitions, a thousand each here.")
	line("  1,024 partitions are for some tens of nodes.")
	return b.String()
}
