package actor

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// ticks counts the events of two timers.
type ticks struct{ every, once atomic.Int64 }

// ticking defines an actor that sets timers when it is called, one of them faster than its turns, and counts their events.
func ticking(w *world, name string) *ticks {
	n := &ticks{}
	w.define(name, func(h *Host, ev *abi.Event, out *abi.Output) error {
		switch ev.Tag {
		case abi.EventTimer:
			time.Sleep(3 * time.Millisecond)
			if ev.Timer == "once" {
				n.once.Add(1)
			} else {
				n.every.Add(1)
			}
		case abi.EventCall:
			return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "every", Every: time.Millisecond},
				abi.Effect{Tag: abi.EffectRemind, Name: "once", After: 50 * time.Millisecond}, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
		}
		return effects(out)
	})
	return n
}

// Timers keep no activation from being surrendered, however busy they are.
func TestSurrenderWithABusyTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ticking(w, "a")
		if _, err := w.call("a", "m", "", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		if given, done := w.at(w.id("a")).Surrender("moved", false); !done || given.Len() != 0 {
			t.Errorf("%v, %d given back", done, given.Len())
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if ends := w.ended(); len(ends) != 1 || ends[0].Reason != "moved" || !ends[0].Handed {
			t.Errorf("%+v", ends)
		}
	})
}

// An activation that goes on after all, since it is told so or since its state could not be kept, has its timers still.
func TestATimerOutlivesASurrenderThatIsGivenUp(t *testing.T) {
	for _, how := range []string{"resume", "not kept"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				n := ticking(w, "a")
				if _, err := w.call("a", "m", "", time.Minute); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20*time.Millisecond + 100*time.Microsecond)
				a := w.at(w.id("a"))
				if how == "resume" {
					// In the midst of a turn, which is when it can be told.
					for !a.Status().Busy {
						time.Sleep(100 * time.Microsecond)
					}
					if _, done := a.Surrender("moved", true); !done {
						t.Fatal("it was not surrendered")
					}
					if _, done := a.Surrender("moved", true); done {
						t.Fatal("it was surrendered twice")
					}
					a.Resume()
				} else {
					a.mu.Lock()
					a.stopFor, a.handing = "moved", handsState
					events := []*own{{name: "every", gen: a.timers["every"].gen}, {name: "once", gen: a.timers["once"].gen}}
					a.mu.Unlock()
					for _, e := range events { // while their clocks run: as if they had waited in the mailbox
						if a.takeTimer(e) {
							t.Errorf("%s counts while the activation leaves", e.name)
						}
					}
					a.mu.Lock()
					a.keepOnLocked()
					a.mu.Unlock()
				}
				before := n.every.Load()
				time.Sleep(100 * time.Millisecond)
				if every, once := n.every.Load(), n.once.Load(); every < before+10 || once != 1 {
					t.Errorf("%d, then %d ticks of the one and %d of the other", before, every, once)
				}
				a.Stop("shutdown")
			})
		})
	}
}

// A timer whose clock runs out while the state of a surrendered actor is being captured is not lost if it cannot be kept.
func TestATimerDuringACaptureThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var every, once atomic.Int64
		w := sleepy(t, func(y *tally) {
			y.capture = func() error {
				time.Sleep(100 * time.Millisecond)
				return errors.New("there is no room")
			}
			y.turn = func(y *tally, ev *abi.Event, out *abi.Output) error {
				switch {
				case ev.Tag == abi.EventCall:
					return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "every", After: 50 * time.Millisecond, Every: 50 * time.Millisecond},
						abi.Effect{Tag: abi.EffectRemind, Name: "once", After: 50 * time.Millisecond}, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
				case ev.Timer == "once":
					once.Add(1)
				case ev.Timer == "every":
					every.Add(1)
				}
				return effects(out)
			}
		})
		w.want("a", "")
		a := w.at(w.id("a"))
		if _, done := a.Surrender("moved", true); !done {
			t.Fatal("it was not surrendered")
		}
		time.Sleep(time.Second + 10*time.Millisecond)
		if once.Load() != 1 || every.Load() < 15 || a.Status().Timers != 1 {
			t.Errorf("%d and %d ticks, and %d timers are set", once.Load(), every.Load(), a.Status().Timers)
		}
	})
}

