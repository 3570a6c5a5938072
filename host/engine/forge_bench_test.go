package engine_test

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasilo/wasilo/host/forge"
)

// BenchmarkForgeOverhead calls each kernel, an export k_* that takes a number of rounds, as it is and metered, in turn, and
// reports the best time of the metered in that of the original (x) and units of fuel a nanosecond. More modules with such
// exports, comma-separated, come from WASILO_FORGE_KERNELS: stock Go guests, C, Rust. WASILO_FORGE_DISPATCH is the option.
func BenchmarkForgeOverhead(b *testing.B) {
	files := []string{"../forge/testdata/kernels.wasm"}
	if more := os.Getenv("WASILO_FORGE_KERNELS"); more != "" {
		files = append(files, strings.Split(more, ",")...)
	}
	sum, kernels := 0.0, 0
	for _, file := range files {
		wasm, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		dispatch, _ := strconv.Atoi(os.Getenv("WASILO_FORGE_DISPATCH"))
		began := time.Now()
		p, err := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: dispatch})
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%s: %s, %d -> %d bytes, prepared in %v", file, p.Tier, len(wasm), len(p.Wasm), time.Since(began))
		original, metered := kernelsOf(b, wasm, nil), kernelsOf(b, wasm, p)
		for _, e := range p.Exports {
			if !strings.HasPrefix(e.Name, "k_") {
				continue
			}
			b.Run(strings.TrimPrefix(e.Name, "k_"), func(b *testing.B) {
				x := compareKernel(b, original, metered, e.Name)
				sum, kernels = sum+math.Log(x), kernels+1
			})
		}
	}
	if kernels > 0 {
		b.Logf("geometric mean of %d kernels: %.3f", kernels, math.Exp(sum/float64(kernels)))
	}
}

// BenchmarkForgeInstantiate is what an instance of a stock Go guest takes beside its memory, and compiling it, with its
// table and with dispatch functions.
func BenchmarkForgeInstantiate(b *testing.B) {
	wasm, err := os.ReadFile("../../testdata/wasm/examples.wasm")
	if err != nil {
		b.Fatal(err)
	}
	room := make(sharedMemory, 64<<20)
	ctx := experimental.WithMemoryAllocator(b.Context(), experimental.MemoryAllocatorFunc(
		func(uint64, uint64) experimental.LinearMemory { return room }))
	cfg := wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(strings.NewReader(""))
	for _, dispatch := range []int{0, 32} {
		b.Run(fmt.Sprint("dispatch=", dispatch), func(b *testing.B) {
			p, err := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: dispatch})
			if err != nil {
				b.Fatal(err)
			}
			f, err := newForged(b, wasm, p)
			if err != nil {
				b.Fatal(err)
			}
			compiled := time.Duration(math.MaxInt64)
			for range 3 {
				r, began := wazero.NewRuntime(ctx), time.Now()
				if _, err := r.CompileModule(ctx, p.Wasm); err != nil {
					b.Fatal(err)
				}
				compiled = min(compiled, time.Since(began))
				r.Close(ctx)
			}
			code, err := f.runtime.CompileModule(ctx, p.Wasm)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				m, err := f.runtime.InstantiateModule(ctx, code, cfg)
				if err != nil {
					b.Fatal(err)
				}
				m.Close(ctx)
			}
			b.ReportMetric(float64(compiled.Milliseconds()), "compile-ms")
			b.ReportMetric(float64(len(p.Wasm)), "wasm-bytes")
		})
	}
}

// sharedMemory is one memory for all instances, none of which runs.
type sharedMemory []byte

func (m sharedMemory) Reallocate(size uint64) []byte { return m[:size] }
func (m sharedMemory) Free()                         {}

func kernelsOf(b *testing.B, wasm []byte, p *forge.Module) *forged {
	m, err := newForged(b, wasm, p)
	if err != nil {
		b.Fatal(err)
	}
	m.most = math.MaxInt
	if init := m.ExportedFunction("_initialize"); init != nil {
		if _, err := init.Call(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	return m
}

func compareKernel(b *testing.B, original, metered *forged, name string) (x float64) {
	before, after := original.ExportedFunction(name), metered.ExportedFunction(name)
	rounds := uint64(16)
	for began := time.Now(); ; began = time.Now() {
		before.Call(b.Context(), rounds)
		if time.Since(began) > 4*time.Millisecond || rounds > 1<<30 {
			break
		}
		rounds *= 2
	}
	best := [2]time.Duration{math.MaxInt64, math.MaxInt64}
	metered.refills = 0
	calls := 0
	for b.Loop() {
		for i, f := range []api.Function{before, after} {
			stack := []uint64{rounds}
			began := time.Now()
			if err := f.CallWithStack(b.Context(), stack); err != nil {
				b.Fatal(err)
			}
			best[i] = min(best[i], time.Since(began))
		}
		calls++
	}
	x = float64(best[1]) / float64(best[0])
	units := float64(metered.refills) * float64(metered.slice) / float64(calls)
	b.ReportMetric(x, "x")
	b.ReportMetric(units/float64(best[0]), "units/ns")
	b.ReportMetric(float64(best[0])/float64(rounds), "ns/round")
	return x
}
