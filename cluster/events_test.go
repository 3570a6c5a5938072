package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

func TestB4_4_EverySubscriberGetsEveryEventOnce(t *testing.T) {
	n := start(t)
	const subscribers, workers, each = 4, 4, 200
	last := make(chan struct{})
	var readers sync.WaitGroup
	for s := range subscribers {
		sub := n.Events().Subscribe(0)
		readers.Go(func() {
			if s == 0 {
				<-last // it reads nothing until everything has happened, and holds nobody up
			}
			var seq uint64
			count := map[core.EventType]int{}
			for {
				ev, err := sub.Next(t.Context())
				if errors.Is(err, ErrEventsClosed) {
					break
				}
				if err != nil {
					t.Error(err)
					return
				}
				if seq != 0 && ev.Seq != seq+1 {
					t.Errorf("subscriber %d: event %d after %d", s, ev.Seq, seq)
					return
				}
				seq = ev.Seq
				count[ev.Type]++
			}
			want := map[core.EventType]int{core.ActivationStarted: workers * each, core.ActivationTerminated: workers * each,
				core.BlockListApplied: 1, core.NodeUnblocked: 1, core.ShutdownBegun: 1, core.ShutdownCompleted: 1}
			if fmt.Sprint(count) != fmt.Sprint(want) {
				t.Errorf("subscriber %d: %v, want %v", s, count, want)
			}
		})
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				who := fmt.Sprintf("counter/%d-%d", w, i)
				n.ok(who)
				n.silo.find(id(who)).end("idle")
			}
		})
	}
	wg.Wait()
	n.Runtime().HandleBlockedNode("n9")
	n.Runtime().HandleUnblockedNode("n9")
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	close(last)
	readers.Wait()
}

func TestB4_4_SubscriptionsEnd(t *testing.T) {
	s := newEventStream()
	one := []Event{{Seq: 1}}
	s.publish(one) // before anybody subscribes: kept for nobody
	a, b := s.Subscribe(0), s.Subscribe(3)
	s.publish([]Event{{Seq: 2}})
	if ev, err := a.Next(t.Context()); ev.Seq != 2 || err != nil {
		t.Errorf("%v, %v", ev, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("nothing there, no time: %v", err)
	}
	if ev, err := b.Next(ctx); ev.Seq != 2 || err != nil {
		t.Errorf("something there, no time: %v, %v", ev, err)
	}
	for i := range 4 {
		s.publish([]Event{{Seq: uint64(3 + i)}})
	}
	if _, err := b.Next(t.Context()); !errors.Is(err, ErrEventsLagged) {
		t.Errorf("4 behind, 3 allowed: %v", err)
	}
	if _, err := b.Next(t.Context()); !errors.Is(err, ErrEventsLagged) {
		t.Errorf("asked again: %v", err)
	}
	woken := make(chan error)
	c := s.Subscribe(0)
	go func() {
		_, err := c.Next(t.Context())
		woken <- err
	}()
	c.Close()
	c.Close()
	if err := <-woken; !errors.Is(err, ErrEventsClosed) {
		t.Errorf("closed while waiting: %v", err)
	}
	s.close()
	s.publish(one)
	for i := range 4 {
		if ev, err := a.Next(t.Context()); err != nil || ev.Seq != uint64(3+i) {
			t.Errorf("after the end: %v, %v", ev, err)
		}
	}
	if _, err := a.Next(t.Context()); !errors.Is(err, ErrEventsClosed) {
		t.Error(err)
	}
	if _, ok := a.TryNext(); ok {
		t.Error("an event after the last")
	}
	if _, err := s.Subscribe(0).Next(t.Context()); !errors.Is(err, ErrEventsClosed) {
		t.Errorf("subscribed after the end: %v", err)
	}
	if len(s.subs) != 0 {
		t.Errorf("%d subscriptions are still held", len(s.subs))
	}
}

func TestB4_4_ChunksAreCrossed(t *testing.T) {
	s := newEventStream()
	sub, late := s.Subscribe(0), (*Subscription)(nil)
	seq := uint64(0)
	for round := range 5 {
		var batch []Event
		for range chunkLen - 1 + round {
			seq++
			batch = append(batch, Event{Seq: seq})
		}
		s.publish(batch)
		if round == 2 {
			late = s.Subscribe(0)
		}
	}
	for want := uint64(1); want <= seq; want++ {
		if ev, ok := sub.TryNext(); !ok || ev.Seq != want {
			t.Fatalf("%v, %v; want %d", ev, ok, want)
		}
	}
	if ev, ok := late.TryNext(); !ok || ev.Seq != 3*chunkLen+1 {
		t.Errorf("the late one begins with %d, want %d", ev.Seq, 3*chunkLen+1)
	}
}

// brokenSink panics on every call.
type brokenSink struct{}

func (brokenSink) RecordRequestLatency(Identity, time.Duration) { panic("sink") }
func (brokenSink) RecordResolveLatency(Identity, time.Duration) { panic("sink") }
func (brokenSink) RecordRetry(Identity, int, RetryOutcome)      { panic("sink") }
func (brokenSink) RecordBlockList(NodeID)                       { panic("sink") }
func (brokenSink) SetActorCount(int)                            { panic("sink") }
func (brokenSink) SetLeases(int)                                { panic("sink") }

// brokenTelemetry fails, panics, and counts.
type brokenTelemetry struct {
	mu   sync.Mutex
	seen []Event
}

func (b *brokenTelemetry) Export(_ context.Context, ev Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, ev)
	if len(b.seen)%2 == 0 {
		panic("telemetry")
	}
	return errors.New("collector is down")
}

func TestB4_4_FailingSinksWarnAndCarryOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		telemetry := &brokenTelemetry{}
		n := start(t, func(c *Config) { c.Metrics, c.Telemetry = brokenSink{}, telemetry })
		sub := n.Events().Subscribe(0)
		for range 20 {
			n.ok("counter/a")
		}
		n.silo.find(id("counter/a")).gone.Store(true)
		time.AfterFunc(time.Second, func() { n.silo.find(id("counter/a")).end("idle") })
		n.ok("counter/a")
		n.Runtime().HandleBlockedNode("n9")
		if err := n.stop(); err != nil {
			t.Error(err)
		}
		if got := events(t, sub, 7); got[6].Type != core.ShutdownCompleted {
			t.Errorf("events %v", got)
		}
		for _, want := range []string{"the metrics sink panicked", "method=RecordRequestLatency", "collector is down", "panic: telemetry"} {
			if !strings.Contains(n.log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, n.log)
			}
		}
		if lines := strings.Count(n.log.String(), "metrics sink panicked"); lines > 8 {
			t.Errorf("%d lines about it", lines)
		}
		// Everything reached it, from the first event to the last.
		if first, last := telemetry.seen[0], telemetry.seen[len(telemetry.seen)-1]; first.Type != core.TopologyApplied ||
			last.Type != core.ShutdownCompleted || len(telemetry.seen) != int(last.Seq-first.Seq)+1 {
			t.Errorf("exported %v", telemetry.seen)
		}
	})
}

// stuckSink blocks in a gauge until it is let go.
type stuckSink struct {
	NopMetrics
	in, out chan struct{}
	armed   atomic.Bool
}

func (s *stuckSink) SetLeases(int) {
	if s.armed.CompareAndSwap(true, false) {
		close(s.in)
		<-s.out
	}
}

// While one goroutine flushes, others leave their events to it; nothing waits for a next occasion.
func TestB4_4_FlushesAreHandedOver(t *testing.T) {
	sink := &stuckSink{in: make(chan struct{}), out: make(chan struct{})}
	n := start(t, func(c *Config) { c.Metrics = sink })
	sub := n.Events().Subscribe(0)
	sink.armed.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := n.API().Get(t.Context(), id("counter/a")); err != nil { // nothing else flushes after it
			t.Error(err)
		}
	})
	<-sink.in
	n.Runtime().HandleBlockedNode("n9")
	n.Runtime().HandleUnblockedNode("n9")
	if ev, ok := sub.TryNext(); ok {
		t.Errorf("%v overtook the one that flushes", ev)
	}
	close(sink.out)
	wg.Wait()
	var types []core.EventType
	for ev, ok := sub.TryNext(); ok; ev, ok = sub.TryNext() {
		types = append(types, ev.Type)
	}
	if fmt.Sprint(types) != "[BlockListApplied NodeUnblocked]" {
		t.Errorf("events %v", types)
	}
}

// The end of a shutdown waits for whoever still flushes, and then publishes the rest itself.
func TestB4_4_TheLastFlushIsTheShutdowns(t *testing.T) {
	sink := &stuckSink{in: make(chan struct{}), out: make(chan struct{})}
	n := start(t, func(c *Config) { c.Metrics = sink })
	sub := n.Events().Subscribe(0)
	sink.armed.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = n.request("counter/a") }) // refused or not: it comes to a flush
	<-sink.in
	done := n.Runtime().BeginShutdown(t.Context())
	for over := false; !over; runtime.Gosched() {
		n.Runtime().mu.Lock()
		over = n.Runtime().closed
		n.Runtime().mu.Unlock()
	}
	close(sink.out)
	wg.Wait()
	<-done
	for last := (Event{}); ; {
		ev, err := sub.Next(t.Context())
		if err != nil {
			if last.Type != core.ShutdownCompleted {
				t.Errorf("the stream ended after %v", last)
			}
			return
		}
		last = ev
	}
}

// slowTelemetry hangs until its context ends.
type slowTelemetry struct{}

func (slowTelemetry) Export(ctx context.Context, _ Event) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestB4_4_SlowTelemetryHoldsUpNothingButTheEndOfTheShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, func(c *Config) { c.Telemetry = slowTelemetry{} })
		begin := time.Now()
		n.ok("counter/a")
		if time.Since(begin) != 0 {
			t.Error("a request waited for it")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.sys.Shutdown(ctx); err != nil || time.Since(begin) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}
