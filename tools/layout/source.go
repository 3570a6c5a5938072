package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the sources of a Go module.
type Module struct {
	Path     string    // as go.mod says
	Packages []Package // sorted by path
}

// Package is one directory with Go files.
type Package struct {
	Path  string // below the module, "." for its root
	Files []File // for every platform and build tag, tests too
}

// File is one Go file.
type File struct {
	Name    string // below the module
	Test    bool
	Imports []Import
	Impure  []Impurity
}

// Import is one import.
type Import struct {
	Path string
	Line int
}

// Impurity is a use of the clock or a goroutine.
type Impurity struct {
	What string // "time.Now", "a go statement"
	Line int
}

// Read parses the Go files below root, which holds a go.mod, as the go command would find packages: without directories
// named testdata or beginning with '.' or '_', and without modules inside the module.
func Read(root string) (*Module, error) {
	m := &Module{}
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(gomod)) {
		if rest, ok := strings.CutPrefix(line, "module "); ok {
			m.Path = strings.TrimSpace(rest)
		}
	}
	packages := make(map[string]*Package)
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && skipDir(file, name) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.ContainsAny(name[:1], "._") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		f, err := readFile(file, filepath.ToSlash(rel))
		if err != nil || f == nil {
			return err
		}
		dir := path.Dir(f.Name)
		if packages[dir] == nil {
			packages[dir] = &Package{Path: dir}
		}
		packages[dir].Files = append(packages[dir].Files, *f)
		return nil
	})
	for _, p := range packages {
		m.Packages = append(m.Packages, *p)
	}
	slices.SortFunc(m.Packages, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
	return m, err
}

func skipDir(dir, name string) bool {
	if name == "testdata" || name == "vendor" || strings.ContainsAny(name[:1], "._") {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// readFile is nil for a file that is in no package: a program run by name, marked //go:build ignore.
func readFile(file, name string) (*File, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, group := range tree.Comments {
		for _, c := range group.List {
			if c.Pos() < tree.Package && c.Text == "//go:build ignore" {
				return nil, nil
			}
		}
	}
	f := &File{Name: name, Test: strings.HasSuffix(name, "_test.go")}
	for _, spec := range tree.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		f.Imports = append(f.Imports, Import{Path: p, Line: fset.Position(spec.Pos()).Line})
	}
	f.Impure = impurities(fset, tree)
	return f, nil
}

// clock is what package time does beside naming times and durations.
var clock = []string{
	"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTicker", "NewTimer",
}

func impurities(fset *token.FileSet, tree *ast.File) (found []Impurity) {
	add := func(n ast.Node, what string) {
		found = append(found, Impurity{What: what, Line: fset.Position(n.Pos()).Line})
	}
	times := "" // what this file calls package time
	for _, spec := range tree.Imports {
		if spec.Path.Value != `"time"` {
			continue
		}
		times = "time"
		if spec.Name != nil {
			times = spec.Name.Name
		}
		if times == "." {
			add(spec, "package time without its name")
		}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			add(n, "a go statement")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == times && slices.Contains(clock, n.Sel.Name) {
				add(n, "time."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}
