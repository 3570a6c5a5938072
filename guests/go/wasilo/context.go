package wasilo

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Context is one turn as its handler sees it. It is valid until the handler returns, on the handler's own goroutine: do
// not keep it.
//
// It is a [context.Context] that is never cancelled: a caller who goes away does not stop a turn half way, and a turn
// that outlasts its deadline is discarded with its instance.
type Context struct {
	inst     *Instance
	live     bool
	readOnly bool
	method   bool // a method's handler runs, not a hook
	reason   string
	deferred *pendingReply // the reply was taken away
	failure  error         // fails the turn whatever the handler returns
	started  time.Time     // zero until somebody asked
}

var _ context.Context = (*Context)(nil)

// Self names this actor.
func (c *Context) Self() Identity { return c.inst.self.Identity }

// Epoch tells this activation from others of the same actor, earlier ones being lower.
func (c *Context) Epoch() abi.Epoch { return c.inst.self.Epoch }

// Caller names the actor whose message this turn handles; it is zero for a client from outside, and in turns of timers
// and completions.
func (c *Context) Caller() Identity { return c.inst.ev.Caller }

// Event says what the turn is about.
func (c *Context) Event() abi.EventTag { return c.inst.ev.Tag }

// Method names the method that was called, or in a completion that which the actor called.
func (c *Context) Method() string { return c.inst.ev.Method }

// TimerName is the full name of the timer that is due, "" in other turns.
func (c *Context) TimerName() string { return c.inst.ev.Timer }

// IdempotencyKey is what the caller sent to tell a repetition from a new request, "" if nothing.
func (c *Context) IdempotencyKey() string { return c.inst.ev.IdempotencyKey }

// Reason says in Activate why the actor was activated ("call", "message"), in Passivate why it goes ("idle",
// "shutdown", "moved", "evicted"); elsewhere it is "".
func (c *Context) Reason() string { return c.reason }

// Now is the node's clock.
func (c *Context) Now() time.Time { return time.Unix(0, c.inst.host.Now()).UTC() }

// Remaining is how long the turn may still take. The count starts with the first question or outgoing request of the
// turn, which spares others the clock: in a long computation ask before it, too.
func (c *Context) Remaining() time.Duration {
	c.stamp()
	return max(0, c.inst.ev.Remaining-c.Now().Sub(c.started))
}

// Deadline is when the turn must have ended; see [Context.Remaining]. It implements [context.Context].
func (c *Context) Deadline() (time.Time, bool) {
	c.stamp()
	return c.started.Add(c.inst.ev.Remaining), true
}

// stamp notes the time before something that may take long.
func (c *Context) stamp() {
	if c.started.IsZero() {
		c.started = c.Now()
	}
}

// Done implements [context.Context]: nil, since a turn is not cancelled.
func (c *Context) Done() <-chan struct{} { return nil }

// Err implements [context.Context].
func (c *Context) Err() error { return nil }

// Value implements [context.Context]; a turn carries no values.
func (c *Context) Value(any) any { return nil }

// Log returns the logger of this actor; its lines appear in the node's log with the actor's name.
func (c *Context) Log() *slog.Logger {
	if c.inst.log == nil {
		c.inst.log = slog.New(&logHandler{inst: c.inst})
	}
	return c.inst.log
}

// Rand returns a source of random numbers that the node feeds: unlike a generator seeded by the guest it never repeats
// in another instance. It is valid for the turn. For keys and tokens use crypto/rand, which the node feeds too.
func (c *Context) Rand() *rand.Rand { return c.inst.rand }

// Cancel drops the timer of a full name, if it is set.
func (c *Context) Cancel(name string) error {
	if err := c.mayAct("cancel a timer"); err != nil {
		return err
	}
	if name == "" || len(name) > abi.MaxTimerNameLen {
		return abi.NewError(abi.ErrInvalidArgument, "a timer's name has 1 to 127 bytes")
	}
	c.inst.effect(&abi.Effect{Tag: abi.EffectCancel, Name: name})
	return nil
}

// mayAct refuses effects where there are none.
func (c *Context) mayAct(doing string) error {
	switch {
	case !c.live:
		return abi.NewError(abi.ErrUnsupported, "cannot "+doing+": the turn is over")
	case c.readOnly:
		return abi.NewError(abi.ErrUnsupported, "cannot "+doing+": method "+c.inst.ev.Method+" is read-only")
	}
	return nil
}

// entropy reads random numbers from the host, some at a time. What is left at the end of a turn is dropped: memory may
// be copied between turns, and two copies must not draw the same.
type entropy struct {
	host Host
	buf  [64]byte
	left int
}

// Uint64 implements [rand.Source].
func (s *entropy) Uint64() uint64 {
	if s.left < 8 {
		if code := s.host.Random(s.buf[:]); code < 0 {
			panic("wasilo: " + refused(code, "random numbers").Error())
		}
		s.left = len(s.buf)
	}
	v := binary.LittleEndian.Uint64(s.buf[len(s.buf)-s.left:])
	s.left -= 8
	return v
}
