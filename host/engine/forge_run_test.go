package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/host/forge"
)

var errOutOfTime = errors.New("out of time")

// forged is an instance, of an original or of what the forge made of it, whose imports all answer 0.
type forged struct {
	api.Module
	runtime wazero.Runtime
	refills int
	most    int // refills before it is ended
	slice   uint64
}

// newForged instantiates; p is nil for an original. The error is that of instantiating, start function included.
func newForged(t testing.TB, wasm []byte, p *forge.Module) (*forged, error) {
	return newForgedFor(t, wasm, p, 2000)
}

// newForgedFor is newForged with the number of refills before the guest is ended.
func newForgedFor(t testing.TB, wasm []byte, p *forge.Module, most int) (*forged, error) {
	ctx := context.Background()
	f := &forged{runtime: wazero.NewRuntime(ctx), most: most, slice: 100_000}
	t.Cleanup(func() { f.runtime.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, f.runtime)
	refill := api.GoModuleFunc(func(_ context.Context, m api.Module, _ []uint64) {
		if int64(m.ExportedGlobal(p.Stack).Get()) < 0 {
			panic(errStackSpent)
		}
		if f.refills++; f.refills > f.most {
			panic(errOutOfTime)
		}
		m.ExportedGlobal(p.Fuel).(api.MutableGlobal).Set(f.slice)
	})
	if p != nil {
		wasm = p.Wasm
		if _, err := f.runtime.NewHostModuleBuilder(forge.RefillModule).NewFunctionBuilder().
			WithGoModuleFunction(refill, nil, nil).Export(forge.RefillName).Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	code, err := f.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return nil, err
	}
	stubs := map[string]wazero.HostModuleBuilder{}
	for _, i := range code.ImportedFunctions() {
		module, name, _ := i.Import()
		if module == forge.RefillModule || module == wasi_snapshot_preview1.ModuleName {
			continue
		}
		if stubs[module] == nil {
			stubs[module] = f.runtime.NewHostModuleBuilder(module)
		}
		zero := api.GoModuleFunc(func(_ context.Context, _ api.Module, stack []uint64) { clear(stack) })
		stubs[module].NewFunctionBuilder().WithGoModuleFunction(zero, i.ParamTypes(), i.ResultTypes()).Export(name)
	}
	for _, s := range stubs {
		if _, err := s.Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cfg := wazero.NewModuleConfig().WithStartFunctions().WithRandSource(bytes.NewReader(make([]byte, 1<<16)))
	if f.Module, err = f.runtime.InstantiateModule(ctx, code, cfg); err != nil {
		return f, err
	}
	if p != nil {
		err = startForged(ctx, f.Module, p)
	}
	return f, err
}

// state is what one instance can be told from another by: a call's outcome and the memory.
func (f *forged) state(results []uint64, err error) string {
	s := fmt.Sprintf("%x %s", results, trapOf(err))
	if f.Module != nil && f.Memory() != nil {
		b, _ := f.Memory().Read(0, f.Memory().Size())
		s += fmt.Sprintf(" %d %x", len(b), sha256.Sum256(b))
	}
	return s
}

// TestForgeFixtures calls what the fixtures export, without arguments, on original and rewritten module.
func TestForgeFixtures(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.wasm", "hostile/*.wasm"} {
		more, _ := filepath.Glob(filepath.Join("../../testdata/wasm", pattern))
		files = append(files, more...)
	}
	for _, dispatch := range []int{0, 1} {
		t.Run(fmt.Sprint("dispatch ", dispatch), func(t *testing.T) {
			runFixtures(t, files, forge.Options{Meter: true, Dispatch: dispatch})
		})
	}
}

func runFixtures(t *testing.T, files []string, opt forge.Options) {
	called, dispatched, stopped := 0, 0, []string{}
	for _, file := range files {
		wasm, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(file)
		switch base {
		case "memory_bomb.wasm", "inbox_grow.wasm", "output_giant.wasm", "template_full.wasm":
			continue // they take all that they get, which is 4 GiB without a limit
		}
		if strings.HasPrefix(base, "wasi_") {
			continue // wazero's own WASI, which is in use here, has no end with these
		}
		if engine.Raced && (base == "probe.wasm" || base == "examples.wasm") {
			t.Logf("%s: left out, it would be compiled for minutes under the race detector", base)
			continue
		}
		p, err := forge.Prepare(wasm, opt)
		if err != nil {
			t.Logf("%s: refused: %v", base, err)
			continue
		}
		dispatched += p.Dispatched
		names := []string{"_initialize", "wasilo_describe", "wasilo_inbox", "wasilo_turn", "wasilo_turn"}
		ended := false
		b, errB := newForgedFor(t, wasm, p, 200)
		if ended = errors.Is(errB, errOutOfTime); ended {
			stopped = append(stopped, base)
			continue
		}
		a, errA := newForged(t, wasm, nil)
		if (errA == nil) != (errB == nil) || b == nil {
			t.Errorf("%s: instantiation: original %v, rewritten %v", base, errA, errB)
			continue
		}
		if errA != nil {
			continue
		}
		for _, n := range names {
			fb := b.ExportedFunction(n)
			if fb == nil {
				continue
			}
			args := make([]uint64, len(fb.Definition().ParamTypes()))
			results, err := fb.Call(t.Context(), args...)
			if errors.Is(err, errOutOfTime) || errors.Is(err, errStackSpent) {
				stopped = append(stopped, base)
				break
			}
			got := b.state(results, err)
			results, err = a.ExportedFunction(n).Call(t.Context(), args...)
			if want := a.state(results, err); got != want {
				t.Errorf("%s: %s: original  %s\nrewritten %s", base, n, want, got)
			}
			called++
			if err != nil {
				break
			}
		}
		a.runtime.Close(t.Context())
		b.runtime.Close(t.Context())
	}
	slices.Sort(stopped)
	t.Logf("%d calls compared, %d tables became functions; stopped by fuel or stack: %s", called, dispatched, strings.Join(stopped, " "))
	for _, want := range []string{"describe_loop.wasm", "init_loop.wasm", "start_loop.wasm"} {
		if !slices.Contains(stopped, want) {
			t.Errorf("%s was not stopped", want)
		}
	}
}
