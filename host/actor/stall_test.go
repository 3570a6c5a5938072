package actor

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// errNoRoom is what an instance's turn answers that did not begin.
var errNoRoom = abi.NewError(abi.ErrOverloaded, "no room")

// busy is a permitted actor "a" with turns that are written down. A call "set" sets a timer for two seconds on, and asks an actor that answers
// after three.
func busy(t *testing.T, may func(*abi.Event) error) (w *world, a *Activation, p *pass, turns func() string) {
	var had []string
	var began time.Time
	w, a, p = permitted(t, func(_ *Host, ev *abi.Event, out *abi.Output) error {
		if err := may(ev); err != nil {
			return err
		}
		name := ev.Method
		if ev.Tag == abi.EventTimer {
			name = ev.Timer
		}
		if ev.Tag == abi.EventPassivate {
			name = ev.Reason
		}
		had = append(had, fmt.Sprintf("%s %s %s", time.Since(began), ev.Tag, name))
		switch {
		case ev.Method == "set" && ev.Tag == abi.EventCall:
			return effects(out, abi.Effect{Tag: abi.EffectReply, Token: ev.Token},
				abi.Effect{Tag: abi.EffectRemind, Name: "once", After: 2 * time.Second},
				abi.Effect{Tag: abi.EffectCall, Handle: 7, Target: w.id("slow"), Method: "ask"})
		case ev.Tag == abi.EventCall:
			return reply(out, "x")
		}
		return effects(out)
	})
	began = time.Now()
	w.define("slow", func(_ *Host, _ *abi.Event, out *abi.Output) error {
		time.Sleep(3 * time.Second)
		return reply(out, "b")
	})
	if _, err := w.deliver(a, "set", time.Minute); err != nil {
		t.Fatal(err)
	}
	return w, a, p, func() string {
		synctest.Wait()
		return strings.Join(had, ", ")
	}
}

func begins(*abi.Event) error { return nil }

// tell posts a one-way message to "a".
func (w *world) tell(a *Activation, method string) {
	w.t.Helper()
	m := w.env("a", method, "", time.Hour)
	m.Flags = abi.OneWay
	if err := a.Post(m, nil); err != nil {
		w.t.Fatal(err)
	}
}

// A timer and a completion that come due while the session has lapsed have their turns when it is back, however long that took.
func TestLapseKeepsTimersAndCompletions(t *testing.T) {
	for _, lapse := range []time.Duration{4 * time.Second, 20 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w, a, p, turns := busy(t, begins)
			time.Sleep(time.Second)
			p.set(passLapsed)
			time.Sleep(lapse)
			p.set(nil)
			time.Sleep(time.Minute)
			got := turns()
			if n := strings.Count(got, "timer once"); n != 1 {
				t.Errorf("after %s: %d turns of the timer: %s", lapse, n, got)
			}
			if n := strings.Count(got, "completion ask"); n != 1 {
				t.Errorf("after %s: %d completions: %s", lapse, n, got)
			}
			if st := a.Status(); st.Busy || st.Queued+st.Timers+st.Calls > 0 || len(w.ended()) > 0 {
				t.Errorf("after %s: %+v, %d activations ended", lapse, st, len(w.ended()))
			}
		})
	}
}

// The completion that waits is the first when the session is back, and what came behind it keeps its order. No more messages wait than may.
func TestLapseKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, p, turns := busy(t, begins)
		a.cfg.Limits.Mailbox = 2
		time.Sleep(2500 * time.Millisecond) // the timer has had its turn
		p.set(passLapsed)
		time.Sleep(time.Second)
		w.tell(a, "one")
		time.Sleep(time.Minute) // many turn limits
		w.tell(a, "two")
		full := w.env("a", "three", "", time.Hour)
		full.Flags = abi.OneWay
		wantCode(t, a.Post(full, nil), abi.ErrMailboxFull)
		p.set(nil)
		time.Sleep(time.Minute)
		const want = "0s call set, 2s timer once, 1m3.5s completion ask, 1m3.5s message one, 1m3.5s message two"
		if got := turns(); got != want {
			t.Errorf("turns: %s\nwant:  %s", got, want)
		}
	})
}

// An activation ends while an event of its own waits for the session: at once if it is revoked, after a turn's time if it is stopped, and if it
// is surrendered once the event has had its turn.
func TestLapseDoesNotHoldTheEnd(t *testing.T) {
	for _, c := range []struct {
		how   string
		end   func(w *world, a *Activation)
		after time.Duration
		want  string // of the turns
	}{
		{"revoke", func(_ *world, a *Activation) { a.Revoke() }, 0, ""},
		{"patience", func(w *world, a *Activation) { a.Stop("shutdown"); w.cancel() }, 0, ""},
		{"stop", func(_ *world, a *Activation) { a.Stop("shutdown") }, 10 * time.Second, ""},
		{"surrender", func(_ *world, a *Activation) { a.Surrender("moved", true) }, 30 * time.Second, ", 52.5s completion ask, 52.5s passivate moved"},
	} {
		t.Run(c.how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a, p, turns := busy(t, begins)
				time.Sleep(2500 * time.Millisecond)
				p.set(passLapsed)
				time.Sleep(20 * time.Second)
				time.AfterFunc(30*time.Second, func() { p.set(nil) })
				began := time.Now()
				w.mu.Lock()
				ended := w.going[a]
				w.mu.Unlock()
				c.end(w, a)
				<-ended
				if d := time.Since(began); d > c.after {
					t.Errorf("it ended after %s", d)
				}
				if got, want := turns(), "0s call set, 2s timer once"+c.want; got != want {
					t.Errorf("turns: %s\nwant:  %s", got, want)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// A message that waits for the session holds no shutdown up, however long the turns of its kind may be.
func TestLapseOfAMessageDoesNotHoldTheEnd(t *testing.T) {
	for _, how := range []string{"revoke", "patience"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a, p := permitted(t, func(_ *Host, _ *abi.Event, out *abi.Output) error { return effects(out) })
				a.cfg.Limits.Turn = time.Hour
				p.set(passLapsed)
				w.tell(a, "m")
				synctest.Wait()
				w.mu.Lock()
				ended := w.going[a]
				w.mu.Unlock()
				began := time.Now()
				if how == "revoke" {
					a.Revoke()
				} else {
					a.Stop("shutdown")
					w.cancel()
				}
				<-ended
				if d := time.Since(began); d > 0 {
					t.Errorf("it ended after %s", d)
				}
			})
		})
	}
}

