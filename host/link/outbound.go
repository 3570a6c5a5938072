package link

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// outbound is a connection that this node made: it sends requests and reads replies. It exists from the moment the first
// message wants it; until it is connected its calls wait in it.
type outbound struct {
	wire
	p      *peer
	ctx    context.Context // until it is connected
	cancel context.CancelCauseFunc

	// Guarded by out.mu.
	state   state
	calls   calls
	waiting []*call // in order, until it is open
	loose   int     // bytes of one-way messages among them
	limit   int     // requests under way
	sweepAt time.Duration
	sweeper *time.Timer

	messages uint64
	aside    bool // its messages go through a relay for now

	passing      atomic.Int64 // of messages under way, those that are passed on for others
	passingBytes atomic.Int64
}

type state uint8

const (
	connecting state = iota
	open
	retired // takes no more calls; those under way are answered
	lost
)

var _ role = (*outbound)(nil)

// errRetired says that the call is for another connection, errAside that it is for a relay.
var (
	errRetired = errors.New("the connection takes no more requests")
	errAside   = errors.New("what is for the node goes through another")
)

func newOutbound(p *peer) *outbound {
	c := &outbound{p: p, limit: p.link.cfg.MaxInFlight, sweepAt: forever}
	c.ctx, c.cancel = context.WithCancelCause(p.link.ctx)
	c.wire.init(p.link, c, true)
	c.remote = p.authority
	return c
}

// send takes a call: it writes its frame into the outbox, or keeps it until the connection stands. claimed tells the caller to push.
// An error other than errRetired is the call's outcome; in either case the call stays the caller's. k is not to be looked at
// after success: it may have been answered.
func (c *outbound) send(k *call, now time.Time) (claimed bool, under int, err error) {
	k.size = k.payloadSize() + callOverhead
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	switch {
	case c.state >= retired, c.state == connecting && k.pass != nil: // what is for others waits for no connection
		return false, 0, errRetired
	case c.aside:
		return false, 0, errAside
	}
	// What nobody awaits any more may still stand in the queue, or have to be written.
	under = max(c.calls.live, len(c.waiting))
	if bytes := max(c.calls.bytes+c.loose, len(c.out.buf)); under >= c.limit || bytes+k.size > c.link.cfg.MaxBytes {
		return false, 0, c.p.error(abi.ErrOverloaded, "too much is under way to it: "+strconv.Itoa(under)+" requests, "+
			strconv.Itoa(bytes)+" bytes; nothing was sent", nil)
	}
	if k.request {
		c.calls.add(k)
	}
	if c.state == connecting {
		c.waiting = append(c.waiting, k)
	} else if err := c.encode(k, now); err != nil {
		if k.request {
			c.calls.take(k.id)
		}
		return false, 0, err
	}
	c.messages++
	if k.request {
		c.arm(k.deadline)
	} else if k.written {
		c.link.putCall(k)
	} else {
		c.loose += k.size
	}
	return c.state == open && c.out.claim(), c.calls.live, nil
}

// callOverhead is what a call counts for beside its payload.
const callOverhead = 256

// encode writes a call's frame. A frame that the other end would not read is taken back. out.mu is held.
func (c *outbound) encode(k *call, now time.Time) error {
	o := &c.out
	at, start := len(o.buf), o.position()
	switch {
	case k.pass != nil && c.peer.features&featureRelay == 0:
		return c.p.error(abi.ErrUnsupported, "it speaks an older version, which knows of no relays", nil)
	case k.pass != nil:
		o.buf = k.pass.append(o.buf, k.id, k.deadline, c.link.at(now), now)
	case k.ask != nil && c.peer.features&featureAsk == 0:
		return c.p.error(abi.ErrUnsupported, "it speaks an older version, which answers no questions", nil)
	case k.ask != nil:
		o.buf = k.ask.append(o.buf, k.id, k.deadline-c.link.at(now))
	case k.request:
		o.buf = abi.AppendUint(openFrame(o.buf, 3, frameRequest), k.id)
		o.buf = sealFrame(abi.AppendEnvelope(o.buf, k.env, now), at)
	default:
		o.buf = openFrame(o.buf, 2, frameOneWay)
		o.buf = sealFrame(abi.AppendEnvelope(o.buf, k.env, now), at)
	}
	if size := len(o.buf) - at - lengthSize; size > c.peer.maxFrame {
		o.buf = o.buf[:at]
		return c.p.tooLarge(k.payloadSize(), c.peer.maxFrame-frameExtra)
	}
	k.unsend()
	k.start, k.written = start, true
	return nil
}

// opened lets the calls that wait go out, in order, and later ones at once.
func (c *outbound) opened() {
	now := time.Now()
	var unfit []*call
	c.out.mu.Lock()
	c.state = open
	c.limit = min(c.limit, c.peer.maxInFlight)
	for _, k := range c.waiting {
		if k.empty() { // its caller left, or its deadline passed
			continue
		}
		if k.err = c.encode(k, now); k.err != nil {
			if k.request {
				c.calls.take(k.id)
			}
			unfit = append(unfit, k)
		} else if !k.request {
			c.link.putCall(k)
		}
	}
	c.waiting, c.loose = nil, 0
	if len(c.out.buf) > 0 && c.out.claim() {
		c.out.kick()
	}
	c.out.mu.Unlock()
	for _, k := range unfit {
		k.answer(c.link, nil, k.err)
	}
	if c.ctx.Err() != nil { // it was to be retired at the last moment
		c.retire(Reconnect)
	}
}

