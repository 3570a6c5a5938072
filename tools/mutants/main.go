// Mutants shows that the tests of the requirements can fail: for each row of rows.toml it takes the lines out of the production code
// that the row stands on, one after another, runs the row's tests, and wants the one that is named to fail.
//
//	go run ./tools/mutants             every row
//	go run ./tools/mutants -row B2.3   one
//	go run ./tools/mutants -doc        write docs/requirements.md instead
//
// Nothing is changed on disk: the compiler is given the mutant as an overlay. First all tests have to pass without one. A
// mutant that does not compile, or that no test notices, is an error and ends the command with 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("mutants", flag.ContinueOnError)
	fs.SetOutput(stderr)
	row := fs.String("row", "", "only this row, such as B2.3")
	doc := fs.Bool("doc", false, "write docs/requirements.md instead")
	jobs := fs.Int("jobs", runtime.NumCPU(), "mutants at once")
	if err := fs.Parse(args); err != nil || fs.NArg() > 0 || *jobs < 1 {
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "mutants:", err)
		return 1
	}
	p, err := openProject(".")
	if err != nil {
		return fail(err)
	}
	if *doc {
		if err := os.WriteFile(filepath.Join(p.root, docFile), []byte(p.document()), 0o644); err != nil {
			return fail(err)
		}
		return 0
	}
	if err := p.check(); err != nil {
		return fail(err)
	}
	todo, err := p.pick(*row)
	if err != nil {
		return fail(err)
	}
	if err := p.run(ctx, todo, *jobs, stdout); err != nil {
		return fail(err)
	}
	return 0
}
