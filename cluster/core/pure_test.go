//go:build !wasip1

package core

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// restricted are tests of this package that cannot run where there are neither processes nor writable files, and why.
var restricted = map[string]string{
	"TestA6_1_BuildsForTheRestrictedEnvironment":      "it starts the compiler",
	"TestA6_1_TheTestsPassInTheRestrictedEnvironment": "it starts the compiler, and would run itself",
}

// goWasip1 runs the go command for the restricted environment.
func goWasip1(t *testing.T, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestA6_1_BuildsForTheRestrictedEnvironment: the core builds and vets, tests included, where there are no sockets and threads.
func TestA6_1_BuildsForTheRestrictedEnvironment(t *testing.T) {
	for _, args := range [][]string{{"build", "."}, {"vet", "."}, {"test", "-c", "-o", os.DevNull, "."}} {
		if out, err := goWasip1(t, args...); err != nil {
			t.Errorf("GOOS=wasip1 GOARCH=wasm go %v: %v\n%s", args, err, out)
		}
	}
}

// TestA6_1_TheTestsPassInTheRestrictedEnvironment: every test of this package passes as WebAssembly, run by wazero, but for those named in
// restricted.
func TestA6_1_TheTestsPassInTheRestrictedEnvironment(t *testing.T) {
	runner := filepath.Join(t.TempDir(), "wasip1.exe")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", runner, "../../tools/wasip1").CombinedOutput(); err != nil {
		t.Fatalf("the runner: %v\n%s", err, out)
	}
	out, err := goWasip1(t, "test", "-exec", runner, "-count=1", "-v", ".")
	if err != nil {
		t.Errorf("in WebAssembly: %v\n%s", err, lastLines(out, 60))
	}
	passed := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^--- PASS: (Test\w+) `).FindAllStringSubmatch(out, -1) {
		passed[m[1]] = true
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllStringSubmatch(string(text), -1) {
			if _, cannot := restricted[m[1]]; !cannot && !passed[m[1]] {
				t.Errorf("%s (%s) did not pass in WebAssembly", m[1], file)
			}
		}
	}
	if len(passed) == 0 {
		t.Errorf("no test ran:\n%s", lastLines(out, 20))
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
