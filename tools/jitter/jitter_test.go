package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A module with a glimpse before an act: two goroutines look whether the seat is free, and then take it. With one processor nobody comes
// between the two lines, however often it is tried, unless one of them sleeps there.
var racy = map[string]string{
	"go.mod": "module example.com/m\n\ngo 1.26\n",
	"seat.go": `package m

import "sync"

type Seat struct {
	mu    sync.Mutex
	taken int
}

func (s *Seat) Free() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken == 0
}

func (s *Seat) Take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
}

func (s *Seat) TakeIfFree() {
	if s.Free() {
		s.Take()
	}
}
`,
	"seat_windows_386.go": "package m\n\nthis is excluded\n",
	"seat_test.go": `package m

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSeat(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 50 {
		var s Seat
		var group sync.WaitGroup
		group.Go(s.TakeIfFree)
		group.Go(s.TakeIfFree)
		group.Wait()
		if s.taken != 1 {
			t.Fatalf("taken by %d", s.taken)
		}
	}
}

// TestChild is for what a test starts with an environment of its own.
func TestChild(t *testing.T) {
	if len(os.Args) > 1 && os.Args[len(os.Args)-1] == "child" {
		began := time.Now()
		for range 100 {
			var s Seat
			s.Take()
		}
		os.Stdout.WriteString(time.Since(began).String() + "\n")
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=TestChild", "child")
	cmd.Env = []string{"SYSTEMROOT=" + os.Getenv("SYSTEMROOT")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(out)))
	if err != nil || d < 20*time.Millisecond {
		t.Errorf("the child is not delayed: %v, %v", d, err)
	}
}

func TestBreaks(t *testing.T) {
	t.Run("sub", func(t *testing.T) { panic("broken") })
}
`,
	"empty/empty.go": "package empty\n",
}

// module writes the racy module, with the delays of this one.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := make(map[string]string)
	for name, text := range racy {
		files[name] = text
	}
	delays, err := filepath.Glob(filepath.Join("delay", "*.go"))
	if err != nil || len(delays) == 0 {
		t.Fatal(delays, err)
	}
	for _, file := range delays {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files[delayDir+"/"+filepath.Base(file)] = string(text)
	}
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDelaysFindWhatPlainRunsDoNot runs the module's test as it is, and with delays.
func TestDelaysFindWhatPlainRunsDoNot(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles")
	}
	dir := module(t)
	before := tree(t, dir)
	plain := exec.Command("go", "test", "-vet=off", "-count=1", "-run", "^TestSeat$", ".")
	plain.Dir = dir
	plain.Env = append(os.Environ(), "PWD="+dir)
	if out, err := plain.CombinedOutput(); err != nil {
		t.Fatalf("a plain run shows it: %v\n%s", err, out)
	}
	jitter := func(args ...string) (int, string) {
		var out, said strings.Builder
		code := command(t.Context(), dir, args, &out, &said)
		t.Logf("%q: exit code %d\n%s%s", args, code, out.String(), said.String())
		return code, out.String()
	}

	// With so many delays each of the fifty tries finds it by a chance of more than a quarter.
	code, out := jitter("-every", "3", "-most", "2ms", "-seed", "7", "-runs", "2", "-run", "^TestSeat$", "./...")
	if code != 1 || !strings.Contains(out, "2/2  .") || !strings.Contains(out, "FAIL TestSeat: build/jitter/root-seed8.txt") || !strings.Contains(out, "2 FAILED") {
		t.Errorf("with delays")
	}
	again := regexp.MustCompile(`(?m)^again: go run ./tools/jitter (.*)$`).FindStringSubmatch(out)
	if want := "-every 3 -most 2ms -seed 7 -run '^TestSeat$' ."; again == nil || again[1] != want {
		t.Errorf("the command that repeats it: %q, want %q", again, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, "build", "jitter", "root-seed7.txt"))
	if err != nil || !strings.Contains(string(text), "    seat_test.go:22: taken by 2\n") || !strings.HasPrefix(string(text), again[0]+"\n") {
		t.Errorf("%v: the output of the failed run, with the lines of the tree:\n%s", err, text)
	}

	// Processes of the tests are delayed too, with no environment.
	if code, out := jitter("-every", "1", "-most", "2ms", "-seed", "7", "-run", "^TestChild$"); code != 1 || out != "" {
		t.Error("without packages: those of this project, which are not there")
	}
	if code, out := jitter("-every", "1", "-most", "2ms", "-seed", "9", "-run", "^TestChild$", "."); code != 0 || !strings.Contains(out, "none failed") {
		t.Error("the child")
	}
	if _, err := os.Stat(filepath.Join(dir, "build", "jitter", "root-seed9.txt")); !os.IsNotExist(err) {
		t.Errorf("a run that passed leaves its output: %v", err)
	}
	if code, out := jitter("-seed", "10", "-time", "1ns", "-run", "Breaks", "."); code != 1 || !strings.Contains(out, "FAIL TestBreaks/sub: ") {
		t.Error("a panic")
	}
	if code, out := jitter("-list", "./..."); code != 0 || out != ".\n" {
		t.Error("the list")
	}
	if code, _ := jitter("./empty"); code != 1 {
		t.Error("a package without tests")
	}
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("the tree has changed:\n%q\nbefore:\n%q", after, before)
	}
}

