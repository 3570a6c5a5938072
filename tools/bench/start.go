package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const startNote = "`wasilo serve` with testdata/wasm/examples.wasm (stock Go, four kinds) as a process of its own, from exec to the line that says\n" +
	"that it is ready: with compiled code in its cache, with an empty cache, and with no module at all."

func startCases(ctx context.Context, b *bench) ([]*measure, error) {
	dir, err := os.MkdirTemp("", "wasilo-bench-")
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "wasilo")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./host/cmd/wasilo")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	actors, none := filepath.Join(dir, "actors"), filepath.Join(dir, "none")
	wasm, err := os.ReadFile(filepath.Join("testdata", "wasm", "examples.wasm"))
	if err != nil {
		return nil, err
	}
	for _, d := range []string{actors, none} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(actors, "examples.wasm"), wasm, 0o644); err != nil {
		return nil, err
	}
	start := func(ctx context.Context, actors, data string) (time.Duration, error) {
		cmd := exec.CommandContext(ctx, binary, "serve", "-o", "json", "--http", "127.0.0.1:0", "--link", "127.0.0.1:0",
			"--gossip", "127.0.0.1:0", "--actors", actors, "--data", data)
		out, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		took := time.Since(began)
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if err != nil {
			err = fmt.Errorf("no line from wasilo serve: %w (%q)", err, line)
		}
		return took, err
	}
	warm := filepath.Join(dir, "warm")
	if _, err := start(ctx, actors, warm); err != nil {
		return nil, err
	}
	cold := 0
	return []*measure{
		{name: "warm cache", once: func(ctx context.Context) (time.Duration, error) { return start(ctx, actors, warm) }},
		{name: "empty cache", once: func(ctx context.Context) (time.Duration, error) {
			cold++
			return start(ctx, actors, filepath.Join(dir, fmt.Sprint("cold", cold)))
		}},
		{name: "no module", once: func(ctx context.Context) (time.Duration, error) { return start(ctx, none, warm) }},
	}, nil
}
