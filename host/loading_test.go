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

// hold keeps modules from being loaded, so that a load takes as long as a test needs.
type hold struct {
	mu   sync.Mutex
	gate chan struct{} // closed: nothing is held; nil: likewise
}

func (h *hold) config(cfg *Config) { cfg.loading = h.wait }

func (h *hold) wait(ctx context.Context) {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate == nil {
		return
	}
	select {
	case <-gate:
	case <-ctx.Done():
	}
}

// begin holds what is loaded from now on; what it returns lets it go, once and for all.
func (h *hold) begin() (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	gate := make(chan struct{})
	h.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

// deploy puts a module into the directory of a node, and returns once the node has noticed: its load goes on with release. Its kinds are bank,
// chat, counter and ratelimit.
func (h *hold) deploy(t *testing.T, n *Node) (release func()) {
	t.Helper()
	release = h.begin()
	t.Cleanup(release) // before the node ends
	install(t, filepath.Join(fixtures, "examples.wasm"), filepath.Join(n.cfg.ActorsDir, "examples.wasm"))
	eventually(t, "the load", func() bool { return isLoading(n, "examples.wasm") })
	return release
}

// notReady checks that a call which has little time ends with not_ready. A machine that stands still may take all of the time before the
// call begins, which says nothing.
func notReady(t *testing.T, words []string, call func(timeout time.Duration) error) {
	t.Helper()
	for timeout := 50 * time.Millisecond; ; timeout *= 2 {
		err := call(timeout)
		if abi.CodeOf(err) == abi.ErrTimeout && timeout < hang {
			continue
		}
		wantCode(t, err, abi.ErrNotReady, words...)
		return
	}
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
	var hold hold
	cfg := Config{ActorsDir: actorsDir(t, "echo.wasm"), Watch: true}
	hold.config(&cfg)
	n := start(t, cfg)
	release := hold.deploy(t, n)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer release()
	for i, kind := range []string{"counter", "bank"} {
		wg.Go(func() {
			method := []string{"get", "balance"}[i]
			if _, err := request(n, kind+"/a", method, "", hang); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		})
	}
	wg.Go(func() { // not through the gateway, as actors and programs do
		id, _ := abi.ParseIdentity("counter/b")
		if _, err := n.API().Request(t.Context(), id, cluster.Message{Method: "get", Payload: []byte{0xa0}, Timeout: hang}); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		_, err := request(n, "nobody/a", "get", "", hang)
		wantUnknown(t, err, "nobody", "echo", "counter")
	})

	notReady(t, []string{"counter", "loading examples.wasm for "}, func(timeout time.Duration) error {
		_, err := request(n, "counter/c", "get", "", timeout)
		return err
	})
	notReady(t, nil, func(timeout time.Duration) error { // without the gateway
		_, err := callFor(n, "counter/c", "get", "", timeout)
		return err
	})
	if _, err := request(n, "UPPER/c", "get", "", hang); abi.CodeOf(err) == abi.ErrNotReady || err == nil {
		t.Errorf("an impossible name: %v", err)
	}
	if got, err := request(n, "echo/a", "echo", "1", hang); err != nil || got != "1" {
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
		t.Error("the module is loaded though it is held")
	}
	release()
	wg.Wait()
	eventually(t, "the end of the load, for which nobody waits", func() bool { return !isLoading(n, "examples.wasm") && n.waiting.Load() == 0 })
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
	_, err := request(n, "bad/a", "get", "", hang)
	wantCode(t, err, abi.ErrUnknownKind, "bad")
	if files := n.Files(); len(files) != 1 || files[0].State != gateway.FileFailed || !files[0].LoadingSince.IsZero() {
		t.Errorf("%+v", files)
	}
}

// Nobody who waits for a kind holds up the end of the node.
func TestWaitingForAKindEndsWithTheNode(t *testing.T) {
	var hold hold
	cfg := Config{ActorsDir: actorsDir(t), Watch: true}
	hold.config(&cfg)
	n := start(t, cfg)
	hold.deploy(t, n)
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
	cfg.ActorsDir, cfg.Watch = actorsDir(t), true
	var hold hold
	hold.config(&cfg)
	n1 := p.add(cfg)
	n2 := p.add(p.config("n2", counting("count")))
	p.agree()
	release := hold.deploy(t, n1)
	if got, err := request(n1, "count/a", "add", "", hang); err != nil || got != "1" {
		t.Errorf("%s, %v", got, err)
	}
	notReady(t, []string{"examples.wasm"}, func(timeout time.Duration) error {
		_, err := request(n1, "counter/a", "get", "", timeout)
		return err
	})
	if !isLoading(n1, "examples.wasm") {
		t.Error("the module is loaded though it is held")
	}
	release()
	if _, err := request(n1, "counter/a", "get", "", hang); err != nil {
		t.Error(err)
	}
	p.until("n2 knows the kind", func() bool { return len(n2.runtime.View().Hosts("counter")) == 1 })
	if _, err := request(n2, "counter/b", "get", "", hang); err != nil {
		t.Error(err)
	}
}

// One node has the module, another one is asked.
func TestAKindThatAnotherNodeCompiles(t *testing.T) {
	p := newParty(t)
	cfg := p.config("n1")
	cfg.ActorsDir, cfg.Watch = actorsDir(t), true
	var hold hold
	hold.config(&cfg)
	n1 := p.add(cfg)
	n2 := p.add(p.config("n2", counting("count")))
	p.agree()
	if _, err := request(n2, "counter/a", "get", "", hang); err == nil || abi.CodeOf(err) != abi.ErrUnknownKind {
		t.Errorf("before: %v", err)
	}
	release := hold.deploy(t, n1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer release()
	p.until("n2 hears of it", func() bool {
		_, err := request(n2, "counter/a", "get", "", 300*time.Millisecond)
		return abi.CodeOf(err) == abi.ErrNotReady && strings.Contains(err.Error(), "n1 is loading examples.wasm for ")
	})
	wg.Go(func() {
		if _, err := request(n2, "counter/a", "get", "", hang); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		id, _ := abi.ParseIdentity("counter/b")
		if _, err := n2.API().Request(t.Context(), id, cluster.Message{Method: "get", Payload: []byte{0xa0}, Timeout: hang}); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		_, err := request(n2, "nobody/a", "get", "", hang)
		wantUnknown(t, err, "nobody", "count")
	})
	if got, err := request(n2, "count/a", "add", "", hang); err != nil || got != "1" {
		t.Errorf("%s, %v", got, err)
	}
	if !isLoading(n1, "examples.wasm") {
		t.Error("the module is loaded though it is held")
	}
}
