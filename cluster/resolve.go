package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// query is one resolve on its way, over as many rounds as it takes.
type query struct {
	id       Identity
	reason   string // of an activation that it brings about
	existing bool   // only an actor that is active
	kept     bool   // with existing: or one that has left something to go on from
	here     bool   // only an activation of this node
	// finishing: for an actor's turn. While this node leaves, it may still reach other nodes.
	finishing bool
	refused   core.Route    // of the activation that refused last
	chain     []Identity    // who waits for this, itself perhaps included
	env       *abi.Envelope // what it is for; nil: nothing, or nobody waits for a reply
}

// answer is what one round of a resolve came to: an entry, something to wait for, or neither with an error.
type answer struct {
	entry *pidEntry
	wait  <-chan struct{} // closed when the identity may have changed
	// backoff: wait no longer than a back-off.
	backoff bool
}

// resolveOnce does one round. It never blocks.
func (r *Runtime) resolveOnce(q *query) (answer, error) {
	in := core.Input{Type: core.Resolve, Identity: q.id, Existing: q.existing, Refused: q.refused.Epoch, RefusedSerial: q.refused.Serial, Chain: q.chain,
		Finishing: q.finishing && !q.here}
	for {
		r.mu.Lock()
		effect := r.machine.Step(&in, r.now())[0]
		switch effect.Type {
		case core.Use:
			e := effect.Handle.(*pidEntry)
			if *e.route.Member != *effect.Member { // this node's address has changed since
				moved := *e
				moved.route.Member = effect.Member
				e = &moved
			}
			if !effect.Held {
				r.cache.put(e)
			}
			r.mu.Unlock()
			return answer{entry: e}, nil
		case core.Wait:
			ch := r.waitLocked(q.id)
			r.mu.Unlock()
			return answer{wait: ch, backoff: effect.Refused}, nil
		case core.Refuse:
			r.mu.Unlock()
			if in.Existing && q.kept && effect.Refusal == core.RefusedNotActive && r.keeps(q.id) {
				in.Existing = false
				continue
			}
			if q.here && effect.Refusal == core.RefusedUnknownKind {
				// The sender sees a host of the kind in this node; whether there is one at all is not for this node to say.
				return answer{}, abi.NewError(abi.ErrOwnershipChanged, "node "+string(r.cfg.Self.ID)+" does not host the kind "+
					strconv.Quote(q.id.Kind())+"; nothing was done")
			}
			return answer{}, r.refusal(q.id, effect.Refusal)
		case core.Forward:
			view := r.machine.View()
			r.mu.Unlock()
			if q.here {
				return answer{}, elsewhere(q.id, r.cfg.Self.ID, effect.Member.ID)
			}
			e, err := r.forward(q.id, effect.Member, view)
			return answer{entry: e}, err
		}
		r.mu.Unlock() // core.Activate
		e, err := r.activate(effect.Lease, effect.Member, q.reason)
		if e != nil || err != nil {
			return answer{entry: e}, err
		}
		// The activation has ended already, or lost its lease: ask again. It cannot go on for ever, since each round is a
		// full activation that somebody else ended.
	}
}

// waitLocked returns a channel that is closed when the core wakes those who wait for id. r.mu is held.
func (r *Runtime) waitLocked(id Identity) <-chan struct{} {
	ch := r.waits[id]
	if ch == nil {
		ch = make(chan struct{})
		r.waits[id] = ch
	}
	return ch
}

