package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// courier carries the posts to one identity that could not be delivered at once, one after the other, on a goroutine that
// lives only while there are any. While an identity has a courier, everything that is sent to it goes behind the courier's
// queue, so that nothing overtakes.
type courier struct {
	id    Identity
	queue []*parcel // guarded by Runtime.mu
}

// parcel is a place in a courier's queue: of a post, or of a request that waits for its turn behind the posts.
type parcel struct {
	env     *abi.Envelope
	done    func([]byte, error) // may be nil
	from    NodeID              // of the node that sent it here; "" is this one
	arrived chan struct{}       // of a request; env is nil then
	expiry  *time.Timer         // tells done in time while the courier is busy with others; nil without done
	taken   bool                // guarded by Runtime.mu: whoever sets it sees to the parcel
}

// tries returns the retry loop of a post. One that came from another node goes to an activation here or nowhere.
func (p *parcel) tries(r *Runtime) *tries {
	t := newTries(r, p.env)
	t.q.here = p.from != ""
	return t
}

// park gives a post to the courier of its target if there is one, or in any case if force is set. The error is the refusal of
// a full queue or of a runtime that has ended.
func (r *Runtime) park(p *parcel, force bool) (taken bool, err error) {
	if !force && r.couriers.Load() == 0 {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := p.env.Target
	c := r.mail[id]
	switch {
	case c == nil && !force:
		return false, nil
	case c == nil:
		c = &courier{id: id}
		if !r.spawnLocked(func() { r.carry(c) }) {
			return false, abi.NewError(abi.ErrShuttingDown, "this node is leaving")
		}
		r.mail[c.id] = c
		r.couriers.Add(1)
	case len(c.queue) >= abi.DefaultMailbox:
		return false, abi.NewError(abi.ErrMailboxFull, fmt.Sprintf("%d messages wait for the next activation of %s", len(c.queue), c.id))
	}
	if p.done != nil {
		p.expiry = time.AfterFunc(time.Until(p.env.Deadline), func() { r.expire(p) })
	}
	c.queue = append(c.queue, p)
	return true, nil
}

// expire answers a parcel whose deadline passes while it waits.
func (r *Runtime) expire(p *parcel) {
	r.mu.Lock()
	late := !p.taken
	p.taken = true
	r.mu.Unlock()
	if late {
		r.answer(p, &RequestError{Identity: p.env.Target, Method: p.env.Method, Reason: ErrTimeout,
			Err: fmt.Errorf("%w: %w", errWaiting, context.DeadlineExceeded)})
	}
}

// carry delivers until the queue is empty.
func (r *Runtime) carry(c *courier) {
	for {
		p := r.pick(c)
		switch {
		case p == nil:
			return
		case p.arrived != nil:
			close(p.arrived)
		default:
			r.deliver(p)
		}
	}
}

// pick takes the next parcel that has not expired. Without one the courier is gone.
func (r *Runtime) pick(c *courier) *parcel {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(c.queue) > 0 {
		p := c.queue[0]
		c.queue[0], c.queue = nil, c.queue[1:]
		if p.taken {
			continue
		}
		p.taken = true
		if p.expiry != nil {
			p.expiry.Stop()
		}
		return p
	}
	delete(r.mail, c.id)
	r.couriers.Add(-1)
	return nil
}

func (r *Runtime) deliver(p *parcel) {
	t := p.tries(r)
	if err := t.run(r.ctx, p.env.Deadline, func(e *pidEntry) error { return e.target.Post(p.env, p.done) }); err != nil {
		r.answer(p, t.requestError(p.env, err))
	}
}

// behindCourier lets a request wait until what was posted to its target before it has been delivered.
func (r *Runtime) behindCourier(ctx context.Context, env *abi.Envelope) error {
	if r.couriers.Load() == 0 {
		return nil
	}
	if err := deadlock(env.Target, env.Chain); err != nil {
		return err
	}
	r.mu.Lock()
	c := r.mail[env.Target]
	if c == nil {
		r.mu.Unlock()
		return nil
	}
	p := &parcel{arrived: make(chan struct{})}
	c.queue = append(c.queue, p)
	r.mu.Unlock()
	if err := waitFor(ctx, p.arrived, time.Until(env.Deadline)); err != nil {
		return &gaveUp{end: err}
	}
	return nil // late or not: run looks at the time
}
