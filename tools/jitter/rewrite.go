package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// What is inserted. The name of the import is one that nobody gives a variable.
const (
	importName = "jitter_delay"
	call       = " " + importName + ".Perhaps();"
)

// rewrite puts a call at the beginning of every function body, function literal, if body and case of a select. Everything that is
// inserted is on a line that was there before: the lines of panics and failures are those of the file in the tree. It returns nil where
// there is nothing to insert.
func rewrite(name string, src []byte, delayPath string) ([]byte, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	offset := func(p token.Pos) int { return fset.File(p).Offset(p) }
	var at []int
	into := func(b *ast.BlockStmt) {
		if b != nil {
			at = append(at, offset(b.Lbrace)+1)
		}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if leave(n) {
				return false
			}
			into(n.Body)
		case *ast.FuncLit:
			into(n.Body)
		case *ast.IfStmt:
			into(n.Body)
		case *ast.CommClause:
			at = append(at, offset(n.Colon)+1)
		}
		return true
	})
	if len(at) == 0 {
		return nil, nil
	}
	slices.Sort(at)
	var out bytes.Buffer
	last := 0
	insert := func(at int, text string) {
		out.Write(src[last:at])
		out.WriteString(text)
		last = at
	}
	insert(offset(tree.Name.End()), importOf(delayPath))
	for _, a := range at {
		insert(a, call)
	}
	out.Write(src[last:])
	return out.Bytes(), nil
}

// importOf is what follows the package's name.
func importOf(delayPath string) string { return "; import " + importName + ` "` + delayPath + `"` }

// leave reports whether a function stays as it is: examples, which are there to be read and are compared with what they print; TestMain;
// String and Error, which loggers call under their locks and in numbers, and which decide nothing; and what has orders for the compiler
// (go:nosplit, go:linkname and such), where a call may be one too many.
func leave(f *ast.FuncDecl) bool {
	switch name := f.Name.Name; {
	case f.Recv == nil && (strings.HasPrefix(name, "Example") || name == "TestMain"):
		return true
	case f.Recv != nil && (name == "String" || name == "Error"):
		return true
	}
	return f.Doc != nil && slices.ContainsFunc(f.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:") })
}
