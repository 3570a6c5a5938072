package cluster

import (
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Post sends an envelope without waiting for anything: it never blocks. When it returns nil, done (which may be nil) is
// called exactly once, with the reply or an error, from any goroutine; it must not block. An error means that nothing was
// sent and that done will not be called. An envelope without a deadline gets the default one; it must not be changed
// or used again afterwards.
//
// While there is nowhere to send it (the actor is between two activations, its node cannot be reached or leaves, nobody hosts
// its kind at present) a message is kept, up to abi.DefaultMailbox of them for an actor, until its deadline. So is one that
// another node has refused after Post returned: it is sent again where it belongs. One that nobody awaits and that fails in the
// end is lost with a line in the log; a one-way message is no more than that.
//
// Messages of one caller to one actor keep their order, also relative to [API.Send], as long as the actor lives on this node.
// Messages to another node keep it while they take one way. When some have been refused, for the actor has moved or the node
// was lost, those that come back are put in order again, but what the caller sends before it is known that they were refused may
// overtake them.
func (a *API) Post(env *abi.Envelope, done func(payload []byte, err error)) error {
	r := a.r
	if env.Deadline.IsZero() {
		env.Deadline = a.context.deadline(r.now())
	}
	e := r.cache.get(env.Target)
	if e == nil || r.isCarried(e.hash) || r.cutOff(e, env) {
		return r.post(&parcel{env: env, done: done}, nil)
	}
	if e.route.Local() {
		err := e.target.Post(env, done)
		if err == nil || !moved(err) {
			return err
		}
		return r.post(&parcel{env: env, done: done}, e)
	}
	p := &parcel{env: env, done: done}
	err := r.hand(p, e)
	if err == nil || !moved(err) {
		return err
	}
	return r.bring(p, e, err)
}

// parcel is a message that is posted, or the place in a courier's queue of a request that waits behind such messages.
type parcel struct {
	env     *abi.Envelope
	done    func([]byte, error) // may be nil
	from    NodeID              // of the node that sent it here; "" is this one
	arrived chan struct{}       // of a request; env is nil then
	seq     uint64              // its place among all that is sent; 0: it has none yet
	t       *tries              // once it has been tried

	stale   *pidEntry // whose target refused it; nil: none has
	failure error     // what that answered

	expiry *time.Timer // tells done in time while the courier is busy with others; nil without done
	taken  bool        // guarded by Runtime.mu: whoever sets it sees to the parcel
}

// tries returns the retry loop of a post, the same one each time. One that came from another node goes to an activation here
// or nowhere.
func (p *parcel) tries(r *Runtime) *tries {
	if p.t == nil {
		p.t = newTries(r, p.env)
		p.t.q.here = p.from != ""
	}
	return p.t
}

// post resolves without blocking; what would have to wait goes to a courier. stale is the entry of this node's whose target
// refused, if there was one. An error means that nothing was sent and that nobody has been told.
func (r *Runtime) post(p *parcel, stale *pidEntry) error {
	t := p.tries(r)
	if p.env.Target.IsZero() {
		return t.requestError(p.env, errNoTarget)
	}
	if taken, err := r.park(p, false); taken || err != nil {
		return err
	}
	t.n = 1
	if stale != nil {
		r.cache.forget(stale)
		t.q.refused = stale.route
	}
	a, err := r.resolveOnce(&t.q)
	if err != nil && (t.q.here || !passing(err)) {
		return t.requestError(p.env, err)
	}
	p.failure = err
	if e := a.entry; e != nil {
		switch err = r.hand(p, e); {
		case err == nil || !moved(err):
			return err
		case !e.route.Local():
			return r.bring(p, e, err)
		}
		r.cache.forget(e)
	}
	_, err = r.park(p, true)
	return err
}

// hand gives a parcel to a target. From another node the outcome comes later, and may bring the parcel back.
func (r *Runtime) hand(p *parcel, e *pidEntry) error {
	if e.route.Local() {
		return e.target.Post(p.env, p.done)
	}
	if p.seq == 0 {
		p.seq = r.sends.Add(1)
	}
	return e.target.Post(p.env, func(payload []byte, err error) { r.came(p, e, payload, err) })
}

// came is the outcome of a parcel that another node had: the sender's, or a reason to try again.
func (r *Runtime) came(p *parcel, e *pidEntry, payload []byte, err error) {
	switch {
	case err == nil && p.done == nil:
		return
	case err == nil:
		p.done(payload, nil)
		return
	case r.sendAgain(err, p.env) && r.bring(p, e, err) == nil:
		return
	}
	r.fail(p, err)
}

// bring gives a parcel that the target of e has refused, which is another node's, to the courier, who tries again. The error is
// that of park.
func (r *Runtime) bring(p *parcel, e *pidEntry, failure error) error {
	p.stale, p.failure = e, failure
	if abi.CodeOf(failure) == abi.ErrOutcomeUnknown {
		p.tries(r).doubt = true // so that it is known also if its time is up before the next attempt
	}
	_, err := r.park(p, true)
	return err
}

// errNoTarget refuses an envelope to nobody.
var errNoTarget = &ResolveError{Reason: abi.ErrInvalidArgument, Code: abi.ErrInvalidArgument,
	Err: abi.NewError(abi.ErrInvalidArgument, "the envelope has no target")}
