package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// jitter runs tools/jitter: the tests of one concurrent package after another, with delays in the code under test, in turn until the
// time is up. Each run has a seed of its own.
type jitter struct{}

func (jitter) name() string { return "jitter" }
func (jitter) about() string {
	return "tests with delays in the code that they test, a run of each package in turn, for -time together"
}
func (jitter) usual() time.Duration { return time.Hour }
func (jitter) inTurn()              {}
func (jitter) columns() []column {
	return []column{{title: "runs"}, {title: "failed"}, {title: "first seed", keep: keepFirst, name: true}, {title: "last seed", keep: keepLast, name: true}}
}

// build builds the tool; what is up to date stays.
func (jitter) build(ctx context.Context, s *settings) (string, error) {
	tool := filepath.Join(s.dir, "bin", "jitter")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", tool, "./tools/jitter")
	cmd.Dir = s.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building ./tools/jitter: %w\n%s", err, out)
	}
	return tool, nil
}

// targets are the packages that the tool would run.
func (j jitter) targets(ctx context.Context, s *settings) (all []string, err error) {
	tool, err := j.build(ctx, s)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, tool, "-list")
	cmd.Dir = s.root
	out, err := cmd.Output()
	if err != nil {
		return nil, execError("jitter -list", err)
	}
	for _, t := range strings.Fields(string(out)) {
		if s.match.MatchString(t) {
			all = append(all, t)
		}
	}
	return all, nil
}

// run makes one run; one that was interrupted is made again.
func (j jitter) run(ctx context.Context, s *settings, target string, _ time.Duration, _ func(stretch)) (stretch, error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "bin", "jitter"), "-seed", fmt.Sprint(s.seed), "-dir", filepath.Join(s.dir, "jitter"), target)
	cmd.Dir = s.root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(s.err, &said) // a run may take minutes
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return stretch{}, nil
	}
	got, err := jitterRun(s.seed, time.Since(began), string(out), err)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, tail(said.String()))
	}
	return got, err
}

// jitterRun is what a run of the tool comes to. It prints nothing to stdout unless tests ran.
func jitterRun(seed uint64, spent time.Duration, out string, err error) (stretch, error) {
	got := stretch{spent: spent, counts: []int64{1, 0, int64(seed), int64(seed)}}
	switch exit := (*exec.ExitError)(nil); {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() == 1 && strings.Contains(out, "FAIL"):
		got.counts[1] = 1
		got.failure = tail(out)
	default:
		return stretch{spent: spent}, fmt.Errorf("jitter: %w", err)
	}
	return got, nil
}