// tree is what a module holds, apart from what is built.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "build":
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		text, err := os.ReadFile(path)
		all = append(all, path+"\n"+string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"-h", 0, "go run ./tools/jitter [flags] [package…]"},
		{"-every 0", 2, "-every"},
		{"-most 0s", 2, "-most"},
		{"-runs 0", 2, "-runs"},
		{"-time 0s", 2, "-time"},
		{"-time 1m -runs 2", 2, "-time"},
		{"-run (", 1, "-run:"},
		{"-nonsense", 2, "-nonsense"},
		{"./nothing/of/this/name", 1, "go list"},
		{"fmt", 1, "fmt: it is not of this module"},
	} {
		var said strings.Builder
		if code := command(t.Context(), ".", strings.Fields(c.args), &said, &said); code != c.code || !strings.Contains(said.String(), c.says) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", c.args, code, c.code, c.says, said.String())
		}
	}
}

func TestScope(t *testing.T) {
	for rel, want := range map[string]bool{"cluster": true, "cluster/core": false, "serfwatch": true, "host": true, "host/silo/sleep": true, "host/forge": false,
		"abi": false, "guests/go": false, "tools/jitter": false, "hostile": false} {
		if inScope(rel) != want {
			t.Errorf("%s in scope: %v", rel, !want)
		}
	}
}

// TestAlone: what is run alone is there.
func TestAlone(t *testing.T) {
	for rel, match := range alone {
		k := pkg{rel: rel}
		if got := (&settings{}).wanted(k); got != match {
			t.Errorf("%s without -run: %q", rel, got)
		}
		if got := (&settings{match: "Other"}).wanted(k); got != "Other" {
			t.Errorf("%s with -run: %q", rel, got)
		}
		var text []byte
		files, _ := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(rel), "*_test.go"))
		for _, file := range files {
			more, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, more...)
		}
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(match, -1) {
			if !strings.Contains(string(text), "func "+name+"(t *testing.T)") {
				t.Errorf("%s has no %s any more", rel, name)
			}
		}
	}
}

func TestFailing(t *testing.T) {
	for said, want := range map[string]string{
		"=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n": "",
		"=== RUN   TestA\n=== RUN   TestA/x\n=== RUN   TestA/y\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\n    --- PASS: TestA/y (0.00s)\n" +
			"=== RUN   TestB\n    b_test.go:1: no\n--- FAIL: TestB (0.00s)\nFAIL\n": "TestA/x TestB",
		"=== RUN   TestA\n=== PAUSE TestA\n=== RUN   TestB\n=== PAUSE TestB\n=== RUN   TestC\n--- SKIP: TestC (0.00s)\n=== CONT  TestB\npanic: boom\n\ngoroutine 1": "TestB",
		"=== RUN   TestA\n--- FAIL: TestA (0.00s)\npanic: boom [recovered]\n":                                                                                       "TestA",
		"=== RUN   TestA\nfatal error: all goroutines are asleep\n":                                                                                                 "TestA",
		"goleak: found unexpected goroutines\n":                                                                                                                     "",
	} {
		if got := strings.Join(failing(said), " "); got != want {
			t.Errorf("%q\nfailing: %s, want %s", said, got, want)
		}
	}
	if got := few([]string{"a", "b", "c", "d", "e"}); got != "a, b, c and 2 more" {
		t.Error(got)
	}
}
