package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Permit says whether an activation may run at this moment. Where the voters' log decides who owns what, an activation asks before a turn,
// before each message that the turn sends, now and then while it runs, and after the turn has last touched the actor's state: the turn
// counts as having happened when that last check passed, so a pause between it and the reply does no harm.
//
// Its methods may be called from any goroutine.
type Permit interface {
	// Check returns nil, or why not: ownership_changed if the activation has lost the actor for good, no_quorum if the node's session
	// with the voters has run out, which it may renew in a moment. It costs a look at the clock.
	Check() error
	// Wait is Check, but waits for a session that has run out, until the given time or the end of ctx.
	Wait(ctx context.Context, until time.Time) error
}

// gate is until when this node's session lasts, for all permits.
type gate struct {
	base  time.Time
	until atomic.Int64 // since base; turns may run before it

	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil while nobody waits
}

func (g *gate) open(until time.Duration) {
	g.until.Store(int64(until))
	g.tell()
}

// shut reports whether the session has run out.
func (g *gate) shut() bool { return int64(time.Since(g.base)) >= g.until.Load() }

// tell lets those look again who wait.
func (g *gate) tell() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

func (g *gate) change() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

// permit is that of one lease.
type permit struct {
	gate    *gate
	revoked atomic.Bool
}

var _ Permit = (*permit)(nil)

var (
	errLost   = abi.NewError(abi.ErrOwnershipChanged, "this node has lost the actor")
	errLapsed = abi.NewError(abi.ErrNoQuorum, "this node's session with the voters has run out, and it cannot prove that the actor is its own; nothing was done")
)

func (p *permit) Check() error {
	switch {
	case p.revoked.Load():
		return errLost
	case p.gate.shut():
		return errLapsed
	}
	return nil
}

func (p *permit) Wait(ctx context.Context, until time.Time) error {
	err := p.Check()
	if err != errLapsed {
		return err
	}
	timeout := time.NewTimer(time.Until(until))
	defer timeout.Stop()
	for {
		changed := p.gate.change()
		if err = p.Check(); err != errLapsed {
			return err
		}
		select {
		case <-changed:
		case <-timeout.C:
			return p.Check()
		case <-ctx.Done():
			return p.Check()
		}
	}
}

// revoke ends what the permit permits, at once.
func (p *permit) revoke() {
	p.revoked.Store(true)
	p.gate.tell()
}
