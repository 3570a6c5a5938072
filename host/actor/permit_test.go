package actor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// pass is a permit that a test gives and takes.
type pass struct {
	mu      sync.Mutex
	err     error
	changed chan struct{}
	asked   int
	fails   int   // the check, counted from 1, at which it is taken
	with    error // and how
}

var (
	passLost   = abi.NewError(abi.ErrOwnershipChanged, "lost")
	passLapsed = abi.NewError(abi.ErrNoQuorum, "lapsed")
)

func (p *pass) set(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setLocked(err)
}

func (p *pass) setLocked(err error) {
	p.err = err
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// failAt has the permit be taken at its n-th check from now on.
func (p *pass) failAt(n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.fails, p.with = 0, n, err
}

func (p *pass) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.asked == p.fails {
		p.setLocked(p.with)
	}
	return p.err
}

func (p *pass) Wait(ctx context.Context, until time.Time) error {
	err := p.Check()
	timeout := time.NewTimer(time.Until(until))
	defer timeout.Stop()
	for abi.CodeOf(err) == abi.ErrNoQuorum {
		p.mu.Lock()
		if err = p.err; abi.CodeOf(err) != abi.ErrNoQuorum {
			p.mu.Unlock()
			return err
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-timeout.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
	return err
}

// permitted is a world with an actor "a" that has a permit. turn is what it does.
func permitted(t *testing.T, turn func(h *Host, ev *abi.Event, out *abi.Output) error) (*world, *Activation, *pass) {
	w := newWorld(t)
	w.limits.Turn = 5 * time.Second // of the virtual clock
	p := &pass{}
	w.define("a", turn)
	w.define("b", func(_ *Host, ev *abi.Event, out *abi.Output) error { return reply(out, "b") })
	a := w.at(w.id("a"))
	a.cfg.Permit = p // nothing has come yet
	return w, a, p
}

func (w *world) deliver(a *Activation, method string, timeout time.Duration) (string, error) {
	out, err := a.Deliver(w.ctx, w.env("a", method, "", timeout))
	return string(out), err
}

func TestPermitBeforeTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := 0
		w, a, p := permitted(t, func(_ *Host, _ *abi.Event, out *abi.Output) error { turns++; return reply(out, fmt.Sprint(turns)) })
		if s, err := w.deliver(a, "m", time.Second); s != "1" || err != nil {
			t.Fatal(s, err)
		}
		p.set(passLapsed)
		began := time.Now()
		_, err := w.deliver(a, "m", 10*time.Second)
		wantCode(t, err, abi.ErrNoQuorum) // at once: the caller asks elsewhere
		if time.Since(began) != 0 || turns != 1 {
			t.Errorf("after %s, %d turns", time.Since(began), turns)
		}
		p.set(nil)
		if s, err := w.deliver(a, "m", time.Second); s != "2" || err != nil { // the same activation, with its state
			t.Error(s, err)
		}
		p.set(passLost)
		_, err = w.deliver(a, "m", time.Second)
		wantCode(t, err, abi.ErrOwnershipChanged)
		if turns != 2 {
			t.Errorf("%d turns", turns)
		}
	})
}

// A message that nobody waits for waits for the session, as long as a turn may take.
func TestPermitForOneWayMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := make(chan time.Time, 10)
		w, a, p := permitted(t, func(_ *Host, _ *abi.Event, out *abi.Output) error { turns <- time.Now(); return effects(out) })
		p.set(passLapsed)
		began := time.Now()
		tell := w.env("a", "m", "", time.Minute)
		tell.Flags = abi.OneWay
		if err := a.Post(tell, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		p.set(nil)
		if at := <-turns; at.Sub(began) != 3*time.Second {
			t.Errorf("after %s", at.Sub(began))
		}
	})
}

