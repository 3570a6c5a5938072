package actor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestTurnsRunOneAtATimeAndInOrder(t *testing.T) {
	w := newWorld(t)
	in, most, n := 0, 0, 0
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		in++ // unguarded on purpose: the race detector watches
		most = max(most, in)
		n++
		in--
		return reply(out, fmt.Sprint(n))
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			last := 0
			for range 200 {
				s, err := w.call("a", "m", "", time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				var got int
				fmt.Sscan(s, &got)
				if got <= last {
					t.Errorf("reply %d after %d", got, last)
				}
				last = got
			}
		})
	}
	wg.Wait()
	if most != 1 || n != 16*200 {
		t.Errorf("most turns at once %d, turns %d", most, n)
	}
}

func TestTurnRunsOnTheCallersGoroutineOnlyWithTimeForIt(t *testing.T) {
	w := newWorld(t)
	w.limits.Turn = time.Hour // whatever the machine does meanwhile is little
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error { return reply(out, "") })
	for i, c := range []struct {
		timeout time.Duration
		inline  uint64 // so far
	}{{2 * time.Hour, 0} /* it has to start */, {2 * time.Hour, 1}, {w.limits.Turn - time.Minute, 1}, {w.limits.Turn + time.Minute, 2}} {
		if _, err := w.call("a", "m", "", c.timeout); err != nil {
			t.Fatal(err)
		}
		w.work.Wait() // the runner has ended
		if got := w.count.Inline.Load(); got != c.inline || w.count.Turns.Load() != uint64(i+1) {
			t.Errorf("call %d: inline %d of %d turns, want %d", i, got, w.count.Turns.Load(), c.inline)
		}
	}
}

func TestCancellingEndsTheWaitNotTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var finished atomic.Bool
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			time.Sleep(2 * time.Second) // virtual
			finished.Store(true)
			return reply(out, "")
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		env := w.env("a", "m", "", 3*time.Second) // less than a turn's limit: it queues
		_, err := w.Send(ctx, env)
		wantCode(t, err, abi.ErrTimeout)
		if finished.Load() {
			t.Error("the wait outlasted its context")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !finished.Load() {
			t.Error("the turn was cut short")
		}
	})
}

func TestExpiredMessagesHaveNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			time.Sleep(2 * time.Second)
			return reply(out, "")
		})
		go w.call("a", "slow", "", time.Minute)
		synctest.Wait()
		_, err := w.call("a", "late", "", time.Second)
		wantCode(t, err, abi.ErrTimeout)
		time.Sleep(5 * time.Second)
		if n := w.count.Turns.Load(); n != 1 {
			t.Errorf("%d turns, want 1", n)
		}
		if n := w.count.Expired.Load(); n != 1 {
			t.Errorf("%d expired, want 1", n)
		}
	})
}

// Outcomes of posts come in the order of the posts, however often the actor falls idle between them.
func TestOutcomesKeepTheOrderOfPosts(t *testing.T) {
	w := newWorld(t)
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error { return reply(out, "") })
	const posts = 5000
	w.limits.Mailbox = posts + 1
	got := make(chan int, posts)
	for i := range posts {
		if err := w.Post(w.env("a", "m", "", time.Minute), func([]byte, error) { got <- i }); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			runtime.Gosched()
		}
		if i%500 == 0 {
			if _, err := w.call("a", "m", "", time.Minute); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range posts {
		if j := <-got; j != i {
			t.Fatalf("outcome %d comes as number %d", j, i)
		}
	}
}

func TestMailboxIsBounded(t *testing.T) {
	w := newWorld(t)
	w.limits.Mailbox = 3
	gate := make(chan struct{})
	entered := make(chan struct{}, 10)
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		entered <- struct{}{}
		<-gate
		return reply(out, "")
	})
	var wg sync.WaitGroup
	wg.Go(func() { w.call("a", "m", "", time.Minute) })
	<-entered
	for range 3 {
		if err := w.Post(w.env("a", "m", "", time.Minute), func([]byte, error) {}); err != nil {
			t.Fatal(err)
		}
	}
	err := w.Post(w.env("a", "m", "", time.Minute), nil)
	wantCode(t, err, abi.ErrMailboxFull)
	if !strings.Contains(err.Error(), "k/a") {
		t.Errorf("%v does not name the actor", err)
	}
	close(gate)
	wg.Wait()
}

