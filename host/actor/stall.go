package actor

import (
	"context"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// stall is a runner's wait before a turn that nobody waits for, and that cannot begin yet. Calls behind it would be told so at their turn: they
// are told now.
type stall struct {
	why func() error // what calls are refused with that come meanwhile; it returns nil if they may stay. a.mu is held
	end context.CancelFunc
}

// stalled has the runner wait, and calls refused: with err those in the mailbox, with what why returns those that come meanwhile. The wait's
// context ends when the activation is revoked, or the node gives up waiting for turns. The caller owns running.
func (a *Activation) stalled(err error, why func() error, wait func(ctx context.Context)) {
	ctx, end := context.WithCancel(a.cfg.Context)
	defer end()
	a.mu.Lock()
	if a.revoked {
		end()
	}
	a.stall = &stall{why: why, end: end}
	refused := a.queue.takeCalls()
	a.mu.Unlock()
	for i := range refused {
		refused[i].fail(err)
	}
	wait(ctx)
	a.mu.Lock()
	a.stall = nil
	a.mu.Unlock()
}

// againAfter is the pause before a timer's turn, or one that there was no room for, is tried again.
const againAfter = 100 * time.Millisecond

// putBack keeps an event of the actor's own whose turn did not begin, for want of a permit or of room, since it will not come again; false: it
// is given up. A timer comes anew, a completion stays the first in the mailbox, also of an activation that is surrendered, for that may go on,
// or its state. One that is stopped has tried once and does not wait, nor does a node that gives up waiting for turns.
func (a *Activation) putBack(m *message, err error) bool {
	code := abi.CodeOf(err)
	if code != abi.ErrNoQuorum && code != abi.ErrOverloaded || a.cfg.Context.Err() != nil {
		return false
	}
	if m.tag == abi.EventTimer {
		return a.putTimer(m.own)
	}
	a.mu.Lock()
	if a.stopFor != "" && a.handing == handsNothing {
		a.mu.Unlock()
		return false
	}
	a.queue.pushFront(*m)
	a.mu.Unlock()
	if code == abi.ErrOverloaded {
		a.stalled(err, func() error { return err }, func(ctx context.Context) {
			pause := time.NewTimer(againAfter)
			defer pause.Stop()
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		})
	}
	return true
}