// A surrender while the state is being captured for another reason is forgotten with it if that fails, and the keeper is told when the next one
// is not.
func TestASurrenderDuringACaptureThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		fail := true
		w := sleepy(t, func(y *tally) {
			y.capture = func() error {
				<-gate
				if fail {
					return errors.New("there is no room")
				}
				return nil
			}
		})
		w.want("a", "1 test")
		a := w.at(w.id("a"))
		stays := 0
		w.shelf.stays = func() {
			stays++
			if a.Status().Closing {
				t.Error("it is said to stay, and closes")
			}
			fail = false
			if _, done := a.Surrender("moved", true); !done {
				t.Error("it was not surrendered")
			}
		}
		a.Hibernate("idle")
		synctest.Wait()
		if _, done := a.Surrender("moved", true); !done {
			t.Error("it was not surrendered while it was captured")
		}
		close(gate)
		w.work.Wait()
		if e := w.ended(); stays != 1 || len(e) != 1 || !e[0].Handed || w.shelf.len() != 1 {
			t.Errorf("it stayed %d times; %+v", stays, e)
		}
	})
}

// Stop and a revocation go before a surrender, whichever comes first.
func TestWhatGoesBeforeASurrender(t *testing.T) {
	for _, c := range []struct{ first, then, reason string }{
		{"surrender", "stop", "shutdown"}, {"stop", "surrender", "shutdown"}, {"surrender", "revoke", "revoked"}, {"revoke", "surrender", "revoked"},
		{"surrender", "resume and stop", "shutdown"},
	} {
		t.Run(c.first+", "+c.then, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
					time.Sleep(time.Second)
					if ev.Tag == abi.EventPassivate {
						return effects(out)
					}
					return reply(out, "done")
				})
				got := w.ask("a", "m")
				synctest.Wait()
				a := w.at(w.id("a"))
				for _, what := range []string{c.first, c.then} {
					switch what {
					case "surrender":
						if _, done := a.Surrender("moved", false); done != (what == c.first) {
							t.Errorf("surrendered: %v", done)
						}
					case "stop":
						a.Stop("shutdown")
					case "resume and stop":
						a.Resume()
						a.Stop("shutdown")
					case "revoke":
						a.Revoke()
					}
				}
				if s := <-got; s != "done" {
					t.Errorf("the running turn's caller got %s", s)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if ends := w.ended(); len(ends) != 1 || ends[0].Reason != c.reason || ends[0].Handed != (c.first == "surrender" && c.then == "revoke") {
					t.Errorf("%+v", ends)
				}
			})
		})
	}
}

// Those who stand and wait are told at once, while the turn runs, and who does not gets the message back.
func TestSurrenderGivesBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := make(chan struct{})
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			<-release
			return reply(out, "done")
		})
		first := w.ask("a", "m")
		synctest.Wait()
		a := w.at(w.id("a"))
		stands := make(chan error, 1)
		go func() {
			_, err := a.Deliver(t.Context(), w.env("a", "m", "", time.Minute))
			stands <- err
		}()
		posted := make(chan string, 1)
		if err := a.Post(w.env("a", "m", "", time.Minute), func(b []byte, err error) { posted <- fmt.Sprint(string(b), err) }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		given, done := a.Surrender("moved", false)
		if !done || given.Len() != 1 {
			t.Errorf("%v, %d given back", done, given.Len())
		}
		wantCode(t, <-stands, abi.ErrOwnershipChanged)
		wantCode(t, a.Post(w.env("a", "m", "", time.Minute), nil), abi.ErrOwnershipChanged)
		close(release)
		if s := <-first; s != "done" {
			t.Errorf("the running turn's caller got %s", s)
		}
		given.Forward(w)
		if s := <-posted; s != "done<nil>" {
			t.Errorf("the post got %s", s)
		}
	})
}

// While a surrendered activation waits for a call that is under way, nothing new begins on it, though no turn runs.
func TestASurrenderThatWaitsTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			switch {
			case ev.Tag == abi.EventCompletion:
				return effects(out, abi.Effect{Tag: abi.EffectReply, Token: 1, Payload: ev.Payload})
			case ev.Tag == abi.EventCall && ev.Method == "later":
				return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("b"), Method: "m"})
			}
			return reply(out, "now")
		})
		w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
			time.Sleep(time.Second)
			return reply(out, "from b")
		})
		got := w.ask("a", "later")
		synctest.Wait()
		a := w.at(w.id("a"))
		if _, done := a.Surrender("moved", false); !done {
			t.Fatal("it was not surrendered")
		}
		synctest.Wait()
		_, err := a.Deliver(t.Context(), w.env("a", "m", "", time.Minute))
		wantCode(t, err, abi.ErrOwnershipChanged)
		chained := w.env("a", "m", "", time.Minute)
		chained.Chain = []abi.Identity{w.id("c")}
		if out, err := a.Deliver(t.Context(), chained); err != nil || string(out) != "now" {
			t.Errorf("what has a chain got %s, %v", out, err)
		}
		if s := <-got; s != "from b" {
			t.Errorf("the deferred reply is %s", s)
		}
		synctest.Wait()
		if ends := w.ended(); len(ends) != 1 || ends[0].Reason != "moved" {
			t.Errorf("%+v", ends)
		}
	})
}
