// Command bench measures a node beside the floors that it stands on, in interleaved rounds of one run: on a noisy machine
// only ratios of neighbours count. Each figure is the median over the rounds with its spread; CPU per operation is all
// of this process, user and system, divided by the operations.
//
//	go run ./tools/bench [-time 1s] [-rounds 5] [-only local,…] [-out FILE]
//
// Progress goes to stderr, the report (Markdown) to -out, or to stdout.
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
	var b bench
	only := flag.String("only", "", "parts to run, comma-separated: "+strings.Join(partNames(), ", "))
	flag.DurationVar(&b.time, "time", time.Second, "how long each case runs in each round")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds")
	out := flag.String("out", "", "where the report goes; a date in it, as in docs/reports/2006-01-02-bench-local.md, is up to you")
	flag.Parse()
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
	// cases prepares the rows; what they need is closed by the functions that they add to b.cleanup.
	cases func(ctx context.Context, b *bench) ([]*measure, error)
}

func parts() []part {
	return []part{
		{"local", "Local requests, 64-byte payload", localNote, localCases},
		{"activate", "First request to a fresh identity: activation, one turn, nothing else", activateNote, activateCases},
		{"http", "Through the HTTP gateway, JSON", httpNote, httpCases},
		{"start", "From exec to ready", startNote, startCases},
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
	for _, name := range strings.FieldsFunc(only, func(r rune) bool { return r == ',' }) {
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
		if len(wanted) > 0 && !wanted[p.name] {
			continue
		}
		if err := b.part(ctx, p, &doc); err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return doc.String(), nil
}
