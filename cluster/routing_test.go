package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestB4_1_CacheFirstResolveOnlyOnAMiss(t *testing.T) {
	n := start(t)
	for range 5 {
		n.ok("counter/a")
	}
	m := n.metrics
	if m.resolves[id("counter/a")] != 1 || m.requests[id("counter/a")] != 5 || n.silo.activations() != 1 {
		t.Errorf("%d resolves, %d requests, %d activations", m.resolves[id("counter/a")], m.requests[id("counter/a")], n.silo.activations())
	}
	n.silo.find(id("counter/a")).end("idle")
	n.ok("counter/a")
	if m.resolves[id("counter/a")] != 2 {
		t.Errorf("%d resolves", m.resolves[id("counter/a")])
	}
}

// A target that answers ownership_changed is forgotten, if it still is the cached one, and asked anew at once.
func TestB4_1_StaleEntriesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.ok("counter/a")
		old := n.silo.find(id("counter/a"))
		stale := n.Runtime().cache.get(id("counter/a"))
		old.end("idle")
		n.ok("counter/a")
		fresh := n.Runtime().cache.get(id("counter/a"))
		n.Runtime().cache.put(stale) // as a reader may still see it
		begin := time.Now()
		n.ok("counter/a")
		if n.Runtime().cache.get(id("counter/a")) != fresh || time.Since(begin) != 0 || n.silo.activations() != 2 {
			t.Errorf("after %s, %d activations", time.Since(begin), n.silo.activations())
		}
		n.Runtime().cache.forget(stale)
		if n.Runtime().cache.get(id("counter/a")) != fresh {
			t.Error("forgetting the stale entry dropped the fresh one")
		}
		n.Runtime().cache.put(stale)
		if err := n.API().Post(env("counter/a"), nil); err != nil || n.Runtime().cache.get(id("counter/a")) != fresh {
			t.Errorf("post: %v", err)
		}
	})
}

func TestB4_2_PastTheAttemptsTimeoutWrapsTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, func(c *Config) {
			c.Retry = RetryPolicy{Attempts: 4, Initial: 100 * time.Millisecond, Max: 200 * time.Millisecond, Jitter: -1}
		})
		var re *RequestError

		// The target keeps refusing, and its end never comes.
		n.ok("counter/a")
		n.silo.find(id("counter/a")).gone.Store(true)
		begin := time.Now()
		_, err := n.request("counter/a")
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, ErrOwnershipChanged) || abi.CodeOf(err) != abi.ErrTimeout ||
			!errors.As(err, &re) || re.Attempts != 4 || !strings.Contains(err.Error(), "the activation has ended") {
			t.Errorf("refusing target: %v", err)
		}
		if took := time.Since(begin); took < 300*time.Millisecond || took > 700*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if n.Runtime().cache.get(id("counter/a")) != nil {
			t.Error("a target that keeps refusing is cached")
		}

		// The resolve keeps failing in a way that passes.
		n.silo.onActivate = func(ActivationRequest) error { return abi.NewError(abi.ErrNotReady, "compiling") }
		begin = time.Now()
		_, err = n.request("counter/b")
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, abi.ErrNotReady) || abi.CodeOf(err) != abi.ErrTimeout || !errors.As(err, &re) ||
			re.Attempts != 4 || !strings.Contains(err.Error(), "compiling") {
			t.Errorf("compiling: %v", err)
		}
		if took := time.Since(begin); took != 500*time.Millisecond {
			t.Errorf("it took %s, want 100 + 200 + 200 ms", took)
		}
		var resolve *ResolveError
		_, err = n.API().Get(t.Context(), id("counter/b"))
		if !errors.As(err, &resolve) || !errors.Is(err, ErrTimeout) || !errors.Is(err, abi.ErrNotReady) {
			t.Errorf("Get: %v", err)
		}

		// It passes after a while.
		tries := 0
		n.silo.onActivate = func(ActivationRequest) error {
			if tries++; tries < 3 {
				return abi.NewError(abi.ErrNotReady, "compiling")
			}
			return nil
		}
		n.ok("counter/c")

		want := []retryRecord{{id("counter/a"), 4, RetryTimedOut}, {id("counter/b"), 4, RetryTimedOut}, {id("counter/b"), 4, RetryTimedOut},
			{id("counter/c"), 3, RetrySucceeded}}
		if fmt.Sprint(n.metrics.retries) != fmt.Sprint(want) {
			t.Errorf("recorded %v, want %v", n.metrics.retries, want)
		}
	})
}

