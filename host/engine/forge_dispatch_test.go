package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/forge"
)

// tabled is a module with a table of many functions of several types, in overlapping segments, with gaps and nulls, and
// for each type i an export c<i>: (i32) -> i32 that calls what stands at an index as if it were of that type.
func tabled(rng *rand.Rand, funcs, size int) []byte {
	types := []rType{{[]byte{rI32}, []byte{rI32}}, {nil, []byte{rI32}}, {[]byte{rI64, rI32}, []byte{rI32, rI32}},
		{[]byte{rI32}, []byte{rI32}}, {nil, nil}, {[]byte{rV128, rI32}, []byte{rI32}}} // the first again; none of ()
	declared := [][]byte{}
	for _, t := range types {
		b := append(uleb([]byte{0x60}, uint64(len(t.params))), t.params...)
		declared = append(declared, append(uleb(b, uint64(len(t.results))), t.results...))
	}
	var kinds, bodies, exports, segments [][]byte
	body := func(typ int, code []byte) {
		kinds = append(kinds, uleb(nil, uint64(typ)))
		code = append(append([]byte{0}, code...), 0x0b)
		bodies = append(bodies, append(uleb(nil, uint64(len(code))), code...))
	}
	for f := 1; f <= funcs; f++ { // function 0 is imported
		typ := []int{0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 5}[rng.IntN(11)]
		code := sleb([]byte{0x41}, int64(f))
		switch typ {
		case 0, 3:
			code = append(code, 0x20, 0, 0x6a)
		case 2:
			code = append(code, 0x20, 1)
		case 5:
			code = append(code, 0x20, 1, 0x6a)
		}
		body(typ, code)
	}
	for i, t := range types {
		var code []byte
		for _, p := range t.params {
			switch p {
			case rI32:
				code = append(code, 0x41, 5)
			case rI64:
				code = append(code, 0x42, 7)
			case rV128:
				code = append(append(code, 0xfd, 12), make([]byte, 16)...)
			}
		}
		code = append(code, 0x20, 0, 0x11, byte(i), 0)
		switch len(t.results) {
		case 0:
			code = append(code, 0x41, 9)
		case 2:
			code = append(code, 0x6a)
		}
		exports = append(exports, append(append(str(fmt.Sprint("c", i)), 0), uleb(nil, uint64(len(kinds)+1))...))
		body(0, code)
	}
	for at := 0; at < size; {
		n := min(1+rng.IntN(max(2, size/4)), size-at)
		if rng.IntN(4) == 0 { // by expressions
			var x [][]byte
			for range n {
				if rng.IntN(3+size/100) == 0 {
					x = append(x, []byte{0xd0, rFuncRef, 0x0b})
				} else {
					x = append(x, append(uleb([]byte{0xd2}, uint64(rng.IntN(funcs+1))), 0x0b))
				}
			}
			segments = append(segments, append(append(sleb([]byte{4, 0x41}, int64(at)), 0x0b), vec(x...)...))
		} else {
			var x [][]byte
			for range n {
				x = append(x, uleb(nil, uint64(rng.IntN(funcs+1))))
			}
			segments = append(segments, append(append(sleb([]byte{0, 0x41}, int64(at)), 0x0b), vec(x...)...))
		}
		at += n - n/8 + rng.IntN(n/4+2) // sometimes into the last, sometimes beyond
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	out = append(out, sec(1, vec(declared...))...)
	out = append(out, sec(2, vec(append(append(str("host"), str("f")...), 0, 0)))...)
	out = append(out, sec(3, vec(kinds...))...)
	out = append(out, sec(4, vec(append([]byte{rFuncRef, 0}, uleb(nil, uint64(size+2))...)))...)
	out = append(out, sec(7, vec(exports...))...)
	out = append(out, sec(9, vec(segments...))...)
	return append(out, sec(10, vec(bodies...))...)
}

// Each index, as each type, does what it does in the original, for small tables, large ones with many types, and those
// that take several functions.
func TestForgeDispatch(t *testing.T) {
	called, traps := 0, map[string]int{}
	for seed, c := range []struct{ funcs, size int }{{1, 1}, {3, 5}, {2, 30}, {20, 20}, {50, 200}, {200, 60}, {300, 900}, {6000, 14000}} {
		wasm := tabled(rand.New(rand.NewPCG(uint64(seed), 5)), c.funcs, c.size)
		p, err := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: 1})
		if err != nil || p.Dispatched != 1 {
			t.Fatalf("%+v: %d tables became functions, %v", c, p.Dispatched, err)
		}
		if _, err := forge.Prepare(p.Wasm, forge.Options{AllowReserved: true}); err != nil {
			t.Fatalf("%+v: the output is not valid: %v", c, err)
		}
		a, errA := newForged(t, wasm, nil)
		b, errB := newForged(t, wasm, p)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		for typ := range 6 {
			original, rewritten := a.ExportedFunction(fmt.Sprint("c", typ)), b.ExportedFunction(fmt.Sprint("c", typ))
			indices := []int{-1, 1 << 31, 1<<31 - 1, 1 << 16}
			for i := range c.size + 4 {
				if c.size < 2000 || i%5 == 0 || i > c.size-2 {
					indices = append(indices, i)
				}
			}
			for _, i := range indices {
				x, errA := original.Call(t.Context(), uint64(uint32(i)))
				y, errB := rewritten.Call(t.Context(), uint64(uint32(i)))
				if !slices.Equal(x, y) || trapOf(errA) != trapOf(errB) {
					t.Fatalf("%+v, type %d at %d: original %x %v, rewritten %x %v", c, typ, i, x, errA, y, errB)
				}
				if called++; errB != nil {
					traps[trapOf(errB)]++
					b.ExportedGlobal(p.Stack).(api.MutableGlobal).Set(1 << 20)
				}
			}
		}
		a.runtime.Close(t.Context())
		b.runtime.Close(t.Context())
	}
	t.Logf("%d calls compared, traps: %v", called, traps)
	if len(traps) != 2 {
		t.Errorf("not all traps were met: %v", traps)
	}
}

