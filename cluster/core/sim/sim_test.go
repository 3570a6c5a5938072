package sim

import (
	"bytes"
	"flag"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seed  = flag.Uint64("seed", 0, "replay this seed alone, with its trace")
	seeds = flag.Uint64("seeds", 1000, "how many seeds to run")
	first = flag.Uint64("first", 1, "the first of them")
)

// TestSimulation runs many seeds, or with -seed one of them with its trace.
func TestSimulation(t *testing.T) {
	if *seed != 0 {
		r := Run(Options{Seed: *seed, Trace: os.Stdout})
		t.Logf("%s", &r.Stats)
		if v := r.Violation; v != nil {
			t.Errorf("%s broken at %v: %s", v.Invariant, v.At, v.Text)
		}
		return
	}
	var total Stats
	var mu sync.Mutex
	found := 0
	sweep(*first, *seeds, func(r *Result) bool {
		mu.Lock()
		defer mu.Unlock()
		total.Add(&r.Stats)
		if v := r.Violation; v != nil {
			found++
			t.Errorf("seed %d: %s broken at %v: %s\nreplay it with: go test ./cluster/core/sim -run TestSimulation -v -seed %d", r.Seed, v.Invariant, v.At,
				v.Text, r.Seed)
		}
		return found < 5
	})
	t.Logf("%s", &total)
}

// sweep runs seeds, several at once, and tells each result until told to stop.
func sweep(first, count uint64, tell func(*Result) bool) {
	var next atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
				i := next.Add(1) - 1
				if i >= count {
					return
				}
				if r := Run(Options{Seed: first + i}); !tell(&r) {
					stop.Store(true)
				}
			}
		})
	}
	wg.Wait()
}

// TestOneSeedIsOneRun: two runs of a seed have one trace and one hash.
func TestOneSeedIsOneRun(t *testing.T) {
	for s := uint64(1); s <= 20; s++ {
		var a, b bytes.Buffer
		x, y := Run(Options{Seed: s, Trace: &a}), Run(Options{Seed: s, Trace: &b})
		if x.Hash != y.Hash || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("seed %d: hashes %x and %x", s, x.Hash, y.Hash)
		}
		if z := Run(Options{Seed: s}); z.Hash != x.Hash {
			t.Errorf("seed %d: without a trace it is another run", s)
		}
	}
}
