package engine_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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
	deep    bool  // the stack has overflowed, which is not as deep with and without the forge: calls has what was before
	long    bool  // it takes more than mostRefills
}

// mostRefills bounds a run: a module that a fuzzer has made may call for ever.
const mostRefills = 300_000

func runRandom(ctx context.Context, wasm []byte, p *forge.Module, slice uint64) (*outcome, error) {
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	out := &outcome{}
	refills, last := 0, int64(0)
	host := func(_ context.Context, m api.Module) {
		if int64(m.ExportedGlobal("wasilo_forge_stack").Get()) < 0 {
			panic(errStackSpent)
		}
		if refills++; refills > mostRefills {
			out.long = true
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
		f, before := m.ExportedFunction(fmt.Sprintf("f%d", i)), len(out.calls)
		res, err := f.Call(ctx, argsOf(f, i)...)
		out.trapped = out.trapped || err != nil
		if out.deep = trapOf(err) == "stack overflow"; out.deep || out.long {
			out.calls = out.calls[:before]
			return out, nil
		}
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

// costly are limits without those on what the runtime's compiler would do for a module.
var costly = forge.Limits{MaxBody: 1 << 60, MaxNestingSum: 1 << 60, MaxBlocks: 1 << 60, MaxBlocksSquared: 1 << 60, MaxValues: 1 << 60, MaxLocalsSum: 1 << 60,
	MaxWalks: 1 << 60, MaxPhis: 1 << 60, MaxLive: 1 << 60, MaxGlobalLoads: 1 << 60, MaxWide: 1 << 60, MaxCompiler: 1 << 60, MaxPairs: 1 << 60,
	MaxBehind: 1 << 60, MaxSteps: 1 << 60}

// compareForged runs a module both ways.
func compareForged(t *testing.T, wasm []byte) (forge.Tier, bool) {
	t.Helper()
	ctx := t.Context()
	var a *outcome // of the original, which nothing would end
	fuel := int64(-1)
	tier := forge.Plain
	for _, run := range []struct {
		slice    uint64
		dispatch int
	}{{20, 0}, {20, 1}, {1, 0}, {1, 1}, {100_000, 0}, {100_000, 1}} {
		p, err := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: run.dispatch})
		if err != nil {
			_, bare := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: run.dispatch, Limits: costly})
			if bare == nil {
				return tier, false // valid, and dearer to compile than is accepted
			}
			dumpWasm(t, wasm)
			t.Fatalf("refused: %v; without limits of cost: %v", err, bare)
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
		if b.long && a == nil {
			return tier, false
		}
		if a == nil {
			if a, err = runRandom(ctx, wasm, nil, 0); err != nil {
				dumpWasm(t, wasm)
				t.Fatalf("the original: %v", err)
			}
		}
		want, have := a.calls, b.calls
		if b.long || a.deep || b.deep { // alike as far as both have come
			n := min(len(want), len(have))
			want, have, b.trapped = want[:n], have[:n], true
		}
		for i := range max(len(want), len(have)) {
			if i >= len(want) || i >= len(have) || want[i] != have[i] {
				dumpWasm(t, wasm)
				t.Fatalf("%+v: original  %.600v\nrewritten %.600v", run, want[min(i, len(want)):], have[min(i, len(have)):])
			}
		}
		if fuel >= 0 && fuel != b.fuel && !b.trapped {
			dumpWasm(t, wasm)
			t.Fatalf("%+v: %d units, %d before", run, b.fuel, fuel)
		}
		if !b.long {
			fuel = b.fuel
		}
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

// TestForgeEndlessModules: what a generator may make that changes its table, or calls in loops within loops, is compared as far as it can be.
func TestForgeEndlessModules(t *testing.T) {
	add := []byte{0x23, 0, 0x41, 1, 0x6a, 0x24, 0} // global 0 counts
	for name, code := range map[string][]byte{
		"a recursion":           {0x41, 1, 0x11, 1, 0},
		"one that leaves marks": append(slices.Clone(add), 0x41, 1, 0x11, 1, 0),
		"one that tells":        {0x23, 0, 0x10, 0, 0x41, 1, 0x11, 1, 0},
		"500,000 rounds":        slices.Concat([]byte{0x03, 0x40}, add, []byte{0x23, 0, 0x41, 0xa0, 0xc2, 0x1e, 0x48, 0x0d, 0, 0x0b}),
		"2^31 rounds":           slices.Concat([]byte{0x03, 0x40}, add, []byte{0x23, 0, 0x0d, 0, 0x0b}),
	} {
		t.Run(name, func(t *testing.T) {
			body := slices.Concat([]byte{0}, code, []byte{0x0b})
			exports := [][]byte{append(append(str("f1"), 0), 1), append(append(str("memory"), 2), 0)}
			for i := range 4 {
				exports = append(exports, append(str(fmt.Sprintf("g%d", i)), 3, byte(i)))
			}
			compareForged(t, slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
				sec(1, vec([]byte{0x60, 1, rI32, 0}, []byte{0x60, 0, 0})),
				sec(2, vec(slices.Concat(str("host"), str("note"), []byte{0, 0}))),
				sec(3, vec([]byte{1})), sec(4, vec([]byte{rFuncRef, 1, 4, 4})), sec(5, []byte{1, 1, 1, 4}),
				sec(6, vec([]byte{rI32, 1, 0x41, 7, 0x0b}, []byte{rI64, 1, 0x42, 9, 0x0b},
					[]byte{rF32, 1, 0x43, 0, 0, 0, 0x40, 0x0b}, []byte{rF64, 1, 0x44, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x0b})),
				sec(7, vec(exports...)), sec(9, vec(append([]byte{0, 0x41, 0, 0x0b}, vec([]byte{0}, []byte{1})...))),
				sec(10, vec(append(uleb(nil, uint64(len(body))), body...)))))
		})
	}
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
