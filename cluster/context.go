package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// Context is how requests of a node are made: who it is, what is known of the cluster, and how often something is tried. The
// retry loop is its. (It is no context.Context.)
type Context struct{ r *Runtime }

// Self returns this node.
func (c *Context) Self() Node { return c.r.cfg.Self }

// Cluster returns the cluster's name.
func (c *Context) Cluster() string { return c.r.cfg.Cluster }

// Mode returns whether the node hosts actors.
func (c *Context) Mode() Mode { return c.r.cfg.Mode }

// Topology returns the newest snapshot, nil before the first.
func (c *Context) Topology() *Topology { return c.r.View().Topology() }

// RetryPolicy returns how often and how fast requests are tried again.
func (c *Context) RetryPolicy() RetryPolicy { return c.r.cfg.Retry }

// DefaultTimeout returns what bounds a request that names no time of its own.
func (c *Context) DefaultTimeout() time.Duration { return c.r.cfg.DefaultTimeout }

// bound gives env its deadline: the earliest of its own, ctx's and, without both, the default. start is the time of the
// call, or negative if it has not been read.
func (c *Context) bound(ctx context.Context, env *abi.Envelope, start time.Duration) {
	if d, ok := ctx.Deadline(); ok && (env.Deadline.IsZero() || d.Before(env.Deadline)) {
		env.Deadline = d
	}
	if env.Deadline.IsZero() {
		if start < 0 {
			start = c.r.now()
		}
		env.Deadline = c.r.base.Add(start + c.r.cfg.DefaultTimeout)
	}
}

// tries is the state of the retry loop of one request.
type tries struct {
	c    *Context
	q    query
	n    int   // attempts begun
	last error // of the last attempt
}

// next allows another attempt after the failure err, waiting before it where that is called for, or returns why there is
// none: with reason set if the loop itself gave up, else err is the outcome. refused is the entry whose
// target refused, if it came to that.
func (t *tries) next(ctx context.Context, deadline time.Time, err error, refused *pidEntry) (reason error) {
	t.last = err
	if t.c.r.cfg.Retry.Exhausted(t.n) {
		return ErrTimeout
	}
	if refused != nil && refused.route.Local() && t.q.refused != refused.route.Epoch {
		t.q.refused = refused.route.Epoch // the ledger knows whether to wait, and wakes sooner than a back-off would
		return nil
	}
	left := time.Until(deadline)
	d := t.backoff()
	if d >= left {
		if sleep(ctx, left) != nil {
			return ended(ctx.Err())
		}
		return ErrTimeout
	}
	if sleep(ctx, d) != nil {
		return ended(ctx.Err())
	}
	return nil
}

// backoff returns how long to wait before the attempt after this one.
func (t *tries) backoff() time.Duration { return t.c.r.cfg.Retry.Backoff(t.n, random()) }

// passing reports whether a failure may be gone with a fresh resolve in a moment: where nothing was done, and where it is
// the cluster that was in motion.
func passing(err error) bool {
	var re *ResolveError
	if errors.As(err, &re) {
		switch re.Reason {
		case ErrClusterNotStarted, ErrKindNotRegistered, ErrShuttingDown:
			return false
		}
		return core.Reroutes(re.Code)
	}
	return core.Reroutes(abi.CodeOf(err))
}

// send is the way of a request that did not find its actor in the PID cache, or found it gone: then stale is the entry and
// failure what its target answered. The envelope has its deadline.
func (c *Context) send(ctx context.Context, env *abi.Envelope, stale *pidEntry, failure error) ([]byte, error) {
	r := c.r
	if env.Target.IsZero() {
		return nil, &RequestError{Method: env.Method, Reason: ErrResolutionFailed, Err: abi.NewError(abi.ErrInvalidArgument,
			"the envelope has no target")}
	}
	t := tries{c: c, q: query{id: env.Target, reason: "call", existing: env.Flags&abi.OnlyIfActive != 0, chain: env.Chain}}
	if env.Flags&abi.OneWay != 0 {
		t.q.reason = "message"
	}
	if stale != nil {
		t.n = 1
		if reason := t.retry(ctx, env.Deadline, stale, failure); reason != nil {
			return nil, t.fail(env, reason)
		}
	}
	if err := r.behindCourier(ctx, env); err != nil {
		return nil, t.failWith(env, ErrResolutionFailed, err)
	}
	for {
		t.n++
		start := r.now()
		e, err := r.lookup(ctx, &t.q, env.Deadline, t.backoff())
		if err != nil {
			if !passing(err) {
				return nil, t.failWith(env, ErrResolutionFailed, err)
			}
			if reason := t.next(ctx, env.Deadline, err, nil); reason != nil {
				return nil, t.fail(env, reason)
			}
			continue
		}
		resolved := r.now()
		payload, err := e.target.Deliver(ctx, env)
		if err == nil {
			if r.metrics != nil {
				r.metrics.RecordResolveLatency(env.Target, resolved-start)
				r.metrics.RecordRequestLatency(env.Target, r.now()-start)
			}
			t.record(RetrySucceeded)
			return payload, nil
		}
		if !moved(err) {
			t.record(RetryFailed)
			return nil, answered(env, t.n, err)
		}
		if reason := t.retry(ctx, env.Deadline, e, err); reason != nil {
			return nil, t.fail(env, reason)
		}
	}
}

// moved reports whether a target's error means that it is not, or not now, the one to ask.
func moved(err error) bool {
	code := abi.CodeOf(err)
	return core.Reroutes(code) || code == abi.ErrShuttingDown
}

// retry forgets an entry whose target refused and allows another attempt, or says why not.
func (t *tries) retry(ctx context.Context, deadline time.Time, e *pidEntry, err error) error {
	t.c.r.cache.forget(e)
	return t.next(ctx, deadline, err, e)
}

// fail ends the loop that gave up for reason.
func (t *tries) fail(env *abi.Envelope, reason error) error {
	err := t.last
	if reason == ErrTimeout && abi.CodeOf(err) == abi.ErrShuttingDown {
		reason = ErrShuttingDown
	}
	return t.failWith(env, reason, err)
}

func (t *tries) failWith(env *abi.Envelope, reason, err error) error {
	switch code := abi.CodeOf(err); {
	case reason == ErrTimeout || code == abi.ErrTimeout:
		t.record(RetryTimedOut)
		reason = ErrTimeout
		if t.last != nil && t.last != err {
			err = errors.Join(err, t.last)
		}
	case code == abi.ErrCanceled:
		t.record(RetryFailed)
		reason = abi.ErrCanceled
	default:
		t.record(RetryFailed)
	}
	return &RequestError{Identity: env.Target, Method: env.Method, Reason: reason, Attempts: t.n, Err: err}
}

// record reports a request that took more than one attempt.
func (t *tries) record(outcome RetryOutcome) {
	if t.n > 1 && t.c.r.metrics != nil {
		t.c.r.metrics.RecordRetry(t.q.id, t.n, outcome)
	}
}

// answered turns a target's final error into the caller's: an answer of the actor's side stays as it is, what happened to the
// wait or on the way becomes a [*RequestError].
func answered(env *abi.Envelope, attempts int, err error) error {
	if _, ok := err.(*abi.Error); ok {
		return err
	}
	reason := ErrSendFailed
	if code := abi.CodeOf(err); code == abi.ErrTimeout || code == abi.ErrCanceled {
		reason = code
	}
	return &RequestError{Identity: env.Target, Method: env.Method, Reason: reason, Attempts: attempts, Err: err}
}
