package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

const manifestName = "MANIFEST"

const manifestHeader = `# The prebuilt modules in this folder and what they were built from. Written by tools/wasmbuild: add a table, leave its
# sha256 out, run "go run ./tools/wasmbuild". Commands run in this folder; $OUT is the module, and a command that does not
# name it writes to its standard output. Modules without a command are written by hand. Where "inputs" names files and
# folders, their hash is kept beside the module's, so that a change to them is noticed where the toolchain is not.
`

// module is one table of a MANIFEST. Paths are relative to it, with slashes.
type module struct {
	File      string `toml:"file"`
	Source    string `toml:"source"`    // for people; Go packages by import path
	Toolchain string `toml:"toolchain"` // as its own version command prints it: "wat2wasm 1.0.32", "go1.26.8"; "" any
	Command   string `toml:"command"`   // "": there is none, the file is its own source
	SHA256    string `toml:"sha256"`

	// Inputs are the files and folders that the command reads, where that is to be held without its toolchain: their
	// hash is that of the last build. Empty for what is rebuilt wherever it is checked.
	Inputs       []string `toml:"inputs"`
	InputsSHA256 string   `toml:"inputs_sha256"`
}

// manifest is a folder's MANIFEST.
type manifest struct {
	dir     string
	Modules []module `toml:"module"`
}

func readManifest(dir string) (*manifest, error) {
	m := &manifest{dir: dir}
	path := filepath.Join(dir, manifestName)
	meta, err := toml.DecodeFile(path, m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if keys := meta.Undecoded(); len(keys) > 0 {
		return nil, fmt.Errorf("%s: unknown key %s", path, keys[0])
	}
	seen := make(map[string]bool)
	for _, mod := range m.Modules {
		if !fs.ValidPath(mod.File) || !strings.HasSuffix(mod.File, ".wasm") {
			return nil, fmt.Errorf("%s: %q is no .wasm file in this folder", path, mod.File)
		}
		if seen[mod.File] {
			return nil, fmt.Errorf("%s: %s stands twice", path, mod.File)
		}
		seen[mod.File] = true
		for _, in := range mod.Inputs {
			if !fs.ValidPath(in) {
				return nil, fmt.Errorf("%s: the input %q of %s is no path in this folder", path, in, mod.File)
			}
		}
	}
	return m, nil
}

// write replaces the MANIFEST, sorted by file.
func (m *manifest) write() error {
	sort.Slice(m.Modules, func(i, j int) bool { return m.Modules[i].File < m.Modules[j].File })
	var b bytes.Buffer
	b.WriteString(manifestHeader)
	for _, mod := range m.Modules {
		fmt.Fprintf(&b, "\n[[module]]\nfile = %q\n", mod.File)
		for _, kv := range [][2]string{{"source", mod.Source}, {"toolchain", mod.Toolchain}, {"command", mod.Command}} {
			if kv[1] != "" {
				fmt.Fprintf(&b, "%s = %s\n", kv[0], tomlString(kv[1]))
			}
		}
		fmt.Fprintf(&b, "sha256 = %q\n", mod.SHA256)
		if len(mod.Inputs) > 0 {
			fmt.Fprintf(&b, "inputs = [\"%s\"]\ninputs_sha256 = %q\n", strings.Join(mod.Inputs, `", "`), mod.InputsSHA256)
		}
	}
	return os.WriteFile(filepath.Join(m.dir, manifestName), b.Bytes(), 0o644)
}

// tomlString quotes commands, which hold quotes of their own, the readable way.
func tomlString(s string) string {
	if strings.Contains(s, `"`) && !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	return fmt.Sprintf("%q", s)
}

func (m *manifest) path(file string) string { return filepath.Join(m.dir, filepath.FromSlash(file)) }

// checkSums compares every file with its hash, and looks for modules that no table names.
func (m *manifest) checkSums() error {
	var errs []error
	known := make(map[string]bool)
	for _, mod := range m.Modules {
		known[mod.File] = true
		sum, err := sha256File(m.path(mod.File))
		switch {
		case err != nil:
			errs = append(errs, err)
		case sum != mod.SHA256:
			errs = append(errs, fmt.Errorf("%s has sha256 %s; the MANIFEST says %s", mod.File, sum, mod.SHA256))
		}
		if err := m.checkInputs(&mod); err != nil {
			errs = append(errs, err)
		}
	}
	err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".wasm" {
			return err
		}
		rel, err := filepath.Rel(m.dir, path)
		if err == nil && !known[filepath.ToSlash(rel)] {
			errs = append(errs, fmt.Errorf("%s is not in the MANIFEST", filepath.ToSlash(rel)))
		}
		return err
	})
	return errors.Join(append(errs, err)...)
}

func (m *manifest) checkInputs(mod *module) error {
	sum, err := m.inputsSHA256(mod)
	if err == nil && sum != mod.InputsSHA256 {
		err = fmt.Errorf("%s: its inputs (%s) have sha256 %s; the MANIFEST says %s: build it again", mod.File,
			strings.Join(mod.Inputs, ", "), sum, mod.InputsSHA256)
	}
	return err
}

// inputsSHA256 hashes the inputs of a module: names, lengths and contents, folders in order of their files' names. It is ""
// for a module without any.
func (m *manifest) inputsSHA256(mod *module) (string, error) {
	if len(mod.Inputs) == 0 {
		return "", nil
	}
	h := sha256.New()
	for _, in := range mod.Inputs {
		err := fs.WalkDir(os.DirFS(m.dir), in, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(m.path(path))
			fmt.Fprintf(h, "%s %d\n", path, len(b))
			h.Write(b)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("%s: %w", mod.File, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func sha256File(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
