package engine

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/engine/bomb"
	"github.com/wasilo/wasilo/host/forge"
)

// frameOf returns how many bytes a call takes in a module whose run recurses without end and counts in depth, and how many are charged for
// it.
func frameOf(t *testing.T, wasm []byte) (takes, charged float64) {
	t.Helper()
	const budget = 8 << 20
	run := func(stack int64) (depth, end float64) {
		p, err := forge.Prepare(wasm, forge.Options{Meter: true, Stack: stack, Dispatch: dispatchFrom})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		rt := wazero.NewRuntime(ctx)
		defer rt.Close(ctx)
		refill := api.GoModuleFunc(func(_ context.Context, m api.Module, _ []uint64) {
			if int64(m.ExportedGlobal(p.Stack).Get()) < 0 {
				panic("the stack is spent")
			}
			m.ExportedGlobal(p.Fuel).(api.MutableGlobal).Set(1 << 60)
		})
		if _, err := rt.NewHostModuleBuilder(forge.RefillModule).NewFunctionBuilder().WithGoModuleFunction(refill, nil, nil).
			Export(forge.RefillName).Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
		m, err := rt.Instantiate(ctx, p.Wasm)
		if err != nil {
			t.Fatal(err)
		}
		f := m.ExportedFunction("run")
		if _, err := f.Call(ctx); err == nil {
			t.Fatal("an endless recursion ended")
		}
		return float64(m.ExportedGlobal("depth").Get()), float64(stackOf(f))
	}
	depth, end := run(1 << 60)
	takes = end / depth
	depth, _ = run(budget)
	return takes, budget / depth
}

// TestForgeStackEstimate: what the forge charges for a call is at least what the frame takes, for many parameters and results too.
func TestForgeStackEstimate(t *testing.T) {
	paramss, resultss := []int{0, 6, 10, 100, 300, 1000}, []int{0, 10, 100, 1000}
	if Raced {
		paramss, resultss = []int{10}, []int{10}
	}
	for _, vectors := range []bool{false, true} {
		for _, params := range paramss {
			for _, results := range resultss {
				for _, indirect := range []bool{false, true} {
					if takes, charged := frameOf(t, bomb.Recursion(params, results, vectors, indirect)); charged < takes {
						t.Errorf("%d parameters, %d results, vectors %v, through a table %v: %.0f bytes are charged, %.0f taken", params, results,
							vectors, indirect, charged, takes)
					}
				}
			}
		}
	}
}

// TestForgeStackSpilling: values that lose their register are charged, each of them, and not so many more that nobody can recurse.
func TestForgeStackSpilling(t *testing.T) {
	groupss := []int{0, 1, 10, 100, 1000}
	if Raced {
		groupss = []int{10}
	}
	for _, groups := range groupss {
		takes, charged := frameOf(t, bomb.Spilling(groups))
		if charged < takes || charged > 300+4*takes {
			t.Errorf("%d groups of 40 values: %.0f bytes are charged, %.0f taken", groups, charged, takes)
		}
	}
}

// TestForgeStackCopies: locals that are set to new values, to a global that changes and to a local that changes from round to round, each
// on the way to where many blocks end: there they are values of their own, also those that are copies.
func TestForgeStackCopies(t *testing.T) {
	for _, of := range []string{"new", "global", "loop"} {
		if takes, charged := frameOf(t, bomb.Recursive(copies(40, 20, of))); charged < takes || charged > 4*takes {
			t.Errorf("%s: %.0f bytes are charged, %.0f taken", of, charged, takes)
		}
	}
}