// The caller's time ends the retries too, and its cancellation.
func TestB4_2_TheDeadlineBoundsTheRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.silo.onActivate = func(ActivationRequest) error { return abi.NewError(abi.ErrNoQuorum, "a minority") }
		begin := time.Now()
		_, err := n.API().Request(t.Context(), id("counter/a"), Message{Method: "get", Timeout: 700 * time.Millisecond})
		if took := time.Since(begin); took != 700*time.Millisecond || !errors.Is(err, ErrTimeout) || !errors.Is(err, abi.ErrNoQuorum) ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %s", err, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		begin = time.Now()
		_, err = n.API().Send(ctx, env("counter/a"))
		if took := time.Since(begin); took != 300*time.Millisecond || abi.CodeOf(err) != abi.ErrCanceled || !errors.Is(err, abi.ErrNoQuorum) {
			t.Errorf("%v after %s", err, took)
		}
		// While it waits for an activation that ends.
		n.silo.onActivate = nil
		n.ok("counter/b")
		old := n.silo.find(id("counter/b"))
		old.req.Observer.Releasing(old.req.Lease)
		begin = time.Now()
		_, err = n.API().Request(t.Context(), id("counter/b"), Message{Method: "get", Timeout: time.Second})
		if took := time.Since(begin); took != time.Second || !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "has not ended") {
			t.Errorf("%v after %s", err, took)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		if _, err = n.API().Get(ctx, id("counter/b")); abi.CodeOf(err) != abi.ErrCanceled {
			t.Errorf("%v", err)
		}
	})
}

// What may have been done is not sent again, and neither is what the caller should know at once.
func TestB4_2_OnlyWhatDidNothingIsSentAgain(t *testing.T) {
	for _, info := range abi.Codes() {
		if info.Code == abi.ErrNone {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			n := start(t, func(c *Config) { c.Retry = RetryPolicy{Attempts: 3} })
			n.ok("counter/a")
			sent := 0
			n.silo.onDeliver = func(*activation, *abi.Envelope) ([]byte, error) { sent++; return nil, abi.NewError(info.Code, "no") }
			_, err := n.request("counter/a")
			again := info.Code == abi.ErrOwnershipChanged || info.Code == abi.ErrNoQuorum || info.Code == abi.ErrBlocked ||
				info.Code == abi.ErrNotReady || info.Code == abi.ErrShuttingDown || info.Code == abi.ErrUnreachable
			if again && !info.Retryable {
				t.Fatalf("%s must not be sent again", info.Name)
			}
			if want := map[bool]int{true: 3, false: 1}[again]; sent != want || !errors.Is(err, info.Code) {
				t.Errorf("%s: sent %d times, want %d: %v", info.Name, sent, want, err)
			}
		})
	}
}

func TestB4_3_GaugeShowsLeasesInForce(t *testing.T) {
	n := start(t)
	want := func(leases, actors int) {
		t.Helper()
		if a, l := n.metrics.gauges(); l != leases || a != actors || n.Runtime().Leases() != leases {
			t.Errorf("gauges: %d leases, %d actors; want %d, %d", l, a, leases, actors)
		}
	}
	want(0, 0)
	n.ok("counter/a")
	if _, err := n.API().Get(t.Context(), id("counter/b")); err != nil { // leased, not started
		t.Fatal(err)
	}
	want(2, 1)
	n.silo.keep = true
	a := n.silo.find(id("counter/a"))
	n.Runtime().HandleBlockedNode("n1") // revoked: not in force, but alive
	want(0, 1)
	a.end("revoked")
	want(0, 0)
}

func TestB4_5_LatenciesOfSuccessesAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.silo.onActivate = func(ActivationRequest) error { time.Sleep(time.Second); return nil }
		n.silo.onDeliver = func(*activation, *abi.Envelope) ([]byte, error) {
			time.Sleep(2 * time.Second)
			return []byte("hello"), nil
		}
		n.ok("counter/a")
		if n.metrics.longest != 3*time.Second {
			t.Errorf("the request is recorded with %s", n.metrics.longest)
		}
		n.ok("counter/a")
		if _, err := n.API().Get(t.Context(), id("counter/b")); err != nil {
			t.Fatal(err)
		}
		n.silo.onDeliver = func(*activation, *abi.Envelope) ([]byte, error) { return nil, abi.NewActorError("no", "") }
		for _, who := range []string{"counter/a", "counter/c", "nosuch/a"} {
			if _, err := n.request(who); err == nil {
				t.Error(who)
			}
		}
		if fmt.Sprint(n.metrics.requests) != fmt.Sprint(map[Identity]int{id("counter/a"): 2}) ||
			fmt.Sprint(n.metrics.resolves) != fmt.Sprint(map[Identity]int{id("counter/a"): 1, id("counter/b"): 1}) {
			t.Errorf("requests %v, resolves %v", n.metrics.requests, n.metrics.resolves)
		}
	})
}

// An actor that must exist is active, or has left something.
func TestMustExistNeverCreates(t *testing.T) {
	n := start(t)
	e := env("counter/a")
	e.Flags = abi.MustExist
	if _, err := n.API().Send(t.Context(), e); abi.CodeOf(err) != abi.ErrNotActive {
		t.Errorf("not active: %v", err)
	}
	if n.silo.activations() != 0 {
		t.Error("it was activated")
	}
	n.ok("counter/a")
	e = env("counter/a")
	e.Flags = abi.MustExist
	if _, err := n.API().Send(t.Context(), e); err != nil {
		t.Errorf("active: %v", err)
	}
}

func TestOnlyIfActiveNeverActivates(t *testing.T) {
	n := start(t)
	e := env("counter/a")
	e.Flags = abi.OnlyIfActive
	if _, err := n.API().Send(t.Context(), e); abi.CodeOf(err) != abi.ErrNotActive || !errors.Is(err, abi.ErrNotActive) {
		t.Errorf("not active: %v", err)
	}
	e = env("counter/a")
	e.Flags = abi.OnlyIfActive
	if err := n.API().Post(e, nil); abi.CodeOf(err) != abi.ErrNotActive {
		t.Errorf("post, not active: %v", err)
	}
	if n.silo.activations() != 0 {
		t.Error("it was activated")
	}
	n.ok("counter/a")
	e = env("counter/a")
	e.Flags = abi.OnlyIfActive
	if _, err := n.API().Send(t.Context(), e); err != nil {
		t.Errorf("active: %v", err)
	}
	n.Runtime().cache.forget(n.Runtime().cache.get(id("counter/a")))
	if _, err := n.API().Send(t.Context(), e); err != nil {
		t.Errorf("active, but not cached: %v", err)
	}
	n.silo.find(id("counter/a")).end("idle")
	if _, err := n.API().Send(t.Context(), e); abi.CodeOf(err) != abi.ErrNotActive {
		t.Errorf("ended: %v", err)
	}
}

// Messages of one caller to one actor keep their order while it ends and comes back, posts and requests mixed.
func TestPostKeepsOrderAcrossActivations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		var mu sync.Mutex
		got := map[string][]byte{}
		n.silo.onDeliver = func(_ *activation, env *abi.Envelope) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			caller := env.Caller.ID()
			got[caller] = append(got[caller], env.Payload[0])
			return env.Payload, nil
		}
		stop := make(chan struct{})
		var churn sync.WaitGroup
		churn.Go(func() { // the actor ends again and again, with a while between refusing and ending
			for {
				select {
				case <-stop:
					return
				case <-time.After(7 * time.Millisecond):
				}
				if a := n.silo.find(id("counter/a")); a != nil {
					a.gone.Store(true)
					time.Sleep(5 * time.Millisecond)
					a.end("idle")
				}
			}
		})
		const callers, each = 6, 100
		var wg sync.WaitGroup
		var answered atomic.Int64
		for c := range callers {
			wg.Go(func() {
				caller := id(fmt.Sprintf("bank/%d", c))
				var posts sync.WaitGroup
				for i := range each {
					e := env("counter/a")
					e.Caller, e.Payload = caller, []byte{byte(i)}
					if i%5 == 4 {
						if _, err := n.API().Send(t.Context(), e); err != nil {
							t.Errorf("send %d: %v", i, err)
						}
						answered.Add(1)
						continue
					}
					posts.Add(1)
					err := n.API().Post(e, func(_ []byte, err error) {
						if err != nil {
							t.Errorf("post %d: %v", i, err)
						}
						answered.Add(1)
						posts.Done()
					})
					if err != nil {
						t.Errorf("post %d refused: %v", i, err)
						posts.Done()
					}
					time.Sleep(time.Millisecond)
				}
				posts.Wait()
			})
		}
		wg.Wait()
		close(stop)
		churn.Wait()
		if answered.Load() != callers*each {
			t.Errorf("%d of %d answered", answered.Load(), callers*each)
		}
		for c := range callers {
			order := got[fmt.Sprint(c)]
			for i := range each {
				if len(order) != each || order[i] != byte(i) {
					t.Fatalf("caller %d: %v", c, order)
				}
			}
		}
		if n.silo.activations() < 10 || n.silo.twice != 0 {
			t.Errorf("%d activations, %d at once", n.silo.activations(), n.silo.twice)
		}
	})
}

