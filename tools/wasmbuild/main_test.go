package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var fixtures = filepath.Join("..", "..", "testdata", "wasm")

// TestManifestOfTheRepository holds every module to its hash, and the MANIFEST to the folder.
func TestManifestOfTheRepository(t *testing.T) {
	m, err := readManifest(fixtures)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.checkSums(); err != nil {
		t.Error(err)
	}
	for _, mod := range m.Modules {
		if mod.Command != "" && mod.Source == "" {
			t.Errorf("%s is built, but names no source", mod.File)
		}
	}
}

// folder makes a folder with a MANIFEST of these tables, and files.
func folder(t *testing.T, manifest string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files[manifestName] = manifest
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sumOfX is the sha256 of "x".
const sumOfX = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"

const tableX = "[[module]]\nfile = \"deep/x.wasm\"\nsource = \"x.src\"\ncommand = \"head -c 1 x.src\"\nsha256 = \"" + sumOfX + "\"\n"

// inputsX goes below tableX: the inputs are "xy".
const inputsX = "inputs = [\"x.src\"]\ninputs_sha256 = \"059223c53f285ef60d1384c8cf931b4a62d8056f948580f1655bc92005426970\"\n"

func TestCheck(t *testing.T) {
	tests := []struct {
		name, manifest string
		files          map[string]string
		code           int
		says           string
	}{
		{"good", tableX, map[string]string{"deep/x.wasm": "x", "x.src": "xy"}, 0, "1 modules, 1 rebuilt to the same bytes"},
		{"tampered", tableX, map[string]string{"deep/x.wasm": "y", "x.src": "xy"}, 1, "the MANIFEST says 2d71"},
		{"source changed", tableX, map[string]string{"deep/x.wasm": "x", "x.src": "yx"}, 1, "is not what x.src builds to"},
		{"missing", tableX, map[string]string{"x.src": "xy"}, 1, "no such file"},
		{"not listed", "", map[string]string{"deep/x.wasm": "x"}, 1, "deep/x.wasm is not in the MANIFEST"},
		{"command fails", strings.Replace(tableX, "x.src\"\nsha", "none\"\nsha", 1), map[string]string{"deep/x.wasm": "x"}, 1, "exit status"},
		{"another toolchain", strings.Replace(tableX, "command", "toolchain = \"head 0\"\ncommand", 1),
			map[string]string{"deep/x.wasm": "x", "x.src": "xy"}, 0, "deep/x.wasm was not rebuilt: it needs head 0, here is "},
		{"no toolchain", strings.Replace(strings.Replace(tableX, "head -c", "no-such-tool -c", 1), "command", "toolchain = \"t 1\"\ncommand", 1),
			map[string]string{"deep/x.wasm": "x"}, 0, "deep/x.wasm was not rebuilt: it needs t 1, here is no no-such-tool"},
		{"listed twice", tableX + tableX, map[string]string{"deep/x.wasm": "x", "x.src": "xy"}, 1, "stands twice"},
		{"outside", "[[module]]\nfile = \"../x.wasm\"\n", map[string]string{}, 1, "is no .wasm file in this folder"},
		{"unknown key", "[[module]]\nfiel = \"x.wasm\"\n", map[string]string{}, 1, "unknown key"},
		{"inputs", tableX + inputsX, map[string]string{"deep/x.wasm": "x", "x.src": "xy"}, 0, "1 rebuilt"},
		{"inputs changed", tableX + inputsX, map[string]string{"deep/x.wasm": "x", "x.src": "xyz"}, 1, "build it again"},
		{"inputs gone", strings.Replace(tableX+inputsX, "[\"x.src", "[\"y.src", 1), map[string]string{"deep/x.wasm": "x", "x.src": "xy"}, 1, "y.src"},
		{"inputs outside", strings.Replace(tableX+inputsX, "[\"x.src", "[\"../x.src", 1), map[string]string{}, 1, "no path in this folder"},
		{"malformed", "[[module", map[string]string{}, 1, "MANIFEST"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var said bytes.Buffer
			code := run(context.Background(), []string{"-check", folder(t, tt.manifest, tt.files)}, &said)
			if code != tt.code || !strings.Contains(said.String(), tt.says) {
				t.Errorf("exit code %d, want %d and %q; it says\n%s", code, tt.code, tt.says, said.String())
			}
		})
	}
}

func TestRebuild(t *testing.T) {
	dir := folder(t, strings.Replace(tableX, sumOfX, "", 1), map[string]string{"deep/x.wasm": "old", "x.src": "xy"})
	var said bytes.Buffer
	for range 2 { // the second time nothing changes
		if code := run(context.Background(), []string{dir}, &said); code != 0 {
			t.Fatal(said.String())
		}
	}
	if got := strings.Count(said.String(), "changed"); got != 1 {
		t.Errorf("it says\n%s", said.String())
	}
	m, err := readManifest(dir)
	if err != nil || len(m.Modules) != 1 || m.Modules[0].SHA256 != sumOfX {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestManifestKeepsCommands(t *testing.T) {
	dir := t.TempDir()
	m := &manifest{dir: dir, Modules: []module{{File: "x.wasm", Source: "pkg", Toolchain: "go1.26", Command: goCommand + "pkg",
		Inputs: []string{"a", "b/c"}, InputsSHA256: "00"}}}
	if err := m.write(); err != nil {
		t.Fatal(err)
	}
	back, err := readManifest(dir)
	if err != nil || !reflect.DeepEqual(back.Modules, m.Modules) {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestSplit(t *testing.T) {
	words, err := split(goCommand + ` "a b"c  ""`)
	want := []string{"GOOS=wasip1", "GOARCH=wasm", "go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared",
		"-ldflags=-s -w", "-o", "$OUT", "a bc", ""}
	if err != nil || !slices.Equal(words, want) {
		t.Errorf("%q, %v", words, err)
	}
	if program(goCommand) != "go" {
		t.Errorf("the program is %q", program(goCommand))
	}
	if _, err := split(`a "b`); err == nil {
		t.Error("an open quote was accepted")
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-o", "x"}, {"-o", "x", "-check", "y"}, {"a", "b"}, {"-no-such-flag"}} {
		if code := run(context.Background(), args, &bytes.Buffer{}); code != 2 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

// TestBuildGo builds a small stock Go guest the way the examples are built.
func TestBuildGo(t *testing.T) {
	dir := folder(t, "", map[string]string{
		"go.mod":  "module example.com/guest\n\ngo 1.26\n",
		"main.go": "package main\n\nfunc main() {}\n\n//go:wasmexport wasilo_inbox\nfunc inbox(n uint32) uint32 { return n }\n",
	})
	t.Chdir(dir)
	var said bytes.Buffer
	if code := run(context.Background(), []string{"-o", "build/guest.wasm", "."}, &said); code != 0 {
		t.Fatal(said.String())
	}
	b, err := os.ReadFile("build/guest.wasm")
	if err != nil || !bytes.HasPrefix(b, []byte("\x00asm\x01\x00\x00\x00")) || !bytes.Contains(b, []byte("wasilo_inbox")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if !strings.Contains(said.String(), "building . with go") || !strings.Contains(said.String(), "guest.wasm: ") {
		t.Errorf("it says\n%s", said.String())
	}
	said.Reset()
	if code := run(context.Background(), []string{"-o", "build/guest.wasm", "./none"}, &said); code != 1 || !strings.Contains(said.String(), "none") {
		t.Errorf("exit code %d: %s", code, said.String())
	}
}
