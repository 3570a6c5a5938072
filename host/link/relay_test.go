package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// cuts are pairs that cannot connect, by who dials. Connections that stand are broken by cut.
type cuts struct {
	mu    sync.Mutex
	no    map[[2]string]bool
	slow  map[string]time.Duration // by who dials: of each write
	conns map[[2]string][]net.Conn
}

func newCuts() *cuts {
	return &cuts{no: make(map[[2]string]bool), conns: make(map[[2]string][]net.Conn)}
}

// dialler is the Dial of a node at from.
func (x *cuts) dialler(from string, dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		pair := [2]string{from, to}
		x.mu.Lock()
		no := x.no[pair]
		x.mu.Unlock()
		if no {
			return nil, errors.New("no route to host")
		}
		c, err := dial(ctx, network, to)
		if err == nil {
			x.mu.Lock()
			if d := x.slow[from]; d > 0 {
				c = slowConn{c, d}
			}
			x.conns[pair] = append(x.conns[pair], c)
			x.mu.Unlock()
		}
		return c, err
	}
}

type slowConn struct {
	net.Conn
	d time.Duration
}

func (c slowConn) Write(b []byte) (int, error) {
	time.Sleep(c.d)
	return c.Conn.Write(b)
}

// cut keeps from from connecting to to, and breaks the connections that it has made.
func (x *cuts) cut(from, to *node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	pair := [2]string{from.self.Authority, to.self.Authority}
	x.no[pair] = true
	for _, c := range x.conns[pair] {
		c.Close()
	}
	x.conns[pair] = nil
}

func (x *cuts) heal(from, to *node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.no, [2]string{from.self.Authority, to.self.Authority})
}

// triangle runs a test of three nodes, members of each other, with a clock of its own.
func triangle(t *testing.T, f func(t *testing.T, w *world, x *cuts, a, b, c *node), change ...func(*Config)) {
	bubble(t, func(t *testing.T, w *world) {
		p, x := w.pipes, newCuts()
		var nodes []*node
		for i, id := range []cluster.NodeID{"a", "b", "c"} {
			at := fmt.Sprintf("10.0.0.%d:1", i+1)
			nodes = append(nodes, w.nodeOn(p.listen(at), id, append([]func(*Config){func(c *Config) {
				c.Dial = x.dialler(at, p.dial)
				c.Kinds = []string{"kind-of-" + string(id)}
				c.Services = map[string]Service{"who": who, "secret": who}
				c.Relayed = []string{"who"}
			}}, change...)...))
		}
		acquaint(nodes...)
		synctest.Wait()
		f(t, w, x, nodes[0], nodes[1], nodes[2])
		for _, n := range nodes { // those that are asked may hold up one that they ask
			n.SetMembers(nil)
		}
	})
}

func acquaint(nodes ...*node) {
	var all []cluster.Node
	for _, n := range nodes {
		all = append(all, n.self)
	}
	for _, n := range nodes {
		n.SetMembers(all)
	}
	time.Sleep(100 * time.Millisecond) // a first attempt is spread
}

// who says who asks.
func who(_ context.Context, from cluster.NodeID, _ []byte) ([]byte, error) { return []byte(from), nil }

func (n *node) relayTo(id cluster.NodeID) cluster.NodeID {
	for _, p := range n.Peers() {
		if p.ID == id {
			return p.Relay
		}
	}
	return ""
}

