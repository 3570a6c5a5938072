package silo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
)

// Actors that wait for something are passed over, however long they have been idle.
func TestEvictionPassesOverWhoeverCannotGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, func(c *Config, k *Kind) { c.MaxActors = 40 })
		n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			out.Kind = abi.OutEffects
			if ev.Method == "timer" {
				out.Effects = []abi.Effect{{Tag: abi.EffectRemind, Name: "t", After: time.Hour}}
			}
			if ev.Tag == abi.EventCall && ev.Method != "defer" {
				out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			}
			return nil
		}
		for i := range 30 {
			n.must(numbered("timer", i), "timer", "")
			time.Sleep(time.Second)
		}
		for i := range 5 {
			if err := n.api.Post(n.env(numbered("defer", i), "defer", ""), nil); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 5 {
			n.must(numbered("idle", i), "m", "")
		}
		time.Sleep(time.Second)
		for i := range 5 {
			n.must(numbered("new", i), "m", "")
			synctest.Wait()
		}
		if got := n.passivated(); len(got) != 5 || slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(s, "idle") }) {
			t.Errorf("passivated %q", got)
		}
		_, err := n.silo.Activate(activation("late")) // everybody else was used just now, or waits
		if abi.CodeOf(err) != abi.ErrOverloaded {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Minute) // the deferred replies have expired
	})
}

// One large actor takes the room of as many small ones as it needs, and no more.
func TestEvictionMakesRoomForALargeActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, func(c *Config, k *Kind) { c.Room = func() (int64, int64) { return 100 * k.Cost, 10 * k.Cost } })
		for i := range 100 {
			n.must(numbered("a", i), "m", "")
		}
		time.Sleep(time.Second)
		small := n.kind
		large := *small
		large.Cost = 70 * small.Cost
		n.kind = &large
		n.must("large", "m", "")
		synctest.Wait()
		if st := n.silo.Stats(); st.Activations != 31 || st.Bytes != 100*small.Cost || st.Evictions != 70 {
			t.Errorf("%+v", st)
		}
		large2 := large
		large2.Cost = 200 * small.Cost
		n.kind = &large2
		if _, err := n.silo.Activate(activation("too large")); abi.CodeOf(err) != abi.ErrOverloaded {
			t.Errorf("%v", err)
		}
	})
}

// However many come at once, the figures end where they belong, and a full silo with idle actors in it refuses nobody.
func TestAdmissionIsExactUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, func(c *Config, k *Kind) { c.MaxActors = 50 })
		for i := range 50 {
			n.must(numbered("old", i), "m", "")
		}
		time.Sleep(minIdle) // they may be evicted now, and those who come may not
		const callers, each = 4, 5
		var wg sync.WaitGroup
		for caller := range callers {
			wg.Go(func() {
				for i := range each {
					if _, err := n.call(numbered(fmt.Sprint("new", caller), i), "m", ""); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		// 20 came, and as many went, but for one of each of the others that looked at the same moment.
		st := n.silo.Stats()
		if st.Evictions < callers*each || st.Evictions >= callers*each+callers {
			t.Errorf("%+v", st)
		}
		if err := n.silo.PassivateIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := n.silo.Stats(); st.Activations != 0 || st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// recorder is an observer that only counts.
type recorder struct {
	mu                          sync.Mutex
	started, failed, terminated int
}

func (r *recorder) Started(cluster.Lease)            { r.mu.Lock(); r.started++; r.mu.Unlock() }
func (r *recorder) Releasing(cluster.Lease)          {}
func (r *recorder) Failed(cluster.Lease, error)      { r.mu.Lock(); r.failed++; r.mu.Unlock() }
func (r *recorder) Terminated(cluster.Lease, string) { r.mu.Lock(); r.terminated++; r.mu.Unlock() }

// An activation that is admitted while the drain begins is drained too: either it is refused, or it ends, and every end
// has been told when the drain returns.
func TestActivateDuringDrain(t *testing.T) {
	for range 200 {
		n := newNode(t, nil)
		s := New(n.silo.cfg)
		s.Open(n.api)
		obs := &recorder{}
		begin := make(chan struct{})
		admitted := make(chan int, 2)
		var wg sync.WaitGroup
		for g := range 2 {
			wg.Go(func() {
				<-begin
				some := 0
				for i := range 5 {
					req := activation(numbered(fmt.Sprint("g", g), i))
					req.Observer = obs
					if _, err := s.Activate(req); err == nil {
						some++
					} else if abi.CodeOf(err) != abi.ErrShuttingDown {
						t.Error(err)
					}
				}
				admitted <- some
			})
		}
		close(begin)
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if some := <-admitted + <-admitted; some != obs.terminated+obs.failed {
			t.Errorf("%d admitted, %d ended", some, obs.terminated)
		}
		if _, err := s.Activate(activation("late")); abi.CodeOf(err) != abi.ErrShuttingDown {
			t.Errorf("%v", err)
		}
		for range 2 {
			wg.Go(s.Close)
		}
		wg.Wait()
		n.silo.Drain(t.Context())
	}
}

// A drain that runs out of time cuts off what hot actors still have, and says so.
func TestDrainCutsOffWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			out.Kind = abi.OutEffects
			switch {
			case ev.Method == "spin", ev.Tag == abi.EventMessage: // for ever, with another message in the mailbox while one is on its way there
				time.Sleep(7 * time.Millisecond)
				again := abi.Effect{Tag: abi.EffectTell, Target: h.Identity(), Method: "spin"}
				out.Effects = []abi.Effect{again}
				if ev.Tag == abi.EventCall {
					out.Effects = append(out.Effects, again, again)
				}
			case ev.Method == "wait":
				h.Request(&abi.Request{Target: id("owes"), Method: "owe", Timeout: time.Minute})
			case ev.Method == "owe":
				return nil
			}
			if ev.Tag == abi.EventCall {
				out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			}
			return nil
		}
		n.kind.Limits.Turn = time.Minute
		n.must("spins", "spin", "")
		waits := make(chan error, 2)
		go func() { _, err := n.call("waits", "wait", ""); waits <- err }()
		go func() { _, err := n.call("owes2", "owe", ""); waits <- err }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := n.silo.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "before they had finished: 4") {
			t.Errorf("%v", err)
		}
		if d := time.Since(began); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("it took %v", d)
		}
		for range 2 {
			if err := <-waits; abi.CodeOf(err).Retryable() {
				t.Errorf("a call whose turn has run ends in %v", err)
			}
		}
	})
}

