package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// wire is what both ends of a connection have in common: a reader, a writer, keepalive, and what the other end said of itself.
// What the frames of requests and replies mean is the matter of its role. The zero value is a wire that has not connected.
type wire struct {
	link    *Link
	role    role
	dialled bool
	remote  string         // address
	proven  cluster.NodeID // by the certificate of the other end; "" until the handshake is through

	// Set by connected, never changed then.
	sock    *sock
	tls     *tls.Conn
	in      frameReader
	peer    hello     // what the other end said
	expires time.Time // of its certificate

	out outbox

	// Of the reader alone.
	item  abi.Reader // the items of the frame at hand
	kinds kindsReader

	frames   atomic.Uint64 // batches that had a whole frame
	partial  atomic.Bool   // what was read ends within a frame
	paused   atomic.Bool   // the reader waits for room in the outbox
	controls atomic.Int64  // control frames since the last look
	watch    watch

	once sync.Once
	done chan struct{} // closed by close
	err  error         // why, set before done is closed
}

// role is an end of a connection: outbound or inbound.
type role interface {
	// handle takes a frame of requests and replies. It never blocks. now is when the frame was read.
	handle(frame uint64, items int, r *abi.Reader, body []byte, now time.Time) error
	// goaway takes the other end's wish that there be no more requests.
	goaway(reason Reason)
	// underway returns how many messages have been sent or taken and not been answered, and their bytes.
	underway() (n, bytes int)
	// retire sees to it that no further requests are sent over the connection, and closes it after the last one under way.
	retire(reason Reason)
}

var (
	errFinished = errors.New("the connection was closed in good order")
	errShutdown = errors.New("this node's link was shut down")
	errLeft     = errors.New("the node is no member of the cluster any more")
)

func (w *wire) init(l *Link, r role, dialled bool) {
	w.link, w.role, w.dialled = l, r, dialled
	w.done = make(chan struct{})
	w.out.init()
}

// connected takes over a connection after its handshake, unless the wire was closed meanwhile.
func (w *wire) connected(s *sock, c *tls.Conn, peer *hello, expires time.Time) error {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	if w.out.closed {
		return w.err
	}
	w.sock, w.tls, w.peer, w.expires = s, c, *peer, expires
	return nil
}

// close ends the connection at once. The first reason counts.
func (w *wire) close(err error) {
	w.once.Do(func() {
		w.out.mu.Lock()
		w.err, w.out.closed = err, true
		s := w.sock
		w.out.mu.Unlock()
		close(w.done)
		if s != nil {
			_ = s.Conn.Close()
		}
	})
}

// socket returns the connection below, nil before there is one.
func (w *wire) socket() *sock {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	return w.sock
}

// run reads until the connection ends, and says why it did.
func (w *wire) run() error {
	w.link.spawn(w.write)
	err := w.ending(w.read())
	select {
	case <-w.done: // it was closed here, and that is why
		return w.err
	default:
	}
	var f *fault
	if errors.As(err, &f) {
		w.lastWords(f)
	}
	w.close(err)
	return err
}

// ending is why a connection ends whose reading or writing failed with err. When nothing was to come any more, both ends close it, and
// the other end may be the first: no connection is lost by that.
func (w *wire) ending(err error) error {
	err = sortError(err)
	var f *fault
	var refusal *Refusal
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	if w.out.final && !errors.As(err, &f) && !errors.As(err, &refusal) {
		return errFinished
	}
	return err
}

// lastWords tells the other end what it did, as far as it reads that within a moment.
func (w *wire) lastWords(f *fault) {
	w.control(func(b []byte) []byte { return appendRefusal(b, f.reason, f.text) })
	w.finish()
	t := time.NewTimer(lastWordsTime)
	defer t.Stop()
	select {
	case <-w.done:
	case <-t.C:
	}
}

const lastWordsTime = time.Second

// read hands each frame to whom it concerns. Before it waits for more, what was answered is written.
func (w *wire) read() error {
	for {
		body, err := w.in.buffered() // at first: what came with the hello
		if body == nil && err == nil {
			w.partial.Store(w.in.partial())
			if w.sock.stray.Load() {
				w.uncork()
			}
			if err := w.in.fill(); err != nil {
				return err
			}
			continue
		}
		now := time.Now()
		w.cork()
		for ; body != nil && err == nil; body, err = w.in.buffered() {
			if err = w.frame(body, now); err != nil {
				break
			}
		}
		w.frames.Add(1)
		w.partial.Store(w.in.partial())
		w.uncork()
		if err != nil {
			return err
		}
		w.waitForRoom()
	}
}

// sortError tells the faults of the other end from connections that just ended. TLS tells a writer of what the reader met, too.
func sortError(err error) error {
	var big *oversizedError
	var malformed *abi.DecodeError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &big):
		return &fault{reason: Oversized, text: big.Error()}
	case errors.As(err, &malformed), errors.Is(err, errEmptyFrame):
		return &fault{reason: Malformed, text: err.Error()}
	case errors.As(err, &record), errors.As(err, &op) && op.Op == "local error": // what TLS says of broken records
		return &fault{reason: Malformed, err: err}
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return errLost
	}
	return err
}

