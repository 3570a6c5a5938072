package cluster

import (
	"context"
	"time"

	"github.com/wasilo/wasilo/abi"
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

// RetryPolicy returns how fast requests are tried again, and how often where this node is what fails.
func (c *Context) RetryPolicy() RetryPolicy { return c.r.cfg.Retry }

// DefaultTimeout returns what bounds a request that names no time of its own.
func (c *Context) DefaultTimeout() time.Duration { return c.r.cfg.DefaultTimeout }

// deadline returns when a call that begins at start and has no deadline of its own must end.
func (c *Context) deadline(start time.Duration) time.Time {
	return c.r.base.Add(start + c.r.cfg.DefaultTimeout)
}

// send is the way of a request that did not find its actor in the PID cache at start, or found it gone: then stale is the
// entry and failure what its target answered. The envelope has its deadline.
func (c *Context) send(ctx context.Context, env *abi.Envelope, start time.Duration,
	stale *pidEntry, failure error) ([]byte, error) {
	r := c.r
	t := newTries(r, env)
	if env.Target.IsZero() {
		return nil, t.requestError(env, errNoTarget)
	}
	var payload []byte
	var resolved time.Duration
	err := t.refused(ctx, env.Deadline, stale, failure)
	if err == nil {
		err = r.behindCourier(ctx, t, env)
	}
	if err == nil {
		err = t.run(ctx, env.Deadline, func(e *pidEntry) (err error) {
			if t.n > 1 { // what was posted before may have come back meanwhile
				if err = r.behindCourier(ctx, t, env); err != nil {
					return err
				}
			}
			if r.metrics != nil {
				resolved = r.now()
			}
			payload, err = e.target.Deliver(ctx, env)
			return err
		})
	}
	if err != nil {
		return nil, t.requestError(env, err)
	}
	t.record(RetrySucceeded)
	if r.metrics != nil {
		r.metrics.RecordResolveLatency(env.Target, resolved-t.began)
		r.metrics.RecordRequestLatency(env.Target, r.now()-start)
	}
	return payload, nil
}
