package actor

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// errStart marks a turn that did not run because the instance did not start.
type errStart struct{ error }

func (e errStart) Unwrap() error { return e.error }

// ensure starts the instance if there is none yet.
func (a *Activation) ensure() (err error) {
	if a.inst != nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = errStart{fmt.Errorf("panic while starting: %v\n%s", p, debug.Stack())}
		}
	}()
	inst, err := a.cfg.Start(&a.host)
	if err != nil {
		a.cfg.Counters.StartFailures.Add(1)
		return errStart{err}
	}
	a.inst = inst
	a.cfg.Owner.Started(a)
	return nil
}

// exec runs the turn of a.ev, with env the message behind it (nil for other events). A failed turn is broken: the
// instance must go. The caller owns running.
func (a *Activation) exec(env *abi.Envelope, now time.Time) (err error) {
	a.lastUsed.Store(now.UnixNano())
	if a.inst == nil {
		if err := a.ensure(); err != nil {
			return err
		}
		now = time.Now() // a start is not on the turn's time
	}
	if !a.told {
		a.told = true
		a.ev.Self = &abi.Self{Identity: a.cfg.Identity, Epoch: a.cfg.Epoch, Reason: a.cfg.Reason}
	}
	deadline := now.Add(a.cfg.Limits.Turn)
	a.ev.Remaining = a.cfg.Limits.Turn
	if env != nil {
		if left := env.Deadline.Sub(now); left < a.ev.Remaining && !env.Deadline.IsZero() {
			a.ev.Remaining = left
		}
	}
	a.cfg.Counters.Turns.Add(1)
	a.host.begin(env, deadline)
	defer func() {
		a.host.end()
		if p := recover(); p != nil {
			a.cfg.Log.Error("an instance panicked", "actor", a.cfg.Identity, "panic", p, "stack", string(debug.Stack()))
			err = abi.NewError(abi.ErrTrap, fmt.Sprintf("the instance panicked: %v", p))
		}
		if err != nil {
			if errors.Is(err, abi.ErrLimitExceeded) {
				a.cfg.Counters.Limits.Add(1)
			} else {
				a.cfg.Counters.Traps.Add(1)
			}
		}
	}()
	return a.inst.Turn(&a.ev, deadline, &a.out)
}

// call runs the turn of a call. answered is false when the turn left it for later: then m.to, or the waiter that is
// returned when m came inline and has none, gets the reply.
func (a *Activation) call(m *message, now time.Time) (reply []byte, err error, answered bool, w *waiter) {
	env := m.env
	a.nextToken++
	token := a.nextToken
	a.setEvent(abi.EventCall, env)
	a.ev.Token = token
	if err := a.exec(env, now); err != nil {
		return nil, a.broken(err), true, nil
	}
	switch a.out.Kind {
	case abi.OutReply:
		return a.out.Payload, nil, true, nil
	case abi.OutError:
		return nil, a.actorError(a.out.Err), true, nil
	}
	readOnly := false
	if method, ok := a.cfg.Desc.Method(env.Method); ok {
		readOnly = method.ReadOnly
	}
	if err := a.checkEffects(token, readOnly); err != nil {
		return nil, a.broken(err), true, nil
	}
	for i := range a.out.Effects {
		if e := &a.out.Effects[i]; e.Tag == abi.EffectReply && e.Token == token {
			reply, err, answered = e.Payload, nil, true
			if e.Err != nil {
				reply, err = nil, a.actorError(e.Err)
			}
		}
	}
	if !answered {
		inline := m.to == nil && m.inline
		if inline {
			w = a.cfg.Waits.waiter()
			m.to = w
		}
		a.deferReply(token, m, now)
		if inline {
			w.edge = m.edge
		}
	}
	a.apply(token, env, answered, now)
	return reply, err, answered, w
}

// message runs the turn of a one-way message; an error of the actor's own goes to the log.
func (a *Activation) message(env *abi.Envelope, now time.Time) {
	if !env.Deadline.IsZero() && env.Deadline.Before(now) {
		a.cfg.Counters.Expired.Add(1)
		return
	}
	a.setEvent(abi.EventMessage, env)
	err := a.exec(env, now)
	if err == nil {
		err = a.finishEvent()
	}
	if err != nil {
		a.cfg.Log.Warn("a one-way message failed", "actor", a.cfg.Identity, "method", env.Method, "err", a.broken(err))
	}
}

// event runs the turn of a.ev, a completion or timer.
func (a *Activation) event(now time.Time) {
	tag := a.ev.Tag
	if !a.cfg.Desc.Handles(tag) {
		return
	}
	err := a.exec(nil, now)
	if err == nil {
		err = a.finishEvent()
	}
	if err != nil {
		a.cfg.Log.Warn("a turn failed", "actor", a.cfg.Identity, "event", tag.String(), "err", a.broken(err))
	}
}

// finishEvent applies the output of a turn that nobody waits for. An error means that the instance is broken.
func (a *Activation) finishEvent() error {
	switch a.out.Kind {
	case abi.OutError:
		a.cfg.Log.Warn("an actor answered an error where nobody waits", "actor", a.cfg.Identity,
			"event", a.ev.Tag.String(), "err", a.out.Err)
	case abi.OutEffects:
		if err := a.checkEffects(0, false); err != nil {
			return err
		}
		a.apply(0, nil, true, time.Now())
	}
	return nil
}

func (a *Activation) setEvent(tag abi.EventTag, env *abi.Envelope) {
	a.ev = abi.Event{Tag: tag, Method: env.Method, Payload: env.Payload, Flags: env.Flags, Caller: env.Caller,
		TraceParent: env.TraceParent, TraceState: env.TraceState, IdempotencyKey: env.IdempotencyKey}
	if a.ev.Payload == nil {
		a.ev.Payload = []byte{}
	}
}

// broken ends the activation after a turn that failed and returns what the caller gets.
func (a *Activation) broken(err error) error {
	var start errStart
	if errors.As(err, &start) {
		a.end(End{Reason: "start", Err: start.error, Failed: true})
		return startError(start.error)
	}
	a.end(End{Reason: "trap", Err: err})
	return err
}

// actorError is an error as the guest gave it. It may use a few of the host's codes, among them those by which a call of
// its own ended (deadlock, timeout), so that they come through to whoever called first; none of them makes anybody send
// again. Every other is the actor's own.
func (a *Activation) actorError(e *abi.Error) error {
	switch e.Code {
	case abi.ErrActor, abi.ErrUnknownMethod, abi.ErrInvalidArgument, abi.ErrUnsupported, abi.ErrDenied, abi.ErrPayloadTooLarge,
		abi.ErrDeadlock, abi.ErrTimeout:
		return e
	}
	out := *e
	if out.App == "" {
		out.App = e.Code.String()
	}
	out.Code = abi.ErrActor
	return &out
}