func TestTrapDiscardsTheInstanceAndTheBacklogMovesOn(t *testing.T) {
	w := newWorld(t)
	gate, entered := make(chan struct{}), make(chan struct{})
	var instances int
	w.start[w.id("a")] = func(h *Host) (Instance, error) {
		instances++
		n := 0
		return &guest{host: h, turn: func(h *Host, ev *abi.Event, out *abi.Output) error {
			n++
			if ev.Method == "trap" {
				close(entered)
				<-gate
				return abi.NewError(abi.ErrTrap, "boom")
			}
			return reply(out, fmt.Sprintf("%s %d", ev.Payload, n))
		}}, nil
	}
	var wg sync.WaitGroup
	var trapErr error
	wg.Go(func() { _, trapErr = w.call("a", "trap", "", time.Minute) })
	<-entered
	got := make(chan string, 3)
	for _, p := range []string{"x", "y", "z"} {
		err := w.Post(w.env("a", "m", p, time.Minute), func(b []byte, err error) { got <- fmt.Sprint(string(b), err) })
		if err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	wg.Wait()
	wantCode(t, trapErr, abi.ErrTrap)
	for i, want := range []string{"x 1<nil>", "y 2<nil>", "z 3<nil>"} {
		if s := <-got; s != want {
			t.Errorf("message %d: %q, want %q", i, s, want)
		}
	}
	if ends := w.ended(); instances != 2 || len(ends) != 1 || ends[0].Reason != "trap" {
		t.Errorf("%d instances, ends %+v", instances, ends)
	}
}

func TestPanicOfAnInstanceIsATrap(t *testing.T) {
	w := newWorld(t)
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error { panic("oh") })
	_, err := w.call("a", "m", "", time.Minute)
	wantCode(t, err, abi.ErrTrap)
	if !strings.Contains(err.Error(), "oh") {
		t.Errorf("%v does not say why", err)
	}
}

func TestFailedStartAnswersWhoeverWaits(t *testing.T) {
	w := newWorld(t)
	gate, entered := make(chan struct{}), make(chan struct{})
	w.start[w.id("a")] = func(h *Host) (Instance, error) {
		close(entered)
		<-gate
		return nil, errors.New("no memory")
	}
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	wg.Go(func() { _, err := w.call("a", "m", "", time.Minute); errs <- err })
	<-entered
	for range 2 {
		if err := w.Post(w.env("a", "m", "", time.Minute), func(_ []byte, err error) { errs <- err }); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	wg.Wait()
	for range 3 {
		err := <-errs
		wantCode(t, err, abi.ErrActivationFailed)
		if !strings.Contains(err.Error(), "no memory") {
			t.Errorf("%v does not say why", err)
		}
	}
	w.work.Wait() // the owner is told after those who wait
	if ends := w.ended(); len(ends) != 1 || !ends[0].Failed {
		t.Errorf("ends %+v", ends)
	}
}

func TestSelfComesWithTheFirstEventAlone(t *testing.T) {
	w := newWorld(t)
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Self == nil {
			return reply(out, "none")
		}
		return reply(out, ev.Self.Identity.Key()+" "+ev.Self.Reason)
	})
	for _, want := range []string{"k/a test", "none"} {
		if got, err := w.call("a", "m", "", time.Minute); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

func TestPassivateOnlyWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var events []string
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			events = append(events, ev.Tag.String()+ev.Reason)
			if ev.Method == "timer" {
				return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "t", After: time.Second}, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			}
			return reply(out, "")
		})
		if _, err := w.call("a", "timer", "", time.Minute); err != nil {
			t.Fatal(err)
		}
		a := w.at(w.id("a"))
		if a.Passivate("idle") {
			t.Error("passivated with a timer set")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !a.Passivate("idle") {
			t.Error("not passivated though idle")
		}
		synctest.Wait()
		if got := strings.Join(events, " "); got != "call timer passivateidle" {
			t.Errorf("events %q", got)
		}
		if _, err := a.Deliver(t.Context(), w.env("a", "m", "", time.Minute)); abi.CodeOf(err) != abi.ErrOwnershipChanged {
			t.Errorf("an ended activation answers %v", err)
		}
	})
}

