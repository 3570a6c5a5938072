package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
)

const idleNote = "A node alone, as a process of its own. 1,000 actors are called once each, then 99,000 more; each time all are idle until they are\n" +
	"warm (their call handles dropped), garbage is collected and freed memory given back. The slope is what each of the 99,000 added.\n" +
	"RSS is VmRSS; a page of the template's file counts there once for each actor that has read it, although it is there once, so PSS\n" +
	"stands beside it; private is RssAnon, the Go heap included; page tables are VmPTE, which RSS does not contain."

const sleepersNote = "A node alone, as a process of its own. 1,000,000 actors of testdata/wasm/tally.wasm, each called one to three times by its number, are\n" +
	"hibernated as they come, 20,000 at a time. Above the empty node: the same process with its module, after one actor came and went.\n" +
	"Then every one of them is asked for its count, which must be its own."

const cyclesNote = "A node alone: actors are activated, called, hibernated, woken, called and put back to sleep, in lots of 2,000, and what the process\n" +
	"holds is looked at before and after."

const (
	crowdFew  = 1_000
	crowdMany = 100_000
	sleepers  = 1_000_000
	sleepLot  = 20_000
	cycles    = 200_000
	cycleLot  = 2_000
)

// guest is a kind that crowds are of.
type guest struct {
	label, fixture, kind, method string
	payload                      []byte
}

func crowdGuests() []guest {
	return []guest{
		{"small, echo", "echo.wasm", "echo", "echo", abi.AppendBytes(nil, make([]byte, payloadSize-2))},
		{"small, tally", "tally.wasm", "tally", "add", nil},
		{"stock Go, counter", "examples.wasm", "counter", "add", abi.AppendInt(abi.AppendText(abi.AppendMap(nil, 1), "by"), 1)},
	}
}

func (g guest) crowd(from, to int) *crowd {
	return &crowd{Kind: g.kind, Method: g.method, Payload: g.payload, From: from, To: to}
}

// alone starts a node alone.
func alone(ctx context.Context, b *bench, fixture, id string) (*process, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, b, spec{Role: roleAlone, ID: id, Dir: dir, Fixture: fixture})
}

// tell gives the orders one after the other, and returns the answer to the last.
func tell(p *process, orders ...order) (t told, err error) {
	for _, o := range orders {
		if t, err = p.ask(o); err != nil {
			return t, err
		}
	}
	return t, nil
}

// idle weighs idle actors.
func idle(ctx context.Context, b *bench) (string, error) {
	var doc strings.Builder
	doc.WriteString("\n| guest | slope of RSS | of PSS | of private memory | of page tables | Go heap | mappings at 100,000 | GC CPU at 100,000 |\n|---|---|---|---|---|---|---|---|\n")
	for i, g := range crowdGuests() {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		fmt.Fprintf(os.Stderr, "idle: %s\n", g.label)
		p, err := alone(ctx, b, g.fixture, fmt.Sprintf("idle%d", i))
		if err != nil {
			return "", err
		}
		few, err := tell(p, order{Do: doCall, Crowd: g.crowd(0, crowdFew)}, order{Do: doRest}, order{Do: doWeigh})
		if err != nil {
			return "", err
		}
		many, err := tell(p, order{Do: doCall, Crowd: g.crowd(crowdFew, crowdMany)}, order{Do: doRest}, order{Do: doWeigh})
		if err != nil {
			return "", err
		}
		if many.Weight.Active != crowdMany {
			return "", fmt.Errorf("%s: %d actors are active, not %d", g.label, many.Weight.Active, crowdMany)
		}
		slope := func(of func(*weight) int64) string {
			return fmt.Sprintf("%.1f KiB", float64(of(many.Weight)-of(few.Weight))/(crowdMany-crowdFew)/1024)
		}
		fmt.Fprintf(&doc, "| %s | %s | %s | %s | %s | %s | %d | %v |\n", g.label, slope(func(w *weight) int64 { return w.RSS }),
			slope(func(w *weight) int64 { return w.PSS }), slope(func(w *weight) int64 { return w.Anon }), slope(func(w *weight) int64 { return w.Tables }),
			slope(func(w *weight) int64 { return w.Heap }), many.Weight.Mappings, many.Weight.GC.Round(100*time.Microsecond))
		if err := p.end(os.Kill); err != nil {
			return "", err
		}
	}
	doc.WriteString("\nAim: slope of RSS at most 9 KiB small, 20 KiB stock Go.\n")
	return doc.String(), nil
}

