package actor

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// errVanished is what becomes of a turn whose goroutine ended under it: native code called runtime.Goexit, as a test's
// FailNow does.
var errVanished = abi.NewError(abi.ErrTrap, "the instance ended its goroutine in the midst of the turn (runtime.Goexit)")

// start makes the instance, of what an earlier one left if there is that. The caller owns running, and sees to an error with
// [Activation.unstarted].
func (a *Activation) start() (err error) {
	var all []byte
	var k kept
	returned := false
	defer func() {
		p := recover()
		vanished := p == nil && !returned
		switch {
		case p != nil:
			a.cfg.Log.Error("an instance panicked while it started", "actor", a.cfg.Identity, "panic", p,
				"stack", string(debug.Stack()))
			err = fmt.Errorf("panic while starting: %v", p)
		case vanished:
			err = errVanished
		}
		if err != nil && all != nil {
			if !Untried(err) {
				a.cfg.Counters.WakeFailures.Add(1)
			}
			a.cfg.Keeper.Return(all, err)
		}
		if vanished {
			a.unstarted(err, false)
		}
	}()
	var inst Instance
	if all, k, err = a.take(); err == nil {
		inst, err = a.cfg.Start(&a.host, k.state)
	}
	returned = true
	if err == nil && inst == nil {
		err = errors.New("the kind's New returned neither an instance nor an error")
	}
	if err != nil {
		return err
	}
	a.inst, a.woken = inst, all != nil
	a.meter, _ = inst.(Meter)
	if a.woken {
		a.cfg.Counters.Wakes.Add(1)
	}
	if w := a.cfg.Witness; w != nil {
		a.witnessed = w.Enabled(a.cfg.Identity, a.cfg.Epoch)
	}
	a.cfg.Owner.Started(a)
	a.setAgain(&k)
	return nil
}

// unstarted ends an activation whose instance did not start. told: its caller hears of it by itself.
func (a *Activation) unstarted(err error, told bool) {
	if !Untried(err) {
		a.cfg.Counters.StartFailures.Add(1)
	}
	a.end(End{Reason: "start", Err: err, Failed: true, Told: told})
}

// exec runs the turn of a.ev, with env the message behind it (nil for other events). A failed turn is broken: the
// instance must go. The caller owns running, and the instance stands.
func (a *Activation) exec(env *abi.Envelope, now time.Time) (err error) {
	if now, err = a.mayBegin(env, now); err != nil {
		return err
	}
	a.lastUsed.Store(int64(now.Sub(a.born)))
	a.turns.Store(a.turns.Load() + 1)
	a.rested = false
	told := a.told
	if !a.told {
		a.told = true
		a.ev.Self = &abi.Self{Identity: a.cfg.Identity, Epoch: a.cfg.Epoch, Reason: a.cfg.Reason}
		if a.woken {
			a.ev.Self.Reason = reasonWake
		}
	}
	deadline := now.Add(a.cfg.Limits.Turn)
	a.ev.Remaining = a.cfg.Limits.Turn
	if env != nil && !env.Deadline.IsZero() {
		a.ev.Remaining = min(a.ev.Remaining, env.Deadline.Sub(now))
	}
	a.cfg.Counters.Turns.Add(1)
	a.out.Kind, a.out.Payload, a.out.Err, a.out.Effects = abi.OutReply, nil, nil, a.out.Effects[:0]
	a.host.begin(env, deadline)
	if w := a.cfg.Witness; w != nil {
		w.Checked(now, a.cfg.Identity, a.cfg.Epoch, a.witnessed)
	}
	returned := false
	defer func() {
		a.host.end()
		if returned {
			return
		}
		if p := recover(); p != nil {
			a.cfg.Log.Error("an instance panicked", "actor", a.cfg.Identity, "panic", p, "stack", string(debug.Stack()))
			err = abi.NewError(abi.ErrTrap, fmt.Sprintf("the instance panicked: %v", p))
			return
		}
		a.vanished()
	}()
	err = a.inst.Turn(&a.ev, deadline, &a.out)
	returned = true
	if a.meter != nil {
		a.cfg.Counters.Fuel.Add(uint64(max(0, a.meter.Fuel())))
	}
	if err != nil && abi.CodeOf(err) == abi.ErrOverloaded {
		a.told = told
		return err
	}
	at, lost := a.mayEnd(env, deadline)
	switch {
	case lost != nil && err != nil && isUnconfirmed(lost): // it broke besides, so nothing of it can count
		return &fenced{abi.AsError(lost)}
	case lost != nil:
		return lost
	case err != nil:
		return turnError(err)
	}
	if w := a.cfg.Witness; w != nil {
		w.Answered(at, a.cfg.Identity, a.cfg.Epoch, a.witnessed)
	}
	switch a.out.Kind {
	case abi.OutReply, abi.OutEffects:
		return nil
	case abi.OutError:
		if a.out.Err != nil {
			return nil
		}
	}
	return abi.NewError(abi.ErrTrap, "the turn's output is of kind "+strconv.Itoa(int(a.out.Kind))+
		" and no error, reply or effects")
}

