package engine

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/engine/bomb"
	"github.com/wasilo/wasilo/host/forge"
)

// TestForgeStackEstimate: what the forge charges for a call is at least what the frame takes, for many parameters and results too. The
// runtime gives up once its stack is longer than 50,000,000 bytes, which it is when it has doubled from 10 KiB to some 84 million.
func TestForgeStackEstimate(t *testing.T) {
	const runtimeStack, budget = 83.9e6, 8 << 20
	depth := func(wasm []byte, stack int64) float64 {
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
	for _, vectors := range []bool{false, true} {
		for _, params := range []int{0, 6, 10, 100, 300, 1000} {
			for _, results := range []int{0, 10, 100, 1000} {
				for _, indirect := range []bool{false, true} {
					wasm := bomb.Recursion(params, results, vectors, indirect)
					takes, charged := runtimeStack/depth(wasm, 1<<60), budget/depth(wasm, budget)
					if charged < takes {
						t.Errorf("%d parameters, %d results, vectors %v, through a table %v: %.0f bytes are charged, %.0f taken", params, results,
							vectors, indirect, charged, takes)
					}
				}
			}
		}
	}
}
