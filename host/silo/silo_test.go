package silo

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
)

func TestB3_1_ConcurrentRequestsActivateOnce(t *testing.T) {
	n := newNode(t, nil)
	var wg sync.WaitGroup
	for caller := range 16 {
		wg.Go(func() {
			for i := range 50 {
				if got, err := n.call(numbered("a", i), "m", fmt.Sprint(caller)); err != nil || got != fmt.Sprint(caller) {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	for name, starts := range n.starts {
		if starts != 1 {
			t.Errorf("%s started %d times", name, starts)
		}
	}
	if st := n.silo.Stats(); st.Activations != 50 || st.Bytes != 5000 {
		t.Errorf("%+v", st)
	}
	if n.ext.Runtime().Leases() != 50 {
		t.Errorf("%d leases", n.ext.Runtime().Leases())
	}
}

func TestB3_2_FailedStartReleasesTheLease(t *testing.T) {
	n := newNode(t, nil)
	n.start = func() error { return errors.New("no memory") }
	_, err := n.call("a", "m", "")
	if abi.CodeOf(err) != abi.ErrActivationFailed || !strings.Contains(err.Error(), "no memory") {
		t.Fatalf("%v", err)
	}
	for began := time.Now(); n.ext.Runtime().Leases() != 0; runtime.Gosched() { // it ends after the callers are told
		if time.Since(began) > time.Minute {
			t.Fatalf("%d leases after a failed start", n.ext.Runtime().Leases())
		}
	}
	n.start = func() error { return nil }
	n.must("a", "m", "")
}

func TestB3_3_IdleActorsArePassivatedAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		n.must("a", "m", "")
		n.must("b", "m", "")
		time.Sleep(40 * time.Second)
		n.must("b", "m", "")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := n.passivated(); !slices.Equal(got, []string{"a idle"}) {
			t.Errorf("passivated %q", got)
		}
		if l := n.ext.Runtime().Leases(); l != 1 {
			t.Errorf("%d leases", l)
		}
		n.must("a", "m", "")
		if n.starts["a"] != 2 || n.starts["b"] != 1 {
			t.Errorf("starts %v", n.starts)
		}
	})
}

func TestAFullSiloEvictsWhoWasIdleLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, func(c *Config, k *Kind) { c.MaxActors = 4 })
		for i := range 4 {
			n.must(numbered("a", i), "m", "")
			time.Sleep(time.Second)
		}
		n.must("a0000", "m", "") // now a0001 is the oldest
		time.Sleep(time.Second)
		n.must("new", "m", "")
		synctest.Wait()
		if got := n.passivated(); !slices.Equal(got, []string{"a0001 evicted"}) {
			t.Errorf("passivated %q", got)
		}
	})
}

func TestAFullSiloWithNobodyIdleRefuses(t *testing.T) {
	n := newNode(t, func(c *Config, k *Kind) { c.Room = func() (int64, int64) { return 200, 20 } })
	gate := make(chan struct{})
	entered := make(chan struct{}, 2)
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		entered <- struct{}{}
		<-gate
		out.Kind = abi.OutReply
		return nil
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { n.call(numbered("a", i), "m", "") })
		<-entered
	}
	_, err := n.silo.Activate(activation("late"))
	if abi.CodeOf(err) != abi.ErrOverloaded || !strings.Contains(err.Error(), "limits.max_actors") {
		t.Errorf("%v", err)
	}
	close(gate)
	wg.Wait()
}

