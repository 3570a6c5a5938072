package host

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
)

// knot is a cluster of actors that are told what to do by the test. A turn has more time than the test takes a call to have, so that whatever
// ends well was not ended by a limit.
type knot struct {
	*party
	mu    sync.Mutex
	does  map[string]func(h *actor.Host, ev *abi.Event, out *abi.Output) error
	taken int
}

func newKnot(t *testing.T, nodes int) *knot {
	t.Helper()
	k := &knot{party: newParty(t), does: make(map[string]func(*actor.Host, *abi.Event, *abi.Output) error)}
	kind := nativeKind("knot", func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		k.mu.Lock()
		do := k.does[h.Identity().ID()]
		k.mu.Unlock()
		if do == nil || ev.Tag == abi.EventCall && ev.Method == "leaf" {
			return replyWith(out, nil)
		}
		return do(h, ev, out)
	})
	for i := range nodes {
		cfg := k.config("n"+strconv.Itoa(i+1), kind)
		cfg.Limits.Turn, cfg.Limits.Request = 2*hang, 2*hang
		k.add(cfg)
	}
	k.agree()
	return k
}

// actors returns names of actors that nobody has used, each on the node given.
func (k *knot) actors(on ...int) []string {
	k.t.Helper()
	names := make([]string, len(on))
	for i, node := range on {
		for names[i] == "" {
			k.taken++
			name := strconv.Itoa(k.taken)
			if k.owner("n1", "knot/"+name) == cluster.NodeID("n"+strconv.Itoa(node)) {
				names[i] = name
			}
		}
	}
	return names
}

func (k *knot) define(name string, do func(h *actor.Host, ev *abi.Event, out *abi.Output) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.does[name] = do
}

// send calls an actor through some node, as a client.
func (k *knot) send(name, method string) error {
	via := k.nodes["n"+strconv.Itoa(1+rand.IntN(len(k.nodes)))]
	_, err := callFor(via, "knot/"+name, method, "", hang)
	return err
}

func knotID(name string) abi.Identity {
	id, err := abi.NewIdentity("knot", name)
	if err != nil {
		panic(err)
	}
	return id
}

// pass asks another actor and answers what that answers.
func pass(h *actor.Host, out *abi.Output, to, method string) error {
	r := h.Request(&abi.Request{Target: knotID(to), Method: method})
	if r.Err != nil {
		out.Kind, out.Err = abi.OutError, r.Err
		return nil
	}
	return replyWith(out, r.Payload)
}

// tie has every actor of a ring ask the next one while all are in their turns.
func (k *knot) tie(what string, names []string) {
	k.t.Helper()
	var inside sync.WaitGroup
	inside.Add(len(names))
	for i, name := range names {
		k.define(name, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			inside.Done()
			inside.Wait()
			return pass(h, out, names[(i+1)%len(names)], "leaf")
		})
	}
	k.undone(what, names, names)
}

// undone calls those who begin, and checks that what they tie comes undone: somebody is told, with a path along the names, and nobody
// waits for a limit.
func (k *knot) undone(what string, names, begin []string) {
	k.t.Helper()
	began := time.Now()
	errs := make([]error, len(begin))
	var wg sync.WaitGroup
	for i, name := range begin {
		wg.Go(func() { errs[i] = k.send(name, "go") })
	}
	wg.Wait()
	k.t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
	told := 0
	for _, err := range errs {
		switch abi.CodeOf(err) {
		case abi.ErrNone:
		case abi.ErrDeadlock:
			told++
			text := err.Error()
			path := strings.Split(text[strings.LastIndex(text, ": ")+2:], "→")
			if len(path) < 3 || path[0] != path[len(path)-1] {
				k.t.Errorf("%s: the path %q", what, path)
			}
			for _, p := range path {
				if !slices.Contains(names, strings.TrimPrefix(p, "knot/")) {
					k.t.Errorf("%s: %q is not of the ring", what, p)
				}
			}
		default:
			k.t.Errorf("%s: %v", what, err)
		}
	}
	if told == 0 {
		k.t.Errorf("%s: nobody was told: %v", what, errs)
	}
}

func TestRingsOverSeveralNodesAreTold(t *testing.T) {
	k := newKnot(t, 4)
	for _, on := range [][]int{{1, 2, 3}, {1, 1, 2}, {1, 2, 2}, {2, 3}, {1, 2, 1, 2}, {1, 2, 3, 1}, {4, 3, 2, 1}, {1, 1, 2, 2, 3, 3},
		{1, 2, 3, 4, 1, 2, 3, 4}, {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}} {
		for range 5 {
			k.tie(fmt.Sprint("ring on ", on), k.actors(on...))
		}
	}
}

