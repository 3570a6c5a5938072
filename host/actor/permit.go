package actor

import (
	"context"
	"errors"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Permit says whether the activation may run at this moment: where nodes are given their actors for a time, and lose them with it. It
// is asked before a turn, before each message that the turn sends, whenever the instance asks [Host.Permitted], and after the turn
// has last touched the actor's state: the turn counts as done when that last check passed.
type Permit interface {
	// Check returns nil, or why not: ownership_changed for good, no_quorum for now.
	Check() error
	// Wait is Check, but waits for what is only not so now, until a time or the end of ctx.
	Wait(ctx context.Context, until time.Time) error
}

// fenced is the error of a turn that ran and does not count, since the node could not show at its end that the actor was its own.
type fenced struct{ err *abi.Error }

func (e *fenced) Error() string { return e.err.Error() }
func (e *fenced) Unwrap() error { return e.err }

func isFenced(err error) bool {
	var f *fenced
	return errors.As(err, &f)
}

// mayBegin asks before a turn. A caller is told at once, and asks elsewhere; what nobody waits for waits here, as long as a turn may take, and
// callers behind it are told at once, too.
// It returns a time at which the turn might begin: now, or one after the wait.
func (a *Activation) mayBegin(env *abi.Envelope, now time.Time) (time.Time, error) {
	p := a.cfg.Permit
	if p == nil {
		return now, nil
	}
	if a.cfg.Witness != nil { // who else asks pays for no look at the clock but the permit's
		now = time.Now()
	}
	err := p.Check()
	if abi.CodeOf(err) != abi.ErrNoQuorum || env != nil && env.Flags&abi.OneWay == 0 {
		return now, err
	}
	lapsed := func() error {
		if err := p.Check(); abi.CodeOf(err) == abi.ErrNoQuorum {
			return err
		}
		return nil
	}
	a.stalled(err, lapsed, func(ctx context.Context) {
		err = p.Wait(ctx, time.Now().Add(a.cfg.Limits.Turn))
	})
	if err != nil {
		return now, err
	}
	now = time.Now()
	return now, p.Check()
}

// unconfirmed is the error of a turn that ran, and of which the node cannot tell yet whether it counts: the state stays as the turn left
// it, and either counts with the next turn that does, or goes with all that the node has lost.
type unconfirmed struct{ err *abi.Error }

func (e *unconfirmed) Error() string { return e.err.Error() }
func (e *unconfirmed) Unwrap() error { return e.err }

func isUnconfirmed(err error) bool {
	var u *unconfirmed
	return errors.As(err, &u)
}

// confirmTime bounds how long the caller of a turn that has ended waits for it to be known whether the turn counts. It is how long a session
// lasts: one that is not renewed for so long after its end has mostly been ended by the voters, and nodes promise to refuse within that time, which
// whoever called just before should not wait much longer for, however long the turns of the kind may be.
const confirmTime = 3 * time.Second

// mayEnd asks after a turn. It waits, until the turn's deadline, for what was done cannot be undone and may count yet; but a caller no longer
// than [confirmTime]. Then a turn with effects is given up, since they would have to be sent with the state and not without it; of any other
// the caller is told that it is not known.
// It returns a time at which the turn might end: what comes after it is harmless, however long it takes.
func (a *Activation) mayEnd(env *abi.Envelope, deadline time.Time) (at time.Time, err error) {
	p := a.cfg.Permit
	if a.cfg.Witness != nil {
		at = time.Now()
	}
	if p == nil {
		return at, nil
	}
	if err = p.Check(); abi.CodeOf(err) == abi.ErrNoQuorum {
		until := deadline
		if env != nil && env.Flags&abi.OneWay == 0 {
			if soon := time.Now().Add(confirmTime); soon.Before(until) {
				until = soon
			}
		}
		if err = p.Wait(a.cfg.Context, until); err == nil {
			at = time.Now()
			err = p.Check()
		}
	}
	switch {
	case err == nil:
		return at, nil
	case abi.CodeOf(err) == abi.ErrNoQuorum && a.out.Kind != abi.OutEffects:
		return at, &unconfirmed{abi.NewError(abi.ErrOutcomeUnknown, "the turn ran, and the node cannot tell at present whether the actor was its own: "+
			"it is not known whether it counts")}
	case a.host.outgoing > 0:
		return at, &fenced{abi.NewError(abi.ErrOutcomeUnknown, "the node lost the actor during the turn, which does not count; "+
			"but the turn had sent messages to others ("+err.Error()+")")}
	}
	return at, &fenced{abi.NewError(abi.ErrOwnershipChanged, "the node lost the actor during the turn, which does not count ("+err.Error()+")")}
}

// Permitted returns nil, or why the running turn may not go on. It waits, until the turn's end, for a node that cannot tell at the moment.
func (h *Host) Permitted() error {
	if p := h.a.cfg.Permit; p != nil && !h.deadline.IsZero() {
		return p.Wait(h.a.cfg.Context, h.deadline)
	}
	return nil
}