// Nor does a turn that waits for the session in its midst, or at its end.
func TestLapseOfATurnDoesNotHoldTheEnd(t *testing.T) {
	for _, midst := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var p *pass
			w, a, pp := permitted(t, func(h *Host, _ *abi.Event, out *abi.Output) error {
				p.set(passLapsed)
				if midst {
					if err := h.Permitted(); err != nil {
						return err
					}
				}
				return effects(out)
			})
			p = pp
			a.cfg.Limits.Turn = time.Hour
			w.tell(a, "m")
			synctest.Wait()
			w.mu.Lock()
			ended := w.going[a]
			w.mu.Unlock()
			began := time.Now()
			a.Revoke()
			w.cancel()
			<-ended
			if d := time.Since(began); d > 0 {
				t.Errorf("in its midst %t: it ended after %s", midst, d)
			}
		})
	}
}

// Calls behind messages that wait for the session are told at once, those that stand there and those that come; none has its turn before the
// messages.
func TestLapseTellsCallsBehindMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns []string
		w, a, p := permitted(t, func(_ *Host, ev *abi.Event, out *abi.Output) error {
			turns = append(turns, ev.Method)
			return reply(out, "x")
		})
		start := w.start[w.id("a")]
		a.cfg.Start = func(h *Host, _ []byte) (Instance, error) { time.Sleep(time.Second); return start(h) }
		p.set(passLapsed)
		began := time.Now()
		told := make(chan string, 10)
		call := func(method string) {
			w.work.Go(func() {
				_, err := w.deliver(a, method, 10*time.Second)
				told <- fmt.Sprintf("%s %s %s", method, abi.CodeOf(err).String(), time.Since(began))
			})
			synctest.Wait()
		}
		for _, m := range []string{"m1", "m2", "m3"} {
			w.tell(a, m)
		}
		call("c1") // these wait for the start
		call("c2")
		time.Sleep(2 * time.Second)
		call("c3")
		var got []string
		for range 3 {
			got = append(got, <-told)
		}
		slices.Sort(got)
		if s := strings.Join(got, ", "); s != "c1 no_quorum 1s, c2 no_quorum 1s, c3 no_quorum 2s" {
			t.Error(s)
		}
		if w.waits.Len() != 0 {
			t.Errorf("%d actors wait", w.waits.Len())
		}
		p.set(nil)
		if s, err := w.deliver(a, "c4", time.Minute); s != "x" || err != nil {
			t.Error(s, err)
		}
		if s := strings.Join(turns, " "); s != "m1 m2 m3 c4" {
			t.Errorf("turns: %s", s)
		}
	})
}

// A timer and a completion for whose turn there is no room are tried again, now and then; calls are told of it meanwhile.
func TestNoRoomKeepsTimersAndCompletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		var tries atomic.Int32
		w, a, _, turns := busy(t, func(*abi.Event) error {
			if full.Load() {
				tries.Add(1)
				return errNoRoom
			}
			return nil
		})
		time.Sleep(time.Second)
		full.Store(true)
		time.Sleep(9*time.Second + againAfter/2)
		w.tell(a, "m")
		_, err := w.deliver(a, "c", time.Minute)
		wantCode(t, err, abi.ErrOverloaded)
		full.Store(false)
		time.Sleep(time.Second)
		// The timer comes behind the completion that is tried again.
		if got, want := turns(), "0s call set, 10.1s completion ask, 10.1s timer once, 10.1s message m"; got != want {
			t.Errorf("turns: %s\nwant:  %s", got, want)
		}
		if most := int32(9*time.Second/againAfter) + 2; tries.Load() > most {
			t.Errorf("tried %d times, which should be %d at most", tries.Load(), most)
		}
		if st := a.Status(); st.Busy || st.Queued+st.Timers+st.Calls > 0 || len(w.ended()) > 0 {
			t.Errorf("%+v, %d activations ended", st, len(w.ended()))
		}
	})
}

// Nor does it hold the end up.
func TestNoRoomDoesNotHoldTheEnd(t *testing.T) {
	for _, stop := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var full atomic.Bool
			w, a, _, _ := busy(t, func(*abi.Event) error {
				if full.Load() {
					return errNoRoom
				}
				return nil
			})
			time.Sleep(time.Second)
			full.Store(true)
			time.Sleep(9*time.Second + againAfter/2)
			w.mu.Lock()
			ended := w.going[a]
			w.mu.Unlock()
			began := time.Now()
			if stop {
				a.Stop("shutdown")
			} else {
				a.Revoke()
			}
			<-ended
			if d := time.Since(began); d > againAfter || !stop && d > 0 {
				t.Errorf("stopped %t: it ended after %s", stop, d)
			}
		})
	}
}
