package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

func TestB3_1_BridgeHandsOverLeaseAndProps(t *testing.T) {
	var through []ActivationRequest
	n := start(t, func(c *Config) {
		c.Bridge = func(sys *System, p PlacementActor) (PartitionBridge, error) {
			if sys == nil {
				t.Error("no system")
			}
			return &recordingBridge{localBridge{p}, "recording", &through}, nil
		}
	})
	n.ok("counter/a")
	if err := n.API().Post(env("bank/b"), nil); err != nil {
		t.Fatal(err)
	}
	oneWay := env("bank/c")
	oneWay.Flags = abi.OneWay
	if err := n.API().Post(oneWay, nil); err != nil {
		t.Fatal(err)
	}
	if len(through) != 3 || len(n.silo.requests) != 3 {
		t.Fatalf("%d through the bridge, %d at the silo", len(through), len(n.silo.requests))
	}
	want := Lease{Identity: id("counter/a"), Epoch: abi.Epoch{Index: 1}, State: core.LeaseActive, Owner: "n1"}
	if r := through[0]; r.Lease != want || r.Props.Kind != "counter" || r.Reason != "call" || r.Observer == nil {
		t.Errorf("%+v", r)
	}
	if !through[0].Lease.Epoch.Less(through[1].Lease.Epoch) || through[1].Reason != "call" || through[2].Reason != "message" {
		t.Errorf("%+v", through[1:])
	}
}

type recordingBridge struct {
	PartitionBridge
	name string
	seen *[]ActivationRequest
}

func (b *recordingBridge) Name() string { return b.name }
func (b *recordingBridge) Activate(req ActivationRequest) (Target, error) {
	*b.seen = append(*b.seen, req)
	return b.PartitionBridge.Activate(req)
}

func TestB3_1_ConcurrentRequestsGiveOneActivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.silo.onActivate = func(ActivationRequest) error { time.Sleep(time.Second); return nil } // everybody is on the way by then
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				switch i % 3 {
				case 0:
					n.ok("counter/a")
				case 1:
					if _, err := n.API().Get(t.Context(), id("counter/a")); err != nil {
						t.Error(err)
					}
				case 2:
					done := make(chan error, 1)
					if err := n.API().Post(env("counter/a"), func(_ []byte, err error) { done <- err }); err != nil {
						t.Error(err)
					} else if err := <-done; err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		n.ok("counter/a") // the lease is reused
		if got := n.silo.activations(); got != 1 {
			t.Errorf("%d activations", got)
		}
	})
}

func TestB3_1_SeveralBridgesOneIsPrimary(t *testing.T) {
	var first, second []ActivationRequest
	other := &fakeSilo{}
	n := start(t, func(c *Config) {
		c.Bridge = func(_ *System, p PlacementActor) (PartitionBridge, error) {
			return &recordingBridge{localBridge{p}, "first", &first}, nil
		}
	})
	bridges := n.PartitionBridges()
	if err := bridges.Register(&recordingBridge{localBridge{other}, "second", &second}); err != nil {
		t.Fatal(err)
	}
	if err := bridges.Register(&recordingBridge{localBridge{other}, "second", &second}); !errors.Is(err, ErrBridgeRegistered) {
		t.Errorf("the same name twice: %v", err)
	}
	if err := bridges.Register(nil); err == nil {
		t.Error("no bridge was registered as one")
	}
	n.ok("counter/a")
	if err := bridges.SetPrimary("third"); err == nil || !strings.Contains(err.Error(), "third") {
		t.Errorf("a primary that is none: %v", err)
	}
	if err := bridges.SetPrimary("second"); err != nil {
		t.Fatal(err)
	}
	n.ok("counter/b")
	n.ok("counter/a")
	if len(first) != 1 || len(second) != 1 || n.PartitionBridge().Name() != "second" || len(bridges.All()) != 2 {
		t.Errorf("%d through the first, %d through the second", len(first), len(second))
	}
	// A lease is revoked through the bridge that it went through, and both are drained.
	n.Runtime().HandleBlockedNode("n1")
	if len(n.silo.revoked) != 1 || len(other.revoked) != 1 {
		t.Errorf("revoked %v and %v", n.silo.revoked, other.revoked)
	}
	if err := n.stop(); err != nil || n.silo.drained.Load() != 1 || other.drained.Load() != 1 {
		t.Errorf("%v; drained %d, %d times", err, n.silo.drained.Load(), other.drained.Load())
	}
}