// A trap with messages behind it: they keep their order on the successor, and nothing that comes meanwhile overtakes them.
func TestBacklogOfATrapGoesToTheSuccessorInOrder(t *testing.T) {
	n := newNode(t, nil)
	gate, entered := make(chan struct{}), make(chan struct{})
	var got []string
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		out.Kind = abi.OutReply
		if ev.Method == "trap" {
			close(entered)
			<-gate
			return abi.NewError(abi.ErrTrap, "boom")
		}
		got = append(got, string(ev.Payload))
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := n.call("a", "trap", ""); abi.CodeOf(err) != abi.ErrTrap {
			t.Errorf("%v", err)
		}
	})
	<-entered
	want := []string{}
	post := func(i int) {
		p := numbered("", i)
		want = append(want, p)
		env := n.env("a", "m", p)
		env.Flags = abi.OneWay
		if err := n.api.Post(env, nil); err != nil {
			t.Error(err)
		}
	}
	for i := range 50 {
		post(i)
	}
	close(gate)
	for i := 50; i < 90; i++ { // these race with the hand-over
		post(i)
	}
	n.must("a", "m", "end")
	wg.Wait()
	if !slices.Equal(got, append(want, "end")) {
		t.Errorf("order %q", got)
	}
	if n.starts["a"] != 2 {
		t.Errorf("%d starts", n.starts["a"])
	}
}

func TestB3_4_DrainLetsTurnsFinishAndRefusesNewOnes(t *testing.T) {
	n := newNode(t, nil)
	gate, entered := make(chan struct{}), make(chan struct{})
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "slow" {
			close(entered)
			<-gate
		}
		out.Kind, out.Payload = abi.OutReply, []byte("done")
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, err := n.call("a", "slow", ""); err != nil || got != "done" {
			t.Errorf("%q, %v", got, err)
		}
	})
	<-entered
	shut := make(chan error, 1)
	go func() { shut <- n.sys.Shutdown(t.Context()) }()
	for { // until the shutdown has begun
		if _, err := n.call("b", "m", ""); abi.CodeOf(err) == abi.ErrShuttingDown {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	wg.Wait()
	if err := <-shut; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if st := n.silo.Stats(); st.Activations != 0 {
		t.Errorf("%+v", st)
	}
	if l := n.ext.Runtime().Leases(); l != 0 {
		t.Errorf("%d leases", l)
	}
}

func TestListPages(t *testing.T) {
	n := newNode(t, nil)
	for i := range 100 {
		n.must(numbered("a", i), "m", "")
	}
	var all []string
	after := ""
	for {
		page, more := n.silo.List(Filter{Kind: "k"}, after, 7)
		for _, info := range page {
			all = append(all, info.Identity.ID())
			after = info.Identity.Key()
			if info.Version != "v1" || info.Since.IsZero() {
				t.Errorf("%+v", info)
			}
		}
		if !more {
			break
		}
	}
	if len(all) != 100 || !slices.IsSorted(all) {
		t.Errorf("%d listed: %q", len(all), all)
	}
	if page, more := n.silo.List(Filter{Kind: "other"}, "", 7); len(page) != 0 || more {
		t.Errorf("%v, %v", page, more)
	}
}

// Those that are active and those that sleep are one list.
func TestListMergesSleepers(t *testing.T) {
	n := sleepyNode(t, nil)
	for i := range 30 {
		n.must(numbered("a", i), "m", "")
	}
	if err := n.silo.PassivateIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if i%3 == 0 {
			n.must(numbered("a", i), "m", "")
		}
	}
	for _, tt := range []struct {
		f             Filter
		active, sleep int
	}{{Filter{}, 10, 20}, {Filter{Active: true, Sleep: true}, 10, 20}, {Filter{Kind: "k", Active: true}, 10, 0}, {Filter{Sleep: true}, 0, 20},
		{Filter{Kind: "other"}, 0, 0}} {
		var all []string
		active, sleep, after := 0, 0, ""
		for {
			page, more := n.silo.List(tt.f, after, 4)
			for _, i := range page {
				after = i.Identity.Key()
				all = append(all, after)
				if i.Sleeps {
					sleep++
				} else {
					active++
				}
				if i.Sleeps != (i.Size > 0) || i.Sleeps != i.Since.IsZero() || i.LastUsed.IsZero() {
					t.Errorf("%+v", i)
				}
			}
			if !more {
				break
			}
		}
		if active != tt.active || sleep != tt.sleep || !slices.IsSorted(all) {
			t.Errorf("%+v: %d active, %d asleep: %q", tt.f, active, sleep, all)
		}
	}
}

