package link

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// inbound is a connection that another node made: it reads requests, hands them to the handler, and writes what they come to.
type inbound struct {
	wire
	from cluster.NodeID

	live  atomic.Int64 // requests taken and not answered
	bytes atomic.Int64

	// Guarded by out.mu.
	cancelled map[uint64]struct{} // requests that nobody awaits any more
	farewell  bool                // the other end sends no more requests
	refused   uint64              // for want of room
}

var _ role = (*inbound)(nil)

func newInbound(l *Link, remote string) *inbound {
	c := &inbound{}
	c.wire.init(l, c, false)
	c.remote = remote
	return c
}

// served is a request under way. Envelope and bookkeeping are one allocation.
type served struct {
	env      abi.Envelope
	c        *inbound
	id       uint64
	size     int
	answered atomic.Bool
}

// handle takes a request, a one-way message or a cancellation.
func (c *inbound) handle(frame uint64, items int, r *abi.Reader, body []byte, now time.Time) error {
	switch frame {
	case frameRequest, frameOneWay:
		s := &served{c: c}
		want := 1
		if frame == frameRequest {
			s.id, want = r.Uint(), 2
		}
		if items != want {
			r.Fail("a request has two items, a one-way message one")
		}
		if r.Err() != nil {
			return r.Err()
		}
		c.take(s, frame == frameRequest, body[r.Offset():], now)
		return nil
	case frameCancel:
		id := r.Uint()
		if items != 1 {
			r.Fail("a cancellation has one item")
		}
		if r.End(); r.Err() == nil {
			c.cancel(id)
		}
		return r.Err()
	}
	r.Fail("an answer on a connection that the other end made")
	return r.Err()
}

// take hands a message to the handler. One that cannot be read or has no room is answered at once: whoever sent the others on
// this connection has nothing to do with it.
func (c *inbound) take(s *served, awaited bool, envelope []byte, now time.Time) {
	l := c.link
	s.size = len(envelope) + callOverhead
	live, bytes := c.live.Add(1), c.bytes.Add(int64(s.size))
	var done func([]byte, error)
	if awaited {
		done = s.done
	}
	err := abi.DecodeEnvelope(envelope, &s.env, now)
	switch {
	case err != nil:
		err = fmt.Errorf("node %s cannot read the message: %w", l.cfg.Self.ID, err)
	case len(s.env.Payload) > l.cfg.MaxMessage:
		err = tooLarge(len(s.env.Payload), l.cfg.MaxMessage)
	case live > int64(l.cfg.MaxInFlight) || bytes > int64(l.cfg.MaxBytes) && live > 1:
		c.out.mu.Lock()
		c.refused++
		c.out.mu.Unlock()
		err = abi.NewError(abi.ErrOverloaded, fmt.Sprintf("node %s has %d requests of node %s under way", l.cfg.Self.ID, live-1, c.from))
	}
	if err != nil {
		if !awaited {
			l.log.warn("a message that awaits no reply was refused", c.from, "node", c.from, "err", err)
			s.end()
			return
		}
		done(nil, err)
		return
	}
	if s.env.Payload != nil {
		s.env.Payload = append(make([]byte, 0, len(s.env.Payload)), s.env.Payload...)
	}
	if s.env.Deadline.IsZero() {
		s.env.Deadline = now.Add(abi.DefaultRequest)
	}
	if !awaited {
		defer s.end()
	}
	defer c.guard(done)
	l.cfg.Handler.Handle(&s.env, c.from, done)
}

// guard is deferred around the handler.
func (c *inbound) guard(done func([]byte, error)) {
	p := recover()
	if p == nil {
		return
	}
	c.link.cfg.Log.Error("the handler of messages panicked", "panic", p, "stack", string(debug.Stack()))
	if done != nil {
		done(nil, abi.NewError(abi.ErrInternal, "the node's handler of messages failed"))
	}
}

// done answers the request. Of several calls the first counts.
func (s *served) done(payload []byte, err error) {
	if !s.answered.CompareAndSwap(false, true) {
		return
	}
	c := s.c
	if err == nil && len(payload) > c.peer.maxFrame-frameExtra {
		err = abi.NewError(abi.ErrPayloadTooLarge, fmt.Sprintf("the reply has %d bytes; node %s takes %d", len(payload), c.from,
			c.peer.maxFrame-frameExtra))
	}
	o := &c.out
	o.mu.Lock()
	_, dropped := c.cancelled[s.id]
	if dropped {
		delete(c.cancelled, s.id)
	}
	claimed := false
	if !o.closed && !dropped {
		o.buf = appendAnswer(o.buf, s.id, payload, err)
		claimed = o.claim()
	}
	o.mu.Unlock()
	live := s.end()
	if claimed {
		c.push(int(live))
	}
}

func appendAnswer(b []byte, id uint64, payload []byte, err error) []byte {
	at := len(b)
	if err != nil {
		b = abi.AppendUint(openFrame(b, 3, frameFailure), id)
		return sealFrame(abi.AppendError(b, abi.AsError(err)), at)
	}
	b = abi.AppendUint(openFrame(b, 3, frameReply), id)
	return sealFrame(abi.AppendBytes(b, payload), at)
}

// end takes a message out of the count.
func (s *served) end() (live int64) {
	c := s.c
	c.bytes.Add(-int64(s.size))
	live = c.live.Add(-1)
	if live == 0 {
		c.settle()
	}
	return live
}

// settle closes the connection when the other end sends no more requests and the last is answered.
func (c *inbound) settle() {
	c.out.mu.Lock()
	over := c.farewell && c.live.Load() == 0
	c.out.mu.Unlock()
	if over {
		c.finish()
	}
}

// cancel notes that nobody awaits a request. It ends the wait only: what the request asks for is done. A note that comes after
// the reply is never used, so that their number is bounded.
func (c *inbound) cancel(id uint64) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.cancelled == nil || len(c.cancelled) >= c.link.cfg.MaxInFlight {
		c.cancelled = make(map[uint64]struct{})
	}
	c.cancelled[id] = struct{}{}
}

func (c *inbound) goaway(Reason) {
	c.out.mu.Lock()
	c.farewell = true
	c.out.mu.Unlock()
	c.settle()
}

// retire asks the other end to send no more requests. What was on its way is taken.
func (c *inbound) retire(reason Reason) {
	c.out.mu.Lock()
	again := c.out.farewell
	c.out.farewell = true
	c.out.mu.Unlock()
	if !again {
		c.control(func(b []byte) []byte { return appendNumber(b, frameGoaway, uint64(reason)) })
	}
}

func (c *inbound) underway() (n, bytes int) {
	return int(c.live.Load()), int(c.bytes.Load())
}

var errNoHandler = errors.New("this node takes no messages")

// noHandler is the handler of a node that only calls.
type noHandler struct{}

func (noHandler) Handle(_ *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
	if done != nil {
		done(nil, abi.NewError(abi.ErrUnsupported, errNoHandler.Error()))
	}
}
