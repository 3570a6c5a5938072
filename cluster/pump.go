package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// pump follows the topology stream until the runtime ends, over as many subscriptions as it takes. It owns r.topology.
func (r *Runtime) pump() {
	fails := 0 // since the last snapshot
	for {
		t, err := r.topology.Next(r.ctx)
		if err == nil && t == nil {
			err = errors.New("the topology stream brought no snapshot")
		}
		if err == nil {
			r.HandleTopologyChanged(t)
			fails = 0
			continue
		}
		if r.ctx.Err() != nil {
			return
		}
		r.HandleTopologyStreamStopped(err)
		r.closeTopology()
		if !r.resubscribe(&fails) {
			return
		}
		r.log.Info("the topology stream is subscribed to again")
		r.step(&core.Input{Type: core.Resubscribed})
	}
}

// resubscribe tries until it has a new subscription, or the runtime ends: then false.
func (r *Runtime) resubscribe(fails *int) bool {
	for {
		*fails++
		if sleep(r.ctx, r.cfg.Resubscribe.Backoff(*fails, random())) != nil {
			return false
		}
		h, err := r.cfg.Topology.Subscribe(r.ctx)
		if err == nil && h != nil {
			r.topology = h
			return true
		}
		if seldom(uint64(*fails)) {
			r.log.Warn("the topology cannot be subscribed to; trying again", "err", err, "failures", *fails)
		}
	}
}

func (r *Runtime) closeTopology() {
	if err := r.topology.Close(); err != nil {
		r.log.Warn("closing the topology stream failed", "err", err)
	}
}

// sleep waits for d, or returns ctx's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
