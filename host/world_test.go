package host

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/abi/cbor"
)

// hang is what no wait of a test exceeds but one that would never end. A machine may be ten times slower than another, and may stand still
// for seconds.
const hang = 2 * time.Minute

// TestMain looks for goroutines that nobody ended. One of memberlist's that waits for the answer to a probe ends by itself, within
// the probe's time, which a slow machine stretches.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "wasilo-host-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	compiled = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for began := time.Now(); code == 0; {
		err := goleak.Find()
		if err == nil {
			break
		}
		if time.Since(began) > hang {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// fixtures is where the prebuilt modules lie.
const fixtures = "../testdata/wasm"

// compiled is one cache for all tests of this run: a stock Go guest takes seconds to compile without.
var compiled string

// actorsDir makes a directory with copies of the fixtures named.
func actorsDir(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		install(t, filepath.Join(fixtures, name), filepath.Join(dir, filepath.Base(name)))
	}
	return dir
}

// install copies a file into place by a rename, as a careful deploy does.
func install(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	tmp := to + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, to); err != nil {
		t.Fatal(err)
	}
}

// start runs a node until the test ends.
func start(t testing.TB, cfg Config) *Node {
	t.Helper()
	if cfg.DataDir == "" && cfg.ActorsDir != "" {
		cfg.DataDir = t.TempDir()
		if cfg.CacheDir == "" {
			cfg.CacheDir = filepath.Join(compiled, "cache")
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(newDiary(t), nil))
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			t.Errorf("shutting down: %v", err)
		}
	})
	return n
}

// diary keeps the log of a test's nodes, and shows it at the end of a test that failed: what failed comes first then, whoever cuts the rest off.
type diary struct {
	mu    sync.Mutex
	lines strings.Builder
}

// newDiary is to be called before the nodes are made, so that it hears of their end.
func newDiary(t testing.TB) *diary {
	j := &diary{}
	t.Cleanup(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		if t.Failed() {
			t.Logf("what the nodes said:\n%s", j.lines.String())
		}
	})
	return j
}

func (j *diary) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines.Write(p)
}

// call sends JSON to an actor and returns its reply as JSON; no bytes of a payload are JSON's null.
func call(n *Node, actor, method, js string) (string, error) {
	return callFor(n, actor, method, js, hang)
}

func callFor(n *Node, actor, method, js string, timeout time.Duration) (string, error) {
	id, err := abi.ParseIdentity(actor)
	if err != nil {
		return "", err
	}
	if js == "" {
		js = "{}"
	}
	payload, err := cbor.FromJSON([]byte(js), nil)
	if err != nil {
		return "", err
	}
	out, err := n.Send(context.Background(), &abi.Envelope{Target: id, Method: method, Payload: payload, Deadline: time.Now().Add(timeout)})
	if err != nil {
		return "", err
	}
	if len(out) == 0 {
		return "null", nil
	}
	b, err := cbor.ToJSON(out, nil)
	return string(b), err
}

func mustCall(t testing.TB, n *Node, actor, method, js string) string {
	t.Helper()
	out, err := call(n, actor, method, js)
	if err != nil {
		t.Fatalf("%s %s %s: %v", actor, method, js, err)
	}
	return out
}

// field reads one member of a JSON object.
func field[T any](t testing.TB, js, name string) T {
	t.Helper()
	var m map[string]json.RawMessage
	var v T
	if err := json.Unmarshal([]byte(js), &m); err != nil {
		t.Fatalf("%s: %v", js, err)
	}
	if err := json.Unmarshal(m[name], &v); err != nil {
		t.Fatalf("%s of %s: %v", name, js, err)
	}
	return v
}

func wantCode(t testing.TB, err error, code abi.Code, words ...string) {
	t.Helper()
	if abi.CodeOf(err) != code {
		t.Fatalf("error %v (%s), want %s", err, abi.CodeOf(err), code.String())
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
}

// lines is a log that a test looks into.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// find returns the first line with the words, "" if there is none.
func (l *lines) find(words string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, words) {
			return line
		}
	}
	return ""
}
