package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// StreamHandler takes a stream that another node opened by [Link.Stream]: a connection of its own, whose bytes the link does not look
// at. from is the node at the other end, as its certificate proves. The handler is called on a goroutine of its own; when it returns,
// the stream is closed. It must return soon after the stream was closed under it, for [Link.Shutdown] waits for it.
type StreamHandler func(conn net.Conn, from cluster.NodeID)

// Stream opens a stream to another node, to the handler that it has under name (Config.Streams): both sides prove who they are, say
// hello as on any connection of a link, and then the bytes are theirs. A stream has no keepalive, no frames and no bounds but TLS's;
// whoever speaks over it sets deadlines. It ends when either end closes it, when the other end's certificate ends or is trusted no
// more, and with the link: [Link.Shutdown] closes streams at once, [Link.Drain] leaves them and lets new ones be opened.
//
// An error is an [*Error]: `unsupported` if the other node has no such stream, or is of a version that has none; `overloaded` if it
// holds too many of this node; `shutting_down` if either end is; `invalid_argument` for a node or a name that cannot be; `unreachable`
// for one that does not prove to be the node, or does not answer within Config.DialTimeout; `timeout` and `canceled` if ctx ended first.
func (l *Link) Stream(ctx context.Context, node cluster.Node, name string) (net.Conn, error) {
	fail := func(code abi.Code, text string, err error) (net.Conn, error) {
		return nil, &Error{Node: node.ID, Authority: node.Authority, Code: code, Text: text, Err: err}
	}
	if err := l.reachable(node); err != nil {
		return nil, err
	}
	if !abi.ValidMethod(name) {
		return fail(abi.ErrInvalidArgument, fmt.Sprintf("%.200q is no name of a stream", name), nil)
	}
	if l.closing.Load() {
		return fail(abi.ErrShuttingDown, "this node's link is shutting down", nil)
	}
	attempt, cancel := context.WithTimeout(ctx, l.cfg.DialTimeout)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	s, err := l.openStream(attempt, node, name)
	var refusal *Refusal
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		return fail(abi.CodeOf(ctx.Err()), "the caller stopped waiting", err)
	case l.ctx.Err() != nil:
		return fail(abi.ErrShuttingDown, "this node's link is shutting down", nil)
	case errors.Is(err, errNoStreams):
		return fail(abi.ErrUnsupported, "it is of a version that has no streams, such as "+name+"; upgrade it", nil)
	case errors.As(err, &refusal):
		switch refusal.Reason {
		case NoStream:
			return fail(abi.ErrUnsupported, refusal.Text, nil)
		case Flood:
			return fail(abi.ErrOverloaded, refusal.Text, nil)
		case Leaving:
			return fail(abi.ErrShuttingDown, "the node is shutting down", nil)
		}
	}
	return fail(abi.ErrUnreachable, "no stream "+name+" to it can be opened", err)
}

var errNoStreams = errors.New("the node has no streams")

// openStream does all of it until ctx ends.
func (l *Link) openStream(ctx context.Context, node cluster.Node, name string) (*stream, error) {
	raw, err := l.cfg.Dial(ctx, "tcp", node.Authority)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	stop := interruptOn(ctx, raw)
	defer stop()
	s, err := l.introduceStream(raw, node, name)
	if !stop() { // ctx ended, and with it whatever was under way
		err = dialError(ctx, ctx.Err())
	}
	if err == nil {
		_ = raw.SetDeadline(time.Time{})
		if f := l.enterStream(s); f != nil {
			err = f
		}
	}
	if err != nil {
		_ = raw.Close()
		return nil, dialError(ctx, err)
	}
	return s, nil
}

func (l *Link) introduceStream(raw net.Conn, node cluster.Node, name string) (*stream, error) {
	_, conn, expires, err := l.prove(raw, node.ID)
	if err != nil {
		return nil, err
	}
	own := l.hello()
	own.stream = name
	in := frameReader{src: conn, max: helloLimit}
	theirs, err := introduce(conn, &in, &own)
	if err != nil {
		return nil, err
	}
	if f := l.accepts(node.ID, theirs); f != nil {
		_, _ = conn.Write(appendRefusal(nil, f.reason, f.text))
		return nil, f
	}
	if theirs.features&featureStream == 0 { // it takes this for a connection like any other
		return nil, errNoStreams
	}
	return newStream(l, raw, conn, &in, node.ID, expires, true), nil
}

// errStreamed is how a connection ends that was a stream.
var errStreamed = errors.New("the stream was closed")

