package actor

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// The times in effects count from when they are applied, the end of the turn, however long that took.
func TestEffectsCountFromTheEndOfTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		var mu sync.Mutex
		var got []string
		note := func(what string) int {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%s@%v", what, time.Since(began)))
			return len(got)
		}
		w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
			note(fmt.Sprintf("asked with %v", ev.Remaining))
			return effects(out) // never answers
		})
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			switch ev.Tag {
			case abi.EventTimer:
				if note(ev.Timer) < 5 {
					return effects(out)
				}
				return effects(out, abi.Effect{Tag: abi.EffectCancel, Name: "tick"})
			case abi.EventCompletion:
				note(abi.CodeOf(ev.Err).String())
				return effects(out)
			}
			time.Sleep(4 * time.Second)
			return effects(out, abi.Effect{Tag: abi.EffectReply, Token: ev.Token},
				abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("b"), Method: "m", Timeout: 2500 * time.Millisecond},
				abi.Effect{Tag: abi.EffectRemind, Name: "tick", After: time.Second, Every: time.Second})
		})
		if _, err := w.call("a", "m", "", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := strings.Join(got, " "); s != "asked with 2.5s@4s tick@5s tick@6s timeout@6.5s tick@7s" {
			t.Errorf("%s", s)
		}
	})
}

// A deferred reply expires at its caller's deadline, not a turn later.
func TestADeferredPostExpiresOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			time.Sleep(4 * time.Second)
			return effects(out)
		})
		began := time.Now()
		done := make(chan error, 1)
		if err := w.Post(w.env("a", "m", "", 6*time.Second), func(_ []byte, err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		wantCode(t, <-done, abi.ErrTimeout)
		if d := time.Since(began); d != 6*time.Second {
			t.Errorf("it ended after %v", d)
		}
	})
}

// The event of a timer that was cancelled while it waited is none of the timer's that has its name now.
func TestANameThatIsSetAgainHasATimerOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		var got []string
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			if ev.Tag == abi.EventTimer {
				got = append(got, fmt.Sprintf("%s@%v", ev.Payload, time.Since(began)))
				return effects(out)
			}
			es := []abi.Effect{{Tag: abi.EffectReply, Token: ev.Token}}
			if ev.Method == "again" {
				time.Sleep(2 * time.Second) // the first one fires meanwhile, and waits
				es = append(es, abi.Effect{Tag: abi.EffectCancel, Name: "t"})
			}
			return effects(out, append(es, abi.Effect{Tag: abi.EffectRemind, Name: "t", After: time.Second, Payload: []byte(ev.Method)})...)
		})
		for _, m := range []string{"first", "again"} {
			if _, err := w.call("a", m, "", time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := strings.Join(got, " "); s != "again@3s" {
			t.Errorf("timers %s", s)
		}
	})
}

// Timers are counted as the effects leave them: one that is cancelled makes room for another.
func TestACancelledTimerMakesRoom(t *testing.T) {
	w := newWorld(t)
	w.limits.MaxTimers = 2
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		var es []abi.Effect
		for _, c := range ev.Method {
			name, tag := strings.ToLower(string(c)), abi.EffectRemind
			if name != string(c) {
				tag = abi.EffectCancel
			}
			es = append(es, abi.Effect{Tag: tag, Name: name, After: time.Hour})
		}
		return effects(out, append(es, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})...)
	})
	for _, step := range []struct { // small letters set, capitals cancel
		names string
		left  int
	}{{"ab", 2}, {"Ac", 2}, {"bcBb", 2}, {"BCxX", 0}, {"xyXYxy", 2}} {
		if _, err := w.call("a", step.names, "", time.Minute); err != nil {
			t.Fatalf("%s: %v", step.names, err)
		}
		if n := w.at(w.id("a")).Status().Timers; n != step.left {
			t.Errorf("%s: %d timers, want %d", step.names, n, step.left)
		}
	}
	_, err := w.call("a", "Xabx", "", time.Minute)
	wantCode(t, err, abi.ErrLimitExceeded)
}

// An actor whose timer is always due stops all the same, and timers run on while a deferred reply needs them.
func TestStopWithABusyTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ticks := 0
		var token uint64
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			switch ev.Tag {
			case abi.EventTimer:
				time.Sleep(3 * time.Millisecond) // the next one is due before this one has ended
				if ticks++; ticks == 100 {
					return effects(out, abi.Effect{Tag: abi.EffectReply, Token: token, Payload: []byte("late")})
				}
			case abi.EventCall:
				token = ev.Token
				return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "t", Every: time.Millisecond})
			}
			return effects(out)
		})
		got := make(chan string, 1)
		if err := w.Post(w.env("a", "m", "", time.Minute), func(b []byte, err error) { got <- fmt.Sprint(string(b), err) }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.at(w.id("a")).Stop("shutdown")
		if s := <-got; s != "late<nil>" {
			t.Errorf("%s", s)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if ends := w.ended(); len(ends) != 1 || ends[0].Reason != "shutdown" {
			t.Errorf("ends %+v after %d ticks", ends, ticks)
		}
	})
}

