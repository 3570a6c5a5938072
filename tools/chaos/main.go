// Chaos attacks a real cluster and checks what came of it.
//
//	go run ./tools/chaos -mode available -plan mixed -seed 1
//
// It starts five nodes, the real binary with real certificates, each on a host of its own in network namespaces; asks a few hundred
// registers through all gateways; kills, freezes and cuts off nodes meanwhile as the seed says; and holds what the clients were told,
// and what the nodes wrote down of their turns, against what the mode promises. The history stays in the directory of the run, beside a report
// to look at, and can be judged again with -judge.
//
// It takes Linux, and root or user namespaces; see the package netns below. Exit codes: 0 the run passed, 1 it did not or could not be
// run, 2 wrong usage, 3 the machine lacks what it takes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/tools/chaos/netns"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitMissing = 3
)

func main() {
	netns.Enter()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

// command runs the command line and returns the exit code.
func command(ctx context.Context, args []string, stderr io.Writer) int {
	c := &config{say: stderr}
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&c.plan, "plan", "mixed", "what is done: "+strings.Join(slices.Sorted(maps.Keys(plans)), ", "))
	fs.StringVar(&c.mode, "mode", modeAvailable, "of the cluster: available or quorum")
	fs.Uint64Var(&c.seed, "seed", 1, "of the schedule and of the clients' requests")
	fs.DurationVar(&c.length, "time", 75*time.Second, "of the faults of plan mixed; the others take what they take")
	fs.IntVar(&c.nodes, "nodes", 5, "how many")
	fs.IntVar(&c.voters, "voters", 5, "of them, in mode quorum, those that vote")
	fs.IntVar(&c.registers, "registers", 0, "actors that are asked (default: what suits the plan)")
	least := fs.Int("least", leastSuccesses, "successes without which a run says nothing")
	fs.StringVar(&c.binary, "wasilo", "", "`FILE` of the node's binary (default: it is built)")
	fs.BoolVar(&c.upgrade, "upgrade", false, "with plan rolling, nodes come back as a wasilo that speaks newer versions (build tag nextversion)")
	fs.StringVar(&c.dir, "out", "", "`DIR` of the run, emptied before it (default build/chaos/PLAN-MODE-SEED below the module)")
	fs.BoolVar(&c.keep, "keep", false, "keep the data of the nodes too")
	again := fs.String("judge", "", "judge the run in `DIR` again instead of making one")
	fs.Usage = func() {
		fmt.Fprintln(stderr, "Chaos attacks a real cluster in network namespaces and checks what came of it.\n\nPlans:")
		for _, name := range slices.Sorted(maps.Keys(plans)) {
			fmt.Fprintf(stderr, "  %-9s %s\n", name, plans[name].about)
		}
		fmt.Fprintln(stderr, "\nFlags:")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "chaos:", err)
		if missing := new(netns.MissingError); errors.As(err, &missing) {
			return exitMissing
		}
		return exitFailed
	}
	if *again != "" {
		c.dir = *again
		s, err := c.verdict(*least)
		if err != nil {
			return fail(err)
		}
		return c.tell(s)
	}
	if _, ok := plans[c.plan]; !ok || fs.NArg() > 0 || c.nodes < 3 || c.voters < 1 || c.voters > c.nodes || c.registers < 0 || c.length <= 0 ||
		c.mode != modeAvailable && c.mode != modeQuorum || c.upgrade && (c.plan != "rolling" || c.mode != modeQuorum) {
		fs.Usage()
		return exitUsage
	}
	if err := netns.Missing(); err != nil {
		return fail(err)
	}
	var err error
	if c.root, err = moduleRoot(); err != nil {
		return fail(err)
	}
	if c.dir == "" {
		c.dir = filepath.Join(c.root, "build", "chaos", fmt.Sprintf("%s-%s-%d", c.plan, c.mode, c.seed))
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return fail(err)
	}
	s, err := c.whole(ctx, *least)
	if err != nil {
		return fail(err)
	}
	return c.tell(s)
}

// whole makes a run and judges it; least is that of judge.
func (c *config) whole(ctx context.Context, least int) (*summary, error) {
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	if _, err := c.attack(ctx); err != nil {
		return nil, fmt.Errorf("%w (what there is of the run is in %s)", err, c.dir)
	}
	s, err := c.verdict(least)
	if err == nil && !c.keep {
		err = c.tidy()
	}
	return s, err
}

// verdict judges the run in the directory and writes the summary and the report.
func (c *config) verdict(least int) (*summary, error) {
	rec, ops, logs, err := read(c.dir)
	if err != nil {
		return nil, err
	}
	s := judge(rec, ops, logs, least)
	if err := writeJSON(filepath.Join(c.dir, summaryFile), s); err != nil {
		return nil, err
	}
	page, err := report(rec, ops, s)
	if err != nil {
		return nil, err
	}
	return s, os.WriteFile(filepath.Join(c.dir, reportFile), page, 0o644)
}

// tell says how the run went and returns the exit code.
func (c *config) tell(s *summary) int {
	share := 0.0
	if s.Successes > 0 {
		share = 100 * float64(s.During) / float64(s.Successes)
	}
	fmt.Fprintf(c.say, "%d successes, %.0f %% during %d faults; %d refused, %d unknown; %d actors under %d epochs; %d lived twice\n",
		s.Successes, share, s.Faults, s.Refused, s.Unknown, s.Actors, s.Epochs, s.Double)
	for _, f := range s.Findings {
		switch {
		case f.Found > 0 && f.Promised:
			fmt.Fprintf(c.say, "  VIOLATED  %s: %d\n", f.Check, f.Found)
		case f.Found > 0:
			fmt.Fprintf(c.say, "  found     %s: %d (the mode %s does not promise it)\n", f.Check, f.Found, s.Mode)
		default:
			fmt.Fprintf(c.say, "  holds     %s\n", f.Check)
		}
	}
	fmt.Fprintln(c.say, "report:", filepath.Join(c.dir, reportFile))
	if s.Pass {
		fmt.Fprintln(c.say, "PASS")
		return exitOK
	}
	fmt.Fprintln(c.say, "FAIL:\n  "+strings.Join(s.Why, "\n  "))
	return exitFailed
}

// moduleRoot is the directory of the module that the working directory is in.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above: run it inside the module")
		}
		dir = up
	}
}
