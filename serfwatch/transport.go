package serfwatch

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport stands between memberlist and the network to make an end possible: memberlist shuts down without waiting for dials and
// exchanges that it began, which may take another ten seconds. Here Shutdown cancels the dials, closes every connection, and so
// ends whoever uses them.
type transport struct {
	inner   memberlist.Transport
	dialer  dialer        // nil: inner dials
	limit   time.Duration // of a dial
	ctx     context.Context
	cancel  context.CancelFunc
	streams chan net.Conn
	relay   sync.WaitGroup
	stop    chan struct{} // ends the relay
	once    sync.Once
	err     error

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
}

// dialer is satisfied by net.Dialer, and by a transport that can be interrupted.
type dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// listen opens the sockets of gossip. The error names the address.
func listen(ip string, port int, limit time.Duration, log *log.Logger) (*transport, int, error) {
	tries := 1
	if port == 0 {
		tries = 10 // the port that is free for TCP may be taken for UDP
	}
	for {
		inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{ip}, BindPort: port, Logger: log})
		if err == nil {
			return wrap(inner, &net.Dialer{}, limit), inner.GetAutoBindPort(), nil
		}
		if tries--; tries > 0 && strings.Contains(err.Error(), "address already in use") {
			continue
		}
		at := net.JoinHostPort(ip, fmt.Sprint(port))
		if strings.Contains(err.Error(), "address already in use") {
			return nil, 0, fmt.Errorf("gossip cannot listen on %s: %w", at, syscall.EADDRINUSE) // which memberlist does not wrap
		}
		return nil, 0, fmt.Errorf("gossip cannot listen on %s: %w", at, err)
	}
}

func wrap(inner memberlist.Transport, d dialer, limit time.Duration) *transport {
	t := &transport{inner: inner, dialer: d, limit: limit, streams: make(chan net.Conn), stop: make(chan struct{}),
		conns: make(map[*conn]struct{})}
	if own, ok := inner.(dialer); ok {
		t.dialer = own
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.relay.Go(t.accept)
	return t
}

// accept hands incoming connections on, until Shutdown has ended the inner transport: that may wait for one to be taken.
func (t *transport) accept() {
	for {
		select {
		case c := <-t.inner.StreamCh():
			tracked, err := t.track(c)
			if err != nil {
				continue
			}
			select {
			case t.streams <- tracked:
			case <-t.ctx.Done():
				_ = tracked.Close()
			}
		case <-t.stop:
			return
		}
	}
}

var errClosing = errors.New("gossip is shutting down")

// track makes Shutdown close a connection that was not closed before.
func (t *transport) track(c net.Conn) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = c.Close()
		return nil, errClosing
	}
	tracked := &conn{Conn: c, t: t}
	t.conns[tracked] = struct{}{}
	return tracked, nil
}

type conn struct {
	net.Conn
	t *transport
}

func (c *conn) Close() error {
	c.t.mu.Lock()
	delete(c.t.conns, c)
	c.t.mu.Unlock()
	return c.Conn.Close()
}

// The methods of memberlist.Transport.

func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return t.inner.FinalAdvertiseAddr(ip, port)
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.inner.WriteTo(b, addr)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.inner.PacketCh() }

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	timeout = min(timeout, t.limit)
	dial := func() (net.Conn, error) { return t.inner.DialTimeout(addr, timeout) }
	if t.dialer != nil {
		dial = func() (net.Conn, error) {
			ctx, cancel := context.WithTimeout(t.ctx, timeout)
			defer cancel()
			return t.dialer.DialContext(ctx, "tcp", addr)
		}
	}
	c, err := dial()
	if err != nil {
		return nil, err
	}
	return t.track(c)
}

func (t *transport) Shutdown() error {
	t.once.Do(func() {
		t.mu.Lock()
		t.closed = true
		open := t.conns
		t.conns = make(map[*conn]struct{})
		t.mu.Unlock()
		t.cancel()
		for c := range open {
			_ = c.Conn.Close()
		}
		t.err = t.inner.Shutdown()
		close(t.stop)
		t.relay.Wait()
	})
	return t.err
}

var _ memberlist.Transport = (*transport)(nil)
