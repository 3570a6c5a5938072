// Command wasmbuild builds the WebAssembly modules that are kept in the repository, and checks that they are what their
// sources say.
//
//	wasmbuild [DIR]          rebuild every module of DIR/MANIFEST (default testdata/wasm) and write down the new hashes
//	wasmbuild -check [DIR]   compare every module with its hash, and with what its source builds to where the toolchain
//	                         is here in the same version
//	wasmbuild -o FILE PKG    build the stock Go guest PKG into FILE
//
// A MANIFEST names for each module its source, the toolchain, the command that built it and the sha256 of the result.
// Progress goes to stderr. The exit code is 1 when something failed or differs, 2 for a wrong command line.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

const usage = `usage: wasmbuild [-check] [DIR]
       wasmbuild -o FILE PKG
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("wasmbuild", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	check := flags.Bool("check", false, "change nothing, compare")
	out := flags.String("o", "", "build one Go guest into this `file`")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *out != "" {
		if *check || flags.NArg() != 1 {
			fmt.Fprint(stderr, usage)
			return 2
		}
		if err := buildGo(ctx, *out, flags.Arg(0), stderr); err != nil {
			fmt.Fprintln(stderr, "wasmbuild:", err)
			return 1
		}
		return 0
	}
	dir := filepath.Join("testdata", "wasm")
	switch flags.NArg() {
	case 0:
	case 1:
		dir = flags.Arg(0)
	default:
		fmt.Fprint(stderr, usage)
		return 2
	}
	m, err := readManifest(dir)
	if err == nil {
		if *check {
			err = m.check(ctx, stderr)
		} else {
			err = m.rebuild(ctx, stderr)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "wasmbuild:", err)
		return 1
	}
	return 0
}
