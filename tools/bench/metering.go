package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/host/forge"
)

const meteringNote = `The corpus of testdata/wasm/corpus, as it is and rewritten by the forge, each kernel in turns of a few milliseconds: the CPU
time of the metered in that of the original, the median of the pairs with the middle half of them in brackets. wazero's own check is
the same module, unmetered, under WithCloseOnContextDone. Fuel is what one round is charged; units a nanosecond compare it with
the original's time. The modules are
prepared as the engine prepares them; the refill callback looks at the clock and gives slices as long as the engine's, by the memory that a
guest has.`

// kernel is one export of a module in three forms.
type kernel struct {
	module, name string
	rounds       uint64
	original     *variant
	metered      *variant
	guarded      *variant // by the runtime's own check; nil where that takes too long

	ratio, guard []float64
	ns           []float64 // of the original, a round
	fuels        []float64 // a round
	fuel         float64   // their median: where a guest collects garbage they differ
}

// variant is an instance, of the original or of what was made of it.
type variant struct {
	module  api.Module
	call    map[string]api.Function
	fuel    api.MutableGlobal
	given   uint64
	cleanup func()
}

func newVariant(ctx context.Context, wasm []byte, p *forge.Module, guard bool) (*variant, error) {
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCloseOnContextDone(guard))
	v := &variant{call: map[string]api.Function{}, cleanup: func() { _ = rt.Close(ctx) }}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		return nil, err
	}
	if p != nil {
		wasm = p.Wasm
		end := time.Now().Add(time.Hour)
		refill := api.GoModuleFunc(func(context.Context, api.Module, []uint64) {
			if time.Now().After(end) { // as the engine looks at its deadline
				panic("bench: an hour has passed")
			}
			slice := uint64(engine.SliceOf(v.module.Memory().Size()))
			v.given += slice - v.fuel.Get()
			v.fuel.Set(slice)
		})
		if _, err := rt.NewHostModuleBuilder(forge.RefillModule).NewFunctionBuilder().
			WithGoModuleFunction(refill, nil, nil).Export(forge.RefillName).Instantiate(ctx); err != nil {
			return nil, err
		}
	}
	code, err := rt.CompileModule(ctx, wasm)
	if err != nil {
		return nil, err
	}
	config := wazero.NewModuleConfig().WithStartFunctions().WithRandSource(bytes.NewReader(make([]byte, 1<<16)))
	if v.module, err = rt.InstantiateModule(ctx, code, config); err != nil {
		return nil, err
	}
	if p != nil {
		v.fuel = v.module.ExportedGlobal(p.Fuel).(api.MutableGlobal)
		for _, s := range p.Data {
			if !v.module.Memory().Write(s.Offset, s.Bytes) {
				return nil, errors.New("a data segment does not fit")
			}
		}
	}
	for name := range code.ExportedFunctions() {
		v.call[name] = v.module.ExportedFunction(name)
	}
	if f := v.call["_initialize"]; f != nil {
		_, err = f.Call(ctx)
	}
	return v, err
}

// run does rounds of a kernel and returns how long they took, what they were charged, and what they returned.
func (v *variant) run(ctx context.Context, name string, rounds uint64) (took time.Duration, fuel float64, result uint64, err error) {
	stack := []uint64{rounds}
	before := uint64(0)
	if v.fuel != nil {
		before = v.fuel.Get() - v.given
	}
	began := threadTime()
	err = v.call[name].CallWithStack(ctx, stack)
	took = threadTime() - began
	if v.fuel != nil {
		fuel = float64(int64(before - (v.fuel.Get() - v.given)))
	}
	return took, fuel, stack[0], err
}

// corpus loads all kernels; the Go ones are built into dir.
func corpus(ctx context.Context, b *bench) ([]*kernel, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { _ = os.RemoveAll(dir) })
	built := filepath.Join(dir, "go.wasm")
	fmt.Fprintln(os.Stderr, "metering: building the Go kernels")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w", "-o", built, "./testdata/wasm/corpus/gokernels")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run from the project's root: %w\n%s", err, out)
	}
	var all []*kernel
	for _, m := range []struct{ name, file string }{
		{"Go", built},
		{"C", filepath.Join("testdata", "wasm", "corpus", "native.wasm")},
		{loopsModule, filepath.Join("testdata", "wasm", "corpus", "loops.wasm")},
	} {
		wasm, err := os.ReadFile(m.file)
		if err != nil {
			return nil, err
		}
		kernels, err := b.kernels(ctx, m.name, wasm, true)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		all = append(all, kernels...)
	}
	return all, nil
}