// A request does not overtake what its caller has posted before, although the PID is cached by then.
func TestRequestsStayBehindWaitingPosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.ok("counter/a")
		old := n.silo.find(id("counter/a"))
		old.gone.Store(true)
		old.req.Observer.Releasing(old.req.Lease)
		var mu sync.Mutex
		var got []byte
		slow := make(chan struct{})
		n.silo.onDeliver = func(_ *activation, env *abi.Envelope) ([]byte, error) {
			mu.Lock()
			got = append(got, env.Payload[0])
			first := len(got) == 1
			mu.Unlock()
			if first {
				<-slow
			}
			return env.Payload, nil
		}
		message := func(i byte) *abi.Envelope {
			e := env("counter/a")
			e.Payload = []byte{i}
			return e
		}
		for i := range byte(3) {
			if err := n.API().Post(message(i), nil); err != nil {
				t.Fatal(err)
			}
		}
		old.end("idle")
		synctest.Wait() // the first post is being delivered, the activation is in the cache
		if n.Runtime().cache.get(id("counter/a")) == nil {
			t.Fatal("not cached")
		}
		if err := n.API().Post(message(3), nil); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := n.API().Send(t.Context(), message(4)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(slow)
		wg.Wait()
		if string(got) != "\x00\x01\x02\x03\x04" {
			t.Errorf("delivered in the order %v", got)
		}
	})
}

// Posts that wait for the next activation end in time, are bounded, and are told of a shutdown.
func TestPostsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.ok("counter/a")
		old := n.silo.find(id("counter/a"))
		old.gone.Store(true)
		old.req.Observer.Releasing(old.req.Lease)
		outcome := make(chan error, 2*abi.DefaultMailbox)
		post := func(timeout time.Duration) error {
			e := env("counter/a")
			e.Deadline = time.Now().Add(timeout)
			return n.API().Post(e, func(_ []byte, err error) { outcome <- err })
		}
		begin := time.Now()
		for _, timeout := range []time.Duration{time.Minute, 3 * time.Second, time.Second} {
			if err := post(timeout); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []time.Duration{time.Second, 3 * time.Second} {
			if err := <-outcome; !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != want {
				t.Errorf("%v after %s, want a time-out after %s", err, time.Since(begin), want)
			}
		}
		// A request waits behind them, within its own time.
		if _, err := n.API().Request(t.Context(), id("counter/a"), Message{Method: "get", Timeout: time.Second}); !errors.Is(err, ErrTimeout) {
			t.Errorf("a request behind them: %v", err)
		}
		canceled, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := n.API().Send(canceled, env("counter/a")); !errors.Is(err, abi.ErrCanceled) {
			t.Errorf("a request behind them that is cancelled: %v", err)
		}
		self := env("counter/a")
		self.Chain = []Identity{id("counter/a")}
		if _, err := n.API().Send(t.Context(), self); !errors.Is(err, abi.ErrDeadlock) {
			t.Errorf("a request of its own chain: %v", err)
		}
		accepted, refused := 0, 0
		for range 2 * abi.DefaultMailbox {
			switch err := post(time.Minute); {
			case err == nil:
				accepted++
			case errors.Is(err, abi.ErrMailboxFull):
				refused++
			default:
				t.Fatal(err)
			}
			if accepted+refused > abi.DefaultMailbox+10 {
				break
			}
		}
		if refused == 0 {
			t.Errorf("%d posts wait", accepted)
		}
		old.end("idle")
		for range accepted + 1 {
			if err := <-outcome; err != nil {
				t.Fatal(err)
			}
		}
		n.ok("counter/a")
		synctest.Wait() // a courier goes after its last message has been answered
		if n.Runtime().couriers.Load() != 0 || len(n.Runtime().mail) != 0 || len(n.Runtime().waits) != 0 {
			t.Errorf("left over: %d couriers, %d mail, %d waits", n.Runtime().couriers.Load(), len(n.Runtime().mail), len(n.Runtime().waits))
		}

		// A shutdown refuses what waits; without done it is only logged.
		old = n.silo.find(id("counter/a"))
		old.gone.Store(true)
		old.req.Observer.Releasing(old.req.Lease)
		if err := post(time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := n.API().Post(env("counter/a"), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := n.stop(); err != nil {
			t.Error(err)
		}
		if err := <-outcome; !errors.Is(err, ErrShuttingDown) {
			t.Errorf("a post that waited during the shutdown: %v", err)
		}
		if !strings.Contains(n.log.String(), "a message was lost") {
			t.Error("the lost message was not logged")
		}
		if err := n.API().Post(env("counter/a"), nil); !errors.Is(err, ErrShuttingDown) {
			t.Errorf("after the shutdown: %v", err)
		}
	})
}