// A turn during which the actor is lost has no reply, whatever it did.
func TestPermitAfterTheTurn(t *testing.T) {
	for _, c := range []struct {
		name string
		turn func(w *world, h *Host, out *abi.Output) error
		want abi.Code
	}{
		{"a reply", func(_ *world, _ *Host, out *abi.Output) error { return reply(out, "x") }, abi.ErrOwnershipChanged},
		{"an error", func(_ *world, _ *Host, out *abi.Output) error {
			out.Kind, out.Err = abi.OutError, abi.NewError(abi.ErrActor, "no")
			return nil
		}, abi.ErrOwnershipChanged},
		{"a trap", func(*world, *Host, *abi.Output) error { return errors.New("trap") }, abi.ErrOwnershipChanged},
		{"a request before", func(w *world, h *Host, out *abi.Output) error {
			if _, err := ask(h, w.id("b"), "m"); err != nil {
				return err
			}
			return reply(out, "x")
		}, abi.ErrOutcomeUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w *world
				var p *pass
				var a *Activation
				w, a, p = permitted(t, func(h *Host, _ *abi.Event, out *abi.Output) error {
					err := c.turn(w, h, out)
					p.set(passLost)
					return err
				})
				_, err := w.deliver(a, "m", time.Second)
				wantCode(t, err, c.want)
				ends := w.ended()
				if len(ends) != 1 || ends[0].Reason != "revoked" {
					t.Errorf("%+v", ends)
				}
				if w.count.Traps.Load() != 0 {
					t.Error("it counts as a trap")
				}
			})
		})
	}
}

// A session that runs out during a turn is waited for at its end; the turn then counts.
func TestPermitComesBackAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *pass
		w, a, pp := permitted(t, func(_ *Host, ev *abi.Event, out *abi.Output) error {
			if ev.Method == "lapse" {
				p.set(passLapsed)
			}
			return reply(out, "x")
		})
		p = pp
		time.AfterFunc(2*time.Second, func() { p.set(nil) })
		began := time.Now()
		if s, err := w.deliver(a, "lapse", 10*time.Second); s != "x" || err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("%q, %v after %s", s, err, time.Since(began))
		}
		if len(w.ended()) != 0 {
			t.Error("the activation has ended")
		}
		// It does not come back: there is no reply that says that the turn counts.
		began = time.Now()
		_, err := w.deliver(a, "lapse", 10*time.Second)
		wantCode(t, err, abi.ErrOutcomeUnknown)
		if d := time.Since(began); d != confirmTime {
			t.Errorf("it was told after %s", d)
		}
		// It comes back later: the activation goes on under the same epoch.
		p.set(nil)
		if s, err := w.deliver(a, "m", time.Second); s != "x" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
	})
}

// However long turns may be, a caller is told within the time that a session lasts, and what the turn left behind counts once the session is
// back. What nobody waits for has the turn's time.
func TestPermitAtTheEndOfALongTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var p *pass
		turns := 0
		told := make(chan time.Time, 1)
		w, a, pp := permitted(t, func(_ *Host, ev *abi.Event, out *abi.Output) error {
			turns++
			if ev.Method == "lapse" {
				time.Sleep(time.Second)
				p.set(passLapsed)
			}
			if ev.Tag == abi.EventMessage {
				return effects(out, abi.Effect{Tag: abi.EffectTell, Target: w.id("c"), Method: "m"})
			}
			return reply(out, fmt.Sprint(turns))
		})
		p = pp
		a.cfg.Limits.Turn = 10 * time.Minute
		w.define("c", func(_ *Host, _ *abi.Event, out *abi.Output) error { told <- time.Now(); return effects(out) })
		began := time.Now()
		_, err := w.deliver(a, "lapse", time.Hour)
		wantCode(t, err, abi.ErrOutcomeUnknown)
		if d := time.Since(began); d != time.Second+confirmTime {
			t.Errorf("it was told after %s", d)
		}
		p.set(nil)
		if s, err := w.deliver(a, "m", time.Hour); s != "2" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
		began = time.Now()
		tell := w.env("a", "lapse", "", time.Hour)
		tell.Flags = abi.OneWay
		if err := a.Post(tell, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		p.set(nil)
		if at := <-told; at.Sub(began) != time.Minute || len(w.ended()) != 0 {
			t.Errorf("its message left after %s; %d activations ended", at.Sub(began), len(w.ended()))
		}
	})
}

// Effects leave with a check that passed, or not at all.
func TestPermitBeforeEffects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var p *pass
		told := make(chan string, 10)
		w, a, pp := permitted(t, func(_ *Host, ev *abi.Event, out *abi.Output) error {
			switch ev.Method {
			case "lose":
				p.set(passLost)
			case "lapse":
				p.set(passLapsed)
			}
			return effects(out, abi.Effect{Tag: abi.EffectTell, Target: w.id("c"), Method: ev.Method}, abi.Effect{Tag: abi.EffectReply, Token: ev.Token, Payload: []byte("x")})
		})
		p = pp
		w.define("c", func(_ *Host, ev *abi.Event, out *abi.Output) error { told <- ev.Method; return effects(out) })
		if s, err := w.deliver(a, "m", time.Second); s != "x" || err != nil {
			t.Fatal(s, err)
		}
		if m := <-told; m != "m" {
			t.Error(m)
		}
		_, err := w.deliver(a, "lapse", 10*time.Second)
		if abi.CodeOf(err) != abi.ErrOwnershipChanged && abi.CodeOf(err) != abi.ErrOutcomeUnknown {
			t.Error(err)
		}
		synctest.Wait()
		if len(told) != 0 || len(w.ended()) != 1 {
			t.Errorf("%d messages left, %d activations ended", len(told), len(w.ended()))
		}
	})
}

