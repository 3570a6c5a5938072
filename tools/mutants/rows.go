package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// row is one requirement.
type row struct {
	ID      string   `toml:"id"`
	Text    string   `toml:"text"`
	Mutants []mutant `toml:"mutant"`
}

// mutant is one change of the production code that a test has to notice; rows.toml says what the fields are.
type mutant struct {
	File  string `toml:"file"`
	After string `toml:"after"`
	Code  string `toml:"code"`
	With  string `toml:"with"`
	Fails string `toml:"fails"`
}

// project is the module with its requirements.
type project struct {
	root  string
	rows  []row
	tests map[string]string // by the name of a row's test, the directory of its package, below root
}

// testName is what the test of a row is called: TestB2_3_….
var testName = regexp.MustCompile(`(?m)^func (Test([AB])(\d)_(\d)_\w+)\(t \*testing\.T\)`)

// openProject reads the list and finds the tests of the module that dir is in.
func openProject(dir string) (*project, error) {
	root, err := moduleRoot(dir)
	if err != nil {
		return nil, err
	}
	p := &project{root: root, tests: make(map[string]string)}
	list := filepath.Join(root, "tools", "mutants", "rows.toml")
	var file struct {
		Row []row `toml:"row"`
	}
	meta, err := toml.DecodeFile(list, &file)
	if err == nil && len(meta.Undecoded()) > 0 {
		err = fmt.Errorf("%v means nothing", meta.Undecoded()[0])
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", list, err)
	}
	p.rows = file.Row
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "build"):
			return filepath.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		for _, m := range testName.FindAllStringSubmatch(string(text), -1) {
			if other, twice := p.tests[m[1]]; twice {
				return fmt.Errorf("%s is in %s and in %s: give one of them another name", m[1], other, rel)
			}
			p.tests[m[1]] = filepath.ToSlash(rel)
		}
		return err
	})
	return p, err
}

// moduleRoot is the directory of the module that dir is in.
func moduleRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above: run it inside the module")
		}
		dir = up
	}
}

// prefix is how the tests of a row begin: "TestB2_3_".
func (r *row) prefix() string { return "Test" + strings.ReplaceAll(r.ID, ".", "_") + "_" }

// testsOf returns the names of a row's tests, sorted.
func (p *project) testsOf(r *row) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.tests)), func(name string) bool { return !strings.HasPrefix(name, r.prefix()) })
}

// check finds everything in the list that does not fit the module.
func (p *project) check() error {
	var errs []error
	seen := make(map[string]bool)
	for i := range p.rows {
		r := &p.rows[i]
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("row "+r.ID+": "+format, args...))
		}
		if seen[r.ID] {
			bad("it is there twice")
		}
		seen[r.ID] = true
		if r.Text == "" {
			bad("it has no text")
		}
		if len(r.Mutants) == 0 {
			bad("it has no mutant: nothing shows that its tests can fail")
		}
		if len(p.testsOf(r)) == 0 {
			bad("no test is called %s…", r.prefix())
		}
		for _, m := range r.Mutants {
			if _, ok := p.tests[m.Fails]; !ok || !strings.HasPrefix(m.Fails, r.prefix()) {
				bad("%s: there is no test %q of this row", m.File, m.Fails)
			}
			if strings.HasSuffix(m.File, "_test.go") {
				bad("%s is no production code", m.File)
			}
			if _, err := p.apply(m); err != nil {
				bad("%w", err)
			}
		}
	}
	return errors.Join(errs...)
}

// pick returns the rows to run.
func (p *project) pick(id string) ([]row, error) {
	if id == "" {
		return p.rows, nil
	}
	for i := range p.rows {
		if p.rows[i].ID == id {
			return p.rows[i : i+1], nil
		}
	}
	return nil, fmt.Errorf("there is no row %q; they are %s to %s", id, p.rows[0].ID, p.rows[len(p.rows)-1].ID)
}

// apply returns the mutant's file as it is to be compiled.
func (p *project) apply(m mutant) (string, error) {
	text, err := os.ReadFile(filepath.Join(p.root, filepath.FromSlash(m.File)))
	if err != nil {
		return "", err
	}
	from, to, err := find(string(text), m.After, m.Code)
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.File, err)
	}
	return string(text[:from]) + m.With + string(text[to:]), nil
}

// find returns where code stands in text, indentation aside: once in all, or first behind after.
func find(text, after, code string) (from, to int, err error) {
	flat, at := flatten(text)
	code = strings.TrimLeft(code, "\n")
	begin := 0
	if after != "" {
		i := strings.Index(flat, after)
		if i < 0 {
			return 0, 0, fmt.Errorf("%q is not there any more", after)
		}
		begin = i + len(after)
	}
	i := strings.Index(flat[begin:], code)
	switch {
	case code == "":
		return 0, 0, errors.New("a mutant takes no code out")
	case i < 0:
		return 0, 0, fmt.Errorf("%q is not there any more", code)
	case after == "" && strings.Contains(flat[begin+i+1:], code):
		return 0, 0, fmt.Errorf("%q stands there more than once: say which by \"after\"", code)
	}
	i += begin
	return at[i], at[i+len(code)-1] + 1, nil
}

// flatten returns text without indentation, and for each of its bytes where it stood.
func flatten(text string) (string, []int) {
	var b strings.Builder
	at := make([]int, 0, len(text))
	indent := true
	for i := range len(text) {
		if indent && text[i] == '\t' {
			continue
		}
		indent = text[i] == '\n'
		b.WriteByte(text[i])
		at = append(at, i)
	}
	return b.String(), at
}
