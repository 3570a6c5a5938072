// Soak runs for long what `go test` runs for moments, and writes a dated report.
//
//	go run ./tools/soak -part fuzz -time 10m
//	go run ./tools/soak -part chaos -mode available
//	go run ./tools/soak -part jitter -time 20m
//
// A part is a list of targets, each run for the given time, one after another; part jitter runs them in turn, for the given time together. The state is kept in -dir: a run that was
// interrupted goes on where it was when the same command is given again, and the corpus of a fuzz target grows from
// run to run. A failure does not stop the others; it ends the command with 1, as an interruption does with 130. Progress
// and what is left go to stderr.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// parts are what can be soaked. A new one is a row here.
var parts = []part{fuzzing{}, simulating{}, chaos{}, jitter{}}

// part is one kind of long run.
type part interface {
	name() string
	about() string
	usual() time.Duration // for each target, where the command line says nothing
	columns() []column    // of the report
	// targets lists what there is to run, in order, in names that stay the same from run to run.
	targets(ctx context.Context, s *settings) ([]string, error)
	// run runs one target for that long, or until ctx ends, and calls tell with how it does. err is why it could not be run.
	run(ctx context.Context, s *settings, target string, d time.Duration, tell func(stretch)) (stretch, error)
}

// stretch is what a target did without interruption.
type stretch struct {
	spent   time.Duration // without building and the like
	counts  []int64       // one for each column of the part; nil: none yet
	failure string        // for the report; "": none
}

// column is one count that a part keeps of each target.
type column struct {
	title string
	keep  keep // what an interrupted run and its continuation make together
	rate  bool // worth a column of its own by the second
	name  bool // a number that names something: neither summed nor grouped by thousands
}

type keep int

const (
	keepSum keep = iota
	keepFirst
	keepLast
)

// settings are what the command line says.
type settings struct {
	root    string // the module
	dir     string // state and corpus
	reports string // directory of reports, "": none is written
	time    time.Duration
	workers int
	mode    string
	runs    int
	match   *regexp.Regexp
	fresh   bool
	seed    uint64    // of the next run, in parts that take turns
	err     io.Writer // progress
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stderr))
}

// command runs the command line and returns the exit code.
func command(ctx context.Context, args []string, stderr io.Writer) int {
	var names []string
	for _, p := range parts {
		names = append(names, p.name())
	}
	fs := flag.NewFlagSet("soak", flag.ContinueOnError)
	fs.SetOutput(stderr)
	s := &settings{err: stderr}
	name := fs.String("part", names[0], "what to run: "+strings.Join(names, ", "))
	fs.DurationVar(&s.time, "time", 0, "for each target, or for all that take turns (default: what is usual for the part)")
	fs.StringVar(&s.mode, "mode", "available", "of the cluster, in part chaos: available or quorum")
	fs.IntVar(&s.runs, "runs", 20, "targets of part chaos")
	fs.IntVar(&s.workers, "workers", runtime.NumCPU(), "processes that work on a target at once")
	fs.StringVar(&s.dir, "dir", "build/soak", "where the state and the corpus are kept, below the module")
	fs.StringVar(&s.reports, "report", "docs/reports", "directory for the report, below the module; empty: none")
	fs.BoolVar(&s.fresh, "fresh", false, "start anew instead of going on with an interrupted run")
	match := fs.String("run", "", "only targets that match this regular expression")
	fs.Usage = func() {
		fmt.Fprintln(stderr, "Soak runs for long what `go test` runs for moments.\n\nParts:")
		for _, p := range parts {
			fmt.Fprintf(stderr, "  %-8s %s\n", p.name(), p.about())
		}
		fmt.Fprintln(stderr, "\nFlags:")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "soak:", err)
		return 1
	}
	usual := true // no time was given
	fs.Visit(func(f *flag.Flag) { usual = usual && f.Name != "time" })
	var err error
	if s.match, err = regexp.Compile(*match); err != nil {
		return fail(fmt.Errorf("-run: %w", err))
	}
	if fs.NArg() > 0 || !usual && s.time <= 0 || s.runs <= 0 || s.workers <= 0 {
		fs.Usage()
		return 2
	}
	for _, p := range parts {
		if p.name() != *name {
			continue
		}
		if usual {
			s.time = p.usual()
		}
		if s.root, err = moduleRoot(); err != nil {
			return fail(err)
		}
		s.dir = below(s.root, s.dir)
		if s.reports != "" {
			s.reports = below(s.root, s.reports)
		}
		st, err := soak(ctx, s, p)
		switch {
		case ctx.Err() != nil:
			fmt.Fprintln(stderr, "soak: interrupted; the same command goes on from here")
			return 130
		case err != nil:
			return fail(err)
		case st.failures() > 0:
			return fail(fmt.Errorf("%d of %d targets failed", st.failures(), len(st.Targets)))
		}
		return 0
	}
	return fail(fmt.Errorf("no part %q: there is %s", *name, strings.Join(names, ", ")))
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

func below(root, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(root, path)
}