// Recursion through the table ends by the budget for the stack too, whose charge covers the frames in between.
func TestForgeDispatchStack(t *testing.T) {
	const budget = 1 << 20
	for _, c := range []struct {
		params int
		least  uint64 // bytes that the runtime takes for a dispatch function
	}{{0, 40}, {1, 40}, {2, 56}, {8, 125}, {20, 330}, {300, 6516}} {
		params := c.params
		typ := append(uleb([]byte{0x60}, uint64(params)), make([]byte, params)...)
		for i := range params {
			typ[len(typ)-1-i] = rI64
		}
		code := []byte{0x23, 0, 0x41, 1, 0x6a, 0x24, 0} // depth++
		for i := range params {
			code = uleb(append(code, 0x20), uint64(i))
		}
		code = append(code, 0x41, 1, 0x11, 0, 0, 0x0b)
		code = append([]byte{0}, code...)
		run := []byte{0}
		for range params {
			run = append(run, 0x42, 0)
		}
		run = append(run, 0x10, 0, 0x0b)
		wasm := []byte("\x00asm\x01\x00\x00\x00")
		wasm = append(wasm, sec(1, vec(append(typ, 0), []byte{0x60, 0, 0}))...)
		wasm = append(wasm, sec(3, vec([]byte{0}, []byte{1}))...)
		wasm = append(wasm, sec(4, vec([]byte{rFuncRef, 0, 2}))...)
		wasm = append(wasm, sec(6, vec([]byte{rI32, 1, 0x41, 0, 0x0b}))...)
		wasm = append(wasm, sec(7, vec(append(str("run"), 0, 1), append(str("depth"), 3, 0)))...)
		wasm = append(wasm, sec(9, vec([]byte{0, 0x41, 1, 0x0b, 1, 0}))...)
		wasm = append(wasm, sec(10, vec(append(uleb(nil, uint64(len(code))), code...), append(uleb(nil, uint64(len(run))), run...)))...)
		var depths [2]uint64
		for dispatch := range 2 {
			p, err := forge.Prepare(wasm, forge.Options{Meter: true, Stack: budget, Dispatch: dispatch})
			if err != nil || p.Dispatched != dispatch {
				t.Fatal(p, err)
			}
			f, err := newForged(t, wasm, p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.ExportedFunction("run").Call(t.Context()); !errors.Is(err, errStackSpent) {
				t.Fatalf("%d parameters: %v", params, err)
			}
			depths[dispatch] = f.ExportedGlobal("depth").Get()
			f.runtime.Close(t.Context())
		}
		t.Logf("%d parameters: %d calls deep, %d by dispatch functions", params, depths[0], depths[1])
		if depths[1] >= depths[0] || budget/depths[1]-budget/depths[0] < c.least {
			t.Errorf("%d parameters: %d calls deep, %d by dispatch functions, whose frames take %d bytes", params, depths[0], depths[1], c.least)
		}
	}
}
