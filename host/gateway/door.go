package gateway

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A door is a listener that closes without cutting anybody off. The system completes handshakes by itself and queues the
// connections; when a listener is closed it resets those in the queue, whose clients have perhaps sent a request by then and
// cannot know what became of it. (Of 32 clients that dial without a pause about half end so.) A door that is shut lets no more
// in, hands out who waits, and closes only then: a client is answered or refused.
type door struct {
	net.Listener
	crowd  *crowd       // that it lets people into
	closed func() error // closes the listener, once
	settle time.Duration

	mu       sync.Mutex
	shutting bool
	gone     chan struct{} // closed with the listener
}

// settle is how long nobody must have come out of a door that was shut. It covers handshakes that were under way, which on a busy
// machine the system ends late; where new ones cannot be held back (see holdBack) it is all there is.
const settle = 20 * time.Millisecond

func newDoor(l net.Listener, w *crowd) *door {
	d := &door{Listener: l, crowd: w, settle: settle, gone: make(chan struct{})}
	d.closed = sync.OnceValue(func() error {
		defer close(d.gone)
		return l.Close()
	})
	return d
}

// Close closes the listener at once.
func (d *door) Close() error { return d.closed() }

// shut lets no more in. The door closes as soon as Accept has handed out those who wait; gone tells.
func (d *door) shut() {
	l, ok := d.Listener.(*net.TCPListener)
	if !ok {
		_ = d.Close()
		return
	}
	holdBack(l)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shutting = true
	_ = l.SetDeadline(time.Unix(1, 0)) // wakes Accept, which sets its own from here on
}

// Accept returns the next connection, and [net.ErrClosed] once the door is closed.
func (d *door) Accept() (net.Conn, error) {
	c, err := d.next()
	if err != nil {
		return nil, err
	}
	return d.crowd.enter(c), nil
}

// next takes a connection from the listener.
func (d *door) next() (net.Conn, error) {
	for {
		shutting := d.await()
		c, err := d.Listener.Accept()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
		if !shutting {
			continue
		}
		l := d.Listener.(*net.TCPListener)
		if !waiting(l) {
			_ = d.Close()
			return nil, net.ErrClosed
		}
		// The time had passed before anybody looked at the queue, on a machine that had others to run.
		_ = l.SetDeadline(time.Now().Add(time.Second))
		if c, err := l.Accept(); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
	}
}

// await reports whether the door is shut, and bounds then how long Accept waits.
func (d *door) await() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shutting {
		_ = d.Listener.(*net.TCPListener).SetDeadline(time.Now().Add(d.settle))
	}
	return d.shutting
}
