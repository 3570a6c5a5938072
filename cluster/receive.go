package cluster

import (
	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// Receive takes a message that another node sent here, since in its view this node owns the actor. It never blocks. done (which
// may be nil) is called exactly once, at any time and from any goroutine, perhaps before Receive returns; it must not block. For
// an envelope flagged abi.OneWay it is told that the message was accepted. The envelope must not be changed or used again
// afterwards; without a deadline it gets the default one. from is for the log alone: where two nodes do not reach each other it is the word of a
// third.
//
// The message goes to an activation of this node, made if need be, or is refused; it is never passed on to a third node, so
// that views that differ cannot send it round in circles. A node that is not the owner answers ownership_changed and
// names the one that it knows, and the sender tries there. While the actor is between two activations its messages are
// kept, as those of [API.Post] are, and with them their order.
//
// A node that leaves takes only what one of its own turns waits for; all else is refused with shutting_down, also for actors
// that are still active here: else they would never come to an end.
func (a *API) Receive(env *abi.Envelope, from NodeID, done func(payload []byte, err error)) {
	r := a.r
	if env.Deadline.IsZero() {
		env.Deadline = a.context.deadline(r.now())
	}
	if r.shutting.Load() && !r.awaited(env.Chain) {
		r.fail(&parcel{env: env, done: done, from: from}, r.refusal(env.Target, core.RefusedShuttingDown))
		return
	}
	err := r.stale(env, from)
	if err != nil {
		r.fail(&parcel{env: env, done: done, from: from}, err)
		return
	}
	e := r.cache.get(env.Target)
	direct := e != nil && e.route.Local() && !r.isCarried(e.hash)
	if direct {
		if err = e.target.Post(env, done); err == nil {
			return
		}
	}
	p := &parcel{env: env, done: done, from: from}
	switch {
	case !direct:
		err = r.post(p, nil)
	case moved(err):
		err = r.post(p, e)
	}
	if err != nil {
		r.fail(p, err)
	}
}

// awaited reports whether an actor of this node waits for the answer to a message of this chain.
func (r *Runtime) awaited(chain []Identity) bool {
	for _, id := range chain {
		if _, here := r.Lease(id); here {
			return true
		}
	}
	return false
}

// fail tells the sender of a post that it failed; where nobody is to be told, the log.
func (r *Runtime) fail(p *parcel, err error) {
	if p.done != nil {
		p.done(nil, err)
		return
	}
	if n := r.lost.Add(1); seldom(n) {
		r.log.Warn("a message was lost, and nobody awaits its reply", "target", p.env.Target, "method", p.env.Method,
			"caller", p.env.Caller, "from", p.from, "err", err, "lost", n)
	}
}
