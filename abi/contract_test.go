package abi

import (
	"encoding/hex"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ABI.md is what people write guests from, so its tables are held to the code.

func readMarkdown(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// table returns the rows of the table whose head starts with these columns, the backquotes of cells removed.
func table(t *testing.T, md string, head ...string) [][]string {
	t.Helper()
	var rows [][]string
	found := false
	for line := range strings.Lines(md) {
		if !strings.HasPrefix(line, "|") {
			if found {
				return rows
			}
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !found {
			found = len(cells) >= len(head) && slices.Equal(cells[:len(head)], head)
			continue
		}
		if strings.HasPrefix(cells[0], "---") {
			continue
		}
		for i := range cells {
			if c := cells[i]; len(c) > 1 && strings.Count(c, "`") == 2 && c[0] == '`' && c[len(c)-1] == '`' {
				cells[i] = strings.Trim(c, "`")
			}
		}
		rows = append(rows, cells)
	}
	t.Fatalf("there is no table that starts with %q", head)
	return nil
}

// same compares rows that the code has with those of the page.
func same(t *testing.T, page [][]string, code [][]string) {
	t.Helper()
	for i := range max(len(page), len(code)) {
		switch {
		case i >= len(page):
			t.Errorf("ABI.md lacks %q", code[i])
		case i >= len(code):
			t.Errorf("ABI.md has %q, the code has not", page[i])
		case len(page[i]) < len(code[i]) || !slices.Equal(page[i][:len(code[i])], code[i]):
			t.Errorf("ABI.md has %q, the code has %q", page[i], code[i])
		}
	}
}

func TestPageExports(t *testing.T) {
	var want [][]string
	for _, s := range Exports() {
		required := "yes"
		if s.Optional {
			required = "no"
		}
		want = append(want, []string{s.Name, s.String(), required})
	}
	same(t, table(t, readMarkdown(t), "export", "type"), want)
}

func TestPageImports(t *testing.T) {
	md := readMarkdown(t)
	var want [][]string
	for _, s := range Imports() {
		want = append(want, []string{s.Name, s.String(), s.Cap})
		if !strings.Contains(md, "**`"+s.Name+"(") && !strings.HasPrefix(s.Name, "kv_") {
			t.Errorf("ABI.md does not tell what %s does", s.Name)
		}
		if s.Cap == "" {
			t.Errorf("%s has no capability to show", s.Name)
		}
	}
	same(t, table(t, md, "import", "type"), want)
	for _, s := range []string{ImportModule, ExportMemory, "`-" + strconv.Itoa(PendingCode) + "`",
		"`-0x" + strconv.FormatInt(PendingCode, 16) + "`"} {
		if !strings.Contains(md, s) {
			t.Errorf("ABI.md does not mention %s", s)
		}
	}
}

func TestPageErrors(t *testing.T) {
	var want [][]string
	for _, c := range Codes() {
		retryable := "no"
		if c.Retryable {
			retryable = "yes"
		}
		want = append(want, []string{strconv.Itoa(int(c.Code)), c.Name, retryable, strconv.Itoa(c.Status),
			strconv.Itoa(c.Exit), c.Title})
	}
	same(t, table(t, readMarkdown(t), "code", "name", "retryable"), want)
}

// docs/http.md has the same codes by their status.
func TestHTTPPageErrors(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "http.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := make(map[string]string)
	for _, row := range table(t, string(b), "code", "status", "retryable", "exit") {
		names, _, _ := strings.Cut(row[0], ": ") // then what it means
		for name := range strings.SplitSeq(names, ", ") {
			name = strings.Trim(name, "`")
			if page[name] != "" {
				t.Errorf("http.md has %s twice", name)
			}
			page[name] = strings.Join(row[1:], " ")
		}
	}
	for _, c := range Codes()[1:] {
		retryable := ""
		if c.Retryable {
			retryable = "yes"
		}
		want := strings.Join([]string{strconv.Itoa(c.Status), retryable, strconv.Itoa(c.Exit)}, " ")
		if page[c.Name] != want {
			t.Errorf("http.md has %q for %s, the code has %q", page[c.Name], c.Name, want)
		}
		delete(page, c.Name)
	}
	for name := range page {
		t.Errorf("http.md has %s, the code has not", name)
	}
}

func TestPageTags(t *testing.T) {
	md := readMarkdown(t)
	named := func(names []string) (want [][]string) {
		for i, n := range names {
			if n != "" {
				want = append(want, []string{strconv.Itoa(i), n})
			}
		}
		return want
	}
	same(t, table(t, md, "tag", "event"), named(eventNames[:]))
	same(t, table(t, md, "tag", "effect"), named(effectNames[:]))
	var flags [][]string
	for i, n := range flagNames {
		flags = append(flags, []string{strconv.Itoa(1 << i), n})
	}
	same(t, table(t, md, "flag", "name"), flags)
	if knownFlags != 1<<len(flagNames)-1 {
		t.Error("a flag has no name in the tests")
	}
	same(t, table(t, md, "byte", "form"), [][]string{{"0x00", formNames[OutReply]}, {"0x01", formNames[OutError]},
		{"0x02", formNames[OutEffects]}})
}

// keys returns the constants of a prefix as rows of number and snake_case name, in order of number.
func keys(t *testing.T, prefix string) [][]string {
	t.Helper()
	type key struct {
		n    int64
		name string
	}
	var all []key
	for name, v := range constants(t) {
		if rest, ok := strings.CutPrefix(name, prefix); ok && v.Kind() == constant.Int {
			n, _ := constant.Int64Val(v)
			all = append(all, key{n, snake(rest)})
		}
	}
	slices.SortFunc(all, func(a, b key) int { return int(a.n - b.n) })
	var rows [][]string
	for i, k := range all {
		if k.n != int64(i) {
			t.Errorf("%s: the number %d is used twice or not at all", prefix, i)
		}
		rows = append(rows, []string{strconv.FormatInt(k.n, 10), k.name})
	}
	return rows
}

func snake(name string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "${1}_$2"))
}

func TestPageKeys(t *testing.T) {
	md := readMarkdown(t)
	same(t, table(t, md, "key", "name", "value"), keys(t, "key"))
	_, errors, _ := strings.Cut(md, "## 9. Errors")
	same(t, table(t, errors, "key", "name", "value"), keys(t, "errKey"))
	_, self, _ := strings.Cut(md, "carries `self`:")
	same(t, table(t, self, "key", "name", "value"), keys(t, "selfKey"))
	for _, reserved := range table(t, md, "key", "name", "value")[keyOp:] {
		if reserved[2] != "reserved" {
			t.Errorf("%q is no reserved key any more: tell what it holds", reserved)
		}
	}
}

func TestPageLimits(t *testing.T) {
	md := readMarkdown(t)
	all := constants(t)
	rows := slices.Concat(table(t, md, "limit", "default"), table(t, md, "limit", "value"))
	seen := map[string]bool{}
	for _, row := range rows {
		seen[row[0]] = true
		v, ok := all[row[0]]
		if !ok {
			t.Errorf("ABI.md has a limit %s, the code has not", row[0])
			continue
		}
		n, _ := constant.Int64Val(v)
		if got := quantity(t, row[1]); got != n {
			t.Errorf("%s is %d, in ABI.md %s", row[0], n, row[1])
		}
	}
	for name := range all {
		limit := strings.HasPrefix(name, "Max") || strings.HasPrefix(name, "Default") || name == "InboxKeep"
		if limit && !seen[name] && name != "MaxDuration" { // told with the keys
			t.Errorf("ABI.md lacks the limit %s", name)
		}
	}
	if ms := int64(MaxDuration / time.Millisecond); ms != 3_153_600_000_000 || !strings.Contains(md, "3,153,600,000,000") {
		t.Errorf("MaxDuration is %d ms", ms)
	}
}

// quantity reads "16 KiB", "1,024" or "10 min".
func quantity(t *testing.T, s string) int64 {
	t.Helper()
	digits, unit, _ := strings.Cut(strings.ReplaceAll(s, ",", ""), " ")
	n, err := strconv.ParseInt(digits, 10, 64)
	units := map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": int64(time.Second), "min": int64(time.Minute)}
	if err != nil || units[unit] == 0 {
		t.Errorf("%q is no quantity", s)
	}
	return n * units[unit]
}

// constants evaluates the untyped and typed constants that the package's files declare by themselves.
func constants(t *testing.T) map[string]constant.Value {
	t.Helper()
	out := map[string]constant.Value{}
	for _, f := range sources(t, ".", 0) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				s := s.(*ast.ValueSpec)
				for i := range s.Values {
					if v := evaluate(s.Values[i]); v.Kind() != constant.Unknown {
						out[s.Names[i].Name] = v
					}
				}
			}
		}
	}
	return out
}

