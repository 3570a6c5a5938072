package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/host/engine/bomb"
)

const hostileNote = "One node with the modules of testdata/wasm/hostile; a turn may take 100 ms. In each round every attacker sends one request to an\n" +
	"actor of its own. Meanwhile one caller asks an innocent actor (echo.wasm) every millisecond, a goroutine ticks every millisecond, and\n" +
	"the garbage collector runs every 20 ms. *Late* is how long after its 100 ms an attacker's request was answered, 0 if before; the\n" +
	"innocent's times are from request to answer; *tick* is the longest time between two ticks, less the millisecond; *stop* the longest\n" +
	"that the collector waited for all goroutines to stop. `(nothing)` is without attackers, `(spin)` with plain goroutines that spin for\n" +
	"100 ms: what the machine itself does, which takes them in turns of 10 ms. An instance of more than 4 MiB gives its pages back after its\n" +
	"caller was answered."

const (
	hostileTurn = 100 * time.Millisecond
	tickEvery   = time.Millisecond
	collectAll  = 20 * time.Millisecond
	manyAttack  = 16
)

// slowToLoad are refused, or loaded, only after the five seconds that a start may take; what they do in turns others do too.
var slowToLoad = []string{"describe_loop", "describe_bomb", "init_loop", "start_loop", "inbox_loop", "inbox_scribble"}

// hostile attacks a node with everything there is.
func hostile(ctx context.Context, b *bench) (string, error) {
	dir, err := b.tempDir()
	if err != nil {
		return "", err
	}
	names := []string{"echo.wasm"}
	files, err := filepath.Glob(filepath.Join("testdata", "wasm", "hostile", "*.wasm"))
	if err != nil || len(files) == 0 {
		return "", errors.New("run from the project's root")
	}
	if err := os.Mkdir(filepath.Join(dir, "hostile"), 0o755); err != nil {
		return "", err
	}
	for _, f := range files {
		if base := strings.TrimSuffix(filepath.Base(f), ".wasm"); !slices.Contains(slowToLoad, base) {
			names = append(names, filepath.Join("hostile", base+".wasm"))
		}
	}
	if err := copyFixtures(dir, names...); err != nil {
		return "", err
	}
	for _, n := range names[1:] { // a directory of actors is read flat
		if err := os.Rename(filepath.Join(dir, n), filepath.Join(dir, filepath.Base(n))); err != nil {
			return "", err
		}
	}
	n, err := host.New(host.Config{ActorsDir: dir, DataDir: filepath.Join(dir, "data"), Limits: host.Limits{Turn: hostileTurn}})
	if err != nil {
		return "", err
	}
	if err := b.keep(ctx, n); err != nil {
		return "", err
	}
	a := &attack{node: n}
	if a.innocent, err = abi.NewIdentity("echo", "innocent"); err != nil {
		return "", err
	}
	var doc strings.Builder
	kinds := []string{"", "spin"}
	for _, k := range n.Kinds() {
		if strings.HasPrefix(k.Name, "hostile_") && strings.Contains(k.Name, b.rows) {
			a.kinds = append(a.kinds, k.Name)
		}
	}
	kinds = append(kinds, a.kinds...)
	for _, attackers := range []int{runtime.GOMAXPROCS(0), manyAttack} {
		fmt.Fprintf(&doc, "\n### %d attackers\n\n| module | ended by | late: median | late: most | innocent: p50 | p99 | most | tick | stop |\n|---|---|---|---|---|---|---|---|---|\n", attackers)
		for _, k := range kinds {
			fmt.Fprintf(os.Stderr, "hostile: %d × %s\n", attackers, k)
			doc.WriteString(a.rounds(ctx, k, attackers, b.rounds).row())
		}
		doc.WriteString(a.rounds(ctx, "all", max(attackers, len(a.kinds)), b.rounds).row())
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
	doc.WriteString("\n### Refused at deploy\n\n| module | bytes | after | reason |\n|---|---|---|---|\n")
	for _, f := range n.Files() {
		if f.State != "loaded" {
			fmt.Fprintf(&doc, "| %s | – | – | %s |\n", strings.TrimSuffix(filepath.Base(f.Path), ".wasm"), brief(f.Error))
		}
	}
	e, err := engine.New(engine.Config{})
	if err != nil {
		return "", err
	}
	for _, m := range bomb.All() {
		began := time.Now()
		_, err := e.Load(ctx, m.Wasm)
		fmt.Fprintf(&doc, "| %s | %d | %s | %s |\n", m.Name, len(m.Wasm), short(time.Since(began)), brief(fmt.Sprint(err)))
	}
	doc.WriteString("\n### What compiling costs\n\nModules that are no guests, so that those that the forge accepts are refused once they are compiled; *allocated* is by forge and compiler,\n" +
		"all in all. Compiling belongs on no request's path, and cannot be stopped.\n\n" +
		"| module | KiB | ms | ms for a KiB | MiB allocated for a KiB | refused by |\n|---|---|---|---|---|---|\n")
	for _, m := range bomb.Compile() {
		fmt.Fprintf(os.Stderr, "hostile: compiling %s\n", m.Name)
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_, err := e.Load(ctx, m.Wasm)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		stage := "nothing"
		if le := (*engine.LoadError)(nil); errors.As(err, &le) {
			stage = "its exports"
			if le.Stage == engine.StageCompile {
				stage = "the forge: " + brief(le.Reason)
			}
		}
		kib := float64(len(m.Wasm)) / 1024
		fmt.Fprintf(&doc, "| %s | %s | %s | %s | %s | %s |\n", m.Name, figure(kib), figure(took.Seconds()*1e3), figure(took.Seconds()*1e3/kib),
			figure(float64(after.TotalAlloc-before.TotalAlloc)/(1<<20)/kib), stage)
	}
	return doc.String(), e.Close()
}

// brief fits a reason into a table.
func brief(s string) string {
	if r := []rune(s); len(r) > 120 {
		s = string(r[:120]) + "…"
	}
	return strings.ReplaceAll(s, "|", "\\|")
}

// attack is one node under attack.
type attack struct {
	node     *host.Node
	innocent abi.Identity
	kinds    []string
	fresh    int // attackers so far: each is another actor
}

// harm is what the rounds of one module did.
type harm struct {
	kind       string
	ends       map[string]int
	late       []time.Duration
	calls      []time.Duration // of the innocent
	wrong      int             // of its answers
	tick, stop time.Duration
}

func (a *attack) rounds(ctx context.Context, kind string, attackers, rounds int) *harm {
	h := &harm{kind: kind, ends: map[string]int{}}
	runtime.GC()
	before := pauses()
	watch, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { a.ask(watch, h) })
	watchers.Go(func() {
		for last := time.Now(); watch.Err() == nil; {
			time.Sleep(tickEvery)
			now := time.Now()
			h.tick = max(h.tick, now.Sub(last)-tickEvery)
			last = now
		}
	})
	watchers.Go(func() {
		for watch.Err() == nil {
			runtime.GC()
			time.Sleep(collectAll)
		}
	})
	for range rounds {
		var mu sync.Mutex
		var wg sync.WaitGroup
		if kind == "" {
			time.Sleep(hostileTurn)
		}
		for i := range attackers {
			if kind == "" {
				break
			}
			a.fresh++
			at := a.fresh
			wg.Go(func() {
				began := time.Now()
				end := a.strike(ctx, kind, i, at)
				late := max(time.Since(began)-hostileTurn, 0)
				mu.Lock()
				defer mu.Unlock()
				h.late = append(h.late, late)
				h.ends[end]++
			})
		}
		wg.Wait()
	}
	stop()
	watchers.Wait()
	h.stop = longest(before, pauses())
	return h
}

