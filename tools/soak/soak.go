package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// every is how often a running target says how it goes.
const every = 30 * time.Second

// soak runs the part's targets that are still to be run and writes the report when all are done. The state is saved
// after each target, and when ctx ends.
func soak(ctx context.Context, s *settings, p part) (*state, error) {
	targets, err := p.targets(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(targets) == 0 {
		return nil, errors.New("there is nothing to run: no target matches")
	}
	st, err := openState(s, p, targets)
	if err != nil {
		return nil, err
	}
	if _, ok := p.(inTurn); ok {
		if err := turns(ctx, s, p, st); err != nil {
			return st, errors.Join(err, st.save())
		}
	}
	for i := range st.Targets {
		t := &st.Targets[i]
		if t.Done {
			continue
		}
		err := one(ctx, s, p, st, i)
		if serr := st.save(); err == nil {
			err = serr
		}
		if err != nil {
			return st, err
		}
	}
	failed := "no failure"
	if n := st.failures(); n > 0 {
		failed = fmt.Sprintf("%d FAILED", n)
	}
	fmt.Fprintf(s.err, "soak %s: %d targets, %s\n", p.name(), len(st.Targets), failed)
	if s.reports != "" {
		file, err := writeReport(s, p, st)
		if err != nil {
			return st, fmt.Errorf("the report: %w", err)
		}
		fmt.Fprintln(s.err, "report:", file)
	}
	return st, st.remove() // the next run is a new one
}

// one runs one target for what is left of its time.
func one(ctx context.Context, s *settings, p part, st *state, i int) error {
	t := &st.Targets[i]
	before, said := *t, time.Now()
	tell := func(now stretch) {
		t.add(p.columns(), before, now)
		if time.Since(said) >= every {
			said = time.Now()
			progress(s.err, p, st, i, "")
		}
	}
	progress(s.err, p, st, i, "")
	got, err := p.run(ctx, s, t.Name, max(st.Time-t.Elapsed, time.Second), tell)
	t.add(p.columns(), before, got)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	failure := got.failure
	if err != nil {
		failure = err.Error()
	}
	t.Done, t.Failure = true, failure
	verdict := "ok"
	if failure != "" {
		verdict = "FAILED\n" + failure
	}
	progress(s.err, p, st, i, verdict)
	return nil
}

// progress writes one line: where the run is, how the target does, how long the rest will take.
func progress(w io.Writer, p part, st *state, i int, verdict string) {
	t := st.Targets[i]
	line := fmt.Sprintf("soak %s %d/%d %s: %s of %s", p.name(), i+1, len(st.Targets), t.Name,
		t.Elapsed.Round(time.Second), st.Time)
	for c, col := range p.columns() {
		if c < len(t.Counts) {
			line += fmt.Sprintf(", %s %s", col.text(t.Counts[c]), col.title)
		}
	}
	if left := st.left(); left > 0 {
		line += fmt.Sprintf("; about %s left", left.Round(time.Second))
	}
	if verdict != "" {
		line += ": " + verdict
	}
	fmt.Fprintln(w, line)
}

// text is a count as people read it.
func (c column) text(n int64) string {
	if c.name {
		return fmt.Sprint(n)
	}
	return thousands(n)
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