// A native turn that heeds no deadline holds the drain up, and is named.
func TestDrainNamesWhoeverHoldsItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		n := newNode(t, func(c *Config, k *Kind) { c.Log = log.logger() })
		n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			time.Sleep(time.Minute)
			return nil
		}
		if err := n.api.Post(n.env("stubborn", "m", ""), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.silo.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if s := log.String(); strings.Count(s, "turns that do not end") != 5 || !strings.Contains(s, "k/stubborn") {
			t.Errorf("log %s", s)
		}
	})
}

// What waits at a drained actor has its turn, deferred replies come, and timers that are always due keep nobody.
func TestDrainFinishesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		var token uint64
		n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			out.Kind = abi.OutEffects
			switch {
			case ev.Timer == "answer":
				out.Effects = []abi.Effect{{Tag: abi.EffectReply, Token: token, Payload: []byte("late")}}
			case ev.Timer == "busy":
				time.Sleep(2 * time.Millisecond)
			case ev.Method == "later":
				token = ev.Token
				out.Effects = []abi.Effect{{Tag: abi.EffectRemind, Name: "answer", After: 2 * time.Second},
					{Tag: abi.EffectRemind, Name: "busy", Every: time.Millisecond}}
			default:
				out.Kind, out.Payload = abi.OutReply, ev.Payload
			}
			return nil
		}
		var mu sync.Mutex
		got := map[string]int{}
		count := func(b []byte, err error) {
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(string(b), err)]++
		}
		if err := n.api.Post(n.env("a", "later", ""), count); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if err := n.api.Post(n.env(numbered("b", i%5), "m", "x"), count); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.silo.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if got["late<nil>"] != 1 || got["x<nil>"] != 50 {
			t.Errorf("%v", got)
		}
	})
}

// Where the instances are counted by somebody else, the silo adds only those that have not started. What a kind was found to take
// counts instead of what its module promises.
func TestWhatIsCountedElsewhereCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left, typical atomic.Int64
		n := newNode(t, func(c *Config, k *Kind) {
			c.Room = func() (int64, int64) { return left.Load(), 0 }
			k.Cost, k.Counted, k.Typical = 1000, true, typical.Load
		})
		left.Store(1500)
		n.start = func() error {
			if n.silo.Coming() != 1000 {
				t.Errorf("%d bytes are to come", n.silo.Coming())
			}
			if _, err := n.silo.Activate(activation("too many")); abi.CodeOf(err) != abi.ErrOverloaded {
				t.Errorf("%v", err)
			}
			return nil
		}
		n.must("first", "m", "")
		n.start = func() error { return nil }
		typical.Store(10)
		left.Store(20)
		for i := range 10 { // nobody takes anything off what is left
			n.must(numbered("a", i), "m", "")
		}
		if n.silo.Coming() != 0 || n.silo.Stats().Bytes != 1100 {
			t.Errorf("%d bytes are to come, of %d", n.silo.Coming(), n.silo.Stats().Bytes)
		}
		left.Store(-1)
		if _, err := n.silo.Activate(activation("late")); abi.CodeOf(err) != abi.ErrOverloaded {
			t.Errorf("%v", err)
		}
	})
}
