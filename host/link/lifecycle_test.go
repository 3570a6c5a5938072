package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

func TestNobodyThere(t *testing.T) {
	w := newWorld(t)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	a := w.node("a")
	nobody := cluster.Node{ID: "b", Authority: ln.Addr().String()}
	ln.Close()
	target := must(a.Target(nobody))
	_, err := target.Deliver(t.Context(), message("counter/a", nil))
	if abi.CodeOf(err) != abi.ErrUnreachable || !abi.CodeOf(err).Retryable() || !strings.Contains(err.Error(), "node b at "+nobody.Authority) ||
		!errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
	// The next is refused at once, or makes the next attempt: never anything else.
	told := make(chan error, 1)
	if err := target.Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		told <- err
	}
	if err := <-told; abi.CodeOf(err) != abi.ErrUnreachable {
		t.Error(err)
	}
	// The node comes up, and a message gets through when the back-off is over.
	w.nodeOn(must(net.Listen("tcp", nobody.Authority)), "b")
	for abi.CodeOf(err) == abi.ErrUnreachable {
		_, err = target.Deliver(t.Context(), message("counter/a", nil))
	}
	if err != nil {
		t.Error(err)
	}
	// The failure is over, and does not come back when the connection ends in good order.
	for _, wire := range a.wires(false) {
		wire.role.retire(Reconnect)
		<-wire.done
	}
	if p := a.Peers(); len(p) != 1 || p[0].Failure != nil {
		t.Errorf("%+v", p)
	}
}

func TestTargets(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	first := must(a.Target(cluster.Node{ID: "b", Authority: "127.0.0.1:1"}))
	if again := must(a.Target(cluster.Node{ID: "b", Authority: "127.0.0.1:1", Boot: 7})); again != first {
		t.Error("another target for the same node")
	}
	if other := must(a.Target(cluster.Node{ID: "b", Authority: "127.0.0.1:2"})); other == first {
		t.Error("the same target for another address")
	}
	for _, n := range []cluster.Node{{ID: "a", Authority: "127.0.0.1:1"}, {ID: "b", Authority: "127.0.0.1:0"}, {ID: "b"}, {ID: "b/c", Authority: "h:1"}, {}} {
		if _, err := a.Target(n); err == nil {
			t.Errorf("a target for %v", n)
		}
	}
}

// TestLostConnection: what was certainly not sent may be sent again, what was written may have been done.
func TestLostConnection(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	got := make(chan struct{})
	hang := make(chan struct{})
	target := must(a.Target(w.listen("b", func(r *raw) {
		r.answer(w, "b")
		r.until(frameRequest)
		close(got)
		<-hang
	})))
	told := make(chan error, 1)
	if err := target.Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	<-got
	close(hang)
	err := <-told
	var e *Error
	if abi.CodeOf(err) != abi.ErrOutcomeUnknown || abi.CodeOf(err).Retryable() || !errors.As(err, &e) || e.Node != "b" {
		t.Error(err)
	}
}

// TestCutAnywhere cuts a connection after every so many bytes, either way: each call is answered rightly or fails with a code
// that tells the truth, and the next connection works.
func TestCutAnywhere(t *testing.T) {
	w := newWorld(t)
	var calls sync.Map // the cut → how many calls arrived
	b := w.node("b", handler(handlerFunc(func(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
		n, _ := calls.LoadOrStore(env.IdempotencyKey, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		done(append([]byte("re:"), env.Payload...), nil)
	})))
	step := int64(97)
	if testing.Short() {
		step = 997
	}
	codes := map[abi.Code]int{}
	for at := int64(100); at < 12_000; at += step {
		var budget atomic.Int64
		budget.Store(at)
		a := w.silent("a", "127.0.0.1:1", func(c *Config) {
			c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return &cutConn{Conn: conn, budget: &budget}, err
			}
		})
		target := w.target(a, b)
		var wg sync.WaitGroup
		var mu sync.Mutex
		certain := int64(0)
		for n := range 8 {
			wg.Go(func() {
				payload := fmt.Append(nil, "message ", n, strings.Repeat("x", 100*n))
				env := message("counter/a", payload)
				env.IdempotencyKey = fmt.Sprint(at)
				reply, err := target.Deliver(t.Context(), env)
				if err == nil && string(reply) != "re:"+string(payload) {
					t.Errorf("cut after %d: %q", at, reply)
				}
				mu.Lock()
				defer mu.Unlock()
				codes[abi.CodeOf(err)]++
				if abi.CodeOf(err) == abi.ErrUnreachable {
					certain++
				}
			})
		}
		wg.Wait()
		a.shut(t)
		if n, ok := calls.Load(fmt.Sprint(at)); ok && n.(*atomic.Int64).Load()+certain > 8 {
			t.Errorf("cut after %d: %d calls arrived, and %d are said not to have been sent", at, n.(*atomic.Int64).Load(), certain)
		}
	}
	t.Log(codes)
	for code := range codes {
		switch code {
		case abi.ErrNone, abi.ErrUnreachable, abi.ErrOutcomeUnknown:
		default:
			t.Errorf("%v", code)
		}
	}
	if codes[abi.ErrNone] == 0 || codes[abi.ErrUnreachable] == 0 || codes[abi.ErrOutcomeUnknown] == 0 {
		t.Error("not every case was met")
	}
}

