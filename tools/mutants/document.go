package main

import (
	"fmt"
	"slices"
	"strings"
)

// docFile is the requirements for people.
const docFile = "docs/requirements.md"

// document is the list as Markdown.
func (p *project) document() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Requirements\n")
	line("What the cluster layer is required to do, row by row: B is the bootstrap of the extension, A the API and the identities. `go test -run 'TestB2_3'`")
	line("runs the tests of row B2.3. `make mutants` takes each line of the last column out of the source, or replaces it, and shows that a test of the row")
	line("fails without it; `make mutants ROW=B2.3` does so for one row.\n")
	line("This file is made from tools/mutants/rows.toml by `go run ./tools/mutants -doc`.\n")
	line("| row | requirement | type | tests | what it stands on |\n|---|---|---|---|---|")
	for i := range p.rows {
		r := &p.rows[i]
		var types, tests, code []string
		for _, name := range p.testsOf(r) {
			dir := p.tests[name]
			tests = append(tests, fmt.Sprintf("`%s` (%s)", name, dir))
			if t := typeOf(dir); !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
		for _, m := range r.Mutants {
			code = append(code, fmt.Sprintf("%s: %s", m.File, cell(m.Code)))
		}
		line("| %s | %s | %s | %s | %s |", r.ID, r.Text, strings.Join(types, ", "), strings.Join(tests, "<br>"), strings.Join(slices.Compact(code), "<br>"))
	}
	return b.String()
}

// typeOf says what kind of test a directory has.
func typeOf(dir string) string {
	switch {
	case dir == "abi", dir == "cluster/core", dir == "host/telemetry":
		return "unit"
	case dir == "cluster":
		return "cluster, with a fake silo"
	case dir == "host/silo":
		return "cluster, with the real silo"
	case dir == "serfwatch":
		return "gossip, on a network in memory"
	case dir == "host":
		return "node"
	case strings.HasPrefix(dir, "host/cmd/"):
		return "process"
	}
	return dir
}

// cell is code as one cell of a table.
func cell(code string) string {
	s := strings.Join(strings.Fields(code), " ")
	return "<code>" + strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "|", "&#124;", "*", "&#42;", "_", "&#95;").Replace(s) + "</code>"
}