func evaluate(e ast.Expr) constant.Value {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.BinaryExpr:
		x, y := evaluate(e.X), evaluate(e.Y)
		if x.Kind() != constant.Int || y.Kind() != constant.Int {
			break
		}
		if e.Op == token.SHL {
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, e.Op, uint(n))
		}
		return constant.BinaryOp(x, e.Op, y)
	case *ast.SelectorExpr:
		switch e.Sel.Name {
		case "Second":
			return constant.MakeInt64(int64(time.Second))
		case "Minute":
			return constant.MakeInt64(int64(time.Minute))
		case "Hour":
			return constant.MakeInt64(int64(time.Hour))
		}
	}
	return constant.MakeUnknown()
}

func sources(t *testing.T, dir string, mode parser.Mode) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, mode)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = f
	}
	return out
}

// TestPageExample holds that the annotated bytes of the page are those of the vectors.
func TestPageExample(t *testing.T) {
	md := readMarkdown(t)
	vectors := readVectors(t)
	blocks := regexp.MustCompile("(?s)```hex (\\w+)\n(.*?)```").FindAllStringSubmatch(md, -1)
	if len(blocks) != 5 {
		t.Errorf("%d blocks of bytes", len(blocks))
	}
	for _, b := range blocks {
		var digits strings.Builder
		for line := range strings.Lines(b[2]) {
			code, _, _ := strings.Cut(line, ";")
			digits.WriteString(strings.Join(strings.Fields(code), ""))
		}
		if want := hex.EncodeToString(vectors.find(t, b[1])); digits.String() != want {
			t.Errorf("%s is\n%s, the vector\n%s", b[1], digits.String(), want)
		}
	}
	if n := len(vectors.find(t, "example_event")); !strings.Contains(md, "wasilo_turn("+strconv.Itoa(n)+")") {
		t.Errorf("the example's event has %d bytes", n)
	}
}