// A decision that the topology has overtaken by the time the way is found is used once, but not remembered.
func TestOvertakenDecisionsAreNotCached(t *testing.T) {
	var n *node
	n = start(t, func(c *Config) {
		c.Topology = StaticTopology(self, peer)
		c.Transport = &fakeTransport{func(Node) (Target, error) {
			n.Runtime().HandleTopologyChanged(must(NewTopology(self)))
			return targetFunc(func(env *abi.Envelope) ([]byte, error) { return nil, errGone }), nil
		}}
	})
	if err := n.Runtime().SetPeerKinds("n2", []Kind{{"counter"}}); err != nil {
		t.Fatal(err)
	}
	theirs := owned(n.Runtime().View(), "counter", "n2")
	e, err := n.Runtime().lookup(t.Context(), &query{id: theirs}, time.Now().Add(time.Minute), 0)
	if err != nil || e.route.Local() || n.Runtime().cache.get(theirs) != nil {
		t.Errorf("%v, %v, cached %v", e, err, n.Runtime().cache.get(theirs))
	}
	n.ok(theirs.Key())
}

// A remote target that refuses is asked anew after the view has changed; an actor of a node out of reach is not resolvable.
func TestRemoteTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusals := 0
		n := start(t, func(c *Config) {
			c.Topology = StaticTopology(self, peer)
			c.Transport = &fakeTransport{func(Node) (Target, error) {
				return targetFunc(func(env *abi.Envelope) ([]byte, error) {
					if refusals > 0 {
						refusals--
						return nil, errGone
					}
					return env.Payload, nil
				}), nil
			}}
		})
		if err := n.Runtime().SetPeerKinds("n2", []Kind{{"chat"}}); err != nil {
			t.Fatal(err)
		}
		n.ok("chat/x")
		refusals = 1
		begin := time.Now()
		n.ok("chat/x")
		if time.Since(begin) != 0 {
			t.Errorf("the first refusal cost %s", time.Since(begin))
		}
		refusals = 3
		n.ok("chat/x")
		if time.Since(begin) == 0 {
			t.Error("later refusals cost nothing")
		}
		refusals = 1
		done := make(chan error, 1)
		if err := n.API().Post(env("chat/x"), func(_ []byte, err error) { done <- err }); err != nil {
			t.Fatalf("post: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("post: %v", err)
		}
		synctest.Wait() // its courier has gone
		n.Runtime().cfg.Transport = &fakeTransport{func(Node) (Target, error) {
			return nil, abi.NewError(abi.ErrDenied, "wrong certificate")
		}}
		n.Runtime().cache.forget(n.Runtime().cache.get(id("chat/x")))
		if _, err := n.request("chat/x"); !errors.Is(err, ErrNotResolvable) || abi.CodeOf(err) != abi.ErrDenied {
			t.Errorf("no way there: %v", err)
		}
	})
}

func TestRetryOutcomesHaveNames(t *testing.T) {
	if s := fmt.Sprint(RetrySucceeded, RetryTimedOut, RetryFailed, RetryOutcome(0)); s != "succeeded timed_out failed unknown" {
		t.Error(s)
	}
}
