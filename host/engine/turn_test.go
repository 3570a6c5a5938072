package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestEcho(t *testing.T) {
	i := instance(t, "echo.wasm", noHost{}, Options{})
	for _, n := range []int{0, 1, 23, 24, 255, 256, 4095, 4096, 65535, 65536, 1 << 20, 5} {
		payload := bytes.Repeat([]byte{'x'}, n)
		ev := call("echo", payload)
		ev.Self = &abi.Self{Identity: identity(t, "echo/a"), Epoch: abi.Epoch{Generation: 1, Index: 2}, Reason: "call"}
		ev.Caller = identity(t, "other/b")
		out, err := turn(i, ev)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if out.Kind != abi.OutReply || !bytes.Equal(out.Payload, payload) {
			t.Errorf("%d bytes: got %d of kind %d", n, len(out.Payload), out.Kind)
		}
		if n > abi.InboxKeep && i.inboxSize != 0 {
			t.Errorf("%d bytes: an inbox of %d is kept", n, i.inboxSize)
		}
	}
	out, err := turn(i, call("fail", nil))
	if err != nil || out.Err == nil || out.Err.Code != abi.ErrActor || out.Err.App != "failed" || out.Err.Message != "asked to fail" {
		t.Errorf("fail: %+v, %v", out, err)
	}
	if out, err = turn(i, call("other", nil)); err != nil || out.Err == nil || out.Err.Code != abi.ErrUnknownMethod {
		t.Errorf("other: %+v, %v", out, err)
	}
}

