package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rowCounts are how many rows each section of the requirements has; they are the user's, and neither grow nor shrink.
var rowCounts = map[string]int{"B1": 5, "B2": 4, "B3": 5, "B4": 5, "A1": 4, "A2": 3, "A3": 3, "A4": 3, "A5": 4, "A6": 2}

// TestEveryRequirementHasItsRow: every row is there, has its tests, and mutants that still fit the source.
func TestEveryRequirementHasItsRow(t *testing.T) {
	p, err := openProject(".")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.check(); err != nil {
		t.Error(err)
	}
	have := make(map[string]bool)
	for _, r := range p.rows {
		have[r.ID] = true
	}
	want := 0
	for section, n := range rowCounts {
		for i := 1; i <= n; i++ {
			want++
			if id := fmt.Sprintf("%s.%d", section, i); !have[id] {
				t.Errorf("row %s is missing in rows.toml", id)
			}
		}
	}
	if len(p.rows) != want {
		t.Errorf("%d rows, want %d", len(p.rows), want)
	}
	for name := range p.tests {
		if id := strings.Replace(strings.TrimPrefix(name, "Test")[:4], "_", ".", 1); !have[id] {
			t.Errorf("%s is the test of no row", name)
		}
	}
}

func TestTheDocumentIsOfTheList(t *testing.T) {
	p, err := openProject(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(p.root, docFile))
	if err != nil || string(text) != p.document() {
		t.Errorf("%s is not what the list says (%v): go run ./tools/mutants -doc", docFile, err)
	}
}

func TestFind(t *testing.T) {
	text := "func a() {\n\tone()\n\tif x {\n\t\ttwo()\n\t\tthree()\n\t}\n}\nfunc b() {\n\ttwo()\n}\n"
	for _, c := range []struct{ after, code, found, fault string }{
		{"", "one()", "one()", ""},
		{"", "two()\nthree()", "two()\n\t\tthree()", ""},
		{"", "\ntwo()\nthree()", "two()\n\t\tthree()", ""},
		{"func b()", "two()", "two()", ""},
		{"", "two()", "", "more than once"},
		{"", "four()", "", "not there any more"},
		{"func c()", "two()", "", "not there any more"},
		{"func b()", "one()", "", "not there any more"},
		{"", "", "", "no code"},
	} {
		from, to, err := find(text, c.after, c.code)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%q after %q: %v, want %s", c.code, c.after, err, c.fault)
			}
			continue
		}
		if err != nil || text[from:to] != c.found {
			t.Errorf("%q after %q: %v, %v", c.code, c.after, text[from:to], err)
		}
	}
	if from, _, _ := find(text, "func b()", "two()"); from != strings.LastIndex(text, "two()") {
		t.Error("found the one before")
	}
}

// A module of one package shows what is an error: a mutant that nobody notices, one that does not compile, and tests that fail by
// themselves.
func TestWhatIsAnError(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles")
	}
	const good = "package m\n\nfunc Sum(a, b int) (s int) {\n\ts = a\n\ts += b\n\treturn s\n}\n"
	const test = "package m\n\nimport \"testing\"\n\nfunc TestB1_1_Sum(t *testing.T) {\n\tif Sum(1, 2) != 3 {\n\t\tt.Error(\"no\")\n\t}\n}\n"
	for name, c := range map[string]struct{ source, test, mutant, want string }{
		"noticed":          {good, test, `code = "s += b"`, ""},
		"replaced":         {good, test, "code = 's += b'\nwith = 's -= b'", ""},
		"panics":           {good, test, "code = 's += b'\nwith = 'panic(s)'", ""},
		"nobody notices":   {good, test, "code = 's += b'\nwith = 's = b + a'", "no test notices"},
		"does not compile": {good, test, "code = 's += b'\nwith = 's += c'", "does not compile"},
		"another fails": {good, test + "\nfunc TestB1_1_Other(t *testing.T) {\n\tif Sum(0, 0) != 0 {\n\t\tt.Error(\"no\")\n\t}\n}\n",
			"code = 's += b'\nwith = 'if a == 0 { s++ } else { s += b }'", "TestB1_1_Sum did not fail"},
		"fails anyhow": {strings.Replace(good, "s += b", "s -= b", 1), test, `code = "s -= b"`, "without a mutant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range map[string]string{"go.mod": "module m\n\ngo 1.26\n", "m.go": c.source, "m_test.go": c.test,
				"tools/mutants/rows.toml": "[[row]]\nid = 'B1.1'\ntext = 'sums'\n[[row.mutant]]\nfile = 'm.go'\nfails = 'TestB1_1_Sum'\n" + c.mutant + "\n"} {
				path := filepath.Join(dir, filepath.FromSlash(file))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			p, err := openProject(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.check(); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			err = p.run(t.Context(), p.rows, 1, io.MultiWriter(&out))
			said := out.String()
			if err != nil {
				said += err.Error()
			}
			if (err == nil) != (c.want == "") || !strings.Contains(said, c.want) {
				t.Errorf("%v\n%s\nwant %q", err, said, c.want)
			}
		})
	}
}
