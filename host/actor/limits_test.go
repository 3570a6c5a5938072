package actor

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// metered is a guest that says what its turns used.
type metered struct {
	guest
	used int64
}

func (m *metered) Fuel() int64 { return m.used }

func TestFuelOfTurnsIsCounted(t *testing.T) {
	w := newWorld(t)
	w.start[w.id("a")] = func(h *Host) (Instance, error) {
		m := &metered{}
		m.guest = guest{host: h, turn: func(_ *Host, ev *abi.Event, out *abi.Output) error {
			switch ev.Method {
			case "fail":
				m.used = 1000
				return abi.NewError(abi.ErrLimitExceeded, "too much")
			case "wrong":
				m.used = -5
			default:
				m.used = 7
			}
			return reply(out, "")
		}}
		return m, nil
	}
	w.define("b", func(_ *Host, _ *abi.Event, out *abi.Output) error { return reply(out, "") }) // meters nothing
	for _, step := range []struct {
		actor, method string
		want          uint64
	}{{"a", "m", 7}, {"a", "m", 14}, {"b", "m", 14}, {"a", "wrong", 14}, {"a", "fail", 1014}, {"a", "m", 1021}} {
		w.call(step.actor, step.method, "", time.Minute)
		if got := w.count.Fuel.Load(); got != step.want {
			t.Fatalf("%v: %d units", step, got)
		}
	}
}

// Requests and effects of a turn count together; calls that are outstanding count with the effects alone.
func TestOutgoingIsOfTheWholeTurn(t *testing.T) {
	w := newWorld(t)
	w.limits.MaxOutgoing = 3
	w.define("b", func(_ *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Tag == abi.EventCall && ev.Method == "never" {
			return effects(out)
		}
		return reply(out, "")
	})
	tell := abi.Effect{Tag: abi.EffectTell, Target: w.id("b"), Method: "m"}
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		switch ev.Method {
		case "requests":
			for range 3 {
				if _, err := ask(h, w.id("b"), "m"); err != nil {
					return err
				}
			}
			if _, err := ask(h, w.id("b"), "m"); !errors.Is(err, abi.ErrLimitExceeded) || !strings.Contains(err.Error(), "limits.outgoing") {
				return fmt.Errorf("a fourth request: %w", err)
			}
			return effects(out, abi.Effect{Tag: abi.EffectReply, Token: ev.Token, Payload: []byte("ok")})
		case "mixed":
			for range 2 {
				if _, err := ask(h, w.id("b"), "m"); err != nil {
					return err
				}
			}
			return effects(out, tell, tell)
		case "call":
			return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("b"), Method: "never"},
				abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
		}
		return effects(out, tell, tell, tell)
	})
	if got, err := w.call("a", "requests", "", time.Minute); err != nil || got != "ok" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := w.call("a", "mixed", "", time.Minute)
	wantCode(t, err, abi.ErrLimitExceeded)
	for _, words := range []string{"more than 3 messages", "limits.outgoing", "no effect of the turn was applied"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%v lacks %q", err, words)
		}
	}
	if w.count.Limits.Load() != 1 {
		t.Errorf("%d limits hit", w.count.Limits.Load())
	}
	if _, err := w.call("a", "call", "", time.Minute); err != nil {
		t.Error(err)
	}
	if got, err := w.call("a", "requests", "", time.Minute); err != nil || got != "ok" { // one is outstanding, none is added
		t.Errorf("%q, %v", got, err)
	}
	_, err = w.call("a", "tells", "", time.Minute) // three, and the one that is outstanding
	wantCode(t, err, abi.ErrLimitExceeded)
}

// An actor with a small limit may call one with a large limit: what is too large for it becomes an error, whichever way it asked.
func TestRepliesThatAreTooLargeForTheAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.define("b", func(_ *Host, _ *abi.Event, out *abi.Output) error {
			out.Kind, out.Payload = abi.OutReply, bytes.Repeat([]byte{'x'}, 101)
			return nil
		})
		w.at(w.id("b")) // has the large limit
		w.limits.MaxMessage = 100
		var said []string
		tell := func(how string, payload []byte, err error) {
			said = append(said, fmt.Sprint(how, " ", len(payload), " ", abi.CodeOf(err) == abi.ErrPayloadTooLarge, " ",
				err != nil && strings.Contains(err.Error(), "101 bytes") && strings.Contains(err.Error(), "limits.max_message")))
		}
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			if ev.Tag == abi.EventCompletion {
				tell("call", ev.Payload, ev.Err)
				return effects(out)
			}
			r := h.Request(&abi.Request{Target: w.id("b"), Method: "m"})
			tell("request", r.Payload, r.Err)
			handle, _ := h.Start(&abi.Request{Target: w.id("b"), Method: "m"})
			h.Wait([]uint32{handle}, 1, -1)
			r, _, _ = h.Take(handle)
			tell("start", r.Payload, r.Err)
			return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w.id("b"), Method: "m"},
				abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
		})
		if _, err := w.call("a", "m", "", time.Minute); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, want := strings.Join(said, ", "), "request 0 true true, start 0 true true, call 0 true true"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}
