package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLayout holds this module to the table.
func TestLayout(t *testing.T) {
	root := filepath.Join("..", "..")
	m, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	var deep []string
	for _, p := range m.Packages {
		if row := (house{m.Path, Table}).row(p.Path); row != nil && row.Deep {
			deep = append(deep, "./"+p.Path)
		}
	}
	if len(m.Packages) < 3 || len(deep) == 0 {
		t.Fatalf("%d packages, of which %v are followed: this is not the module", len(m.Packages), deep)
	}
	violations := Check(m, goList(t, root, deep), Table)
	for _, v := range violations {
		t.Error(v)
	}
	if len(violations) > 0 {
		t.Log("the rules and their reasons are in tools/layout/table.go")
	}
}

// goList is what the go command knows of the packages and of all they import.
func goList(t *testing.T, root string, packages []string) map[string]Dep {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=ImportPath,Standard,Imports"}, packages...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	return decodeDeps(t, out)
}

func decodeDeps(t *testing.T, list []byte) map[string]Dep {
	t.Helper()
	deps := make(map[string]Dep)
	for dec := json.NewDecoder(bytes.NewReader(list)); ; {
		var d Dep
		if err := dec.Decode(&d); err == io.EOF {
			return deps
		} else if err != nil {
			t.Fatal(err)
		}
		deps[d.ImportPath] = d
	}
}

// TestPlantedViolations: each archive is a small module and, in "want", what the real table says of it.
func TestPlantedViolations(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal("no archives", err)
	}
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			dir := t.TempDir()
			files := unpack(t, archive, dir)
			m, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			deps := ownDeps(m)
			if list, ok := files["deps.json"]; ok {
				deps = decodeDeps(t, []byte(list))
			}
			var got strings.Builder
			for _, v := range Check(m, deps, Table) {
				fmt.Fprintln(&got, v)
			}
			if want := files["want"]; got.String() != want {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}

// unpack writes the files of an archive ("-- NAME --" and then the text, as in txtar) below dir.
func unpack(t *testing.T, archive, dir string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	name := ""
	for line := range strings.Lines(string(text)) {
		if head, ok := strings.CutPrefix(line, "-- "); ok {
			name = strings.TrimSuffix(head, " --\n")
			continue
		}
		if name != "" { // what stands before the first file is for people
			files[name] += line
		}
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// ownDeps lists the module's own packages, for archives that bring no listing of their own.
func ownDeps(m *Module) map[string]Dep {
	deps := make(map[string]Dep)
	for _, p := range m.Packages {
		d := Dep{ImportPath: m.Path + "/" + p.Path}
		for _, f := range p.Files {
			for _, imp := range f.Imports {
				if !f.Test {
					d.Imports = append(d.Imports, imp.Path)
				}
				if standard(imp.Path) {
					deps[imp.Path] = Dep{ImportPath: imp.Path, Standard: true}
				}
			}
		}
		deps[d.ImportPath] = d
	}
	return deps
}

// TestTable: each row once, each entry with a reason, and imports of ours that have a row.
func TestTable(t *testing.T) {
	h := house{table: Table}
	var rows []string
	for _, r := range Table {
		if slices.Contains(rows, r.Package) {
			t.Errorf("%s has two rows", r.Package)
		}
		rows = append(rows, r.Package)
		for _, reasons := range []map[string]string{r.Third, r.Never} {
			for imp, why := range reasons {
				if why == "" {
					t.Errorf("%s: %s has no reason", r.Package, imp)
				}
			}
		}
		for _, o := range r.Ours {
			if h.row(strings.TrimSuffix(o, "/...")) == nil && !slices.Contains(rows, o) &&
				!slices.ContainsFunc(Table, func(r Row) bool { return fits(o, r.Package) }) {
				t.Errorf("%s may import %s, which has no row", r.Package, o)
			}
		}
	}
	for _, e := range Exclusives {
		for _, pkg := range e.Only {
			row := h.row(pkg)
			if row == nil || row.Package != pkg {
				t.Errorf("%s is for %s, which has no row", e.Import, pkg)
			}
		}
		if e.Why == "" {
			t.Errorf("%s has no reason", e.Import)
		}
	}
}
