package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// A crowd is the connections of clients, of which there are no more than the node can do with: each is a descriptor of the process,
// and one that has none left loses its links, its log and its files to whoever opened them.
//
// Who finds all places taken waits in the porch, and gets a place as soon as it asks for something: that of the connection that has rested
// longest, first of those that never said anything, then of those that wait between two requests. A connection under a request is never given
// up, nor one that has rested for less than minRest: a busy client's next request may be on its way, and would be cut off. Whoever
// only connects takes nothing from anybody.
//
// Where nobody rests the request is answered `overloaded`, by the code that answers everything else, and hung up on. To stop accepting
// instead would leave newcomers in the system's queue, where they hear nothing until somebody else leaves, and to close them at once is a
// reset that looks like a node that crashed. What operators look at (see [ofOperators]) is answered in the porch too: a node with
// many clients is alive, and should not be killed by whoever watches it. The porch has porchPlaces, each for porchTime at most; the next
// newcomer waits for one to come free, and after porchLeast takes that of the first.
type crowd struct {
	max     int
	minRest time.Duration
	log     *slog.Logger
	freed   chan struct{} // holds an item when somebody has left since it was last looked at

	mu        sync.Mutex
	regular   int    // connections that have a place
	outside   int    // connections in the porch
	silent    lineOf // of the regular, those that have said nothing yet
	idle      lineOf // those between two requests
	porch     lineOf
	refused   uint64 // connections that found no place
	displaced uint64 // connections that were closed for another
	quiet     time.Time
	unsaid    uint64 // refused since the last line in the log
	toSay     uint64 // refused, for the line that is due
}

const (
	porchPlaces = 32
	porchTime   = 5 * time.Second
	porchLeast  = 50 * time.Millisecond
	minRest     = time.Second
	crowdQuiet  = 10 * time.Second // between two lines in the log
)

// mostConns is the default where the process may open more files than anybody needs.
const mostConns = 16 << 10

// DefaultMaxConns is how many connections a gateway has when the configuration does not say: with those that are let in to be told of it
// half of the files that the process may open, at most 16,384. The Go runtime raises the soft limit to the hard one at its start.
func DefaultMaxConns() int {
	if files := maxFiles(); files > 0 {
		return defaultConns(files)
	}
	return mostConns
}

func defaultConns(files uint64) int {
	half := files / 2
	if half < 2*porchPlaces { // hardly a node; it gets a quarter
		return int(max(half/2, 1))
	}
	return int(min(half-porchPlaces, mostConns))
}

// ConnCounts are the connections of a gateway.
type ConnCounts struct {
	Open      int    // now, those included that are about to be refused
	Max       int    // that may have a place
	Refused   uint64 // connections that found no place since the start
	Displaced uint64 // connections without a request that were closed to make room for another
}

// Conns returns what the gateway counts of its connections.
func (g *Gateway) Conns() ConnCounts {
	w := g.crowd
	w.mu.Lock()
	defer w.mu.Unlock()
	return ConnCounts{Open: w.regular + w.outside, Max: w.max, Refused: w.refused, Displaced: w.displaced}
}

// client is the connection of one.
type client struct {
	net.Conn
	crowd *crowd
	until time.Time // in the porch: its end, whatever deadlines it is given

	// Set under crowd.mu.
	resting atomic.Bool // it is in the line of the silent or the idle
	inPorch atomic.Bool

	// Under crowd.mu.
	since      time.Time // resting, or in the porch
	gone       bool      // it counts no more
	answered   bool      // in the porch: it got its answer
	line       *lineOf
	prev, next *client
}

// lineOf is clients in the order in which they came into it. They are linked by themselves: a request costs no allocation.
type lineOf struct{ first, last *client }

