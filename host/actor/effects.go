package actor

import (
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// deferral is a call whose turn ended without a reply.
type deferral struct {
	message
	expiry *time.Timer
}

// pending is an effect `call` whose outcome has not come.
type pending struct {
	method string
	expiry *time.Timer
}

// checkEffects refuses a turn's effects as a whole if one of them cannot be applied. token is that of the turn's own call.
func (a *Activation) checkEffects(token uint64, readOnly bool) error {
	breach := func(code abi.Code, i int, why string) error {
		return abi.NewError(code, "effect "+strconv.Itoa(i)+" ("+a.out.Effects[i].Tag.String()+"): "+why+"; no effect of the turn was applied")
	}
	outgoing, answers := 0, 0
	var timers map[string]bool // set by this turn, new
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.out.Effects {
		e := &a.out.Effects[i]
		if readOnly && (e.Tag != abi.EffectReply || e.Token != token) {
			return breach(abi.ErrTrap, i, "a read-only turn may only answer its own call")
		}
		if n := len(e.Payload); n > a.cfg.Limits.MaxMessage {
			return breach(abi.ErrPayloadTooLarge, i, "a payload of "+strconv.Itoa(n)+" bytes, the limit is "+strconv.Itoa(a.cfg.Limits.MaxMessage))
		}
		switch e.Tag {
		case abi.EffectReply:
			if e.Token != token {
				break
			}
			if answers++; answers > 1 {
				return breach(abi.ErrTrap, i, "the turn's call is answered already")
			}
		case abi.EffectCall:
			if _, dup := a.calls[e.Handle]; dup {
				return breach(abi.ErrTrap, i, "handle "+strconv.FormatUint(e.Handle, 10)+" is in use")
			}
			for j := range i {
				if o := &a.out.Effects[j]; o.Tag == abi.EffectCall && o.Handle == e.Handle {
					return breach(abi.ErrTrap, i, "handle "+strconv.FormatUint(e.Handle, 10)+" is used twice")
				}
			}
			outgoing++
		case abi.EffectTell:
			outgoing++
		case abi.EffectRemind:
			if _, set := a.timers[e.Name]; !set {
				if timers == nil {
					timers = make(map[string]bool)
				}
				timers[e.Name] = true
			}
		}
		if outgoing+len(a.calls) > a.cfg.Limits.MaxOutgoing {
			return breach(abi.ErrLimitExceeded, i, "more than "+strconv.Itoa(a.cfg.Limits.MaxOutgoing)+" messages")
		}
		if len(timers)+len(a.timers) > a.cfg.Limits.MaxTimers {
			return breach(abi.ErrLimitExceeded, i, "more than "+strconv.Itoa(a.cfg.Limits.MaxTimers)+" timers")
		}
	}
	return nil
}

// deferReply keeps a call for a later turn to answer, until its deadline.
func (a *Activation) deferReply(token uint64, m *message, now time.Time) {
	if m.edge == nil {
		m.edge = a.cfg.Waits.force(m.env.Chain, a.cfg.Identity)
	}
	d := &deferral{message: *m}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deferred == nil {
		a.deferred = make(map[uint64]*deferral)
	}
	a.deferred[token] = d
	d.expiry = time.AfterFunc(m.env.Deadline.Sub(now), func() { a.settle(token, nil, errLate) })
}

// settle answers a deferred call; a token that nobody waits for any more is none of anybody's business.
func (a *Activation) settle(token uint64, payload []byte, err error) {
	a.mu.Lock()
	d := a.deferred[token]
	delete(a.deferred, token)
	last := a.closeFor != "" && !a.running && a.state == open // Stop waits for this one
	if last {
		a.running = true
	}
	a.mu.Unlock()
	if last {
		a.cfg.Spawn(a.run)
	}
	if d == nil {
		return
	}
	d.expiry.Stop()
	d.answer(payload, err)
}

// apply carries out the effects of a turn, all checked. env is the turn's own message or nil; answered says that its
// call is not deferred.
func (a *Activation) apply(token uint64, env *abi.Envelope, answered bool, now time.Time) {
	for i := range a.out.Effects {
		e := &a.out.Effects[i]
		switch e.Tag {
		case abi.EffectReply:
			if e.Token == token {
				continue
			}
			if e.Err != nil {
				a.settle(e.Token, nil, a.actorError(e.Err))
			} else {
				a.settle(e.Token, e.Payload, nil)
			}
		case abi.EffectTell:
			out := a.outgoing(e, env)
			out.Flags |= abi.OneWay
			if err := a.cfg.Outbox.Post(out, nil); err != nil {
				a.cfg.Log.Warn("a tell was refused", "actor", a.cfg.Identity, "target", e.Target, "method", e.Method, "err", err)
			}
		case abi.EffectCall:
			a.callEffect(e, env, answered, now)
		case abi.EffectRemind:
			a.setTimer(e, now)
		case abi.EffectCancel:
			a.dropTimer(e.Name)
		}
	}
	clear(a.out.Effects) // payloads belong to others now
	a.out.Effects = a.out.Effects[:0]
}

// outgoing is the envelope of a tell or call effect. It has a trace in common with the message that caused it.
func (a *Activation) outgoing(e *abi.Effect, env *abi.Envelope) *abi.Envelope {
	out := &abi.Envelope{Target: e.Target, Method: e.Method, Payload: e.Payload, Flags: e.Flags,
		IdempotencyKey: e.IdempotencyKey, Caller: a.cfg.Identity, SenderEpoch: a.cfg.Epoch}
	if env != nil {
		out.TraceParent, out.TraceState = env.TraceParent, env.TraceState
	}
	return out
}

// callEffect sends a call whose outcome comes back as a completion, a time-out at the latest.
func (a *Activation) callEffect(e *abi.Effect, env *abi.Envelope, answered bool, now time.Time) {
	out := a.outgoing(e, env)
	out.Flags &^= abi.OneWay
	timeout := e.Timeout
	if timeout <= 0 {
		timeout = a.cfg.Limits.Request
	}
	out.Deadline = now.Add(timeout)
	if env != nil && !answered {
		// Those who wait for the deferred reply may be waiting for this call; this actor itself is free to take messages.
		out.Chain = env.Chain
	}
	handle, method := e.Handle, e.Method
	p := &pending{method: method}
	a.mu.Lock()
	if a.calls == nil {
		a.calls = make(map[uint64]*pending)
	}
	a.calls[handle] = p
	p.expiry = time.AfterFunc(timeout, func() { a.completed(handle, p, nil, errLate) })
	a.mu.Unlock()
	err := a.cfg.Outbox.Post(out, func(payload []byte, err error) { a.completed(handle, p, payload, err) })
	if err != nil {
		a.completed(handle, p, nil, err)
	}
}

// completed turns the first outcome of a call into a completion.
func (a *Activation) completed(handle uint64, p *pending, payload []byte, err error) {
	a.mu.Lock()
	if a.calls[handle] != p {
		a.mu.Unlock()
		return
	}
	delete(a.calls, handle)
	a.mu.Unlock()
	p.expiry.Stop()
	m := message{tag: abi.EventCompletion, handle: handle, method: p.method, payload: payload, err: abi.AsError(err)}
	if m.err == nil && m.payload == nil {
		m.payload = []byte{}
	}
	a.internal(m)
}
