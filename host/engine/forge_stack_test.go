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
// it. The runtime gives up once its stack is longer than 50,000,000 bytes, which it is when it has doubled from 10 KiB to some 84 million.
func frameOf(t *testing.T, wasm []byte) (takes, charged float64) {
	t.Helper()
	const runtimeStack, budget = 83.9e6, 8 << 20
	depth := func(stack int64) float64 {
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
		if _, err := m.ExportedFunction("run").Call(ctx); err == nil {
			t.Fatal("an endless recursion ended")
		}
		return float64(m.ExportedGlobal("depth").Get())
	}
	return runtimeStack / depth(1<<60), budget / depth(budget)
}

// TestForgeStackEstimate: what the forge charges for a call is at least what the frame takes, for many parameters and results too.
func TestForgeStackEstimate(t *testing.T) {
	paramss, resultss := []int{0, 6, 10, 100, 300, 1000}, []int{0, 10, 100, 1000}
	if Raced {
		paramss, resultss = []int{0, 100}, []int{0, 100}
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
		groupss = []int{1, 100}
	}
	for _, groups := range groupss {
		takes, charged := frameOf(t, bomb.Spilling(groups))
		if charged < takes || charged > 300+4*takes {
			t.Errorf("%d groups of 40 values: %.0f bytes are charged, %.0f taken", groups, charged, takes)
		}
	}
}

// TestForgeStackCrowded: the same for random code with more values than there are registers, or nearly so many.
func TestForgeStackCrowded(t *testing.T) {
	seeds := uint64(30)
	if Raced {
		seeds = 5
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
