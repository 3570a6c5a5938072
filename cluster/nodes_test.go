package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// Every node reaches every actor, and each actor is active on one node only.
func TestEveryActorAnswersFromEveryNode(t *testing.T) {
	w := newWorld(t, 3)
	const identities = 300
	for _, c := range w.nodes {
		for i := range identities {
			c.ok(fmt.Sprintf("counter/%d", i))
		}
	}
	active := 0
	for _, c := range w.nodes {
		n := len(c.silo.live)
		if active += n; n < identities/5 {
			t.Errorf("node %s has %d of %d", c.self.ID, n, identities)
		}
	}
	if active != identities {
		t.Errorf("%d activations of %d actors", active, identities)
	}
	if sent := w.crossed(1, 2) + w.crossed(1, 3); sent == 0 || sent > identities {
		t.Errorf("node 1 sent %d messages for %d calls", sent, identities)
	}
}

// A node with a stale view is told where the actor is, and tries there at once. It does not remember what its own view denies.
func TestRedirectsAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		n1, n2 := w.node(1), w.node(2)
		for i := 1; i < 3; i++ { // nobody but n3 itself and n2 has heard of its kinds
			w.node(i).knows("n3", "bank")
		}
		n2.knows("n3", "bank", "counter")
		who := movedActor(n1, n2, "counter", "n2", "n3")
		begin := time.Now()
		for i := range 3 {
			n1.ok(who.Key())
			if w.crossed(1, 2) != i+1 || w.crossed(1, 3) != i+1 {
				t.Errorf("call %d: %d messages to n2, %d to n3", i, w.crossed(1, 2), w.crossed(1, 3))
			}
		}
		if err := n1.API().Post(env(who.Key()), nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if time.Since(begin) != 0 || len(n2.silo.live) != 0 || w.node(3).silo.find(who).calls.Load() != 4 {
			t.Errorf("after %s, n2 has %d activations", time.Since(begin), len(n2.silo.live))
		}
		if len(n1.metrics.retries) != 3 || n1.metrics.retries[0] != (retryRecord{who, 2, RetrySucceeded}) {
			t.Errorf("recorded %v", n1.metrics.retries)
		}
		n1.knows("n3", "bank", "counter")
		before := w.crossed(1, 2)
		n1.ok(who.Key())
		if w.crossed(1, 2) != before {
			t.Error("the settled view was not used")
		}
	})
}

// movedActor finds an actor that one node's view places on one node and another's on another.
func movedActor(a, b *citizen, kind string, inA, inB NodeID) Identity {
	va, vb := a.Runtime().View(), b.Runtime().View()
	for i := 0; ; i++ {
		who := id(fmt.Sprintf("%s/m%d", kind, i))
		if x, _ := va.OwnerOf(who); x == nil || x.ID != inA {
			continue
		}
		if y, _ := vb.OwnerOf(who); y != nil && y.ID == inB {
			return who
		}
	}
}

// A redirect to a node that the sender does not see, to the sender, or to the one that answered leads nowhere: it waits for
// the view to change, and then tries at once.
func TestRedirectsThatLeadNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		n1 := w.node(1)
		n1.sees(member(1), member(2))
		who := movedActor(n1, w.node(2), "counter", "n2", "n3")
		begin := time.Now()
		time.AfterFunc(777*time.Millisecond, func() {
			n1.sees(member(1), member(2), member(3))
			n1.knows("n3", "counter", "bank")
		})
		n1.ok(who.Key())
		if took := time.Since(begin); took != 777*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if n := w.crossed(1, 2); n < 5 || n > 12 {
			t.Errorf("%d messages to n2 meanwhile", n)
		}
		if w.crossed(1, 3) != 1 {
			t.Errorf("%d messages to n3", w.crossed(1, 3))
		}

		// n2 says that it is n1's, n1 that it is n2's.
		w.node(2).sees(member(1), member(2))
		w.node(2).knows("n1", "counter", "bank")
		n1.sees(member(2), member(3))
		who = movedActor(n1, w.node(2), "counter", "n2", "n1")
		before := w.crossed(1, 2)
		_, err := n1.API().Request(t.Context(), who, Message{Method: "get", Timeout: time.Second})
		if abi.CodeOf(err) != abi.ErrOwnershipChanged || !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "nothing was done") {
			t.Errorf("%v", err)
		}
		if n := w.crossed(1, 2) - before; n < 5 || n > 12 {
			t.Errorf("%d messages", n)
		}
	})
}

