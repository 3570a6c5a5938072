package core

import (
	"errors"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// RetryPolicy bounds how often and how fast something is tried again. The zero value reads as [DefaultRetry].
type RetryPolicy struct {
	Attempts int           // tries in all that fail on this node, the first included; 0 is the default's, 1 never retries
	Initial  time.Duration // the first back-off; 0 is the default's
	Max      time.Duration // no back-off is longer; 0 is the default's
	Jitter   float64       // share of a back-off, 0 to 1, that is drawn at random; 0 is the default's, negative is none
}

// DefaultRetry tries for about 8 s in all: longer than a start that is not ready at once, shorter than the default deadline of a
// request.
var DefaultRetry = RetryPolicy{Attempts: 20, Initial: 10 * time.Millisecond, Max: 500 * time.Millisecond, Jitter: 0.2}

// ErrInvalidRetry is wrapped by what [RetryPolicy.Check] returns.
var ErrInvalidRetry = errors.New("invalid retry policy")

// Check refuses a policy that cannot be meant.
func (p RetryPolicy) Check() error {
	switch {
	case p.Attempts < 0 || p.Initial < 0 || p.Max < 0:
		return errors.Join(ErrInvalidRetry, errors.New("attempts and back-offs are not negative"))
	case p.Jitter > 1 || p.Jitter != p.Jitter:
		return errors.Join(ErrInvalidRetry, errors.New("jitter is a share of at most 1"))
	case p.Initial > 0 && p.Max > 0 && p.Max < p.Initial:
		return errors.Join(ErrInvalidRetry, errors.New("the maximum back-off is shorter than the initial one"))
	}
	return nil
}

// Filled returns p with the default in the place of every zero.
func (p RetryPolicy) Filled() RetryPolicy {
	if p.Attempts == 0 {
		p.Attempts = DefaultRetry.Attempts
	}
	if p.Initial == 0 {
		p.Initial = DefaultRetry.Initial
		if p.Max > 0 {
			p.Initial = min(p.Initial, p.Max)
		}
	}
	if p.Max == 0 {
		p.Max = max(DefaultRetry.Max, p.Initial)
	}
	if p.Jitter == 0 {
		p.Jitter = DefaultRetry.Jitter
	}
	return p
}

// Backoff returns how long to wait before the retry-th retry, counted from 1: Initial doubled each time, at most Max, less
// up to Jitter of it. random is a number in [0, 1).
func (p RetryPolicy) Backoff(retry int, random float64) time.Duration {
	p = p.Filled()
	d := p.Max
	if shift := max(retry, 1) - 1; shift < 32 && p.Initial<<shift>>shift == p.Initial {
		d = min(d, p.Initial<<shift)
	}
	if p.Jitter > 0 {
		d -= time.Duration(float64(d) * p.Jitter * random)
	}
	return d
}

// Exhausted reports whether no further try is allowed after so many.
func (p RetryPolicy) Exhausted(tries int) bool { return tries >= p.Filled().Attempts }

// Reroutes reports whether the cluster itself tries again, with a fresh resolution, after an error of this code: nothing was
// done, and the actor may answer elsewhere or in a moment. The other retryable codes (mailbox_full, overloaded,
// shutting_down of this node) are for the caller to know at once: trying again here would only add to the load.
// shutting_down of another node, and outcome_unknown where twice is no harm, are tried again too: the code alone does not tell.
func Reroutes(c abi.Code) bool {
	switch c {
	case abi.ErrOwnershipChanged, abi.ErrNoQuorum, abi.ErrBlocked, abi.ErrNotReady, abi.ErrUnreachable:
		return true
	}
	return false
}