func TestB3_2_FailedActivationReleasesItsLease(t *testing.T) {
	n := start(t)
	sub := n.Events().Subscribe(0)
	failure := abi.NewError(abi.ErrActivationFailed, "start trapped")
	failed := func(who string) {
		t.Helper()
		ev := events(t, sub, 1)[0]
		if ev.Type != core.ActivationFailed || ev.Identity != id(who) || ev.Code != abi.ErrActivationFailed ||
			!strings.Contains(ev.Reason, "start trapped") {
			t.Errorf("event %+v", ev)
		}
		if _, ok := n.Runtime().Lease(id(who)); ok || n.Runtime().Leases() != 0 || n.Runtime().cache.get(id(who)) != nil {
			t.Fatal("its lease or its PID is still there")
		}
	}
	// At once.
	n.silo.onActivate = func(ActivationRequest) error { return failure }
	if _, err := n.request("counter/a"); !errors.Is(err, failure.Code) {
		t.Errorf("request: %v", err)
	}
	failed("counter/a")
	n.silo.onActivate = nil

	// At its first turn.
	n.silo.onDeliver = func(a *activation, _ *abi.Envelope) ([]byte, error) {
		a.fail(failure)
		return nil, failure
	}
	if _, err := n.request("counter/b"); !errors.Is(err, failure.Code) {
		t.Errorf("request: %v", err)
	}
	if ev := events(t, sub, 1)[0]; ev.Type != core.ActivationStarted {
		t.Errorf("event %+v", ev) // the fake starts before it delivers
	}
	failed("counter/b")
	n.silo.onDeliver = nil
	n.ok("counter/a")
	n.ok("counter/b")

	// A bridge that returns nothing, or panics, leaves no lease behind either.
	n.silo.onActivate = func(ActivationRequest) error { panic("a defect of the silo") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = n.request("counter/c")
	}()
	if _, ok := n.Runtime().Lease(id("counter/c")); ok {
		t.Error("the lease of a panicking activation is still there")
	}
}

func TestB3_2_BridgeWithoutTarget(t *testing.T) {
	n := start(t, func(c *Config) {
		c.Bridge = func(_ *System, p PlacementActor) (PartitionBridge, error) { return targetless{localBridge{p}}, nil }
	})
	if _, err := n.request("counter/a"); abi.CodeOf(err) != abi.ErrInternal || n.Runtime().Leases() != 0 {
		t.Error(err)
	}
}

type targetless struct{ localBridge }

func (targetless) Activate(ActivationRequest) (Target, error) { return nil, nil }

func TestB3_3_TerminationRemovesLeaseAndPID(t *testing.T) {
	n := start(t)
	sub := n.Events().Subscribe(0)
	n.ok("counter/a")
	old := n.silo.find(id("counter/a"))
	old.end("idle")
	got := events(t, sub, 2)
	if ev := got[1]; ev.Type != core.ActivationTerminated || ev.Identity != id("counter/a") || ev.Reason != "idle" ||
		ev.Epoch != old.req.Lease.Epoch {
		t.Errorf("event %+v", ev)
	}
	if _, ok := n.Runtime().Lease(id("counter/a")); ok || n.Runtime().cache.get(id("counter/a")) != nil {
		t.Fatal("lease or PID still there")
	}
	if actors, leases := n.metrics.gauges(); actors != 0 || leases != 0 {
		t.Errorf("gauges %d, %d", actors, leases)
	}
	n.ok("counter/a")
	// What the old one says late concerns nobody.
	old.req.Observer.Terminated(old.req.Lease, "idle")
	old.req.Observer.Failed(old.req.Lease, nil)
	old.req.Observer.Releasing(old.req.Lease)
	old.req.Observer.Started(old.req.Lease)
	if l, ok := n.Runtime().Lease(id("counter/a")); !ok || l.State != core.LeaseActive || n.Runtime().cache.get(id("counter/a")) == nil {
		t.Errorf("lease %v, %v", l, ok)
	}
	n.ok("counter/a")
	if got := n.silo.activations(); got != 2 {
		t.Errorf("%d activations", got)
	}
}

// An activation that ends before its request has returned is not used, and one that is revoked meanwhile is discarded.
func TestB3_3_EndsBeforeItsRequestReturns(t *testing.T) {
	n := start(t)
	first := true
	n.silo.onActivate = func(req ActivationRequest) error {
		if first {
			first = false
			req.Observer.Terminated(req.Lease, "evicted")
		}
		return nil
	}
	n.ok("counter/a")
	if got := n.silo.activations(); got != 2 {
		t.Errorf("%d activations", got)
	}
	blocked := false
	n.silo.onActivate = func(ActivationRequest) error {
		if !blocked {
			blocked = true
			n.Runtime().HandleBlockedNode("n1")
			n.Runtime().HandleUnblockedNode("n1")
		}
		return nil
	}
	n.ok("bank/a")
	revoked := n.silo.revoked
	if l := revoked[len(revoked)-1]; l.Identity != id("bank/a") || n.silo.activations() != 4 {
		t.Errorf("revoked %v, %d activations", revoked, n.silo.activations())
	}
}

func TestB3_4_ShutdownRefusesDrainsAndReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.ok("counter/a")
		n.ok("counter/b")
		inTurn, release := make(chan struct{}), make(chan struct{})
		n.silo.onDeliver = func(a *activation, env *abi.Envelope) ([]byte, error) {
			if env.Method == "slow" {
				close(inTurn)
				<-release
			}
			return env.Payload, nil
		}
		drained := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { // a turn that runs, and calls another actor when the shutdown has begun
			slow := env("counter/a")
			slow.Method = "slow"
			if _, err := n.API().Send(t.Context(), slow); err != nil {
				t.Errorf("a turn that ran: %v", err)
			}
		})
		<-inTurn
		n.silo.mu.Lock() // the silo drains, but not yet
		done := n.Runtime().BeginShutdown(t.Context())
		go func() { <-done; close(drained) }()
		if _, err := n.API().Send(t.Context(), env("counter/b")); err != nil {
			t.Errorf("a live actor is out of reach for one that finishes: %v", err)
		}
		n.silo.mu.Unlock()
		for _, err := range []error{
			second(n.request("counter/new")),
			second(n.API().Get(t.Context(), id("counter/a"))),
			second(n.API().RequestFuture(t.Context(), id("counter/new"), Message{Method: "get"})),
			n.API().Post(env("counter/new"), nil),
		} {
			if !errors.Is(err, ErrShuttingDown) || !errors.Is(err, abi.ErrShuttingDown) || abi.CodeOf(err) != abi.ErrShuttingDown {
				t.Errorf("during the shutdown: %v", err)
			}
		}
		close(release)
		wg.Wait()
		<-drained
		if n.silo.drained.Load() != 1 || n.Runtime().Leases() != 0 || n.Err() != nil {
			t.Errorf("drained %d times, %d leases, %v", n.silo.drained.Load(), n.Runtime().Leases(), n.Err())
		}
		if got := n.silo.activations(); got != 2 {
			t.Errorf("%d activations", got)
		}
		// Afterwards too.
		if _, err := n.request("counter/a"); !errors.Is(err, ErrShuttingDown) {
			t.Errorf("after the shutdown: %v", err)
		}
		if _, err := n.API().RequestFuture(t.Context(), id("counter/a"), Message{Method: "get"}); !errors.Is(err, ErrShuttingDown) {
			t.Errorf("after the shutdown: %v", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// A silo that loses an end, or does not drain in time, does not keep the ledger from emptying; the error counts.
func TestB3_4_WhatDoesNotEndIsReleasedByForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.ok("counter/a")
		n.silo.lostEnds = true
		sub := n.Events().Subscribe(0)
		err := n.stop()
		if err == nil || !strings.Contains(err.Error(), "1 leases had to be released by force") {
			t.Errorf("a lost end: %v", err)
		}
		got := events(t, sub, 3)
		if got[0].Type != core.ShutdownBegun || got[1].Type != core.ActivationTerminated ||
			got[2].Type != core.ShutdownCompleted || got[2].Count != 1 {
			t.Errorf("events %v", got)
		}
		if n.Runtime().Leases() != 0 {
			t.Error("leases left")
		}

		late := start(t)
		late.ok("counter/a")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := late.sys.Shutdown(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "draining local") {
			t.Errorf("out of time: %v", err)
		}
		if err := late.sys.Shutdown(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("asked again: %v", err)
		}
	})
}

// A lease whose activation is still being requested when the shutdown begins is released too: nothing is used of what the silo makes
// under it, the ledger becomes empty, and the shutdown waits for that.
func TestB3_4_PendingLeasesAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.silo.onActivate = func(ActivationRequest) error { time.Sleep(time.Second); return nil }
		refused := make(chan error, 1)
		go func() { refused <- second(n.request("counter/a")) }()
		synctest.Wait()
		if l, ok := n.Runtime().Lease(id("counter/a")); !ok || l.State != core.LeaseActive {
			t.Fatalf("lease %+v, %v", l, ok)
		}
		sub := n.Events().Subscribe(0)
		begin := time.Now()
		done := n.Runtime().BeginShutdown(t.Context())
		if l, ok := n.Runtime().Lease(id("counter/a")); !ok || l.State != core.LeaseReleasing {
			t.Errorf("when the shutdown has begun: lease %+v, %v", l, ok)
		}
		<-done
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the shutdown took %s; the silo answered after 1 s", took)
		}
		if err := <-refused; !errors.Is(err, ErrShuttingDown) {
			t.Errorf("the request: %v", err)
		}
		if err := n.Err(); err != nil || n.Runtime().Leases() != 0 || n.silo.find(id("counter/a")) != nil {
			t.Errorf("%v, %d leases", err, n.Runtime().Leases())
		}
		if len(n.silo.revoked) != 1 || n.silo.revoked[0].Identity != id("counter/a") {
			t.Errorf("told the silo to discard %v", n.silo.revoked)
		}
		got := events(t, sub, 3)
		if got[0].Type != core.ShutdownBegun || got[0].Count != 1 || got[1].Type != core.ActivationTerminated ||
			got[2].Type != core.ShutdownCompleted || got[2].Count != 0 {
			t.Errorf("events %v", got)
		}
	})
}

