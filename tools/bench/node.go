package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/actor"
)

// startNode starts a node with the fixtures named, and a native kind `native` that echoes.
func startNode(ctx context.Context, b *bench, http string, fixtures ...string) (*host.Node, error) {
	dir, err := os.MkdirTemp("", "wasilo-bench-")
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { os.RemoveAll(dir) })
	for _, name := range fixtures {
		wasm, err := os.ReadFile(filepath.Join("testdata", "wasm", name))
		if err != nil {
			return nil, fmt.Errorf("run from the project's root: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), wasm, 0o644); err != nil {
			return nil, err
		}
	}
	n, err := host.New(host.Config{HTTP: http, ActorsDir: dir, DataDir: filepath.Join(dir, "data"),
		Limits: host.Limits{Idle: time.Hour}, Native: []host.NativeKind{{
			Desc: abi.KindDescription{Name: "native", Events: []abi.EventTag{abi.EventCall}},
			New:  func(*actor.Host) (actor.Instance, error) { return nativeEcho{}, nil },
		}}})
	if err != nil {
		return nil, err
	}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	b.onEnd(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "bench: shutting down:", err)
		}
	})
	for _, f := range n.Files() {
		if f.Error != "" {
			return nil, fmt.Errorf("%s: %s", f.Path, f.Error)
		}
	}
	return n, nil
}

type nativeEcho struct{}

func (nativeEcho) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	out.Kind, out.Payload = abi.OutReply, ev.Payload
	return nil
}

func (nativeEcho) Close() error { return nil }

// request sends one request and checks that something came back.
func request(ctx context.Context, n *host.Node, id abi.Identity, method string, payload []byte) error {
	out, err := n.Send(ctx, &abi.Envelope{Target: id, Method: method, Payload: payload, Deadline: time.Now().Add(10 * time.Second)})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%v answered nothing", id)
	}
	return err
}

func identity(kind string, n int) abi.Identity {
	id, err := abi.NewIdentity(kind, strconv.Itoa(n))
	if err != nil {
		panic(err) // a constant and a number
	}
	return id
}

func identities(kind string, n int) []abi.Identity {
	out := make([]abi.Identity, n)
	for i := range out {
		out[i] = identity(kind, i)
	}
	return out
}

// fresh counts identities that no case has used before.
var fresh atomic.Int64