// A turn that runs inside its caller's has no edge to itself; the ring goes through both.
func TestARingThroughATurnWithinATurn(t *testing.T) {
	k := newKnot(t, 3)
	for range 5 {
		names := k.actors(1, 1, 2, 3)
		a, within, b, c := names[0], names[1], names[2], names[3]
		var inside sync.WaitGroup
		inside.Add(3)
		enter := func() { inside.Done(); inside.Wait() }
		k.define(a, func(h *actor.Host, ev *abi.Event, out *abi.Output) error { return pass(h, out, within, "go") })
		k.define(within, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			enter()
			return pass(h, out, b, "leaf")
		})
		for at, to := range map[string]string{b: c, c: a} {
			k.define(at, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
				enter()
				return pass(h, out, to, "leaf")
			})
		}
		k.undone("within", names, []string{a, b, c})
	}
}

// a waits for b, which has deferred its reply and asks the next one on a's behalf, which is in a turn that waits for a, itself or by
// another one.
func TestARingThroughADeferredReply(t *testing.T) {
	k := newKnot(t, 4)
	for _, on := range [][]int{{1, 2, 3}, {1, 1, 2}, {1, 2, 1}, {1, 2, 2},
		{1, 2, 3, 4}, {1, 2, 3, 1}, {1, 1, 2, 3}, {1, 2, 2, 3}, {1, 2, 1, 3}} {
		for range 5 {
			names := k.actors(on...)
			a, b, rest := names[0], names[1], names[2:]
			var inside sync.WaitGroup
			inside.Add(len(names) - 1)
			asks := func(at, to, method string) {
				k.define(at, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
					inside.Done()
					inside.Wait()
					return pass(h, out, to, method)
				})
			}
			asks(a, b, "defer")
			var token uint64
			k.define(b, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
				out.Kind = abi.OutEffects
				if ev.Tag == abi.EventCompletion {
					out.Effects = []abi.Effect{{Tag: abi.EffectReply, Token: token, Payload: ev.Payload, Err: ev.Err}}
					return nil
				}
				token = ev.Token
				out.Effects = []abi.Effect{{Tag: abi.EffectCall, Handle: 1, Target: knotID(rest[0]), Method: "leaf"}}
				return nil
			})
			for i, at := range rest {
				asks(at, append(rest, a)[i+1], "leaf")
			}
			k.undone(fmt.Sprint("deferred on ", on), names, append([]string{a}, rest...))
		}
	}
}

// Requests that run beside a turn are awaited by it, all of them.
func TestARingThroughStartedRequests(t *testing.T) {
	k := newKnot(t, 3)
	for range 5 {
		names := k.actors(1, 2, 3, 2, 3)
		ring, leaves := names[:3], names[3:]
		var inside sync.WaitGroup
		inside.Add(len(ring))
		for i, name := range ring {
			k.define(name, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
				inside.Done()
				inside.Wait()
				var hs []uint32
				for _, to := range append([]string{ring[(i+1)%3]}, leaves...) {
					n, code := h.Start(&abi.Request{Target: knotID(to), Method: "leaf"})
					if code != abi.ErrNone {
						return code
					}
					hs = append(hs, n)
				}
				h.Wait(hs, len(hs), -1)
				for _, n := range hs {
					if res, ready, _ := h.Take(n); !ready {
						t.Error("a request has no outcome")
					} else if res.Err != nil {
						out.Kind, out.Err = abi.OutError, res.Err
						return nil
					}
				}
				return replyWith(out, nil)
			})
		}
		k.undone("started", ring, ring)
	}
}

// Long waits over three nodes, with messages that stand behind them, are nobody's ring. Rings beside them come undone meanwhile,
// so they were looked at.
func TestLongWaitsAreNotTold(t *testing.T) {
	k := newKnot(t, 3)
	names := k.actors(1, 2, 3, 1, 2, 3)
	end := make(chan struct{})
	var inside sync.WaitGroup
	inside.Add(1)
	for i, name := range names[:5] {
		k.define(name, func(h *actor.Host, ev *abi.Event, out *abi.Output) error { return pass(h, out, names[i+1], "go") })
	}
	k.define(names[5], func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "go" {
			inside.Done()
			<-end
		}
		return replyWith(out, nil)
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := k.send(names[0], "go"); err != nil {
			t.Errorf("the long wait: %v", err)
		}
	})
	inside.Wait()
	var asked sync.WaitGroup
	for _, at := range k.actors(1, 2, 3, 3, 2, 1) {
		for _, to := range names {
			asked.Add(1)
			wg.Go(func() {
				k.define(at+to, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
					asked.Done()
					return pass(h, out, to, "leaf")
				})
				if err := k.send(at+to, "go"); err != nil {
					t.Errorf("a call that stands behind: %v", err)
				}
			})
		}
	}
	asked.Wait()
	for range 5 {
		k.tie("a ring beside", k.actors(1, 2, 3))
	}
	close(end)
	wg.Wait()
}