// strike is one attack; it returns how it ended.
func (a *attack) strike(ctx context.Context, kind string, i, at int) string {
	if kind == "spin" {
		for end := time.Now().Add(hostileTurn); time.Now().Before(end); {
		}
		return "itself"
	}
	if kind == "all" {
		kind = a.kinds[i%len(a.kinds)]
	}
	id, err := abi.NewIdentity(kind, fmt.Sprint(at))
	if err != nil {
		return err.Error()
	}
	_, err = a.node.Send(ctx, &abi.Envelope{Target: id, Method: "run", Payload: []byte{0xa0}, Deadline: time.Now().Add(time.Minute)})
	if err == nil {
		return "itself"
	}
	return abi.CodeOf(err).String()
}

// ask asks the innocent actor until ctx ends.
func (a *attack) ask(ctx context.Context, h *harm) {
	for n := uint64(0); ctx.Err() == nil; n++ {
		payload := abi.AppendUint(nil, n)
		began := time.Now()
		reply, err := a.node.Send(context.WithoutCancel(ctx), &abi.Envelope{Target: a.innocent, Method: "echo", Payload: payload,
			Deadline: began.Add(10 * time.Second)})
		h.calls = append(h.calls, time.Since(began))
		if err != nil || string(reply) != string(payload) {
			h.wrong++
		}
		time.Sleep(time.Millisecond)
	}
}

func (h *harm) row() string {
	name := map[string]string{"": "(nothing)", "spin": "(spin)", "all": "**all at once**"}[h.kind]
	if name == "" {
		name = strings.TrimPrefix(h.kind, "hostile_")
	}
	var ends []string
	for e := range h.ends {
		ends = append(ends, e)
	}
	slices.Sort(ends)
	slices.Sort(h.calls)
	if h.wrong > 0 {
		name += fmt.Sprintf(" (%d wrong answers of the innocent)", h.wrong)
	}
	median1, most := "–", "–"
	if len(h.late) > 0 {
		median1, most = short(median(h.late)), short(slices.Max(h.late))
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", name, strings.Join(ends, ", "), median1, most,
		short(h.calls[len(h.calls)/2]), short(h.calls[len(h.calls)*99/100]), short(h.calls[len(h.calls)-1]), short(h.tick), short(h.stop))
}

// pauses is how long the collector has waited for goroutines to stop, so far.
func pauses() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/stopping/gc:seconds"}}
	metrics.Read(s)
	h := s[0].Value.Float64Histogram()
	return &metrics.Float64Histogram{Counts: slices.Clone(h.Counts), Buckets: slices.Clone(h.Buckets)}
}

// longest returns the upper end of the highest bucket that has more in it than before.
func longest(before, after *metrics.Float64Histogram) time.Duration {
	for i, c := range slices.Backward(after.Counts) {
		if c > before.Counts[i] {
			if end := after.Buckets[i+1]; !math.IsInf(end, 1) {
				return time.Duration(end * 1e9)
			}
			return time.Duration(after.Buckets[i] * 1e9)
		}
	}
	return 0
}
