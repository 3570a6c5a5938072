package cluster

import (
	"github.com/wasilo/wasilo/abi"
)

// Post sends an envelope without waiting for anything: it never blocks. When it returns nil, done (which may be nil) is
// called exactly once, with the reply or an error, from any goroutine; it must not block. An error means that nothing was
// sent and that done will not be called. An envelope without a deadline gets the default one; it must not be changed
// or used again afterwards.
//
// Messages of one caller to one actor keep their order, also relative to [API.Send]. While the actor is between two
// activations, its messages are kept for the next one, up to abi.DefaultMailbox of them, until their deadlines.
func (a *API) Post(env *abi.Envelope, done func(payload []byte, err error)) error {
	r := a.r
	if env.Deadline.IsZero() {
		env.Deadline = a.context.deadline(r.now())
	}
	var stale *pidEntry
	if r.couriers.Load() == 0 {
		if e := r.cache.get(env.Target); e != nil {
			err := e.target.Post(env, done)
			if err == nil || !moved(err) {
				return err
			}
			stale = e
		}
	}
	return r.post(&parcel{env: env, done: done}, stale)
}

// post resolves without blocking; what would have to wait goes to a courier. stale is the entry whose target refused, if
// there was one. An error means that nothing was sent and that nobody has been told.
func (r *Runtime) post(p *parcel, stale *pidEntry) error {
	env := p.env
	t := p.tries(r)
	if env.Target.IsZero() {
		return t.requestError(env, errNoTarget)
	}
	if taken, err := r.park(p, false); taken || err != nil {
		return err
	}
	t.n = 1
	if stale != nil {
		r.cache.forget(stale)
		t.q.refused = stale.route.Epoch
	}
	a, err := r.resolveOnce(&t.q)
	if err != nil {
		return t.requestError(env, err)
	}
	if a.entry != nil {
		if err = a.entry.target.Post(env, p.done); err == nil || !moved(err) {
			return err
		}
		r.cache.forget(a.entry)
	}
	_, err = r.park(p, true)
	return err
}

// errNoTarget refuses an envelope to nobody.
var errNoTarget = &ResolveError{Reason: abi.ErrInvalidArgument, Code: abi.ErrInvalidArgument,
	Err: abi.NewError(abi.ErrInvalidArgument, "the envelope has no target")}
