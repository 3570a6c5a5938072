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
// Who finds all places taken gets that of the connection that has rested longest: first of those that never said anything, then of
// those that wait between two requests. A connection under a request is never given up, nor one that has rested for less than minRest:
// a busy client's next request may be on its way, and would be cut off.
//
// Where nobody rests the newcomer is let in all the same, for as long as it takes to tell it: it is answered `overloaded` by the
// code that answers everything else, in the form that its request asks for, and hung up on. To stop accepting instead would leave it in
// the system's queue, where it hears nothing until somebody else leaves, and to close it at once is a reset that looks like a node that
// crashed. What operators look at (see [ofOperators]) is answered properly on such a connection: a node with many clients is alive, and
// should not be killed by whoever watches it. There are extraPlaces of these, each for extraTime at most; the next newcomer waits for
// one to come free, and after extraLeast takes that of the first.
type crowd struct {
	max     int
	minRest time.Duration
	log     *slog.Logger
	freed   chan struct{} // holds an item when somebody has left since it was last looked at

	mu        sync.Mutex
	regular   int    // connections that have a place
	extra     int    // those that are let in to be told that there is none
	silent    lineOf // of the regular, those that have said nothing yet
	idle      lineOf // those between two requests
	told      lineOf // the extra ones
	refused   uint64 // connections that found no place
	displaced uint64 // connections that were closed for another
	quiet     time.Time
	unsaid    uint64 // refused since the last line in the log
}

const (
	extraPlaces = 32
	extraTime   = 5 * time.Second
	extraLeast  = 50 * time.Millisecond
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
	if half < 2*extraPlaces { // hardly a node; it gets a quarter
		return int(max(half/2, 1))
	}
	return int(min(half-extraPlaces, mostConns))
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
	return ConnCounts{Open: w.regular + w.extra, Max: w.max, Refused: w.refused, Displaced: w.displaced}
}

// client is the connection of one.
type client struct {
	net.Conn
	crowd *crowd
	extra bool      // it has no place
	until time.Time // of an extra one: its end, whatever deadlines it is given

	resting atomic.Bool // it is in the line of the silent or the idle. Set under crowd.mu

	// Under crowd.mu.
	since      time.Time // resting, or extra
	gone       bool      // it counts no more
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

// enter lets a connection in, which may take extraLeast, and closes the one that has to go for it.
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
	defer w.mu.Unlock()
	now := time.Now()
	if w.regular >= w.max {
		if old = w.rested(now); old == nil {
			return w.tryExtra(c, now)
		}
		w.displaced++
		w.forget(old)
	}
	w.regular++
	c.since = now
	w.silent.push(c)
	c.resting.Store(true)
	return old, 0
}

// tryExtra is try where all places are taken.
func (w *crowd) tryExtra(c *client, now time.Time) (old *client, wait time.Duration) {
	if w.extra >= extraPlaces {
		old = w.told.first
		if wait = old.since.Add(extraLeast).Sub(now); wait > 0 {
			return nil, wait
		}
		w.forget(old)
	}
	w.extra++
	c.extra, c.since, c.until = true, now, now.Add(extraTime)
	w.told.push(c)
	_ = c.Conn.SetDeadline(c.until)
	w.refuse(now)
	return old, 0
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
	if c.extra {
		w.extra--
	} else {
		w.regular--
	}
}

// refuse counts a connection that finds no place, and says so now and then.
func (w *crowd) refuse(now time.Time) {
	w.refused++
	w.unsaid++
	if now.Before(w.quiet) {
		return
	}
	w.log.Warn("clients are refused: all connections that limits.max_conns allows are in use", "max_conns", w.max, "refused", w.unsaid)
	w.quiet, w.unsaid = now.Add(crowdQuiet), 0
}

// leave is told that a connection has ended.
func (w *crowd) leave(c *client) {
	w.mu.Lock()
	if !c.gone {
		w.forget(c)
	}
	w.mu.Unlock()
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

// rest is told that a connection has answered a request and waits for the next.
func (w *crowd) rest(c *client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.gone && !c.extra {
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

// bounded is a deadline, of an extra connection not after its end.
func (c *client) bounded(t time.Time) time.Time {
	if c.extra && (t.IsZero() || t.After(c.until)) {
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

// withoutPlace is the key of a context whose request came over an extra connection.
type withoutPlace struct{}

// connContext marks the requests of extra connections.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*client); ok && c.extra {
		return context.WithValue(ctx, withoutPlace{}, true)
	}
	return ctx
}

// ofOperators reports whether a page is answered on an extra connection too.
func ofOperators(path string) bool {
	return path == "/livez" || path == "/readyz" || path == "/metrics"
}

// checkPlace refuses a request whose connection has no place, and has the connection closed behind the answer.
func (g *Gateway) checkPlace(w http.ResponseWriter, r *http.Request, path string) error {
	if r.Context().Value(withoutPlace{}) == nil {
		return nil
	}
	w.Header().Set("Connection", "close")
	if ofOperators(path) {
		return nil
	}
	return abi.NewError(abi.ErrOverloaded, "the node has as many connections as it takes, and all are in use; "+
		"keep connections and use them again, or raise limits.max_conns")
}
