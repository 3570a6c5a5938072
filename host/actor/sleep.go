package actor

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Sleeper is an [Instance] whose state can outlive it.
type Sleeper interface {
	Instance
	// Rest makes an idle instance lighter; the next turn takes up again what it let go. It is cheap, or ends within the time
	// of a turn. One goroutine uses the instance meanwhile, as in a turn.
	Rest()
	// Capture appends the instance's state to dst. No turn runs, and the instance can be used as before until it is closed,
	// also after an error.
	Capture(dst []byte) ([]byte, error)
	// Weight returns the bytes of memory that the instance has for itself, estimated. It is cheap.
	Weight() int64
}

// Keeper has the state of one actor between its activations. It is called on the goroutine that runs the actor, with no lock held.
type Keeper interface {
	// Take returns what an earlier activation left, and forgets it; nil: there is nothing. An error keeps the instance from
	// being started, and is what callers are told; ownership_changed sends them elsewhere, as that of Config.Start does.
	Take() (state []byte, err error)
	// Return brings back what Take gave: there is no instance of it, and why says what was wrong.
	Return(state []byte, why error)
	// Keep keeps what capture appends to the buffer that it is given. After an error, capture's or its own, nothing is kept.
	Keep(capture func(dst []byte) ([]byte, error)) error
	// Stays comes after a Keep that failed, once the activation goes on. A surrender that came while the state was being kept is forgotten by
	// then, and the next one is not.
	Stays()
}

// reasonWake is what the first event after a wake gives as the reason of the activation.
const reasonWake = "wake"

// reasonSlept is why an activation has ended that was hibernated.
const reasonSlept = "hibernated"

// Hibernate is [Activation.Passivate] for an actor that is to go on, one day, where it is now: no last turn is run, since for the
// guest nothing ends. The keeper gets the state, and the activation ends as "hibernated". If the state cannot be kept the
// activation stays as it is, and only the keeper knows. What comes meanwhile waits in the mailbox, as ever.
//
// An activation without an instance, or with one that is no [Sleeper], is passivated. That counts as no loss for the former: what
// its predecessor left is with the keeper still.
func (a *Activation) Hibernate(reason string) bool { return a.Leave(reason, true, time.Time{}) }

// Leave is [Activation.Passivate], or with sleep [Activation.Hibernate], for whoever has decided by what [Activation.LastUsed] said: an
// activation that was used since stays. With a zero time it may have been used whenever.
func (a *Activation) Leave(reason string, sleep bool, used time.Time) bool {
	a.mu.Lock()
	if !a.idle() || !used.IsZero() && !a.LastUsed().Equal(used) {
		a.mu.Unlock()
		return false
	}
	z := a.sleeper()
	a.running, a.state = true, closing
	a.mu.Unlock()
	a.cfg.Spawn(func() {
		gone := false
		if sleep && z != nil {
			gone = a.hibernate(z)
		} else {
			gone = a.passivate(reason)
		}
		if !gone {
			a.drain()
		}
	})
	return true
}

// sleeper returns the instance if its state can be kept. The caller owns running, or holds a.mu and nobody does.
func (a *Activation) sleeper() Sleeper {
	if a.cfg.Keeper == nil {
		return nil
	}
	z, _ := a.inst.(Sleeper)
	return z
}

// hibernate ends the activation once its state is kept; false: it goes on. The caller owns running, and state is closing.
func (a *Activation) hibernate(z Sleeper) bool {
	a.mu.Lock()
	revoked := a.revoked
	a.mu.Unlock()
	if revoked {
		return a.end(End{Reason: reasonSlept})
	}
	if a.keep(z) != nil {
		a.cfg.Counters.CaptureFailures.Add(1)
		a.mu.Lock()
		a.state = open
		a.keepOnLocked()
		a.mu.Unlock()
		a.cfg.Keeper.Stays()
		return false
	}
	a.cfg.Counters.Hibernations.Add(1)
	return a.end(End{Reason: reasonSlept})
}

// keep gives the state to the keeper. Before the instance's own stands the last token: a guest may still have one that nobody
// waits for any more, and it must not come to name another call. And there stand its timers, which only a surrender leaves.
func (a *Activation) keep(z Sleeper) error {
	returned := false
	defer func() {
		if !returned {
			a.vanished()
		}
	}()
	err := a.cfg.Keeper.Keep(func(dst []byte) (out []byte, err error) {
		defer func() {
			if p := recover(); p != nil {
				a.cfg.Log.Error("an instance panicked while its state was captured", "actor", a.cfg.Identity, "panic", p,
					"stack", string(debug.Stack()))
				err = fmt.Errorf("panic while capturing: %v", p)
			}
		}()
		return z.Capture(a.leaving().appendTo(dst))
	})
	returned = true
	return err
}

// take asks the keeper for what an earlier activation left; all of it is to be returned if need be. nil: there is nothing.
func (a *Activation) take() (all []byte, k kept, err error) {
	if a.cfg.Keeper == nil {
		return nil, kept{}, nil
	}
	all, err = a.cfg.Keeper.Take()
	if err != nil || all == nil {
		return nil, kept{}, err
	}
	if k, err = readKept(all, &a.cfg.Limits); err != nil {
		return all, kept{}, err
	}
	a.nextToken = k.token
	return all, k, nil
}

// Wake makes the instance without a message, for the timers that were kept with the state. It is for who knows that there are some.
func (a *Activation) Wake() { a.internal(message{own: &own{wake: true}}) }

// Rest makes the instance of an idle actor lighter, and reports whether it will; the next turn undoes it.
func (a *Activation) Rest() bool {
	a.mu.Lock()
	if !a.idle() {
		a.mu.Unlock()
		return false
	}
	z, can := a.inst.(Sleeper) // nobody else's, since nothing runs
	if !can || a.rested {
		a.mu.Unlock()
		return false
	}
	a.running, a.rested, a.resting = true, true, true
	a.mu.Unlock()
	a.cfg.Spawn(func() {
		if a.rest(z) {
			a.drain()
		}
	})
	return true
}

// rest calls the instance's; false: it broke by that, and the activation has ended. The caller owns running.
func (a *Activation) rest(z Sleeper) (goesOn bool) {
	returned := false
	defer func() {
		p := recover()
		switch {
		case p != nil:
			a.cfg.Log.Error("an instance panicked while it was to rest", "actor", a.cfg.Identity, "panic", p, "stack", string(debug.Stack()))
			err := abi.NewError(abi.ErrTrap, fmt.Sprintf("the instance panicked at rest: %v", p))
			a.countBroken(err)
			goesOn = !a.end(End{Reason: "trap", Err: err})
		case !returned:
			a.vanished()
		}
	}()
	z.Rest()
	returned = true
	return true
}

// vanished ends the activation, from a deferred function of a goroutine that ends under it.
func (a *Activation) vanished() {
	a.countBroken(errVanished)
	if !a.end(End{Reason: "trap", Err: errVanished}) {
		a.cfg.Spawn(a.run)
	}
}

// Weight returns what the instance takes by its own account, and whether it can say so: it is idle and a [Sleeper].
func (a *Activation) Weight() (bytes int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running {
		return 0, false
	}
	if z, can := a.inst.(Sleeper); can {
		return z.Weight(), true
	}
	return 0, false
}

// Turns returns how many turns there were, modulo 2^32.
func (a *Activation) Turns() uint32 { return a.turns.Load() }
