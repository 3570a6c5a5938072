package cluster

import "context"

// Future is the outcome of a request that is on its way. Its methods may be called from any goroutine, as often as one likes.
type Future struct {
	done    chan struct{}
	cancel  context.CancelFunc
	payload []byte // set before done is closed
	err     error
}

// RequestFuture sends a message without waiting for the reply. What is known at once to fail (a malformed message, a cluster that
// has not started or is leaving, a kind that nobody has registered) fails here and nothing is sent; everything else is
// the future's outcome. ctx bounds the request, as in [API.Request].
func (a *API) RequestFuture(ctx context.Context, id Identity, m Message) (*Future, error) {
	env, err := a.envelope(id, m)
	if err != nil {
		return nil, err
	}
	if err := a.r.callable(id); err != nil {
		return nil, &RequestError{Identity: id, Method: m.Method, Reason: ErrResolutionFailed, Err: err}
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &Future{done: make(chan struct{}), cancel: cancel}
	started := a.r.spawn(func() {
		defer close(f.done)
		defer cancel()
		stop := context.AfterFunc(a.r.ctx, cancel) // the end of the shutdown ends it too
		defer stop()
		if f.payload, f.err = a.Send(ctx, env); f.err != nil {
			f.err = wrapped(env, f.err)
		}
	})
	if !started {
		cancel()
		return nil, &RequestError{Identity: id, Method: m.Method, Reason: ErrResolutionFailed,
			Err: &ResolveError{Identity: id, Reason: ErrShuttingDown, Code: ErrShuttingDown}}
	}
	return f, nil
}

// Done is closed when the outcome is there.
func (f *Future) Done() <-chan struct{} { return f.done }

// Wait waits for the outcome: what [API.Request] would have returned. When ctx ends first the error is ctx's, and the request
// goes on.
func (f *Future) Wait(ctx context.Context) ([]byte, error) {
	select {
	case <-f.done:
		return f.payload, f.err
	default:
	}
	select {
	case <-f.done:
		return f.payload, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Cancel ends the wait for the reply. It does not end a turn that runs.
func (f *Future) Cancel() { f.cancel() }

// callable refuses what no resolve could succeed with at present.
func (r *Runtime) callable(id Identity) error {
	r.mu.Lock()
	refusal := r.machine.Callable(id.Kind(), r.now())
	r.mu.Unlock()
	if refusal == 0 || refusal.Passing() {
		return nil
	}
	if err := r.refusal(id, refusal); !err.others { // else a kind that is coming
		return err
	}
	return nil
}
