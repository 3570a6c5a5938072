package cluster

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// TestStormOverNodes is several nodes whose views differ and change, whose kinds come and go, whose connections are cut in the
// middle of things, while activations end. What is told to have been done was done once; what is told not to have been
// done was not; what is not known was done at most once. When the views have settled everybody reaches every actor.
func TestStormOverNodes(t *testing.T) {
	const nodes, identities, callers, rounds = 4, 12, 2, 1200
	w := newWorld(t, nodes, func(c *Config) {
		c.Retry = RetryPolicy{Attempts: 1000, Initial: 50 * time.Microsecond, Max: 2 * time.Millisecond}
	})
	var mu sync.Mutex
	turns := map[string]int{}
	for _, c := range w.nodes {
		c.silo.onDeliver = func(_ *activation, e *abi.Envelope) ([]byte, error) {
			mu.Lock()
			turns[string(e.Payload)]++
			mu.Unlock()
			return e.Payload, nil
		}
	}
	var calm atomic.Bool
	w.breaks(func(_, to NodeID, _ *abi.Envelope) error {
		if !calm.Load() && rand.IntN(20) == 0 {
			return unreachable(Node{ID: to})
		}
		return nil
	})

	type verdict struct {
		call string
		err  error
	}
	var verdicts []verdict
	told := func(call string, err error) {
		mu.Lock()
		defer mu.Unlock()
		verdicts = append(verdicts, verdict{call, err})
	}
	var load, chaos, answers sync.WaitGroup
	for i := range nodes {
		c := w.node(i + 1)
		for j := range callers {
			load.Go(func() {
				for n := 0; !calm.Load(); n++ {
					e := env("counter/" + strconv.Itoa(rand.IntN(identities)))
					call := fmt.Sprintf("%d-%d-%d", i, j, n)
					e.Payload = []byte(call)
					e.Deadline = time.Now().Add(10 * time.Minute)
					if n%3 == 0 {
						_, err := c.API().Send(t.Context(), e)
						told(call, err)
						continue
					}
					if n%3 == 1 {
						e.Flags = abi.OneWay
					}
					answers.Add(1)
					var once atomic.Bool
					done := func(_ []byte, err error) {
						if once.Swap(true) {
							t.Errorf("post %s was answered twice", call)
							return
						}
						told(call, err)
						answers.Done()
					}
					if err := c.API().Post(e, done); err != nil {
						done(nil, err)
					}
					if n%16 == 0 {
						runtime.Gosched()
					}
				}
			})
		}
	}
	for i := range nodes {
		c := w.node(i + 1)
		chaos.Go(func() {
			for n := range rounds {
				runtime.Gosched()
				switch n % 12 {
				case 0:
					seen := []Node{c.self}
					for _, m := range w.order {
						if m != c.self && rand.IntN(3) > 0 {
							seen = append(seen, m)
						}
					}
					c.sees(seen...)
				case 3, 6, 9:
					if m := w.order[rand.IntN(nodes)]; m != c.self {
						c.knows(m.ID, []string{"bank", "counter"}[:1+rand.IntN(2)]...)
					}
				case 5:
					w.mu.Lock()
					var some *crossing
					for x := range w.calls {
						some = x
						break
					}
					w.mu.Unlock()
					if some != nil {
						some.cut()
					}
				default:
					if a := c.silo.find(id("counter/" + strconv.Itoa(rand.IntN(identities)))); a != nil {
						if n%2 == 0 {
							a.gone.Store(true)
							a.req.Observer.Releasing(a.req.Lease)
						}
						a.end("idle")
					}
				}
			}
		})
	}
	chaos.Wait()
	for i := range nodes {
		c := w.node(i + 1)
		c.sees(w.order...)
		for _, m := range w.order {
			if m != c.self {
				c.knows(m.ID, "counter", "bank")
			}
		}
	}
	calm.Store(true)
	load.Wait()
	answers.Wait()

	mu.Lock()
	sums := map[string]int{}
	for _, v := range verdicts {
		got, code := turns[v.call], abi.CodeOf(v.err)
		sums[code.String()]++
		switch {
		case v.err == nil && got != 1, v.err != nil && code.Retryable() && got != 0, got > 1:
			t.Errorf("call %s had %d turns and ended with %v", v.call, got, v.err)
		case v.err != nil && !code.Retryable() && code != abi.ErrOutcomeUnknown && code != abi.ErrUnknownKind:
			t.Errorf("call %s: %v", v.call, v.err)
		}
	}
	mu.Unlock()
	t.Logf("%d calls: %v", len(verdicts), sums)
	if sums["ok"] == 0 {
		t.Error("none succeeded")
	}
	active := map[Identity]NodeID{}
	for _, c := range w.nodes {
		for i := range identities {
			c.ok("counter/" + strconv.Itoa(i))
		}
		if c.silo.twice != 0 {
			t.Errorf("node %s: %d activations of an actor that was active", c.self.ID, c.silo.twice)
		}
		for who := range c.silo.live {
			if other, twice := active[who]; twice {
				t.Errorf("%s is active on %s and %s", who, other, c.self.ID)
			}
			active[who] = c.self.ID
		}
		r := c.Runtime()
		r.untilIdle(t)
		r.mu.Lock()
		for i := range r.carried {
			if r.carried[i].Load() != 0 {
				t.Errorf("node %s: a courier is counted that is gone", c.self.ID)
			}
		}
		r.mu.Unlock()
	}
}
