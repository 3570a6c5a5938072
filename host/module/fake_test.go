package module

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hang bounds every wait: a test that comes near it is broken.
const hang = time.Minute

// program is what the fake loader makes of a file.
type program struct {
	desc   *abi.Description
	sum    string
	size   int
	closed atomic.Int32
	bad    bool // panics when closed
}

var _ Program = (*program)(nil)

func (p *program) Description() *abi.Description { return p.desc }
func (p *program) SHA256() string                { return p.sum }
func (p *program) Size() int                     { return p.size }
func (p *program) Close() error {
	p.closed.Add(1)
	if p.bad {
		panic("planted in Close")
	}
	return nil
}

// loader reads "module KIND… end" with any filler; without the end it is a truncated file. Other words plant a fault.
type loader struct {
	mu      sync.Mutex
	calls   map[string]int // by contents
	made    []*program
	running int
	most    int           // loads at once
	gate    chan struct{} // a load waits for it; nil: none does
	entered chan struct{} // a load that waits says so
}

var _ Loader[*program] = (*loader)(nil)

func (l *loader) Load(ctx context.Context, wasm []byte) (*program, error) {
	l.mu.Lock()
	l.calls[string(wasm)]++
	l.running++
	l.most = max(l.most, l.running)
	gate := l.gate
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.running--
		l.mu.Unlock()
	}()
	if gate != nil {
		l.entered <- struct{}{}
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	words := strings.Fields(string(wasm))
	if len(words) == 0 || words[0] != "module" {
		if len(words) > 0 && words[0] == "panic" {
			panic("planted")
		}
		return nil, errors.New("not a module")
	}
	if words[len(words)-1] != "end" {
		return nil, errors.New("truncated")
	}
	sum := sha256.Sum256(wasm)
	p := &program{sum: hex.EncodeToString(sum[:]), size: len(wasm)}
	if words[1] != "nothing" {
		p.desc = &abi.Description{}
		for _, w := range words[1 : len(words)-1] {
			if w == "badclose" {
				p.bad = true
			} else if !strings.HasPrefix(w, "#") {
				p.desc.Kinds = append(p.desc.Kinds, abi.KindDescription{Name: w})
			}
		}
	}
	l.mu.Lock()
	l.made = append(l.made, p)
	l.mu.Unlock()
	return p, nil
}

func (l *loader) loads(contents string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[contents]
}

// logs keeps what was logged.
type logs struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // holds an item when something was written
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), part)
}

// house is a catalog over a directory of its own.
type house struct {
	*Catalog[*program]
	t       *testing.T
	dir     string
	loader  *loader
	logs    *logs
	changes chan struct{} // one for each OnChange
}

// build makes a house over the files, not started. Config may be changed by opts.
func build(t *testing.T, files map[string]string, opts ...func(*Config[*program])) *house {
	t.Helper()
	h := &house{t: t, dir: filepath.Join(t.TempDir(), "actors"), logs: &logs{more: make(chan struct{}, 1)}, changes: make(chan struct{}, 1000)}
	h.loader = &loader{calls: make(map[string]int)}
	h.mkdir()
	for name, text := range files {
		h.write(name, text)
	}
	cfg := Config[*program]{
		Dir: h.dir, Loader: h.loader, Watch: true, Debounce: 10 * time.Millisecond, Poll: 20 * time.Millisecond,
		Log:      slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnChange: func() { h.changes <- struct{}{} },
	}
	for _, opt := range opts {
		opt(&cfg)
	}
	h.Catalog = New(cfg)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// open is build and Start.
func open(t *testing.T, files map[string]string, opts ...func(*Config[*program])) *house {
	t.Helper()
	h := build(t, files, opts...)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) mkdir() {
	h.t.Helper()
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) file(name string) string { return filepath.Join(h.dir, name) }

// write puts the file there whole: no look sees half of it.
func (h *house) write(name, text string) {
	h.t.Helper()
	h.overwrite(".new", text)
	h.rename(h.file(".new"), h.file(name))
}

// overwrite empties and fills the file in place; a look may see any part of it.
func (h *house) overwrite(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.file(name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) rename(from, to string) {
	h.t.Helper()
	if err := os.Rename(from, to); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) remove(name string) {
	h.t.Helper()
	if err := os.RemoveAll(h.file(name)); err != nil {
		h.t.Fatal(err)
	}
}

// until waits for a view, the end of a load, or a line of the log, with which ok holds.
func (h *house) until(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.After(hang); ; {
		_, loading := h.Loading()
		if ok() {
			return
		}
		select {
		case <-h.changes:
		case <-loading:
		case <-h.logs.more:
		case <-deadline:
			h.t.Fatalf("not %s within %v\nfiles: %+v\nlog:\n%s", what, hang, h.Files(), h.logs)
		}
	}
}

// names are the kinds served, joined.
func (h *house) names() string {
	var names []string
	for _, k := range h.Kinds() {
		names = append(names, k.Name)
	}
	return strings.Join(names, " ")
}

func (h *house) untilKinds(want string) {
	h.t.Helper()
	h.until("kinds "+want, func() bool { return h.names() == want })
}

// untilClosed waits until what left the view is closed, which it is before OnChange tells of the view, and after readers may see it.
func (h *house) untilClosed(what string, p *program) {
	h.t.Helper()
	h.until(what+" closed", func() bool { return p.closed.Load() > 0 })
	if n := p.closed.Load(); n != 1 {
		h.t.Errorf("%s was closed %d times", what, n)
	}
}

// status is the status of one file; the zero one if the catalog does not know it.
func (h *house) status(name string) FileStatus {
	for _, f := range h.Files() {
		if f.Path == h.file(name) {
			return f
		}
	}
	return FileStatus{}
}

func (h *house) untilState(name string, want State) FileStatus {
	h.t.Helper()
	h.until(fmt.Sprintf("%s %s", name, want), func() bool { return h.status(name).State == want })
	return h.status(name)
}

// program is what serves the kind.
func (h *house) program(kind string) *program {
	h.t.Helper()
	k, ok := h.Kind(kind)
	if !ok {
		h.t.Fatalf("no kind %s, but %s", kind, h.names())
	}
	return k.Program
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}