func TestAPairThatIsCutIsRelayed(t *testing.T) {
	for _, both := range []bool{true, false} {
		t.Run(fmt.Sprintf("both ways=%t", both), func(t *testing.T) {
			triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
				x.cut(a, b)
				if both {
					x.cut(b, a)
				}
				time.Sleep(time.Second)
				for _, pair := range [][2]*node{{a, b}, {b, a}} {
					from, to := pair[0], pair[1]
					relayed := from == a || both
					if via := from.relayTo(to.self.ID); (via == "c") != relayed {
						t.Errorf("messages of %s to %s go through %q", from.self.ID, to.self.ID, via)
					}
					target := w.target(from, to)
					if reply, err := target.Deliver(t.Context(), message("counter/x", []byte("hi"))); err != nil || string(reply) != "hi" {
						t.Errorf("%s to %s: %q, %v", from.self.ID, to.self.ID, reply, err)
					}
					done := make(chan error, 1)
					if err := target.Post(message("counter/x", nil), func(_ []byte, err error) { done <- err }); err != nil {
						t.Fatal(err)
					}
					if err := <-done; err != nil {
						t.Error(err)
					}
					if err := target.Post(message("counter/x", nil), nil); err != nil {
						t.Error(err)
					}
					// Who answers knows the relay, whose word it has for the rest.
					want := from.self.ID
					if relayed {
						want = "c"
					}
					if reply, err := from.Ask(t.Context(), to.self, "who", nil); err != nil || string(reply) != string(want) {
						t.Errorf("%s asks %s: %q, %v", from.self.ID, to.self.ID, reply, err)
					}
					if _, err := from.Ask(t.Context(), to.self, "secret", nil); relayed != (abi.CodeOf(err) == abi.ErrUnreachable) {
						t.Errorf("%s asks %s what is not relayed: %v", from.self.ID, to.self.ID, err)
					}
				}
				synctest.Wait()
				want := uint64(4)
				if both {
					want = 8
				}
				if got := c.Stats().PassedOn; got != want || a.Stats().RelayedOut+b.Stats().RelayedOut != want || a.Stats().RelayedIn+b.Stats().RelayedIn != want {
					t.Errorf("c passed on %d, want %d; a %+v, b %+v", got, want, a.Stats(), b.Stats())
				}
				x.heal(a, b)
				x.heal(b, a)
				time.Sleep(2 * backoffMost)
				if a.relayTo("b") != "" || b.relayTo("a") != "" {
					t.Error("the detour did not end")
				}
				if _, err := w.target(a, b).Deliver(t.Context(), message("counter/x", nil)); err != nil || c.Stats().PassedOn > want+2 { // the fences
					t.Error(err, c.Stats().PassedOn)
				}
				for _, line := range []string{"a member cannot be reached; messages to it go through another", "a member is reached without help again"} {
					if strings.Count(a.log.String(), line) != 1 {
						t.Errorf("%q is not once in the log:\n%s", line, a.log)
					}
				}
			})
		})
	}
}

// A node that was never connected learns from the relay what the other hosts, and later from itself.
func TestWhatARelayedNodeHosts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p, x := w.pipes, newCuts()
		make := func(id cluster.NodeID, at string) *node {
			return w.nodeOn(p.listen(at), id, func(c *Config) { c.Dial, c.Kinds = x.dialler(at, p.dial), []string{"kind-of-" + string(id)} })
		}
		a, b, c := make("a", "10.0.0.1:1"), make("b", "10.0.0.2:1"), make("c", "10.0.0.3:1")
		x.cut(a, b)
		x.cut(b, a)
		acquaint(a, b, c)
		time.Sleep(2 * time.Second)
		hosts := func(want ...string) {
			t.Helper()
			if kinds, ok := a.KindsOf("b"); !ok || !slices.Equal(kinds, want) || !a.Reached("b") {
				t.Errorf("a knows of b: %v, %t", kinds, ok)
			}
		}
		hosts("kind-of-b")
		if err := b.SetKinds([]string{"another", "one"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		hosts("another", "one")
		a.roster.hear("b", &reachAnswer{reaches: true, boot: 1, version: 1 << 60, told: true, kinds: []string{"a-lie"}})
		hosts("a-lie")
		x.heal(b, a)
		time.Sleep(2 * backoffMost)
		hosts("another", "one")
		a.roster.hear("b", &reachAnswer{reaches: true, boot: 1, version: 1 << 61, told: true, kinds: []string{"a-lie"}})
		hosts("another", "one") // it is connected, if only its own way
		for _, n := range []*node{a, b, c} {
			n.SetMembers(nil)
		}
	})
}

// What cannot be relayed says which two cannot reach each other, and who could not help.
func TestWithoutARelayThePairIsNamed(t *testing.T) {
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		x.cut(a, b)
		x.cut(c, b)
		time.Sleep(time.Second)
		var err error
		for code := abi.Code(0); code != abi.ErrUnreachable; code = abi.CodeOf(err) {
			_, err = w.target(a, b).Deliver(t.Context(), message("counter/x", nil))
		}
		if !strings.Contains(err.Error(), "node a cannot reach node b at 10.0.0.2:1") || !strings.Contains(err.Error(), "no route to host") {
			t.Error(err)
		}
		// Nobody who reaches a stands; c is asked once it is reached by a and does not reach b.
		if c.relayTo("b") != "" || a.relayTo("b") != "" {
			t.Error("there is a relay")
		}
		if want := "and neither can c for it"; !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	})
}

