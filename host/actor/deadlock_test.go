package actor

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestCallChainThatComesBackIsADeadlockAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass := func(to string) func(*Host, *abi.Event, *abi.Output) error {
			return func(h *Host, ev *abi.Event, out *abi.Output) error {
				if _, err := ask(h, w.id(to), "m"); err != nil {
					return reply(out, err.Error())
				}
				return reply(out, "no deadlock")
			}
		}
		w.define("a", pass("b"))
		w.define("b", pass("c"))
		w.define("c", pass("a"))
		w.define("self", pass("self"))
		began := time.Now()
		got, err := w.call("a", "m", "", time.Minute)
		if err != nil || got != "deadlock: k/a→k/b→k/c→k/a" && !strings.Contains(got, "no deadlock") {
			t.Errorf("%q, %v", got, err)
		}
		if w.count.Deadlocks.Load() != 1 {
			t.Errorf("%d deadlocks, want 1", w.count.Deadlocks.Load())
		}
		if got, err := w.call("self", "m", "", time.Minute); err != nil || got != "deadlock: k/self→k/self" {
			t.Errorf("%q, %v", got, err)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("a limit, not the detector, ended it after %v", d)
		}
	})
}

// Actors in a ring each call the next at the same moment: exactly one is refused, and all others finish.
func TestChainsThatMeetCrosswise(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			names := strings.Split("abcdefgh", "")[:n]
			var entered sync.WaitGroup
			entered.Add(n)
			for i, name := range names {
				next := names[(i+1)%n]
				w.define(name, func(h *Host, ev *abi.Event, out *abi.Output) error {
					if ev.Method == "leaf" {
						return reply(out, "leaf")
					}
					entered.Done()
					entered.Wait() // every turn of the ring runs now
					if _, err := ask(h, w.id(next), "leaf"); err != nil {
						return reply(out, err.Error())
					}
					return reply(out, "fine")
				})
			}
			began := time.Now()
			var wg sync.WaitGroup
			results := make([]string, n)
			for i, name := range names {
				wg.Go(func() { results[i], _ = w.call(name, "go", "", time.Minute) })
			}
			wg.Wait()
			dead, fine := 0, 0
			for _, r := range results {
				switch {
				case strings.HasPrefix(r, "deadlock: "):
					dead++
				case r == "fine":
					fine++
				}
			}
			if dead != 1 || fine != n-1 {
				t.Errorf("ring of %d: %q", n, results)
			}
			if d := time.Since(began); d > 0 {
				t.Errorf("ring of %d took %v: a limit, not the detector, ended it", n, d)
			}
			if w.waits.Len() != 0 {
				t.Errorf("ring of %d: %d actors still wait", n, w.waits.Len())
			}
		})
	}
}

func TestDeferredReplyThatWaitsForItsCallerIsADeadlock(t *testing.T) {
	w := newWorld(t)
	var token uint64
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "leaf" {
			return reply(out, "leaf")
		}
		got, err := ask(h, w.id("b"), "m")
		if err != nil {
			return reply(out, err.Error())
		}
		return reply(out, string(got))
	})
	w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Tag == abi.EventCompletion {
			text := "leaf"
			if ev.Err != nil {
				text = ev.Err.Error()
			}
			return effects(out, abi.Effect{Tag: abi.EffectReply, Token: token, Payload: []byte(text)})
		}
		token = ev.Token
		return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("a"), Method: "leaf"})
	})
	got, err := w.call("a", "go", "", time.Minute)
	if err != nil || got != "deadlock: k/a→k/a" && got != "deadlock: k/a→k/b→k/a" {
		t.Errorf("%q, %v", got, err)
	}
}

// A wait that was given up leaves no edge behind that would make a later call look like a deadlock.
func TestGivenUpWaitsAreForgotten(t *testing.T) {
	w := newWorld(t)
	entered, gate := make(chan struct{}), make(chan struct{})
	gaveUp := make(chan struct{})
	w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method != "block" {
			return reply(out, "leaf")
		}
		close(entered)
		<-gaveUp
		_, err := ask(h, w.id("a"), "leaf")
		if err != nil {
			return reply(out, err.Error())
		}
		return reply(out, "fine")
	})
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "leaf" {
			return reply(out, "leaf")
		}
		h.Request(&abi.Request{Target: w.id("b"), Method: "leaf", Timeout: 10 * time.Millisecond})
		close(gaveUp)
		<-gate
		return reply(out, "")
	})
	result := make(chan string, 1)
	go func() { s, _ := w.call("b", "block", "", time.Minute); result <- s }()
	<-entered
	var wg sync.WaitGroup
	wg.Go(func() { w.call("a", "go", "", time.Minute) })
	<-gaveUp
	close(gate)
	if got := <-result; got != "fine" {
		t.Errorf("%q, want fine", got)
	}
	wg.Wait()
}

func TestChainIsBounded(t *testing.T) {
	w := newWorld(t)
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error { return reply(out, "") })
	env := w.env("a", "m", "", time.Minute)
	for range abi.MaxChain {
		env.Chain = append(env.Chain, w.id("b"))
	}
	_, err := w.Send(context.Background(), env)
	wantCode(t, err, abi.ErrLimitExceeded)
}
