package engine

import (
	"context"
	"os"
	"runtime"
	"testing"
)

func TestZZ(t *testing.T) {
	wasm, _ := os.ReadFile("/tmp/w/eng/ex.wasm")
	m, err := newEngine(t, Config{}).Load(context.Background(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	i := instantiate(t, m, noHost{}, Options{})
	t.Log(len(i.memory.buf), cap(i.memory.buf), m.minMemory)
	var a, b runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&a)
	var keep []*Instance
	for range 20 {
		keep = append(keep, instantiate(t, m, noHost{}, Options{}))
	}
	runtime.GC()
	runtime.ReadMemStats(&b)
	t.Log((b.HeapAlloc-a.HeapAlloc)/20, (b.HeapObjects-a.HeapObjects)/20, len(keep))
}
