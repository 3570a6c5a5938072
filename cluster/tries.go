package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// tries is the retry loop of one request: resolve, use what was found, and again while the cluster is in motion.
type tries struct {
	r     *Runtime
	q     query
	n     int           // attempts begun
	began time.Duration // when the last one began to resolve
	last  error         // what the one before failed with
}

func newTries(r *Runtime, env *abi.Envelope) *tries {
	// Nothing is stored yet: an actor that must exist is one that is active.
	existing := env.Flags&(abi.OnlyIfActive|abi.MustExist) != 0
	t := &tries{r: r, q: query{id: env.Target, reason: "call", existing: existing, chain: env.Chain}}
	if env.Flags&abi.OneWay != 0 {
		t.q.reason = "message"
	}
	return t
}

// gaveUp is the end of a loop that did not come to an answer: end says what ended it, last is the last real cause.
type gaveUp struct{ end, last error }

var errAttemptsUsedUp = errors.New("the attempts of the retry policy are used up")

func (g *gaveUp) Error() string {
	if g.last == nil {
		return g.end.Error()
	}
	return g.end.Error() + "; the last failure: " + g.last.Error()
}

func (g *gaveUp) Unwrap() []error { return both(g.end, g.last) }

// WireCode is what the end is to a caller: canceled if the caller went away, else timeout.
func (g *gaveUp) WireCode() abi.Code {
	if errors.Is(g.end, context.Canceled) {
		return abi.ErrCanceled
	}
	return ErrTimeout
}

// run resolves and calls use with what it found, until use succeeds (nil), something fails for good (that error, a
// [*ResolveError] or use's own), or the policy, the time or ctx is at its end (a *gaveUp).
func (t *tries) run(ctx context.Context, deadline time.Time, use func(*pidEntry) error) error {
	for {
		if err := t.over(ctx, deadline); err != nil {
			return err
		}
		t.n++
		t.began = t.r.now()
		e, err := t.r.lookup(ctx, &t.q, deadline, t.backoff())
		if err == nil {
			if err = use(e); err == nil {
				t.record(RetrySucceeded)
				return nil
			}
			if !moved(err) {
				return err
			}
			err = t.refused(ctx, deadline, e, err)
		} else if passing(err) && !t.q.here {
			err = t.failed(ctx, deadline, err)
		} else if errors.Is(err, errWaiting) {
			err = &gaveUp{end: err, last: t.last}
		}
		if err != nil {
			return err
		}
	}
}

// refused prepares the next attempt after the target of e refused: the entry is forgotten. The first time there is no
// back-off; this node's own ledger knows better than any back-off when there is something new. A nil e is no refusal.
func (t *tries) refused(ctx context.Context, deadline time.Time, e *pidEntry, err error) error {
	if e == nil {
		return nil
	}
	t.r.cache.forget(e)
	first := t.n <= 1
	t.n = max(t.n, 1)
	if first || e.route.Local() {
		if t.last = err; t.r.cfg.Retry.Exhausted(t.n) {
			return &gaveUp{end: errAttemptsUsedUp, last: err}
		}
		t.q.refused = e.route.Epoch
		return nil
	}
	return t.failed(ctx, deadline, err)
}

// failed waits before the next attempt, or says why there is none.
func (t *tries) failed(ctx context.Context, deadline time.Time, err error) error {
	if t.last = err; t.r.cfg.Retry.Exhausted(t.n) {
		return &gaveUp{end: errAttemptsUsedUp, last: err}
	}
	if err := sleep(ctx, min(t.backoff(), time.Until(deadline))); err != nil {
		return &gaveUp{end: err, last: t.last}
	}
	return nil
}

// over reports that there is no time for another attempt.
func (t *tries) over(ctx context.Context, deadline time.Time) error {
	if err := ctx.Err(); err != nil {
		return &gaveUp{end: err, last: t.last}
	}
	if !time.Now().Before(deadline) {
		return &gaveUp{end: context.DeadlineExceeded, last: t.last}
	}
	return nil
}

// backoff returns how long to wait after the present attempt.
func (t *tries) backoff() time.Duration { return t.r.cfg.Retry.Backoff(t.n, random()) }

// record reports a request that took more than one attempt.
func (t *tries) record(outcome RetryOutcome) {
	if t.n > 1 && t.r.metrics != nil {
		t.r.metrics.RecordRetry(t.q.id, t.n, outcome)
	}
}

// moved reports whether a target's error means that nothing was done and that it is not, or not now, the one to ask.
func moved(err error) bool {
	code := abi.CodeOf(err)
	return core.Reroutes(code) || code == abi.ErrShuttingDown // of its node; this one's is found out by resolving
}

// passing reports whether a failed resolve may succeed in a moment.
func passing(err error) bool {
	var re *ResolveError
	return errors.As(err, &re) && re.Reason != ErrClusterNotStarted && core.Reroutes(re.Code)
}

// requestError turns the outcome of a loop into what the sender of env is told. An answer of the actor's side stays as it
// is.
func (t *tries) requestError(env *abi.Envelope, err error) error {
	e := &RequestError{Identity: env.Target, Method: env.Method, Reason: ErrSendFailed, Attempts: t.n, Err: err}
	var gave *gaveUp
	var unresolved *ResolveError
	code := abi.CodeOf(err)
	switch {
	case errors.As(err, &gave):
		e.Reason = gave.WireCode()
	case errors.As(err, &unresolved):
		e.Reason = ErrResolutionFailed
	case code == abi.ErrTimeout || code == abi.ErrCanceled:
		e.Reason = code
	}
	t.record(outcome(code))
	if answer, ok := err.(*abi.Error); ok {
		return answer
	}
	return e
}

// resolveError turns the outcome of a loop that only resolves into what the caller is told.
func (t *tries) resolveError(err error) error {
	t.record(outcome(abi.CodeOf(err)))
	if gave, ok := err.(*gaveUp); ok {
		return &ResolveError{Identity: t.q.id, Reason: gave.WireCode(), Err: err, Code: gave.WireCode()}
	}
	return err
}

// outcome sorts a failure by its code.
func outcome(code abi.Code) RetryOutcome {
	if code == ErrTimeout {
		return RetryTimedOut
	}
	return RetryFailed
}
