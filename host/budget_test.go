package host

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine"
)

const mb = 1 << 20

func TestAssess(t *testing.T) {
	some := counted{Memory: engine.Memory{Mapped: 100 * mb, Heap: 20 * mb, Templates: 10 * mb, Code: 40 * mb}, coming: 10 * mb, sleepers: 20 * mb}
	base := measure{goLive: 10 * mb, goMapped: 20 * mb, resident: 50 * mb} // 30 MiB outside
	for _, tt := range []struct {
		name            string
		c               counted
		m               measure
		g               group
		used, left      int64 // MiB
		heap, pages     int64 // not counted
		others, goLimit int64
		pressure        float64
	}{
		{"nothing", counted{}, base, group{}, 0, 750, 0, 0, 0, 870, 0},
		{"all is counted", some, measure{40 * mb, 60 * mb, 250 * mb}, group{}, 200, 550, 0, 0, 0, 700, 200. / 750},
		{"less is there than was granted", some, base, group{}, 200, 550, 0, 0, 0, 730, 200. / 750},
		{"the kernel does not tell", some, measure{goLive: 40 * mb, goMapped: 60 * mb}, group{}, 200, 550, 0, 0, 0, 730, 200. / 750},
		{"more pages than were counted", some, measure{40 * mb, 60 * mb, 550 * mb}, group{}, 500, 250, 0, 300, 0, 400, 500. / 750},
		{"more heap than was counted", some, measure{140 * mb, 160 * mb, 350 * mb}, group{}, 300, 450, 100, 0, 0, 700, 300. / 750},
		{"too much", some, measure{40 * mb, 60 * mb, 1050 * mb}, group{}, 1000, -250, 0, 800, 0, 100, 1},
		{"the group is empty", some, measure{40 * mb, 60 * mb, 250 * mb}, group{2000 * mb, 1500 * mb}, 200, 550, 0, 0, 0, 700, 200. / 750},
		// 300 of 1,000 are free and 20 of garbage, 50 of them for nobody: 270 of the 600 that are left.
		{"others in the group", some, measure{40 * mb, 60 * mb, 250 * mb}, group{1000 * mb, 300 * mb}, 200, 220, 0, 0, 330, 310, 530. / 750},
		{"the group is full", some, measure{40 * mb, 60 * mb, 250 * mb}, group{1000 * mb, 10 * mb}, 200, -50, 0, 0, 600, 100, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if sleepersInHeap {
				t.Skip("skipped: here sleepers lie in the heap")
			}
			a := assess(800*mb, 900*mb, tt.c, base, tt.m, tt.g)
			if reserve(a.max) != 50*mb {
				t.Fatal(reserve(a.max))
			}
			got := []int64{a.used, a.left(), a.strayHeap, a.strayPages, a.others, a.heapLimit}
			for i, want := range []int64{tt.used, tt.left, tt.heap, tt.pages, tt.others, tt.goLimit} {
				if got[i] != want*mb {
					t.Errorf("figure %d is %d MiB, want %d: %+v", i, got[i]/mb, want, a)
				}
			}
			if a.pressure != tt.pressure {
				t.Errorf("pressure %v, want %v", a.pressure, tt.pressure)
			}
		})
	}
}

func TestShares(t *testing.T) {
	for _, tt := range []struct {
		most   int64
		memory uint64
		want   int64
	}{{256 * mb, 16384 * mb, 320 * mb}, {1600 * mb, 16384 * mb, 1800 * mb}, {1600 * mb, 1700 * mb, 1615 * mb}, {800 * mb, 1 << 63, 900 * mb}} {
		if got := ceiling(tt.most, tt.memory); got != tt.want {
			t.Errorf("ceiling of %d MiB: %d, want %d", tt.most/mb, got/mb, tt.want/mb)
		}
	}
	for _, tt := range []struct {
		now      int64
		pressure float64
		want     int64
	}{{0, 0, 90}, {90, 0.7, 90}, {90, 0.8, 60}, {90, 0.9, 30}, {90, 1, 26}, {1000, 1, 936}, {0, 2, 0}} {
		if got := spillTo(tt.now*mb, 90*mb, tt.pressure); (got+mb/2)/mb != tt.want {
			t.Errorf("at %v sleepers may have %d MiB, want %d", tt.pressure, got/mb, tt.want)
		}
	}
	if replicaBytes(mb) != mb || replicaBytes(320*mb) != 10*mb || replicaBytes(1<<50) != 64*mb {
		t.Error("replicas")
	}
}

func TestMeasures(t *testing.T) {
	status := "Name:\tx\nVmRSS:\t  100 kB\nRssAnon:\t   2048 kB\nRssFile:\t  512 kB\nRssShmem:\t      8 kB\n"
	if n := residentOf([]byte(status)); n != 2048<<10 {
		t.Errorf("%d bytes", n)
	}
	for _, bad := range []string{"", "RssAnon", "RssAnon:\t kB\n", "RssAnon:\tx kB\n"} {
		if residentOf([]byte(bad)) != 0 {
			t.Errorf("%q", bad)
		}
	}
	m := measureProcess()
	if m.goLive < 0 || m.goMapped < mb {
		t.Errorf("%+v", m)
	}
	if _, err := os.Stat("/proc/self/status"); err == nil && m.resident < mb {
		t.Errorf("%+v", m)
	}
}

