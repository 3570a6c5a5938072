package actor

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Host is what a guest may ask for during its turn. Its methods are called on the turn's goroutine only, by the
// instance that the activation's Start was given it for.
type Host struct {
	a        *Activation
	env      *abi.Envelope // of the turn, nil for other events
	deadline time.Time     // of the turn; zero outside of one
	chain    []abi.Identity
	outgoing int // messages that the turn has sent

	started map[uint32]*started
	next    uint32        // the last handle
	wake    chan struct{} // of one; something has settled
}

// started is a request that runs beside the turn.
type started struct {
	once   sync.Once
	ready  atomic.Bool // res is set
	res    abi.Result
	wake   chan<- struct{}
	expiry *alarm
	wait   *loose
}

func (s *started) settle(payload []byte, err error) {
	s.once.Do(func() {
		s.res = abi.Result{Payload: payload, Err: abi.AsError(err)}
		s.ready.Store(true)
		select {
		case s.wake <- struct{}{}:
		default: // one is there already
		}
	})
}

func (h *Host) begin(env *abi.Envelope, deadline time.Time) {
	h.env, h.deadline, h.outgoing = env, deadline, 0
}

// end forgets the turn, but for the number of its messages, to which its effects add; requests that nobody took are no longer waited for.
func (h *Host) end() {
	h.env, h.deadline, h.chain = nil, time.Time{}, nil
	if len(h.started) > 0 {
		for _, s := range h.started {
			s.expiry.stop()
		}
		h.a.cfg.Waits.leave(h.a.cfg.Identity, h.started)
	}
	h.started = nil
}

// Identity names the actor.
func (h *Host) Identity() abi.Identity { return h.a.cfg.Identity }

// Epoch is that of the actor's lease.
func (h *Host) Epoch() abi.Epoch { return h.a.cfg.Epoch }

// Context returns what bounds the start of an instance, and what a native one waits for in its turns beside their
// deadline: it ends when the node gives up waiting for them.
func (h *Host) Context() context.Context { return h.a.cfg.Context }

// Deadline returns the end of the running turn, zero outside of one.
func (h *Host) Deadline() time.Time { return h.deadline }

// waitsUntil is the latest that the turn waits for others: a little before its end, so that the guest can deal with what did not
// come. A turn that waits to its very end breaks its instance, and what the actor knows is gone for a fault of somebody else's.
func (h *Host) waitsUntil() time.Time {
	return h.deadline.Add(-min(h.a.cfg.Limits.Turn/20, reserve))
}

// reserve bounds what a turn keeps of its time.
const reserve = 250 * time.Millisecond

// Request sends a request and waits for its outcome, until shortly before the turn's end at the latest.
func (h *Host) Request(q *abi.Request) abi.Result {
	env, err := h.envelope(q)
	if err != nil {
		return abi.Result{Err: abi.AsError(err)}
	}
	payload, err := h.fitting(h.a.cfg.Outbox.Send(h.a.cfg.Context, env))
	if err != nil {
		return abi.Result{Err: abi.AsError(err)}
	}
	return abi.Result{Payload: payload}
}

// Start sends a request beside the turn. A code other than ErrNone means that it was refused and nothing was sent.
func (h *Host) Start(q *abi.Request) (uint32, abi.Code) {
	env, err := h.envelope(q)
	if err != nil {
		return 0, abi.CodeOf(err)
	}
	if h.wake == nil {
		h.wake = make(chan struct{}, 1)
	}
	s := &started{wake: h.wake, wait: h.a.cfg.Waits.loosen(env)}
	s.expiry = h.a.alarm(env.Deadline, func() {
		s.wait.giveUp()
		s.settle(nil, errLate)
	})
	if h.started == nil {
		h.started = make(map[uint32]*started)
	}
	if h.next++; h.next == 0 { // no handle is 0
		h.next++
	}
	h.started[h.next] = s
	// Sent before the turn goes on, so that messages to one actor keep their order.
	err = h.a.cfg.Outbox.Post(env, func(payload []byte, err error) {
		s.wait.answered()
		s.settle(h.fitting(payload, err))
	})
	if err != nil {
		s.wait.answered()
		s.settle(nil, err)
	}
	return h.next, abi.ErrNone
}

