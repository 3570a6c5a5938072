package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
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