// Two nodes that name each other: a request goes round once, and again after each back-off, until the views settle.
func TestCirclesEndInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		n1 := w.node(1)
		w.node(2).sees(member(1), member(3))
		w.node(3).sees(member(1), member(2))
		who := movedActor(w.node(2), w.node(3), "counter", "n3", "n2")
		begin := time.Now()
		time.AfterFunc(3*time.Second, func() {
			for i := 2; i < 4; i++ {
				w.node(i).sees(member(1), member(2), member(3))
			}
			w.node(2).knows("n3", "counter", "bank")
		})
		reply, err := n1.API().Request(t.Context(), who, Message{Method: "get", Payload: []byte("x"), Timeout: 8 * time.Second})
		if err != nil || string(reply) != "x" {
			t.Fatalf("%q, %v", reply, err)
		}
		if took := time.Since(begin); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
		if n := w.crossed(1, 2) + w.crossed(1, 3); n > 3*15 {
			t.Errorf("%d messages", n)
		}
	})
}

// What no node can be reached for is tried until the deadline, however few attempts the policy has, and again at once when
// the view changes.
func TestUnreachableNodesAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, func(c *Config) { c.Retry.Attempts = 2 })
		n1, n2 := w.node(1), w.node(2)
		who := owned(n1.Runtime().View(), "counter", "n2")
		n1.ok(who.Key())
		w.kill(n2)
		begin := time.Now()
		_, err := n1.API().Request(t.Context(), who, Message{Method: "get", Timeout: 4 * time.Second})
		var re *RequestError
		if took := time.Since(begin); took != 4*time.Second || abi.CodeOf(err) != abi.ErrUnreachable || !errors.Is(err, ErrTimeout) ||
			!errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &re) || re.Attempts < 5 || re.Attempts > 20 ||
			!strings.Contains(err.Error(), "nothing was done") || !strings.Contains(err.Error(), "cannot be reached") {
			t.Errorf("after %s: %v", took, err)
		}
		if e := abi.AsError(err); !e.Code.Retryable() || e.Code.Info().Status != 503 {
			t.Errorf("as a client sees it: %v", e)
		}
		if _, err = n1.API().Get(t.Context(), who); err != nil {
			t.Errorf("Get asks nobody: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err = n1.API().Send(ctx, env(who.Key())); abi.CodeOf(err) != abi.ErrCanceled {
			t.Errorf("cancelled: %v", err)
		}

		// A view that changes something else wakes nobody; one that names another owner does, in the middle of a back-off.
		begin = time.Now()
		time.AfterFunc(1111*time.Millisecond, func() { n1.sees(member(1), member(2), member(3), member(4)) })
		time.AfterFunc(2222*time.Millisecond, func() {
			w.node(3).sees(member(1), member(3))
			n1.sees(member(1), member(3))
		})
		n1.ok(who.Key())
		if took := time.Since(begin); took != 2222*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		last := n1.metrics.retries[len(n1.metrics.retries)-1]
		if last.attempts < 7 || last.attempts > 12 || last.outcome != RetrySucceeded {
			t.Errorf("recorded %v", last)
		}
	})
}

// A kind that nobody hosts for a while is waited for as well.
func TestKindsWithoutHostsAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, func(c *Config) { c.Retry.Attempts = 1 })
		n1 := w.node(1)
		block := func(n *citizen, blocked bool) {
			for _, m := range w.order {
				if blocked {
					n.Runtime().HandleBlockedNode(m.ID)
				} else {
					n.Runtime().HandleUnblockedNode(m.ID)
				}
			}
		}
		block(n1, true)
		begin := time.Now()
		_, err := n1.API().Request(t.Context(), id("counter/a"), Message{Method: "get", Timeout: time.Second})
		if abi.CodeOf(err) != abi.ErrBlocked || time.Since(begin) != time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		done := make(chan error, 1)
		if err := n1.API().Post(env("counter/b"), func(_ []byte, err error) { done <- err }); err != nil {
			t.Errorf("a post: %v", err)
		}
		begin = time.Now()
		time.AfterFunc(1234*time.Millisecond, func() { block(n1, false) })
		n1.ok("counter/a")
		if err := <-done; err != nil || time.Since(begin) != 1234*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
	})
}

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

