package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway/client"
)

// testClusterLife is a cluster's life: three nodes share the actors, one is lost, another one joins, one leaves. All the time
// every actor answers through every node, and none forgets what it counted while its node lives.
func testClusterLife(t *testing.T, home string) {
	r := newRealm(t, home)
	n1, n2, n3 := r.three()
	names := counters(identities)
	each(names, func(_ int, name string) {
		for i, via := range []*member{n1, n2, n3} {
			via.adds(name, i+1)
		}
	})
	homes := r.homes("counter")
	share := make(map[string]int)
	for _, name := range names {
		share[homes[name]]++
	}
	least, most := min(share["n1"], share["n2"], share["n3"]), max(share["n1"], share["n2"], share["n3"])
	if len(homes) != len(names) || 10*most > 13*least {
		t.Errorf("%d actors of %d live like this: %v; the largest share may be 1.3 of the least", len(homes), len(names), share)
	}
	if t.Failed() {
		return
	}
	watch := newTally(names, homes, len(r.up))

	r.run("Lost", func(t *testing.T) { homes = loseNode(t, r, watch, homes, n3) })
	r.run("Joining", func(t *testing.T) { homes = joinNode(t, r, watch, homes) })
	r.run("Leaving", func(t *testing.T) { leaveNode(t, r, watch, n2) })
}

// loseNode kills a node while clients of the others go on. What lived elsewhere does not notice; what lived there starts anew.
func loseNode(t *testing.T, r *realm, watch *tally, homes map[string]string, lost *member) (now map[string]string) {
	var rest []*member
	for _, m := range r.up {
		if m != lost {
			rest = append(rest, m)
		}
	}
	load := watch.press(t, rest)
	load.reach(300)
	began := time.Now()
	watch.lose(lost.ID) // before: somebody may call what has begun anew as soon as it has
	r.kill(lost)
	answered := watch.all(t, rest, homes, began)
	r.agree()
	load.reach(300)
	load.stop()
	t.Logf("the actors of a node that was killed (profile %s) answered again after %v at first and %v at last; of %d calls meanwhile %d were "+
		"refused, and %d have no known outcome", pace, answered[0], answered[1], load.calls.Load(), load.refused.Load(), load.unknown.Load())
	watch.check(t, rest)
	now = r.homes("counter")
	for _, name := range watch.names {
		if homes[name] != now[name] && homes[name] != lost.ID {
			t.Errorf("%s moved from %s, which lives, to %s", name, homes[name], now[name])
		}
		watch.of[name].home = now[name]
	}
	return now
}

// joinNode starts a fourth node. Nothing moves but to it.
func joinNode(t *testing.T, r *realm, watch *tally, homes map[string]string) (now map[string]string) {
	all := watch.names
	r.start("n4")
	r.agree()
	r.settle("counter", all) // or a node that is asked at once may still answer for an actor that it is about to give up
	watch.names = watch.names[:min(300, identities)]
	anew := make([]bool, len(watch.names)) // nothing keeps state yet
	each(watch.names, func(i int, name string) {
		c := watch.of[name]
		got, err := []*member{r.up["n1"], r.up["n2"], r.up["n4"]}[i%3].add(name)
		if anew[i] = got == 1; err != nil || got != 1 && !c.takes(got, "") {
			t.Errorf("%s: %d, %v", name, got, err)
		}
		c.low = got
	})
	moved := 0
	r.settle("counter", all)
	now = r.homes("counter")
	for i, name := range watch.names {
		switch {
		case now[name] == "n4" && anew[i]:
			moved++
		case now[name] != homes[name] || anew[i]:
			t.Errorf("%s moved from %s to %s, and counts to %d", name, homes[name], now[name], watch.of[name].low)
		}
		watch.of[name].home = now[name]
	}
	if moved < len(anew)/5 || moved > len(anew)/2 {
		t.Errorf("%d of %d actors moved to the third node", moved, len(anew))
	}
	return now
}

// leaveNode ends a node in order, under load. Not one call through the others fails; one through it is answered, or was not begun.
func leaveNode(t *testing.T, r *realm, watch *tally, leaving *member) {
	rest := []*member{r.up["n1"], r.up["n4"]}
	load := watch.press(t, rest)
	load.strict = true
	load.reach(500)
	watch.lose(leaving.ID)
	through := &pressure{t: t}
	// Each call has a connection of its own. On one that is kept, and on which nothing was sent for as long as a gateway that leaves
	// lingers, a request may meet the end of the connection, and nobody can say then what became of it.
	once, err := client.New(client.Config{URL: leaving.URL, Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	door := &member{http: once, announcement: leaving.announcement, r: r}
	var own sync.WaitGroup
	for i := range 3 {
		own.Go(func() {
			for n := i; watch.call(through, door, watch.names[n%len(watch.names)]); n += 3 {
			}
		})
	}
	through.reach(50)
	r.stop(leaving)
	own.Wait()
	if n := through.unknown.Load(); n > 0 {
		t.Errorf("%d calls through a node that left have no outcome", n)
	}
	r.agree()
	load.reach(500)
	load.stop()
	watch.check(t, rest)
	t.Logf("%d calls while a node left", load.calls.Load())
}

// testClusterRolling: nodes are restarted one after the other, as for an update, and at last all but one leave at once. Calls through
// that one succeed all the time.
func testClusterRolling(t *testing.T, home string) {
	r := newRealm(t, home)
	n1, _, _ := r.three()
	names := counters(60)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	t.Cleanup(callers.Wait)
	t.Cleanup(cancel)
	var calls atomic.Int64
	for i := range 4 {
		callers.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				if _, err := n1.add(names[n%len(names)]); err != nil {
					t.Errorf("a call while nodes come and go: %v", err)
				}
				calls.Add(1)
			}
		})
	}
	for _, id := range []string{"n2", "n3"} {
		r.stop(r.up[id])
		r.start(id)
	}
	leaving := []*member{r.up["n2"], r.up["n3"]}
	for _, m := range leaving {
		delete(r.up, m.ID)
		m.signal(syscall.SIGTERM)
	}
	for _, m := range leaving {
		if code := m.exit(); code != 0 {
			t.Errorf("%s leaves with exit code %d", m.ID, code)
		}
	}
	r.agree()
	last := calls.Load()
	r.until("calls go on", func() (bool, any) { return calls.Load() > last+200, nil })
	cancel()
	callers.Wait()
}

