package engine

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/bomb"
	"github.com/wasilo/wasilo/host/forge"
)

// TestHostileLoads gives modules to the engine that are hostile by what they are: each is refused, in words of one line.
func TestHostileLoads(t *testing.T) {
	e := newEngine(t, Config{})
	for _, b := range bomb.All() {
		began := time.Now()
		m, err := e.Load(context.Background(), b.Wasm)
		var le *LoadError
		if !errors.As(err, &le) || m != nil || !strings.Contains(le.Reason, b.Words) {
			t.Errorf("%s: %v, want %s", b.Name, err, b.Words)
			continue
		}
		if strings.ContainsAny(le.Reason, "\n\x1b") || len(le.Reason) > maxReason+10 {
			t.Errorf("%s: %d bytes: %.100q", b.Name, len(le.Reason), le.Reason)
		}
		if d := time.Since(began); d > time.Minute {
			t.Errorf("%s took %v", b.Name, d)
		}
	}
	if n := e.open.Load(); n != 0 {
		t.Errorf("%d refused modules are held", n)
	}
}

// TestCompileBombs: what takes the compiler much more than its bytes' worth is refused before, and quickly; the rest gets as far as to
// its exports.
func TestCompileBombs(t *testing.T) {
	e := newEngine(t, Config{})
	for _, b := range bomb.Compile() {
		if Raced && b.Words == "" && len(b.Wasm) > 64<<10 {
			t.Logf("%s: left out, it would be compiled for long under the race detector", b.Name)
			continue
		}
		_, err := e.Load(context.Background(), b.Wasm)
		var le *LoadError
		switch {
		case !errors.As(err, &le):
			t.Errorf("%s: %v", b.Name, err)
		case b.Words == "" && le.Stage != StageExports:
			t.Errorf("%s: %v, want it compiled", b.Name, err)
		case b.Words != "" && (le.Stage != StageCompile || !strings.Contains(le.Reason, b.Words)):
			t.Errorf("%s: %v, want %s", b.Name, err, b.Words)
		}
	}
}