// A node that leaves finishes what it has; nobody's call is lost.
func TestShutdownUnderLoadLosesNoCall(t *testing.T) {
	w := newWorld(t, 3)
	leaver := w.node(3)
	var stop sync.WaitGroup
	quit := make(chan struct{})
	var mu sync.Mutex
	turns := map[string]int{}
	for _, c := range w.nodes {
		c.silo.onDeliver = func(_ *activation, e *abi.Envelope) ([]byte, error) {
			mu.Lock()
			turns[string(e.Payload)]++
			mu.Unlock()
			return e.Payload, nil
		}
	}
	calls := [3]int{}
	for i := 1; i < 3; i++ {
		stop.Go(func() {
			c := w.node(i)
			var posts sync.WaitGroup
			defer posts.Wait()
			for n := 0; ; n++ {
				select {
				case <-quit:
					return
				default:
				}
				calls[i] = n + 1
				e := env(fmt.Sprintf("counter/%d", n%97))
				e.Payload = fmt.Appendf(nil, "%d-%d", i, n)
				e.Deadline = time.Now().Add(30 * time.Second)
				if n%3 == 0 {
					posts.Add(1)
					e.Flags = abi.OneWay
					if err := c.API().Post(e, func(_ []byte, err error) {
						if err != nil {
							t.Errorf("post %d: %v", n, err)
						}
						posts.Done()
					}); err != nil {
						t.Errorf("post %d refused: %v", n, err)
						posts.Done()
					}
					continue
				}
				if _, err := c.API().Send(t.Context(), e); err != nil {
					t.Errorf("call %d: %v", n, err)
					return
				}
			}
		})
	}
	sent := func() int { return w.crossed(1, 3) + w.crossed(2, 3) }
	until(t, func() bool { return sent() > 200 })
	if err := leaver.stop(); err != nil {
		t.Error(err)
	}
	mark := sent()
	until(t, func() bool { return sent() > mark+10 }) // they keep trying
	for i := 1; i < 3; i++ {
		w.node(i).knows("n3") // it hosts nothing any more
	}
	took := func() (n int) { return int(w.node(1).silo.activations() + w.node(2).silo.activations()) }
	until(t, func() bool { return took() >= 97 })
	close(quit)
	stop.Wait()
	mu.Lock()
	defer mu.Unlock()
	for i := 1; i < 3; i++ {
		for n := range calls[i] {
			if got := turns[fmt.Sprintf("%d-%d", i, n)]; got != 1 {
				t.Errorf("call %d of node %d had %d turns", n, i, got)
			}
		}
	}
	t.Logf("%d and %d calls, %d messages to the node that left", calls[1], calls[2], sent())
}

// until waits for something that other goroutines bring about.
func until(t *testing.T, ready func() bool) {
	t.Helper()
	hang := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-hang:
			t.Fatal("it hangs")
		}
	}
}

// A node that leaves takes no more messages of others, also not for actors that are still active, but for those that its own
// turns wait for.
func TestALeavingNodeTakesWhatItsTurnsAwait(t *testing.T) {
	w := newWorld(t, 2)
	n1 := w.node(1)
	view := n1.Runtime().View()
	waiting, target := owned(view, "counter", "n1"), owned(view, "bank", "n1")
	n1.ok(target.Key())
	var stranger, tell, ours error
	n1.silo.onDeliver = func(a *activation, e *abi.Envelope) ([]byte, error) {
		if e.Target == target {
			return e.Payload, nil
		}
		n1.Runtime().shutting.Store(true)
		defer n1.Runtime().shutting.Store(false)
		_, stranger = n1.received(env(target.Key()))
		one := env(target.Key())
		one.Flags, one.Chain = abi.OneWay, []Identity{id("chat/other")}
		_, tell = n1.received(one)
		awaited := env(target.Key())
		awaited.Chain = []Identity{waiting, id("chat/other")}
		_, ours = n1.received(awaited)
		return e.Payload, nil
	}
	n1.ok(waiting.Key())
	if abi.CodeOf(stranger) != abi.ErrShuttingDown || abi.CodeOf(tell) != abi.ErrShuttingDown || ours != nil {
		t.Errorf("a stranger's: %v; a tell: %v; awaited: %v", stranger, tell, ours)
	}
}

// While a node leaves, the turns that still run reach other nodes' actors, cached or not. Nobody else resolves anything.
func TestActorsOfALeavingNodeReachOthers(t *testing.T) {
	w := newWorld(t, 2)
	n1 := w.node(1)
	view := n1.Runtime().View()
	mine, theirs := owned(view, "counter", "n1"), owned(view, "bank", "n2")
	other := owned(view, "bank", "n1")
	var late [4]error
	n1.silo.onDeliver = func(_ *activation, e *abi.Envelope) ([]byte, error) {
		n1.Runtime().BeginShutdown(t.Context())
		call := func(to Identity, from Identity) *abi.Envelope {
			e := env(to.Key())
			e.Caller = from
			return e
		}
		_, late[0] = n1.API().Send(t.Context(), call(theirs, mine))
		late[1] = n1.API().Post(call(theirs, mine), nil)
		_, late[2] = n1.API().Send(t.Context(), call(other, mine))
		_, late[3] = n1.API().Get(t.Context(), theirs)
		return e.Payload, nil
	}
	n1.ok(mine.Key())
	if late[0] != nil || late[1] != nil {
		t.Errorf("an actor's call of another node's: %v, %v", late[0], late[1])
	}
	if abi.CodeOf(late[2]) != abi.ErrShuttingDown {
		t.Errorf("an actor's call of an actor to be activated here: %v", late[2])
	}
	if abi.CodeOf(late[3]) != abi.ErrShuttingDown {
		t.Errorf("a resolve: %v", late[3])
	}
	if n1.Runtime().machine.Phase() < core.PhaseShuttingDown {
		t.Error("it did not leave")
	}
}
