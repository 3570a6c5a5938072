package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// turning is a part whose targets have turns.
type turning struct{ scripted }

func (turning) inTurn()           {}
func (turning) columns() []column { return jitter{}.columns() }

// TestTurns: the targets run in turn until the time is up together; an interrupted run is made again with its seed, and those after it
// have seeds of their own; a target that fails goes on having turns.
func TestTurns(t *testing.T) {
	s, log := newSettings(t)
	var ran []string
	var first uint64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := turning{scripted{list: []string{"a", "b", "c"}}}
	p.does = func(_ context.Context, target string, _ time.Duration, _ func(stretch)) (stretch, error) {
		if first == 0 {
			first = s.seed
		}
		ran = append(ran, fmt.Sprint(target, s.seed-first))
		if len(ran) == 5 {
			cancel()
			return stretch{}, nil
		}
		got := stretch{spent: time.Minute, counts: []int64{1, 0, int64(s.seed), int64(s.seed)}}
		switch target {
		case "b":
			got.counts[1], got.failure = 1, fmt.Sprintf("boom %d", s.seed-first)
		case "c":
			return stretch{}, errors.New("cannot be built")
		}
		return got, nil
	}
	s.time = 6 * time.Minute
	if _, err := soak(ctx, s, p); !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted run ended with %v", err)
	}
	st, err := soak(t.Context(), s, p)
	if err != nil {
		t.Fatal(err)
	}
	// a and b take a minute each, c a second.
	if got, want := strings.Join(ran, " "), "a0 b1 c2 a3 b4 b4 c5 a6 b7"; got != want {
		t.Errorf("ran %s, want %s\n%s", got, want, log)
	}
	if st.failures() != 2 || st.Targets[1].Failure != "boom 1\n\nboom 4\n\nboom 7" {
		t.Errorf("%+v", st.Targets)
	}
	files, _ := filepath.Glob(filepath.Join(s.reports, "*-soak-scripted.md"))
	if len(files) != 1 {
		t.Fatalf("reports: %v", files)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("| `a` | 3m0s | 3 | 0 | %d | %d | ok |\n", first, first+6),
		fmt.Sprintf("| `b` | 3m0s | 3 | 3 | %d | %d | **FAILED** |\n", first+1, first+7),
		"| `c` | 2s | – | – | – | – | **FAILED** |\n",
		"| all | 6m2s | 6 | 3 |  |  | |\n",
		"boom 4\n\nboom 7\n```",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestJitterRun(t *testing.T) {
	out := "  1/1  host/silo  seed 7    1.0s  FAIL TestA: build/soak/jitter/host_silo-seed7.txt\nagain: go run ./tools/jitter -seed 7 ./host/silo\n"
	one := exec.Command("go", "nonsense").Run() // exits with 2
	if got, err := jitterRun(7, time.Second, "", nil); err != nil || got.failure != "" || !slices.Equal(got.counts, []int64{1, 0, 7, 7}) {
		t.Errorf("a run that passed: %+v, %v", got, err)
	}
	if got, err := jitterRun(7, time.Second, out, one); err == nil || got.failure != "" {
		t.Errorf("a run that could not be made: %+v, %v", got, err)
	}
	failed := exec.Command("go", "list", "./nothing").Run() // exits with 1
	if got, err := jitterRun(7, time.Second, out, failed); err != nil || !strings.Contains(got.failure, "again: go run") || !slices.Equal(got.counts, []int64{1, 1, 7, 7}) {
		t.Errorf("a run that failed: %+v, %v", got, err)
	}
	if got, err := jitterRun(7, time.Second, "", failed); err == nil {
		t.Errorf("one that did not build: %+v", got)
	}
}
