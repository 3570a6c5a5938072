package actor

import (
	"slices"

	"github.com/wasilo/wasilo/abi"
)

// handing is how an activation ends whose actor goes on elsewhere.
type handing uint8

const (
	handsNothing handing = iota // it was not surrendered
	handsState                  // its state is kept, where it can be
	handsOver                   // it has its last turn, as at a shutdown
)

// Surrender ends the activation since the actor goes on elsewhere: what it was asked before comes to its end, and nothing new begins. The
// running turn is finished. Messages that wait are given back, and so are those that come later: whoever stands and waits is answered
// ownership_changed, and the others are returned for the caller to forward in their order, or those that come too late for that are in
// [End].Backlog. But a message with a call chain has its turn: it may be for a turn that has to end first, and who lets messages through
// to here knows better which. Deferred replies and calls under way have their outcome.
//
// Then with sleep the state is kept as by [Activation.Hibernate], and the timers with it, however short the actor has been idle; if that fails the
// activation goes on as if it had not been surrendered, and only the keeper knows. Without sleep, or where nothing can be kept, it is passivated,
// reason telling the guest why, and its timers end.
//
// [Activation.Resume] takes it back. It reports whether it was done: not where the activation has ended, or ends for another reason, or
// was surrendered before. Stop and Revoke go before it, also later.
func (a *Activation) Surrender(reason string, sleep bool) (given Backlog, done bool) {
	a.mu.Lock()
	if a.state == ended || a.stopFor != "" || a.revoked {
		a.mu.Unlock()
		return Backlog{}, false
	}
	a.stopFor, a.handing = reason, handsOver
	if sleep {
		a.handing = handsState
	}
	back := a.sortOutLocked()
	start := !a.running
	a.running = true
	a.mu.Unlock()

	for i := range back {
		if _, stands := back[i].to.(*waiter); stands { // and looks for the actor by itself
			back[i].fail(gone)
		} else {
			given.msgs = append(given.msgs, back[i])
		}
	}
	if start {
		a.cfg.Spawn(a.run)
	}
	return given, true
}

// sortOutLocked takes out of the mailbox what is given back. What one actor sent keeps its order: with a message that is to have its turn stay
// those of the same caller before it.
func (a *Activation) sortOutLocked() (back []message) {
	waiting := a.queue.take()
	var callers []abi.Identity // of messages that stay
	stays := make([]bool, len(waiting))
	for i := len(waiting) - 1; i >= 0; i-- {
		m := &waiting[i]
		switch {
		case m.own != nil || !m.env.Caller.IsZero() && slices.Contains(callers, m.env.Caller):
			stays[i] = true
		case !a.givesBack(m.env):
			stays[i] = true
			callers = append(callers, m.env.Caller)
		}
	}
	for i, m := range waiting {
		if stays[i] {
			a.queue.push(m)
		} else {
			back = append(back, m)
		}
	}
	return back
}

// givesBack reports whether a message is not for this activation any more. a.mu is held.
func (a *Activation) givesBack(env *abi.Envelope) bool {
	return a.handing != handsNothing && len(env.Chain) == 0
}

// Resume takes a [Activation.Surrender] back, unless the activation is ending already.
func (a *Activation) Resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == open {
		a.keepOnLocked()
	}
}

// keepOnLocked forgets a surrender, if there was one.
func (a *Activation) keepOnLocked() {
	if a.handing != handsNothing {
		a.stopFor, a.handing = "", handsNothing
	}
}

// depart ends the activation as Stop or Surrender asked; false: it goes on. The caller owns running, and state is closing.
func (a *Activation) depart() bool {
	a.mu.Lock()
	reason, how := a.stopFor, a.handing
	a.mu.Unlock()
	if how == handsState {
		if z := a.sleeper(); z != nil {
			return a.hibernate(z)
		}
	}
	return a.passivate(reason)
}
