package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// goCommand builds a stock Go guest; it is what MANIFEST and examples use.
const goCommand = `GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -buildmode=c-shared -ldflags="-s -w" -o $OUT `

// rebuild builds every module that has a command, in place, and writes the MANIFEST anew. Modules whose toolchain is not
// here stay as they are.
func (m *manifest) rebuild(ctx context.Context, stderr io.Writer) error {
	var errs []error
	for i := range m.Modules {
		mod := &m.Modules[i]
		if mod.Command != "" {
			prog := program(mod.Command)
			if _, err := exec.LookPath(prog); err != nil {
				fmt.Fprintf(stderr, "%s was left as it is: %v\n", mod.File, err)
				continue
			}
			b, err := m.build(ctx, mod, stderr)
			if err == nil && mod.Toolchain != "" {
				mod.Toolchain, err = toolchain(ctx, prog)
			}
			if err == nil {
				err = replace(m.path(mod.File), b)
			}
			if err == nil {
				mod.InputsSHA256, err = m.inputsSHA256(mod)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", mod.File, err))
				continue
			}
		}
		sum, err := sha256File(m.path(mod.File))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if mod.SHA256 != sum {
			fmt.Fprintf(stderr, "%s changed\n", mod.File)
		}
		mod.SHA256 = sum
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := m.write(); err != nil {
		return err
	}
	return m.checkSums() // names the files that the MANIFEST lacks
}

// check compares files with hashes, then with what their sources build to, as far as the toolchains are here.
func (m *manifest) check(ctx context.Context, stderr io.Writer) error {
	errs := []error{m.checkSums()}
	same := 0
	have := make(map[string]string) // version by program
	for i := range m.Modules {
		mod := &m.Modules[i]
		if mod.Command == "" {
			continue
		}
		if mod.Toolchain != "" {
			prog := program(mod.Command)
			version, known := have[prog]
			if !known {
				var err error
				if version, err = toolchain(ctx, prog); err != nil {
					version = "no " + prog
				}
				have[prog] = version
			}
			if version != mod.Toolchain {
				fmt.Fprintf(stderr, "%s was not rebuilt: it needs %s, here is %s\n", mod.File, mod.Toolchain, version)
				continue
			}
		}
		built, err := m.build(ctx, mod, stderr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", mod.File, err))
			continue
		}
		kept, err := os.ReadFile(m.path(mod.File))
		if err == nil && !bytes.Equal(built, kept) {
			err = fmt.Errorf("%s is not what %s builds to; run wasmbuild and commit the result", mod.File, mod.Source)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		same++
	}
	fmt.Fprintf(stderr, "%d modules, %d rebuilt to the same bytes\n", len(m.Modules), same)
	return errors.Join(errs...)
}

// build runs a module's command and returns what it made.
func (m *manifest) build(ctx context.Context, mod *module, stderr io.Writer) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "wasmbuild-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "out.wasm")
	if program(mod.Command) == "go" {
		fmt.Fprintf(stderr, "building %s\n", mod.File)
	}
	stdout, err := command(ctx, m.dir, mod.Command, out)
	if err != nil || !strings.Contains(mod.Command, "$OUT") {
		return stdout, err
	}
	return os.ReadFile(out)
}

// buildGo builds a Go guest into out, and says how it goes: the first time takes a while.
func buildGo(ctx context.Context, out, pkg string, stderr io.Writer) error {
	version, err := toolchain(ctx, "go")
	if err != nil {
		return fmt.Errorf("building a Go guest takes the go command: %w", err)
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	start := time.Now()
	fmt.Fprintf(stderr, "building %s with %s\n", pkg, version)
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	done := make(chan error, 1)
	go func() {
		_, err := command(ctx, ".", goCommand+quote(pkg), out)
		done <- err
	}()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(stderr, "still building, %.0f s (the first time compiles Go's standard library for WebAssembly)\n",
				time.Since(start).Seconds())
			continue
		case err = <-done:
		}
		break
	}
	if err != nil {
		return err
	}
	st, err := os.Stat(out)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s: %.1f MB in %.1f s\n", filepath.Base(out), float64(st.Size())/1e6, time.Since(start).Seconds())
	return nil
}

// command runs a command line in dir with $OUT replaced. It understands NAME=value in front and double quotes; no shell.
func command(ctx context.Context, dir, line, out string) (stdout []byte, err error) {
	words, err := split(line)
	if err != nil {
		return nil, err
	}
	env := os.Environ()
	for len(words) > 0 && isAssignment(words[0]) {
		env = append(env, words[0])
		words = words[1:]
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("no command in %q", line)
	}
	for i, w := range words {
		if w == "$OUT" {
			words[i] = out
		}
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir, cmd.Env = dir, env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdout, err = cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return stdout, nil
}

// program is the name of what a command line runs.
func program(line string) string {
	words, _ := split(line)
	for _, w := range words {
		if !isAssignment(w) {
			return w
		}
	}
	return ""
}

func isAssignment(word string) bool {
	name, _, ok := strings.Cut(word, "=")
	return ok && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// split cuts a command line at spaces outside of double quotes.
func split(line string) (words []string, err error) {
	var word strings.Builder
	inWord, quoted := false, false
	for _, c := range line {
		switch {
		case c == '"':
			quoted, inWord = !quoted, true
		case c == ' ' && !quoted:
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed in %q", line)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// quote makes one word of s for split; a quote within s has no form and is dropped.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, "") + `"` }

// toolchain asks a program for its version, in the form that a MANIFEST has.
func toolchain(ctx context.Context, prog string) (string, error) {
	switch prog {
	case "go":
		out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
		return strings.TrimSpace(string(out)), err
	case "":
		return "", errors.New("no program")
	}
	out, err := exec.CommandContext(ctx, prog, "--version").Output()
	first, _, _ := strings.Cut(string(out), "\n")
	return prog + " " + strings.TrimSpace(first), err
}

// replace writes a file so that a reader sees the old or the new content.
func replace(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
