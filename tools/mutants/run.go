package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// testTimeout ends a test that a mutant makes wait for ever; that is noticed too.
const testTimeout = 2 * time.Minute

// job is one mutant of one row.
type job struct {
	row    *row
	mutant mutant
	number int // within its row, from 1
}

// run runs the tests of rows without a mutant, then each mutant, some at once, and prints a line for each.
func (p *project) run(ctx context.Context, rows []row, jobs int, w io.Writer) error {
	tmp, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	began := time.Now()
	if err := p.unmutated(ctx, rows, w); err != nil {
		return err
	}
	var all []job
	for i := range rows {
		for n, m := range rows[i].Mutants {
			all = append(all, job{&rows[i], m, n + 1})
		}
	}
	queue := make(chan job)
	var mu sync.Mutex // guards w, done and failed
	var group sync.WaitGroup
	done, failed := 0, 0
	for worker := range jobs {
		group.Go(func() {
			for j := range queue {
				start := time.Now()
				err := p.try(ctx, j.mutant, j.row, filepath.Join(tmp, fmt.Sprint(worker)))
				mu.Lock()
				done++
				verdict := "noticed by " + j.mutant.Fails
				if err != nil {
					failed++
					verdict = "ERROR: " + err.Error()
				}
				fmt.Fprintf(w, "%3d/%d  %-5s %d/%d  %-28s %-48s %4.1fs  %s\n", done, len(all), j.row.ID, j.number, len(j.row.Mutants), j.mutant.File,
					short(j.mutant.Code, 48), time.Since(start).Seconds(), verdict)
				mu.Unlock()
			}
		})
	}
	for _, j := range all {
		if ctx.Err() != nil {
			break
		}
		queue <- j
	}
	close(queue)
	group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d mutants: see ERROR above", failed, len(all))
	}
	fmt.Fprintf(w, "%d mutants of %d rows, each noticed by its row's test, in %s\n", len(all), len(rows), time.Since(began).Round(time.Second))
	return nil
}

// unmutated makes sure that the tests which are to fail pass without a mutant: all tests of the rows, in the packages concerned.
func (p *project) unmutated(ctx context.Context, rows []row, w io.Writer) error {
	wanted := make(map[string][]string) // by directory
	var prefixes []string
	for i := range rows {
		prefixes = append(prefixes, rows[i].prefix())
		for _, m := range rows[i].Mutants {
			wanted[p.tests[m.Fails]] = append(wanted[p.tests[m.Fails]], m.Fails)
		}
	}
	for dir, names := range wanted {
		start := time.Now()
		r := p.goTest(ctx, dir, "^("+strings.Join(prefixes, "|")+")", "")
		if r.err != nil {
			return fmt.Errorf("without a mutant the tests of %s do not pass: %w\n%s", dir, r.err, r.tail())
		}
		for _, name := range names {
			if !r.passed(name) {
				return fmt.Errorf("%s did not run in %s", name, dir)
			}
		}
		fmt.Fprintf(w, "unmutated: %s passes (%.1fs)\n", dir, time.Since(start).Seconds())
	}
	return nil
}

// unbuilt is what go test says of a package that does not compile; what a test says of one that it compiled is indented.
var unbuilt = regexp.MustCompile(`(?m)^FAIL\s+\S+ \[(build|setup) failed\]$`)

// try runs a row's tests with the mutant; nil says that they failed as they should.
func (p *project) try(ctx context.Context, m mutant, r *row, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := p.apply(m)
	if err != nil {
		return err
	}
	source, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(p.root, filepath.FromSlash(m.File)): source}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(source, []byte(text), 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		return err
	}
	got := p.goTest(ctx, p.tests[m.Fails], "^"+r.prefix(), overlay)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case unbuilt.MatchString(got.out):
		return fmt.Errorf("the mutant does not compile, give it a \"with\":\n%s", got.tail())
	case got.err == nil:
		return errors.New("no test notices: the row's tests pass")
	case !got.failed(m.Fails):
		return fmt.Errorf("%s did not fail, but:\n%s", m.Fails, got.tail())
	}
	return nil
}

// result is what go test said.
type result struct {
	out string
	err error
}

// goTest runs the tests of one package that match. The overlay goes into GOFLAGS: tests that start the go command themselves are to
// see the mutant too.
func (p *project) goTest(ctx context.Context, dir, match, overlay string) result {
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-count=1", "-v", "-timeout", testTimeout.String(), "-run", match, "./"+dir)
	cmd.Dir = p.root
	cmd.Env = os.Environ()
	if overlay != "" {
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return result{string(out), err}
}

func (r result) passed(test string) bool { return strings.Contains(r.out, "\n--- PASS: "+test+" ") }

// failed reports whether a test failed, or was the one that ran when everything broke or took too long.
func (r result) failed(test string) bool {
	if strings.Contains(r.out, "--- FAIL: "+test+" ") {
		return true
	}
	started := regexp.MustCompile(`(?m)^=== RUN   (Test\w+)$`).FindAllStringSubmatch(r.out, -1)
	broke := strings.Contains(r.out, "\npanic: ") || strings.Contains(r.out, "\nfatal error: ")
	return broke && len(started) > 0 && started[len(started)-1][1] == test
}

// tail is the end of what was said, for people.
func (r result) tail() string {
	lines := slices.DeleteFunc(strings.Split(r.out, "\n"), func(l string) bool { return strings.HasPrefix(l, "=== ") || l == "" })
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// short is code as one line of at most n characters.
func short(code string, n int) string {
	s := []rune(strings.Join(strings.Fields(code), " "))
	if len(s) > n {
		s = append(s[:n-1], '…')
	}
	return string(s)
}