// A request that its turn has given up is no part of a ring, though its message still stands on another node, and though the turn waits
// for something else.
func TestAWaitThatWasGivenUpIsNoPartOfARing(t *testing.T) {
	k := newKnot(t, 3)
	names := k.actors(1, 2, 3, 2)
	a, b, c, d := names[0], names[1], names[2], names[3]
	cInside, bAsks, gaveUp, end := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	k.define(c, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		close(cInside)
		<-gaveUp
		return pass(h, out, a, "leaf")
	})
	k.define(b, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		close(bAsks)
		return pass(h, out, c, "leaf")
	})
	k.define(d, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		<-end
		return replyWith(out, nil)
	})
	k.define(a, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		n, code := h.Start(&abi.Request{Target: knotID(b), Method: "leaf", Timeout: 20 * time.Millisecond})
		if code != abi.ErrNone {
			return code
		}
		h.Wait([]uint32{n}, 1, -1)
		if res, ready, _ := h.Take(n); !ready || abi.CodeOf(res.Err) != abi.ErrTimeout {
			t.Errorf("what was to be given up: %v", res.Err)
		}
		close(gaveUp)
		return pass(h, out, d, "wait")
	})
	var wg sync.WaitGroup
	begin := func(name string) {
		wg.Go(func() {
			if err := k.send(name, "go"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	begin(c)
	<-cInside
	begin(b)
	<-bAsks
	begin(a)
	<-gaveUp
	for range 5 {
		k.tie("a ring beside", k.actors(1, 2, 3))
	}
	close(end)
	wg.Wait()
}

// Where actors ask only those that come after them in some order there is no ring, however long they stand in each other's mailboxes,
// and whatever they give up.
func TestWhereNoRingCanBeNobodyIsTold(t *testing.T) {
	k := newKnot(t, 3)
	const clients, calls = 24, 10
	names := k.actors(1, 2, 3, 1, 2, 3, 3, 2, 1)
	for i, name := range names {
		k.define(name, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) // its work; the last ones have all others stand before them
			later := names[i+1:]
			if len(later) == 0 {
				return replyWith(out, nil)
			}
			next := func() string { return later[rand.IntN(len(later))] }
			if rand.IntN(3) > 0 {
				return pass(h, out, next(), "go")
			}
			var hs []uint32
			for range 2 {
				n, code := h.Start(&abi.Request{Target: knotID(next()), Method: "go", Timeout: time.Duration(1+rand.IntN(60)) * time.Millisecond})
				if code != abi.ErrNone {
					return code
				}
				hs = append(hs, n)
			}
			h.Wait(hs, 1+rand.IntN(2), -1)
			for _, n := range hs {
				if res, ready, _ := h.Take(n); ready && res.Err != nil && res.Err.Code != abi.ErrTimeout {
					out.Kind, out.Err = abi.OutError, res.Err
					return nil
				}
			}
			return replyWith(out, nil)
		})
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range calls {
				if err := k.send(names[rand.IntN(3)], "go"); err != nil && abi.CodeOf(err) != abi.ErrTimeout {
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Wait()
}

// Actors that ask each other at random, along chains that their clients choose, make rings all the time: each call ends with a reply or
// is told, and the cluster goes on.
func TestAStormOfChains(t *testing.T) {
	k := newKnot(t, 3)
	const clients, calls, length = 16, 30, 3
	names := k.actors(1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3)
	for _, name := range names {
		k.define(name, func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			next, rest, more := strings.Cut(ev.Method, ".")
			if !more {
				return replyWith(out, nil)
			}
			return pass(h, out, next, rest)
		})
	}
	var outcome [2]atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	var worst atomic.Int64
	for c := range clients {
		rnd := rand.New(rand.NewPCG(1, uint64(c)))
		wg.Go(func() {
			for range calls {
				way := rnd.Perm(len(names))[:length]
				method := ""
				for _, i := range way[1:] {
					method += names[i] + "."
				}
				sent := time.Now()
				switch err := k.send(names[way[0]], method+"end"); abi.CodeOf(err) {
				case abi.ErrNone:
					outcome[0].Add(1)
				case abi.ErrDeadlock:
					outcome[1].Add(1)
				default:
					t.Errorf("%v", err)
				}
				worst.Store(max(worst.Load(), int64(time.Since(sent))))
			}
		})
	}
	wg.Wait()
	t.Logf("%d replies, %d deadlocks in %v, the slowest %v", outcome[0].Load(), outcome[1].Load(),
		time.Since(began).Round(time.Millisecond), time.Duration(worst.Load()).Round(time.Millisecond))
	if outcome[0].Load() == 0 {
		t.Error("nothing was answered")
	}
	for id, n := range k.nodes {
		k.until(id+" waits for nothing", func() bool { return n.silo.Stats().Waiting == 0 })
	}
}