// cutConn ends after so many bytes in both directions together.
type cutConn struct {
	net.Conn
	budget *atomic.Int64
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if left := c.budget.Add(-int64(n)); left < 0 {
		c.Conn.Close()
		return max(0, n+int(left)), io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	if left := c.budget.Add(-int64(len(p))); left < 0 {
		n, _ := c.Conn.Write(p[:max(0, len(p)+int(left))])
		c.Conn.Close()
		return n, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

func TestKinds(t *testing.T) {
	w := newWorld(t)
	var many []string
	for n := range 5000 {
		many = append(many, fmt.Sprintf("kind-%04d-%s", n, strings.Repeat("x", 40)))
	}
	a := w.node("a", func(c *Config) { c.Kinds = []string{"zebra", "ant", "ant"} })
	b := w.node("b", func(c *Config) { c.Kinds, c.MaxMessage = many, 1<<10 })
	if kinds, ok := a.KindsOf("b"); ok {
		t.Error("known before it was said:", kinds)
	}
	a.SetMembers([]cluster.Node{a.self, b.self})
	next := func(n *node, from cluster.NodeID, want []string) {
		t.Helper()
		for {
			got := <-n.kinds
			if kinds, ok := n.KindsOf(from); got.node != from || !ok || !slices.Equal(got.kinds, kinds) && !slices.Equal(got.kinds, want) {
				t.Errorf("%s was told %d kinds of %s", n.self.ID, len(got.kinds), got.node)
			}
			if slices.Equal(got.kinds, want) {
				return
			}
		}
	}
	next(a, "b", many)
	next(b, "a", []string{"ant", "zebra"})
	if err := b.SetKinds([]string{"bank", "counter"}); err != nil {
		t.Fatal(err)
	}
	next(a, "b", []string{"bank", "counter"})
	if err := errors.Join(a.SetKinds(nil), a.SetKinds([]string{"chat"})); err != nil {
		t.Fatal(err)
	}
	next(b, "a", []string{"chat"})
	if err := b.SetKinds([]string{"No"}); err == nil {
		t.Error("a kind that is none was taken")
	}
	peers := a.Peers()
	if len(peers) != 1 || peers[0].ID != "b" || peers[0].Outgoing != 1 || !slices.Equal(peers[0].Kinds, []string{"bank", "counter"}) ||
		peers[0].Authority != b.self.Authority || peers[0].Boot != 1 || peers[0].Failure != nil {
		t.Errorf("%+v", peers)
	}
}

// TestMembersStayConnected: a member that restarts is connected to again without a message, and says its kinds again.
func TestMembersStayConnected(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	addr := ln.Addr().String()
	b := w.silent("b", addr, func(c *Config) { c.Kinds = []string{"one"} })
	served := make(chan error, 1)
	go func() { served <- b.Serve(ln) }()
	a.SetMembers([]cluster.Node{b.self})
	if got := <-a.kinds; got.kinds[0] != "one" {
		t.Error(got)
	}
	b.shut(t)
	if err := <-served; err != nil {
		t.Error(err)
	}
	b = w.nodeOn(must(net.Listen("tcp", addr)), "b", func(c *Config) { c.Kinds, c.Self.Boot = []string{"one"}, 2 })
	if got := <-a.kinds; got.node != "b" || got.kinds[0] != "one" {
		t.Error(got)
	}
	if s := a.Stats(); s.Connected != 2 || s.Reconnected != 1 || s.Outgoing != 1 {
		t.Errorf("%+v", s)
	}
	if p := a.Peers()[0]; p.Boot != 2 {
		t.Errorf("%+v", p)
	}
	// It is no member any more: the connection ends, and what it said is forgotten.
	gone := make(chan struct{})
	for _, wire := range a.wires(false) {
		go func() { <-wire.done; close(gone) }()
	}
	a.SetMembers(nil)
	<-gone
	// A message goes through all the same.
	if _, err := w.target(a, b).Deliver(t.Context(), message("counter/a", nil)); err != nil {
		t.Error(err)
	}
}

// TestTwoRuns: two processes under one id. The later run wins, and the other is told.
func TestTwoRuns(t *testing.T) {
	w := newWorld(t)
	b := w.node("b", func(c *Config) { c.Handler = make(inbox, 4) })
	run := func(boot uint64) *node { return w.node("a", func(c *Config) { c.Self.Boot = boot }) }
	old, young := run(1), run(2)
	told := make(chan error, 1)
	if err := w.target(old, b).Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	<-b.cfg.Handler.(inbox)
	if err := w.target(young, b).Post(message("counter/a", nil), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
		t.Error(err)
	}
	if i := b.expect(t, StaleBoot); i.Node != "a" {
		t.Errorf("%+v", i)
	}
	<-b.cfg.Handler.(inbox)
	var err error
	for err == nil || !strings.Contains(err.Error(), "stale_boot") {
		_, err = w.target(old, b).Deliver(t.Context(), message("counter/a", nil))
		if abi.CodeOf(err) != abi.ErrUnreachable {
			t.Fatal(err)
		}
	}
}

// TestGossipKnowsBetter: gossip has seen a newer run of a node than the one that is connected.
func TestGossipKnowsBetter(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	b := w.node("b", func(c *Config) { c.Handler = make(inbox, 1) })
	told := make(chan error, 1)
	if err := w.target(a, b).Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	<-b.cfg.Handler.(inbox)
	node := b.self
	node.Boot = 5
	target := must(a.Target(node))
	if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
		t.Error(err)
	}
	if _, err := target.Deliver(t.Context(), message("counter/a", nil)); abi.CodeOf(err) != abi.ErrUnreachable {
		t.Error(err)
	}
}

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	w := newWorld(t)
	got := make(inbox, 4)
	a, b := w.node("a"), w.node("b", handler(got))
	there, back := w.target(a, b), w.target(b, a)
	told := make(chan error, 1)
	if err := there.Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	held := <-got
	b.Drain()
	// It may still call others while it drains, and takes no new calls: its caller learns that it leaves, and nothing was done.
	if _, err := back.Deliver(t.Context(), message("counter/a", []byte("x"))); err != nil {
		t.Error(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Shutdown(context.Background()) }()
	<-b.ctx.Done() // it has begun
	var err error
	for {
		// A message that was on its way is taken still; a handler that drains would refuse it.
		_, err = func() ([]byte, error) {
			go func() {
				select {
				case r := <-got:
					r.done(nil, abi.ErrShuttingDown)
				case <-ended:
				case <-b.over:
				}
			}()
			return there.Deliver(t.Context(), message("counter/a", nil))
		}()
		var own *Error
		if abi.CodeOf(err) != abi.ErrShuttingDown {
			t.Fatal(err)
		}
		if errors.As(err, &own) {
			break
		}
	}
	select {
	case err := <-ended:
		t.Fatal("it ended before its last reply:", err)
	default:
	}
	for err = nil; err == nil; { // until the shutdown has come that far
		_, err = back.Deliver(t.Context(), message("counter/a", nil))
	}
	if abi.CodeOf(err) != abi.ErrShuttingDown {
		t.Error(err)
	}
	held.done(nil, nil)
	if err := <-told; err != nil {
		t.Error("the call under way:", err)
	}
	<-b.over
}

func TestShutdownCutsOff(t *testing.T) {
	w := newWorld(t)
	got := make(inbox, 1)
	b := w.silent("b", "127.0.0.1:1", handler(got))
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	served := make(chan error, 1)
	go func() { served <- b.Serve(ln) }()
	b.self.Authority = ln.Addr().String()
	a := w.node("a")
	told := make(chan error, 1)
	if err := w.target(a, b).Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	held := <-got
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := b.Shutdown(t.Context()); !errors.Is(err, context.Canceled) {
		t.Error("the second time:", err)
	}
	if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
		t.Error(err)
	}
	held.done(nil, nil) // to nobody
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := b.Serve(must(net.Listen("tcp", "127.0.0.1:0"))); err != nil {
		t.Error(err)
	}
}

// TestShutdownWhileConnecting: nothing was sent, and nobody waits for the time-out.
func TestShutdownWhileConnecting(t *testing.T) {
	w := newWorld(t)
	ln := must(net.Listen("tcp", "127.0.0.1:0")) // that nobody accepts from
	defer ln.Close()
	a := w.silent("a", "127.0.0.1:1", func(c *Config) { c.DialTimeout = time.Hour })
	target := must(a.Target(cluster.Node{ID: "b", Authority: ln.Addr().String()}))
	told := make(chan error, 2)
	for range 2 {
		if err := target.Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := target.Post(message("counter/a", nil), nil); err != nil {
		t.Fatal(err)
	}
	short := message("counter/a", nil)
	short.Deadline = time.Now().Add(20 * time.Millisecond)
	if _, err := target.Deliver(t.Context(), short); abi.CodeOf(err) != abi.ErrTimeout {
		t.Error(err)
	}
	a.shut(t)
	for range 2 {
		if err := <-told; abi.CodeOf(err) != abi.ErrShuttingDown {
			t.Error(err)
		}
	}
	if !strings.Contains(a.log.String(), "messages that await no reply were lost") {
		t.Error(a.log)
	}
}

// TestCertificatesThatEnd: nodes reconnect when a certificate ends, and no call notices.
func TestCertificatesThatEnd(t *testing.T) {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	w := newWorld(t)
	w.authority = must(ca.New(ca.Options{Now: now}))
	brisk := func(c *Config) { c.Keepalive = 100 * time.Millisecond }
	got := make(inbox, 1)
	a, b := w.node("a", brisk), w.node("b", brisk, handler(got))
	target := w.target(a, b)
	told := make(chan error, 1)
	post := func() received {
		t.Helper()
		if err := target.Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
			t.Fatal(err)
		}
		return <-got
	}
	held := post()
	ahead.Store(int64(ca.DevelopmentValidity + time.Hour))
	for a.Stats().Connected < 2 {
		post().done(nil, nil)
		if err := <-told; err != nil {
			t.Fatal(err)
		}
	}
	held.done(nil, nil) // on the old connection
	if err := <-told; err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	good := Config{Self: cluster.Node{ID: "a", Authority: "127.0.0.1:1"}, Credentials: must(w.authority.Credentials(ca.ID{Cluster: "test", Node: "a"}))}
	for text, change := range map[string]func(*Config){
		"Self":                    func(c *Config) { c.Self.Authority = "nowhere" },
		"Credentials are missing": func(c *Config) { c.Credentials = nil },
		"wasilo node cert b":      func(c *Config) { c.Self.ID = "b" },
		"Mode":                    func(c *Config) { c.Mode = 7 },
		"Kinds":                   func(c *Config) { c.Kinds = []string{"No"} },
		"MaxMessage -1":           func(c *Config) { c.MaxMessage = -1 },
		"MaxInFlight 100000":      func(c *Config) { c.MaxInFlight = 100_000 },
		"Keepalive -1s":           func(c *Config) { c.Keepalive = -time.Second },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestListen(t *testing.T) {
	w := newWorld(t)
	real := must(w.authority.Credentials(ca.ID{Cluster: "test", Node: "a"}))
	dev := must(must(ca.OpenDevelopment(t.TempDir()+"/dev-ca", ca.Options{})).Credentials(ca.ID{Cluster: "test", Node: "a"}))
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "localhost:0"} {
		ln, err := Listen(t.Context(), addr, dev)
		if err != nil {
			t.Error(err)
			continue
		}
		ln.Close()
	}
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0"} {
		var e *ListenError
		if _, err := Listen(t.Context(), addr, dev); !errors.As(err, &e) || abi.CodeOf(err) != abi.ErrInvalidArgument ||
			!strings.Contains(err.Error(), "wasilo ca init") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"127.0.0.1", "127.0.0.1:x", ""} {
		if _, err := Listen(t.Context(), addr, real); abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Errorf("%s: %v", addr, err)
		}
	}
	ln := must(Listen(t.Context(), "0.0.0.0:0", real))
	defer ln.Close()
	if _, err := Listen(t.Context(), ln.Addr().String(), real); abi.CodeOf(err) != abi.ErrInternal || !strings.Contains(err.Error(), "--link") {
		t.Error(err)
	}
}