// tally is what counters must have come to.
type tally struct {
	names []string
	of    map[string]*count
	lost  atomic.Value // string: the node whose actors may start anew
}

// count is what a counter must have come to: low, and any of the calls whose outcome is not known. It has one caller at a time.
type count struct {
	mu      sync.Mutex // held during a call
	home    string     // where it lived when that was looked at last; "" once it has started anew
	low     int
	unknown int
}

func newTally(names []string, homes map[string]string, n int) *tally {
	w := &tally{names: names, of: make(map[string]*count)}
	w.lost.Store("")
	for _, name := range names {
		w.of[name] = &count{home: homes[name], low: n}
	}
	return w
}

func (w *tally) lose(node string) { w.lost.Store(node) }

// takes notes what an add answered, and reports whether it can be right. An actor of the node that is lost may have started anew,
// once.
func (c *count) takes(got int, lost string) bool {
	if late := got - c.low - 1; late >= 0 && late <= c.unknown {
		c.low, c.unknown = got, c.unknown-late
		return true
	}
	late := got - 1
	ok := c.home == lost && late >= 0 && late <= c.unknown
	c.home, c.low, c.unknown = "", got, max(0, c.unknown-late)
	return ok
}

// pressure is callers that add all the time.
type pressure struct {
	t                       *testing.T
	strict                  bool // no call may fail
	calls, refused, unknown atomic.Int64
	end                     context.CancelFunc
	callers                 sync.WaitGroup
}

// press starts callers of the nodes.
func (w *tally) press(t *testing.T, nodes []*member) *pressure {
	ctx, cancel := context.WithCancel(t.Context())
	l := &pressure{t: t, end: cancel}
	t.Cleanup(l.stop)
	for i := range 6 {
		l.callers.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil {
				w.call(l, nodes[i%len(nodes)], w.names[rnd.IntN(len(w.names))])
			}
		})
	}
	return l
}

func (l *pressure) stop() {
	l.end()
	l.callers.Wait()
}

// reach waits for as many further calls.
func (l *pressure) reach(n int64) {
	l.t.Helper()
	target := l.calls.Load() + n
	for began := time.Now(); l.calls.Load() < target; time.Sleep(time.Millisecond) {
		if time.Since(began) > hangs {
			l.t.Fatalf("%d calls of %d in %v", l.calls.Load()-target+n, n, hangs)
		}
	}
}

// call adds once. A call may fail if nothing was done, or if it says that nobody knows.
func (w *tally) call(l *pressure, via *member, name string) (ok bool) {
	c := w.of[name]
	c.mu.Lock()
	defer c.mu.Unlock()
	got, err := via.add(name)
	l.calls.Add(1)
	switch code := abi.CodeOf(err); {
	case err == nil:
		home, low, unknown := c.home, c.low, c.unknown
		if !c.takes(got, w.lost.Load().(string)) {
			l.t.Errorf("%s, which lived on %s, counted to %d through %s after %d and %d of unknown outcome", name, home, got, via.ID,
				low, unknown)
		}
	case l.strict:
		l.t.Errorf("%s, which lived on %s, through %s: %v", name, c.home, via.ID, err)
	case code.Retryable():
		l.refused.Add(1)
	case code == abi.ErrOutcomeUnknown || code == abi.ErrTimeout:
		c.unknown++
		l.unknown.Add(1)
	default:
		l.t.Errorf("%s, which lived on %s, through %s: %v", name, c.home, via.ID, err)
	}
	return err == nil
}

// all calls every counter until each has answered, and returns when the first and the last of the node that is lost did.
func (w *tally) all(t *testing.T, nodes []*member, homes map[string]string, began time.Time) (answered [2]time.Duration) {
	l := &pressure{t: t}
	var mu sync.Mutex
	each(w.names, func(i int, name string) {
		for began := time.Now(); !w.call(l, nodes[i%len(nodes)], name); {
			if time.Since(began) > hangs {
				t.Errorf("%s does not answer any more", name)
				return
			}
		}
		if homes[name] != w.lost.Load() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		now := time.Since(began).Round(time.Millisecond)
		if answered[0] == 0 {
			answered[0] = now
		}
		answered[1] = max(answered[1], now)
	})
	return answered
}

// check adds to every counter through one of the nodes: all answer, and right.
func (w *tally) check(t *testing.T, nodes []*member) {
	l := &pressure{t: t, strict: true}
	each(w.names, func(i int, name string) { w.call(l, nodes[i%len(nodes)], name) })
}
