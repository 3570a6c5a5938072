package cluster

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

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
				e.Deadline = time.Now().Add(10 * time.Minute)
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
	over := time.After(hang)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-over:
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