// activate requests an activation under a fresh lease. Both results are nil if the lease did not outlive the request.
func (r *Runtime) activate(lease Lease, self *Node, reason string) (*pidEntry, error) {
	bridge := r.bridges.Primary()
	returned := false
	defer func() {
		if !returned { // the silo panicked: its defect, but the lease must not stay
			r.step(failedInput(lease, abi.NewError(abi.ErrInternal, "the activation request panicked")))
		}
	}()
	req := ActivationRequest{Lease: lease, Props: Props{Kind: lease.Identity.Kind()}, Reason: reason, Observer: (*observer)(r)}
	var p *permit
	if r.cfg.Quorum {
		p = &permit{gate: &r.gate}
		req.Permit = p
	}
	target, err := bridge.Activate(req)
	returned = true
	if err == nil && target == nil {
		err = abi.NewError(abi.ErrInternal, "the partition bridge "+bridge.Name()+" returned no target")
	}
	if err != nil {
		r.step(failedInput(lease, err))
		return nil, &ResolveError{Identity: lease.Identity, Reason: ErrLookupFailed, Err: err, Code: abi.CodeOf(err)}
	}
	e := &pidEntry{hash: r.cache.hash(lease.Identity), id: lease.Identity, target: target, bridge: bridge, permit: p,
		route: core.Route{Member: self, Epoch: lease.Epoch, Serial: lease.Serial, Partition: core.PartitionOf(lease.Identity)}}
	r.mu.Lock()
	effects := r.machine.Step(&core.Input{Type: core.Activated, Lease: lease, Handle: e}, r.now())
	admitted := len(effects) > 0 && effects[0].Type == core.Admit
	out := r.applyLocked(effects)
	r.mu.Unlock()
	r.run(out)
	r.flush()
	if !admitted {
		return nil, nil
	}
	return e, nil
}

// way makes an entry for an actor of another node. It is not in the cache.
func (r *Runtime) way(id Identity, m *Node) (*pidEntry, error) {
	if r.cfg.Transport == nil {
		return nil, &ResolveError{Identity: id, Reason: ErrNotResolvable, Code: abi.ErrUnsupported,
			Err: abi.NewError(abi.ErrUnsupported, "it lives on node "+string(m.ID)+", and this node has no transport to others")}
	}
	target, err := r.cfg.Transport.Target(*m)
	if err != nil {
		return nil, &ResolveError{Identity: id, Reason: ErrNotResolvable, Err: err, Code: abi.CodeOf(err), others: true}
	}
	return &pidEntry{hash: r.cache.hash(id), id: id, target: target,
		route: core.Route{Member: m, Partition: core.PartitionOf(id)}}, nil
}

// forward is the way to the owner that a view named, and remembers it if the decision still holds. Where a redirect led is
// not remembered: once the views agree again, resolving leads there too.
func (r *Runtime) forward(id Identity, m *Node, decided *View) (*pidEntry, error) {
	e, err := r.way(id, m)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	if r.machine.View() == decided {
		r.cache.put(e)
	}
	r.mu.Unlock()
	return e, nil
}

// errWaiting is wrapped by the errors of [Runtime.lookup] that say that its time was up.
var errWaiting = errors.New("an earlier activation has not ended")

// lookup resolves q, waiting out what is in transition until deadline or the end of ctx: then the error wraps [errWaiting] and
// context.DeadlineExceeded or ctx's error. backoff is how long it waits for an activation that refused and has not ended yet.
func (r *Runtime) lookup(ctx context.Context, q *query, deadline time.Time, backoff time.Duration) (*pidEntry, error) {
	for {
		a, err := r.resolveOnce(q)
		if a.entry != nil || err != nil {
			return a.entry, err
		}
		if err := deadlock(q.id, q.chain); err != nil {
			return nil, err
		}
		over, err := r.waiting(q)
		if err != nil {
			return nil, err
		}
		until := time.Until(deadline)
		if a.backoff && backoff < until {
			until = backoff
			q.refused = core.Route{} // after that, what the ledger has is tried again
		}
		err = waitFor(ctx, a.wait, until)
		over()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errWaiting, err)
		}
		if !time.Now().Before(deadline) {
			return nil, fmt.Errorf("%w: %w", errWaiting, context.DeadlineExceeded)
		}
	}
}

// waiting tells of the wait that is about to begin.
func (r *Runtime) waiting(q *query) (over func(), err error) {
	if r.cfg.Waiting == nil || q.env == nil {
		return func() {}, nil
	}
	return r.cfg.Waiting(q.env)
}

// waitFor waits until ch is closed or d has passed; the error is ctx's, if that ends first.
func waitFor(ctx context.Context, ch <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// deadlock refuses to wait for the end of an activation whose last turn waits for this very request: one of its chain.
func deadlock(target Identity, chain []Identity) error {
	for i, id := range chain {
		if id != target {
			continue
		}
		s := ""
		for _, id := range chain[i:] {
			s += id.String() + "→"
		}
		return abi.NewError(abi.ErrDeadlock, s+target.String())
	}
	return nil
}
