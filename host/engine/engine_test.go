package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
)

// testCache keeps what the tests compile, for all of them and for the processes that they start.
var testCache = os.Getenv("WASILO_TEST_CACHE")

func TestMain(m *testing.M) {
	mine := testCache == ""
	if mine {
		dir, err := os.MkdirTemp("", "wasilo-engine-")
		if err != nil {
			panic(err)
		}
		testCache = dir
		os.Setenv("WASILO_TEST_CACHE", dir)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if mine {
			os.RemoveAll(testCache)
		}
		os.Exit(code)
	}))
}

// fixture reads a module of testdata/wasm.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "wasm", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	if cfg.CacheDir == "" {
		cfg.CacheDir = testCache
	}
	if cfg.Describe == 0 {
		cfg.Describe = time.Minute
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func mustLoad(t testing.TB, e *Engine, name string) *Module {
	t.Helper()
	m, err := e.Load(context.Background(), fixture(t, name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// instance starts an instance of a fixture on an engine of its own.
func instance(t testing.TB, name string, h Host, opt Options) *Instance {
	t.Helper()
	return instantiate(t, mustLoad(t, newEngine(t, Config{}), name), h, opt)
}

func instantiate(t testing.TB, m *Module, h Host, opt Options) *Instance {
	t.Helper()
	i, err := m.Instantiate(context.Background(), h, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

// call is an event as a client's request makes it.
func call(method string, payload []byte) *abi.Event {
	return &abi.Event{Tag: abi.EventCall, Method: method, Payload: payload, Token: 1, Remaining: time.Second}
}

// turn runs a turn that has a minute.
func turn(i *Instance, ev *abi.Event) (*abi.Output, error) {
	out := &abi.Output{}
	err := i.Turn(ev, time.Now().Add(time.Minute), out)
	return out, err
}

// noHost is a host that nothing is asked of.
type noHost struct{}

func (noHost) Request(*abi.Request) abi.Result {
	return abi.Result{Err: abi.NewError(abi.ErrInternal, "no host")}
}
func (noHost) Start(*abi.Request) (uint32, abi.Code)             { return 0, abi.ErrInternal }
func (noHost) Wait([]uint32, int, time.Duration) (int, abi.Code) { return 0, abi.ErrInternal }
func (noHost) Take(uint32) (res abi.Result, ready bool, code abi.Code) {
	return res, false, abi.ErrInternal
}
func (noHost) Log(slog.Level, string) {}

// logBook collects what is logged.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (b *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n")
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{Memory: 1}, {Memory: MaxMemory + 1}, {MaxMemory: 1 << 32}, {MaxMessage: -1}, {MaxMessage: 1 << 31}, {Describe: -1}} {
		if e, err := New(cfg); err == nil {
			t.Errorf("%+v was accepted: %+v", cfg, e)
		}
	}
}

func TestEveryImportIsImplemented(t *testing.T) {
	if got, want := len(hostFuncs), len(abi.Imports()); got != want {
		t.Errorf("%d host functions for %d imports", got, want)
	}
}

func TestCloseWithModulesOpen(t *testing.T) {
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Load(context.Background(), fixture(t, "echo.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err == nil {
		t.Error("closed with a module open")
	}
	if _, err := e.Load(context.Background(), fixture(t, "echo.wasm")); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed engine loads: %v", err)
	}
	m.Close()
	m.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestModuleOutlivesItsClose(t *testing.T) {
	e := newEngine(t, Config{})
	m, err := e.Load(context.Background(), fixture(t, "echo.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	a := instantiate(t, m, noHost{}, Options{})
	b := instantiate(t, m, noHost{}, Options{})
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Instantiate(context.Background(), noHost{}, Options{}); abi.CodeOf(err) != abi.ErrOwnershipChanged {
		t.Errorf("a closed module was instantiated: %v", err)
	}
	for _, i := range []*Instance{a, b} {
		if out, err := turn(i, call("echo", []byte("x"))); err != nil || string(out.Payload) != "x" {
			t.Errorf("%+v, %v", out, err)
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := e.open.Load(); n != 0 {
		t.Errorf("%d modules are open", n)
	}
}

func TestInstantiateHeedsItsContext(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "echo.wasm")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Instantiate(ctx, noHost{}, Options{}); abi.CodeOf(err) != abi.ErrCanceled {
		t.Errorf("got %v", err)
	}
}

func TestInstantiateMemory(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "echo.wasm")
	_, err := m.Instantiate(context.Background(), noHost{}, Options{Memory: 64 << 10})
	if !errors.Is(err, abi.ErrLimitExceeded) || !strings.Contains(err.Error(), "starts with 128 KiB of memory; its limit is 64 KiB") {
		t.Errorf("got %v", err)
	}
	if _, err := m.Instantiate(context.Background(), noHost{}, Options{Memory: 1 << 33}); err == nil {
		t.Error("8 GiB were accepted")
	}
}
