package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// pipeNet is a network in memory, for tests with a clock of their own. Its connections cannot be written to without waiting, so
// everything goes through the connections' writers.
type pipeNet struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
	given     int          // addresses
	frozen    atomic.Bool  // nothing arrives any more, and nobody is told
	slow      atomic.Int64 // nanoseconds for each write
}

func newPipeNet() *pipeNet { return &pipeNet{listeners: make(map[string]*pipeListener)} }

// bubble runs a test with a clock of its own, which goes on when everybody waits: no machine is too slow for it.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pipes = newPipeNet()
		f(t, w)
	})
}

// free returns an address that was not returned before.
func (p *pipeNet) free() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given++
	return fmt.Sprintf("10.0.0.%d:1", p.given)
}

type pipeListener struct {
	addr  string
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipeNet) listen(addr string) net.Listener {
	l := &pipeListener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listeners[addr] = l
	return l
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.addr) }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

func (p *pipeNet) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listeners[addr]
	p.mu.Unlock()
	if l == nil {
		return nil, errNobody
	}
	a, b := net.Pipe()
	select {
	case l.conns <- &pipeConn{b, p}:
		return &pipeConn{a, p}, nil
	case <-l.done:
		return nil, errNobody
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errNobody = errors.New("nobody listens there")

type pipeConn struct {
	net.Conn
	p *pipeNet
}

// Write loses what is written while the network is frozen, as a cable that is pulled does.
func (c *pipeConn) Write(b []byte) (int, error) {
	if c.p.frozen.Load() {
		return len(b), nil
	}
	time.Sleep(time.Duration(c.p.slow.Load()))
	return c.Conn.Write(b)
}

// inBubble runs a test of two nodes with a clock of its own.
func inBubble(t *testing.T, f func(t *testing.T, w *world, p *pipeNet, a, b *node), change ...func(*Config)) {
	bubble(t, func(t *testing.T, w *world) {
		f(t, w, w.pipes, w.node("a", change...), w.node("b", change...))
	})
}

// TestHalfDead: the network loses everything without a word. Within four keepalives and a little every call to a member ends, within
// two where gossip has given it up, and nothing is reported of a connection that was idle but alive.
func TestHalfDead(t *testing.T) {
	t.Run("a member", func(t *testing.T) { halfDead(t, true, 3*time.Second, 5*time.Second) })
	t.Run("given up", func(t *testing.T) { halfDead(t, false, 500*time.Millisecond, 3*time.Second) })
}

func halfDead(t *testing.T, member bool, least, most time.Duration) {
	got := make(inbox, 4)
	inBubble(t, func(t *testing.T, w *world, p *pipeNet, a, b *node) {
		if member {
			a.SetMembers([]cluster.Node{b.self})
		}
		target := w.target(a, b)
		told := make(chan error, 1)
		if err := target.Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
			t.Fatal(err)
		}
		(<-got).done(nil, nil)
		if err := <-told; err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // kept alive by pings
		if s := a.Stats(); s.Outgoing != 1 || s.Connected != 1 {
			t.Fatalf("%+v; %s", s, a.log)
		}
		long := func() *abi.Envelope {
			env := message("counter/a", nil)
			env.Deadline = time.Now().Add(time.Hour)
			return env
		}
		if err := target.Post(long(), func(_ []byte, err error) { told <- err }); err != nil {
			t.Fatal(err)
		}
		<-got
		p.frozen.Store(true)
		began := time.Now()
		if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
			t.Error(err)
		}
		if d := time.Since(began); d > most || d < least {
			t.Errorf("found after %s", d)
		}
		select { // whoever notices first hangs up
		case i := <-a.incidents:
			if i.Reason != Silent || i.Blame || i.Node != "b" {
				t.Errorf("%+v", i)
			}
		case i := <-b.incidents:
			if i.Reason != Silent || i.Blame || i.Node != "a" {
				t.Errorf("%+v", i)
			}
		}
		// Nobody answers a connection attempt either.
		began = time.Now()
		if _, err := target.Deliver(t.Context(), long()); abi.CodeOf(err) != abi.ErrUnreachable || time.Since(began) > 2*defaultDial {
			t.Error(err)
		}
		p.frozen.Store(false)
		time.Sleep(backoffMost)
		go func() { (<-got).done(nil, nil) }()
		if _, err := target.Deliver(t.Context(), long()); err != nil {
			t.Error(err)
		}
	}, handler(got))
}