func (l *lineOf) push(c *client) {
	c.line, c.prev, c.next = l, l.last, nil
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

// unlink takes a client out of its line, if it is in one.
func (c *client) unlink() {
	l := c.line
	if l == nil {
		return
	}
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		l.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.line, c.prev, c.next = nil, nil, nil
}

// enter lets a connection in, which may take porchLeast, and closes the one in the porch that has to go for it.
func (w *crowd) enter(conn net.Conn) net.Conn {
	c := &client{Conn: conn, crowd: w}
	for {
		old, wait := w.try(c)
		if old != nil {
			_ = old.Conn.Close() // whoever reads from it is woken
		}
		if wait <= 0 {
			return c
		}
		t := time.NewTimer(wait)
		select {
		case <-w.freed:
		case <-t.C:
		}
		t.Stop()
	}
}

// try finds room for a connection, or returns how long to wait for some. The connection it returns has to be closed.
func (w *crowd) try(c *client) (old *client, wait time.Duration) {
	w.mu.Lock()
	defer w.unlock()
	now := time.Now()
	c.since = now
	if w.regular < w.max {
		w.regular++
		w.silent.push(c)
		c.resting.Store(true)
		return nil, 0
	}
	if w.outside >= porchPlaces {
		old = w.porch.first
		if wait = old.since.Add(porchLeast).Sub(now); wait > 0 {
			return nil, wait
		}
		w.forget(old)
	}
	w.outside++
	c.until = now.Add(porchTime)
	c.inPorch.Store(true)
	w.porch.push(c)
	_ = c.Conn.SetDeadline(c.until)
	return old, 0
}

// place gives a connection in the porch a place, and reports whether there was one.
func (w *crowd) place(c *client) bool {
	w.mu.Lock()
	defer w.unlock()
	if c.gone || c.answered {
		return false
	}
	if w.regular >= w.max {
		old := w.rested(time.Now())
		if old == nil {
			w.answer(c)
			w.refuse()
			return false
		}
		w.displaced++
		w.forget(old)
		defer func() { _ = old.Conn.Close() }() // not under the lock, which whoever reads from it may want
	}
	c.unlink()
	w.outside--
	w.regular++
	c.inPorch.Store(false)
	w.signal()
	return true
}

// answer has a connection in the porch last until its answer is written.
func (w *crowd) answer(c *client) {
	if c.gone || c.answered {
		return
	}
	c.unlink()
	c.answered, c.since = true, time.Now()
	w.porch.push(c)
}

// rested returns whom to close for a newcomer, or nil.
func (w *crowd) rested(now time.Time) *client {
	for _, c := range [...]*client{w.silent.first, w.idle.first} {
		if c != nil && now.Sub(c.since) >= w.minRest {
			return c
		}
	}
	return nil
}

// forget ends the count of a connection.
func (w *crowd) forget(c *client) {
	c.gone = true
	c.unlink()
	if !c.inPorch.Load() {
		w.regular--
		return
	}
	w.outside--
	if !c.answered {
		w.refuse()
	}
}

// refuse counts a connection that found no place, and says so now and then.
func (w *crowd) refuse() {
	w.refused++
	w.unsaid++
	if now := time.Now(); !now.Before(w.quiet) {
		w.quiet, w.toSay, w.unsaid = now.Add(crowdQuiet), w.unsaid, 0
	}
}

// unlock unlocks mu, and writes the line that is due: nobody waits for the log.
func (w *crowd) unlock() {
	refused := w.toSay
	w.toSay = 0
	w.mu.Unlock()
	if refused > 0 {
		w.log.Warn("clients are refused: all connections that limits.max_conns allows are in use", "max_conns", w.max, "refused", refused)
	}
}

// excuse notes that a connection in the porch is not one that was refused.
func (w *crowd) excuse(c *client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer(c)
}

// leave is told that a connection has ended.
func (w *crowd) leave(c *client) {
	w.mu.Lock()
	defer w.unlock()
	if !c.gone {
		w.forget(c)
	}
	w.signal()
}

// signal wakes who waits for room.
func (w *crowd) signal() {
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

// rest is told that a connection has answered a request and waits for the next.
func (w *crowd) rest(c *client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.gone && !c.inPorch.Load() {
		c.unlink()
		c.since = time.Now()
		w.idle.push(c)
		c.resting.Store(true)
	}
}

// wake ends the rest of a connection on which something has come, and reports whether it still is one.
func (w *crowd) wake(c *client) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.gone {
		return false
	}
	c.unlink()
	c.resting.Store(false)
	return true
}

// Read reads. What has come for a connection that was given up at the same moment is not heard: it would be done, and its answer lost.
func (c *client) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.resting.Load() && !c.crowd.wake(c) {
		return 0, net.ErrClosed
	}
	return n, err
}

// CloseWrite lets net/http end an answer before it hangs up on a client that is still sending.
func (c *client) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// bounded is a deadline, in the porch not after the end there.
func (c *client) bounded(t time.Time) time.Time {
	if c.inPorch.Load() && (t.IsZero() || t.After(c.until)) {
		return c.until
	}
	return t
}

// SetDeadline implements [net.Conn].
func (c *client) SetDeadline(t time.Time) error { return c.Conn.SetDeadline(c.bounded(t)) }

// SetReadDeadline implements [net.Conn].
func (c *client) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.bounded(t)) }

// SetWriteDeadline implements [net.Conn].
func (c *client) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(c.bounded(t)) }

// fromPorch is the key of a context whose request came over a connection that was let into the porch; the value is its *client.
type fromPorch struct{}

// connContext marks the requests of connections in the porch.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*client); ok && c.inPorch.Load() {
		return context.WithValue(ctx, fromPorch{}, c)
	}
	return ctx
}

// ofOperators reports whether a page is answered without a place.
func ofOperators(path string) bool {
	return path == "/livez" || path == "/readyz" || path == "/metrics"
}

// takePlace has a request wait for nothing: its connection has a place, or gets one, or is closed behind the answer.
func (g *Gateway) takePlace(w http.ResponseWriter, r *http.Request, path string) error {
	c, _ := r.Context().Value(fromPorch{}).(*client)
	switch {
	case c == nil || !c.inPorch.Load():
		return nil
	case ofOperators(path):
		g.crowd.excuse(c)
	case g.crowd.place(c):
		// Those that net/http meant, which the porch cut short.
		now := time.Now()
		_ = c.SetReadDeadline(now.Add(g.server.ReadTimeout))
		_ = c.SetWriteDeadline(now.Add(g.server.WriteTimeout))
		return nil
	}
	w.Header().Set("Connection", "close")
	if ofOperators(path) {
		return nil
	}
	return abi.NewError(abi.ErrOverloaded, "the node has as many connections as it takes, and all are in use; "+
		"keep connections and use them again, or raise limits.max_conns")
}
