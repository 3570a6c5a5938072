package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// measure is one row: a case and what its rounds gave.
type measure struct {
	name    string
	callers int
	// op runs one operation of one caller; n counts its operations from 0.
	op func(ctx context.Context, caller, n int) error
	// once, instead of op, runs a whole round by itself and returns how long one operation took.
	once func(ctx context.Context) (time.Duration, error)
	// most bounds the operations of a round, where each leaves something behind; 0 is no bound. reset undoes it.
	most  int
	reset func() error
	// between comes after each lot of operations of the one caller, outside of the figures.
	lot     int
	between func() error
	// floor is the row that this one is compared with, nil for floors; waitFloor, where it is another, the one for its p50.
	floor, waitFloor *measure
	// others are the processes that serve it: their CPU counts.
	others []*process

	rate, cpu []float64 // a round each: operations per second, CPU microseconds per operation
	p50, p99  []time.Duration
}

type bench struct {
	time     time.Duration
	rounds   int
	rows     string   // what the names of rows contain that are no floors
	profiles []string // of gossip
	pprof    string   // directory, "" for none
	cleanup  []func()
}

func (b *bench) onEnd(f func()) { b.cleanup = append(b.cleanup, f) }

func (b *bench) part(ctx context.Context, p part, doc *strings.Builder) error {
	defer func() {
		for _, f := range slices.Backward(b.cleanup) {
			f()
		}
		b.cleanup = nil
	}()
	fmt.Fprintf(os.Stderr, "%s: preparing\n", p.name)
	if p.run != nil {
		tables, err := p.run(ctx, b)
		fmt.Fprintf(doc, "\n## %s\n\n%s\n%s", p.title, p.note, tables)
		return err
	}
	rows, err := p.cases(ctx, b)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(m *measure) bool { return m.floor != nil && !strings.Contains(m.name, b.rows) })
	for round := range b.rounds {
		fmt.Fprintf(os.Stderr, "%s: round %d of %d, %d cases\n", p.name, round+1, b.rounds, len(rows))
		for _, m := range rows {
			stop, err := b.profile(fmt.Sprintf("%s-%s-%d-%d", p.name, m.name, m.callers, round), m.others)
			if err == nil {
				err = errors.Join(m.round(ctx, b.time), stop())
			}
			if err != nil {
				return fmt.Errorf("%s, %d callers: %w", m.name, m.callers, err)
			}
		}
	}
	writeTable(doc, p, rows)
	if p.after != nil {
		doc.WriteString(p.after(rows))
	}
	return nil
}

// profile profiles this process and the others until stop, into files of that name.
func (b *bench) profile(name string, others []*process) (stop func() error, err error) {
	if b.pprof == "" {
		return func() error { return nil }, nil
	}
	base := filepath.Join(b.pprof, strings.NewReplacer(" ", "_", ",", "", "/", "_").Replace(name))
	f, err := os.Create(base + "-here.pprof")
	if err != nil {
		return nil, err
	}
	for _, p := range others {
		if _, err := p.ask(order{Do: doProfile, File: base + "-there.pprof"}); err != nil {
			return nil, err
		}
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		errs := []error{f.Close()}
		for _, p := range others {
			_, err := p.ask(order{Do: doProfile})
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}, nil
}

// cpuTime returns what this process and those that serve the case have used, user and system, since they began.
func (m *measure) cpuTime() (time.Duration, error) {
	sum := cpuTime()
	for _, p := range m.others {
		used, err := p.ask(order{Do: doCPU})
		if err != nil {
			return 0, err
		}
		sum += used.CPU
	}
	return sum, nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (m *measure) round(ctx context.Context, d time.Duration) error {
	if m.reset != nil {
		defer func() { _ = m.reset() }()
	}
	if m.once != nil {
		var took []time.Duration
		for range 3 {
			t, err := m.once(ctx)
			if err != nil {
				return err
			}
			took = append(took, t)
		}
		slices.Sort(took)
		m.p50, m.p99 = append(m.p50, took[1]), append(m.p99, took[2])
		return nil
	}
	runtime.GC() // each case starts with a clean heap
	for _, p := range m.others {
		if _, err := p.ask(order{Do: doGC}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d+time.Minute)
	defer cancel()
	var stop atomic.Bool
	var ops atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	samples := make([][]time.Duration, m.callers)
	before, err := m.cpuTime()
	if err != nil {
		return err
	}
	if m.lot > 0 {
		return m.lots(ctx, d)
	}
	began := time.Now()
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	for caller := range m.callers {
		wg.Go(func() {
			mine := make([]time.Duration, 0, 4096)
			n := 0
			for ; !stop.Load() && (m.most == 0 || n < m.most/m.callers); n++ {
				sample := n%16 == 0 || m.most > 0
				var at time.Time
				if sample {
					at = time.Now()
				}
				if err := m.op(ctx, caller, n); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				if sample {
					mine = append(mine, time.Since(at))
				}
			}
			ops.Add(int64(n))
			samples[caller] = mine
		})
	}
	wg.Wait()
	took := time.Since(began)
	cpu, err := m.cpuTime()
	if err != nil {
		return err
	}
	cpu -= before
	if e := failed.Load(); e != nil {
		return *e
	}
	n := float64(ops.Load())
	m.rate = append(m.rate, n/took.Seconds())
	m.cpu = append(m.cpu, cpu.Seconds()*1e6/n)
	all := slices.Concat(samples...)
	slices.Sort(all)
	m.p50 = append(m.p50, all[len(all)/2])
	m.p99 = append(m.p99, all[len(all)*99/100])
	return nil
}

// lots is a round of a case with lots: only those are timed.
func (m *measure) lots(ctx context.Context, d time.Duration) error {
	var took, cpu time.Duration
	var all []time.Duration
	for n := 0; took < d; {
		before, err := m.cpuTime()
		if err != nil {
			return err
		}
		began := time.Now()
		for range m.lot {
			at := time.Now()
			if err := m.op(ctx, 0, n); err != nil {
				return err
			}
			all = append(all, time.Since(at))
			n++
		}
		took += time.Since(began)
		after, err := m.cpuTime()
		if err != nil {
			return err
		}
		cpu += after - before
		if err := m.between(); err != nil {
			return err
		}
	}
	n := float64(len(all))
	m.rate = append(m.rate, n/took.Seconds())
	m.cpu = append(m.cpu, cpu.Seconds()*1e6/n)
	slices.Sort(all)
	m.p50 = append(m.p50, all[len(all)/2])
	m.p99 = append(m.p99, all[len(all)*99/100])
	return nil
}

func median[T int64 | float64 | time.Duration](v []T) T {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

// ratios pairs two rows round by round.
func ratios[T float64 | time.Duration](a, b []T) []float64 {
	out := make([]float64, 0, len(a))
	for i := range min(len(a), len(b)) {
		out = append(out, float64(a[i])/float64(b[i]))
	}
	return out
}
