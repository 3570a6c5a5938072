// Wasip1 runs a program that was built for GOOS=wasip1 GOARCH=wasm, by wazero, and ends with its exit code. It is made for
//
//	GOOS=wasip1 GOARCH=wasm go test -exec "go run …/tools/wasip1" ./cluster/core
//
// The program sees the working directory, to read alone; no other file, no variable, no socket.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "wasip1:", err)
	}
	os.Exit(code)
}

// run runs the module args[0] with the rest as its arguments. err says why it could not be run, or did not exit by itself.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int, err error) {
	if len(args) == 0 {
		return 2, errors.New("which program? wasip1 FILE.wasm [ARG]…")
	}
	wasm, err := os.ReadFile(args[0])
	if err != nil {
		return 2, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return 2, err
	}
	// A run is ended by its context, so that go test's time-out and ^C are heard.
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCloseOnContextDone(true))
	defer func() { err = errors.Join(err, r.Close(context.WithoutCancel(ctx))) }()
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		return 2, err
	}
	slash := filepath.ToSlash(dir)
	config := wazero.NewModuleConfig().WithName("").WithArgs(append([]string{filepath.Base(args[0])}, args[1:]...)...).
		WithStdout(stdout).WithStderr(stderr).
		WithSysNanotime().WithSysWalltime().WithSysNanosleep().WithRandSource(rand.Reader).
		WithEnv("PWD", slash). // by which Go's runtime finds where relative paths begin
		WithFSConfig(wazero.NewFSConfig().WithReadOnlyDirMount(dir, slash))
	_, err = r.InstantiateWithConfig(ctx, wasm, config)
	var exit *sys.ExitError
	switch {
	case errors.As(err, &exit) && ctx.Err() == nil:
		return int(exit.ExitCode()), nil
	case err != nil:
		return 2, fmt.Errorf("%s: %w", args[0], err)
	}
	return 0, nil
}
