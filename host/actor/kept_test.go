package actor

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// A surrendered actor has its timers again when it is woken: what came due in between comes at once and in order, and a repeating one
// keeps its rhythm.
func TestTimersGoWithASurrender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began time.Time
		var events []string
		w := sleepy(t, func(y *tally) {
			y.turn = func(y *tally, ev *abi.Event, out *abi.Output) error {
				s := fmt.Sprint(time.Since(began).Seconds(), " ", ev.Tag, " ", ev.Timer)
				if ev.Payload != nil {
					s += "=" + string(ev.Payload)
				}
				events = append(events, s)
				if ev.Method != "set" {
					return effects(out, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
				}
				return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "late", After: 20 * time.Second},
					abi.Effect{Tag: abi.EffectRemind, Name: "every", After: 2 * time.Second, Every: 2 * time.Second, Payload: []byte{}},
					abi.Effect{Tag: abi.EffectRemind, Name: "aonce", After: 4500 * time.Millisecond, Payload: []byte("p")},
					abi.Effect{Tag: abi.EffectRemind, Name: "gone", After: 5 * time.Second},
					abi.Effect{Tag: abi.EffectCancel, Name: "gone"},
					abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			}
		})
		began = time.Now()
		if _, err := w.call("a", "set", "", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		a := w.at(w.id("a"))
		if a.Hibernate("idle") {
			t.Error("an actor with timers was hibernated for being idle")
		}
		if _, done := a.Surrender("moved", true); !done {
			t.Fatal("it was not surrendered")
		}
		w.work.Wait()
		if kept := w.shelf.kept[w.id("a")]; !Timed(kept) {
			t.Errorf("%x has no timers", kept)
		}
		time.Sleep(8 * time.Second)
		w.want("a", "")
		if st := w.at(w.id("a")).Status(); st.Timers == 0 {
			t.Errorf("%+v", st)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		got, want := strings.Join(events, ", "), "0 call =, 2 timer every=, "+
			"11 call =, 11 timer every=, 11 timer aonce=p, 12 timer every=, 14 timer every=, 16 timer every=, 18 timer every=, 20 timer late, 20 timer every="
		if other := strings.Replace(want, "20 timer late, 20 timer every=", "20 timer every=, 20 timer late", 1); got != want && got != other {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

// An actor wakes for its timers without a message. If it cannot be woken just now nothing is lost, and an instance that stands is left alone.
func TestWakeForTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ticks atomic.Int64
		var reason atomic.Value
		w := sleepy(t, func(y *tally) {
			y.turn = func(y *tally, ev *abi.Event, out *abi.Output) error {
				if ev.Self != nil {
					reason.Store(ev.Tag.String() + " " + ev.Self.Reason)
				}
				if ev.Tag == abi.EventTimer {
					ticks.Add(1)
					return effects(out)
				}
				return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "t", After: time.Second, Every: time.Second},
					abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			}
		})
		w.want("a", "")
		w.at(w.id("a")).Surrender("moved", true)
		w.work.Wait()
		good := w.wake[w.id("a")]
		w.wake[w.id("a")] = func(*Host, []byte) (Instance, error) { return nil, abi.NewError(abi.ErrOverloaded, "no slot") }
		w.at(w.id("a")).Wake()
		w.work.Wait()
		if len(w.all()) != 0 || w.shelf.len() != 1 {
			t.Errorf("%d activations, %d kept", len(w.all()), w.shelf.len())
		}
		w.wake[w.id("a")] = good
		a := w.at(w.id("a"))
		a.Wake()
		a.Wake()
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		if n := ticks.Load(); n != 3 || reason.Load() != "timer wake" || w.starts != 2 {
			t.Errorf("%d ticks, %d starts, %v", n, w.starts, reason.Load())
		}
	})
}

// Another node's clock that is ahead makes a timer early, and one that is behind makes it no later than if it had stood still.
func TestTimersByAnotherClock(t *testing.T) {
	for off, want := range map[time.Duration]time.Duration{0: 20 * time.Minute, time.Hour: 0, -time.Hour: 30 * time.Minute, 15 * time.Minute: 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			var due atomic.Pointer[time.Time]
			w := sleepy(t, func(y *tally) {
				y.turn = func(y *tally, ev *abi.Event, out *abi.Output) error {
					if ev.Tag == abi.EventTimer {
						now := time.Now()
						due.Store(&now)
						return effects(out)
					}
					return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "t", After: 30 * time.Minute}, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
				}
			})
			w.want("a", "")
			w.at(w.id("a")).Surrender("moved", true)
			w.work.Wait()
			time.Sleep(10 * time.Minute)
			w.wall = func(t time.Time) time.Time { return t.Add(off) }
			woken := time.Now()
			w.at(w.id("a")).Wake()
			time.Sleep(time.Hour)
			synctest.Wait()
			if at := due.Load(); at == nil || at.Sub(woken) != want {
				t.Errorf("off by %v: due at %v, woken at %v", off, at, woken)
			}
		})
	}
}

// Without its state an actor has no timers elsewhere.
func TestTimersEndWithAPassivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := ticking(w, "a")
		if _, err := w.call("a", "m", "", time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, done := w.at(w.id("a")).Surrender("moved", true); !done {
			t.Fatal("it was not surrendered")
		}
		w.work.Wait()
		before := n.every.Load()
		time.Sleep(time.Minute)
		if n.every.Load() != before {
			t.Error("it ticks after its end")
		}
	})
}

