// Command bench measures a node beside the floors that it stands on, in interleaved rounds of one run: on a noisy machine
// only ratios of neighbours count. Each figure is the median over the rounds with its spread; CPU per operation is all
// of this process, user and system, and of the processes that serve it, divided by the operations.
//
//	go run ./tools/bench [-time 1s] [-rounds 5] [-only local,…] [-rows native] [-profiles fast,…] [-pprof DIR] [-out FILE]
//
// Progress goes to stderr, the report (Markdown) to -out, or to stdout. Where a part needs other nodes, they are processes of
// this same binary.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == childArg {
		if err := child(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench: a process that serves it:", err)
			os.Exit(1)
		}
		return
	}
	var b bench
	only := flag.String("only", "", "parts to run, comma-separated: "+strings.Join(partNames(), ", "))
	flag.DurationVar(&b.time, "time", time.Second, "how long each case runs in each round")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds")
	profiles := flag.String("profiles", "fast,local,lan", "gossip profiles of the part failover, comma-separated; a run of wan, the last one, takes a minute")
	flag.StringVar(&b.rows, "rows", "", "only the rows with this in their name, and floors")
	flag.StringVar(&b.pprof, "pprof", "", "a directory for CPU profiles of every case and process; they cost CPU themselves")
	out := flag.String("out", "", "where the report goes; a date in it, as in docs/reports/2006-01-02-bench-local.md, is up to you")
	flag.Parse()
	b.profiles = fields(*profiles)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report, err := b.run(ctx, *only)
	if err == nil {
		if *out == "" {
			fmt.Print(report)
		} else {
			err = os.WriteFile(*out, []byte(report), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one table of the report.
type part struct {
	name  string
	title string
	note  string
	asked bool // runs only where it is named
	// cases prepares the rows; what they need is closed by the functions that they add to b.cleanup.
	cases func(ctx context.Context, b *bench) ([]*measure, error)
	// after, if there is one, says what is to be said below the table.
	after func(rows []*measure) string
	// run, instead of cases, does all the work and returns its tables.
	run func(ctx context.Context, b *bench) (string, error)
}

func parts() []part {
	return []part{
		{name: "local", title: "Local requests, 64-byte payload", note: localNote, cases: localCases},
		{name: "remote", title: "Requests to another node, 64-byte payload", note: remoteNote, cases: remoteCases, after: remoteTargets},
		{name: "activate", title: "First request to a fresh identity: activation, one turn, nothing else", note: activateNote, cases: activateCases},
		{name: "idle", title: "Idle live actors", note: idleNote, run: idle},
		{name: "sleepers", title: "A million sleeping actors", note: sleepersNote, run: million},
		{name: "cycles", title: "What 200,000 lives leave behind", note: cyclesNote, run: lives},
		{name: "http", title: "Through the HTTP gateway, JSON", note: httpNote, cases: httpCases},
		{name: "start", title: "From exec to ready", note: startNote, cases: startCases},
		{name: "metering", title: "Metering: what fuel and stack cost", note: meteringNote, run: metering},
		{name: "weights", title: "Weights: what single instructions cost", note: weightsNote, run: weights, asked: true},
		{name: "hostile", title: "Under attack", note: hostileNote, run: hostile},
		{name: "failover", title: "A node comes, goes, and is killed", note: failoverNote, run: failover},
	}
}

func partNames() (names []string) {
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

func (b *bench) run(ctx context.Context, only string) (string, error) {
	wanted := map[string]bool{}
	for _, name := range fields(only) {
		wanted[name] = true
	}
	for name := range wanted {
		if !slices.Contains(partNames(), name) {
			return "", fmt.Errorf("no part %q; there are %s", name, strings.Join(partNames(), ", "))
		}
	}
	var doc strings.Builder
	b.preface(&doc)
	for _, p := range parts() {
		if !wanted[p.name] && (len(wanted) > 0 || p.asked) {
			continue
		}
		if err := b.part(ctx, p, &doc); err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return doc.String(), nil
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