// Once an activation is to stop there is no successor: what comes during its last turn, or is left by a turn that breaks,
// has its turn on a new instance in the same place.
func TestStopLeavesNothingToASuccessor(t *testing.T) {
	for _, how := range []string{"passivated", "trap", "inline trap", "goexit"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			var instances atomic.Int32
			gate, entered := make(chan struct{}), make(chan struct{})
			var got []string
			w.start[w.id("a")] = func(h *Host) (Instance, error) {
				instances.Add(1)
				first := true
				return &guest{host: h, turn: func(h *Host, ev *abi.Event, out *abi.Output) error {
					if (ev.Self != nil) != first {
						t.Errorf("self %v", ev.Self)
					}
					first = false
					what := ev.Tag.String() + " " + ev.Method + ev.Reason
					got = append(got, what)
					if len(got) == 2 {
						close(entered)
						<-gate
						switch {
						case how == "goexit":
							runtime.Goexit()
						case ev.Method == "trap":
							return abi.NewError(abi.ErrTrap, "boom")
						}
					}
					if ev.Tag == abi.EventCall {
						return effects(out, abi.Effect{Tag: abi.EffectReply, Token: ev.Token},
							abi.Effect{Tag: abi.EffectRemind, Name: "never", After: time.Hour}, abi.Effect{Tag: abi.EffectCancel, Name: "never"})
					}
					return effects(out)
				}}, nil
			}
			if _, err := w.call("a", "m", "", time.Minute); err != nil {
				t.Fatal(err)
			}
			a := w.at(w.id("a"))
			switch how {
			case "passivated":
				if !a.Passivate("idle") {
					t.Fatal("not idle")
				}
			case "inline trap", "goexit":
				w.work.Go(func() { w.call("a", "trap", "", time.Minute) })
			default:
				if err := w.Post(w.env("a", "trap", "", time.Minute), nil); err != nil {
					t.Fatal(err)
				}
			}
			<-entered
			tell := w.env("a", "tell", "", time.Minute)
			tell.Flags = abi.OneWay
			if err := w.Post(tell, nil); err != nil {
				t.Fatal(err)
			}
			call := w.ask("a", "call")
			w.queued("a", 2)
			a.Stop("shutdown")
			a.Stop("again")
			close(gate)
			if s := <-call; s != "" {
				t.Errorf("%s", s)
			}
			w.work.Wait()
			second := map[string]string{"passivated": "passivate idle"}[how]
			if second == "" {
				second = "call trap"
			}
			want := "call m, " + second + ", message tell, call call, passivate shutdown"
			if s := strings.Join(got, ", "); s != want || instances.Load() != 2 {
				t.Errorf("%d instances: %s\nwant %s", instances.Load(), s, want)
			}
			if ends := w.ended(); len(ends) != 1 || ends[0].Reason != "shutdown" || ends[0].Backlog.Len() != 0 {
				t.Errorf("ends %+v", ends)
			}
		})
	}
}

// Whoever is owed a reply when the actor has to go is told that it will not come, and not that nothing was done.
func TestRevokeAnswersDeferredCallers(t *testing.T) {
	w := newWorld(t)
	deferred := make(chan struct{})
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "m" {
			return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("b"), Method: "m"},
				abi.Effect{Tag: abi.EffectRemind, Name: "t", After: time.Hour})
		}
		close(deferred)
		return effects(out)
	})
	w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error { return effects(out) })
	results := make(chan error, 2)
	for _, m := range []string{"m", "last"} {
		env := w.env("a", m, "", time.Minute)
		env.Chain = []abi.Identity{w.id("caller" + m)}
		if err := w.Post(env, func(_ []byte, err error) { results <- err }); err != nil {
			t.Fatal(err)
		}
	}
	<-deferred
	w.at(w.id("a")).Revoke()
	for range 2 {
		err := <-results
		wantCode(t, err, abi.ErrOutcomeUnknown)
		if abi.CodeOf(err).Retryable() || !strings.Contains(err.Error(), "revoked") || !strings.Contains(err.Error(), "outcome is unknown") {
			t.Errorf("%v", err)
		}
	}
}

// One-way posts are done as soon as they are accepted.
func TestAOneWayPostIsDoneOnce(t *testing.T) {
	w := newWorld(t)
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error { return effects(out) })
	env := w.env("a", "m", "", time.Minute)
	env.Flags = abi.OneWay
	n := 0
	if err := w.Post(env, func(b []byte, err error) {
		if n++; b != nil || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	}); err != nil || n != 1 {
		t.Errorf("%v, done %d times", err, n)
	}
}

// A burst leaves an idle actor as it was before.
func TestAnIdleActorHoldsLittle(t *testing.T) {
	w := newWorld(t)
	gate, entered := make(chan struct{}), make(chan struct{})
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "block" {
			close(entered)
			<-gate
		}
		if ev.Tag != abi.EventCall {
			return effects(out)
		}
		es := []abi.Effect{{Tag: abi.EffectReply, Token: ev.Token, Payload: make([]byte, 1000)}}
		for i := range 20 {
			es = append(es, abi.Effect{Tag: abi.EffectCall, Handle: ev.Token*100 + uint64(i), Target: w.id("b"), Method: "m"})
		}
		return effects(out, es...)
	})
	w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error { return reply(out, "") })
	block := w.ask("a", "block")
	<-entered
	for range 40 {
		if err := w.Post(w.env("a", "m", strings.Repeat("x", 1000), time.Minute), nil); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	<-block
	a := w.at(w.id("a"))
	w.work.Wait() // every runner has ended
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue.ring) > keepRing || a.calls != nil || a.deferred != nil || a.timers != nil || a.host.started != nil ||
		a.ev.Payload != nil || a.out.Payload != nil || a.out.Effects != nil {
		t.Errorf("ring of %d, calls %v, deferred %v, timers %v, started %v, ev %+v, out %+v", len(a.queue.ring), a.calls, a.deferred,
			a.timers, a.host.started, a.ev, a.out)
	}
}