// No message leaves a turn without a check that passed; what was refused is told to the guest.
func TestPermitBeforeARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var p *pass
		var seen error
		asked := 0
		w, a, pp := permitted(t, func(h *Host, ev *abi.Event, out *abi.Output) error {
			p.set(passLost)
			_, seen = ask(h, w.id("c"), "m")
			return reply(out, "x")
		})
		p = pp
		w.define("c", func(_ *Host, ev *abi.Event, out *abi.Output) error { asked++; return reply(out, "c") })
		_, err := w.deliver(a, "m", time.Second)
		wantCode(t, err, abi.ErrOwnershipChanged) // nothing was sent
		if asked != 0 || seen == nil {
			t.Errorf("%d messages were sent; the guest was told %v", asked, seen)
		}
	})
}

// Whichever check it is that fails first, there is no reply afterwards, and what the caller is told is true.
func TestPermitFailsAtAnyCheck(t *testing.T) {
	for n := 1; n <= 8; n++ {
		for _, with := range []error{passLost, passLapsed} {
			synctest.Test(t, func(t *testing.T) {
				var w *world
				sent := 0
				w, a, p := permitted(t, func(h *Host, ev *abi.Event, out *abi.Output) error {
					for range 2 {
						if err := h.Permitted(); err != nil {
							return err
						}
						if _, err := ask(h, w.id("c"), "m"); err != nil {
							return err
						}
					}
					return reply(out, "x")
				})
				w.define("c", func(_ *Host, ev *abi.Event, out *abi.Output) error { sent++; return reply(out, "c") })
				if s, err := w.deliver(a, "m", time.Minute); s != "x" || err != nil {
					t.Fatal(s, err)
				}
				checks := p.asked
				sent = 0
				p.failAt(n, with)
				s, err := w.deliver(a, "m", time.Minute)
				switch {
				case n > checks:
					if s != "x" || err != nil {
						t.Errorf("all %d checks passed, and it answers %q, %v", checks, s, err)
					}
				case err == nil:
					t.Errorf("check %d of %d failed (%v), and it answers %q", n, checks, with, s)
				case sent > 0 && abi.CodeOf(err) != abi.ErrOutcomeUnknown:
					t.Errorf("check %d failed (%v) after %d messages, and it says %v", n, with, sent, err)
				case sent == 0 && with == passLost && abi.CodeOf(err) != abi.ErrOwnershipChanged:
					t.Errorf("check %d failed (%v) before any message, and it says %v", n, with, err)
				}
			})
		}
	}
}

// A turn that waits at a look for its session goes on when that comes back.
func TestPermittedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *pass
		w, a, pp := permitted(t, func(h *Host, _ *abi.Event, out *abi.Output) error {
			p.set(passLapsed)
			time.AfterFunc(time.Second, func() { p.set(nil) })
			if err := h.Permitted(); err != nil {
				return err
			}
			return reply(out, "x")
		})
		p = pp
		began := time.Now()
		if s, err := w.deliver(a, "m", time.Minute); s != "x" || err != nil || time.Since(began) != time.Second {
			t.Errorf("%q, %v after %s", s, err, time.Since(began))
		}
	})
}

// BenchmarkPermittedTurn is BenchmarkInlineTurn with a permit: what the two checks of a turn cost.
func BenchmarkPermittedTurn(b *testing.B) {
	a := echoes(b)
	a.cfg.Permit = always{time.Now()}
	env := echo(a)
	for b.Loop() {
		if _, err := a.Deliver(b.Context(), env); err != nil {
			b.Fatal(err)
		}
	}
}

// always is a permit that costs what one costs.
type always struct{ base time.Time }

func (p always) Check() error {
	if time.Since(p.base) < 0 {
		return passLapsed
	}
	return nil
}

func (p always) Wait(context.Context, time.Time) error { return p.Check() }
