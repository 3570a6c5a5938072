package actor

import (
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// deferral is a call whose turn ended without a reply.
type deferral struct {
	message
	expiry *alarm
	calls  []*loose // made on its behalf, awaited by whoever awaits it
}

// pending is an effect `call` whose outcome has not come.
type pending struct {
	method string
	token  uint64 // of the deferred call on whose behalf it was made, 0 without one
	wait   *loose // nil: no actor waits for it
	expiry *alarm
}

func (p *pending) giveUp() {
	if p.wait != nil {
		p.wait.giveUp()
	}
}

func (p *pending) answered() {
	if p.wait != nil {
		p.wait.answered()
	}
}

// checkEffects refuses a turn's effects as a whole if one of them cannot be applied. token is that of the turn's own call.
func (a *Activation) checkEffects(token uint64, readOnly bool) error {
	breach := func(code abi.Code, i int, why string) error {
		return abi.NewError(code, "effect "+strconv.Itoa(i)+" ("+a.out.Effects[i].Tag.String()+"): "+why+"; no effect of the turn was applied")
	}
	outgoing, answers := 0, 0
	var handles map[uint64]struct{} // used by this turn
	a.mu.Lock()
	defer a.mu.Unlock()
	timers := timerCount{a: a, n: len(a.timers)}
	for i := range a.out.Effects {
		e := &a.out.Effects[i]
		if readOnly && (e.Tag != abi.EffectReply || e.Token != token) {
			return breach(abi.ErrTrap, i, "a read-only turn may only answer its own call")
		}
		if n := len(e.Payload); n > a.cfg.Limits.MaxMessage {
			return breach(abi.ErrPayloadTooLarge, i, "a payload of "+strconv.Itoa(n)+" bytes, the limit is "+strconv.Itoa(a.cfg.Limits.MaxMessage)+
				" (limits.max_message, or that of the kind)")
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
			if _, dup := handles[e.Handle]; dup {
				return breach(abi.ErrTrap, i, "handle "+strconv.FormatUint(e.Handle, 10)+" is used twice")
			}
			if handles == nil {
				handles = make(map[uint64]struct{})
			}
			handles[e.Handle] = struct{}{}
			outgoing++
		case abi.EffectTell:
			outgoing++
		case abi.EffectRemind:
			timers.set(e.Name, true)
		case abi.EffectCancel:
			timers.set(e.Name, false)
		default:
			return breach(abi.ErrTrap, i, "this version has no such effect")
		}
		if outgoing+max(a.host.outgoing, len(a.calls)) > a.cfg.Limits.MaxOutgoing {
			return breach(abi.ErrLimitExceeded, i, "more than "+strconv.Itoa(a.cfg.Limits.MaxOutgoing)+
				" messages to others (limits.outgoing, or that of the kind)")
		}
		if timers.n > a.cfg.Limits.MaxTimers {
			return breach(abi.ErrLimitExceeded, i, "more than "+strconv.Itoa(a.cfg.Limits.MaxTimers)+" timers")
		}
	}
	return nil
}

// timerCount counts the timers that there would be, effect by effect.
type timerCount struct {
	a   *Activation
	n   int
	now map[string]bool // names that this turn has changed: whether they are set
}

func (c *timerCount) set(name string, on bool) {
	was, changed := c.now[name]
	if !changed {
		_, was = c.a.timers[name]
	}
	if was == on {
		return
	}
	if c.now == nil {
		c.now = make(map[string]bool)
	}
	c.now[name] = on
	if on {
		c.n++
	} else {
		c.n--
	}
}

// deferReply keeps a call for a later turn to answer, until its deadline.
func (a *Activation) deferReply(token uint64, m *message) {
	if m.edge == nil {
		m.edge = a.cfg.Waits.force(m.env, a.cfg.Identity, "")
	}
	d := &deferral{message: *m}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deferred == nil {
		a.deferred = make(map[uint64]*deferral)
	}
	a.deferred[token] = d
	d.expiry = a.alarm(m.env.Deadline, func() { a.settle(token, nil, errLate) })
}

// settle answers a deferred call; a token that nobody waits for any more is none of anybody's business.
func (a *Activation) settle(token uint64, payload []byte, err error) {
	a.mu.Lock()
	d := a.deferred[token]
	delete(a.deferred, token)
	last := a.stopFor != "" && !a.running && a.state == open // Stop waits for this one
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
	d.expiry.stop()
	for _, l := range d.calls {
		l.giveUp()
	}
	d.answer(payload, err)
}

// apply carries out the effects of a turn, all checked. The reply to own, the turn's own call, is not among what is left to
// do. behalf is the token of the deferred call that the turn works for, 0 without one; env is the turn's own message
// or nil.
func (a *Activation) apply(own, behalf uint64, env *abi.Envelope) {
	now := time.Now() // the turn may have taken long
	for i := range a.out.Effects {
		e := &a.out.Effects[i]
		switch e.Tag {
		case abi.EffectReply:
			if e.Token == own {
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
			a.callEffect(e, behalf, env, now)
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
func (a *Activation) callEffect(e *abi.Effect, behalf uint64, env *abi.Envelope, now time.Time) {
	timeout := e.Timeout
	if timeout <= 0 {
		timeout = a.cfg.Limits.Request
	}
	handle := e.Handle
	p := &pending{method: e.Method}
	a.mu.Lock()
	d := a.deferred[behalf]
	if d != nil && env == nil {
		env = d.env
	}
	out := a.outgoing(e, env)
	out.Flags &^= abi.OneWay
	out.Deadline = now.Add(timeout)
	if d != nil {
		// Those who wait for the deferred reply may be waiting for this call; this actor itself is free to take messages.
		p.token = behalf
		if out.Chain = d.env.Chain; len(out.Chain) > 0 {
			p.wait = a.cfg.Waits.loosen(out)
			d.calls = append(d.calls, p.wait)
		}
	}
	if a.calls == nil {
		a.calls = make(map[uint64]*pending)
	}
	a.calls[handle] = p
	p.expiry = a.alarm(out.Deadline, func() {
		p.giveUp()
		a.completed(handle, p, nil, errLate)
	})
	a.mu.Unlock()
	done := func(payload []byte, err error) {
		p.answered()
		a.completed(handle, p, payload, err)
	}
	if err := a.cfg.Outbox.Post(out, done); err != nil {
		done(nil, err)
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
	p.expiry.stop()
	payload, err = a.host.fitting(payload, err)
	o := &own{handle: handle, method: p.method, token: p.token, payload: payload, err: abi.AsError(err)}
	if o.err == nil && o.payload == nil {
		o.payload = []byte{}
	}
	if a.state != open {
		a.mu.Unlock()
		return
	}
	a.pushLocked(message{tag: abi.EventCompletion, own: o})
}