// wait waits for the outcome of a call that was sent, until ctx ends; the sweeper sees to its deadline.
func (c *outbound) wait(ctx context.Context, k *call) ([]byte, error) {
	select {
	case <-k.answered:
	case <-ctx.Done():
		if c.abandon(k.id) {
			c.link.putCall(k)
			code, text := abi.ErrCanceled, "the caller stopped waiting"
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				code, text = abi.ErrTimeout, textLate
			}
			return nil, c.p.error(code, text, ctx.Err())
		}
		<-k.answered // it is being answered
	}
	payload, err := k.payload, k.err
	c.link.putCall(k)
	return payload, err
}

const textLate = "no answer came in time"

// abandon takes a call out of the table for its caller, and tells the other end that nobody waits any more. It is false if
// somebody else has taken it.
func (c *outbound) abandon(id uint64) bool {
	c.out.mu.Lock()
	k, _ := c.calls.take(id)
	if k == nil {
		c.out.mu.Unlock()
		return false
	}
	c.cancelLocked(k)
	c.settleLocked()
	c.out.mu.Unlock()
	return true
}

// cancelLocked drops a call that waits for the connection, or has the other end told.
func (c *outbound) cancelLocked(k *call) {
	if !k.written {
		k.unsend()
		return
	}
	if c.out.closed {
		return
	}
	c.out.buf = appendNumber(c.out.buf, frameCancel, k.id)
	if c.out.claim() {
		c.out.kick()
	}
}

// settleLocked closes a retired connection after its last call.
func (c *outbound) settleLocked() {
	if c.state == retired && c.calls.live == 0 && !c.out.final {
		c.out.final = true
		if c.out.claim() {
			c.out.kick()
		}
	}
}

// arm sees to it that the sweeper runs at a deadline. out.mu is held.
func (c *outbound) arm(deadline time.Duration) {
	if deadline >= c.sweepAt {
		return
	}
	c.sweepAt = deadline
	d := max(deadline-c.link.now(), sweepGap)
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(d, c.sweep)
		return
	}
	c.sweeper.Reset(d)
}

// sweepGap bounds how often the table is looked through for deadlines, and so by how much one may be overrun.
const sweepGap = 2 * time.Millisecond

// sweep ends the calls whose deadline has passed.
func (c *outbound) sweep() {
	c.out.mu.Lock()
	c.sweepAt = forever
	late, next := c.calls.due(c.link.now())
	for _, k := range late {
		c.cancelLocked(k)
	}
	if c.state != lost {
		c.arm(next)
	}
	c.settleLocked()
	c.out.mu.Unlock()
	for _, k := range late {
		k.answer(c.link, nil, c.p.error(abi.ErrTimeout, textLate, context.DeadlineExceeded))
	}
}

// handle takes an answer.
func (c *outbound) handle(frame uint64, items int, r *abi.Reader, _ []byte, _ time.Time) error {
	if frame != frameReply && frame != frameFailure && frame != frameUnrelayed {
		r.Fail("a request on a connection that this node made")
	}
	if items != 2 {
		r.Fail("an answer has two items")
	}
	id := r.Uint()
	var payload []byte
	var failure error
	switch frame {
	case frameReply:
		payload = r.Bytes()
	case frameFailure:
		failure = r.Error()
	case frameUnrelayed:
		failure = unrelayed{r.Error()}
	}
	r.End()
	if r.Err() != nil {
		return r.Err()
	}
	c.out.mu.Lock()
	k, known := c.calls.take(id)
	c.settleLocked()
	c.out.mu.Unlock()
	switch {
	case !known:
		return &fault{reason: Malformed, text: "an answer to a request that was never made"}
	case k == nil: // its caller has left
	case failure != nil:
		k.answer(c.link, nil, failure)
	default:
		k.answer(c.link, append(make([]byte, 0, len(payload)), payload...), nil)
	}
	return nil
}

// goaway: the other end takes no more requests.
func (c *outbound) goaway(reason Reason) {
	if reason == Leaving {
		c.p.leaving()
	}
	c.retire(reason)
}

// retire stops sending requests; the connection ends after the last reply.
func (c *outbound) retire(reason Reason) {
	c.p.forget(c)
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.state == connecting {
		c.cancel(errLeft)
		return
	}
	if c.state != open {
		return
	}
	c.state = retired
	c.out.farewell = true
	c.out.buf = appendNumber(c.out.buf, frameGoaway, uint64(reason))
	if c.out.claim() {
		c.out.kick()
	}
	c.settleLocked()
}

// stands reports whether messages go over the connection at once, and the other end has a feature.
func (c *outbound) stands(feature uint64) bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.state == open && c.peer.features&feature == feature
}

// setAside has messages go through a relay, unless the connection stands, or some wait for it that would be overtaken.
func (c *outbound) setAside() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.state == open || c.state == connecting && len(c.waiting) > 0 {
		return false
	}
	c.aside = true
	return true
}

// takeBack ends what setAside began.
func (c *outbound) takeBack() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.aside = false
}

func (c *outbound) underway() (n, bytes int) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.calls.live, c.calls.bytes
}

// fail tells everybody who waits that the connection is no more: what was certainly not sent may be sent again.
func (c *outbound) fail(unsent func() error) {
	c.out.mu.Lock()
	c.state = lost
	if c.sweeper != nil {
		c.sweeper.Stop()
	}
	taken := c.out.taken
	all := c.calls.all()
	dropped := 0
	for _, k := range c.waiting {
		if !k.request {
			dropped++
		}
	}
	c.waiting = nil
	c.out.mu.Unlock()
	if dropped > 0 {
		c.link.log.warn("messages that await no reply were lost with the connection", c.p.id, "node", c.p.id, "messages", dropped)
	}
	for _, k := range all {
		if k.written && k.start < taken {
			k.answer(c.link, nil, c.p.error(abi.ErrOutcomeUnknown, "the connection was lost before the reply came", c.err))
		} else {
			k.answer(c.link, nil, unsent())
		}
	}
}
