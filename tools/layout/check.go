package layout

import (
	"fmt"
	"slices"
	"strings"
)

// Violation is one place that breaks a rule.
type Violation struct {
	Where string // "FILE:LINE", or a package
	What  string // what is there
	Rule  string // what the table says, and why
}

func (v Violation) String() string { return v.Where + ": " + v.What + ": " + v.Rule }

// house is a table with the module it is applied to.
type house struct {
	module string
	table  []Row
}

// Check applies the table to the sources, and to deps where rows are Deep: the packages below those rows as `go list
// -deps` knows them, by import path. The order is that of the files.
func Check(m *Module, deps map[string]Dep, table []Row) []Violation {
	h := house{module: m.Path, table: table}
	var out []Violation
	for _, p := range m.Packages {
		row := h.row(p.Path)
		if row == nil {
			out = append(out, Violation{p.Path, "has no row", "every package has a row in tools/layout/table.go: what is it, " +
				"and what may it import?"})
			continue
		}
		for _, f := range p.Files {
			for _, imp := range f.Imports {
				if rule := h.refuse(p.Path, row, imp.Path, f.Test); rule != "" {
					out = append(out, Violation{fmt.Sprintf("%s:%d", f.Name, imp.Line), fmt.Sprintf("imports %q", imp.Path), rule})
				}
			}
			if row.Pure != "" && !f.Test {
				for _, i := range f.Impure {
					out = append(out, Violation{fmt.Sprintf("%s:%d", f.Name, i.Line), "uses " + i.What,
						fmt.Sprintf("never in %s: %s", row.Package, row.Pure)})
				}
			}
		}
		if row.Deep {
			out = append(out, h.deep(p.Path, row, deps)...)
		}
	}
	return out
}

// row is the longest one that fits; nil: none does.
func (h house) row(pkg string) (best *Row) {
	for i := range h.table {
		if r := &h.table[i]; fits(r.Package, pkg) && (best == nil || len(r.Package) > len(best.Package)) {
			best = r
		}
	}
	return best
}

// refuse says why a file of pkg, which has that row, may not import the path; "": it may.
func (h house) refuse(pkg string, row *Row, imp string, test bool) string {
	if imp == "C" {
		return "no cgo: the node builds everywhere without a C compiler"
	}
	if ours, ok := h.ours(imp); ok {
		return h.refuseOurs(pkg, row, ours, test)
	}
	if standard(imp) {
		if why, ok := prefixed(row.Never, imp); ok && !test {
			return fmt.Sprintf("never in %s: %s", row.Package, why)
		}
		return ""
	}
	if row.Any {
		return ""
	}
	for _, e := range Exclusives {
		if below(e.Import, imp) && !slices.Contains(e.Only, row.Package) {
			return fmt.Sprintf("only %s may: %s", strings.Join(e.Only, " and "), e.Why)
		}
	}
	if _, ok := prefixed(row.Third, imp); ok {
		return ""
	}
	if test {
		if _, ok := prefixed(TestLibraries, imp); ok {
			return ""
		}
		return "it is no library that tests use (TestLibraries in tools/layout/table.go)"
	}
	return fmt.Sprintf("%s may import %s of others: a further one needs an entry with its reason", row.Package, list(row.Third))
}

func (h house) refuseOurs(pkg string, row *Row, ours string, test bool) string {
	if pkg == ours || below(pkg, ours) && row == h.row(ours) {
		return "" // itself, from a test, and what it keeps below
	}
	if below("tools", ours) {
		return "nobody imports the tools: they are for building and measuring, not a part of the node"
	}
	if row.Any || test {
		return ""
	}
	for _, pattern := range row.Ours {
		if fits(pattern, ours) || pattern == "abi" && ours == "abi/cbor" && !row.Light {
			return ""
		}
	}
	may := "nothing"
	if len(row.Ours) > 0 {
		may = strings.Join(row.Ours, ", ")
	}
	return fmt.Sprintf("%s may import %s of ours: imports point down the table", row.Package, may)
}

// Dep is a package as `go list -deps -json` shows it.
type Dep struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// deep follows the imports of a package and applies its row to all it meets but the inside of the standard library.
func (h house) deep(pkg string, row *Row, deps map[string]Dep) (out []Violation) {
	start := h.module + "/" + pkg
	if _, ok := deps[start]; !ok {
		return []Violation{{pkg, "is not in the listing of dependencies", "its row holds for what it imports indirectly too"}}
	}
	seen := map[string]bool{start: true}
	var walk func(path string, chain []string)
	walk = func(path string, chain []string) {
		chain = append(slices.Clip(chain), strings.TrimPrefix(path, h.module+"/"))
		for _, imp := range deps[path].Imports {
			if path != start { // what it imports itself is checked with its line
				if rule := h.refuse(pkg, row, imp, false); rule != "" {
					out = append(out, Violation{pkg, strings.Join(chain, " imports ") + " imports " + fmt.Sprintf("%q", imp), rule})
				}
			}
			if d := deps[imp]; !d.Standard && !seen[imp] {
				seen[imp] = true
				walk(imp, chain)
			}
		}
	}
	walk(start, nil)
	return out
}

// ours cuts the module off an import path.
func (h house) ours(imp string) (string, bool) {
	if imp == h.module {
		return ".", true
	}
	return strings.CutPrefix(imp, h.module+"/")
}

// fits reports whether a package is of the pattern: the package itself, or with "/..." also all below it.
func fits(pattern, pkg string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || below(base, pkg)
	}
	return pkg == pattern
}

// below reports whether path is prefix or in its subtree.
func below(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// prefixed finds the entry that the path falls under.
func prefixed(m map[string]string, path string) (string, bool) {
	for prefix, why := range m {
		if below(prefix, path) {
			return why, true
		}
	}
	return "", false
}

// standard reports whether an import is of the standard library: its first element has no dot.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

func list(m map[string]string) string {
	if len(m) == 0 {
		return "nothing"
	}
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}