var errLost = errors.New("the connection was closed by the other end")

// frame handles one frame.
func (w *wire) frame(body []byte, now time.Time) error {
	head, number, items, err := frameHead(body)
	if err != nil {
		return err
	}
	w.item = head
	r := &w.item
	switch number {
	case frameRequest, frameOneWay, frameReply, frameFailure, frameCancel, frameAsk, frameRelay, frameRelayed, frameUnrelayed:
		return w.role.handle(number, items, r, body, now)
	}
	if w.controls.Add(1) > controlBurst {
		return &fault{reason: Flood, text: "too many control frames"}
	}
	switch number {
	case framePing, framePong, frameGoaway:
		v := r.Uint()
		if items != 1 {
			r.Fail("one item expected")
		}
		if r.End(); r.Err() != nil {
			return r.Err()
		}
		switch number {
		case framePing:
			w.control(func(b []byte) []byte { return appendNumber(b, framePong, v) })
		case frameGoaway:
			w.role.goaway(Reason(min(v, 1<<16-1)))
		}
	case frameKinds:
		version, kinds, done, err := w.kinds.read(r, items)
		if done {
			w.link.roster.setKinds(w, version, kinds)
		}
		return err
	case frameRefusal:
		refusal, err := readRefusal(r, items)
		if err == nil {
			err = refusal
		}
		return err
	default:
		r.Fail("an unknown frame")
		return r.Err()
	}
	return nil
}

// waitForRoom stops reading while the other end does not read what it is answered: what it sends then waits at its side. An end that
// asks reads always, or both might wait for each other; what it writes is bounded by what it may have under way.
func (w *wire) waitForRoom() {
	o := &w.out
	for !w.dialled {
		o.mu.Lock()
		full := len(o.buf) > w.link.cfg.MaxBytes && !o.closed
		o.mu.Unlock()
		if !full {
			w.paused.Store(false)
			return
		}
		w.paused.Store(true)
		select {
		case <-o.room:
		case <-w.done:
		}
	}
}

// watch is what the janitor remembers of a connection between two looks. Only the janitor uses it.
type watch struct {
	received, sent, frames       uint64
	silent, stalled, stuck, idle int
	pings                        uint64
	retired                      bool
	trusted                      *x509.CertPool // when its certificate was last verified
}

// look is the janitor's: once in each keepalive it sees whether the connection lives. Counting looks rather than time spares the
// peers of a process that was stopped for a while.
func (w *wire) look(now time.Time) {
	k, s := &w.watch, w.sock
	count := func(n *int, still bool) int {
		if *n++; !still {
			*n = 0
		}
		return *n
	}
	w.controls.Store(0)
	received, sent, frames := s.received.Load(), s.sent.Load(), w.frames.Load()
	silent := count(&k.silent, received == k.received && !w.paused.Load())
	stalled := count(&k.stalled, frames == k.frames && w.partial.Load() && !w.paused.Load())
	stuck := count(&k.stuck, sent == k.sent && s.waiting.Load())
	quiet := sent == k.sent // this end; the other may have its hands full with what it sends, and hear nothing else
	k.received, k.sent, k.frames = received, sent, frames
	every, patience := w.link.cfg.Keepalive, silentTicks
	if c, ok := w.role.(*outbound); ok && !c.p.kept() {
		patience = lostTicks
	}
	switch {
	case silent >= patience:
		w.close(&fault{reason: Silent, text: "nothing heard for " + (time.Duration(patience) * every).String()})
		return
	case stalled >= stalledTicks:
		w.close(&fault{reason: Stalled, text: "a frame was not complete after " + (stalledTicks * every).String()})
		return
	case stuck >= unreadTicks:
		w.close(&fault{reason: Unread, text: "it took nothing of what was sent for " + (unreadTicks * every).String()})
		return
	case silent > 0 || quiet:
		k.pings++
		w.control(func(b []byte) []byte { return appendNumber(b, framePing, k.pings) })
	}
	if !k.retired && !w.expires.IsZero() && now.After(w.expires) {
		k.retired = true
		w.role.retire(Reconnect)
	}
	w.out.mu.Lock()
	leaving := w.out.final || w.out.farewell
	w.out.mu.Unlock()
	n, _ := w.role.underway()
	if count(&k.idle, leaving && n == 0) >= drainTicks {
		w.close(errFinished)
	}
}

// lookAgainAt sees to it that a connection does not outlive the trust that it was made in: when other authorities are believed than
// before, the other end's certificate is verified anew.
func (w *wire) lookAgainAt(trusted *x509.CertPool) {
	if w.watch.trusted == trusted {
		return
	}
	w.watch.trusted = trusted
	if err := w.link.cfg.Credentials.Check(w.tls.ConnectionState()); err != nil {
		w.close(&fault{reason: BadCertificate, err: err})
	}
}
