package engine_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/engine/bomb"
	"github.com/wasilo/wasilo/host/forge"
)

// rawModule is one with a function run: (i32, i32, i32) -> i32 of the code, which has an i32 and an i64 local more, 64
// MiB of memory and a table of a million entries.
func rawModule(code ...byte) []byte {
	body := append([]byte{2, 1, rI32, 1, rI64}, append(code, 0x0b)...)
	out := []byte("\x00asm\x01\x00\x00\x00")
	out = append(out, sec(1, vec([]byte{0x60, 3, rI32, rI32, rI32, 1, rI32}, []byte{0x60, 0, 0}))...)
	out = append(out, sec(3, vec([]byte{0}))...)
	out = append(out, sec(4, vec([]byte{rFuncRef, 0, 0x80, 0x80, 0x20}))...)
	out = append(out, sec(5, vec([]byte{1, 0x80, 8, 0x80, 8}))...)
	out = append(out, sec(7, vec(append(str("run"), 0, 0), append(str("memory"), 2, 0)))...)
	out = append(out, sec(9, vec([]byte{1, 0, 1, 0}))...)
	return append(out, sec(10, vec(append(uleb(nil, uint64(len(body))), body...)))...)
}

// bulkCases are instructions on a range of three operands.
var bulkCases = map[string][]byte{
	"memory.fill": {0xfc, 11, 0},
	"memory.copy": {0xfc, 10, 0, 0},
	"table.fill":  nil, // the value is a reference
	"table.copy":  {0xfc, 14, 0, 0},
	"table.init":  {0xfc, 12, 0, 0},
}

func bulkModule(op string) []byte {
	if op == "table.fill" {
		return rawModule(0x20, 0, 0xd2, 0, 0x20, 2, 0xfc, 17, 0, 0x41, 0)
	}
	return rawModule(append(append([]byte{0x20, 0, 0x20, 1, 0x20, 2}, bulkCases[op]...), 0x41, 0)...)
}

// A guest must not hold a thread for as long as a range is long.
func TestForgeBulkYields(t *testing.T) {
	for op, length := range map[string]uint64{"memory.fill": 63 << 20, "memory.copy": 48 << 20, "table.fill": 400 << 10, "table.copy": 256 << 10} {
		p, err := forge.Prepare(bulkModule(op), forge.Options{Meter: true})
		if err != nil {
			t.Fatal(err)
		}
		f, err := newForged(t, nil, p)
		if err != nil {
			t.Fatal(err)
		}
		f.slice = 10_000
		for _, from := range []uint64{0, 1 << 16} { // backwards, forwards
			f.refills = 0
			if _, err := f.ExportedFunction("run").Call(t.Context(), 1<<16-from, from, length); err != nil {
				t.Fatalf("%s: %v", op, err)
			}
			if f.refills < 15 {
				t.Errorf("%s of %d: %d refills", op, length, f.refills)
			}
			t.Logf("%s of %d: %d refills", op, length, f.refills)
		}
		f.refills, f.most = 0, 5
		if _, err := f.ExportedFunction("run").Call(t.Context(), 0, 0, length); !errors.Is(err, errOutOfTime) {
			t.Errorf("%s: %v", op, err)
		}
		f.runtime.Close(t.Context())
	}
}

// What moves where ways meet, or to a function and back, is paid for, though no instruction says so: a loop that turned 5,000 locals around
// went on for seconds between two tests of the fuel.
func TestForgeChargesMoves(t *testing.T) {
	const rounds, given = 100, 1 << 40
	for _, m := range bomb.Moves(1000) {
		p, err := forge.Prepare(m.Wasm, forge.Options{Meter: true, Dispatch: 4})
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		f, err := newForged(t, nil, p)
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		fuel := f.ExportedGlobal(p.Fuel).(api.MutableGlobal)
		fuel.Set(given)
		if _, err := f.ExportedFunction("run").Call(t.Context(), rounds); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		if paid := (given - int64(fuel.Get())) / rounds; paid < int64(m.Values)*3/4 {
			t.Errorf("%s: %d units are paid for %d values", m.Name, paid, m.Values)
		}
		f.runtime.Close(t.Context())
	}
}