// A relay that loses the other node while it has a message leaves the outcome open; one that has lost it before says that nothing was sent, and
// another takes its place.
func TestARelayThatGoesAway(t *testing.T) {
	got := make(inbox, 16)
	bubble(t, func(t *testing.T, w *world) {
		p, x := w.pipes, newCuts()
		var all []*node
		for i, id := range []cluster.NodeID{"a", "b", "c", "d"} {
			at := fmt.Sprintf("10.0.0.%d:1", i+1)
			all = append(all, w.nodeOn(p.listen(at), id, func(c *Config) {
				c.Dial = x.dialler(at, p.dial)
				if id == "b" {
					c.Handler = handlerFunc(got.Handle)
				}
			}))
		}
		acquaint(all...)
		a, b := all[0], all[1]
		x.cut(a, b)
		time.Sleep(time.Second)
		find := func() (via *node) {
			for _, n := range all {
				if n.self.ID == a.relayTo("b") {
					via = n
				}
			}
			return via
		}
		first := find()
		if first == nil {
			t.Fatal("nobody relays")
		}
		target := w.target(a, b)
		told := make(chan error, 8)
		post := func() {
			t.Helper()
			if err := target.Post(message("counter/x", nil), func(_ []byte, err error) { told <- err }); err != nil {
				t.Fatal(err)
			}
		}
		post()
		<-got
		x.cut(first, b) // with the message under way
		if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown || !strings.Contains(err.Error(), "node b") ||
			!strings.Contains(err.Error(), string(first.self.ID)) {
			t.Error(err)
		}
		// The next is refused with certainty, and sent again goes the other way.
		_, err := target.Deliver(t.Context(), message("counter/x", nil))
		if abi.CodeOf(err) != abi.ErrUnreachable || !strings.Contains(err.Error(), "node a cannot reach node b at 10.0.0.2:1, and neither can "+string(first.self.ID)+" for it") {
			t.Error(err)
		}
		time.Sleep(time.Second)
		second := find()
		if second == nil || second == first {
			t.Fatalf("%v relays", second)
		}
		post()
		(<-got).done(nil, nil)
		if err := <-told; err != nil {
			t.Error(err)
		}
		// The relay itself is lost.
		post()
		last := <-got
		x.cut(a, second)
		last.done(nil, nil)
		if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
			t.Error(err)
		}
		for _, n := range all {
			n.SetMembers(nil)
		}
	})
}

// Messages of one caller arrive in the order in which they were posted, when the detour begins and when it ends too; one is missing only if its
// sender was told so.
func TestTheOrderThroughARelay(t *testing.T) {
	var mu sync.Mutex
	var seen []int
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		x.slow = map[string]time.Duration{c.self.Authority: 20 * time.Millisecond} // whoever takes the direct way arrives first
		x.cut(c, b)
		x.heal(c, b)
		time.Sleep(time.Second)
		target := w.target(a, b)
		failed := make(map[int]error)
		n := 0
		post := func(count int) {
			for range count {
				i := n
				n++
				env := message("counter/x", fmt.Append(nil, i))
				err := target.Post(env, func(_ []byte, err error) {
					if err != nil {
						mu.Lock()
						failed[i] = err
						mu.Unlock()
					}
				})
				if err != nil {
					mu.Lock()
					failed[i] = err
					mu.Unlock()
				}
				if i%7 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}
		for range 5 {
			post(100)
			x.cut(a, b)
			post(500)
			if a.relayTo("b") != "c" {
				t.Error("it is not relayed")
			}
			x.heal(a, b)
			for a.relayTo("b") != "" {
				post(10)
			}
			post(100)
		}
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if !slices.IsSorted(seen) {
			t.Errorf("they came as %v", seen)
		}
		for i := range n {
			if _, found := slices.BinarySearch(seen, i); !found && failed[i] == nil {
				t.Fatalf("%d did not arrive", i)
			} else if found && failed[i] != nil && abi.CodeOf(failed[i]) != abi.ErrOutcomeUnknown {
				t.Errorf("%d arrived: %v", i, failed[i])
			}
		}
		if len(failed) > n/5 { // each of the five cuts costs what is under way, of some two thousand messages
			t.Errorf("%d of %d failed, such as %v", len(failed), n, failed)
		}
	}, func(c *Config) {
		c.Handler = handlerFunc(func(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
			i := 0
			_, _ = fmt.Sscan(string(env.Payload), &i)
			mu.Lock()
			seen = append(seen, i)
			mu.Unlock()
			done(nil, nil)
		})
	})
}

