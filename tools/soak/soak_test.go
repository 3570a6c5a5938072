package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// scripted is a part whose targets do what the test says.
type scripted struct {
	list []string
	does func(ctx context.Context, target string, d time.Duration, tell func(stretch)) (stretch, error)
}

func (scripted) name() string         { return "scripted" }
func (scripted) about() string        { return "what the test says" }
func (scripted) usual() time.Duration { return time.Minute }
func (scripted) columns() []column {
	return []column{{title: "runs", rate: true}, {title: "at start", keep: keepFirst}, {title: "at end", keep: keepLast}}
}
func (p scripted) targets(context.Context, *settings) ([]string, error) { return p.list, nil }
func (p scripted) run(ctx context.Context, _ *settings, target string, d time.Duration, tell func(stretch)) (stretch, error) {
	return p.does(ctx, target, d, tell)
}

func newSettings(t *testing.T) (*settings, *strings.Builder) {
	t.Helper()
	root := t.TempDir()
	log := &strings.Builder{}
	return &settings{root: root, dir: filepath.Join(root, "build"), reports: filepath.Join(root, "reports"),
		time: 10 * time.Minute, workers: 1, match: regexp.MustCompile(""), err: log}, log
}

// TestInterruptedRunGoesOn: the second run does what is left of the interrupted target and the targets after it, and
// the report is of both.
func TestInterruptedRunGoesOn(t *testing.T) {
	s, log := newSettings(t)
	p := scripted{list: []string{"a", "b", "c"}}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.does = func(ctx context.Context, target string, d time.Duration, tell func(stretch)) (stretch, error) {
		if d != s.time {
			t.Errorf("%s runs for %v", target, d)
		}
		if target == "b" {
			cancel()
			return stretch{spent: 4 * time.Minute, counts: []int64{40, 1, 5}}, nil
		}
		return stretch{spent: d, counts: []int64{1000000, 1, 2}}, nil
	}
	if _, err := soak(ctx, s, p); !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted run ended with %v", err)
	}

	var ran []string
	p.does = func(ctx context.Context, target string, d time.Duration, tell func(stretch)) (stretch, error) {
		ran = append(ran, target+" "+d.String())
		if target == "c" {
			return stretch{spent: time.Minute, failure: "boom\nat input 7"}, nil
		}
		tell(stretch{spent: d / 2, counts: []int64{30, 5, 6}})
		return stretch{spent: d, counts: []int64{60, 5, 9}}, nil
	}
	st, err := soak(t.Context(), s, p)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(ran, ", "); got != "b 6m0s, c 10m0s" {
		t.Errorf("the second run ran %s", got)
	}
	if st.failures() != 1 || st.Stops != 1 {
		t.Errorf("%d failures, %d interruptions", st.failures(), st.Stops)
	}
	if !strings.Contains(log.String(), "going on with the run of") || !strings.Contains(log.String(), "FAILED\nboom") {
		t.Errorf("progress:\n%s", log)
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
		"**1 of 3 targets failed.**",
		"| interruptions | 1 |",
		"| target | time | runs | runs/s | at start | at end | result |\n|---|---|---:|---:|---:|---:|---|\n",
		"| `a` | 10m0s | 1,000,000 | 1,666 | 1 | 2 | ok |\n",
		"| `b` | 10m0s | 100 | 0 | 1 | 9 | ok |\n",
		"| `c` | 1m0s | – | – | – | – | **FAILED** |\n",
		"`c`\n\n```text\nboom\nat input 7\n```\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}

	// That run is over: the next one is new, and has a report of its own, numbered unless a new day has begun.
	ran = nil
	if _, err := soak(t.Context(), s, p); err != nil {
		t.Fatal(err)
	}
	if len(ran) != 3 {
		t.Errorf("the third run ran %v", ran)
	}
	after, _ := filepath.Glob(filepath.Join(s.reports, "*-soak-scripted*.md"))
	if len(after) != 2 {
		t.Fatalf("reports: %v", after)
	}
	day := func(file string) string { return filepath.Base(file)[:len(time.DateOnly)] }
	if numbered := slices.ContainsFunc(after, func(f string) bool { return strings.HasSuffix(f, "-soak-scripted-2.md") }); numbered != (day(after[0]) == day(after[1])) {
		t.Errorf("reports: %v", after)
	}
}

