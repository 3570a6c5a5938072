package engine_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/forge"
)

// Random valid modules, run as they are and rewritten: results, traps, memory and globals must agree.

// outcome is all that shows of a module: what its functions return, and what they leave behind.
type outcome struct {
	calls   []string
	fuel    int64 // that was charged
	trapped bool  // so that fuel is not exact
}

func runRandom(ctx context.Context, wasm []byte, p *forge.Module, slice uint64) (*outcome, error) {
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	out := &outcome{}
	refills, last := 0, int64(0)
	host := func(_ context.Context, m api.Module) {
		if int64(m.ExportedGlobal("wasilo_forge_stack").Get()) < 0 {
			panic(errStackSpent)
		}
		refills++
		if refills > 1_000_000 {
			panic("too many refills")
		}
		fuel := m.ExportedGlobal("wasilo_forge_fuel").(api.MutableGlobal)
		out.fuel += last - int64(fuel.Get())
		last = int64(slice)
		fuel.Set(slice)
	}
	note := func(v int32) { out.calls = append(out.calls, fmt.Sprint("note ", v)) }
	r.NewHostModuleBuilder("host").NewFunctionBuilder().WithFunc(note).Export("note").Instantiate(ctx)
	r.NewHostModuleBuilder(forge.RefillModule).NewFunctionBuilder().WithFunc(host).Export(forge.RefillName).Instantiate(ctx)
	m, err := r.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithStartFunctions())
	if err == nil && p != nil {
		err = startForged(ctx, m, p)
	}
	if err != nil {
		if strings.Contains(err.Error(), "out of bounds memory access") { // a data segment
			out.calls = append(out.calls, "no instance")
			return out, nil
		}
		return nil, err
	}
	for i := 1; m.ExportedFunction(fmt.Sprintf("f%d", i)) != nil; i++ {
		f := m.ExportedFunction(fmt.Sprintf("f%d", i))
		res, err := f.Call(ctx, argsOf(f, i)...)
		out.trapped = out.trapped || err != nil
		if p != nil {
			if g := m.ExportedGlobal("wasilo_forge_stack"); err == nil && g.Get() != 8<<20 {
				return nil, fmt.Errorf("after f%d %d bytes of stack are left", i, int64(g.Get()))
			}
			m.ExportedGlobal("wasilo_forge_stack").(api.MutableGlobal).Set(8 << 20)
		}
		mem, _ := m.Memory().Read(0, m.Memory().Size())
		line := fmt.Sprintf("f%d %x %s mem %d %x", i, res, trapOf(err), len(mem), sha256.Sum256(mem))
		for k := range 4 {
			line += fmt.Sprintf(" %x", m.ExportedGlobal(fmt.Sprintf("g%d", k)).Get())
		}
		out.calls = append(out.calls, line)
	}
	if p != nil {
		out.fuel += last - int64(m.ExportedGlobal("wasilo_forge_fuel").Get())
	}
	return out, nil
}

// compareForged runs a module both ways.
func compareForged(t *testing.T, wasm []byte) (forge.Tier, bool) {
	t.Helper()
	ctx := t.Context()
	a, err := runRandom(ctx, wasm, nil, 0)
	if err != nil {
		dumpWasm(t, wasm)
		t.Fatalf("the original: %v", err)
	}
	fuel := int64(-1)
	tier := forge.Plain
	for _, run := range []struct {
		slice    uint64
		dispatch int
	}{{1, 0}, {1, 1}, {100_000, 0}, {100_000, 1}} {
		p, err := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: run.dispatch})
		if err != nil {
			dumpWasm(t, wasm)
			t.Fatalf("refused: %v", err)
		}
		if tier = p.Tier; run.dispatch > 0 && (p.Dispatched > 0) != (tier == forge.Image) {
			t.Fatalf("%s, %d tables became functions", tier, p.Dispatched)
		}
		slice := run.slice
		b, err := runRandom(ctx, p.Wasm, p, slice)
		if err != nil {
			dumpWasm(t, wasm)
			t.Fatalf("rewritten: %v", err)
		}
		for i := range max(len(a.calls), len(b.calls)) {
			if i >= len(a.calls) || i >= len(b.calls) || a.calls[i] != b.calls[i] {
				dumpWasm(t, wasm)
				t.Fatalf("%+v: original  %.600v\nrewritten %.600v", run, a.calls[min(i, len(a.calls)):], b.calls[min(i, len(b.calls)):])
			}
		}
		if fuel >= 0 && fuel != b.fuel && !b.trapped {
			dumpWasm(t, wasm)
			t.Fatalf("%+v: %d units, %d before", run, b.fuel, fuel)
		}
		fuel = b.fuel
	}
	return tier, len(a.calls) > 0 && a.calls[0] != "no instance"
}

func dumpWasm(t *testing.T, wasm []byte) {
	f, err := os.CreateTemp("", "forge-*.wasm")
	if err == nil {
		f.Write(wasm)
		f.Close()
		t.Logf("the module is in %s", f.Name())
	}
}

func TestForgeRandomModules(t *testing.T) {
	n, images, ran := 100, 0, 0
	if s := os.Getenv("WASILO_FORGE_MODULES"); s != "" {
		fmt.Sscan(s, &n)
	}
	for seed := range uint64(n) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := &randomModule{next: func(n int) int { return rng.IntN(n) }}
		tier, ok := compareForged(t, g.module())
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if tier == forge.Image {
			images++
		}
		if ok {
			ran++
		}
	}
	t.Logf("%d modules, %d of them images, %d with an instance", n, images, ran)
}

func FuzzForgeRandomModules(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789"))
	f.Fuzz(func(t *testing.T, in []byte) {
		rng := rand.New(rand.NewPCG(uint64(len(in)), 2))
		g := &randomModule{next: func(n int) int {
			if len(in) < 3 {
				return rng.IntN(n)
			}
			v := int(in[0]) | int(in[1])<<8 | int(in[2])<<16
			if n <= 256 {
				v = int(in[0])
				in = in[1:]
			} else {
				in = in[3:]
			}
			return v % n
		}}
		compareForged(t, g.module())
	})
}

// FuzzForgeCompiles holds the forge against the runtime: what it accepts must compile if the original does.
func FuzzForgeCompiles(f *testing.F) {
	files, _ := filepath.Glob("../../testdata/wasm/hostile/*.wasm")
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			f.Add(b)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 10 {
		f.Add((&randomModule{next: func(n int) int { return rng.IntN(n) }}).module())
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		p, err := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: 1})
		if err != nil {
			return
		}
		ctx := t.Context()
		r := wazero.NewRuntime(ctx)
		defer r.Close(ctx)
		if _, err := r.CompileModule(ctx, p.Wasm); err != nil {
			if _, original := r.CompileModule(ctx, wasm); original == nil {
				t.Fatalf("the original compiles, the rewritten does not: %v", err)
			}
		}
	})
}
