package wasilo_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The README's actor builds as a module, and its test passes.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the Go toolchain")
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(name string) []byte {
		t.Helper()
		m := regexp.MustCompile("(?s)<!-- readme:" + name + " -->\n```[a-z]*\n(.*?)```\n").FindSubmatch(readme)
		if m == nil {
			t.Fatalf("the README has no block %q", name)
		}
		return m[1]
	}
	dir := t.TempDir()
	actor, test := filepath.Join(dir, "main.go"), filepath.Join(dir, "main_test.go")
	for path, text := range map[string][]byte{actor: block("actor"), test: block("test")} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(env []string, args ...string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %v: %v\n%s", args, err, out)
		}
	}
	const flags = `-trimpath -buildmode=c-shared -ldflags="-s -w"`
	if !bytes.Contains(block("build"), []byte(flags)) {
		t.Errorf("the README builds otherwise than by %s", flags)
	}
	run([]string{"GOOS=wasip1", "GOARCH=wasm"}, "build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w",
		"-o", filepath.Join(dir, "greeter.wasm"), actor)
	run(nil, "test", "-count=1", actor, test)
}
