package main

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testPath = "example.com/m/tools/jitter/delay"

// sources are what the rewriter meets, with the calls that it has to insert. «» is where one goes.
var sources = map[string]string{
	"plain":       "package p\n\nfunc F(a int) int {«»\n\treturn a\n}\n\nfunc G() {«» F(1) }\n",
	"empty":       "package p\n\nfunc F() {«»}\n\nvar f = func() {«»}\n\nfunc init() {«»}\n",
	"declaration": "package p\n\nfunc F() {«»\n\ttype t struct{}\n\tvar _ t\n}\n",
	"comments":    "// Package p is\n// this.\npackage p // here\n\n// F does.\nfunc F() {«» // what\n\t// not\n\t/* or */\n}\n\nfunc G() {«» //nothing\n}\n",
	"tags":        "//go:build linux || !linux\n\n// Package p.\npackage p\n\nfunc F() {«»}\n",
	"imports":     "package p; import \"unsafe\"\n\nvar S = func() uintptr {«» return unsafe.Sizeof(1) }()\n",
	"literals":    "package p\n\nvar F = func() func() {«» return func() {«»} }\n\nfunc G() {«» defer func() {«» recover() }() }\n",
	"ifs": "package p\n\nfunc F(a int) int {«»\n\tif a > 1 {«»\n\t\treturn 1\n\t} else if b := a; b > 0 {«»\n\t\treturn b\n\t} else {\n\t\treturn 0\n\t}\n}\n" +
		"\nfunc G(a int) {«»\n\tif a > 0 {«»}\n\tfor a > 0 {\n\t\ta--\n\t}\n\tswitch a {\n\tcase 1:\n\t}\n}\n",
	"selects": "package p\n\nfunc F(a, b chan int) (n int) {«»\n\tselect {\n\tcase n = <-a:«» // taken\n\tcase b <- 1:«»\n\t\tn++\n\tcase n, ok := <-b:«»\n\t\t_, _ = n, ok\n" +
		"\tdefault:«»\n\t}\nagain:\n\tselect {\n\tcase <-a:«»\n\t\tgoto again\n\tcase <-b:«» return 2\n\t}\n}\n",
	"generics": "package p\n\ntype L[T any] struct{ x []T }\n\nfunc (l *L[T]) Each(f func(T) bool) {«»\n\tfor _, x := range l.x {\n\t\tif !f(x) {«»\n\t\t\treturn\n\t\t}\n\t}\n}\n" +
		"\nfunc Map[T, U any](l L[T], f func(T) U) (m L[U]) {«»\n\tfor x := range l.Each {\n\t\tm.x = append(m.x, f(x))\n\t}\n\treturn\n}\n",
	"methods": "package p\n\ntype T int\n\nfunc (t T) Get() int {«» return int(t) }\n\nfunc (T) String() string {\n\tif true {\n\t\treturn \"\"\n\t}\n\treturn \"t\"\n}\n" +
		"\nfunc (*T) Error() string { return \"e\" }\n\nfunc String() {«»}\n",
	"left alone": "package p\n\nfunc ExampleT() {\n\tfunc() {}()\n}\n\nfunc TestMain() {}\n\n//go:nosplit\nfunc small() {}\n\n// Noted.\nfunc Noted() {«»}\n",
	"nothing":    "package p\n\ntype T struct{}\n\nfunc (T) String() string { return \"\" }\n",
	"lines":      "package p\n\n//line other.y:100\nfunc F() {«»\n\tif true {«»\n\t}\n}\n",
	"windows":    "package p\r\n\r\nfunc F() {«»\r\n\tif true {«»\r\n\t}\r\n}\r\n",
	"strings":    "package p\n\nconst s = `\nfunc F() {\n`\n\nfunc F() string {«» return \"if x {\" + s }\n",
}

// TestRewrite: the calls are where they belong, everything else stays to the byte, and the result compiles.
func TestRewrite(t *testing.T) {
	for name, marked := range sources {
		t.Run(name, func(t *testing.T) {
			src := strings.ReplaceAll(marked, "«»", "")
			got, err := rewrite("p.go", []byte(src), testPath)
			if err != nil {
				t.Fatal(err)
			}
			if src == marked {
				if got != nil {
					t.Errorf("there is nothing to insert, and it did:\n%s", got)
				}
				return
			}
			want := strings.Replace(strings.ReplaceAll(marked, "«»", call), "package p", "package p"+importOf(testPath), 1)
			if string(got) != want {
				t.Errorf("rewritten:\n%s\nwant:\n%s", got, want)
			}
			compiles(t, got)
			again, err := rewrite("p.go", []byte(src), testPath)
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("the second time it is another: %v", err)
			}
		})
	}
	if _, err := rewrite("broken.go", []byte("package p\n\nfunc {"), testPath); err == nil || !strings.Contains(err.Error(), "broken.go:3") {
		t.Errorf("what is no Go: %v", err)
	}
}

// delayOnly imports the package of the delays, and unsafe.
type delayOnly struct{}

func (delayOnly) Import(path string) (*types.Package, error) {
	switch path {
	case "unsafe":
		return types.Unsafe, nil
	case testPath:
		p := types.NewPackage(path, "delay")
		p.Scope().Insert(types.NewFunc(token.NoPos, p, "Perhaps", types.NewSignatureType(nil, nil, nil, nil, nil, false)))
		p.MarkComplete()
		return p, nil
	}
	return nil, errors.New("imported: " + path)
}

func compiles(t *testing.T, text []byte) {
	t.Helper()
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, "p.go", text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	conf := types.Config{Importer: delayOnly{}}
	if _, err := conf.Check("p", fset, []*ast.File{tree}, nil); err != nil {
		t.Errorf("it does not compile: %v\n%s", err, text)
	}
}

// TestRewriteOfTheTree: every file in scope keeps its lines, and is the file in the tree once the insertions are taken out.
func TestRewriteOfTheTree(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	for _, dir := range []string{"cluster", "serfwatch", "host", "host/*", "host/*/*"} {
		list, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(dir), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range list {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(src, []byte(importName)) {
				t.Errorf("%s has the name %s", file, importName)
			}
			got, err := rewrite(file, src, testPath)
			if err != nil {
				t.Error(err)
				continue
			}
			if got == nil {
				continue
			}
			files++
			if bytes.Count(got, []byte("\n")) != bytes.Count(src, []byte("\n")) {
				t.Errorf("%s has other lines", file)
			}
			back := bytes.Replace(bytes.ReplaceAll(got, []byte(call), nil), []byte(importOf(testPath)), nil, 1)
			if !bytes.Equal(back, src) {
				t.Errorf("%s is changed otherwise than by insertions", file)
			}
			if _, err := parser.ParseFile(token.NewFileSet(), file, got, parser.SkipObjectResolution); err != nil {
				t.Error(err)
			}
		}
	}
	if files < 100 {
		t.Errorf("%d files got delays: this is not the tree", files)
	}
}