// TestDeadlinesExactly: deadlines of any order are kept to within the gap between two looks.
func TestDeadlinesExactly(t *testing.T) {
	got := make(inbox, 100)
	inBubble(t, func(t *testing.T, w *world, p *pipeNet, a, b *node) {
		target := w.target(a, b)
		var wg sync.WaitGroup
		for n := range 50 {
			d := time.Duration(1+n*37%50) * 100 * time.Millisecond
			env := message("counter/a", nil)
			began := time.Now()
			env.Deadline = began.Add(d)
			wg.Add(1)
			if err := target.Post(env, func(_ []byte, err error) {
				defer wg.Done()
				if over := time.Since(began) - d; abi.CodeOf(err) != abi.ErrTimeout || over < 0 || over > 2*sweepGap {
					t.Errorf("a deadline of %s ended after %s: %v", d, d+over, err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		if s := a.Stats(); s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	}, handler(got))
}

// TestSlowNetwork: what is slow and moves is not dropped.
func TestSlowNetwork(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, p *pipeNet, a, b *node) {
		target := w.target(a, b)
		if _, err := target.Deliver(t.Context(), message("counter/a", nil)); err != nil {
			t.Fatal(err)
		}
		p.slow.Store(int64(900 * time.Millisecond)) // for each 64 KiB
		env := message("counter/a", make([]byte, 1<<20))
		env.Deadline = time.Now().Add(time.Hour)
		if reply, err := target.Deliver(t.Context(), env); err != nil || len(reply) != 1<<20 {
			t.Errorf("%d, %v", len(reply), err)
		}
		if s := a.Stats(); s.Connected != 1 {
			t.Errorf("%+v", s)
		}
		p.slow.Store(0)
	})
}

// TestMembersBackOff: a member that is not there is tried again and again, less and less often, and found when it is.
func TestMembersBackOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.pipes
		var dials []time.Time
		a := w.node("a", func(c *Config) {
			c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials = append(dials, time.Now())
				if len(dials) < 20 {
					return nil, net.ErrClosed
				}
				return p.dial(ctx, network, addr)
			}
		})
		b := w.node("b", func(c *Config) { c.Kinds = []string{"x"} })
		a.SetMembers([]cluster.Node{b.self, a.self})
		<-a.kinds
		for n := 1; n < len(dials); n++ {
			if d := dials[n].Sub(dials[n-1]); d < backoffFirst/2 || d > backoffMost || n > 8 && d < backoffMost/2 {
				t.Errorf("attempt %d came after %s", n, d)
			}
		}
		if s := a.Stats(); s.Unreached != 19 || s.Connected != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestGoawayThatIsIgnored: a node that leaves waits for nobody who does not listen.
func TestGoawayThatIsIgnored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := w.node("b")
		r := w.dial(b, "evil").meet(w, "evil")
		ended := make(chan error, 1)
		began := time.Now()
		go func() { ended <- b.Shutdown(context.Background()) }()
		r.until(frameGoaway)
		go r.ended() // it reads on
		stop := make(chan struct{})
		go func() { // it is there, and asks on
			defer close(stop)
			for {
				if _, err := r.conn.Write(appendNumber(nil, framePing, 1)); err != nil {
					return
				}
				time.Sleep(defaultKeepalive / 10)
			}
		}()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > (drainTicks+1)*defaultKeepalive {
			t.Errorf("it waited %s", d)
		}
		<-stop
	})
}