func identity(t testing.TB, key string) abi.Identity {
	t.Helper()
	id, err := abi.ParseIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestPayloadOutlivesTheTurn: nothing that a turn returns may alias guest memory.
func TestPayloadOutlivesTheTurn(t *testing.T) {
	i := instance(t, "echo.wasm", noHost{}, Options{})
	first, err := turn(i, call("echo", []byte("first")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turn(i, call("echo", []byte("again"))); err != nil {
		t.Fatal(err)
	}
	i.Close()
	if string(first.Payload) != "first" {
		t.Errorf("got %q", first.Payload)
	}
}

func TestTooLargeAnEvent(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{MaxMessage: 1000}), "echo.wasm")
	i := instantiate(t, m, noHost{}, Options{})
	out, err := turn(i, call("echo", make([]byte, 1000+abi.MaxEnvelopeExtra)))
	if err != nil || out.Err == nil || out.Err.Code != abi.ErrPayloadTooLarge {
		t.Fatalf("%+v, %v", out, err)
	}
	if out, err := turn(i, call("echo", []byte("still there"))); err != nil || string(out.Payload) != "still there" {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestHostileTurns runs guests that break in every way; each is described, bounded, and alone.
func TestHostileTurns(t *testing.T) {
	tests := []struct {
		file   string
		code   abi.Code
		reason string
	}{
		{"trap", abi.ErrTrap, "wasm unreachable; at work < turn"},
		// They have 100 ms, and are told what was left of that when the turn began.
		{"loop", abi.ErrLimitExceeded, "the turn exceeded its limit of "},
		{"sleep", abi.ErrLimitExceeded, "the turn exceeded its limit of "},
		{"log_flood", abi.ErrLimitExceeded, "the turn exceeded its limit of "},
		{"output_outside", abi.ErrTrap, "wasilo_turn returned the range 0xfff00000+4095, which is outside of the guest's memory of 64 KiB"},
		{"output_empty", abi.ErrTrap, "wasilo_turn returned a malformed output"},
		{"output_malformed", abi.ErrTrap, "not 7"},
		{"effects_malformed", abi.ErrTrap, "wasilo_turn returned a malformed output"},
		{"effects_unknown", abi.ErrTrap, "unknown effect tag 99"},
		{"effects_flood", abi.ErrLimitExceeded, "100000 effects of one turn"},
		{"inbox_outside", abi.ErrTrap, "wasilo_inbox returned the range 0xfffffff0+4096"},
		{"inbox_null", abi.ErrTrap, "wasilo_inbox(4096) returned 0"},
		{"inbox_trap", abi.ErrTrap, "wasm unreachable; at inbox"},
		{"memory_bomb", abi.ErrLimitExceeded, "out of memory (limit 2 MiB; limits.memory, or that of the kind): wasm unreachable"},
		{"recursion", abi.ErrLimitExceeded, "the turn used more than its 8 MiB of stack"},
		{"exit", abi.ErrTrap, "the guest exited with code 3"},
		{"panic", abi.ErrTrap, "the guest exited with code 2: panic: boom at last"},
		{"bad_pointer", abi.ErrTrap, "wasilo_1.request is given the range 0xfffa+64, which is outside of the guest's memory of 64 KiB"},
	}
	e := newEngine(t, Config{})
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			i := instantiate(t, mustLoad(t, e, "hostile/"+tt.file+".wasm"), noHost{}, Options{Memory: 2 << 20})
			start, limit := time.Now(), time.Minute
			if strings.HasPrefix(tt.reason, "the turn exceeded") {
				limit = 100 * time.Millisecond
			}
			err := i.Turn(call("run", []byte{}), start.Add(limit), &abi.Output{})
			var ae *abi.Error
			if !errors.As(err, &ae) || ae.Code != tt.code || !strings.Contains(ae.Message, tt.reason) {
				t.Fatalf("got %v, want %v: %s", err, tt.code, tt.reason)
			}
			if strings.Contains(ae.Message, "\n") {
				t.Errorf("more than a line: %q", ae.Message)
			}
			if d := time.Since(start); d > time.Minute {
				t.Errorf("it took %v", d)
			}
			if _, err := turn(i, call("run", nil)); abi.CodeOf(err) != abi.ErrInternal {
				t.Errorf("a broken instance ran on: %v", err)
			}
			if err := i.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLargeReply(t *testing.T) {
	i := instance(t, "hostile/large_reply.wasm", noHost{}, Options{})
	for range 2 { // the instance survives
		out, err := turn(i, call("run", nil))
		if err != nil || out.Kind != abi.OutError || out.Err.Code != abi.ErrPayloadTooLarge {
			t.Fatalf("%+v, %v", out, err)
		}
	}
}

func TestDeadlineInThePast(t *testing.T) {
	i := instance(t, "echo.wasm", noHost{}, Options{})
	if err := i.Turn(call("echo", nil), time.Now().Add(-time.Second), &abi.Output{}); !errors.Is(err, abi.ErrLimitExceeded) {
		t.Errorf("got %v", err)
	}
}

// blockingHost blocks its Request until it is released.
type blockingHost struct {
	noHost
	entered, release chan struct{}
}

func (h *blockingHost) Request(*abi.Request) abi.Result {
	close(h.entered)
	<-h.release
	return abi.Result{Payload: []byte("late")}
}

func TestCloseWhileATurnRuns(t *testing.T) {
	h := &blockingHost{entered: make(chan struct{}), release: make(chan struct{})}
	i := instance(t, "hostcalls.wasm", h, Options{})
	done := make(chan error)
	go func() {
		_, err := turn(i, script(t, request(t, "echo/a", "hi", []byte("x")), record{op: opRequest, a: data(1), b: -1, c: 32768, d: 100}))
		done <- err
	}()
	<-h.entered
	if err := i.Close(); err == nil {
		t.Error("closed a running instance")
	}
	if _, err := turn(i, call("run", nil)); abi.CodeOf(err) != abi.ErrInternal || !strings.Contains(err.Error(), "a turn is running") {
		t.Errorf("two turns at once: %v", err)
	}
	close(h.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	if err := i.Close(); err != nil {
		t.Error("the second time:", err)
	}
	if _, err := turn(i, call("run", nil)); abi.CodeOf(err) != abi.ErrInternal || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed instance ran: %v", err)
	}
}

// lateHost is a host in which the turn's time runs out.
type lateHost struct {
	noHost
	inst *Instance
}

func (h *lateHost) Request(*abi.Request) abi.Result {
	h.inst.guard.deadline = time.Now()
	return abi.Result{Payload: []byte("late")}
}

// TestDeadlineInAHostCall: a host that returns too late ends the turn there and then.
func TestDeadlineInAHostCall(t *testing.T) {
	h := &lateHost{}
	h.inst = instance(t, "hostcalls.wasm", h, Options{})
	_, err := turn(h.inst, script(t, request(t, "echo/a", "hi", nil), record{op: opRequest, a: data(1), b: -1, c: 32768, d: 100}))
	if !errors.Is(err, abi.ErrLimitExceeded) || !strings.Contains(err.Error(), "the turn exceeded its limit of ") {
		t.Errorf("got %v", err)
	}
}

// TestLimitsAreNamed: as they were set, without the time that passed before the turn began.
func TestLimitsAreNamed(t *testing.T) {
	i := instance(t, "echo.wasm", noHost{}, Options{})
	i.phase = phaseTurn
	for limit, want := range map[time.Duration]string{
		100*time.Millisecond - 40*time.Microsecond: "the turn exceeded its limit of 100ms (limits.turn, or that of the kind)",
		time.Minute - 3*time.Millisecond:           "the turn exceeded its limit of 1m0s (limits.turn, or that of the kind)",
		-time.Millisecond:                          "the turn exceeded its limit of 0s (limits.turn, or that of the kind)",
	} {
		i.guard.limit = limit
		if fail := i.limitError("the turn", errDeadline); fail == nil || fail.Message != want {
			t.Errorf("%v: %v, want %s", limit, fail, want)
		}
	}
	i.turnLimit, i.guard.limit = 5*time.Second, 4997*time.Millisecond
	if fail := i.limitError("the turn", errDeadline); fail == nil || !strings.Contains(fail.Message, "limit of 5s ") {
		t.Errorf("%v", fail)
	}
}

// panickingHost has a defect.
type panickingHost struct{ noHost }

func (panickingHost) Request(*abi.Request) abi.Result {
	var m map[string]int
	//lint:ignore SA5000 that it panics is the point
	m["x"]++
	return abi.Result{}
}

func TestPanicOfTheHost(t *testing.T) {
	var book logBook
	i := instance(t, "hostcalls.wasm", panickingHost{}, Options{Log: book.logger()})
	_, err := turn(i, script(t, request(t, "echo/a", "hi", nil), record{op: opRequest, a: data(1), b: -1, c: 32768, d: 100}))
	if !errors.Is(err, abi.ErrTrap) || !strings.Contains(err.Error(), "a host function failed: assignment to entry in nil map") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(book.String(), "panickingHost") {
		t.Errorf("the log does not say where: %s", book.String())
	}
}

// A panic in a turn, wherever it is, leaves an instance that can be closed, and nothing of it behind.
func TestAPanicLeaksNoInstance(t *testing.T) {
	e := newEngine(t, Config{})
	for tier, wasm := range map[string][]byte{"image": fixture(t, "hostcalls.wasm"), "plain": late(1)} {
		m, err := e.Load(context.Background(), wasm)
		if err != nil {
			t.Fatal(err)
		}
		if (m.template != nil) != (tier == "image") {
			t.Fatalf("it is not of the tier %s", tier)
		}
		for _, after := range []string{"nothing", "a turn", "a rest"} {
			for where, ev := range map[string]*abi.Event{"before the guest": nil, "after the guest": script(t, nil)} {
				i := instantiate(t, m, noHost{}, Options{})
				if after != "nothing" {
					if _, err := turn(i, script(t, nil)); err != nil {
						t.Fatal(err)
					}
				}
				if after == "a rest" {
					i.Rest()
				}
				func() {
					defer func() {
						if recover() == nil {
							t.Errorf("%s: a turn does not panic %s", tier, where)
						}
					}()
					i.Turn(ev, time.Now().Add(time.Minute), nil)
				}()
				if _, err := turn(i, script(t, nil)); err == nil || !strings.Contains(err.Error(), "its last turn broke it") {
					t.Errorf("%s, %s, after %s: the next turn: %v", tier, where, after, err)
				}
				if err := i.Close(); err != nil {
					t.Errorf("%s, %s, after %s: %v", tier, where, after, err)
				}
			}
		}
		m.Close()
	}
	e.reaping.Wait()
	if mem := e.Memory(); e.Held() != 0 || mem.Live+mem.Folded != 0 {
		t.Errorf("%+v, %d held", mem, e.Held())
	}
}

// An instance that has all the memory there can be is like any other: at 4 GiB its size would be 0.
func TestTheGreatestMemory(t *testing.T) {
	const pages = MaxMemory / pageSize
	m := mustLoad(t, newEngine(t, Config{Memory: MaxMemory}), "hostcalls.wasm")
	if !m.template.pool.Mapped() {
		t.Skip("it would take as much of the heap")
	}
	i := instantiate(t, m, noHost{}, Options{})
	if got := grow(t, i, pages-4+1); got != -1 {
		t.Fatalf("it grows to 4 GiB: %d", got)
	}
	if got := grow(t, i, pages-4); got != 4 || i.mem.Size() != MaxMemory {
		t.Fatalf("%d, %d bytes", got, i.mem.Size())
	}
	j := instantiate(t, m, noHost{}, Options{State: capture(t, i)})
	if got := grow(t, j, 0); got != pages {
		t.Errorf("it wakes with %d pages", got)
	}
	j.Rest()
	if got := grow(t, j, 1); got != -1 {
		t.Errorf("at its end it grows from %d", got)
	}
	for _, n := range []uint32{16, 17} {
		if fail := i.takeOutput(MaxMemory-16, n, &abi.Output{}); (fail != nil) != (n > 16) {
			t.Errorf("%d bytes at its end: %v", n, fail)
		}
	}
}

func TestMemoryIsBoundedByInstance(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "hostcalls.wasm")
	for _, pages := range []uint32{4, 10, 100} {
		i := instantiate(t, m, noHost{}, Options{Memory: uint64(pages) * pageSize})
		out, err := turn(i, script(t, nil, record{op: opGrow, a: int64(pages) - 4}, record{op: opGrow, a: 1}))
		if err != nil {
			t.Fatal(err)
		}
		if r := results(out, 2); r[0] != 4 || r[1] != -1 {
			t.Errorf("%d pages: grow gave %v", pages, r)
		}
	}
}

func TestPlainGrowthIsZeroed(t *testing.T) {
	e := &Engine{}
	m := &memory{limit: 1 << 20, engine: e, where: &e.ledger.heap, making: true}
	copy(m.Reallocate(pageSize), "old")
	m.making = false
	b := m.Reallocate(5 * pageSize)
	if string(b[:3]) != "old" || bytes.ContainsFunc(b[3:], func(r rune) bool { return r != 0 }) {
		t.Error("growth lost or invented bytes")
	}
	if m.Reallocate(1<<20+1) != nil || m.refused != ownLimit {
		t.Error("growth beyond the limit")
	}
	if held := e.Held(); held != int64(cap(m.buf)) || e.ledger.grown.Load() != held-pageSize {
		t.Errorf("%d bytes are counted as %d, %d of them grown", cap(m.buf), held, e.ledger.grown.Load())
	}
	if m.forget(); e.Held() != 0 || e.ledger.grown.Load() != 0 {
		t.Errorf("%d bytes are left", e.Held())
	}
}

func TestBacktraceAndWords(t *testing.T) {
	if got := backtrace(errors.New("wasm error: unreachable\nwasm stack trace:\n\t.main.(*T).Add(i32,i64) i32\n\t.$12()\n\twasilo_1.log(i32)\n\tmod.f()\n\n\tgoroutine 1")); got != "main.(*T).Add < mod.f" {
		t.Errorf("got %q", got)
	}
	c := &console{inst: &Instance{log: slog.New(slog.DiscardHandler)}}
	c.init(c.inst)
	for _, line := range []string{"hello", "thread 'main' panicked at src/lib.rs:3:5:", "boom", "", "note: run with", "more"} {
		c.note(line)
	}
	if got := c.lastWords(); got != "thread 'main' panicked at src/lib.rs:3:5: boom" {
		t.Errorf("got %q", got)
	}
	c.begin()
	for _, line := range []string{"panic: boom", "", "goroutine 1 [running]:", "panic({0x1, 0x2})", "runtime.throw()", "\tx.go:1 (a.b)", "main.(*T).Add(...)", "main.run()"} {
		c.note(line)
	}
	if c.lastWords() != "panic: boom" || c.where != "main.(*T).Add" {
		t.Errorf("got %q at %q", c.lastWords(), c.where)
	}
	c.begin()
	c.note(strings.Repeat("ü", 1000))
	if got := c.lastWords(); len(got) > maxWords+3 || !strings.HasSuffix(got, "ü…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestInstantiateConcurrently(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "echo.wasm")
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			var err error
			for n := 0; n < 20 && err == nil; n++ {
				var i *Instance
				if i, err = m.Instantiate(context.Background(), noHost{}, Options{}); err == nil {
					_, err = turn(i, call("echo", []byte("x")))
					err = errors.Join(err, i.Close())
				}
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
