package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// TestStorm is everything at once, on real goroutines for the race detector: requests, posts, terminations, failures,
// blocks and kinds that come and go. Nothing is lost, no identity is ever active twice, and in the end nothing is left.
func TestStorm(t *testing.T) {
	n := start(t, func(c *Config) {
		c.Retry = RetryPolicy{Attempts: 1000, Initial: 50 * time.Microsecond, Max: time.Millisecond}
		c.DefaultTimeout = 10 * time.Minute
	})
	sub := n.Events().Subscribe(0)
	const identities = 8
	who := func() Identity { return id(fmt.Sprintf("counter/%d", rand.IntN(identities))) }
	var callers, chaos sync.WaitGroup
	var answers sync.WaitGroup
	var calm atomic.Bool
	for range 4 {
		callers.Go(func() {
			for i := 0; !calm.Load(); i++ {
				e := env(who().Key())
				switch i % 3 {
				case 0:
					answers.Add(1)
					if err := n.API().Post(e, func(_ []byte, err error) {
						if err != nil && !tolerable(err) {
							t.Errorf("post: %v", err)
						}
						answers.Done()
					}); err != nil {
						answers.Done()
						if !tolerable(err) && !errors.Is(err, ErrBlocked) { // a post does not wait for that
							t.Errorf("post refused: %v", err)
						}
					}
				case 1:
					if _, err := n.API().Get(t.Context(), e.Target); err != nil && !tolerable(err) {
						t.Errorf("get: %v", err)
					}
				default:
					if _, err := n.API().Send(t.Context(), e); err != nil && !tolerable(err) {
						t.Errorf("send: %v", err)
					}
				}
			}
		})
	}
	for c := range 2 {
		chaos.Go(func() {
			for i := range 3000 {
				runtime.Gosched()
				a := n.silo.find(who())
				switch {
				case c == 1 && i%50 == 0:
					n.Runtime().HandleBlockedNode("n1")
					n.Runtime().HandleUnblockedNode("n1")
				case c == 1 && i%50 == 25:
					_ = n.Runtime().SetKinds([]Kind{{"bank"}})
					_ = n.Runtime().SetKinds([]Kind{{"bank"}, {"counter"}})
				case a == nil:
				case i%7 == 0:
					a.fail(abi.NewError(abi.ErrTrap, "chaos"))
				default:
					if i%2 == 0 {
						a.gone.Store(true)
						a.req.Observer.Releasing(a.req.Lease)
					}
					a.end("idle")
				}
			}
		})
	}
	chaos.Wait()
	calm.Store(true)
	callers.Wait()
	answers.Wait()
	if n.silo.twice != 0 {
		t.Errorf("%d activations of an identity that was active", n.silo.twice)
	}
	r := n.Runtime()
	r.untilIdle(t)
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	if actors, leases := n.metrics.gauges(); actors != 0 || leases != 0 || r.cache.len() != 0 {
		t.Errorf("left: %d actors, %d leases, %d PIDs", actors, leases, r.cache.len())
	}
	started, ended := 0, 0
	alive := map[Identity]abi.Epoch{}
	for seq := uint64(0); ; {
		ev, err := sub.Next(t.Context())
		if err != nil {
			break
		}
		if seq != 0 && ev.Seq != seq+1 {
			t.Fatalf("event %d after %d", ev.Seq, seq)
		}
		seq = ev.Seq
		switch ev.Type {
		case core.ActivationStarted:
			if _, still := alive[ev.Identity]; still {
				t.Fatalf("%s started twice", ev.Identity)
			}
			alive[ev.Identity] = ev.Epoch
			started++
		case core.ActivationFailed, core.ActivationTerminated:
			delete(alive, ev.Identity)
			ended++
		}
	}
	if len(alive) != 0 || started == 0 {
		t.Errorf("%d started, %d ended, %d never", started, ended, len(alive))
	}
	t.Logf("%d activations, %d started, %d ended", n.silo.activations(), started, ended)
}

// untilIdle waits until nothing of messages is left: a courier goes after its last message has been answered.
func (r *Runtime) untilIdle(t *testing.T) {
	t.Helper()
	until(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.waits) == 0 && len(r.mail) == 0 && r.couriers.Load() == 0
	})
}

// tolerable is what callers may meet while kinds come and go, and activations fail.
func tolerable(err error) bool {
	return errors.Is(err, ErrKindNotRegistered) || errors.Is(err, abi.ErrTrap)
}