// Wait waits until need of the handles have an outcome, d has passed, or the turn's end is near (d negative: until then).
// It returns how many have one.
func (h *Host) Wait(handles []uint32, need int, d time.Duration) (int, abi.Code) {
	if need > len(handles) {
		return 0, abi.ErrInvalidArgument
	}
	ss := make([]*started, len(handles))
	for i, n := range handles {
		if ss[i] = h.started[n]; ss[i] == nil {
			return 0, abi.ErrInvalidArgument
		}
	}
	left := time.Until(h.waitsUntil())
	if d >= 0 {
		left = min(left, d)
	}
	timeout := time.NewTimer(left)
	defer timeout.Stop()
	for {
		ready := 0
		for _, s := range ss {
			if s.ready.Load() {
				ready++
			}
		}
		if ready >= need {
			return ready, abi.ErrNone
		}
		select {
		case <-h.wake: // perhaps of a handle that is not among these
		case <-timeout.C:
			need = 0
		case <-h.a.cfg.Context.Done():
			need = 0
		}
	}
}

// Take returns the outcome of a handle and forgets it; ready is false while there is none.
func (h *Host) Take(handle uint32) (res abi.Result, ready bool, code abi.Code) {
	s := h.started[handle]
	if s == nil {
		return abi.Result{}, false, abi.ErrInvalidArgument
	}
	if !s.ready.Load() {
		return abi.Result{}, false, abi.ErrNone
	}
	s.expiry.stop()
	delete(h.started, handle)
	return s.res, true, abi.ErrNone
}

// Log writes a line of the guest's to the node's log.
func (h *Host) Log(level slog.Level, msg string) {
	h.a.cfg.Log.Log(context.Background(), level, msg, "actor", h.a.cfg.Identity)
}

// fitting refuses a reply that is larger than what the actor may take: another kind's may be.
func (h *Host) fitting(payload []byte, err error) ([]byte, error) {
	if limit := h.a.cfg.Limits.MaxMessage; err == nil && len(payload) > limit {
		return nil, tooLarge("the reply, to a call that was carried out,", len(payload), limit)
	}
	return payload, err
}

// envelope checks a request and addresses it. Its deadline is the earliest of its own, the turn's and the caller's.
func (h *Host) envelope(q *abi.Request) (*abi.Envelope, error) {
	cfg := &h.a.cfg
	if h.deadline.IsZero() {
		return nil, abi.NewError(abi.ErrUnsupported, "requests are for turns")
	}
	if q.Target.IsZero() || !abi.ValidMethod(q.Method) {
		return nil, abi.NewError(abi.ErrInvalidArgument, "a request needs a target and a method: 1 to "+strconv.Itoa(abi.MaxMethodLen)+
			" of A-Z, a-z, 0-9, '_', '.' and '-'")
	}
	if q.Flags&abi.OneWay != 0 {
		return nil, abi.NewError(abi.ErrInvalidArgument, "a request waits for its reply; use the effect `tell`")
	}
	if h.outgoing >= cfg.Limits.MaxOutgoing {
		return nil, abi.NewError(abi.ErrLimitExceeded, "more than "+strconv.Itoa(cfg.Limits.MaxOutgoing)+" messages to others in a turn (limits.outgoing, or that of the kind)")
	}
	if len(q.Payload) > cfg.Limits.MaxMessage {
		return nil, tooLarge("a payload", len(q.Payload), cfg.Limits.MaxMessage)
	}
	if cfg.Permit != nil {
		if err := cfg.Permit.Wait(cfg.Context, h.waitsUntil()); err != nil {
			return nil, err
		}
	}
	h.outgoing++
	timeout := q.Timeout
	if timeout <= 0 {
		timeout = cfg.Limits.Request
	}
	// The payload may lie in guest memory, and the message may outlive this wait: it is copied.
	payload := append(make([]byte, 0, len(q.Payload)), q.Payload...)
	env := &abi.Envelope{Target: q.Target, Method: q.Method, Payload: payload, Flags: q.Flags,
		IdempotencyKey: q.IdempotencyKey, Caller: cfg.Identity, SenderEpoch: cfg.Epoch, Deadline: time.Now().Add(timeout)}
	if end := h.waitsUntil(); end.Before(env.Deadline) {
		env.Deadline = end
	}
	if h.chain == nil {
		var before []abi.Identity
		if h.env != nil {
			before = cfg.Waits.awaited(h.env)
		}
		h.chain = append(before[:len(before):len(before)], cfg.Identity)
	}
	env.Chain = h.chain
	if h.env != nil {
		env.TraceParent, env.TraceState = h.env.TraceParent, h.env.TraceState
		if d := h.env.Deadline; !d.IsZero() && d.Before(env.Deadline) {
			env.Deadline = d
		}
	}
	return env, nil
}