func TestStopLetsWaitingMessagesAndDeferredRepliesFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var token uint64
		w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
			switch ev.Method {
			case "later":
				token = ev.Token
				return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "t", After: time.Second})
			case "slow":
				time.Sleep(time.Second)
			}
			if ev.Tag == abi.EventTimer {
				return effects(out, abi.Effect{Tag: abi.EffectReply, Token: token, Payload: []byte("late")})
			}
			return reply(out, "ok")
		})
		results := make(chan string, 4)
		for _, m := range []string{"later", "slow", "m"} {
			if err := w.Post(w.env("a", m, "", time.Minute), func(b []byte, err error) { results <- fmt.Sprint(m, " ", string(b), " ", err) }); err != nil {
				t.Fatal(err)
			}
		}
		w.at(w.id("a")).Stop("shutdown")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		close(results)
		var got []string
		for r := range results {
			got = append(got, r)
		}
		if s := strings.Join(got, "; "); s != "slow ok <nil>; m ok <nil>; later late <nil>" {
			t.Errorf("results %q", s)
		}
		if ends := w.ended(); len(ends) != 1 || ends[0].Reason != "shutdown" {
			t.Errorf("ends %+v", ends)
		}
	})
}

// Whoever stands and waits is told that the actor is gone, and looks for it; what was posted goes where it is now.
func TestRevokeAnswersOwnershipChanged(t *testing.T) {
	w := newWorld(t)
	gate, entered := make(chan struct{}), make(chan struct{})
	var first sync.Once
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		first.Do(func() { close(entered) })
		<-gate
		return reply(out, ev.Method)
	})
	var wg sync.WaitGroup
	wg.Go(func() { w.call("a", "m", "", time.Minute) })
	<-entered
	got := make(chan error, 1)
	if err := w.Post(w.env("a", "posted", "", time.Minute), func(reply []byte, err error) {
		if string(reply) != "posted" {
			err = errors.Join(err, fmt.Errorf("the reply is %q", reply))
		}
		got <- err
	}); err != nil {
		t.Fatal(err)
	}
	lost := w.at(w.id("a"))
	waits := make(chan error, 1)
	wg.Go(func() {
		_, err := lost.Deliver(t.Context(), w.env("a", "m", "", time.Minute))
		waits <- err
	})
	for lost.Status().Queued < 2 {
		runtime.Gosched()
	}
	lost.Revoke()
	close(gate)
	wantCode(t, <-waits, abi.ErrOwnershipChanged)
	if err := <-got; err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.desc = &abi.KindDescription{Name: "k", Events: []abi.EventTag{abi.EventCall}, Methods: []abi.Method{{Name: "m", ReadOnly: true}}}
	w.limits.MaxMessage = 10
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		return effects(out, abi.Effect{Tag: abi.EffectTell, Target: h.Identity(), Method: "m"})
	})
	_, err := w.call("a", "n", "", time.Minute)
	wantCode(t, err, abi.ErrUnknownMethod)
	_, err = w.call("a", "m", "12345678901", time.Minute)
	wantCode(t, err, abi.ErrPayloadTooLarge)
	env := w.env("a", "m", "", time.Minute)
	env.Flags = abi.OneWay
	_, err = w.Send(t.Context(), env)
	wantCode(t, err, abi.ErrUnsupported)
	_, err = w.call("a", "m", "", 0)
	wantCode(t, err, abi.ErrTimeout)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.Send(ctx, w.env("a", "m", "", time.Minute))
	wantCode(t, err, abi.ErrCanceled)
	_, err = w.call("a", "m", "", time.Minute) // a read-only turn with an effect
	wantCode(t, err, abi.ErrTrap)
}

// A turn that could not begin for want of room costs its caller an error by which it may send again, and the actor nothing.
func TestTurnThatDidNotBeginBreaksNothing(t *testing.T) {
	w := newWorld(t)
	n, full, told := 0, false, 0
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if full {
			return abi.NewError(abi.ErrOverloaded, "no room")
		}
		if ev.Self != nil {
			told++
		}
		n++
		return reply(out, fmt.Sprint(n))
	})
	for i, c := range []struct {
		full bool
		want string
	}{{true, ""}, {false, "1"}, {true, ""}, {true, ""}, {false, "2"}} {
		full = c.full
		got, err := w.call("a", "m", "", time.Minute)
		if got != c.want || c.full != (abi.CodeOf(err) == abi.ErrOverloaded) {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
	if told != 1 || len(w.ends) != 0 || w.count.Traps.Load() != 0 {
		t.Errorf("told who it is %d times; %d ends, %d traps", told, len(w.ends), w.count.Traps.Load())
	}
}