// TestImportsStayLight holds that a guest that links the package gets little else with it.
func TestImportsStayLight(t *testing.T) {
	allowed := map[string]string{
		"context":      "errors of contexts are classified",
		"errors":       "errors are wrapped",
		"math":         "bits of floats",
		"slices":       "kinds and methods are sorted",
		"strconv":      "numbers in messages, in place of fmt",
		"strings":      "cutting and comparing",
		"time":         "durations",
		"unicode/utf8": "text is checked",
	}
	for name, f := range sources(t, ".", parser.ImportsOnly) {
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if allowed[path] == "" {
				t.Errorf("%s imports %s: every Go guest would link it", name, path)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ ptr, n uint32 }{{0, 0}, {1, 2}, {1 << 31, 1<<32 - 1}, {1<<32 - 1, 1}} {
		if ptr, n := Unpack(Pack(c.ptr, c.n)); ptr != c.ptr || n != c.n {
			t.Errorf("%v became %d, %d", c, ptr, n)
		}
	}
	for _, c := range []struct {
		s    Signature
		want string
	}{
		{Signature{}, "()"},
		{Signature{Params: []ValType{I32, I64}}, "(i32, i64)"},
		{Signature{Params: []ValType{I32}, Results: []ValType{I64}}, "(i32) -> (i64)"},
		{Signature{Results: []ValType{0x7d}}, "() -> (?)"},
	} {
		if got := c.s.String(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	for name, ok := range map[string]bool{"a": true, "A-z_0.9": true, "": false, "a b": false, "a/b": false, "é": false,
		strings.Repeat("m", 127): true, strings.Repeat("m", 128): false} {
		if ValidMethod(name) != ok {
			t.Errorf("method %q: %v", name, !ok)
		}
	}
}
