package actor

import (
	"context"
	"runtime"
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// turnsBeforeYield is how many turns a runner drains before it lets other goroutines go first.
const turnsBeforeYield = 64

// Deliver hands env to the actor and waits for the reply, until env.Deadline (required) or ctx ends. A one-way message
// returns when the mailbox has it. The payload belongs to the caller. Errors are coded; ownership_changed means that the
// activation has ended and that nothing was done.
func (a *Activation) Deliver(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	if env.Flags&abi.OneWay != 0 {
		return nil, a.Post(env, nil)
	}
	if err := a.accepts(abi.EventCall, env); err != nil {
		return nil, err
	}
	now := time.Now()
	left := env.Deadline.Sub(now)
	if left <= 0 {
		return nil, errExpired
	}
	if err := ctx.Err(); err != nil {
		return nil, abi.NewError(abi.CodeOf(err), "the caller stopped waiting before the message was sent")
	}
	a.mu.Lock()
	// A start that is not quick is left to a runner: it may take longer than the caller has.
	if a.state == open && !a.running && a.queue.n == 0 && !a.revoked && !a.givesBack(env) && (a.inst != nil || a.cfg.Quick) && left >= a.cfg.Limits.Turn {
		a.running = true
		a.mu.Unlock()
		return a.deliverInline(ctx, env, now)
	}
	w := a.cfg.Waits.waiter()
	if err := a.enqueueLocked(message{tag: abi.EventCall, env: env, to: w}, w); err != nil {
		w.release()
		return nil, err
	}
	return w.wait(ctx, env.Deadline)
}

// deliverInline runs the turn on the caller's goroutine, which has set running.
func (a *Activation) deliverInline(ctx context.Context, env *abi.Envelope, now time.Time) ([]byte, error) {
	if a.inst == nil {
		if err := a.start(); err != nil {
			return nil, a.unstartedInline(err)
		}
		if now = time.Now(); env.Deadline.Sub(now) < a.cfg.Limits.Turn { // it was not so quick: the turn may take too long
			w := a.cfg.Waits.waiter()
			a.mu.Lock()
			a.queue.pushFront(message{tag: abi.EventCall, env: env, to: w})
			a.mu.Unlock()
			a.cfg.Spawn(a.run)
			return w.wait(ctx, env.Deadline)
		}
	}
	a.cfg.Counters.Inline.Add(1)
	m := message{tag: abi.EventCall, env: env, inline: true}
	reply, answered, w, err := a.call(&m, now)
	a.release()
	if !answered {
		return w.wait(ctx, env.Deadline)
	}
	return reply, err
}

// unstartedInline is [Activation.unstarted] on the goroutine of a caller, and returns what that is told.
func (a *Activation) unstartedInline(err error) error {
	a.mu.Lock()
	revoked := a.revoked
	a.mu.Unlock()
	away := revoked || replaced(err)
	a.unstarted(err, !away)
	if away { // whoever stands and waits looks for the actor by itself
		return gone
	}
	return startError(err)
}

// Post hands env to the actor without waiting: the turn runs on a runner's goroutine. When it returns nil, done (which may
// be nil) is called exactly once, on any goroutine, and must not block: with the outcome, or for a one-way message as soon
// as the mailbox has it. A message whose deadline passes is answered when the mailbox comes to it, which may be much
// later; whoever cannot wait so long needs a timer.
func (a *Activation) Post(env *abi.Envelope, done func(payload []byte, err error)) error {
	oneWay := env.Flags&abi.OneWay != 0
	m := message{tag: abi.EventCall, env: env}
	if oneWay {
		m.tag = abi.EventMessage
	} else if done != nil {
		m.to = doneFunc(done)
	}
	if err := a.accepts(m.tag, env); err != nil {
		return err
	}
	a.mu.Lock()
	err := a.enqueueLocked(m, nil)
	if err == nil && oneWay && done != nil {
		done(nil, nil)
	}
	return err
}

// accepts refuses what this actor can never take.
func (a *Activation) accepts(tag abi.EventTag, env *abi.Envelope) error {
	if len(env.Payload) > a.cfg.Limits.MaxMessage {
		return tooLarge("a payload", len(env.Payload), a.cfg.Limits.MaxMessage)
	}
	if len(a.cfg.Desc.Methods) > 0 {
		if _, ok := a.cfg.Desc.Method(env.Method); !ok {
			return abi.NewError(abi.ErrUnknownMethod, "kind "+a.cfg.Desc.Name+" has no method "+strconv.Quote(env.Method))
		}
	}
	if !a.cfg.Desc.Handles(tag) {
		return abi.NewError(abi.ErrUnsupported, "kind "+a.cfg.Desc.Name+" takes no `"+tag.String()+"`")
	}
	if err := inChain(env.Chain, a.cfg.Identity); err != nil && tag == abi.EventCall {
		a.cfg.Counters.Deadlocks.Add(1)
		return err
	}
	if len(env.Chain) >= abi.MaxChain {
		return abi.NewError(abi.ErrLimitExceeded, "a call chain of more than "+strconv.Itoa(abi.MaxChain)+" actors")
	}
	return nil
}

// enqueueLocked puts a message of somebody else into the mailbox and sees to it that it is drained; w is the
// waiter behind it, if there is one. It unlocks a.mu.
func (a *Activation) enqueueLocked(m message, w *waiter) error {
	if a.state == ended || a.revoked || a.givesBack(m.env) {
		a.mu.Unlock()
		return gone
	}
	if a.queue.n >= a.cfg.Limits.Mailbox {
		a.mu.Unlock()
		a.cfg.Counters.MailboxFull.Add(1)
		return abi.NewError(abi.ErrMailboxFull, strconv.Itoa(a.cfg.Limits.Mailbox)+" messages wait at "+a.cfg.Identity.Key())
	}
	if m.tag == abi.EventCall && a.stall != nil {
		if err := a.stall.why(); err != nil {
			a.mu.Unlock()
			return err
		}
	}
	if m.tag == abi.EventCall && len(m.env.Chain) > 0 {
		// Under a.mu, so that the edge stands before the message can be popped and answered.
		e, cycle := a.cfg.Waits.add(m.env, a.cfg.Identity)
		if cycle != nil {
			a.mu.Unlock()
			a.cfg.Counters.Deadlocks.Add(1)
			return deadlock(cycle)
		}
		if m.edge = e; w != nil {
			w.edge = e
		}
	}
	a.pushLocked(m)
	return nil
}

// pushLocked queues m and starts a runner if none is at work. It unlocks a.mu.
func (a *Activation) pushLocked(m message) {
	a.queue.push(m)
	start := !a.running
	if start {
		a.running = true
	}
	a.mu.Unlock()
	if start {
		a.cfg.Spawn(a.run)
	}
}

// internal queues a wake, or the event of a timer, whose clock runs once: also while the activation is closing, since it goes on with its timers if its
// state cannot be kept.
func (a *Activation) internal(m message) {
	a.mu.Lock()
	if a.state == ended {
		a.mu.Unlock()
		return
	}
	a.pushLocked(m)
}

// release gives up running after an inline turn, or hands what has come meanwhile to a runner.
func (a *Activation) release() {
	a.mu.Lock()
	if a.state == ended {
		a.mu.Unlock()
		return
	}
	if a.queue.n > 0 || a.stopFor != "" || a.revoked {
		a.mu.Unlock()
		a.cfg.Spawn(a.run)
		return
	}
	a.idleLocked()
	a.mu.Unlock()
}

// idleLocked gives up running. What the last turn read and wrote goes, and the room that a burst took, so that an idle
// actor holds little.
func (a *Activation) idleLocked() {
	a.ev, a.out = abi.Event{}, abi.Output{}
	a.queue.shrink()
	if len(a.deferred) == 0 {
		a.deferred = nil
	}
	if len(a.calls) == 0 {
		a.calls = nil
	}
	if len(a.timers) == 0 {
		a.timers = nil
	}
	a.running = false
}

// drain is the runner: it owns running from its start to its end.
func (a *Activation) drain() {
	var last answer
	for n := 1; ; n++ {
		a.mu.Lock()
		m, next := a.nextLocked()
		a.mu.Unlock()
		last.give() // only now, so that whoever has it finds the actor idle if it is
		switch next {
		case stepRest:
			return
		case stepDiscard:
			a.end(End{Reason: "revoked"})
			return
		case stepLeave:
			if a.depart() {
				return
			}
			continue
		}
		last = a.guarded(&m)
		if n%turnsBeforeYield == 0 {
			runtime.Gosched()
		}
	}
}

// step is what a runner does next.
type step uint8

const (
	stepTurn    step = iota // of the message taken
	stepRest                // nothing: running is given up, or the activation has ended
	stepDiscard             // it was revoked
	stepLeave               // it was stopped, and nothing waits any more
)

func (a *Activation) nextLocked() (message, step) {
	a.resting = false
	switch {
	case a.state == ended:
		return message{}, stepRest
	case a.revoked:
		a.state = closing
		return message{}, stepDiscard
	}
	if m, ok := a.queue.pop(); ok {
		return m, stepTurn
	}
	if a.stopFor != "" && len(a.deferred)+len(a.calls) == 0 {
		a.state = closing
		return message{}, stepLeave
	}
	a.idleLocked()
	return message{}, stepRest
}

// answer is the outcome of a message that has had its turn, and is yet to be given.
type answer struct {
	due     bool
	to      message
	payload []byte
	err     error
}

// settle gives an outcome at once, or leaves it to be given. It may wait where somebody stands and waits for it, and so can
// have sent nothing since; other outcomes keep the order of their messages.
func (m *message) settle(payload []byte, err error) answer {
	if _, stands := m.to.(*waiter); stands {
		return answer{due: true, to: *m, payload: payload, err: err}
	}
	m.answer(payload, err)
	return answer{}
}

func (r *answer) give() {
	if r.due {
		r.due = false
		r.to.answer(r.payload, r.err)
	}
}

// guarded handles m, and answers it even if the goroutine ends under it.
func (a *Activation) guarded(m *message) answer {
	returned := false
	defer func() {
		if !returned {
			m.fail(errVanished)
		}
	}()
	r := a.handle(m)
	returned = true
	return r
}

// handle runs one queued message's turn.
func (a *Activation) handle(m *message) (r answer) {
	now := time.Now()
	if m.own == nil || m.own.wake {
		if m.expired(now) {
			return a.expire(m)
		}
		if a.inst == nil {
			if err := a.start(); err != nil {
				a.mu.Lock()
				a.queue.pushFront(*m)
				a.mu.Unlock()
				a.unstarted(err, false)
				return r
			}
			if now = time.Now(); m.expired(now) { // a start is not on the turn's time, but it is on the caller's
				return a.expire(m)
			}
		}
	}
	switch m.tag {
	case abi.EventCall:
		if reply, answered, _, err := a.call(m, now); answered {
			return m.settle(reply, err)
		}
	case abi.EventMessage:
		a.message(m.env, now)
	case abi.EventCompletion:
		o := m.own
		a.ev = abi.Event{Tag: abi.EventCompletion, Handle: o.handle, Method: o.method, Payload: o.payload, Err: o.err}
		a.event(m, o.token, now)
	case abi.EventTimer:
		if a.takeTimer(m.own) {
			a.ev = abi.Event{Tag: abi.EventTimer, Timer: m.own.name, Payload: m.own.payload}
			a.event(m, 0, now)
		}
	}
	return r
}

func (a *Activation) expire(m *message) answer {
	a.cfg.Counters.Expired.Add(1)
	return m.settle(nil, errExpired)
}
