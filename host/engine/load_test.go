package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestLoadEcho(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "echo.wasm")
	d := m.Description()
	if d.Major != 1 || d.Minor != 0 || d.SDK != "wat" || len(d.Kinds) != 1 {
		t.Fatalf("%+v", d)
	}
	k := d.Kinds[0]
	if k.Name != "echo" || len(k.Methods) != 2 || !k.Handles(abi.EventCall) || !k.Handles(abi.EventMessage) {
		t.Errorf("%+v", k)
	}
	if len(m.SHA256()) != 64 || m.Size() != len(fixture(t, "echo.wasm")) || len(m.Imports()) != 0 {
		t.Errorf("%s %d %v", m.SHA256(), m.Size(), m.Imports())
	}
	want := []Export{
		{"memory", "memory", "from 128 KiB to 64 MiB"},
		{"wasilo_describe", "function", "() -> (i64)"},
		{"wasilo_inbox", "function", "(i32) -> (i32)"},
		{"wasilo_turn", "function", "(i32) -> (i64)"},
	}
	for i, x := range m.Exports() {
		if x != want[i] {
			t.Errorf("export %d is %+v, want %+v", i, x, want[i])
		}
	}
}

func TestImportsTellCapabilities(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "hostcalls.wasm")
	got := m.Imports()
	if len(got) != 14 || got[0] != (Import{"wasilo_1", "request", "(i32, i32, i32, i32) -> (i64)", "call other actors"}) {
		t.Errorf("%+v", got)
	}
	for _, i := range got {
		if i.Cap == "" {
			t.Errorf("%s.%s says nothing of what it is for", i.Module, i.Name)
		}
	}
}

