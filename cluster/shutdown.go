package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// BeginShutdown ends the node's part in the cluster in good order and returns at once; the channel is closed when it has ended,
// and [Extension.Err] says how it went.
//
// From its return new resolves are refused with shutting_down, and so are messages of other nodes, but for those that a turn of
// this node waits for. Actors that run finish: they can still reach actors of other nodes, and those that are active here and
// known to the PID cache. The silo is asked to drain; each end releases its lease. When the drain is over, or ctx
// is, what is left in the ledger is released by force and counted in the error. The gauges are zero then, every event has been
// published, and the runtime's goroutines have ended.
//
// Further calls return the same channel; their ctx counts for nothing.
func (r *Runtime) BeginShutdown(ctx context.Context) <-chan struct{} {
	if !r.shutting.CompareAndSwap(false, true) {
		return r.done
	}
	r.step(&core.Input{Type: core.Shutdown})
	// Not among r.work, which it waits for. Whoever has the channel waits for this goroutine.
	go func() {
		defer close(r.done)
		r.err = r.shutdown(ctx)
	}()
	return r.done
}

func (r *Runtime) shutdown(ctx context.Context) error {
	var errs []error
	for _, b := range r.bridges.All() {
		if err := b.Drain(ctx); err != nil {
			errs = append(errs, fmt.Errorf("cluster: draining %s: %w", b.Name(), err))
		}
	}
	if len(errs) == 0 {
		// An activation requested just before is still on its way through the silo, which refuses it by now.
		wait, cancel := context.WithTimeout(ctx, abi.DefaultTurn)
		select {
		case <-r.empty:
		case <-wait.Done():
		}
		cancel()
	}
	if left := r.releaseAll(); left > 0 {
		r.log.Warn("activations had not ended when the shutdown released their leases", "leases", left)
		errs = append(errs, fmt.Errorf("cluster: %d leases had to be released by force", left))
	}

	r.cancel()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.work.Wait()
	r.closeTopology()

	r.flushing.Lock() // whoever still flushes does so before the stream closes
	r.flushLocked()
	r.events.close()
	r.flushing.Unlock()
	stop := context.AfterFunc(ctx, r.cancelExports)
	r.exports.Wait()
	stop()
	r.cancelExports()
	return errors.Join(errs...)
}

// releaseAll empties the ledger and returns how many leases were left in it.
func (r *Runtime) releaseAll() int {
	r.mu.Lock()
	left := r.machine.Ledger().Len()
	out := r.applyLocked(r.machine.Step(&core.Input{Type: core.ReleaseAll}, r.now()))
	r.mu.Unlock()
	r.run(out)
	r.flush()
	return left
}