func TestPassivateIdle(t *testing.T) {
	n := newNode(t, nil)
	for i := range 20 {
		n.must(numbered("a", i), "m", "")
	}
	if err := n.silo.PassivateIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := n.silo.Stats(); st.Activations != 0 || n.ext.Runtime().Leases() != 0 {
		t.Errorf("%+v, %d leases", st, n.ext.Runtime().Leases())
	}
}

// What has left the table and is still about to tell so counts as going.
func TestPassivateIdleWaitsForWhatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		obs := &lingering{gate: make(chan struct{})}
		req := activation("a")
		req.Observer = obs
		target, err := n.silo.Activate(req)
		if err != nil {
			t.Fatal(err)
		}
		if !target.(*actor.Activation).Passivate("idle") {
			t.Fatal("it is not idle")
		}
		synctest.Wait()
		if n.silo.entry(id("a")) != nil {
			t.Fatal("it is in the table")
		}
		over := make(chan error, 1)
		go func() { over <- n.silo.PassivateIdle(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-over:
			t.Errorf("it did not wait: %v; %+v", err, n.silo.Stats())
		default:
		}
		close(obs.gate)
		synctest.Wait()
		if st := n.silo.Stats(); st.Activations != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// lingering is an observer that takes its time for an end.
type lingering struct {
	recorder
	gate chan struct{}
}

func (l *lingering) Terminated(lease cluster.Lease, reason string) {
	<-l.gate
	l.recorder.Terminated(lease, reason)
}

// Many callers, actors that come and go and break: every request is answered, and no actor ever has two instances
// (checked by the world's Start).
func TestChurn(t *testing.T) {
	n := newNode(t, func(c *Config, k *Kind) { c.MaxActors = 20 })
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		out.Kind, out.Payload = abi.OutReply, ev.Payload
		if ev.Method == "trap" {
			return abi.NewError(abi.ErrTrap, "boom")
		}
		return nil
	}
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for i := range 400 {
				method := "m"
				if (i+caller)%7 == 0 {
					method = "trap"
				}
				_, err := n.call(numbered("a", (i*13+caller)%30), method, "x")
				switch code := abi.CodeOf(err); {
				case code == abi.ErrNone && method == "m", code == abi.ErrTrap && method == "trap", code == abi.ErrOverloaded:
				default:
					t.Errorf("%s: %v", method, err)
				}
				if i%50 == 0 {
					n.silo.PassivateIdle(t.Context())
				}
			}
		})
	}
	wg.Wait()
}

// Two actors that ask each other are told so also where the one's request waits for the other's activation to end, which the other's turn keeps
// from ending: a mailbox never sees such a request.
func TestADeadlockAtTheEndOfAnActivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		ask := make(chan struct{})
		n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			out.Kind, out.Payload = abi.OutReply, []byte("said")
			switch ev.Method {
			case "ask-b":
				<-ask
				if r := h.Request(&abi.Request{Target: id("b"), Method: "m"}); r.Err != nil {
					out.Payload = []byte(r.Err.Error())
				}
			case "ask-a":
				h.Request(&abi.Request{Target: id("a"), Method: "m"})
			}
			return nil
		}
		answers := map[string]chan string{"a": make(chan string, 1), "b": make(chan string, 1)}
		call := func(name, method string) {
			go func() {
				out, err := n.call(name, method, "")
				if err != nil {
					out = err.Error()
				}
				answers[name] <- out
			}()
			synctest.Wait()
		}
		call("a", "ask-b")
		call("b", "ask-a") // it stands in a's mailbox
		n.silo.Revoke(n.silo.shard(id("b")).entries[id("b")].lease)
		began := time.Now()
		close(ask)
		if out := <-answers["a"]; !strings.Contains(out, "deadlock: k/b→k/a→k/b") || time.Since(began) != 0 {
			t.Errorf("%s after %v", out, time.Since(began))
		}
		<-answers["b"]
	})
}