// A direct way that a fence has failed on is given up; the next one is not used before the fence is through either.
func TestAFenceThatFailsIsOwed(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	var first, goOn chan struct{}
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		first, goOn = make(chan struct{}), make(chan struct{}) // of the bubble, so that its clock goes on meanwhile
		x.cut(a, b)
		time.Sleep(time.Second)
		target := w.target(a, b)
		told := make(chan error, 8)
		post := func(text string) {
			t.Helper()
			if err := target.Post(message("counter/x", []byte(text)), func(_ []byte, err error) { told <- err }); err != nil {
				t.Error(text, err)
				told <- err
			}
		}
		post("first")
		<-first // and b reads nothing more of what c passes on
		post("second")
		x.heal(a, b)
		p := a.member("b")
		p.reconnect()
		time.Sleep(2*defaultKeepalive + 10*time.Millisecond)
		p.mu.Lock()
		failed := p.unfenced
		p.mu.Unlock()
		if failed != 1 {
			t.Errorf("%d fences have failed", failed)
		}
		p.reconnect()
		time.Sleep(100 * time.Millisecond) // there is another connection
		post("third")
		time.Sleep(100 * time.Millisecond)
		close(goOn)
		for range 3 {
			if err := <-told; err != nil {
				t.Error(err)
			}
		}
		mu.Lock()
		if fmt.Sprint(seen) != "[first second third]" {
			t.Errorf("they came as %v", seen)
		}
		mu.Unlock()
		time.Sleep(4 * backoffMost)
		if a.relayTo("b") != "" || a.Peers()[0].Outgoing != 1 {
			t.Errorf("it is not reached: %+v", a.Peers())
		}
	}, func(c *Config) {
		c.Handler = handlerFunc(func(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
			if text := string(env.Payload); text == "first" {
				close(first)
				<-goOn
			}
			mu.Lock()
			seen = append(seen, string(env.Payload))
			mu.Unlock()
			done(nil, nil)
		})
	})
}

// A relay that does not say in time whether it reaches the node has not lost what it was given for it: that it is used no more is no reason
// to overtake it.
func TestAFenceIsOwedOfWhatEnded(t *testing.T) {
	t.Run("without another", func(t *testing.T) { overtake(t, "") })
	t.Run("for another", func(t *testing.T) { overtake(t, "d") })
}

