package host

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/gateway"
)

// deploy puts a stock Go module, which takes seconds to compile, into the directory of a node without a cache of it, and returns once
// the node has noticed. Its kinds are bank, chat, counter and ratelimit.
func deploy(t *testing.T, n *Node) {
	t.Helper()
	install(t, filepath.Join(fixtures, "examples.wasm"), filepath.Join(n.cfg.ActorsDir, "examples.wasm"))
	eventually(t, "the load", func() bool { return isLoading(n, "examples.wasm") })
}

func isLoading(n *Node, name string) bool {
	for _, f := range n.Files() {
		if filepath.Base(f.Path) == name && !f.LoadingSince.IsZero() {
			return true
		}
	}
	return false
}

// request is a call as the gateway makes it.
func request(n *Node, actor, method, js string, timeout time.Duration) (string, error) {
	id, err := abi.ParseIdentity(actor)
	if err != nil {
		return "", err
	}
	if _, err := n.Method(context.Background(), id.Kind(), method, time.Now().Add(timeout)); err != nil {
		return "", err
	}
	return callFor(n, actor, method, js, timeout)
}

// While a module is compiled nobody knows which kinds it has. Requests for kinds that are not known wait for it.
func TestRequestsWaitForAKindThatIsCompiled(t *testing.T) {
	n := start(t, Config{ActorsDir: actorsDir(t, "echo.wasm"), CacheDir: t.TempDir(), Watch: true})
	deploy(t, n)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, kind := range []string{"counter", "bank"} {
		wg.Go(func() {
			method := []string{"get", "balance"}[i]
			if _, err := request(n, kind+"/a", method, "", time.Minute); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		})
	}
	wg.Go(func() { // not through the gateway, as actors and programs do
		id, _ := abi.ParseIdentity("counter/b")
		if _, err := n.API().Request(t.Context(), id, cluster.Message{Method: "get", Payload: []byte{0xa0}, Timeout: time.Minute}); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		_, err := request(n, "nobody/a", "get", "", time.Minute)
		wantUnknown(t, err, "nobody", "echo", "counter")
	})

	_, err := request(n, "counter/c", "get", "", 20*time.Millisecond)
	wantCode(t, err, abi.ErrNotReady, "counter", "loading examples.wasm for ")
	if _, err := callFor(n, "counter/c", "get", "", 20*time.Millisecond); abi.CodeOf(err) != abi.ErrNotReady {
		t.Errorf("without the gateway: %v", err)
	}
	if _, err := request(n, "UPPER/c", "get", "", time.Minute); abi.CodeOf(err) == abi.ErrNotReady || err == nil {
		t.Errorf("an impossible name: %v", err)
	}
	if got, err := request(n, "echo/a", "echo", "1", time.Minute); err != nil || got != "1" {
		t.Errorf("another kind: %s, %v", got, err)
	}
	ready := n.Ready()
	detail := ""
	for _, c := range ready.Checks {
		detail += c.Name + ": " + c.Detail + "\n"
	}
	if !ready.Ready || !strings.Contains(detail, "examples.wasm: loading for ") || !strings.Contains(detail, "0 files refused, 1 loading") {
		t.Errorf("ready %v: %s", ready.Ready, detail)
	}
	for _, f := range n.Files() {
		if loading := filepath.Base(f.Path) == "examples.wasm"; loading != (f.State == gateway.FileLoading) {
			t.Errorf("%+v", f)
		}
	}
	if !isLoading(n, "examples.wasm") {
		t.Fatal("the module was compiled too soon for this test to tell anything")
	}
	wg.Wait()
	if isLoading(n, "examples.wasm") || n.waiting.Load() != 0 {
		t.Errorf("%d still wait; files %+v", n.waiting.Load(), n.Files())
	}
}

