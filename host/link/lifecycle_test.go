package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
	var up atomic.Pointer[string] // where b listens, once it does: nobody else may get the port meanwhile
	a := w.node("a", func(c *Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if at := up.Load(); at != nil {
				address = *at
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	nobody := cluster.Node{ID: "b", Authority: "127.0.0.1:1"}
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
	up.Store(&w.node("b").self.Authority)
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

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
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
	})
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
	bubble(t, func(t *testing.T, w *world) {
		var ahead atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		w.authority = must(ca.New(ca.Options{Now: now}))
		got := make(inbox, 1)
		a, b := w.node("a"), w.node("b", handler(got))
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
			time.Sleep(defaultKeepalive / 10)
		}
		held.done(nil, nil) // on the old connection
		if err := <-told; err != nil {
			t.Error(err)
		}
	})
}