// overtake sends a message the direct way while another waits at a relay that was given up, for the next one or, if that is "", for nothing.
func overtake(t *testing.T, next cluster.NodeID) {
	var mu sync.Mutex
	var seen []string
	var first, goOn chan struct{}
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		first, goOn = make(chan struct{}), make(chan struct{}) // of the bubble, so that its clock goes on meanwhile
		x.cut(a, b)
		time.Sleep(time.Second)
		target := w.target(a, b)
		told := make(chan error, 8)
		post := func(text string) {
			t.Helper()
			if err := target.Post(message("counter/x", []byte(text)), func(_ []byte, err error) { told <- err }); err != nil {
				t.Error(text, err)
				told <- err
			}
		}
		post("first")
		<-first // and b reads nothing more of what c passes on
		post("second")
		synctest.Wait()
		p := a.member("b")
		asked, reached := []*peer{a.member("c")}, make(map[*peer]bool) // c's answer came too late
		if next != "" {
			other, err := a.peer(cluster.Node{ID: next, Authority: "10.0.0.4:1"})
			if err != nil {
				t.Fatal(err)
			}
			asked, reached[other] = append(asked, other), true
		}
		p.reroute(asked, reached)
		if via := a.relayTo("b"); via != next {
			t.Errorf("it is reached through %q", via)
		}
		x.heal(a, b)
		p.reconnect()
		time.Sleep(50 * time.Millisecond) // there is a connection
		post("third")
		time.Sleep(50 * time.Millisecond)
		close(goOn)
		for range 3 {
			if err := <-told; err != nil {
				t.Error(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(seen) != "[first second third]" {
			t.Errorf("they came as %v", seen)
		}
		if a.relayTo("b") != "" || a.Peers()[0].Outgoing != 1 {
			t.Errorf("it is not reached: %+v", a.Peers())
		}
	}, func(c *Config) {
		c.Handler = handlerFunc(func(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
			if text := string(env.Payload); text == "first" {
				close(first)
				<-goOn
			}
			mu.Lock()
			seen = append(seen, string(env.Payload))
			mu.Unlock()
			done(nil, nil)
		})
	})
}

// A connection that is retired just when it stands ends the detour for the next one, too: nobody else would.
func TestTheNextConnectionIsTakenBack(t *testing.T) {
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		x.cut(a, b)
		time.Sleep(time.Second)
		if via := a.relayTo("b"); via != "c" {
			t.Fatalf("it is reached through %q", via)
		}
		p := a.member("b")
		retired := newOutbound(p)
		defer retired.cancel(nil)
		p.reconnect()
		next := p.current.Load()
		if next == nil || !next.aside {
			t.Fatal("there is no connection that what is for the node passes by")
		}
		if err := p.rejoin(retired); err != nil {
			t.Error(err)
		}
		next.out.mu.Lock()
		aside := next.aside
		next.out.mu.Unlock()
		if aside && p.detour.Load() == nil {
			t.Error("there is neither a connection that takes messages nor another way")
		}
		p.fell(retired, true)
	})
}

// A relay that has its hands full takes a fence all the same: it has no room for those that wait for nobody.
func TestAFenceFindsRoom(t *testing.T) {
	got := make(inbox, 64)
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		x.cut(a, b)
		time.Sleep(time.Second)
		told := make(chan error, 64)
		for range 8 { // all that c passes on at a time
			if err := w.target(a, b).Post(message("counter/x", nil), func(_ []byte, err error) { told <- err }); err != nil {
				t.Fatal(err)
			}
		}
		p := a.member("b")
		d := p.detour.Load()
		if err := p.fence(d); err != nil {
			t.Errorf("the fence is refused: %v", err)
		}
		for range 8 {
			(<-got).done(nil, nil)
			if err := <-told; err != nil {
				t.Error(err)
			}
		}
	}, handler(got), func(c *Config) { c.MaxInFlight = 32 })
	refused := abi.NewError(abi.ErrOverloaded, "no room")
	for err, want := range map[error]bool{
		nil: false, refused: false, abi.NewError(abi.ErrUnreachable, "no member"): false, errLost: false, errRetired: false,
		&Error{Code: abi.ErrOverloaded}: true, unrelayed{refused}: true, &Error{Code: abi.ErrTimeout}: true, &Error{Code: abi.ErrCanceled}: true,
		unrelayed{abi.NewError(abi.ErrTimeout, "")}: true, unrelayed{abi.NewError(abi.ErrUnreachable, "")}: false,
	} {
		if unfenced(err) != want {
			t.Errorf("%v: want %t", err, want)
		}
	}
}

// The relay waits, and the end of the wait is the caller's: its time travels.
func TestDeadlinesThroughARelay(t *testing.T) {
	got := make(inbox, 16)
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		x.cut(a, b)
		time.Sleep(time.Second)
		env := message("counter/x", nil)
		began := time.Now()
		env.Deadline = began.Add(700 * time.Millisecond)
		_, err := w.target(a, b).Deliver(t.Context(), env)
		if d := time.Since(began); abi.CodeOf(err) != abi.ErrTimeout || d < 700*time.Millisecond || d > 710*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v", d, err)
		}
		if left := (<-got).env.Deadline.Sub(began); left > 701*time.Millisecond || left < 690*time.Millisecond {
			t.Errorf("b was given %s", left)
		}
		time.Sleep(10 * time.Millisecond)
		if s := c.Stats(); s.InFlight != 0 {
			t.Errorf("the relay holds on to it: %+v", s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := w.target(a, b).Deliver(ctx, message("counter/x", nil)); abi.CodeOf(err) != abi.ErrCanceled || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		(<-got).done(nil, nil)
	}, handler(got))
}