// loopsModule is the part of the corpus that stands for the worst that there can be; it is not in the mean.
const loopsModule = "by hand"

// kernels are the exports k_* of a module, with as many rounds as take some milliseconds.
func (b *bench) kernels(ctx context.Context, module string, wasm []byte, guard bool) ([]*kernel, error) {
	p, err := forge.Prepare(wasm, engine.ForgeOptions())
	if err != nil {
		return nil, err
	}
	made := [3]*variant{}
	for i := range made {
		if i == 2 && !guard {
			break
		}
		form := p
		if i != 1 {
			form = nil
		}
		if made[i], err = newVariant(ctx, wasm, form, i == 2); err != nil {
			return nil, err
		}
		b.onEnd(made[i].cleanup)
	}
	var kernels []*kernel
	for _, e := range p.Exports {
		name, ok := strings.CutPrefix(e.Name, "k_")
		if !ok {
			continue
		}
		k := &kernel{module: module, name: name, original: made[0], metered: made[1], guarded: made[2], rounds: 1}
		for took := time.Duration(0); took < 2*time.Millisecond && k.rounds < 1<<24; k.rounds *= 2 {
			if took, _, _, err = k.original.run(ctx, e.Name, k.rounds); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if _, _, _, err = k.metered.run(ctx, e.Name, k.rounds); err != nil { // which keeps both in the same state
				return nil, fmt.Errorf("%s, metered: %w", name, err)
			}
		}
		kernels = append(kernels, k)
	}
	return kernels, nil
}

// pair runs original and metered once each, in changing order.
func (k *kernel) pair(ctx context.Context, n int) error {
	var took [2]time.Duration
	var result [2]uint64
	for i := range 2 {
		which := (i + n) % 2
		v := [2]*variant{k.original, k.metered}[which]
		var fuel float64
		var err error
		if took[which], fuel, result[which], err = v.run(ctx, "k_"+k.name, k.rounds); err != nil {
			return err
		}
		if which == 1 {
			k.fuels = append(k.fuels, fuel/float64(k.rounds))
		}
	}
	if result[0] != result[1] {
		return fmt.Errorf("%s %s returns %d, metered %d", k.module, k.name, result[0], result[1])
	}
	k.ratio = append(k.ratio, float64(took[1])/float64(took[0]))
	k.ns = append(k.ns, float64(took[0])/float64(k.rounds))
	k.fuel = median(k.fuels)
	return nil
}

// check runs the one that the runtime checks itself.
func (k *kernel) check(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rounds := max(k.rounds/8, 1)
	took, _, _, err := k.guarded.run(ctx, "k_"+k.name, rounds)
	k.guard = append(k.guard, float64(took)/float64(rounds)/median(k.ns))
	return err
}

func metering(ctx context.Context, b *bench) (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	kernels, err := corpus(ctx, b)
	if err != nil {
		return "", err
	}
	micro, err := b.kernels(ctx, microModule, microKernels(), false)
	if err != nil {
		return "", err
	}
	kernels = slices.DeleteFunc(kernels, func(k *kernel) bool { return !strings.Contains(k.module+" "+k.name, b.rows) })
	for round := range b.rounds {
		fmt.Fprintf(os.Stderr, "metering: round %d of %d, %d kernels\n", round+1, b.rounds, len(kernels))
		for _, k := range kernels {
			runtime.GC()
			for began, n := time.Now(), 0; time.Since(began) < b.time/2 || n < 4; n++ {
				if err := k.pair(ctx, n); err != nil {
					return "", err
				}
			}
			if err := k.check(ctx); err != nil {
				return "", err
			}
		}
		for _, k := range micro {
			for n := range 4 {
				if err := k.pair(ctx, n); err != nil {
					return "", err
				}
			}
		}
	}
	return meteringTables(kernels, micro), nil
}

