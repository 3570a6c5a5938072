package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// state is a run on disk, from its start to its report.
type state struct {
	Part    string        `json:"part"`
	Time    time.Duration `json:"time_ns"` // for each target
	Began   time.Time     `json:"began"`
	Commits []string      `json:"commits"` // that were run, more than one if it went on after a change
	Stops   int           `json:"interruptions"`
	Targets []target      `json:"targets"`
	InTurn  bool          `json:"in_turn,omitempty"` // Time is for all targets together

	file string
}

// target is one of the things that a part runs.
type target struct {
	Name    string        `json:"name"`
	Done    bool          `json:"done,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns,omitempty"`
	Counts  []int64       `json:"counts,omitempty"` // one for each column of the part
	Failure string        `json:"failure,omitempty"`

	// Of a part whose targets take turns.
	Turns    int `json:"turns,omitempty"`
	Failures int `json:"failures,omitempty"`
}

// openState takes up the interrupted run of the same part and time, or begins one. Targets that are gone are dropped,
// new ones run.
func openState(s *settings, p part, targets []string) (*state, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	st := &state{file: filepath.Join(s.dir, p.name()+".json")}
	text, err := os.ReadFile(st.file)
	switch {
	case s.fresh || errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(text, st); err != nil {
			return nil, fmt.Errorf("%s: %w: start anew with -fresh", st.file, err)
		}
		if st.Part == p.name() && st.Time == s.time {
			st.Stops++
			fmt.Fprintf(s.err, "soak %s: going on with the run of %s\n", p.name(), st.Began.Local().Format(time.DateTime))
			break
		}
		st = &state{file: st.file}
	}
	if st.Part == "" {
		st.Part, st.Time, st.Began = p.name(), s.time, time.Now()
		_, st.InTurn = p.(inTurn)
	}
	known := st.Targets
	st.Targets = nil
	for _, name := range targets {
		t := target{Name: name}
		if i := slices.IndexFunc(known, func(k target) bool { return k.Name == name }); i >= 0 {
			t = known[i]
		}
		st.Targets = append(st.Targets, t)
	}
	if c := commit(s.root); !slices.Contains(st.Commits, c) {
		st.Commits = append(st.Commits, c)
	}
	return st, st.save()
}

// save replaces the file as a whole.
func (st *state) save() error {
	text, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(st.file+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(st.file+".new", st.file)
}

func (st *state) remove() error { return os.Remove(st.file) }

func (st *state) failures() (n int) {
	for _, t := range st.Targets {
		if t.Failure != "" {
			n++
		}
	}
	return n
}

// left is how long the targets that are not done still run, without what building them takes.
func (st *state) left() (d time.Duration) {
	if st.InTurn {
		d = st.Time
		for _, t := range st.Targets {
			d -= t.Elapsed
		}
		return max(d, 0)
	}
	for _, t := range st.Targets {
		if !t.Done {
			d += max(st.Time-t.Elapsed, 0)
		}
	}
	return d
}

// add makes t what it was before and a further stretch.
func (t *target) add(cols []column, before target, now stretch) {
	t.Elapsed, t.Counts = before.Elapsed+now.spent, before.Counts
	if len(now.counts) != len(cols) {
		return // the stretch has no counts yet
	}
	t.Counts = slices.Clone(now.counts)
	if len(before.Counts) != len(cols) {
		return
	}
	for i, c := range cols {
		switch c.keep {
		case keepSum:
			t.Counts[i] += before.Counts[i]
		case keepFirst:
			t.Counts[i] = before.Counts[i]
		}
	}
}