// A relay gives others a part of what its connection bears, and refuses the rest at once.
func TestTheBoundsOfARelay(t *testing.T) {
	got := make(inbox, 64)
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		x.cut(a, b)
		time.Sleep(time.Second)
		told := make(chan error, 64)
		for range 10 {
			if err := w.target(a, b).Post(message("counter/x", nil), func(_ []byte, err error) { told <- err }); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := <-told; abi.CodeOf(err) != abi.ErrOverloaded || !strings.Contains(err.Error(), "node c passes on 8 messages to node b already") {
				t.Error(err)
			}
		}
		// Its own messages have room.
		go func() {
			for range 9 {
				(<-got).done(nil, nil)
			}
		}()
		if _, err := w.target(c, b).Deliver(t.Context(), message("counter/x", nil)); err != nil {
			t.Error(err)
		}
		for range 8 {
			if err := <-told; err != nil {
				t.Error(err)
			}
		}
		if n := c.Link.member("b").current.Load().passing.Load(); n != 0 {
			t.Errorf("%d are still counted", n)
		}
	}, handler(got), func(c *Config) { c.MaxInFlight = 32 })
}

// A node that will not have the other is not reached behind its back.
func TestARefusalIsNotGoneAround(t *testing.T) {
	triangle(t, func(t *testing.T, w *world, x *cuts, a, b, c *node) {
		x.cut(a, b)
		time.Sleep(time.Second)
		if a.relayTo("b") != "c" {
			t.Fatal("it is not relayed")
		}
		p := a.member("b")
		p.fell(nil, relayable(&Refusal{Reason: BadCertificate}))
		if via := a.relayTo("b"); via != "" {
			t.Errorf("it goes through %s", via)
		}
	})
	for err, want := range map[error]bool{
		&Refusal{Reason: WrongCluster}: false, &Refusal{Reason: Leaving}: false, &fault{reason: BadCertificate}: false, &fault{reason: WrongNode}: false,
		errShutdown: false, errLeft: false, errFinished: false,
		&fault{reason: Silent}: true, errLost: true, net.ErrClosed: true, context.DeadlineExceeded: true,
	} {
		if relayable(fmt.Errorf("because: %w", err)) != want {
			t.Errorf("%v: want %t", err, want)
		}
	}
}

// relayFrame is a frame of either leg.
func relayFrame(frame, id uint64, node cluster.NodeID, service string, body []byte) []byte {
	p := passage{frame: frame, node: node, boot: 1, service: service, body: body}
	return p.append(nil, id, time.Minute, 0, time.Now())
}

