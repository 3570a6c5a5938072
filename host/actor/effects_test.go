package actor

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestTellsAndCallsOfATurnKeepTheirOrder(t *testing.T) {
	w := newWorld(t)
	var got []string
	w.define("log", func(h *Host, ev *abi.Event, out *abi.Output) error {
		got = append(got, string(ev.Payload))
		return reply(out, strings.Join(got, ""))
	})
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Tag != abi.EventCall {
			return effects(out)
		}
		var es []abi.Effect
		for i := range 20 {
			e := abi.Effect{Tag: abi.EffectTell, Target: w.id("log"), Method: "m", Payload: fmt.Append(nil, i, ".")}
			if i%3 == 0 {
				e.Tag, e.Handle = abi.EffectCall, uint64(i+1)
			}
			es = append(es, e)
		}
		return effects(out, append(es, abi.Effect{Tag: abi.EffectReply, Token: ev.Token, Payload: []byte("sent")})...)
	})
	if s, err := w.call("a", "m", "", time.Minute); err != nil || s != "sent" {
		t.Fatalf("%q, %v", s, err)
	}
	want := ""
	for i := range 20 {
		want += fmt.Sprint(i, ".")
	}
	if s, err := w.call("log", "m", "end", time.Minute); err != nil || s != want+"end" {
		t.Errorf("%q, %v; want %q", s, err, want+"end")
	}
}

func TestCompletionTellsReplyErrorOrTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var got []string
		w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
			switch ev.Method {
			case "never":
				return effects(out)
			case "no":
				out.Kind, out.Err = abi.OutError, &abi.Error{App: "refused", Message: "no"}
				return nil
			}
			return reply(out, "yes")
		})
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			if ev.Tag == abi.EventCompletion {
				got = append(got, fmt.Sprint(ev.Handle, ev.Method, string(ev.Payload), ev.Err))
				return effects(out)
			}
			return effects(out,
				abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("b"), Method: "yes"},
				abi.Effect{Tag: abi.EffectCall, Handle: 2, Target: w.id("b"), Method: "no"},
				abi.Effect{Tag: abi.EffectCall, Handle: 3, Target: w.id("b"), Method: "never", Timeout: time.Second},
				abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
		})
		if _, err := w.call("a", "m", "", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want := []string{"1yesyes<nil>", "2noactor_error refused: no", "3never" + errLate.Error()}
		if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestEffectsApplyAllOrNone(t *testing.T) {
	w := newWorld(t)
	w.limits.MaxMessage, w.limits.MaxOutgoing, w.limits.MaxTimers = 100, 2, 1
	var told int
	w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error { told++; return reply(out, fmt.Sprint(told)) })
	tell := abi.Effect{Tag: abi.EffectTell, Target: w.id("b"), Method: "m"}
	call := abi.Effect{Tag: abi.EffectCall, Handle: 7, Target: w.id("b"), Method: "m"}
	big := tell
	big.Payload = make([]byte, 101)
	cases := map[string]struct {
		es   []abi.Effect
		code abi.Code
	}{
		"payload":  {[]abi.Effect{tell, big}, abi.ErrPayloadTooLarge},
		"outgoing": {[]abi.Effect{tell, tell, tell}, abi.ErrLimitExceeded},
		"handle":   {[]abi.Effect{call, call}, abi.ErrTrap},
		"answers":  {[]abi.Effect{tell, {Tag: abi.EffectReply, Token: 1}, {Tag: abi.EffectReply, Token: 1}}, abi.ErrTrap},
		"timers":   {[]abi.Effect{tell, {Tag: abi.EffectRemind, Name: "x"}, {Tag: abi.EffectRemind, Name: "y"}}, abi.ErrLimitExceeded},
	}
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error { return effects(out, cases[ev.Method].es...) })
	for name, c := range cases {
		_, err := w.call("a", name, "", time.Minute)
		wantCode(t, err, c.code)
		if !strings.Contains(err.Error(), "no effect of the turn was applied") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, _ := w.call("b", "m", "", time.Minute); s != "1" {
		t.Errorf("b was told %s times, want only this once", s)
	}
}

func TestTimersOnceRepeatedReplacedAndCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		var got []string
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			remind := func(name string, after, every time.Duration) abi.Effect {
				return abi.Effect{Tag: abi.EffectRemind, Name: name, After: after, Every: every, Payload: []byte(name)}
			}
			switch {
			case ev.Tag == abi.EventTimer:
				got = append(got, fmt.Sprintf("%s@%v", ev.Payload, time.Since(began)))
				if ev.Timer == "tick" && time.Since(began) == 2*time.Second {
					time.Sleep(2500 * time.Millisecond) // misses two ticks
				}
				return effects(out)
			case ev.Method == "set":
				return effects(out, remind("once", 500*time.Millisecond, 0), remind("tick", time.Second, time.Second),
					remind("gone", time.Second, 0), remind("moved", time.Second, 0), abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			case ev.Method == "change":
				return effects(out, abi.Effect{Tag: abi.EffectCancel, Name: "gone"}, remind("moved", 1400*time.Millisecond, 0),
					abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			}
			return effects(out, abi.Effect{Tag: abi.EffectCancel, Name: "tick"}, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
		})
		for _, m := range []string{"set", "change"} {
			if _, err := w.call("a", m, "", time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5500 * time.Millisecond)
		if _, err := w.call("a", "stop", "", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		want := "once@500ms tick@1s moved@1.4s tick@2s tick@4.5s tick@5s"
		if s := strings.Join(got, " "); s != want {
			t.Errorf("timers %s\nwant   %s", s, want)
		}
		if st := w.at(w.id("a")).Status(); st.Timers != 0 {
			t.Errorf("%d timers left", st.Timers)
		}
	})
}

func TestParallelRequestsInsideOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i, name := range []string{"b1", "b2", "b3"} {
			w.define(name, func(h *Host, ev *abi.Event, out *abi.Output) error {
				time.Sleep(time.Duration(i+1) * 100 * time.Millisecond)
				return reply(out, name)
			})
		}
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			began := time.Now()
			var hs []uint32
			for _, name := range []string{"b1", "b2", "b3"} {
				n, code := h.Start(&abi.Request{Target: w.id(name), Method: "m"})
				if code != abi.ErrNone {
					return reply(out, code.String())
				}
				hs = append(hs, n)
			}
			log := ""
			note := func(what string, n int) { log += fmt.Sprintf("%s=%d@%v ", what, n, time.Since(began)) }
			_, ready, _ := h.Take(hs[2])
			log += fmt.Sprint("early=", ready, " ")
			n, _ := h.Wait(hs, 1, -1)
			note("any", n)
			n, _ = h.Wait(hs, 3, 50*time.Millisecond)
			note("short", n)
			n, _ = h.Wait(hs, 3, -1)
			note("all", n)
			for _, x := range hs {
				r, ready, _ := h.Take(x)
				log += fmt.Sprint(string(r.Payload), ready, " ")
			}
			_, _, code := h.Take(hs[0])
			return reply(out, log+code.String())
		})
		got, err := w.call("a", "m", "", time.Minute)
		want := "early=false any=1@100ms short=1@150ms all=3@300ms b1true b2true b3true invalid_argument"
		if err != nil || got != want {
			t.Errorf("%q, %v\nwant %q", got, err, want)
		}
	})
}

func TestRequestsEndWithTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.limits.Turn = time.Second
		w.limits.MaxOutgoing = 2
		w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error { return effects(out) }) // never answers
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			began := time.Now()
			_, err := ask(h, w.id("b"), "m")
			s := fmt.Sprint(abi.CodeOf(err), time.Since(began))
			h.outgoing = 2
			_, err = ask(h, w.id("b"), "m")
			return reply(out, s+" "+abi.CodeOf(err).String())
		})
		got, err := w.call("a", "m", "", time.Minute)
		if want := abi.ErrTimeout.Error() + " 950ms limit_exceeded"; err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		if _, code := (&Host{a: w.at(w.id("a"))}).Start(&abi.Request{Target: w.id("b"), Method: "m"}); code != abi.ErrUnsupported {
			t.Errorf("a request outside of a turn: %v", code)
		}
	})
}

func TestDeferredReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var tokens []uint64
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			if ev.Method == "wait" {
				tokens = append(tokens, ev.Token)
				return effects(out)
			}
			es := []abi.Effect{{Tag: abi.EffectReply, Token: ev.Token, Payload: []byte("released")}, {Tag: abi.EffectReply, Token: 999}}
			for _, tok := range tokens {
				es = append(es, abi.Effect{Tag: abi.EffectReply, Token: tok, Payload: fmt.Append(nil, "late", tok)})
			}
			return effects(out, es...)
		})
		var wg sync.WaitGroup
		results := make([]string, 3)
		for i, timeout := range []time.Duration{time.Second, time.Minute, 4 * time.Second} {
			wg.Go(func() {
				s, err := w.call("a", "wait", "", timeout)
				results[i] = fmt.Sprint(s, abi.CodeOf(err))
			})
			synctest.Wait()
		}
		time.Sleep(2 * time.Second) // the first expires
		if s, err := w.call("a", "release", "", time.Minute); err != nil || s != "released" {
			t.Errorf("%q, %v", s, err)
		}
		wg.Wait()
		ok := abi.ErrNone.Error()
		if results[0] != abi.ErrTimeout.Error() || results[1] != "late2"+ok || results[2] != "late3"+ok {
			t.Errorf("results %q", results)
		}
		if st := w.at(w.id("a")).Status(); st.Deferred != 0 {
			t.Errorf("%d deferred left", st.Deferred)
		}
	})
}

func TestTrapAnswersDeferredCallers(t *testing.T) {
	w := newWorld(t)
	deferred := make(chan struct{})
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "wait" {
			close(deferred)
			return effects(out)
		}
		return abi.NewError(abi.ErrTrap, "boom")
	})
	got := make(chan error, 1)
	go func() { _, err := w.call("a", "wait", "", time.Minute); got <- err }()
	<-deferred
	_, err := w.call("a", "trap", "", time.Minute)
	wantCode(t, err, abi.ErrTrap)
	wantCode(t, <-got, abi.ErrTrap)
}