// TestStateOfAnotherRun: another time a target is another run, and so is -fresh.
func TestStateOfAnotherRun(t *testing.T) {
	for _, change := range []func(*settings){
		func(s *settings) { s.time = time.Minute },
		func(s *settings) { s.fresh = true },
	} {
		s, _ := newSettings(t)
		ctx, cancel := context.WithCancel(t.Context())
		p := scripted{list: []string{"a"}}
		p.does = func(_ context.Context, _ string, d time.Duration, _ func(stretch)) (stretch, error) {
			cancel()
			return stretch{spent: d / 2}, nil
		}
		if _, err := soak(ctx, s, p); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		change(s)
		p.does = func(_ context.Context, _ string, d time.Duration, _ func(stretch)) (stretch, error) {
			if d != s.time {
				t.Errorf("it went on with %v", d)
			}
			return stretch{}, errors.New("cannot be built")
		}
		st, err := soak(t.Context(), s, p)
		if err != nil {
			t.Fatal(err)
		}
		if st.failures() != 1 || st.Targets[0].Failure != "cannot be built" {
			t.Errorf("a target that cannot be run is no failure: %+v", st.Targets)
		}
	}
}

func TestNothingToRun(t *testing.T) {
	s, _ := newSettings(t)
	if _, err := soak(t.Context(), s, scripted{}); err == nil {
		t.Error("no error")
	}
}

func TestFuzzLog(t *testing.T) {
	var l fuzzLog
	told := 0
	for line := range strings.Lines(`fuzz: elapsed: 0s, gathering baseline coverage: 0/192 completed
fuzz: elapsed: 0s, gathering baseline coverage: 192/192 completed, now fuzzing with 2 workers
fuzz: elapsed: 3s, execs: 325017 (108336/sec), new interesting: 11 (total: 203)
fuzz: elapsed: 1m6s, execs: 680218 (118402/sec), new interesting: 16 (total: 208)
--- FAIL: FuzzReader (66.53s)
    --- FAIL: FuzzReader (0.00s)
        reader_test.go:3: bug

    Failing input written to testdata/fuzz/FuzzReader/45d268a6ae455b59
    To re-run:
    go test -run=FuzzReader/45d268a6ae455b59
FAIL
`) {
		if l.line(strings.TrimSuffix(line, "\n")) {
			told++
		}
	}
	if got := l.counts(); got[0] != 680218 || got[1] != 192 || got[2] != 16 || got[3] != 208 || told != 2 {
		t.Errorf("counts %v, told %d times", got, told)
	}
	failure := l.failure("abi/cbor", errors.New("exit status 1"))
	if !strings.HasPrefix(failure, "--- FAIL: FuzzReader") || strings.Contains(failure, "elapsed") ||
		!strings.Contains(failure, "written to abi/cbor/testdata/fuzz/FuzzReader/45d268a6ae455b59") {
		t.Errorf("failure %q", failure)
	}
	if l.outOfTime(time.Hour, time.Minute) {
		t.Error("a failing input is taken for the end of time")
	}
	late := fuzzLog{other: []string{"--- FAIL: FuzzReader (60.20s)", "    context deadline exceeded", "FAIL"}}
	if !late.outOfTime(61*time.Second, time.Minute) {
		t.Error("the end of time is taken for a failure")
	}
	if late.outOfTime(30*time.Second, time.Minute) {
		t.Error("a failure before the end of time is taken for it")
	}
}

func TestFuzzTargets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x_test.go")
	source := `package x
func FuzzReader(f *testing.F) {}
func Fuzz(f *testing.F) {}
func Fuzz_x(f *testing.F) {}
func Fuzzy(f *testing.F) {}
func FuzzHelper(t *testing.T) {}
func FuzzTwo(f *testing.F, n int) {}
func TestFuzz(t *testing.T) {}
func (x) FuzzMethod(f *testing.F) {}
`
	if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	names, err := fuzzTargets(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names, " "); got != "FuzzReader Fuzz Fuzz_x" {
		t.Errorf("targets %s", got)
	}
}

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"-h", 0, "every fuzz target of the module"},
		{"-part nothing", 1, `no part "nothing": there is fuzz`},
		{"-time 0s", 2, "Parts:"},
		{"-time -1s", 2, "Parts:"},
		{"-part chaos -runs 0", 2, "Parts:"},
		{"-run (", 1, "-run:"},
		{"stray", 2, "-part"},
		{"-nonsense", 2, "-nonsense"},
	} {
		var out strings.Builder
		if code := command(t.Context(), strings.Fields(tc.args), &out); code != tc.code {
			t.Errorf("%s: exit code %d, want %d\n%s", tc.args, code, tc.code, out.String())
		}
		if !strings.Contains(out.String(), tc.says) {
			t.Errorf("%s does not say %q:\n%s", tc.args, tc.says, out.String())
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %s", n, got)
		}
	}
}