// wantUnknown is for goroutines.
func wantUnknown(t *testing.T, err error, words ...string) {
	if abi.CodeOf(err) != abi.ErrUnknownKind {
		t.Errorf("error %v, want unknown_kind", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
}

// What is broken is waited for no longer than it takes to find out.
func TestAModuleThatCannotBeLoadedIsNotWaitedFor(t *testing.T) {
	dir := actorsDir(t)
	n := start(t, Config{ActorsDir: dir, Watch: true})
	if err := os.WriteFile(filepath.Join(dir, "bad.wasm"), []byte("no module"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the load", func() bool { return len(n.Files()) > 0 })
	_, err := request(n, "bad/a", "get", "", time.Minute)
	wantCode(t, err, abi.ErrUnknownKind, "bad")
	if files := n.Files(); len(files) != 1 || files[0].State != gateway.FileFailed || !files[0].LoadingSince.IsZero() {
		t.Errorf("%+v", files)
	}
}

// Nobody who waits for a kind holds up the end of the node.
func TestWaitingForAKindEndsWithTheNode(t *testing.T) {
	n := start(t, Config{ActorsDir: actorsDir(t), CacheDir: t.TempDir(), Watch: true})
	deploy(t, n)
	errs := make(chan error, 2)
	go func() {
		_, err := n.Method(context.Background(), "counter", "get", time.Now().Add(time.Hour))
		errs <- err
	}()
	go func() {
		_, err := callFor(n, "counter/a", "get", "", time.Hour)
		errs <- err
	}()
	eventually(t, "the waiter", func() bool { return n.waiting.Load() == 1 })
	if err := n.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for range cap(errs) {
		wantCode(t, <-errs, abi.ErrShuttingDown)
	}
}

// A kind of another node is called at once, whatever this one loads.
func TestAKindOfAnotherNodeDoesNotWaitForALoad(t *testing.T) {
	p := newParty(t)
	cfg := p.config("n1")
	cfg.ActorsDir, cfg.CacheDir, cfg.Watch = actorsDir(t), t.TempDir(), true
	n1 := p.add(cfg)
	n2 := p.add(p.config("n2", counting("count")))
	p.agree()
	deploy(t, n1)
	if got, err := request(n1, "count/a", "add", "", time.Minute); err != nil || got != "1" {
		t.Errorf("%s, %v", got, err)
	}
	_, err := request(n1, "counter/a", "get", "", 20*time.Millisecond)
	wantCode(t, err, abi.ErrNotReady, "examples.wasm")
	if !isLoading(n1, "examples.wasm") {
		t.Fatal("the module was compiled too soon for this test to tell anything")
	}
	if _, err := request(n1, "counter/a", "get", "", time.Minute); err != nil {
		t.Error(err)
	}
	p.until("n2 knows the kind", func() bool { return len(n2.runtime.View().Hosts("counter")) == 1 })
	if _, err := request(n2, "counter/b", "get", "", time.Minute); err != nil {
		t.Error(err)
	}
}

// One node has the module, another one is asked.
func TestAKindThatAnotherNodeCompiles(t *testing.T) {
	p := newParty(t)
	cfg := p.config("n1")
	cfg.ActorsDir, cfg.CacheDir, cfg.Watch = actorsDir(t), t.TempDir(), true
	n1 := p.add(cfg)
	n2 := p.add(p.config("n2", counting("count")))
	p.agree()
	if _, err := request(n2, "counter/a", "get", "", time.Minute); err == nil || abi.CodeOf(err) != abi.ErrUnknownKind {
		t.Errorf("before: %v", err)
	}
	deploy(t, n1)
	var wg sync.WaitGroup
	defer wg.Wait()
	p.until("n2 hears of it", func() bool {
		_, err := request(n2, "counter/a", "get", "", 300*time.Millisecond)
		return abi.CodeOf(err) == abi.ErrNotReady && strings.Contains(err.Error(), "n1 is loading examples.wasm for ")
	})
	wg.Go(func() {
		if _, err := request(n2, "counter/a", "get", "", time.Minute); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		id, _ := abi.ParseIdentity("counter/b")
		if _, err := n2.API().Request(t.Context(), id, cluster.Message{Method: "get", Payload: []byte{0xa0}, Timeout: time.Minute}); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		_, err := request(n2, "nobody/a", "get", "", time.Minute)
		wantUnknown(t, err, "nobody", "count")
	})
	if got, err := request(n2, "count/a", "add", "", time.Minute); err != nil || got != "1" {
		t.Errorf("%s, %v", got, err)
	}
	if !isLoading(n1, "examples.wasm") {
		t.Fatal("the module was compiled too soon for this test to tell anything")
	}
}
