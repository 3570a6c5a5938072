package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
)

// variant writes a module that is a fixture with a custom section after it: it behaves the same and is another version.
func variant(t *testing.T, fixture, to string, n byte) {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join(fixtures, fixture))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "variant.wasm")
	if err := os.WriteFile(file, append(bytes.Clone(wasm), 0, 3, 1, 'v', n), 0o644); err != nil {
		t.Fatal(err)
	}
	install(t, file, to)
}

// version returns that of a kind as the node serves it, "" if it does not.
func version(n *Node, kind string) string {
	kinds := n.Kinds()
	i := slices.IndexFunc(kinds, func(k gateway.KindInfo) bool { return k.Name == kind })
	if i < 0 {
		return ""
	}
	return kinds[i].Version
}

// running returns the version that an actor runs, "" if it is not active.
func running(n *Node, actor string) string {
	for _, a := range n.Actors(gateway.ActorQuery{Limit: 1 << 20}).Actors {
		if a.Kind+"/"+a.ID == actor {
			return a.Version
		}
	}
	return ""
}

// A file that is replaced again and again under load: no call fails, what is active stays with its version until it is
// passivated, and what is activated has the new one.
func TestAModuleIsReplacedWhileItIsCalled(t *testing.T) {
	dir := actorsDir(t, "echo.wasm")
	file := filepath.Join(dir, "echo.wasm")
	n := start(t, Config{ActorsDir: dir, Watch: true, Kinds: map[string]KindLimits{"echo": {Idle: time.Minute}}})
	mustCall(t, n, "echo/pinned", "echo", "1")
	first := running(n, "echo/pinned")
	if first == "" || first != version(n, "echo") {
		t.Fatalf("version %q", first)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var calls, told atomic.Int64
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				actor := fmt.Sprintf("echo/fresh-%d-%d", c, i)
				if c == 3 {
					id, _ := abi.ParseIdentity(actor)
					if _, err := n.Send(ctx, &abi.Envelope{Target: id, Method: "echo", Flags: abi.OneWay}); err != nil && ctx.Err() == nil {
						t.Errorf("one-way to %s: %v", actor, err)
					}
					told.Add(1)
				}
				if got, err := call(n, actor, "echo", "7"); err != nil || got != "7" {
					t.Errorf("%s: %s, %v", actor, got, err)
				}
				if got, err := call(n, "echo/pinned", "echo", "8"); err != nil || got != "8" {
					t.Errorf("pinned: %s, %v", got, err)
				}
				calls.Add(2)
			}
		})
	}
	last := first
	for i := range 6 {
		variant(t, "echo.wasm", file, byte(i))
		eventually(t, "a new version", func() bool { return version(n, "echo") != last })
		last = version(n, "echo")
		mustCall(t, n, fmt.Sprint("echo/after", i), "echo", "1")
		if v := running(n, fmt.Sprint("echo/after", i)); v != last {
			t.Errorf("an actor activated after the change runs %.8s, not %.8s", v, last)
		}
	}
	cancel()
	wg.Wait()
	if v := running(n, "echo/pinned"); v != first {
		t.Errorf("the active one went to %.8s from %.8s", v, first)
	}
	if err := n.Passivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustCall(t, n, "echo/pinned", "echo", "1")
	if v := running(n, "echo/pinned"); v != last {
		t.Errorf("after its passivation it runs %.8s, not %.8s", v, last)
	}
	t.Logf("%d calls, %d messages", calls.Load(), told.Load())
}

// The catalog closes what it has replaced before it tells of it. Until the node has heard, it looks by itself.
func TestNobodyStartsFromAClosedModule(t *testing.T) {
	dir := actorsDir(t, "echo.wasm")
	n := start(t, Config{ActorsDir: dir, Watch: true})
	mustCall(t, n, "echo/a", "echo", "1")
	old := version(n, "echo")
	n.rebuilding.Lock() // OnChange has to wait
	unlock := sync.OnceFunc(n.rebuilding.Unlock)
	defer unlock()
	variant(t, "echo.wasm", filepath.Join(dir, "echo.wasm"), 1)
	eventually(t, "a new version", func() bool {
		k, ok := n.catalog.Kind("echo")
		return ok && k.Version != old
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if got, err := call(n, fmt.Sprint("echo/new", i), "echo", "7"); err != nil || got != "7" {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
	unlock()
	wg.Wait()
	for i := range 8 {
		if v := running(n, fmt.Sprint("echo/new", i)); v == old || v == "" {
			t.Errorf("new%d runs %.8s", i, v)
		}
	}
}

// A file that goes takes its kinds and their actors with it, and brings them back.
func TestAModuleIsDeletedAndComesBack(t *testing.T) {
	dir := actorsDir(t, "echo.wasm", "hostcalls.wasm")
	file := filepath.Join(dir, "echo.wasm")
	n := start(t, Config{ActorsDir: dir, Watch: true})
	mustCall(t, n, "echo/a", "echo", "1")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the kind", func() bool { return version(n, "echo") == "" })
	eventually(t, "a call's refusal", func() bool { // the actor answers until the cluster has been told
		_, err := call(n, "echo/a", "echo", "1")
		if err != nil {
			wantCode(t, err, abi.ErrUnknownKind, "echo")
		}
		return err != nil
	})
	eventually(t, "the end of its actors", func() bool { return running(n, "echo/a") == "" })
	if !n.Ready().Ready {
		t.Error("not ready")
	}
	install(t, filepath.Join(fixtures, "echo.wasm"), file)
	eventually(t, "the kind", func() bool { return version(n, "echo") != "" })
	mustCall(t, n, "echo/a", "echo", "1")
}

// Two files that define one kind: the first serves, the second is refused with the names of both, and takes over when the
// first goes.
func TestTwoModulesOfOneKind(t *testing.T) {
	dir := actorsDir(t, "echo.wasm")
	first, second := filepath.Join(dir, "echo.wasm"), filepath.Join(dir, "zecho.wasm")
	n := start(t, Config{ActorsDir: dir, Watch: true})
	one := version(n, "echo")
	variant(t, "echo.wasm", second, 1)
	var refused gateway.FileInfo
	eventually(t, "a refusal", func() bool {
		for _, f := range n.Files() {
			if f.State == gateway.FileFailed {
				refused = f
				return true
			}
		}
		return false
	})
	for _, want := range []string{"echo", filepath.Base(first), filepath.Base(second)} {
		if !bytes.Contains([]byte(refused.Path+" "+refused.Error), []byte(want)) {
			t.Errorf("%s: %q lacks %q", refused.Path, refused.Error, want)
		}
	}
	mustCall(t, n, "echo/a", "echo", "1")
	if v := running(n, "echo/a"); v != one {
		t.Errorf("it runs %.8s", v)
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second", func() bool { v := version(n, "echo"); return v != "" && v != one })
	mustCall(t, n, "echo/b", "echo", "1")
	if v := running(n, "echo/b"); v == one {
		t.Error("it runs the first")
	}
}