// What members and others may send as relays or to them: each is answered with a refusal, or ends the connection that it came on, and nothing
// comes to a handler that should not.
func TestHostileRelays(t *testing.T) {
	w := newWorld(t)
	var handled atomic.Int32
	count := handlerFunc(func(_ *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
		handled.Add(1)
		done(nil, nil)
	})
	change := func(c *Config) {
		c.Handler, c.Relayed = count, []string{"who"}
		c.Services = map[string]Service{"who": who, "secret": who}
	}
	b, c := w.node("b", change), w.node("c", change)
	c.SetMembers([]cluster.Node{b.self})
	for c.member("b").current.Load() == nil || !c.member("b").current.Load().stands(featureRelay) {
		time.Sleep(time.Millisecond)
	}
	evil := cluster.Node{ID: "evil"}
	env := abi.AppendEnvelope(nil, message("counter/x", nil), time.Now())
	answer := func(r *raw, frame []byte) (code abi.Code, own bool) {
		t.Helper()
		r.send(frame)
		for {
			number, _, rd, err := r.next()
			if err != nil {
				t.Fatal(err)
			}
			if number != frameReply && number != frameFailure && number != frameUnrelayed {
				continue
			}
			if rd.Uint(); number != frameReply {
				code = rd.Error().Code
			}
			return code, number == frameUnrelayed
		}
	}
	members := func(n *node, ids ...cluster.Node) { n.SetMembers(ids) }

	members(b, c.self)
	r := w.dial(b, "evil").meet(w, "evil")
	for name, frame := range map[string][]byte{
		"a relay that is no member":  relayFrame(frameRelayed, 1, "a", "", env),
		"a question through such":    relayFrame(frameRelayed, 1, "a", "who", nil),
		"to a node that is no peer":  relayFrame(frameRelay, 1, "nobody", "", env),
		"to one of which c is a way": relayFrame(frameRelay, 1, "c", "", env), // b has not connected to it: it may by now
	} {
		if code, _ := answer(r, frame); code != abi.ErrUnreachable && name != "to one of which c is a way" {
			t.Errorf("%s: %s", name, code)
		}
	}
	handled.Store(0)
	members(b, c.self, evil)
	for _, x := range []struct {
		name  string
		frame []byte
		code  abi.Code
		own   bool
	}{
		{"from b itself", relayFrame(frameRelayed, 1, "b", "", env), abi.ErrInvalidArgument, false},
		{"from the relay itself", relayFrame(frameRelayed, 1, "evil", "", env), abi.ErrInvalidArgument, false},
		{"to b itself", relayFrame(frameRelay, 1, "b", "", env), abi.ErrInvalidArgument, true},
		{"to itself", relayFrame(frameRelay, 1, "evil", "", env), abi.ErrInvalidArgument, true},
		{"a service that is not relayed", relayFrame(frameRelayed, 1, "a", "secret", nil), abi.ErrDenied, false},
		{"a service that is none", relayFrame(frameRelayed, 1, "a", "none", nil), abi.ErrDenied, false},
		{"the link's own service", relayFrame(frameRelayed, 1, "a", reachService, nil), abi.ErrDenied, false},
		{"an envelope that is none", relayFrame(frameRelayed, 1, "a", "", []byte{0xff}), abi.CodeOf(abi.DecodeEnvelope([]byte{0xff}, new(abi.Envelope), time.Now())), false},
		{"a fence", relayFrame(frameRelayed, 1, "a", fenceService, nil), abi.ErrNone, false},
		{"a relayable question", relayFrame(frameRelayed, 1, "a", "who", nil), abi.ErrNone, false},
	} {
		if code, own := answer(r, x.frame); code != x.code || own != x.own {
			t.Errorf("%s: %s, of the relay's own %t", x.name, code, own)
		}
	}
	if n := handled.Load(); n != 0 {
		t.Errorf("%d messages were handled", n)
	}
	if code, _ := answer(r, relayFrame(frameRelayed, 1, "a", "", env)); code != abi.ErrNone || handled.Load() != 1 {
		t.Errorf("what a member passes on: %s, %d handled", code, handled.Load())
	}
	// Through c, a member of b, it is taken from anybody who is one of the cluster.
	if code, _ := answer(w.dial(c, "mallory").meet(w, "mallory"), relayFrame(frameRelay, 1, "b", "", env)); code != abi.ErrNone || handled.Load() != 2 {
		t.Errorf("through c: %s, %d handled", code, handled.Load())
	}
	for name, frame := range map[string][]byte{
		"no node":        relayFrame(frameRelay, 1, "", "", env),
		"a long name":    relayFrame(frameRelay, 1, cluster.NodeID(strings.Repeat("x", 1000)), "", env),
		"too few items":  sealFrame(abi.AppendUint(openFrame(nil, 2, frameRelayed), 1), 0),
		"an answer":      appendAnswer(nil, 1, nil, unrelayed{abi.NewError(abi.ErrUnreachable, "x")}),
		"no text at all": sealFrame(abi.AppendUint(abi.AppendUint(openFrame(nil, 7, frameRelay), 1), 2), 0),
	} {
		bad := w.dial(b, "bad").meet(w, "bad")
		bad.send(frame)
		if said := bad.refusal(); said == nil || said.Reason != Malformed {
			t.Errorf("%s: %v", name, said)
		}
	}
}

