package sleep

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// TestMillion: a million (a tenth under the race detector) sleepers of 60 bytes each come back with their own bytes. It logs what they cost.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("a million")
	}
	const n = million
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before, heap, gc := rss(), heapInUse(), gcCPU(3)
	start := time.Now()
	var z Sleeper
	var state [60]byte
	for i := range n {
		fill(t, i, &z, state[:])
		put(t, s, uint16(i%Partitions), &z)
	}
	puts := time.Since(start)
	st := s.Stats()
	after, heapAfter, gcAfter := rss(), heapInUse(), gcCPU(3)
	t.Logf("%d sleepers: %.1f bytes each, %.1f of them live", st.Sleepers, float64(st.Bytes)/n, float64(st.LiveBytes)/n)
	t.Logf("RSS %.1f MiB more, Go heap %.2f MiB more, %d mappings", mib(after-before), mib(heapAfter-heap), s.pages.maps)
	t.Logf("a forced GC: %.2f ms of CPU, without them %.2f ms", gcAfter*1e3, gc*1e3)
	if st.Sleepers != n || st.Bytes > 400<<20 {
		t.Errorf("%+v", st)
	}
	start = time.Now()
	var want Sleeper
	for i := range n {
		fill(t, i, &want, state[:])
		z, ok, err := s.Take(uint16(i%Partitions), want.Identity, latest)
		if err != nil || !ok || !same(&z, &want) {
			t.Fatalf("%s: %v %v", want.Identity, ok, err)
		}
	}
	t.Logf("Put %v, Take %v each", puts/n, time.Since(start)/n)
	if st := s.Stats(); st.Sleepers != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}
}

func fill(t testing.TB, i int, z *Sleeper, state []byte) {
	id, err := abi.NewIdentity("counter", fmt.Sprintf("user-%08d", i))
	if err != nil {
		t.Fatal(err)
	}
	for j := 0; j+8 <= len(state); j += 8 {
		binary.LittleEndian.PutUint64(state[j:], uint64(i+j)*0x9e3779b97f4a7c15)
	}
	*z = Sleeper{Identity: id, Epoch: abi.Epoch{Generation: 1, Index: uint64(i)}, Uses: uint8(i), Slept: time.Unix(1_700_000_000, 0), State: state}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// rss is the resident set in bytes, or 0 where it is not to be had.
func rss() int64 {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Fscan(strings.NewReader(string(b)), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// gcCPU is the seconds of CPU that a forced collection takes, the least of n. Of all GC CPU the idle time counts too, for which the
// scheduler had nothing else to do.
func gcCPU(n int) (least float64) {
	at := func() float64 {
		m := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
		metrics.Read(m)
		return m[0].Value.Float64()
	}
	for i := range n {
		before := at()
		runtime.GC()
		if d := at() - before; i == 0 || d < least {
			least = d
		}
	}
	return least
}

func BenchmarkPutTake(b *testing.B) {
	s, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	zs := make([]Sleeper, 1<<16)
	for i := range zs {
		fill(b, i, &zs[i], make([]byte, 60))
		put(b, s, uint16(i%Partitions), &zs[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		z := &zs[i%len(zs)]
		p := uint16(i % len(zs) % Partitions)
		if _, ok, err := s.Take(p, z.Identity, latest); !ok || err != nil {
			b.Fatal(ok, err)
		}
		put(b, s, p, z)
	}
}

func BenchmarkMiss(b *testing.B) {
	s, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := range 1 << 20 {
		var z Sleeper
		fill(b, i, &z, make([]byte, 60))
		put(b, s, uint16(i%Partitions), &z)
	}
	id := ident(b, "counter", "nobody")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok, _ := s.Take(uint16(i%Partitions), id, latest); ok {
			b.Fatal("somebody")
		}
	}
}
