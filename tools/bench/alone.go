package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
)

// crowd is what a node alone is told to do with many actors: those of a kind that are numbered From to To.
type crowd struct {
	Kind, Method string
	Payload      []byte
	From, To     int
	Uneven       bool // each is called once to three times, by its number, and answers so often
}

// calls is how often the n-th actor of an uneven crowd is called.
func calls(n int) int { return n%3 + 1 }

// weight is what a process weighs, in bytes, and what else it holds.
type weight struct {
	RSS, Anon, PSS, Tables, Heap          int64
	Mappings, Files, Goroutines           int
	GC                                    time.Duration // CPU of one collection
	Active, Asleep                        int
	TotalCPU                              time.Duration
	Turns, Hibernated, Woken, FailedWakes uint64
}

// openAlone makes a node without neighbours, gateway or limits that would be in the way.
func openAlone(s *spec) (*host.Node, error) {
	dir := filepath.Join(s.Dir, s.ID)
	cfg := host.Config{ID: s.ID, ActorsDir: filepath.Join(dir, "actors"), DataDir: filepath.Join(dir, "data"),
		Limits: host.Limits{Idle: time.Hour, Hibernate: host.Never, MaxActors: 10_000_000, MaxBytes: 1 << 40},
		Log:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	if err := os.MkdirAll(cfg.ActorsDir, 0o700); err != nil {
		return nil, err
	}
	if err := copyFixtures(cfg.ActorsDir, s.Fixture); err != nil {
		return nil, err
	}
	return host.New(cfg)
}

// call calls the crowd's actors, a few at a time.
func (c *served) call(o *crowd) error {
	const callers = 4
	var next atomic.Int64
	next.Store(int64(o.From))
	errs := make([]error, callers)
	var all sync.WaitGroup
	for k := range callers {
		all.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= o.To || errs[k] != nil {
					return
				}
				errs[k] = c.callOne(o, n)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (c *served) callOne(o *crowd, n int) error {
	times := 1
	if o.Uneven && o.Method != "get" {
		times = calls(n)
	}
	env := &abi.Envelope{Target: identity(o.Kind, n), Method: o.Method, Payload: o.Payload}
	var out []byte
	for range times {
		var err error
		env.Deadline = time.Now().Add(10 * time.Second)
		if out, err = c.node.Send(context.Background(), env); err != nil {
			return fmt.Errorf("%v: %w", env.Target, err)
		}
	}
	if !o.Uneven {
		return nil
	}
	r := abi.NewReader(out)
	if r.Map() != 1 || r.Text() != "value" {
		return fmt.Errorf("%v answers %x", env.Target, out)
	}
	if v := r.Int(); v != int64(calls(n)) {
		return fmt.Errorf("%v has counted to %d, not to %d", env.Target, v, calls(n))
	}
	return nil
}

// gcTime is the CPU time that garbage collection has taken from the program: what it did while there was nothing else to do apart.
func gcTime() time.Duration {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
	metrics.Read(s)
	return time.Duration((s[0].Value.Float64() - s[1].Value.Float64()) * 1e9)
}

// weigh tells what this process weighs now, freed memory given back first.
func (c *served) weigh() (*weight, error) {
	debug.FreeOSMemory()
	w := &weight{}
	var took [9]time.Duration // the median of some: a thread that the machine stops meanwhile counts as a pause of all
	for i := range took {
		before := gcTime()
		runtime.GC()
		took[i] = gcTime() - before
	}
	w.GC = median(took[:])
	debug.FreeOSMemory()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	w.Heap, w.Goroutines, w.TotalCPU = int64(ms.HeapAlloc), runtime.NumGoroutine(), cpuTime()
	for file, fields := range map[string]map[string]*int64{
		"/proc/self/status":       {"VmRSS:": &w.RSS, "RssAnon:": &w.Anon, "VmPTE:": &w.Tables},
		"/proc/self/smaps_rollup": {"Pss:": &w.PSS},
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) == 3 && fields[f[0]] != nil {
				kib, _ := strconv.ParseInt(f[1], 10, 64)
				*fields[f[0]] = kib << 10
			}
		}
	}
	if b, err := os.ReadFile("/proc/self/maps"); err == nil {
		w.Mappings = bytes.Count(b, []byte("\n"))
	}
	if d, err := os.ReadDir("/proc/self/fd"); err == nil {
		w.Files = len(d)
	}
	st := c.node.Population()
	w.Active, w.Asleep = st.Active, st.Asleep
	return w, nil
}