// A node of a version that knows of no relays is neither asked to be one nor reached through one.
func TestRelaysOfOlderVersions(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		asked := make(chan uint64, 100)
		old := w.listen("old", func(r *raw) {
			r.answer(w, "old") // no features
			for {
				number, _, _, err := r.next()
				if err != nil {
					return
				}
				if number >= frameAsk {
					asked <- number
				}
			}
		})
		dead := cluster.Node{ID: "dead", Authority: "127.0.0.1:1"}
		a := w.node("a")
		a.SetMembers([]cluster.Node{old, dead})
		for a.Stats().Outgoing == 0 || a.Stats().Unreached < 3 {
			time.Sleep(time.Millisecond)
		}
		if via := a.relayTo("dead"); via != "" {
			t.Errorf("%s relays", via)
		}
		c := w.dial(a, "c").meet(w, "c")
		c.send(relayFrame(frameRelay, 1, "old", "", abi.AppendEnvelope(nil, message("counter/x", nil), time.Now())))
		rd := c.until(frameUnrelayed)
		rd.Uint()
		if err := rd.Error(); err.Code != abi.ErrUnreachable || !strings.Contains(err.Message, "node a does not reach node old either") {
			t.Error(err)
		}
		time.Sleep(2 * defaultKeepalive) // looks for a relay
		select {
		case n := <-asked:
			t.Errorf("it was sent frame %d", n)
		default:
		}
	})
}

// A relay that says that it reaches a node and holds back what it is given does not keep a pair apart that has found together.
func TestARelayThatDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		x := newCuts()
		lying := w.listen("lying", func(r *raw) {
			h := rawHello(w, "lying")
			h.version, h.features = 1, features
			r.until(frameHello)
			r.send(appendHello(nil, h))
			for {
				number, _, rd, err := r.next()
				if err != nil {
					return
				}
				switch number {
				case framePing:
					r.send(appendNumber(nil, framePong, rd.Uint()))
				case frameAsk:
					r.send(appendAnswer(nil, rd.Uint(), appendReachAnswer(nil, []reachAnswer{{reaches: true, boot: 1}}), nil))
				}
			}
		})
		ln := w.listener()
		b := w.node("b")
		a := w.nodeOn(ln, "a", func(c *Config) { c.Dial = x.dialler(ln.Addr().String(), w.pipes.dial) })
		x.cut(a, b)
		a.SetMembers([]cluster.Node{b.self, lying})
		for a.relayTo("b") != "lying" {
			time.Sleep(time.Millisecond)
		}
		env := message("counter/x", nil)
		env.Deadline = time.Now().Add(100 * time.Millisecond)
		if _, err := w.target(a, b).Deliver(t.Context(), env); abi.CodeOf(err) != abi.ErrTimeout {
			t.Error(err)
		}
		x.heal(a, b)
		for a.relayTo("b") != "" || !a.member("b").up() {
			time.Sleep(time.Millisecond)
		}
		if _, err := w.target(a, b).Deliver(t.Context(), message("counter/x", nil)); err != nil {
			t.Error(err)
		}
	})
}

func (p *peer) up() bool {
	c := p.current.Load()
	return c != nil && c.stands(0)
}

// BenchmarkRelay measures a request of 64 bytes and its reply with one caller and with 64, directly and through a relay, all three nodes in this
// process over loopback.
func BenchmarkRelay(b *testing.B) {
	for _, relayed := range []bool{false, true} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("relayed=%t/callers=%d", relayed, callers), func(b *testing.B) {
				w, x := newWorld(b), newCuts()
				var nodes []*node
				for _, id := range []cluster.NodeID{"a", "b", "c"} {
					ln := must(net.Listen("tcp", "127.0.0.1:0"))
					nodes = append(nodes, w.nodeOn(ln, id, func(c *Config) { c.Dial = x.dialler(ln.Addr().String(), new(net.Dialer).DialContext) }))
				}
				if relayed {
					x.cut(nodes[0], nodes[1])
				}
				acquaint(nodes...)
				for p := nodes[0].member("b"); p.detour.Load() == nil && !p.up(); {
					time.Sleep(time.Millisecond)
				}
				target := w.target(nodes[0], nodes[1])
				payload := make([]byte, 64)
				b.ReportAllocs()
				b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
				one := func() {
					if _, err := target.Deliver(context.Background(), message("counter/x", payload)); err != nil {
						b.Error(err)
					}
				}
				b.ResetTimer()
				if callers == 1 {
					for range b.N {
						one()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			})
		}
	}
}