// TestLoadRefuses gives every kind of bad file to one engine: each is refused in words that say what to do.
func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		file, stage, reason string
		code                abi.Code
	}{
		{"empty", StageRead, "the file is empty", abi.ErrInvalidArgument},
		{"notwasm", StageRead, `not WebAssembly: starts with 23 21 2f 62 69 6e 2f 73 ("#!/bin/s")`, abi.ErrInvalidArgument},
		{"component", StageRead, "a WebAssembly component, not a core module", abi.ErrInvalidArgument},
		{"text", StageRead, "compile it with wat2wasm", abi.ErrInvalidArgument},
		{"truncated", StageCompile, "is the file truncated?", abi.ErrInvalidArgument},
		{"table_bomb", StageCompile, "table 0 has at least 400000000 entries, the limit is 1048576", abi.ErrInvalidArgument},
		{"missing_export", StageExports, "does not export wasilo_turn(i32) -> (i64)", abi.ErrInvalidArgument},
		{"no_memory", StageExports, `its memory under the name "memory"`, abi.ErrInvalidArgument},
		{"wrong_signature", StageExports, "wasilo_turn is exported as (i64) -> (i64); its type is (i32) -> (i64)", abi.ErrInvalidArgument},
		{"unknown_import", StageImports, "wasilo_1.requets, which does not exist; did you mean wasilo_1.request?", abi.ErrInvalidArgument},
		{"unknown_module", StageImports, "env.abort, which nothing here provides; a module may import from wasilo_1 and wasi_snapshot_preview1", abi.ErrInvalidArgument},
		{"wrong_import_type", StageImports, "wasilo_1.now as (i32) -> (i64); its type is () -> (i64)", abi.ErrInvalidArgument},
		{"import_global", StageImports, "wasilo_1.now as a global", abi.ErrInvalidArgument},
		{"future_namespace", StageVersion, "it imports wasilo_2.request; this host speaks ABI 1", abi.ErrUnsupported},
		{"future_major", StageVersion, "speaks ABI 2.0", abi.ErrUnsupported},
		{"future_minor", StageVersion, "needs ABI 1.99", abi.ErrUnsupported},
		{"large_memory", StageCompile, "a memory of at least 65536 pages (4294967296 bytes), the limit is 4294901760 bytes", abi.ErrInvalidArgument},
		{"describe_trap", StageDescribe, "wasm unreachable; at describe", abi.ErrInvalidArgument},
		{"describe_loop", StageDescribe, "wasilo_describe exceeded its limit", abi.ErrInvalidArgument},
		{"describe_garbage", StageDescribe, "malformed CBOR at byte 0", abi.ErrInvalidArgument},
		{"describe_outside", StageDescribe, "0xfffffff0+64, which is outside of the guest's memory of 64 KiB", abi.ErrInvalidArgument},
		{"describe_huge", StageDescribe, "more than 262144 bytes", abi.ErrInvalidArgument},
		{"describe_utf8", StageDescribe, "UTF-8", abi.ErrInvalidArgument},
		{"describe_calls_host", StageDescribe, "calls wasilo_1.now while it is described", abi.ErrInvalidArgument},
		{"init_calls_host", StageDescribe, "calls wasilo_1.now while it starts", abi.ErrInvalidArgument},
		{"init_loop", StageDescribe, "its start exceeded its limit", abi.ErrInvalidArgument},
		{"start_loop", StageDescribe, "its start exceeded its limit", abi.ErrInvalidArgument},
		{"start_trap", StageDescribe, "wasm unreachable; at start", abi.ErrInvalidArgument},
	}
	patient, hasty := newEngine(t, Config{Describe: time.Minute}), newEngine(t, Config{Describe: 100 * time.Millisecond})
	for _, tt := range tests {
		e := patient
		if strings.HasSuffix(tt.reason, "exceeded its limit") {
			e = hasty
		}
		wasm := fixture(t, "hostile/"+tt.file+".wasm")
		load := func() (*Module, error) { return e.Load(context.Background(), wasm) }
		if tt.file == "describe_loop" { // it has to start first
			load = func() (*Module, error) { return loadHastily(t, wasm) }
		}
		m, err := load()
		var le *LoadError
		if !errors.As(err, &le) || m != nil {
			t.Errorf("%s: got %v, %v", tt.file, m, err)
			continue
		}
		if le.Stage != tt.stage || !strings.Contains(le.Reason, tt.reason) || abi.CodeOf(err) != tt.code {
			t.Errorf("%s: got %v (%v), want %s: %s (%v)", tt.file, err, abi.CodeOf(err), tt.stage, tt.reason, tt.code)
		}
		if strings.Contains(le.Reason, "\n") {
			t.Errorf("%s: more than a line: %q", tt.file, le.Reason)
		}
	}
	if n := patient.open.Load() + hasty.open.Load(); n != 0 {
		t.Errorf("%d refused modules are held", n)
	}
}

func TestLoadCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := newEngine(t, Config{}).Load(ctx, fixture(t, "echo.wasm"))
	if abi.CodeOf(err) != abi.ErrCanceled {
		t.Errorf("got %v", err)
	}
}

func TestLoadCanceledWhileDescribing(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := newEngine(t, Config{}).Load(ctx, fixture(t, "hostile/describe_loop.wasm"))
	var le *LoadError
	if !errors.As(err, &le) || le.Stage != StageDescribe && abi.CodeOf(err) != abi.ErrTimeout { // a slow machine does not get so far
		t.Errorf("got %v", err)
	}
}

func TestLoadTooLarge(t *testing.T) {
	b := append(fixture(t, "echo.wasm"), make([]byte, MaxModule)...)
	_, err := newEngine(t, Config{}).Load(context.Background(), b)
	if err == nil || !strings.Contains(err.Error(), "at most 64 MiB") {
		t.Errorf("got %v", err)
	}
}

func leb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

func section(id byte, content ...[]byte) []byte {
	all := bytes.Join(content, nil)
	return append(append([]byte{id}, leb(len(all))...), all...)
}

// bodies is a module of one function type () -> () and n functions of the given body.
func bodies(n int, body []byte) []byte {
	fn := append(leb(len(body)), body...)
	return bytes.Join([][]byte{[]byte("\x00asm\x01\x00\x00\x00"), section(1, []byte("\x01\x60\x00\x00")),
		section(3, leb(n), make([]byte, n)), section(10, leb(n), bytes.Repeat(fn, n))}, nil)
}

