package cluster

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// A message that may have been done is sent again only if its sender has said that twice is no harm.
func TestUnknownOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		n1 := w.node(1)
		who := owned(n1.Runtime().View(), "counter", "n2")
		fail, lost := 0, 0
		then := abi.ErrOutcomeUnknown // from the second on
		w.breaks(func(_, _ NodeID, e *abi.Envelope) error {
			if fail == 0 {
				return nil
			}
			fail--
			if lost++; lost == 1 {
				return abi.NewError(abi.ErrOutcomeUnknown, "the connection was lost")
			}
			return abi.NewError(then, "the connection was lost")
		})
		send := func(flags abi.Flags, key string) error {
			e := env(who.Key())
			e.Flags, e.IdempotencyKey = flags, key
			_, err := n1.API().Send(t.Context(), e)
			return err
		}
		for _, cached := range []bool{false, true} {
			fail, lost = 1, 0
			if err := send(0, "a key"); abi.CodeOf(err) != abi.ErrOutcomeUnknown || lost != 1 {
				t.Errorf("cached %v: %v, %d lost", cached, err, lost)
			}
			fail, lost = 3, 0
			if err := send(abi.Idempotent, ""); err != nil || lost != 3 {
				t.Errorf("cached %v, idempotent: %v, %d lost", cached, err, lost)
			}
		}
		// In the end the caller is not told that nothing was done.
		fail, lost = 1<<30, 0
		err := send(abi.Idempotent, "")
		if abi.CodeOf(err) != abi.ErrTimeout || strings.Contains(err.Error(), "nothing was done") {
			t.Errorf("%v", err)
		}
		lost, then = 0, abi.ErrUnreachable
		if err = send(abi.Idempotent, ""); abi.CodeOf(err) != abi.ErrTimeout || !errors.Is(err, abi.ErrUnreachable) {
			t.Errorf("unknown first, then unreachable: %v", err)
		}
	})
}

// A node is lost in each phase of a call. What was not sent is answered by the node that takes over; what was is unknown.
func TestNodeLossInEveryPhase(t *testing.T) {
	for _, phase := range []string{"before", "on its way", "in the turn", "answered"} {
		for _, how := range []string{"send", "post", "one-way"} {
			t.Run(phase+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { loseNode(t, phase, how) })
			})
		}
	}
}

func loseNode(t *testing.T, phase, how string) {
	w := newWorld(t, 3)
	n1, n2 := w.node(1), w.node(2)
	who := owned(n1.Runtime().View(), "counter", "n2")
	n1.ok(who.Key())
	var turns atomic.Int32
	entered, leave := make(chan struct{}), make(chan struct{})
	for _, c := range w.nodes {
		c.silo.onDeliver = func(a *activation, e *abi.Envelope) ([]byte, error) {
			turns.Add(1)
			if c == n2 && phase == "in the turn" {
				close(entered)
				<-leave
			}
			return e.Payload, nil
		}
	}
	defer close(leave)
	stuck := make(chan struct{})
	defer close(stuck)
	switch phase {
	case "before":
		w.kill(n2)
	case "on its way":
		n2.put(func() { <-stuck })
	}
	outcome := make(chan error, 1)
	go func() {
		e := env(who.Key())
		e.Deadline = time.Now().Add(5 * time.Second)
		if how != "send" {
			if how == "one-way" {
				e.Flags = abi.OneWay
			}
			if err := n1.API().Post(e, func(_ []byte, err error) { outcome <- err }); err != nil {
				outcome <- err
			}
			return
		}
		_, err := n1.API().Send(t.Context(), e)
		outcome <- err
	}()
	var err error
	got := false
	switch phase {
	case "in the turn":
		<-entered
	case "answered":
		err, got = <-outcome, true
	}
	synctest.Wait()
	if phase != "before" {
		w.kill(n2)
	}
	n1.sees(member(1), member(3))
	w.node(3).sees(member(1), member(3))
	if !got {
		err = <-outcome
	}
	want := abi.ErrNone
	if phase == "in the turn" {
		want = abi.ErrOutcomeUnknown
	}
	if abi.CodeOf(err) != want || turns.Load() != 1 {
		t.Errorf("%v, %d turns", err, turns.Load())
	}
	n1.ok(who.Key())
}