// streamed is the life of a stream that another node opened, from its hello to its end.
func (c *inbound) streamed(raw net.Conn, conn *tls.Conn, theirs *hello, expires time.Time, settled func() bool) error {
	l := c.link
	handler := l.cfg.Streams[theirs.stream]
	s := newStream(l, raw, conn, &c.in, theirs.node, expires, false)
	f := l.roster.stale(theirs)
	if f == nil && handler == nil {
		f = &fault{reason: NoStream, text: fmt.Sprintf("node %s has no stream %.200q", l.cfg.Self.ID, theirs.stream)}
	}
	if f == nil {
		f = l.enterStream(s)
	}
	if f != nil {
		_, _ = conn.Write(appendRefusal(nil, f.reason, f.text))
		return c.slow(f)
	}
	defer s.Close()
	own := l.hello()
	own.version = min(theirs.max, maxVersion)
	if _, err := conn.Write(appendHello(nil, &own)); err != nil {
		return c.slow(err)
	}
	if !settled() {
		return errShutdown
	}
	_ = raw.SetDeadline(time.Time{})
	s.serve(handler, theirs.stream)
	return errStreamed
}

func (s *stream) serve(handler StreamHandler, name string) {
	defer func() {
		if p := recover(); p != nil {
			s.link.cfg.Log.Error("the handler of a stream panicked", "stream", name, "node", s.node, "panic", p,
				"stack", string(debug.Stack()))
		}
	}()
	handler(s, s.node)
}

// stale says that a hello is that of a run that has ended.
func (r *roster) stale(h *hello) *fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.nodes[h.node]; k != nil {
		for _, w := range k.wires {
			if w.peer.boot > h.boot {
				return &fault{reason: StaleBoot, text: "a newer run of node " + string(h.node) + " is connected"}
			}
		}
	}
	return nil
}

// maxStreams bounds the streams that one node may have open to this one.
const maxStreams = 64

// stream is one end of a connection whose bytes belong to others.
type stream struct {
	*tls.Conn
	link    *Link
	raw     net.Conn
	node    cluster.NodeID // at the other end
	expires time.Time      // of its certificate
	dialled bool

	mu   sync.Mutex
	rest []byte // read with the hello, and not by the stream's owner

	once sync.Once
}

func newStream(l *Link, raw net.Conn, conn *tls.Conn, in *frameReader, node cluster.NodeID, expires time.Time, dialled bool) *stream {
	s := &stream{Conn: conn, link: l, raw: raw, node: node, expires: expires, dialled: dialled}
	if in.partial() {
		s.rest = append([]byte(nil), in.buf[in.start:in.end]...)
	}
	return s
}

// Read returns first what came with the hello.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	if n := copy(p, s.rest); n > 0 {
		s.rest = s.rest[n:]
		s.mu.Unlock()
		return n, nil
	}
	s.mu.Unlock()
	return s.Conn.Read(p)
}

// Close ends the stream. It never waits for the other end, as TLS's own farewell may.
func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		err = s.raw.Close()
		s.link.leaveStream(s)
	})
	return err
}

// enterStream makes a stream one of those that end with the link.
func (l *Link) enterStream(s *stream) *fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing.Load() {
		return &fault{reason: Leaving, text: fmt.Sprintf("node %s is shutting down", l.cfg.Self.ID)}
	}
	if !s.dialled {
		n := 0
		for other := range l.streams {
			if !other.dialled && other.node == s.node {
				n++
			}
		}
		if n >= maxStreams {
			return &fault{reason: Flood, text: fmt.Sprintf("node %s holds %d streams of node %s already", l.cfg.Self.ID, n, s.node)}
		}
	}
	l.streams[s] = struct{}{}
	return nil
}

func (l *Link) leaveStream(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, s)
}

// everyStream returns the streams that are open.
func (l *Link) everyStream() []*stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*stream, 0, len(l.streams))
	for s := range l.streams {
		out = append(out, s)
	}
	return out
}

// lookAtStreams is the janitor's: a stream does not outlive the certificate that it was opened with, nor the trust in it.
func (l *Link) lookAtStreams(now time.Time, changed bool) {
	for _, s := range l.everyStream() {
		var why error
		switch {
		case !s.expires.IsZero() && now.After(s.expires):
			why = errors.New("its certificate has expired")
		case changed:
			why = l.cfg.Credentials.Check(s.ConnectionState())
		}
		if why != nil {
			l.log.warn("a stream was closed", s.node, "node", s.node, "why", why)
			_ = s.Close()
		}
	}
}
