package engine

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
)

// Bodies that nobody uses are in no budget: what they may hold is small, whatever their users did.

// TestIdleBodiesHoldFewPages: pages that were written stay private, also where they are as the template has them.
func TestIdleBodiesHoldFewPages(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "deep.wasm")
	if m.template.pool.Copies() {
		t.Skip("memories are copies here, which hold all of their pages; TestIdleCopiesAreFew has them")
	}
	for round := range 40 {
		i := instantiate(t, m, noHost{}, Options{})
		b := must(i.mem.Read(0, i.mem.Size()))
		switch {
		case round == 0: // all of them, with what is there
			for k := 0; k < len(b); k += slot.Page {
				b[k] ^= 1
				b[k] ^= 1
			}
		default: // some, other ones than the users before
			for k := range 16 {
				b[(round*16+k)%(len(b)/slot.Page)*slot.Page] = byte(round)
			}
		}
		if round%2 == 0 { // folded after a capture, which knows the pages, or closed without
			i.Rest()
		}
		i.Close()
		for _, b := range m.idle {
			if n := b.memory.slot.DirtyBytes(); n > slot.DefaultKeepDirty*slot.Page {
				t.Fatalf("round %d: an idle body has %d bytes of its own", round, n)
			}
		}
	}
}

// TestPoolsLearnFromFirstTurns: whoever has a slot that its pool wants to learn from is measured after the first turn, whatever the gauge says.
func TestPoolsLearnFromFirstTurns(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "echo.wasm")
	g := &Gauge{}
	g.taken.Store(firstSamples)
	watched := 0
	for range sampleOne - 1 {
		i := instantiate(t, m, noHost{}, Options{Gauge: g})
		if i.memory.slot.Watched() {
			watched++
		}
		if _, err := turn(i, call("echo", nil)); err != nil {
			t.Fatal(err)
		}
		if i.memory.slot.Watched() {
			t.Error("it was not looked at after its first turn")
		}
	}
	if watched == 0 && m.template.pool.Mapped() {
		t.Skip("nothing can be learned here")
	}
}

// TestIdleBodiesHoldSmallStacks: a stack that grew is not kept for the next user.
func TestIdleBodiesHoldSmallStacks(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "deep.wasm")
	i := instantiate(t, m, noHost{}, Options{})
	if out, err := turn(i, call("down", nil)); err != nil || out.Kind != abi.OutReply {
		t.Fatal(out, err)
	}
	if n := stackOf(i.turn); n < 1<<20 || n > 64<<20 {
		t.Fatalf("50,000 calls took a stack of %d bytes", n)
	}
	i.Rest()
	if len(m.idle) != 1 || m.idle[0].turn != nil {
		t.Errorf("%d idle bodies; the stack is kept", len(m.idle))
	}
	e := instantiate(t, mustLoad(t, m.eng, "echo.wasm"), noHost{}, Options{})
	if _, err := turn(e, call("echo", nil)); err != nil {
		t.Fatal(err)
	}
	if n := stackOf(e.turn); n < 1<<10 || n > keepStack {
		t.Errorf("a small stack has %d bytes", n)
	}
	if e.Rest(); len(e.module.idle) != 1 || e.module.idle[0].turn == nil {
		t.Error("a small stack is not kept")
	}
}

// TestIdleCopiesAreFew: where memories are copies in the heap, those of idle bodies are bounded by their size.
func TestIdleCopiesAreFew(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{Slots: slot.Options{Portable: true}}), "deep.wasm")
	var all []*Instance
	for range 40 {
		all = append(all, instantiate(t, m, noHost{}, Options{}))
	}
	for _, i := range all {
		i.Rest()
	}
	if n := len(m.idle) * len(m.template.pool.Image()); n == 0 || n > keepCopies {
		t.Errorf("idle bodies hold %d bytes", n)
	}
}

