package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/host/forge"
)

// TestForgeCorpus compares what the prebuilt kernels of the corpus that metering is measured over return, as they are and
// metered.
func TestForgeCorpus(t *testing.T) {
	files, err := filepath.Glob("../../testdata/wasm/corpus/*.wasm")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	known := map[string]uint64{"k_vm": 30} // primes below 126
	for _, file := range files {
		wasm, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := forge.Prepare(wasm, forge.Options{Meter: true})
		if err != nil {
			t.Fatal(err)
		}
		a, errA := newForged(t, wasm, nil)
		b, errB := newForged(t, wasm, p)
		if errA != nil || errB != nil {
			t.Fatal(file, errA, errB)
		}
		for _, e := range p.Exports {
			if !strings.HasPrefix(e.Name, "k_") {
				continue
			}
			for _, rounds := range []uint64{1, 3} {
				b.refills = 0
				results, err := a.ExportedFunction(e.Name).Call(t.Context(), rounds)
				want := a.state(results, err)
				if w, ok := known[e.Name]; ok && rounds == 1 && (err != nil || results[0] != w) {
					t.Errorf("%s(1) returns %d, %v; want %d", e.Name, results, err, w)
				}
				results, err = b.ExportedFunction(e.Name).Call(t.Context(), rounds)
				if got := b.state(results, err); got != want {
					t.Errorf("%s, %s, %d rounds: original  %s\nrewritten %s", file, e.Name, rounds, want, got)
				}
			}
		}
		a.runtime.Close(t.Context())
		b.runtime.Close(t.Context())
	}
}