// TestHostileNames: what a guest calls its functions goes into errors and logs, but not all of it.
func TestHostileNames(t *testing.T) {
	m, err := newEngine(t, Config{}).Load(context.Background(), bomb.LongNames("hostile_names"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	i := instantiate(t, m, noHost{}, Options{})
	_, err = turn(i, call("run", nil))
	if abi.CodeOf(err) != abi.ErrTrap || len(err.Error()) > maxReason+100 || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("%d bytes: %.200q", len(err.Error()), err.Error())
	}
}

// TestHostileForms runs the fixtures that never end, whatever they do: each is stopped by its time or by another bound.
func TestHostileForms(t *testing.T) {
	const late, stack = "exceeded its limit of ", "more than its 8 MiB of stack" // what is left of 100 ms when the turn begins
	tests := []struct {
		file string
		code abi.Code
		want string
	}{
		{"call_bomb", abi.ErrLimitExceeded, late}, {"deep_frames", abi.ErrLimitExceeded, stack}, {"recursion_indirect", abi.ErrLimitExceeded, stack},
		{"recursion_host", abi.ErrLimitExceeded, late}, {"br_table", abi.ErrLimitExceeded, late}, {"slow_arithmetic", abi.ErrLimitExceeded, late},
		{"fill", abi.ErrLimitExceeded, late}, {"copy_overlap", abi.ErrLimitExceeded, late}, {"tiny_bulk", abi.ErrLimitExceeded, late},
		{"grow_loop", abi.ErrLimitExceeded, late}, {"fault_storm", abi.ErrLimitExceeded, late}, {"last_gasp", abi.ErrLimitExceeded, late},
		{"cache_misses", abi.ErrLimitExceeded, late}, {"self_table", abi.ErrLimitExceeded, late}, {"moves", abi.ErrLimitExceeded, late},
		{"wasi_iovecs", abi.ErrLimitExceeded, late}, {"wasi_large_write", abi.ErrLimitExceeded, late}, {"wasi_poll", abi.ErrLimitExceeded, late},
		{"wasi_poll_overflow", abi.ErrTrap, "wasm unreachable"}, {"wasi_random", abi.ErrLimitExceeded, late}, {"wasi_path", abi.ErrLimitExceeded, late},
		{"wasi_storm", abi.ErrLimitExceeded, late}, {"log_huge", abi.ErrLimitExceeded, late}, {"wait_many", abi.ErrLimitExceeded, late},
		{"wait_late", abi.ErrLimitExceeded, late}, {"output_giant", abi.ErrLimitExceeded, "effects of"},
		{"output_nested", abi.ErrTrap, "wasilo_turn returned a malformed output"}, {"exit_inbox", abi.ErrTrap, "the guest exited with code 9"},
		{"inbox_loop", abi.ErrLimitExceeded, late}, {"inbox_scribble", abi.ErrLimitExceeded, late},
		{"host_flood", abi.ErrLimitExceeded, "made more than 1000 host calls"}, {"start_flood", abi.ErrLimitExceeded, "made more than 1000 host calls"},
		{"start_bytes", abi.ErrLimitExceeded, "made more than 1000 host calls"},
	}
	e := newEngine(t, Config{})
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			m := mustLoad(t, e, "hostile/"+tt.file+".wasm")
			opt := Options{HostCalls: 1 << 30}
			if strings.Contains(tt.want, "host calls") {
				opt.HostCalls = 1000
			}
			h := &floodHost{}
			i := instantiate(t, m, h, opt)
			limit := 100 * time.Millisecond
			if tt.want != late {
				limit = time.Minute
			}
			err := i.Turn(call("run", []byte{}), time.Now().Add(limit), &abi.Output{})
			if abi.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %v: %s", err, tt.code, tt.want)
			}
			if h.bytes > abi.DefaultMemory {
				t.Errorf("%d bytes were sent in one turn", h.bytes)
			}
			if err := i.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHostileMoves: the fixture is what it is said to be.
func TestHostileMoves(t *testing.T) {
	if !bytes.Equal(fixture(t, "hostile/moves.wasm"), bomb.Restless(1000)) {
		t.Error("hostile/moves.wasm is not bomb.Restless(1000)")
	}
}

// floodHost takes every request and answers none.
type floodHost struct {
	noHost
	n     uint32
	bytes int
}

func (h *floodHost) Start(q *abi.Request) (uint32, abi.Code) {
	h.n++
	h.bytes += len(q.Payload)
	return h.n, abi.ErrNone
}

func (h *floodHost) Wait(handles []uint32, _ int, d time.Duration) (int, abi.Code) {
	if d != 0 {
		time.Sleep(time.Millisecond)
	}
	return 0, abi.ErrNone
}

// TestHostileDescriptions are refused at deploy.
func TestHostileDescriptions(t *testing.T) {
	e := newEngine(t, Config{})
	for file, want := range map[string]string{
		"describe_nested": "wasilo_describe returned no description: malformed CBOR",
		"recursion_start": "its start used more than its 8 MiB of stack",
		"tables":          "the tables up to table 1 have at least 2097152 entries together, the limit is 1048576",
	} {
		if _, err := e.Load(context.Background(), fixture(t, "hostile/"+file+".wasm")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
	if _, err := loadHastily(t, fixture(t, "hostile/describe_bomb.wasm")); err == nil || !strings.Contains(err.Error(), "wasilo_describe exceeded its limit") {
		t.Errorf("describe_bomb: %v", err)
	}
}

// loadHastily loads a module whose wasilo_describe does not end, on an engine that waits for it as short as it can: on a machine that is too
// busy for the guest to start in that time, longer.
func loadHastily(t *testing.T, wasm []byte) (m *Module, err error) {
	t.Helper()
	for describe := 100 * time.Millisecond; ; describe *= 4 {
		m, err = newEngine(t, Config{Describe: describe}).Load(context.Background(), wasm)
		if err == nil || describe > time.Minute || strings.Contains(err.Error(), abi.ExportDescribe) {
			return m, err
		}
	}
}

// TestTheSameTemplateTwice: what a guest leaves behind that was stopped in its inbox is no part of the template, or two nodes would have
// two under one name.
func TestTheSameTemplateTwice(t *testing.T) {
	for _, describe := range []time.Duration{30 * time.Second, 3 * time.Minute} { // it is its fuel that ends it
		m := mustLoad(t, newEngine(t, Config{Describe: describe}), "hostile/inbox_scribble.wasm")
		for _, b := range m.template.pool.Image()[4096:] {
			if b != 0 {
				t.Fatal("the image has what was written after it was taken")
			}
		}
	}
}

// TestTablesCount: what lies in the Go heap counts too, and few such bodies are kept.
func TestTablesCount(t *testing.T) {
	m := &Module{forged: &forge.Module{TableEntries: 1 << 20}}
	if m.held() < 8<<20 || m.Footprint() < 8<<20 || m.keepBodies() != 0 {
		t.Errorf("%d bytes held, footprint %d, %d bodies kept", m.held(), m.Footprint(), m.keepBodies())
	}
	if m := (&Module{forged: &forge.Module{}}); m.keepBodies() != maxBodies {
		t.Errorf("%d bodies are kept of a small module", m.keepBodies())
	}
}
