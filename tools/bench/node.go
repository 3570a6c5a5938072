package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/link/ca"
)

// Kinds of native actors: one that echoes, one whose activations can be told apart.
const (
	echoKind  = "native"
	namedKind = "named"
)

// native is a kind of actors in Go.
func native(name string, instance func() actor.Instance) host.NativeKind {
	return host.NativeKind{Desc: abi.KindDescription{Name: name, Events: []abi.EventTag{abi.EventCall}},
		New: func(*actor.Host) (actor.Instance, error) { return instance(), nil }}
}

type nativeEcho struct{}

func (nativeEcho) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	out.Kind, out.Payload = abi.OutReply, ev.Payload
	return nil
}

func (nativeEcho) Close() error { return nil }

// nativeNamed answers with the number of its activation.
type nativeNamed uint64

func newNamed() actor.Instance { return nativeNamed(rand.Uint64() | 1) }

func (n nativeNamed) Turn(_ *abi.Event, _ time.Time, out *abi.Output) error {
	out.Kind, out.Payload = abi.OutReply, abi.AppendUint(nil, uint64(n))
	return nil
}

func (nativeNamed) Close() error { return nil }

// activationOf reads what it answered.
func activationOf(payload []byte) uint64 {
	r := abi.NewReader(payload)
	return r.Uint()
}

// startNode starts a node with the fixtures named, and the native kind that echoes.
func startNode(ctx context.Context, b *bench, http string, limits host.Limits, fixtures ...string) (*host.Node, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	if err := copyFixtures(dir, fixtures...); err != nil {
		return nil, err
	}
	n, err := host.New(host.Config{HTTP: http, ActorsDir: dir, DataDir: filepath.Join(dir, "data"), Limits: limits,
		Native: []host.NativeKind{native(echoKind, func() actor.Instance { return nativeEcho{} })}})
	if err != nil {
		return nil, err
	}
	if err := b.keep(ctx, n); err != nil {
		return nil, err
	}
	for _, f := range n.Files() {
		if f.Error != "" {
			return nil, fmt.Errorf("%s: %s", f.Path, f.Error)
		}
	}
	return n, nil
}

// tempDir makes a directory that goes with the part.
func (b *bench) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "wasilo-bench-")
	if err == nil {
		b.onEnd(func() { os.RemoveAll(dir) })
	}
	return dir, err
}

func copyFixtures(dir string, names ...string) error {
	for _, name := range names {
		wasm, err := os.ReadFile(filepath.Join("testdata", "wasm", name))
		if err != nil {
			return fmt.Errorf("run from the project's root: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), wasm, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// keep starts a node of this process, which is shut down with the part.
func (b *bench) keep(ctx context.Context, n *host.Node) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	b.onEnd(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "bench: shutting down:", err)
		}
	})
	return nil
}

// clusterName names the cluster of all nodes here that have one.
const clusterName = "bench"

// openNode makes a node of several. A client hosts nothing; a member has the fixture's kinds, or else the native ones.
func openNode(s *spec, mode cluster.Mode) (*host.Node, error) {
	authority, err := ca.Load(s.CA, ca.Options{})
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.Dir, s.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cert, key, err := authority.WriteNode(dir, ca.ID{Cluster: clusterName, Node: s.ID}, 0)
	if err != nil {
		return nil, err
	}
	cfg := host.Config{ID: s.ID, Cluster: clusterName, Limits: host.Limits{Idle: time.Hour},
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})).With("on", s.ID),
		Net: host.Net{Link: "127.0.0.1:0", Gossip: "127.0.0.1:0", Profile: s.Profile, Mode: mode,
			CA: filepath.Join(s.CA, ca.CertificateFile), Cert: cert, Key: key}}
	if s.Join != "" {
		cfg.Net.Join = []string{s.Join}
	}
	switch {
	case mode == cluster.Client:
	case s.Fixture != "":
		cfg.ActorsDir, cfg.DataDir = filepath.Join(dir, "actors"), filepath.Join(dir, "data")
		if err := os.Mkdir(cfg.ActorsDir, 0o700); err != nil {
			return nil, err
		}
		if err := copyFixtures(cfg.ActorsDir, s.Fixture); err != nil {
			return nil, err
		}
	default:
		cfg.Native = []host.NativeKind{native(echoKind, func() actor.Instance { return nativeEcho{} }),
			native(namedKind, newNamed)}
	}
	return host.New(cfg)
}

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