func TestGroupOf(t *testing.T) {
	const v2 = "sys/fs/cgroup/a/b/"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  group
	}{
		{"none", map[string]string{}, group{}},
		{"no limit", map[string]string{v2 + "memory.max": "max", v2 + "memory.current": "5"}, group{}},
		{"half full", map[string]string{v2 + "memory.max": "1000", v2 + "memory.current": "400"}, group{1000, 600}},
		{"files can go", map[string]string{v2 + "memory.max": "1000", v2 + "memory.current": "900",
			v2 + "memory.stat": "anon 1\ninactive_file 300\nactive_file 50\nfile 999\n"}, group{1000, 450}},
		{"one above is fuller", map[string]string{v2 + "memory.max": "1000", v2 + "memory.current": "400",
			"sys/fs/cgroup/a/memory.max": "2000", "sys/fs/cgroup/a/memory.current": "1900"}, group{2000, 100}},
		{"high", map[string]string{v2 + "memory.max": "1000", v2 + "memory.high": "700", v2 + "memory.current": "300"}, group{700, 400}},
	} {
		root := fstest.MapFS{"proc/self/cgroup": &fstest.MapFile{Data: []byte("0::/a/b\n")}}
		for name, text := range tt.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := groupOf(root); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	v1 := fstest.MapFS{"proc/self/cgroup": &fstest.MapFile{Data: []byte("4:memory:/x\n")},
		"sys/fs/cgroup/memory/x/memory.limit_in_bytes": &fstest.MapFile{Data: []byte("1000")},
		"sys/fs/cgroup/memory/x/memory.usage_in_bytes": &fstest.MapFile{Data: []byte("800")},
		"sys/fs/cgroup/memory/x/memory.stat":           &fstest.MapFile{Data: []byte("inactive_file 7\ntotal_inactive_file 100\n")},
		"sys/fs/cgroup/memory/memory.limit_in_bytes":   &fstest.MapFile{Data: []byte("9223372036854771712")},
		"sys/fs/cgroup/memory/memory.usage_in_bytes":   &fstest.MapFile{Data: []byte("9000000")}}
	if got := groupOf(v1); got != (group{1000, 300}) {
		t.Errorf("%+v", got)
	}
}

// A crowd of actors that grow takes no more than the node has. Who asks for more is told, and an actor that has nothing to do with it
// answers all along and keeps its state.
func TestACrowdThatGrowsStaysWithinTheBudget(t *testing.T) {
	const budget, slack = 256*mb + raceExtra, 128*mb + raceExtra
	var log lines
	cfg := Config{ActorsDir: actorsDir(t, "probe.wasm", "examples.wasm"), Limits: Limits{MaxBytes: budget, Idle: time.Hour, Turn: hang}, Log: log.logger()}
	// What the compiler leaves to the collector is no actor's: here the modules come from the cache.
	if err := start(t, Config{ActorsDir: cfg.ActorsDir}).Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	debug.FreeOSMemory()
	before := measureProcess()
	if before.resident == 0 {
		t.Skip("skipped: this system does not say what a process has")
	}
	n := start(t, cfg)
	var peak atomic.Int64
	quit := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-quit:
				return
			default:
				peak.Store(max(peak.Load(), measureProcess().resident-before.resident+n.budget.now.Load().Templates))
				time.Sleep(time.Millisecond)
			}
		}
	})
	var asked, told, turned atomic.Int64
	var crowd sync.WaitGroup
	for w := range 3 {
		crowd.Go(func() {
			for i := range 20 {
				_, err := call(n, fmt.Sprintf("probe/hog%d-%d", w, i), "hog", `{"mb":50}`)
				switch code := abi.CodeOf(err); {
				case err == nil:
					asked.Add(1)
				case code == abi.ErrLimitExceeded && strings.Contains(err.Error(), "out of memory (node)"):
					told.Add(1)
				case code == abi.ErrOverloaded && code.Retryable():
					turned.Add(1)
				default:
					t.Errorf("hog %d of %d: %v", i, w, err)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { crowd.Wait(); close(over) }()
	sum := 0
	for done := false; !done; {
		select {
		case <-over:
			done = true
		default:
		}
		runtime.Gosched() // or a machine with one processor would do little else
		out, err := call(n, "counter/innocent", "add", `{"by":1}`)
		if abi.CodeOf(err) == abi.ErrOverloaded { // it was hibernated, and is to wake in the thick of it
			continue
		}
		if sum++; err != nil || out != fmt.Sprintf(`{"value":%d}`, sum) {
			t.Fatalf("after %d calls it answers %s, %v", sum, out, err)
		}
	}
	close(quit)
	watch.Wait()
	a := n.budget.now.Load()
	t.Logf("peak %d MiB; %d grew, %d were refused growth, %d a start; %d calls of the innocent; %d evictions; %+v", peak.Load()/mb, asked.Load(),
		told.Load(), turned.Load(), sum, n.silo.Stats().Evictions, a)
	if peak.Load() > budget+slack {
		t.Errorf("the process took %d MiB, and was to take %d", peak.Load()/mb, int64(budget/mb))
	}
	if asked.Load() == 0 || told.Load()+turned.Load() == 0 {
		t.Error("nobody grew, or nobody was refused")
	}
	if log.find("memory is scarce") == "" {
		t.Error("the log says nothing")
	}
	eventually(t, "room again, once the crowd is gone", func() bool {
		if err := n.Passivate(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.budget.look()
		return n.budget.pressure() < scarceFrom
	})
	if out := mustCall(t, n, "counter/innocent", "get", ""); out != fmt.Sprintf(`{"value":%d}`, sum) {
		t.Errorf("%s, want %d", out, sum)
	}
}

func BenchmarkLook(b *testing.B) {
	b.Run("process", func(b *testing.B) {
		for b.Loop() {
			measureProcess()
		}
	})
	b.Run("group", func(b *testing.B) {
		for b.Loop() {
			groupOf(os.DirFS("/"))
		}
	})
}
