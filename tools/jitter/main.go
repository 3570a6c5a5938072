// Jitter runs tests with delays inside the code that they test.
//
//	go run ./tools/jitter                              every concurrent package, once
//	go run ./tools/jitter -time 20m ./host/silo        one package, again and again
//	go run ./tools/jitter -seed 7 -run Evict ./host/silo
//
// A race that needs a goroutine to stand still between two of its lines is not found by running tests often, nor on a machine that is
// busy: those lines are nanoseconds apart. So the compiler is given the packages with a call at the beginning of every function,
// function literal, if body and case of a select, which now and then sleeps: one call in -every, for less than -most, and one sleep in 200
// for fifty times as long (tools/jitter/delay). Production code and tests alike, of the packages that are named and of all in
// scope that they import. Nothing is changed on disk: the compiler gets an overlay, as with tools/mutants. The lines of failures are those of
// the tree.
//
// A line a run goes to stdout, with the tests that failed; all that a failed run said goes to -dir, with the command that repeats it.
// Progress goes to stderr. It ends with 1 if a run failed, with 130 if it was interrupted.
//
// A seed fixes which calls of a process sleep, and for how long. It does not fix the schedule: which goroutine makes the n-th call is
// decided anew each time, by the machine and what else runs on it. So a failure comes again with the same seed only often or
// sometimes; -runs and -time go on with the following seeds, and -run alone makes more of them in the same time. A test that
// fails here and is right shows in what it waits for: nothing may be expected within a time that is not a hang limit.
//
// Two of these at once need a -dir each.
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
	"syscall"
	"time"
)

// concurrent are the packages that are run when none is named.
var concurrent = []string{"./cluster", "./serfwatch", "./host", "./host/actor", "./host/silo", "./host/silo/sleep", "./host/link",
	"./host/consensus", "./host/gateway", "./host/module", "./host/engine", "./host/cmd/wasilo"}

// alone are the tests with goroutines of packages whose other tests are one goroutine's millions of steps: with delays
// those go on for many minutes, and have no race to show. -run asks for others.
var alone = map[string]string{"host/silo/sleep": "^(TestConcurrent|TestCloseMeanwhile)$"}

// settings are what the command line says.
type settings struct {
	every uint64
	most  time.Duration
	seed  uint64        // of the first run
	runs  int           // of each package
	time  time.Duration // not 0: instead of runs
	race  bool
	match string
	dir   string
	args  []string // packages, as typed
	out   io.Writer
	err   io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, ".", os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command runs the command line in a directory and returns the exit code.
func command(ctx context.Context, dir string, args []string, stdout, stderr io.Writer) int {
	s := &settings{out: stdout, err: stderr}
	fs := flag.NewFlagSet("jitter", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Uint64Var(&s.every, "every", 300, "one call of so many sleeps")
	fs.DurationVar(&s.most, "most", 8*time.Millisecond, "usual delays are shorter than this")
	fs.Uint64Var(&s.seed, "seed", 0, "of the first run; those after it have the numbers that follow (default: one by the clock)")
	fs.IntVar(&s.runs, "runs", 1, "of each package")
	fs.DurationVar(&s.time, "time", 0, "go on for so long, a run of each package in turn, instead of -runs")
	fs.BoolVar(&s.race, "race", false, "with the race detector")
	fs.StringVar(&s.match, "run", "", "only tests that match, as with go test")
	fs.StringVar(&s.dir, "dir", "build/jitter", "for what failed runs said, and for what is built, below the module")
	list := fs.Bool("list", false, "list the packages instead of running them")
	fs.Usage = func() {
		fmt.Fprint(stderr, "Jitter runs tests with delays inside the code that they test.\n\n  go run ./tools/jitter [flags] [package…]\n\nFlags:\n")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if s.every < 1 || s.most < 1 || s.runs < 1 || given["time"] && (s.time <= 0 || given["runs"]) {
		fs.Usage()
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "jitter:", err)
		return 1
	}
	if _, err := regexp.Compile(s.match); err != nil {
		return fail(fmt.Errorf("-run: %w", err))
	}
	if !given["seed"] {
		s.seed = uint64(time.Now().Unix())
	}
	s.args = fs.Args()
	p, err := openProject(ctx, dir, s)
	if err != nil {
		return fail(err)
	}
	if *list {
		for _, pkg := range p.named {
			fmt.Fprintln(stdout, pkg.name())
		}
		return 0
	}
	if !filepath.IsAbs(s.dir) {
		s.dir = filepath.Join(p.root, s.dir)
	}
	failed, err := p.run(ctx, s)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "jitter: interrupted")
		return 130
	case err != nil:
		return fail(err)
	case failed > 0:
		return 1
	}
	return 0
}