// Requests that wait when the shutdown begins are refused at once, and activations on their way are discarded.
func TestB3_4_ShutdownDuringActivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.silo.onActivate = func(ActivationRequest) error { time.Sleep(time.Second); return nil }
		var wg sync.WaitGroup
		var mu sync.Mutex
		posted := 0
		for i := range 10 {
			wg.Go(func() {
				if i%2 == 0 {
					if _, err := n.request("counter/a"); !errors.Is(err, ErrShuttingDown) {
						t.Errorf("request: %v", err)
					}
					return
				}
				done := make(chan error, 1)
				err := n.API().Post(env("counter/a"), func(_ []byte, err error) { done <- err })
				if err == nil {
					mu.Lock()
					posted++
					mu.Unlock()
					err = <-done
				}
				if !errors.Is(err, ErrShuttingDown) {
					t.Errorf("post: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := n.stop(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if n.silo.find(id("counter/a")) != nil || n.Runtime().Leases() != 0 {
			t.Error("the activation lives on")
		}
		if posted == 0 {
			t.Error("no post waited")
		}
	})
}

func TestB3_5_GaugeIsZeroAndCompletionIsTold(t *testing.T) {
	n := start(t)
	for _, who := range []string{"counter/a", "counter/b", "bank/a"} {
		n.ok(who)
	}
	if actors, leases := n.metrics.gauges(); actors != 3 || leases != 3 {
		t.Fatalf("gauges %d, %d", actors, leases)
	}
	sub := n.Events().Subscribe(0)
	select {
	case <-n.Done():
		t.Fatal("done before the shutdown")
	default:
	}
	if n.Err() != nil {
		t.Error(n.Err())
	}
	done := n.Runtime().BeginShutdown(t.Context())
	if done != n.Done() || n.Runtime().BeginShutdown(t.Context()) != done {
		t.Error("different channels")
	}
	<-done
	if actors, leases := n.metrics.gauges(); actors != 0 || leases != 0 {
		t.Errorf("gauges %d, %d", actors, leases)
	}
	got := events(t, sub, 5)
	if got[0].Type != core.ShutdownBegun || got[0].Count != 3 || got[4].Type != core.ShutdownCompleted || got[4].Count != 0 {
		t.Errorf("events %v", got)
	}
	if _, err := sub.Next(t.Context()); !errors.Is(err, ErrEventsClosed) {
		t.Errorf("after the last event: %v", err)
	}
	if n.Err() != nil {
		t.Error(n.Err())
	}
}

// Passivation as the silo does it: deliveries are refused before the end is told. Nobody spins, nobody gets two activations.
func TestB3_PassivationRefusesBeforeItEnds(t *testing.T) {
	for _, told := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := start(t)
			n.ok("counter/a")
			old := n.silo.find(id("counter/a"))
			old.gone.Store(true)
			if told {
				old.req.Observer.Releasing(old.req.Lease)
			}
			begin := time.Now()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { n.ok("counter/a") })
			}
			time.Sleep(200 * time.Millisecond) // its last turn
			old.end("idle")
			wg.Wait()
			if took := time.Since(begin); took != 200*time.Millisecond {
				t.Errorf("told %v: the waiting took %s", told, took)
			}
			if n.silo.activations() != 2 || n.silo.twice != 0 {
				t.Errorf("told %v: %d activations, %d at once", told, n.silo.activations(), n.silo.twice)
			}
			for _, r := range n.metrics.retries {
				if r.attempts > 8 {
					t.Errorf("told %v: %d attempts", told, r.attempts)
				}
			}
		})
	}
}

// A request whose chain holds the very actor that is ending can only wait for itself.
func TestB3_WaitingForOneselfIsADeadlock(t *testing.T) {
	n := start(t)
	n.ok("counter/a")
	old := n.silo.find(id("counter/a"))
	old.gone.Store(true)
	old.req.Observer.Releasing(old.req.Lease)
	e := env("counter/a")
	e.Chain = []Identity{id("counter/x"), id("counter/a"), id("bank/b")}
	_, err := n.API().Send(t.Context(), e)
	if !errors.Is(err, abi.ErrDeadlock) || !strings.Contains(err.Error(), "counter/a→bank/b→counter/a") {
		t.Error(err)
	}
	old.end("idle")
}
