package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/forge"
)

// image is all the state of an instance of the image tier.
type image struct {
	memory  []byte
	globals [][]uint64
}

func capture(t *testing.T, f *forged, p *forge.Module) (i image) {
	b, _ := f.Memory().Read(0, f.Memory().Size())
	i.memory = append(i.memory, b...)
	for _, g := range p.Globals {
		if g.Name != "" {
			i.globals = append(i.globals, []uint64{f.ExportedGlobal(g.Name).Get()})
			continue
		}
		halves, err := f.ExportedFunction(g.Get).Call(t.Context())
		if err != nil || len(halves) != 2 {
			t.Fatalf("%s: %v, %v", g.Get, halves, err)
		}
		i.globals = append(i.globals, halves)
	}
	return i
}

func (i image) restore(t *testing.T, f *forged, p *forge.Module) {
	if more := (len(i.memory) - int(f.Memory().Size())) >> 16; more > 0 {
		f.Memory().Grow(uint32(more))
	}
	f.Memory().Write(0, i.memory)
	for k, g := range p.Globals {
		if g.Name != "" {
			f.ExportedGlobal(g.Name).(api.MutableGlobal).Set(i.globals[k][0])
		} else if _, err := f.ExportedFunction(g.Set).Call(t.Context(), i.globals[k]...); err != nil {
			t.Fatal(err)
		}
	}
}

// newImage instantiates without applying data and without the start function: what it is to be is set from outside.
func newImage(t *testing.T, p *forge.Module) *forged {
	bare := *p
	bare.Data, bare.Start = nil, ""
	f, err := newForged(t, nil, &bare)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// An image goes on in another instance where it was captured: random modules, captured after each of their functions.
func TestForgeImagesGoOnElsewhere(t *testing.T) {
	moved := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		wasm := (&randomModule{next: func(n int) int { return rng.IntN(n) }}).module()
		p, err := forge.Prepare(wasm, forge.Options{Meter: true, Dispatch: int(seed % 2)}) // every other one with its table
		if err != nil {
			t.Fatal(err)
		}
		stays, err := newForged(t, nil, p)
		if p.Tier != forge.Image || err != nil {
			continue
		}
		moves := newImage(t, p)
		capture(t, stays, p).restore(t, moves, p)
		for i := 1; stays.ExportedFunction(fmt.Sprintf("f%d", i)) != nil; i++ {
			name := fmt.Sprintf("f%d", i)
			a, errA := stays.ExportedFunction(name).Call(t.Context(), argsOf(stays.ExportedFunction(name), i)...)
			b, errB := moves.ExportedFunction(name).Call(t.Context(), argsOf(moves.ExportedFunction(name), i)...)
			if x, y := stays.state(a, errA), moves.state(b, errB); x != y {
				t.Fatalf("seed %d, %s: %s\nmoved: %s", seed, name, x, y)
			}
			if x, y := capture(t, stays, p), capture(t, moves, p); fmt.Sprint(x.globals) != fmt.Sprint(y.globals) {
				t.Fatalf("seed %d, %s: globals %x\nmoved: %x", seed, name, x.globals, y.globals)
			}
			if errA != nil {
				break
			}
			image := capture(t, moves, p)
			moves.runtime.Close(context.Background())
			moves = newImage(t, p)
			image.restore(t, moves, p)
			moved++
		}
		stays.runtime.Close(context.Background())
		moves.runtime.Close(context.Background())
	}
	t.Logf("%d images moved", moved)
}

// argsOf are some arguments for a function.
func argsOf(f api.Function, i int) (args []uint64) {
	for k, t := range f.Definition().ParamTypes() {
		args = append(args, uint64(k*3+i))
		if t == rV128 {
			args = append(args, uint64(k))
		}
	}
	return args
}
