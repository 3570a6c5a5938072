package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// hang ends a run that does not end; the longest take minutes, with delays and on a busy machine a multiple of that.
	hang = 40 * time.Minute

	// often is how often a run that goes on says so.
	often = 30 * time.Second
)

// run runs the packages in turn, until each had its runs or the time is up, and returns how many runs failed.
func (p *project) run(ctx context.Context, s *settings) (failed int, err error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return 0, err
	}
	overlay, err := p.overlay(s.dir)
	if err != nil {
		return 0, err
	}
	binaries := make([]string, len(p.named))
	for i, k := range p.named {
		fmt.Fprintf(s.err, "jitter: building %d/%d: %s\n", i+1, len(p.named), k.rel)
		if binaries[i], err = p.build(ctx, s, k, overlay); err != nil {
			return 0, err
		}
	}
	began, n := time.Now(), 0
	var again []string
	for round := 0; s.time > 0 || round < s.runs; round++ {
		for i, k := range p.named {
			if s.time > 0 && n > 0 && time.Since(began) >= s.time {
				return len(again), p.summary(s, n, began, again)
			}
			count := fmt.Sprintf("%3d", n+1)
			if s.time == 0 {
				count += fmt.Sprintf("/%d", s.runs*len(p.named))
			}
			seed := s.seed + uint64(round)
			r, err := p.once(ctx, s, k, binaries[i], seed)
			if err != nil {
				return len(again), err
			}
			n++
			verdict := "ok"
			if r.err != nil {
				verdict = fmt.Sprintf("FAIL %s: %s", strings.Join(r.failing, ", "), p.short(r.file))
				again = append(again, p.again(s, k, seed))
			}
			fmt.Fprintf(s.out, "%s  %-18s seed %d  %6.1fs  %s\n", count, k.rel, seed, r.took.Seconds(), verdict)
		}
	}
	return len(again), p.summary(s, n, began, again)
}

// summary ends the output; its error is always nil.
func (p *project) summary(s *settings, n int, began time.Time, again []string) error {
	verdict := "none failed"
	if len(again) > 0 {
		verdict = fmt.Sprintf("%d FAILED", len(again))
	}
	fmt.Fprintf(s.out, "%d runs in %s, one call in %d delayed by less than %s: %s\n", n, time.Since(began).Round(time.Second), s.every, s.most, verdict)
	for _, a := range again {
		fmt.Fprintln(s.out, "again:", a)
	}
	return nil
}

// again is the command that repeats a run.
func (p *project) again(s *settings, k pkg, seed uint64) string {
	words := []string{"go run ./tools/jitter", fmt.Sprintf("-every %d -most %s -seed %d", s.every, s.most, seed)}
	if s.race {
		words = append(words, "-race")
	}
	if s.match != "" {
		words = append(words, "-run '"+strings.ReplaceAll(s.match, "'", `'\''`)+"'")
	}
	return strings.Join(append(words, k.name()), " ")
}

// short is a path for people.
func (p *project) short(file string) string {
	if rel, err := p.below(file); err == nil {
		return rel
	}
	return file
}

// result is how a run ended.
type result struct {
	took    time.Duration
	err     error    // nil: it passed
	failing []string // tests
	file    string   // with all that it said
}

// wanted is which of a package's tests are run.
func (s *settings) wanted(k pkg) string {
	if s.match == "" {
		return alone[k.rel]
	}
	return s.match
}

// once runs the tests of a package once. Its error is why it could not be run, not that tests failed.
func (p *project) once(ctx context.Context, s *settings, k pkg, binary string, seed uint64) (r result, err error) {
	if err := os.WriteFile(p.settingsFile(s), fmt.Appendf(nil, "%d %d %d\n", s.every, s.most, seed), 0o644); err != nil {
		return r, err
	}
	r.file = filepath.Join(s.dir, fmt.Sprintf("%s-seed%d.txt", flat(k), seed))
	out, err := os.Create(r.file)
	if err != nil {
		return r, err
	}
	defer func() {
		err = errors.Join(err, out.Close())
		if r.err == nil {
			err = errors.Join(err, os.Remove(r.file))
		}
	}()
	fmt.Fprintln(out, "again:", p.again(s, k, seed))
	// With its output in a file, and not in a pipe, the run ends with its process, whatever that left behind.
	cmd := exec.CommandContext(ctx, binary, "-test.paniconexit0", "-test.v", "-test.timeout="+hang.String(), "-test.run="+s.wanted(k))
	cmd.Dir, cmd.Stdout, cmd.Stderr = k.dir, out, out
	cmd.Env = append(os.Environ(), "PWD="+k.dir)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(often)
	defer tick.Stop()
	for running := true; running; {
		select {
		case r.err = <-ended:
			running = false
		case <-tick.C:
			said, _ := os.ReadFile(r.file)
			fmt.Fprintf(s.err, "jitter: %s, seed %d: %s, now in %s\n", k.rel, seed, time.Since(began).Round(time.Second), few(unfinished(string(said))))
		}
	}
	r.took = time.Since(began)
	if ctx.Err() != nil {
		r.err = nil // it was ended: its output says nothing
		return r, ctx.Err()
	}
	if r.err != nil {
		said, err := os.ReadFile(r.file)
		if err != nil {
			return r, err
		}
		if r.failing = failing(string(said)); len(r.failing) == 0 {
			r.failing = []string{r.err.Error()}
		}
	}
	return r, nil
}

var (
	failLine  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+) `)
	eventLine = regexp.MustCompile(`(?m)^(?:=== (RUN|PAUSE|CONT) +|\s*--- (?:PASS|FAIL|SKIP): )(\S+)`)
	broke     = regexp.MustCompile(`(?m)^(panic: |fatal error: |unexpected fault address|SIG[A-Z]+: )`)
)

// failing are the tests that failed, without those that failed only by their subtests; and if everything broke, or took too long, those
// that ran then.
func failing(said string) (tests []string) {
	for _, m := range failLine.FindAllStringSubmatch(said, -1) {
		tests = append(tests, m[1])
	}
	if broke.MatchString(said) {
		tests = append(tests, unfinished(said)...)
	}
	slices.Sort(tests)
	return leaves(slices.Compact(tests))
}

// unfinished are the tests that were running when the output ended.
func unfinished(said string) []string {
	running := make(map[string]bool)
	for _, m := range eventLine.FindAllStringSubmatch(said, -1) {
		if m[1] == "RUN" || m[1] == "CONT" {
			running[m[2]] = true
		} else {
			delete(running, m[2])
		}
	}
	return leaves(slices.Sorted(maps.Keys(running)))
}

// leaves leaves out what has subtests in the list.
func leaves(tests []string) []string {
	return slices.DeleteFunc(slices.Clone(tests), func(t string) bool {
		return slices.ContainsFunc(tests, func(u string) bool { return strings.HasPrefix(u, t+"/") })
	})
}

// few names some tests.
func few(tests []string) string {
	const most = 3
	switch {
	case len(tests) == 0:
		return "no test"
	case len(tests) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(tests[:most], ", "), len(tests)-most)
	}
	return strings.Join(tests, ", ")
}