// A node whose limits are lower than those of the one that an actor comes from does not start it, and does not lose it either.
func TestTimersBeyondTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := true
		w := sleepy(t, func(y *tally) {
			y.turn = func(y *tally, ev *abi.Event, out *abi.Output) error {
				es := []abi.Effect{{Tag: abi.EffectReply, Token: ev.Token}}
				if set {
					es = append(es, abi.Effect{Tag: abi.EffectRemind, Name: "a", After: time.Hour, Payload: make([]byte, 100)},
						abi.Effect{Tag: abi.EffectRemind, Name: "b", After: time.Hour})
				}
				return effects(out, es...)
			}
		})
		w.want("a", "")
		w.at(w.id("a")).Surrender("moved", true)
		w.work.Wait()
		set = false
		enough := w.limits
		for _, lower := range []func(l *Limits){func(l *Limits) { l.MaxTimers = 1 }, func(l *Limits) { l.MaxMessage = 99 }} {
			lower(&w.limits)
			_, err := w.call("a", "m", "", time.Minute)
			if wantCode(t, err, abi.ErrActivationFailed); w.shelf.len() != 1 || !strings.Contains(err.Error(), "the limit is") {
				t.Errorf("%v; %d are kept", err, w.shelf.len())
			}
			w.work.Wait()
			w.limits = enough
		}
		w.want("a", "")
		if n := w.at(w.id("a")).Status().Timers; n != 2 {
			t.Errorf("%d timers are left", n)
		}
	})
}

var (
	someKept = kept{at: time.Unix(1, 5), token: 300, state: []byte("state"), timers: []keptTimer{
		{"a", -time.Second, 0, nil}, {"b", time.Hour, time.Millisecond, []byte{}}, {"ü", abi.MaxDuration, abi.MaxDuration, []byte("payload")}}}
	keptLimits = Limits{MaxTimers: 10, MaxMessage: 1000}
)

// What is kept without timers is as it ever was. With timers, who does not know of them reads no number where one should begin.
func TestKept(t *testing.T) {
	plain := kept{token: 300, state: []byte("state")}
	for _, c := range []struct {
		k     kept
		bytes string
	}{
		{plain, "\xac\x02"},
		{kept{at: time.Unix(0, 3), token: 2, timers: []keptTimer{{"t", 5, time.Millisecond, []byte("p")}}},
			"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02" + "\x06" + "\x01" + "\x01t\x0a\xc0\x84\x3d\x02p" + "\x02"},
		{someKept, ""},
	} {
		b := c.k.appendTo(nil)
		if c.bytes != "" && string(b) != c.bytes {
			t.Errorf("%x, want %x", b, c.bytes)
		}
		if _, n := binary.Uvarint(b); n > 0 == Timed(b) || Timed(b) != (len(c.k.timers) > 0) {
			t.Errorf("%x begins with a number of %d bytes, timed %v", b, n, Timed(b))
		}
		got, err := readKept(append(b, c.k.state...), &keptLimits)
		if err != nil || string(got.state) != string(c.k.state) || got.token != c.k.token || !reflect.DeepEqual(got.timers, c.k.timers) ||
			len(c.k.timers) > 0 && !got.at.Equal(c.k.at) {
			t.Errorf("%+v, %v, want %+v", got, err, c.k)
		}
	}
}

func TestKeptDamaged(t *testing.T) {
	whole := someKept.appendTo(nil)
	for n := range whole {
		if _, err := readKept(whole[:n], &keptLimits); abi.CodeOf(err) != abi.ErrStateUnusable {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	with := func(ts ...keptTimer) []byte {
		k := someKept
		k.timers = ts
		return k.appendTo(nil)
	}
	head := append([]byte(timedMark), 2)
	for what, b := range map[string][]byte{
		"another mark":   append([]byte(timedMark[:9]), 3, 0, 0, 0),
		"no timers":      append(head, 0, 1),
		"order":          with(keptTimer{name: "b"}, keptTimer{name: "a"}),
		"a name twice":   with(keptTimer{name: "a"}, keptTimer{name: "a"}),
		"no name":        with(keptTimer{}),
		"a long name":    with(keptTimer{name: strings.Repeat("n", abi.MaxTimerNameLen+1)}),
		"no UTF-8":       with(keptTimer{name: "\xff"}),
		"too far":        with(keptTimer{name: "a", left: abi.MaxDuration + 1}),
		"too late":       with(keptTimer{name: "a", left: -abi.MaxDuration - 1}),
		"too often":      with(keptTimer{name: "a", every: 1}),
		"too seldom":     with(keptTimer{name: "a", every: abi.MaxDuration + 1}),
		"a huge payload": append(head, 1, 1, 'a', 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"a huge count":   binary.AppendUvarint(head, 1<<60),
	} {
		if _, err := readKept(b, &keptLimits); abi.CodeOf(err) != abi.ErrStateUnusable || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whatever comes as what was kept, it is refused with one of the errors there are, or says the same when it is written again.
func FuzzKept(f *testing.F) {
	whole := append(someKept.appendTo(nil), someKept.state...)
	f.Add(whole)
	f.Add(whole[:30])
	f.Add([]byte("\x05state"))
	f.Add([]byte(timedMark))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := readKept(b, &keptLimits)
		if err != nil {
			if c := abi.CodeOf(err); c != abi.ErrStateUnusable && c != abi.ErrLimitExceeded {
				t.Fatal(err)
			}
			return
		}
		if len(k.timers) > keptLimits.MaxTimers {
			t.Errorf("%d timers", len(k.timers))
		}
		again, err := readKept(append(k.appendTo(nil), k.state...), &keptLimits)
		if err != nil || !reflect.DeepEqual(again, k) {
			t.Errorf("%x is %+v, and then %+v, %v", b, k, again, err)
		}
	})
}
