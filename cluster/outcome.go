package cluster

import (
	"context"
	"errors"

	"github.com/wasilo/wasilo/abi"
)

// gaveUp is the end of a loop that did not come to an answer: end says what ended it, last is the last real cause.
type gaveUp struct {
	end, last error
	doubt     bool // something may have been done
}

func (t *tries) gaveUp(end error) *gaveUp { return &gaveUp{end: end, last: t.last, doubt: t.doubt} }

var errAttemptsUsedUp = errors.New("the attempts of the retry policy are used up")

func (g *gaveUp) Error() string {
	s := g.end.Error()
	switch {
	case g.last == nil:
		return s
	case !g.doubt:
		s += "; nothing was done"
	}
	return s + "; the last failure: " + g.last.Error()
}

func (g *gaveUp) Unwrap() []error { return both(g.end, g.last) }

// reason is how it ended: canceled if the caller went away, else timeout.
func (g *gaveUp) reason() abi.Code {
	if errors.Is(g.end, context.Canceled) {
		return abi.ErrCanceled
	}
	return ErrTimeout
}

// WireCode is what it is to a caller: the reason, unless the time is up and it is certain that nothing was done. Then it is
// what stood in the way, which says that the caller may try again.
func (g *gaveUp) WireCode() abi.Code {
	if code := abi.CodeOf(g.last); !g.doubt && code.Retryable() && errors.Is(g.end, context.DeadlineExceeded) {
		return code
	}
	return g.reason()
}

// record reports a request that took more than one attempt.
func (t *tries) record(outcome RetryOutcome) {
	if t.n > 1 && t.r.metrics != nil {
		t.r.metrics.RecordRetry(t.q.id, t.n, outcome)
	}
}

// requestError turns the outcome of a loop into what the sender of env is told. An answer of the actor's side stays as it
// is.
func (t *tries) requestError(env *abi.Envelope, err error) error {
	t.record(outcome(err))
	if answer, ok := err.(*abi.Error); ok {
		return answer
	}
	e := &RequestError{Identity: env.Target, Method: env.Method, Reason: ErrSendFailed, Attempts: t.n, Err: err}
	var gave *gaveUp
	var unresolved *ResolveError
	code := abi.CodeOf(err)
	switch {
	case errors.As(err, &gave):
		e.Reason = gave.reason()
	case errors.As(err, &unresolved):
		e.Reason = ErrResolutionFailed
	case code == abi.ErrTimeout || code == abi.ErrCanceled:
		e.Reason = code
	}
	return e
}

// resolveError turns the outcome of a loop that only resolves into what the caller is told.
func (t *tries) resolveError(err error) error {
	t.record(outcome(err))
	if gave, ok := err.(*gaveUp); ok {
		return &ResolveError{Identity: t.q.id, Reason: gave.reason(), Err: err, Code: gave.WireCode()}
	}
	return err
}

// outcome sorts a failure.
func outcome(err error) RetryOutcome {
	code := abi.CodeOf(err)
	if gave, ok := err.(*gaveUp); ok {
		code = gave.reason()
	}
	if code == ErrTimeout {
		return RetryTimedOut
	}
	return RetryFailed
}