// Ranges around the limits of chunks and of memory end as they do in the original, with nothing written before a trap.
func TestForgeBulkRanges(t *testing.T) {
	const chunk, end = 64 << 10, 64 << 20
	for op := range bulkCases {
		wasm := bulkModule(op)
		p, err := forge.Prepare(wasm, forge.Options{Meter: true})
		if err != nil {
			t.Fatal(err)
		}
		a, err := newForged(t, wasm, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := newForged(t, wasm, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*forged{a, b} {
			buf, _ := m.Memory().Read(0, 1<<20)
			for i := range buf {
				buf[i] = byte(i * i >> 7)
			}
		}
		size := uint64(end)
		if strings.HasPrefix(op, "table") {
			size = 512 << 10
		}
		for _, r := range [][3]uint64{
			{0, 0, 0}, {0, 0, 1}, {size, 0, 0}, {size + 1, 0, 0}, {0, size, 0}, {0, size + 1, 0}, {size - 1, 0, 2},
			{1, 0, chunk}, {0, 1, chunk + 1}, {1, 0, chunk + 1}, {1000, 0, 3*chunk + 5}, {0, 1000, 3*chunk + 5}, {chunk, 0, 2 * chunk},
			{size - 3*chunk, 0, 3 * chunk}, {size - 3*chunk + 1, 0, 3 * chunk}, {0, size - 3*chunk + 1, 3 * chunk},
			{1<<32 - 1, 0, 1<<32 - 1}, {5, 5, 1<<32 - 1}, {0, 0, size + 1}, {7, 7, 200_000},
		} {
			ra, errA := a.ExportedFunction("run").Call(t.Context(), r[0], r[1], r[2])
			rb, errB := b.ExportedFunction("run").Call(t.Context(), r[0], r[1], r[2])
			ma, _ := a.Memory().Read(0, end)
			mb, _ := b.Memory().Read(0, end)
			if trapOf(errA) != trapOf(errB) || len(ra) != len(rb) || !bytes.Equal(ma, mb) {
				t.Errorf("%s %v: original %v, rewritten %v, same memory %t", op, r, errA, errB, bytes.Equal(ma, mb))
			}
		}
		a.runtime.Close(t.Context())
		b.runtime.Close(t.Context())
	}
}

// A chain of functions of which each calls the one below twice runs for ever without a loop.
func TestForgeStopsCallBombs(t *testing.T) {
	const depth = 60
	funcs, bodies := [][]byte{}, [][]byte{}
	for i := range depth {
		code := []byte{0, 0x0b}
		if i < depth-1 {
			code = []byte{0, 0x10, byte(i + 1), 0x10, byte(i + 1), 0x0b}
		}
		funcs, bodies = append(funcs, []byte{0}), append(bodies, append([]byte{byte(len(code))}, code...))
	}
	wasm := []byte("\x00asm\x01\x00\x00\x00")
	wasm = append(wasm, sec(1, vec([]byte{0x60, 0, 0}))...)
	wasm = append(wasm, sec(3, vec(funcs...))...)
	wasm = append(wasm, sec(7, vec(append(str("run"), 0, 0)))...)
	wasm = append(wasm, sec(10, vec(bodies...))...)
	p, err := forge.Prepare(wasm, forge.Options{Meter: true})
	if err != nil {
		t.Fatal(err)
	}
	f, err := newForged(t, wasm, p)
	if err != nil {
		t.Fatal(err)
	}
	f.most = 50
	if _, err := f.ExportedFunction("run").Call(t.Context()); !errors.Is(err, errOutOfTime) {
		t.Errorf("%v", err)
	}
}

// Every way back to the head of a loop meets a test of the fuel.
func TestForgeStopsLoops(t *testing.T) {
	for what, code := range map[string][]byte{
		"br":               {0x03, 0x40, 0x0c, 0, 0x0b},
		"br_if":            {0x03, 0x40, 0x41, 1, 0x0d, 0, 0x0b},
		"br_table":         {0x03, 0x40, 0x41, 0, 0x0e, 1, 0, 0, 0x0b},
		"br_table default": {0x02, 0x40, 0x03, 0x40, 0x41, 9, 0x0e, 1, 1, 0, 0x0b, 0x0b},
		"from an if":       {0x03, 0x40, 0x41, 1, 0x04, 0x40, 0x0c, 1, 0x0b, 0x0b},
		"outer":            {0x03, 0x40, 0x03, 0x40, 0x0c, 1, 0x0b, 0x0b},
		"outer by br_if":   {0x03, 0x40, 0x03, 0x40, 0x41, 1, 0x0d, 1, 0x0b, 0x0b},
		"outer by table":   {0x03, 0x40, 0x03, 0x40, 0x41, 0, 0x0e, 1, 1, 1, 0x0b, 0x0b},
		"with an operand":  {0x20, 0, 0x20, 1, 0x20, 2, 0x03, 0, 0x0c, 0, 0x0b, 0x1a},
		"operand, br_if":   {0x20, 0, 0x20, 1, 0x20, 2, 0x03, 0, 0x41, 1, 0x0d, 0, 0x1a, 0x1a, 0x0b, 0x1a},
		"with calls":       {0x03, 0x40, 0x41, 0, 0x40, 0, 0x1a, 0x41, 0, 0x40, 0, 0x1a, 0x0c, 0, 0x0b},
		"after a block":    {0x02, 0x40, 0x0c, 0, 0x0b, 0x03, 0x40, 0x0c, 0, 0x0b},
		"after an if":      {0x02, 0x40, 0x41, 1, 0x04, 0x40, 0x0c, 1, 0x05, 0x0c, 1, 0x0b, 0x0b, 0x03, 0x40, 0x0c, 0, 0x0b},
		"in an else":       {0x41, 0, 0x04, 0x40, 0x00, 0x05, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b},
		"after a loop":     {0x03, 0x40, 0x0b, 0x03, 0x40, 0x0c, 0, 0x0b},
		"recursion":        {0x20, 0, 0x20, 1, 0x20, 2, 0x10, 0, 0x1a},
	} {
		p, err := forge.Prepare(rawModule(append(code, 0x41, 0)...), forge.Options{Meter: true, Stack: math.MaxInt64 / 2})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		f, err := newForged(t, nil, p)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		f.most, f.slice = 20, 1000
		if _, err := f.ExportedFunction("run").Call(t.Context(), 0, 0, 0); !errors.Is(err, errOutOfTime) {
			t.Errorf("%s: %v", what, err)
		}
		f.runtime.Close(t.Context())
	}
}

// Deep recursion ends by the budget for its stack, in bytes: frames with many locals that are kept over the call sooner.
func TestForgeStack(t *testing.T) {
	const budget = 1 << 20
	last := uint64(1 << 40)
	for _, locals := range []uint64{1, 50, 500, 4000} {
		body := append(uleb([]byte{1}, locals), rI64, 0x20, 0, 0x24, 0, 0x20, 0, 0x41, 1, 0x6a, 0x10, 0)
		for i := range locals {
			body = append(uleb(append(body, 0x20), i+1), 0x1a)
		}
		body = append(body, 0x0b)
		wasm := []byte("\x00asm\x01\x00\x00\x00")
		wasm = append(wasm, sec(1, vec([]byte{0x60, 1, rI32, 0}))...)
		wasm = append(wasm, sec(3, vec([]byte{0}))...)
		wasm = append(wasm, sec(6, vec([]byte{rI32, 1, 0x41, 0, 0x0b}))...)
		wasm = append(wasm, sec(7, vec(append(str("run"), 0, 0), append(str("depth"), 3, 0)))...)
		wasm = append(wasm, sec(10, vec(append(uleb(nil, uint64(len(body))), body...)))...)
		p, err := forge.Prepare(wasm, forge.Options{Meter: true, Stack: budget})
		if err != nil {
			t.Fatal(err)
		}
		f, err := newForged(t, wasm, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ExportedFunction("run").Call(t.Context(), 0); !errors.Is(err, errStackSpent) {
			t.Fatalf("%v", err)
		}
		depth := f.ExportedGlobal("depth").Get()
		if depth*locals*8 > budget || depth >= last || depth+1 < budget/(locals*10+300) {
			t.Errorf("%d locals: stopped %d calls deep", locals, depth)
		}
		last = depth
	}
}

// Code without loops and calls is tested too, where it is long: on every path.
func TestForgeTestsLongCode(t *testing.T) {
	arm := bytes.Repeat([]byte{0x20, 0, 0x20, 1, 0x6a, 0x21, 0}, 3000)
	var code []byte
	for range 10 { // if, else: the same on both sides
		code = append(code, 0x20, 2, 0x04, 0x40)
		code = append(append(append(code, arm...), 0x05), arm...)
		code = append(code, 0x0b)
	}
	p, err := forge.Prepare(rawModule(append(code, 0x41, 0)...), forge.Options{Meter: true})
	if err != nil {
		t.Fatal(err)
	}
	f, err := newForged(t, nil, p)
	if err != nil {
		t.Fatal(err)
	}
	f.slice = 1
	for _, side := range []uint64{0, 1} {
		f.refills = 0
		if _, err := f.ExportedFunction("run").Call(t.Context(), 0, 0, side); err != nil || f.refills < 3 {
			t.Errorf("%d refills, %v", f.refills, err)
		}
	}
}
