package link

import (
	"context"
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

	ctx    context.Context // of what is asked; ends with the connection
	cancel context.CancelFunc

	// Guarded by out.mu.
	questions int                           // that services are answering
	cancels   map[uint64]context.CancelFunc // theirs, by id
	unwanted  map[uint64]struct{}           // requests that nobody awaits any more
	farewell  bool                          // the other end sends no more requests
	refused   uint64                        // for want of room
}

var _ role = (*inbound)(nil)

func newInbound(l *Link, remote string) *inbound {
	c := &inbound{}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wire.init(l, c, false)
	c.remote = remote
	return c
}

// taken is a message or question under way: what its answer needs.
type taken struct {
	c        *inbound
	id       uint64
	size     int
	answered atomic.Bool
}

// served is a message under way. Envelope and bookkeeping are one allocation.
type served struct {
	taken
	env abi.Envelope
}

// handle takes a request, a one-way message, a question or a cancellation.
func (c *inbound) handle(frame uint64, items int, r *abi.Reader, body []byte, now time.Time) error {
	switch frame {
	case frameRequest, frameOneWay:
		s := &served{taken: taken{c: c}}
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
	case frameAsk:
		return c.question(items, r)
	case frameRelay:
		return c.relay(items, r, now)
	case frameRelayed:
		return c.relayed(items, r, now)
	case frameCancel:
		id := r.Uint()
		if items != 1 {
			r.Fail("a cancellation has one item")
		}
		if r.End(); r.Err() == nil {
			c.cancelled(id)
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
	err := s.begin(len(envelope))
	var done func([]byte, error)
	if awaited {
		done = s.done
	}
	unreadable := abi.DecodeEnvelope(envelope, &s.env, now)
	switch {
	case unreadable != nil:
		err = fmt.Errorf("node %s cannot read the message: %w", l.cfg.Self.ID, unreadable)
	case len(s.env.Payload) > l.cfg.MaxMessage:
		err = tooLarge(len(s.env.Payload), l.cfg.MaxMessage)
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
	defer c.guard("the handler of messages", done)
	l.cfg.Handler.Handle(&s.env, c.from, done)
}

// begin counts a message or question of so many bytes, until end. The error says that there is no room for it.
func (t *taken) begin(size int) error {
	c, l := t.c, t.c.link
	t.size = size + callOverhead
	live, bytes := c.live.Add(1), c.bytes.Add(int64(t.size))
	if live <= int64(l.cfg.MaxInFlight) && (bytes <= int64(l.cfg.MaxBytes) || live == 1) {
		return nil
	}
	c.out.mu.Lock()
	c.refused++
	c.out.mu.Unlock()
	return abi.NewError(abi.ErrOverloaded, fmt.Sprintf("node %s has %d requests of node %s under way", l.cfg.Self.ID, live-1, c.from))
}

// guard is deferred around the code of others.
func (c *inbound) guard(what string, done func([]byte, error)) {
	p := recover()
	if p == nil {
		return
	}
	c.link.cfg.Log.Error(what+" panicked", "panic", p, "stack", string(debug.Stack()))
	if done != nil {
		done(nil, abi.NewError(abi.ErrInternal, what+" of node "+string(c.link.cfg.Self.ID)+" failed"))
	}
}

// done answers the request. Of several calls the first counts.
func (t *taken) done(payload []byte, err error) {
	if !t.answered.CompareAndSwap(false, true) {
		return
	}
	c := t.c
	if err == nil && len(payload) > c.peer.maxFrame-frameExtra {
		err = abi.NewError(abi.ErrPayloadTooLarge, fmt.Sprintf("the reply has %d bytes; node %s takes %d", len(payload), c.from,
			c.peer.maxFrame-frameExtra))
	}
	o := &c.out
	o.mu.Lock()
	_, dropped := c.unwanted[t.id]
	if dropped {
		delete(c.unwanted, t.id)
	}
	if n := len(o.buf); n > 2*c.link.cfg.MaxBytes && err == nil {
		err = abi.NewError(abi.ErrOutcomeUnknown, fmt.Sprintf("node %s does not read its replies: "+
			"%d bytes wait for it, and this one was dropped", c.from, n))
	}
	if !o.closed && !dropped {
		o.buf = appendAnswer(o.buf, t.id, payload, err)
	}
	live := t.endLocked()
	claimed := (len(o.buf) > 0 || o.final) && o.claim()
	o.mu.Unlock()
	if claimed {
		c.push(int(live))
	}
}

func appendAnswer(b []byte, id uint64, payload []byte, err error) []byte {
	at := len(b)
	if err != nil {
		frame := uint64(frameFailure)
		if own, ok := err.(unrelayed); ok {
			frame, err = frameUnrelayed, own.failure
		}
		b = abi.AppendUint(openFrame(b, 3, frame), id)
		return sealFrame(abi.AppendError(b, abi.AsError(err)), at)
	}
	b = abi.AppendUint(openFrame(b, 3, frameReply), id)
	return sealFrame(abi.AppendBytes(b, payload), at)
}

// endLocked takes a message or question out of the count. out.mu is held.
func (t *taken) endLocked() (live int64) {
	t.c.bytes.Add(-int64(t.size))
	live = t.c.live.Add(-1)
	t.c.settleLocked()
	return live
}

// end does it for a message without an answer.
func (t *taken) end() {
	o := &t.c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if t.endLocked(); o.final && o.claim() {
		o.kick()
	}
}

// settleLocked has the connection closed when the other end sends no more requests and the last is answered.
func (c *inbound) settleLocked() {
	if c.farewell && c.live.Load() == 0 {
		c.out.final = true
	}
}

// cancelled notes that nobody awaits an answer. A message is handled all the same; a question is given up. A note that comes
// after the answer is never used, so that their number is bounded.
func (c *inbound) cancelled(id uint64) {
	c.out.mu.Lock()
	if c.unwanted == nil || len(c.unwanted) >= c.link.cfg.MaxInFlight {
		c.unwanted = make(map[uint64]struct{})
	}
	c.unwanted[id] = struct{}{}
	giveUp := c.cancels[id]
	c.out.mu.Unlock()
	if giveUp != nil {
		giveUp()
	}
}

func (c *inbound) goaway(Reason) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.farewell = true
	if c.settleLocked(); c.out.final && c.out.claim() {
		c.out.kick()
	}
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