// copies is a body that sets n locals, and again in the innermost of d blocks, which end with a call each.
func copies(n, d int, of string) []byte {
	b := []byte{1, byte(n + 1), 0x7e, 0x23, 0, 0x42, 1, 0x7c, 0x24, 0, 0x20, 0, 0x10, 0, 0x21, 0} // depth++, and itself
	value, last := []byte{0x23, 0}, byte(n+1)
	switch of {
	case "new":
		value = append(value, 0x42, 1, 0x7c)
	case "loop":
		b = append(b, 0x23, 0, 0x21, last)
		value = []byte{0x20, last}
	}
	set := func() {
		for i := range n {
			b = append(append(b, value...), 0x21, byte(1+i))
		}
	}
	set()
	if of == "loop" {
		b = append(b, 0x03, 0x40)
	}
	for range d {
		b = append(b, 0x02, 0x40)
	}
	for i := range d {
		b = append(b, 0x20, 0, 0x42, byte(i), 0x51, 0x0d, byte(i))
	}
	if of != "loop" {
		b = append(b, 0x23, 0, 0x42, 1, 0x7c, 0x24, 0)
	}
	set()
	for range d {
		b = append(b, 0x0b, 0x10, 2, 0x1a)
	}
	for i := range n {
		b = append(b, 0x20, 0, 0x20, byte(1+i), 0x85, 0x21, 0)
	}
	if of == "loop" {
		b = append(b, 0x20, last, 0x42, 1, 0x7c, 0x21, last, 0x20, 0, 0xa7, 0x0d, 0, 0x0b)
	}
	return append(b, 0x20, 0, 0x0b)
}

// TestForgeStackRounds: each way back to the head of a loop passes locals through values of its own, which have places of their own. The locals
// change places with each other, or are computed anew.
func TestForgeStackRounds(t *testing.T) {
	ns := []int{2, 4, 6, 8, 12, 20}
	if Raced {
		ns = []int{4}
	}
	for _, n := range ns {
		for _, anew := range []bool{false, true} {
			if takes, charged := frameOf(t, bomb.Recursive(rounds(n, 100, anew))); charged < takes || charged > 200+8*takes {
				t.Errorf("%d locals, anew %v: %.0f bytes are charged, %.0f taken", n, anew, charged, takes)
			}
		}
	}
}

// rounds is a body with a loop of n locals and so many ways back to its head.
func rounds(n, ways int, anew bool) []byte {
	b := []byte{1, byte(n), 0x7e, 0x23, 0, 0x42, 1, 0x7c, 0x24, 0, 0x20, 0, 0x10, 0, 0x21, 0} // depth++, and itself
	for i := range n {
		b = append(b, 0x41, byte(8*i%64), 0x29, 0, 0, 0x21, byte(1+i))
	}
	b = append(b, 0x03, 0x40)
	for way := range ways {
		for i := range n {
			b = append(b, 0x20, byte(1+i))
			if anew {
				b = append(b, 0x20, byte(1+(i+1+way)%n), 0x7c, 0x21, byte(1+i))
			}
		}
		for i := n; i > 0 && !anew; i-- {
			b = append(b, 0x21, byte(1+i%n))
		}
		b = append(b, 0x20, 0, 0x42, 1, 0x7c, 0x22, 0, 0x42, byte(way%64), 0x51, 0x0d, 0)
	}
	b = append(b, 0x0b)
	for i := range n {
		b = append(b, 0x20, 0, 0x20, byte(1+i), 0x85, 0x21, 0)
	}
	return append(b, 0x20, 0, 0x0b)
}

// TestForgeStackCrowded: the same for random code with more values than there are registers, or nearly so many.
func TestForgeStackCrowded(t *testing.T) {
	seeds := uint64(30)
	if Raced {
		seeds = 2
	}
	var all, most float64
	for seed := range seeds {
		takes, charged := frameOf(t, bomb.Recursive(crowded(seed)))
		if charged < takes {
			t.Errorf("seed %d: %.0f bytes are charged, %.0f taken", seed, charged, takes)
		}
		all, most = all+takes, most+charged
	}
	if most > 8*all {
		t.Errorf("%.0f bytes are charged, %.0f taken: that is out of proportion", most, all)
	}
}