func meteringTables(kernels, micro []*kernel) string {
	var doc strings.Builder
	doc.WriteString("\n| kernel | ns a round | metered in original | wazero's own check in original | fuel a round | units/ns |\n|---|---|---|---|---|---|\n")
	var logs, guards []float64
	worst, loop, tight := &kernel{ratio: []float64{0}}, &kernel{ratio: []float64{0}}, &kernel{ratio: []float64{0}}
	for _, k := range kernels {
		x := median(k.ratio)
		fmt.Fprintf(&doc, "| %s %s | %s | %s | %s | %s | %s |\n", k.module, k.name, figure(median(k.ns)), middle(k.ratio), figure(median(k.guard)),
			figure(k.fuel), figure(k.fuel/median(k.ns)))
		if k.module == loopsModule {
			if x > median(loop.ratio) {
				loop = k
			}
			if k.name == "tight" {
				tight = k
			}
			continue
		}
		logs, guards = append(logs, math.Log(x)), append(guards, math.Log(median(k.guard)))
		if x > median(worst.ratio) {
			worst = k
		}
	}
	if len(logs) > 0 {
		fmt.Fprintf(&doc, "\nGeometric mean over the %d kernels in Go and C: **%.3f** (to reach: 1.15); the worst of them is %s %s with %s (1.40). ",
			len(logs), geometric(logs), worst.module, worst.name, middle(worst.ratio))
		fmt.Fprintf(&doc, "The tightest loop: %s, the worst by hand is %s with %s (3). wazero's own check: %.1f.\n\n",
			middle(tight.ratio), loop.name, middle(loop.ratio), geometric(guards))
	}
	fmt.Fprintf(&doc, "Fuel and CPU time of a round (weights of version %d):\n\n| over | of | Pearson, of logarithms | Spearman | units/ns: median (least–greatest) |\n|---|---|---|---|---|\n", forge.WeightsVersion)
	correlation(&doc, "kernels in Go and C", slices.DeleteFunc(slices.Clone(kernels), func(k *kernel) bool { return k.module == loopsModule }))
	correlation(&doc, "all kernels", kernels)
	correlation(&doc, "single instructions", micro)
	return doc.String()
}

func correlation(doc *strings.Builder, over string, kernels []*kernel) {
	if len(kernels) < 3 {
		return
	}
	var time, fuel, rate []float64
	for _, k := range kernels {
		ns := median(k.ns)
		time, fuel, rate = append(time, math.Log(ns)), append(fuel, math.Log(k.fuel)), append(rate, k.fuel/ns)
	}
	fmt.Fprintf(doc, "| %s | %d | %.3f | %.3f | %s |\n", over, len(kernels), pearson(time, fuel), pearson(ranks(time), ranks(fuel)), spread(rate))
}

func geometric(logs []float64) float64 {
	sum := 0.0
	for _, l := range logs {
		sum += l
	}
	return math.Exp(sum / float64(len(logs)))
}

// middle is the median with the quartiles.
func middle(v []float64) string {
	s := slices.Clone(v)
	slices.Sort(s)
	return fmt.Sprintf("%.3f (%.3f–%.3f)", s[len(s)/2], s[len(s)/4], s[len(s)*3/4])
}

func pearson(a, b []float64) float64 {
	mean := func(v []float64) (m float64) {
		for _, x := range v {
			m += x / float64(len(v))
		}
		return m
	}
	ma, mb := mean(a), mean(b)
	var ab, aa, bb float64
	for i := range a {
		ab += (a[i] - ma) * (b[i] - mb)
		aa += (a[i] - ma) * (a[i] - ma)
		bb += (b[i] - mb) * (b[i] - mb)
	}
	return ab / math.Sqrt(aa*bb)
}

// ranks replaces values by their places, equal ones by the mean of theirs.
func ranks(v []float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		below, same := 0, 0
		for _, y := range v {
			if y < x {
				below++
			} else if y == x {
				same++
			}
		}
		out[i] = float64(below) + float64(same-1)/2
	}
	return out
}