// million hibernates a million actors and wakes each.
func million(ctx context.Context, b *bench) (string, error) {
	p, err := alone(ctx, b, "tally.wasm", "sleepers")
	if err != nil {
		return "", err
	}
	g := crowdGuests()[1]
	empty, err := tell(p, order{Do: doCall, Crowd: &crowd{Kind: g.kind, Method: "get", From: sleepers, To: sleepers + sleepLot}},
		order{Do: doSleep}, order{Do: doForget, Crowd: &crowd{Kind: g.kind}}, order{Do: doWeigh})
	if err != nil {
		return "", err
	}
	began, cpu := time.Now(), empty.Weight.TotalCPU
	for from := 0; from < sleepers; from += sleepLot {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if from%(5*sleepLot) == 0 {
			fmt.Fprintf(os.Stderr, "sleepers: %d of %d are asleep\n", from, sleepers)
		}
		if _, err := tell(p, order{Do: doCall, Crowd: &crowd{Kind: g.kind, Method: "add", From: from, To: from + sleepLot, Uneven: true}}, order{Do: doSleep}); err != nil {
			return "", err
		}
	}
	slept := time.Since(began)
	full, err := tell(p, order{Do: doWeigh})
	if err != nil {
		return "", err
	}
	w := full.Weight
	if w.Asleep != sleepers {
		return "", fmt.Errorf("%d actors are asleep, not %d", w.Asleep, sleepers)
	}
	cpu = w.TotalCPU - cpu
	began = time.Now()
	for from := 0; from < sleepers; from += sleepLot {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if from%(5*sleepLot) == 0 {
			fmt.Fprintf(os.Stderr, "sleepers: %d of %d have answered\n", from, sleepers)
		}
		if _, err := tell(p, order{Do: doCall, Crowd: &crowd{Kind: g.kind, Method: "get", From: from, To: from + sleepLot, Uneven: true}}, order{Do: doSleep}); err != nil {
			return "", err
		}
	}
	woke := time.Since(began)
	after, err := tell(p, order{Do: doWeigh})
	if err != nil {
		return "", err
	}
	mib := func(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }
	var doc strings.Builder
	fmt.Fprintf(&doc, "\n| | empty node | with 1,000,000 sleepers | above the empty node | aim |\n|---|---|---|---|---|\n")
	fmt.Fprintf(&doc, "| RSS | %s | %s | %s | ≤ 400 MiB |\n", mib(empty.Weight.RSS), mib(w.RSS), mib(w.RSS-empty.Weight.RSS))
	fmt.Fprintf(&doc, "| Go heap | %s | %s | %s | |\n", mib(empty.Weight.Heap), mib(w.Heap), mib(w.Heap-empty.Weight.Heap))
	fmt.Fprintf(&doc, "| CPU of one garbage collection | %v | %v | %v | ≤ 5 ms |\n", micro(empty.Weight.GC), micro(w.GC), micro(w.GC-empty.Weight.GC))
	fmt.Fprintf(&doc, "| RSS after all were woken and slept again | | %s | %s | |\n", mib(after.Weight.RSS), mib(after.Weight.RSS-empty.Weight.RSS))
	fmt.Fprintf(&doc, "\nActivating, calling twice on average and hibernating took %.1f µs of CPU an actor (%s in all by the clock); all %d answered with their own\n"+
		"count, in %s.\n", cpu.Seconds()*1e6/sleepers, short(slept), sleepers, short(woke))
	return doc.String(), nil
}

func micro(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// lives runs many short lives.
func lives(ctx context.Context, b *bench) (string, error) {
	p, err := alone(ctx, b, "tally.wasm", "cycles")
	if err != nil {
		return "", err
	}
	g := crowdGuests()[1]
	lot := func(from int) error {
		c := &crowd{Kind: g.kind, Method: "add", From: from, To: from + cycleLot}
		_, err := tell(p, order{Do: doCall, Crowd: c}, order{Do: doSleep}, order{Do: doCall, Crowd: c}, order{Do: doSleep},
			order{Do: doForget, Crowd: &crowd{Kind: g.kind}})
		return err
	}
	for from := range 5 {
		if err := lot(from * cycleLot); err != nil {
			return "", err
		}
	}
	before, err := tell(p, order{Do: doWeigh})
	if err != nil {
		return "", err
	}
	for from := 0; from < cycles; from += cycleLot {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if from%(cycles/5) == 0 {
			fmt.Fprintf(os.Stderr, "cycles: %d of %d\n", from, cycles)
		}
		if err := lot(from); err != nil {
			return "", err
		}
	}
	after, err := tell(p, order{Do: doWeigh})
	if err != nil {
		return "", err
	}
	var doc strings.Builder
	fmt.Fprintf(&doc, "\n| | before | after %d lives |\n|---|---|---|\n", cycles)
	x, y := before.Weight, after.Weight
	fmt.Fprintf(&doc, "| RSS | %.1f MiB | %.1f MiB |\n", float64(x.RSS)/(1<<20), float64(y.RSS)/(1<<20))
	fmt.Fprintf(&doc, "| Go heap | %.1f MiB | %.1f MiB |\n", float64(x.Heap)/(1<<20), float64(y.Heap)/(1<<20))
	fmt.Fprintf(&doc, "| mappings | %d | %d |\n| files | %d | %d |\n| goroutines | %d | %d |\n| active, asleep | %d, %d | %d, %d |\n", x.Mappings, y.Mappings,
		x.Files, y.Files, x.Goroutines, y.Goroutines, x.Active, x.Asleep, y.Active, y.Asleep)
	return doc.String(), nil
}