// TestLimitsCountWhatTheStartTook: memory that a guest took in its start is memory that it starts with.
func TestLimitsCountWhatTheStartTook(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "deep.wasm")
	_, err := m.Instantiate(context.Background(), noHost{}, Options{Memory: 1 << 20})
	if !errors.Is(err, abi.ErrLimitExceeded) || !strings.Contains(err.Error(), "starts with 2 MiB of memory; its limit is 1 MiB") {
		t.Errorf("got %v", err)
	}
	instantiate(t, m, noHost{}, Options{Memory: 2 << 20})
}

// TestKindsMayHaveMoreThanTheDefault: a module that declares more memory than the default, but not more than some kind may have, can be
// loaded, and started with the limit of its kind.
func TestKindsMayHaveMoreThanTheDefault(t *testing.T) {
	// Of both tiers; the start of the first asks for more on top, and goes on without.
	for _, file := range []string{"deep.wasm", "hostile/table_grow.wasm"} {
		wasm := withMemory(t, fixture(t, file), 32)
		m, err := newEngine(t, Config{Memory: 1 << 20, MaxMemory: 8 << 20}).Load(context.Background(), wasm)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if _, err := m.Instantiate(context.Background(), noHost{}, Options{}); !errors.Is(err, abi.ErrLimitExceeded) {
			t.Errorf("%s by default: %v", file, err)
		}
		instantiate(t, m, noHost{}, Options{Memory: 4 << 20}).Close()
		m.Close()
	}
}

// withMemory gives a module that has one page of memory at first n of them.
func withMemory(t *testing.T, wasm []byte, n byte) []byte {
	t.Helper()
	one := []byte{5, 3, 1, 0, 1}
	if bytes.Count(wasm, one) != 1 {
		t.Fatal("the memory section is not found")
	}
	return bytes.Replace(wasm, one, []byte{5, 3, 1, 0, n}, 1)
}

// TestStartsAreInTime: random bytes end with the deadline, and the guest does not look at its fuel any more. What it has become by that is
// no template.
func TestStartsAreInTime(t *testing.T) {
	wasm := fixture(t, "hostile/wasi_start_late.wasm")
	for _, describe := range []time.Duration{time.Millisecond, 5 * time.Millisecond} {
		_, err := newEngine(t, Config{Describe: describe}).Load(context.Background(), wasm)
		if err == nil || !strings.Contains(err.Error(), "its start exceeded its limit of ") {
			t.Errorf("within %v: %v", describe, err)
		}
	}
	if m, err := newEngine(t, Config{Describe: time.Minute}).Load(context.Background(), wasm); err != nil {
		t.Error(err)
	} else {
		m.Close()
	}
}

// TestDeltasUnpackToMemories: a frame cannot ask for more than a memory takes.
func TestDeltasUnpackToMemories(t *testing.T) {
	e := newEngine(t, Config{Memory: 1 << 20})
	m := mustLoad(t, e, "tally.wasm")
	bomb := e.encoder.EncodeAll(make([]byte, 64<<20), nil)
	if _, err := m.decodeDelta(sealed(m, flagZstd, bomb)); !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		t.Errorf("%d bytes of a bomb: %v", len(bomb), err)
	}
}

// TestNoMemoryAtRestLosesNothing: an actor at rest whose memory cannot be had is overloaded, and goes on when it can.
func TestNoMemoryAtRestLosesNothing(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "tally.wasm")
	i := instantiate(t, m, noHost{}, Options{})
	if got := count(t, i, first("tally", "add", make([]byte, 200<<10))); got != 1 {
		t.Fatal(got)
	}
	i.Rest()
	if i.body != nil {
		t.Fatal("it has not folded")
	}
	limit := i.memoryLimit
	i.memoryLimit = pageSize
	for range 2 {
		if _, err := turn(i, call("add", nil)); abi.CodeOf(err) != abi.ErrOverloaded {
			t.Fatalf("got %v", err)
		}
	}
	i.memoryLimit = limit
	if got := count(t, i, call("add", nil)); got != 2 {
		t.Errorf("%d, want 2", got)
	}
}
