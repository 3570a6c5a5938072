package actor

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
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
	outgoing int

	started map[uint32]*started
	next    uint32
}

// started is a request that runs beside the turn.
type started struct {
	done   chan struct{} // closed when res is set
	once   sync.Once
	res    abi.Result
	expiry *time.Timer
}

func (s *started) settle(payload []byte, err error) {
	s.once.Do(func() {
		s.res = abi.Result{Payload: payload, Err: abi.AsError(err)}
		close(s.done)
	})
}

func (h *Host) begin(env *abi.Envelope, deadline time.Time) {
	h.env, h.deadline = env, deadline
}

// end forgets the turn; requests that nobody took are no longer waited for.
func (h *Host) end() {
	h.env, h.deadline, h.chain, h.outgoing = nil, time.Time{}, nil, 0
	if len(h.started) > 0 {
		for _, s := range h.started {
			s.expiry.Stop()
		}
		clear(h.started)
	}
}

// Identity names the actor.
func (h *Host) Identity() abi.Identity { return h.a.cfg.Identity }

// Deadline returns the end of the running turn, zero outside of one.
func (h *Host) Deadline() time.Time { return h.deadline }

// Request sends a request and waits for its outcome, the turn's end at the latest.
func (h *Host) Request(q *abi.Request) abi.Result {
	env, err := h.envelope(q)
	if err != nil {
		return abi.Result{Err: abi.AsError(err)}
	}
	payload, err := h.a.cfg.Outbox.Send(h.a.cfg.Context, env)
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
	s := &started{done: make(chan struct{})}
	s.expiry = time.AfterFunc(time.Until(env.Deadline), func() { s.settle(nil, errLate) })
	if h.started == nil {
		h.started = make(map[uint32]*started)
	}
	h.next++
	h.started[h.next] = s
	// Sent before the turn goes on, so that messages to one actor keep their order.
	if err := h.a.cfg.Outbox.Post(env, s.settle); err != nil {
		s.settle(nil, err)
	}
	return h.next, abi.ErrNone
}

// Wait waits until need of the handles have an outcome, d has passed (negative: the turn's deadline), or the turn ends.
// It returns how many have one.
func (h *Host) Wait(handles []uint32, need int, d time.Duration) (int, abi.Code) {
	if need > len(handles) {
		return 0, abi.ErrInvalidArgument
	}
	ss := make([]*started, len(handles))
	for i, n := range handles {
		s := h.started[n]
		if s == nil {
			return 0, abi.ErrInvalidArgument
		}
		ss[i] = s
	}
	left := time.Until(h.deadline)
	if d >= 0 {
		left = min(left, d)
	}
	timeout := time.NewTimer(left)
	defer timeout.Stop()
	return waitFor(h.a.cfg.Context, ss, need, timeout.C), abi.ErrNone
}

// waitFor counts the outcomes, waiting until there are need of them, timeout fires or ctx ends.
func waitFor(ctx context.Context, ss []*started, need int, timeout <-chan time.Time) int {
	any := make(chan struct{}, 1)
	watching := false
	for {
		ready := 0
		for _, s := range ss {
			select {
			case <-s.done:
				ready++
			default:
			}
		}
		if ready >= need {
			return ready
		}
		if need == len(ss) { // all of them: any order does
			for _, s := range ss {
				select {
				case <-s.done:
				case <-timeout:
					need = 0
				case <-ctx.Done():
					need = 0
				}
				if need == 0 {
					break
				}
			}
			continue
		}
		if !watching {
			watching = true
			stop := make(chan struct{})
			var watchers sync.WaitGroup
			defer watchers.Wait()
			defer close(stop)
			for _, s := range ss {
				watchers.Go(func() {
					select {
					case <-s.done:
						select {
						case any <- struct{}{}:
						default:
						}
					case <-stop:
					}
				})
			}
		}
		select {
		case <-any:
		case <-timeout:
			need = 0
		case <-ctx.Done():
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
	select {
	case <-s.done:
		s.expiry.Stop()
		delete(h.started, handle)
		return s.res, true, abi.ErrNone
	default:
		return abi.Result{}, false, abi.ErrNone
	}
}

// Log writes a line of the guest's to the node's log.
func (h *Host) Log(level slog.Level, msg string) {
	h.a.cfg.Log.Log(context.Background(), level, msg, "actor", h.a.cfg.Identity)
}

// envelope checks a request and addresses it. Its deadline is the earliest of its own, the turn's and the caller's.
func (h *Host) envelope(q *abi.Request) (*abi.Envelope, error) {
	cfg := &h.a.cfg
	if h.deadline.IsZero() {
		return nil, abi.NewError(abi.ErrUnsupported, "requests are for turns")
	}
	if q.Flags&abi.OneWay != 0 {
		return nil, abi.NewError(abi.ErrInvalidArgument, "a request waits for its reply; use the effect `tell`")
	}
	if h.outgoing >= cfg.Limits.MaxOutgoing {
		return nil, abi.NewError(abi.ErrLimitExceeded, "more than "+strconv.Itoa(cfg.Limits.MaxOutgoing)+" requests in a turn")
	}
	if len(q.Payload) > cfg.Limits.MaxMessage {
		return nil, abi.NewError(abi.ErrPayloadTooLarge, "a payload of "+strconv.Itoa(len(q.Payload))+" bytes; the limit is "+strconv.Itoa(cfg.Limits.MaxMessage))
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
	if h.deadline.Before(env.Deadline) {
		env.Deadline = h.deadline
	}
	if h.chain == nil {
		var before []abi.Identity
		if h.env != nil {
			before = h.env.Chain
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
