package actor

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// A native instance is Go code that may do anything: what it gets wrong ends its activation, never the node, and never
// makes a caller believe what is not so.
func TestWhatNativeTurnsGetWrong(t *testing.T) {
	type turn = func(h *Host, ev *abi.Event, out *abi.Output) error
	tests := map[string]struct {
		turn  turn
		code  abi.Code
		words string
		lives bool
	}{
		"a plain error": {func(*Host, *abi.Event, *abi.Output) error { return errors.New("db down") }, abi.ErrTrap, "db down", false},
		"a code that says nothing was done": {func(*Host, *abi.Event, *abi.Output) error {
			return fmt.Errorf("calling on: %w", abi.NewError(abi.ErrOwnershipChanged, "moved"))
		}, abi.ErrTrap, "moved", false},
		"a bare code":    {func(*Host, *abi.Event, *abi.Output) error { return abi.ErrNotReady }, abi.ErrTrap, "ready", false},
		"a limit":        {func(*Host, *abi.Event, *abi.Output) error { return abi.NewError(abi.ErrLimitExceeded, "time") }, abi.ErrLimitExceeded, "time", false},
		"no error":       {func(_ *Host, _ *abi.Event, out *abi.Output) error { out.Kind = abi.OutError; return nil }, abi.ErrTrap, "kind 1", false},
		"no such kind":   {func(_ *Host, _ *abi.Event, out *abi.Output) error { out.Kind = 9; return nil }, abi.ErrTrap, "kind 9", false},
		"no such effect": {func(_ *Host, _ *abi.Event, out *abi.Output) error { return effects(out, abi.Effect{Tag: 99}) }, abi.ErrTrap, "no such effect", false},
		"no store yet": {func(_ *Host, _ *abi.Event, out *abi.Output) error {
			return effects(out, abi.Effect{Tag: abi.EffectKV})
		}, abi.ErrTrap, "kv", false},
		"Goexit": {func(*Host, *abi.Event, *abi.Output) error { runtime.Goexit(); return nil }, abi.ErrTrap, "Goexit", false},
		"too large": {func(_ *Host, _ *abi.Event, out *abi.Output) error {
			return reply(out, strings.Repeat("x", 1001))
		}, abi.ErrPayloadTooLarge, "1001 bytes", true},
		"a retryable answer": {func(_ *Host, _ *abi.Event, out *abi.Output) error {
			out.Kind, out.Err = abi.OutError, abi.NewError(abi.ErrOverloaded, "later")
			return nil
		}, abi.ErrActor, "overloaded", true},
		"no target": {func(h *Host, _ *abi.Event, out *abi.Output) error {
			r := h.Request(&abi.Request{Method: "m"})
			out.Kind, out.Err = abi.OutError, r.Err
			return nil
		}, abi.ErrInvalidArgument, "target", true},
		"every below 0": {func(h *Host, ev *abi.Event, out *abi.Output) error {
			return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "t", After: -time.Hour, Every: -time.Hour},
				abi.Effect{Tag: abi.EffectReply, Token: ev.Token, Err: abi.NewActorError("fine", "")})
		}, abi.ErrActor, "fine", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.limits.MaxMessage = 1000
			w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
				if ev.Method == "m" {
					return tt.turn(h, ev, out)
				}
				return nil // nothing filled in: an empty reply
			})
			// On a runner's goroutine, which Goexit ends.
			got := make(chan error, 1)
			if err := w.Post(w.env("a", "m", "", time.Minute), func(_ []byte, err error) { got <- err }); err != nil {
				t.Fatal(err)
			}
			err := <-got
			wantCode(t, err, tt.code)
			if abi.CodeOf(err).Retryable() || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%v (%s)", err, abi.CodeOf(err).String())
			}
			if s, err := w.call("a", "other", "", time.Minute); err != nil || s != "" {
				t.Errorf("the next call: %q, %v", s, err)
			}
			if starts := map[bool]int{true: 1, false: 2}[tt.lives]; w.starts != starts {
				t.Errorf("%d starts, want %d", w.starts, starts)
			}
		})
	}
}

// A turn that fills nothing in answers nothing, above all not what another caller was answered.
func TestAnOutputIsFresh(t *testing.T) {
	w := newWorld(t)
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "secret" {
			return reply(out, "secret")
		}
		return nil
	})
	results := make(chan string, 2)
	for _, m := range []string{"secret", "m"} { // both in one run of the runner's
		if err := w.Post(w.env("a", m, "", time.Minute), func(b []byte, err error) { results <- fmt.Sprint(string(b), err) }); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := <-results, <-results; a != "secret<nil>" || b != "<nil>" {
		t.Errorf("%q, then %q", a, b)
	}
}

func TestAnInstanceThatPanicsInCloseIsGone(t *testing.T) {
	w := newWorld(t)
	w.start[w.id("a")] = func(h *Host) (Instance, error) {
		return &guest{host: h, end: func() { panic("in close") }, turn: func(h *Host, ev *abi.Event, out *abi.Output) error {
			return reply(out, "")
		}}, nil
	}
	if _, err := w.call("a", "m", "", time.Minute); err != nil {
		t.Fatal(err)
	}
	if !w.at(w.id("a")).Passivate("idle") {
		t.Error("not idle")
	}
	w.work.Wait()
	if n := len(w.all()); n != 0 {
		t.Errorf("%d activations left", n)
	}
}

// A goroutine that ends in the midst of a turn takes no message and no waiting actor with it.
func TestGoexitInAnInlineTurn(t *testing.T) {
	w := newWorld(t)
	entered, gate := make(chan struct{}), make(chan struct{})
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "exit" {
			close(entered)
			<-gate
			runtime.Goexit()
		}
		return reply(out, "alive")
	})
	w.work.Go(func() { w.call("a", "exit", "", time.Minute) })
	<-entered
	next := w.ask("a", "m")
	w.queued("a", 1)
	close(gate)
	if s := <-next; s != "alive" {
		t.Errorf("%s", s)
	}
}
