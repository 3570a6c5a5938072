package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// courier carries the posts to one identity that could not be delivered at once, one after the other, on a goroutine that
// lives only while there are any. While an identity has a courier, everything that is sent to it goes behind the courier's
// queue, so that nothing overtakes.
type courier struct {
	id    Identity
	hash  uint64
	queue []*parcel // in the order in which they were sent; guarded by Runtime.mu
	cause error     // why it is waiting, if it is; guarded by Runtime.mu
}

// maxCouriers bounds how many a node has: another that cannot be reached may own any number of actors, and each courier costs a
// goroutine.
const maxCouriers = 1 << 14

// carried counts couriers by a part of their identity's hash, so that what is sent to others can tell that there is none
// without a lock.
type carried [1024]atomic.Int32

func (c *carried) of(hash uint64) *atomic.Int32 { return &c[hash>>32%uint64(len(c))] }

// isCarried reports whether an identity may have a courier: of one that has, always.
func (r *Runtime) isCarried(hash uint64) bool {
	return r.couriers.Load() != 0 && r.carried.of(hash).Load() != 0
}

// park gives a post to the courier of its target if there is one, or in any case if force is set. The error is the refusal of
// a full queue or of a runtime that has ended.
func (r *Runtime) park(p *parcel, force bool) (taken bool, err error) {
	id := p.env.Target
	hash := r.cache.hash(id)
	if !force && !r.isCarried(hash) {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.mail[id]
	switch {
	case c == nil && !force:
		return false, nil
	case c == nil && len(r.mail) >= r.maxCouriers:
		return false, abi.NewError(abi.ErrOverloaded, fmt.Sprintf("messages for %d actors wait for a place to go already", len(r.mail)))
	case c == nil:
		c = &courier{id: id, hash: hash}
		if !r.spawnLocked(func() { r.carry(c) }) {
			return false, abi.NewError(abi.ErrShuttingDown, "this node is leaving")
		}
		r.mail[id] = c
		r.carried.of(hash).Add(1)
		r.couriers.Add(1)
	case len(c.queue) >= abi.DefaultMailbox:
		return false, tooManyWait(c)
	}
	r.queueLocked(c, p)
	return true, nil
}

// queueLocked enters p behind what was sent before it. r.mu is held.
func (r *Runtime) queueLocked(c *courier, p *parcel) {
	if p.seq == 0 {
		p.seq = r.sends.Add(1)
	}
	p.taken = false
	if p.done != nil {
		p.expiry = time.AfterFunc(time.Until(p.env.Deadline), func() { r.expire(p) })
	}
	at := len(c.queue)
	for at > 0 && c.queue[at-1].seq > p.seq { // one that has come back
		at--
	}
	c.queue = slices.Insert(c.queue, at, p)
}

// drop takes a parcel out of the queue, if it is in it, for the sake of others. Runtime.mu is held.
func (c *courier) drop(p *parcel) {
	c.queue = slices.DeleteFunc(c.queue, func(q *parcel) bool { return q == p })
}

func tooManyWait(c *courier) *abi.Error {
	return abi.NewError(abi.ErrMailboxFull, fmt.Sprintf("%d messages wait for the next activation of %s", len(c.queue), c.id))
}

// expire answers a parcel whose deadline passes while it waits.
func (r *Runtime) expire(p *parcel) {
	r.mu.Lock()
	late := !p.taken
	p.taken = true
	var cause error
	if c := r.mail[p.env.Target]; c != nil {
		cause = c.cause
		if late {
			c.drop(p)
		}
	}
	r.mu.Unlock()
	if !late {
		return
	}
	if p.failure != nil {
		cause = p.failure
	}
	end := context.DeadlineExceeded
	if cause == nil {
		end = fmt.Errorf("%w: %w", errWaiting, end)
	}
	t := p.tries(r)
	t.last = cause
	r.fail(p, t.requestError(p.env, t.gaveUp(end)))
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
			r.deliver(c, p)
		}
	}
}

// pick takes the next parcel that has not expired. Without one the courier is gone.
func (r *Runtime) pick(c *courier) *parcel {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.cause = nil
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
	r.carried.of(c.hash).Add(-1)
	r.couriers.Add(-1)
	return nil
}

// deliver sees a parcel to the next target that takes it.
func (r *Runtime) deliver(c *courier, p *parcel) {
	t := p.tries(r)
	t.courier = c
	stale, failure := p.stale, p.failure
	p.stale = nil
	err := t.refused(r.ctx, p.env.Deadline, stale, failure)
	if err == nil {
		err = t.run(r.ctx, p.env.Deadline, func(e *pidEntry) error {
			if r.putBack(c, p) {
				return errPutBack
			}
			return r.hand(p, e)
		})
	}
	if err == nil || err == errPutBack {
		return
	}
	if gave, ok := err.(*gaveUp); ok && !gave.doubt && r.ctx.Err() != nil {
		err = r.refusal(p.env.Target, core.RefusedShuttingDown)
	}
	r.fail(p, t.requestError(p.env, err))
}

var errPutBack = errors.New("an earlier message has come back")

// putBack lets what was sent before p, and has come back while p waited, go first.
func (r *Runtime) putBack(c *courier, p *parcel) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(c.queue) == 0 || c.queue[0].seq > p.seq {
		return false
	}
	r.queueLocked(c, p)
	return true
}

// behindCourier lets a request wait until what was posted to its target before it has been delivered.
func (r *Runtime) behindCourier(ctx context.Context, t *tries, env *abi.Envelope) error {
	if !r.isCarried(r.cache.hash(env.Target)) {
		return nil
	}
	r.mu.Lock()
	c := r.mail[env.Target]
	if c == nil {
		r.mu.Unlock()
		return nil
	}
	if err := deadlock(env.Target, env.Chain); err != nil {
		r.mu.Unlock()
		return err
	}
	if len(c.queue) >= abi.DefaultMailbox {
		r.mu.Unlock()
		return tooManyWait(c)
	}
	p := &parcel{arrived: make(chan struct{})}
	r.queueLocked(c, p)
	r.mu.Unlock()
	left := time.NewTimer(time.Until(env.Deadline))
	defer left.Stop()
	select {
	case <-p.arrived:
		return nil
	case <-left.C:
		return r.waitedOut(c, p, t, context.DeadlineExceeded)
	case <-ctx.Done():
		return r.waitedOut(c, p, t, ctx.Err())
	}
}

// waitedOut ends the wait of a request behind a courier.
func (r *Runtime) waitedOut(c *courier, p *parcel, t *tries, end error) error {
	r.mu.Lock()
	p.taken = true
	c.drop(p)
	if t.last == nil {
		t.last = c.cause
	}
	r.mu.Unlock()
	return t.gaveUp(end)
}
