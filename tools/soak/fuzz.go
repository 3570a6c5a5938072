package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// fuzzing runs every fuzz target of the module. A target is "DIR FuzzName". What a target found new is kept in
// DIR/corpus of the soak's directory and starts the next run; an input that fails goes to the package's testdata/fuzz, as
// `go test -fuzz` does it, where every later `go test` runs it.
type fuzzing struct{}

func (fuzzing) name() string         { return "fuzz" }
func (fuzzing) about() string        { return "every fuzz target of the module, for -time each" }
func (fuzzing) usual() time.Duration { return 10 * time.Minute }
func (fuzzing) columns() []column {
	return []column{
		{title: "execs", rate: true},
		{title: "inputs at start", keep: keepFirst}, // seeds of the target, and the corpus so far
		{title: "new inputs"},
		{title: "inputs at end", keep: keepLast},
	}
}

// targets finds the fuzz targets in the test files that this platform builds. `go test -list` says the same, but links
// every test binary of the module for it. A package that
// does not build is listed all the same, and fails when its target is run.
func (fuzzing) targets(ctx context.Context, s *settings) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-json=Dir,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = s.root
	out, err := cmd.Output()
	if err != nil {
		return nil, execError("go list", err)
	}
	var targets []string
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir                       string
			TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		dir, err := filepath.Rel(s.root, p.Dir)
		if err != nil {
			return nil, err
		}
		for _, f := range append(p.TestGoFiles, p.XTestGoFiles...) {
			names, err := fuzzTargets(filepath.Join(p.Dir, f))
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if t := filepath.ToSlash(dir) + " " + name; s.match.MatchString(t) {
					targets = append(targets, t)
				}
			}
		}
	}
	slices.Sort(targets)
	return targets, nil
}

// fuzzTargets names the functions of a test file that the testing package takes for fuzz targets.
func fuzzTargets(file string) (names []string, err error) {
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range tree.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Type.Params.NumFields() != 1 {
			continue
		}
		rest, ok := strings.CutPrefix(f.Name.Name, "Fuzz")
		if first, _ := utf8.DecodeRuneInString(rest); !ok || unicode.IsLower(first) {
			continue
		}
		if ptr, ok := f.Type.Params.List[0].Type.(*ast.StarExpr); ok {
			if sel, ok := ptr.X.(*ast.SelectorExpr); ok && sel.Sel.Name == "F" {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names, nil
}

func (fuzzing) run(ctx context.Context, s *settings, target string, d time.Duration, tell func(stretch)) (stretch, error) {
	dir, name, _ := strings.Cut(target, " ")
	flat := strings.ReplaceAll(dir, "/", "_")
	binary := filepath.Join(s.dir, "bin", flat+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz=Fuzz", "-o", binary, "./"+dir) // instrumented
	build.Dir = s.root
	if out, err := build.CombinedOutput(); err != nil {
		return stretch{}, fmt.Errorf("building the tests of %s: %w\n%s", dir, err, out)
	}
	// Inputs are not made smaller: a worker that the end of the time finds at it is taken for one that hangs, and the innocent input for one
	// that fails ("hung or terminated unexpectedly while minimizing: EOF", Go 1.26).
	cmd := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.fuzz=^"+name+"$", "-test.fuzztime="+d.String(), "-test.fuzzminimizetime=0s",
		"-test.fuzzcachedir="+filepath.Join(s.dir, "corpus", flat), "-test.parallel="+strconv.Itoa(s.workers))
	cmd.Dir = filepath.Join(s.root, filepath.FromSlash(dir))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its workers, then itself
	cmd.WaitDelay = 10 * time.Second
	return watchFuzz(ctx, cmd, dir, d, tell)
}

// watchFuzz runs the test binary and reads how it does.
func watchFuzz(ctx context.Context, cmd *exec.Cmd, dir string, d time.Duration, tell func(stretch)) (stretch, error) {
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return stretch{}, err
	}
	began := time.Now()
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		w.Close()
	}()
	var log fuzzLog
	var got stretch
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if log.line(strings.TrimRight(line, "\n")) {
			got.spent, got.counts = time.Since(began), log.counts()
			tell(got)
		}
		if err != nil {
			break
		}
	}
	err := <-ended
	got.spent = time.Since(began)
	if err != nil && ctx.Err() == nil && !log.outOfTime(got.spent, d) {
		got.failure = log.failure(dir, err)
	}
	return got, nil
}

// fuzzLog is what `go test -fuzz` prints.
type fuzzLog struct {
	execs, start, fresh, total int64
	other                      []string // lines that are no progress, the last of them
}

var (
	fuzzStart = regexp.MustCompile(`^fuzz: elapsed: \S+, gathering baseline coverage: \d+/(\d+) completed`)
	fuzzGoes  = regexp.MustCompile(`^fuzz: elapsed: \S+, execs: (\d+) \(\d+/sec\), new interesting: (\d+) \(total: (\d+)\)`)
)

// line takes one line and reports whether the counts changed.
func (l *fuzzLog) line(s string) bool {
	num := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n }
	if m := fuzzStart.FindStringSubmatch(s); m != nil {
		l.start = num(m[1])
		l.total = max(l.total, l.start)
		return false
	}
	if m := fuzzGoes.FindStringSubmatch(s); m != nil {
		l.execs, l.fresh, l.total = num(m[1]), num(m[2]), num(m[3])
		return true
	}
	const most = 60
	if l.other = append(l.other, s); len(l.other) > most {
		l.other = l.other[len(l.other)-most:]
	}
	return false
}

func (l *fuzzLog) counts() []int64 { return []int64{l.execs, l.start, l.fresh, l.total} }

// outOfTime recognises a failure that is none: as the time ends, the fuzzing engine may take the end of its own context
// for an error, without any input that fails (golang/go#75804).
func (l *fuzzLog) outOfTime(took, d time.Duration) bool {
	bare := slices.ContainsFunc(l.other, func(s string) bool { return strings.TrimSpace(s) == "context deadline exceeded" })
	found := slices.ContainsFunc(l.other, func(s string) bool { return strings.Contains(s, "Failing input written") })
	return took >= d && bare && !found
}

// failure is the end of the output, with the path of the input as seen from the module.
func (l *fuzzLog) failure(dir string, err error) string {
	text := strings.TrimSpace(strings.Join(l.other, "\n"))
	text = strings.ReplaceAll(text, "Failing input written to testdata/", "Failing input written to "+dir+"/testdata/")
	return fmt.Sprintf("%s\n(%v)", text, err)
}

// execError adds what a command said on stderr.
func execError(what string, err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%s: %w\n%s", what, err, bytes.TrimSpace(exit.Stderr))
	}
	return fmt.Errorf("%s: %w", what, err)
}