// goesOn reports whether the instance goes on after a turn that ended with err: one that did not begin, for want of room or of a permit,
// or one that is not confirmed.
func goesOn(err error) bool {
	if err == nil || isFenced(err) {
		return false
	}
	if isUnconfirmed(err) {
		return true
	}
	switch abi.CodeOf(err) {
	case abi.ErrOverloaded, abi.ErrNoQuorum, abi.ErrOwnershipChanged:
		return true
	}
	return false
}

// turnError is the error of a turn that broke. Whatever a native instance returned, it has a code by which nobody sends the
// message again: its turn has run.
func turnError(err error) error {
	var coded *abi.Error
	if errors.As(err, &coded) {
		switch coded.Code {
		case abi.ErrTrap, abi.ErrLimitExceeded, abi.ErrInternal:
			return abi.AsError(err)
		}
	}
	out := *abi.AsError(err)
	out.Code = abi.ErrTrap
	return &out
}

// call runs the turn of a call. answered is false when the turn left it for later: then m.to, or the waiter that is
// returned when m came inline and has none, gets the reply.
func (a *Activation) call(m *message, now time.Time) (reply []byte, answered bool, w *waiter, err error) {
	env := m.env
	a.nextToken++
	token := a.nextToken
	a.setEvent(abi.EventCall, env)
	a.ev.Token = token
	if err := a.exec(env, now); err != nil {
		return nil, true, nil, a.broken(err)
	}
	switch a.out.Kind {
	case abi.OutReply:
		if len(a.out.Payload) > a.cfg.Limits.MaxMessage {
			return nil, true, nil, tooLarge("a reply", len(a.out.Payload), a.cfg.Limits.MaxMessage)
		}
		return a.out.Payload, true, nil, nil
	case abi.OutError:
		return nil, true, nil, a.actorError(a.out.Err)
	}
	readOnly := false
	if method, ok := a.cfg.Desc.Method(env.Method); ok {
		readOnly = method.ReadOnly
	}
	if err := a.checkEffects(token, readOnly); err != nil {
		return nil, true, nil, a.broken(err)
	}
	for i := range a.out.Effects {
		if e := &a.out.Effects[i]; e.Tag == abi.EffectReply && e.Token == token {
			reply, err, answered = e.Payload, nil, true
			if e.Err != nil {
				reply, err = nil, a.actorError(e.Err)
			}
		}
	}
	if answered {
		a.apply(token, 0, env)
		return reply, true, nil, err
	}
	if m.inline {
		w = a.cfg.Waits.waiter()
		m.to = w
	}
	a.deferReply(token, m)
	if m.inline {
		w.edge = m.edge
	}
	a.apply(token, token, env)
	return nil, false, w, nil
}

// message runs the turn of a one-way message; an error of the actor's own goes to the log.
func (a *Activation) message(env *abi.Envelope, now time.Time) {
	a.setEvent(abi.EventMessage, env)
	err := a.exec(env, now)
	if err == nil {
		err = a.finishEvent(0)
	}
	if err != nil {
		a.cfg.Log.Warn("a one-way message failed", "actor", a.cfg.Identity, "method", env.Method, "err", a.broken(err))
	}
}

// event runs the turn of a.ev, a completion or timer, which m brought. behalf is the token of the deferred call that brought it about, 0
// without one.
func (a *Activation) event(m *message, behalf uint64, now time.Time) {
	tag := a.ev.Tag
	if !a.cfg.Desc.Handles(tag) {
		return
	}
	err := a.exec(nil, now)
	if err == nil {
		err = a.finishEvent(behalf)
	} else if a.putBack(m, err) {
		return
	}
	if err != nil {
		a.cfg.Log.Warn("a turn failed", "actor", a.cfg.Identity, "event", tag.String(), "err", a.broken(err))
	}
}

// finishEvent applies the output of a turn that nobody waits for. An error means that the instance is broken.
func (a *Activation) finishEvent(behalf uint64) error {
	switch a.out.Kind {
	case abi.OutError:
		a.cfg.Log.Warn("an actor answered an error where nobody waits", "actor", a.cfg.Identity,
			"event", a.ev.Tag.String(), "err", a.out.Err)
	case abi.OutEffects:
		if err := a.checkEffects(0, false); err != nil {
			return err
		}
		a.apply(0, behalf, nil)
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
	if goesOn(err) {
		return err
	}
	if isFenced(err) {
		a.end(End{Reason: "revoked", Err: err})
		return err
	}
	a.countBroken(err)
	a.end(End{Reason: "trap", Err: err})
	return err
}

func (a *Activation) countBroken(err error) {
	if abi.CodeOf(err) == abi.ErrLimitExceeded {
		a.cfg.Counters.Limits.Add(1)
	} else {
		a.cfg.Counters.Traps.Add(1)
	}
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

func tooLarge(what string, n, limit int) *abi.Error {
	return abi.NewError(abi.ErrPayloadTooLarge, what+" of "+strconv.Itoa(n)+" bytes; the limit is "+strconv.Itoa(limit)+
		" (limits.max_message, or that of the kind)")
}
