package engine

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/forge"
)

// runTraced runs a module to its end and returns the frames that its error names, and all that the runtime names.
func runTraced(t *testing.T, wasm []byte, arg uint64) (frames, all string) {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	refill := func(context.Context, api.Module) { panic(errors.New("out of fuel")) }
	_, err := r.NewHostModuleBuilder(forge.RefillModule).NewFunctionBuilder().WithFunc(refill).Export(forge.RefillName).Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Instantiate(ctx, wasm)
	if err != nil {
		t.Fatal(err)
	}
	m.ExportedGlobal("wasilo_forge_fuel").(api.MutableGlobal).Set(100_000)
	if _, err = m.ExportedFunction("run").Call(ctx, arg); err == nil {
		t.Fatal("no error")
	}
	return backtrace(err), err.Error()
}

// A backtrace names the guest's own functions, in order, and none that the forge injected.
func TestForgeBacktraces(t *testing.T) {
	wasm, err := os.ReadFile("../forge/testdata/traced.wasm")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		arg    uint64
		frames string // without the name of the module
		shown  string // to the runtime, beside those
	}{
		{"a trap behind the table", 0, "deep < middle < run", "wasilo_forge.dispatch."},
		{"a trap in a helper", 1, "deep < middle < run", "wasilo_forge.memory.fill("},
		{"one of a large range", 2, "deep < middle < run", "wasilo_forge.memory.fill("},
		{"spent fuel", 3, "deep < middle < run", "wasilo_forge.refill("},
		{"more than are shown", 4, "deep < middle < run < deep < middle < run", "wasilo_forge.memory.fill("},
		{"null", 13, "middle < run", "wasilo_forge.dispatch."},
		{"of another type", 12, "middle < run", "wasilo_forge.dispatch."},
		{"beyond the table", 14, "middle < run", "wasilo_forge.dispatch."},
	} {
		for _, dispatch := range []int{0, 1} {
			p, err := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: dispatch})
			if err != nil {
				t.Fatal(err)
			}
			frames, all := runTraced(t, p.Wasm, c.arg)
			if frames = strings.ReplaceAll(frames, "guest.", ""); frames != c.frames {
				t.Errorf("%s, dispatch %d: %s; want %s", c.what, dispatch, frames, c.frames)
			}
			if dispatch > 0 && !strings.Contains(all, c.shown) {
				t.Errorf("%s: the runtime does not name %s in %s", c.what, c.shown, all)
			}
		}
	}
}
