package actor

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// The tests here are about waits that end before their message is answered: whoever takes one for a wait that stands
// answers deadlock where there is none.

// race is an actor whose method "race" starts a request to each of the targets and ends with the first answer; "busy"
// keeps it in a turn until gate is closed.
func race(w *world, name string, gate <-chan struct{}, inside chan<- struct{}, targets ...string) {
	w.define(name, func(h *Host, ev *abi.Event, out *abi.Output) error {
		switch ev.Method {
		case "race":
			var hs []uint32
			for _, to := range targets {
				n, code := h.Start(&abi.Request{Target: w.id(to), Method: "raced"})
				if code != abi.ErrNone {
					return code
				}
				hs = append(hs, n)
			}
			h.Wait(hs, 1, -1)
		case "busy":
			inside <- struct{}{}
			<-gate
		}
		return reply(out, "ok")
	})
}

func TestAnAbandonedRequestIsNoWait(t *testing.T) {
	w := newWorld(t)
	gate, inside, entered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	race(w, "a", gate, inside, "quick", "slow")
	w.define("quick", func(h *Host, ev *abi.Event, out *abi.Output) error { return reply(out, "") })
	again := make(chan struct{})
	w.define("slow", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "raced" {
			return reply(out, "")
		}
		close(entered)
		<-again
		_, err := ask(h, w.id("a"), "m") // a is in a turn that does not wait for this one
		if err != nil {
			return reply(out, err.Error())
		}
		return reply(out, "fine")
	})
	slow := w.ask("slow", "block")
	<-entered
	if _, err := w.call("a", "race", "", time.Minute); err != nil { // leaves a message in slow's mailbox
		t.Fatal(err)
	}
	if n := w.waits.Len(); n != 0 {
		t.Errorf("%d actors wait", n)
	}
	busy := w.ask("a", "busy")
	<-inside
	close(again)
	w.queued("a", 1)
	close(gate)
	if got := <-slow; got != "fine" {
		t.Errorf("%s", got)
	}
	<-busy
}

// What an abandoned request brings about waits for nobody up the chain either.
func TestATurnThatNobodyAwaitsMayCallBack(t *testing.T) {
	w := newWorld(t)
	gate, inside, entered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	race(w, "a", gate, inside, "quick", "back")
	again, got := make(chan struct{}), make(chan string, 1)
	w.define("quick", func(h *Host, ev *abi.Event, out *abi.Output) error { return reply(out, "") })
	w.define("back", func(h *Host, ev *abi.Event, out *abi.Output) error {
		close(entered)
		<-again
		if _, err := ask(h, w.id("a"), "m"); err != nil {
			got <- err.Error()
		} else {
			got <- "fine"
		}
		return reply(out, "")
	})
	if _, err := w.call("a", "race", "", time.Minute); err != nil {
		t.Fatal(err)
	}
	<-entered
	busy := w.ask("a", "busy")
	<-inside
	close(again)
	w.queued("a", 1)
	close(gate)
	if s := <-got; s != "fine" {
		t.Errorf("%s", s)
	}
	<-busy
}

// Deeper down, a request that was made while the turn above still ran loses those who have gone from its chain, and
// keeps those who have not.
func TestTheFrontOfAChainGoesWithItsTurn(t *testing.T) {
	w := newWorld(t)
	gate, inside, entered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	race(w, "a", gate, inside, "quick", "b")
	quick := make(chan struct{})
	w.define("quick", func(h *Host, ev *abi.Event, out *abi.Output) error {
		<-quick
		return reply(out, "")
	})
	w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "m" {
			return reply(out, "")
		}
		_, err := ask(h, w.id("c"), "m")
		return err
	})
	again := make(chan struct{})
	results := make(chan error, 2)
	w.define("c", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "block" {
			close(entered)
			<-again
			_, err := ask(h, w.id("b"), "m") // b does wait for this
			results <- err
			_, err = ask(h, w.id("a"), "m") // a no longer does
			results <- err
		}
		return reply(out, "")
	})
	blocked := w.ask("c", "block")
	<-entered
	raced := w.ask("a", "race")
	w.queued("c", 1) // a started b, b asks c
	close(quick)
	<-raced
	if n := w.waits.Len(); n != 1 {
		t.Errorf("%d actors wait, want b alone", n)
	}
	busy := w.ask("a", "busy")
	<-inside
	close(again)
	w.queued("a", 1)
	close(gate)
	wantCode(t, <-results, abi.ErrDeadlock)
	wantCode(t, <-results, abi.ErrNone)
	<-busy
	<-blocked
}

func TestALooseWaitEndsWithItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
			if ev.Method == "block" {
				time.Sleep(3 * time.Second)
			}
			return reply(out, "")
		})
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			h.Start(&abi.Request{Target: w.id("b"), Method: "m", Timeout: time.Second})
			time.Sleep(2 * time.Second)
			return reply(out, "")
		})
		go w.call("b", "block", "", time.Minute)
		synctest.Wait()
		go w.call("a", "m", "", time.Minute)
		synctest.Wait()
		if n := w.waits.Len(); n != 1 {
			t.Errorf("%d actors wait, want a", n)
		}
		time.Sleep(1500 * time.Millisecond)
		if n := w.waits.Len(); n != 0 {
			t.Errorf("%d actors wait after the request timed out", n)
		}
		time.Sleep(3 * time.Second)
	})
}

// A deferred reply that was given ends the wait for the calls made on its behalf.
func TestAnEarlyReplyEndsTheWaitForItsCalls(t *testing.T) {
	w := newWorld(t)
	entered, again := make(chan struct{}), make(chan struct{})
	var token uint64
	w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
		switch {
		case ev.Method == "m" && ev.Tag == abi.EventCall:
			token = ev.Token
			return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("c"), Method: "m"})
		case ev.Method == "release":
			return effects(out, abi.Effect{Tag: abi.EffectReply, Token: token}, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
		}
		return effects(out)
	})
	w.define("c", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "block" {
			close(entered)
			<-again
			if _, err := ask(h, w.id("a"), "leaf"); err != nil {
				return reply(out, err.Error())
			}
		}
		return reply(out, "fine")
	})
	gate, inside := make(chan struct{}), make(chan struct{})
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		switch ev.Method {
		case "go":
			if _, err := ask(h, w.id("b"), "m"); err != nil {
				return err
			}
			close(inside)
			<-gate
		}
		return reply(out, "ok")
	})
	blocked := w.ask("c", "block")
	<-entered
	going := w.ask("a", "go")
	w.queued("c", 1)
	if n := w.waits.Len(); n != 1 { // a waits for b, and by it for c
		t.Errorf("%d actors wait, want a", n)
	}
	if _, err := w.call("b", "release", "", time.Minute); err != nil {
		t.Fatal(err)
	}
	<-inside
	if n := w.waits.Len(); n != 0 {
		t.Errorf("%d actors wait", n)
	}
	close(again)
	w.queued("a", 1)
	close(gate)
	if got := <-blocked; got != "fine" {
		t.Errorf("%s", got)
	}
	<-going
}

// Calls that a completion brings about are still on behalf of the deferred reply.
func TestDeadlockThroughSeveralCompletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var token uint64
		w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
			switch {
			case ev.Tag == abi.EventCall:
				token = ev.Token
				return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("c"), Method: "leaf"})
			case ev.Handle == 1:
				return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 2, Target: w.id("d"), Method: "m"})
			}
			return effects(out, abi.Effect{Tag: abi.EffectReply, Token: token, Payload: ev.Payload, Err: ev.Err})
		})
		w.define("c", func(h *Host, ev *abi.Event, out *abi.Output) error { return reply(out, "leaf") })
		w.define("d", func(h *Host, ev *abi.Event, out *abi.Output) error {
			_, err := ask(h, w.id("a"), "m")
			out.Kind, out.Err = abi.OutError, abi.AsError(err)
			return nil
		})
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			_, err := ask(h, w.id("b"), "m")
			out.Kind, out.Err = abi.OutError, abi.AsError(err)
			return nil
		})
		began := time.Now()
		_, err := w.call("a", "go", "", time.Minute)
		wantCode(t, err, abi.ErrDeadlock)
		if d := time.Since(began); d > 0 {
			t.Errorf("a limit, not the detector, ended it after %v", d)
		}
	})
}
