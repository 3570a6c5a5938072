package engine_test

import (
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/forge"
)

// What a call is charged, by hand: an addition is a unit, so are br, br_if, if, return and each round of a loop; a
// br_table is three, a division 13. What is paid ahead comes out the same. Local 2 is the selector, local 3 a counter.
func TestForgeFuelIsWhatRan(t *testing.T) {
	add := []byte{0x20, 0, 0x20, 1, 0x6a, 0x1a}
	code := func(parts ...any) (b []byte) {
		for _, p := range parts {
			switch p := p.(type) {
			case []byte:
				b = append(b, p...)
			case int:
				b = append(b, byte(p))
			}
		}
		return b
	}
	sel := []byte{0x20, 2}
	block, loop, cond, els, end := []byte{0x02, 0x40}, []byte{0x03, 0x40}, []byte{0x04, 0x40}, []byte{0x05}, []byte{0x0b}
	br := func(d int) []byte { return []byte{0x0c, byte(d)} }
	brIf := func(d int) []byte { return []byte{0x0d, byte(d)} }
	for _, c := range []struct {
		what string
		code []byte
		want []int64 // by selector
	}{
		{"straight", code(add, add), []int64{2}},
		{"left block", code(block, add, br(0), add, end, add), []int64{3}},
		{"br_if", code(block, sel, brIf(0), add, end, add, add), []int64{4, 3}},
		{"if, else", code(sel, cond, add, add, els, add, end, add), []int64{3, 4}},
		{"if", code(sel, cond, add, end, add), []int64{2, 3}},
		{"br_table", code(block, block, sel, 0x0e, 1, 0, 1, end, add, add, end, add), []int64{6, 4}},
		{"return", code(sel, cond, 0x41, 0, 0x0f, end, add), []int64{2, 2}},
		{"loop", code(loop, add, 0x20, 3, 0x41, 1, 0x6a, 0x22, 3, 0x41, 3, 0x49, brIf(0), end, add), []int64{16}},
		{"both arms leave", code(block, sel, cond, add, br(1), els, add, add, br(1), end, end, add), []int64{5, 4}},
		{"one arm leaves", code(block, sel, cond, br(1), els, add, end, add, end, add), []int64{4, 3}},
		{"trap in an arm", code(sel, cond, 0x00, end, add), []int64{2}},
		{"join in an arm", code(sel, cond, block, br(0), end, add, els, end, add), []int64{2, 4}},
		{"out of a loop", code(block, loop, sel, brIf(1), add, end, add, end, add), []int64{5, 3}},
		{"loop in a loop", code(loop, loop, 0x20, 3, 0x41, 1, 0x6a, 0x22, 3, 0x41, 2, 0x49, brIf(0), end,
			0x20, 3, 0x41, 4, 0x49, brIf(0), end), []int64{1*3 + 4*4 + 2*3 - 0}},
		{"division", code(0x20, 0, 0x41, 7, 0x6d, 0x1a), []int64{13}},
		{"an arm that needs little", code(sel, cond, add, els, add, add, add, end, add, add), []int64{6, 4}},
		{"arms in an arm", code(sel, cond, sel, cond, add, add, els, add, end, els, add, end, add), []int64{3, 5}},
		{"a trap ahead", code(sel, 0x41, 1, 0x4b, cond, add, 0x00, end, add), []int64{3, 3}},
		// The way out of the loop and the rest behind it cost differently; so do the rounds.
		{"rest behind a loop", code(block, loop, 0x20, 3, 0x41, 1, 0x6a, 0x22, 3, 0x20, 2, 0x4b, brIf(1), add, add, add, br(0), end, end, add),
			[]int64{4 + 1, 2*4 + 4 + 1, 3*4 + 2*4 + 1}},
		// As around all of a Go function: every block goes back to choose the next.
		{"dispatch", code(0x41, 0, 0x21, 3, block, loop, block, block, block, block, block, block, block, block, 0x20, 3,
			0x0e, 7, 0, 1, 2, 3, 4, 5, 6, 7, end,
			0x20, 2, 0x21, 3, 0x20, 2, brIf(7), add, br(8), end, // 0: on to the selector, unless it is 0
			add, add, end, // 1: into 2
			0x41, 5, 0x21, 3, br(5), end, // 2: to 5
			end, end, add, end, // 3, 4: into 5, into 6
			end, br(1), end, end, add), []int64{8, 19, 17, 12, 12, 12, 11, 11}}, // 6, 7: out
		{"with operands", code(0x41, 1, 0x41, 2, 0x41, 3, 0x03, 0, 0x1a, 0x1a, end, 0x1a, add), []int64{2}},
	} {
		p, err := forge.Prepare(rawModule(append(c.code, 0x41, 0)...), forge.Options{Meter: true})
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		f, err := newForged(t, nil, p)
		if err != nil {
			t.Fatal(err)
		}
		fuel := f.ExportedGlobal(p.Fuel).(api.MutableGlobal)
		for selector, want := range c.want {
			fuel.Set(1_000_000)
			if _, err := f.ExportedFunction("run").Call(t.Context(), 0, 0, uint64(selector)); err != nil {
				t.Errorf("%s, %d: %v", c.what, selector, err)
			}
			if used := 1_000_000 - int64(fuel.Get()); used != want {
				t.Errorf("%s, %d: %d units, want %d", c.what, selector, used, want)
			}
		}
		f.runtime.Close(t.Context())
	}
}