// section0 is a module of one section.
func section0(id byte, content []byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), section(id, content)...)
}

func nested(depth int) []byte {
	return bytes.Join([][]byte{{0}, bytes.Repeat([]byte{0x02, 0x40}, depth), bytes.Repeat([]byte{0x0b}, depth+1)}, nil)
}

// TestLoadStopsBombs: without it the first of these would compile for minutes.
func TestLoadStopsBombs(t *testing.T) {
	brTable := bytes.Join([][]byte{{0, 0x41, 0, 0x0e}, leb(70000), make([]byte, 70001), {0x0b}}, nil)
	tests := []struct {
		name, want string
		wasm       []byte
	}{
		{"nesting", "blocks nested deeper than 4000", bodies(1, nested(100_000))},
		{"nesting in many functions", "blocks and branches on the whole", bodies(100, nested(3000))},
		{"locals", "more than 5000 locals", bodies(1, []byte{1, 0x88, 0x27 + 1, 0x7f, 0x0b})},
		{"locals that overflow", "more than 5000 locals", bodies(1, []byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b})},
		{"br_table", "70000 targets of a br_table, at most 65520 are accepted", bodies(1, brTable)},
		{"functions", "300000 functions, at most 200000 are accepted", bodies(300_000, []byte{0, 0x0b})},
		{"garbage", "0xff is no instruction", bodies(1, []byte{0, 0xff, 0x0b})},
		{"tail call", "0x12 (the tail calls proposal) is not part of WebAssembly 2.0", bodies(1, []byte{0, 0x12, 0, 0x0b})},
		{"endless body", "the body ends with 1 blocks open", bodies(1, []byte{0, 0x01})},
		{"long body", "bytes follow the end", bodies(1, []byte{0, 0x0b, 0x0b})},
		{"parameters", "4294967295 parameters are declared, only 2 bytes are left", section0(1, []byte("\x01\x60\xff\xff\xff\xff\x0f\x00\x00"))},
		{"element", "unknown table 0", section0(9, []byte("\x01\x00\x41\x00\x0b\xff\xff\xff\x7f\x00"))},
		{"data", "unknown memory 0", section0(11, []byte("\x01\x00\x41\x00\x0b\xff\xff\xff\x7f\x00"))},
		{"export", "a name of 268435455 bytes, only 2 are left", section0(7, []byte("\x01\xff\xff\xff\x7f\x00\x00"))},
		{"names", "does not export", section0(0, []byte("\x04name\x01\x06\xff\xff\xff\xff\x0f\x00"))},
		{"names that do not fill their place", "does not export", section0(0, []byte("\x04name\x01\x03\x00\xff\xff"))},
		{"custom", "a name of 4294967295 bytes, only 0 are left", section0(0, []byte("\xff\xff\xff\xff\x0f"))},
		{"number", "a number takes more bytes than 32 bits need", append([]byte("\x00asm\x01\x00\x00\x00\x01"), bytes.Repeat([]byte{0xff}, 9)...)},
	}
	e := newEngine(t, Config{})
	for _, tt := range tests {
		start := time.Now()
		_, err := e.Load(context.Background(), tt.wasm)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
		if d := time.Since(start); d > time.Minute {
			t.Errorf("%s took %v", tt.name, d)
		}
	}
}

// FuzzLoad looks for modules that pass the forge and still make wazero hang, take gigabytes, or panic where Load
// does not catch it.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"echo.wasm", "hostcalls.wasm", "hostile/loop.wasm", "hostile/table_grow.wasm"} {
		f.Add(fixture(f, name))
	}
	f.Add(bodies(2, nested(3)))
	e, err := New(Config{Describe: 100 * time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if len(wasm) > 16<<10 {
			return
		}
		if m, err := e.Load(context.Background(), wasm); err == nil {
			m.Close()
		} else if _, ok := err.(*LoadError); !ok {
			t.Errorf("got %T: %v", err, err)
		}
	})
}
