package serfwatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/cluster"
)

// TestMain looks for goroutines that nobody ended. One of memberlist's that waits for the answer to a probe ends by itself, within
// the probe's time, which a slow machine stretches.
func TestMain(m *testing.M) {
	code := m.Run()
	for began := time.Now(); code == 0; {
		err := goleak.Find()
		if err == nil {
			break
		}
		if time.Since(began) > hang {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// hang is how long a test on real sockets waits for what must come, on a machine of any speed.
const hang = 2 * time.Minute

// bubble runs f on a fake clock, and lets what serf leaves behind run out.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, ports: make(map[string]*port)}
		defer func() {
			for _, n := range w.nodes {
				_ = n.Close()
			}
			for _, end := range w.ends {
				_ = end()
			}
			time.Sleep(2 * time.Minute)
		}()
		f(t, w)
	})
}

// world is a network in memory, without delay, and the nodes on it. Their addresses are 10.0.0.1:7946 and so on.
type world struct {
	t     *testing.T
	nodes []*node
	ends  []func() error // of what is no node

	mu    sync.Mutex
	ports map[string]*port
	next  byte
	cut   func(from, to string) bool // nil: nothing is cut
}

// node is a Watch with its log.
type node struct {
	*Watch
	t    *testing.T
	port *port
	log  *logbook
}

// port is a memberlist.Transport that can be interrupted.
type port struct {
	w       *world
	addr    string
	packets chan *memberlist.Packet
	streams chan net.Conn
	down    chan struct{}
	once    sync.Once
}

// wire makes a new address.
func (w *world) wire() *port {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	p := &port{w: w, addr: fmt.Sprintf("10.0.0.%d:7946", w.next), packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn),
		down: make(chan struct{})}
	w.ports[p.addr] = p
	return p
}

// reach returns what listens at an address; nil, true: it is cut off.
func (p *port) reach(addr string) (*port, bool) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.w.cut != nil && p.w.cut(p.addr, addr) {
		return nil, true
	}
	return p.w.ports[addr], false
}

// partition cuts the network between the nodes given and all others; without any it heals.
func (w *world) partition(side ...*node) {
	inside := make(map[string]bool)
	for _, n := range side {
		inside[n.port.addr] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = func(from, to string) bool { return inside[from] != inside[to] }
}

func (p *port) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	a := netip.MustParseAddrPort(p.addr)
	return a.Addr().AsSlice(), int(a.Port()), nil
}

func (p *port) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	if to, _ := p.reach(addr); to != nil {
		from := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(p.addr))
		select {
		case to.packets <- &memberlist.Packet{Buf: bytes.Clone(b), From: from, Timestamp: now}:
		default: // as the network does
		}
	}
	return now, nil
}

func (p *port) PacketCh() <-chan *memberlist.Packet { return p.packets }
func (p *port) StreamCh() <-chan net.Conn           { return p.streams }

func (p *port) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return p.DialContext(ctx, "tcp", addr)
}

func (p *port) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, cut := p.reach(addr)
	if cut {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
	refused := &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	if to == nil {
		return nil, refused
	}
	here, there := net.Pipe()
	select {
	case to.streams <- pipe{there, to.addr, p.addr}:
		return pipe{here, p.addr, addr}, nil
	case <-to.down:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *port) Shutdown() error {
	p.once.Do(func() {
		p.w.mu.Lock()
		delete(p.w.ports, p.addr)
		p.w.mu.Unlock()
		close(p.down)
	})
	return nil
}

// pipe is an end of a net.Pipe that knows addresses.
type pipe struct {
	net.Conn
	local, remote string
}

func (p pipe) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(p.local)) }
func (p pipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(p.remote))
}

// make makes a node that is not started: profile fast, its link on the port after its gossip's.
func (w *world) make(id string, change func(*Config)) *node {
	w.t.Helper()
	n := &node{t: w.t, port: w.wire(), log: &logbook{}}
	cfg := Config{ID: cluster.NodeID(id), Profile: Fast, Transport: n.port, Log: n.log.logger(),
		Authority: strings.TrimSuffix(n.port.addr, "7946") + "7701"}
	if change != nil {
		change(&cfg)
	}
	var err error
	if n.Watch, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	w.nodes = append(w.nodes, n)
	return n
}

// start makes a node, which joins the seeds, and starts it.
func (w *world) start(id string, seeds ...*node) *node {
	w.t.Helper()
	return w.startWith(id, nil, seeds...)
}

func (w *world) startWith(id string, change func(*Config), seeds ...*node) *node {
	w.t.Helper()
	n := w.make(id, func(c *Config) {
		for _, s := range seeds {
			c.Join = append(c.Join, s.port.addr)
		}
		if change != nil {
			change(c)
		}
	})
	n.begin()
	return n
}

func (n *node) begin() {
	n.t.Helper()
	if err := n.Start(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// cluster starts n1 to nn, each joining the first, and waits until all see all.
func (w *world) cluster(n int, change func(*Config)) []*node {
	w.t.Helper()
	var nodes []*node
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("n%d", i+1))
		nodes = append(nodes, w.startWith(ids[i], change, nodes[:min(i, 1)]...))
	}
	for _, node := range nodes {
		node.sees(time.Minute, ids...)
	}
	return nodes
}

// sees waits until the topology has just the nodes named, and returns how long it took. A name may be followed by the
// authority: n1@10.0.0.1:7701.
func (n *node) sees(within time.Duration, want ...string) time.Duration {
	n.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(n.t.Context(), within)
	defer cancel()
	h, err := n.Subscribe(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	defer h.Close()
	var last []string
	for {
		t, err := h.Next(ctx)
		if err != nil {
			n.t.Fatalf("%s sees %v for %s, not %v: %v\n%s", n.cfg.ID, last, within, want, err, n.log)
		}
		last = last[:0]
		for i, m := range t.Members() {
			name := string(m.ID)
			if i < len(want) && strings.Contains(want[i], "@") {
				name += "@" + m.Authority
			}
			last = append(last, name)
		}
		if slices.Equal(last, want) {
			return time.Since(began)
		}
	}
}

// logbook keeps a log.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// line returns the first line with all the parts, "" if there is none.
func (l *logbook) line(parts ...string) string {
next:
	for line := range strings.Lines(l.String()) {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue next
			}
		}
		return line
	}
	return ""
}

// says fails the test unless one line has all the parts, once all is quiet.
func (n *node) says(parts ...string) {
	n.t.Helper()
	synctest.Wait()
	if n.log.line(parts...) == "" {
		n.t.Errorf("%s logs no line with %q:\n%s", n.cfg.ID, parts, n.log)
	}
}
