package core

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestBackoff(t *testing.T) {
	const ms = time.Millisecond
	plain := RetryPolicy{Initial: 10 * ms, Max: 500 * ms, Jitter: -1}
	shaky := RetryPolicy{Initial: 10 * ms, Max: 500 * ms, Jitter: 0.5}
	for _, c := range []struct {
		p      RetryPolicy
		retry  int
		random float64
		want   time.Duration
	}{
		{plain, 1, 0, 10 * ms},
		{plain, 1, 0.99, 10 * ms},
		{plain, 2, 0, 20 * ms},
		{plain, 6, 0, 320 * ms},
		{plain, 7, 0, 500 * ms},
		{plain, 64, 0, 500 * ms},
		{plain, math.MaxInt, 0, 500 * ms},
		{plain, 0, 0, 10 * ms},
		{plain, -3, 0, 10 * ms},
		{shaky, 1, 0, 10 * ms},
		{shaky, 1, 0.5, 7500 * time.Microsecond},
		{shaky, 7, 0.999999, 250 * ms},
		{RetryPolicy{}, 1, 0, 10 * ms},
		{RetryPolicy{}, 100, 0, 500 * ms},
		{RetryPolicy{Max: 2 * ms, Jitter: -1}, 1, 0, 2 * ms},
		{RetryPolicy{Initial: time.Second, Jitter: -1}, 3, 0, time.Second},
		{RetryPolicy{Initial: math.MaxInt64 / 2, Max: math.MaxInt64, Jitter: -1}, 3, 0, math.MaxInt64},
	} {
		got := c.p.Backoff(c.retry, c.random)
		if d := got - c.want; d > time.Microsecond || d < -time.Microsecond {
			t.Errorf("%+v.Backoff(%d, %v) = %s, want %s", c.p, c.retry, c.random, got, c.want)
		}
	}
}

func TestRetryAttempts(t *testing.T) {
	for _, c := range []struct {
		attempts, tries int
		want            bool
	}{{1, 1, true}, {3, 2, false}, {3, 3, true}, {0, 19, false}, {0, 20, true}} {
		if got := (RetryPolicy{Attempts: c.attempts}).Exhausted(c.tries); got != c.want {
			t.Errorf("%d attempts, %d tries: exhausted is %v", c.attempts, c.tries, got)
		}
	}
	// The whole default policy outlasts a failover and fits into a default request.
	var least, most time.Duration
	for retry := 1; retry < DefaultRetry.Attempts; retry++ {
		least += DefaultRetry.Backoff(retry, 0.999)
		most += DefaultRetry.Backoff(retry, 0)
	}
	if least < 5*time.Second || most >= abi.DefaultRequest {
		t.Errorf("the default policy waits %s to %s", least, most)
	}
}

func TestRetryPolicyRefuses(t *testing.T) {
	for _, p := range []RetryPolicy{{Attempts: -1}, {Initial: -1}, {Max: -1}, {Jitter: 1.1}, {Jitter: math.NaN()},
		{Initial: 2, Max: 1}} {
		if err := p.Check(); !errors.Is(err, ErrInvalidRetry) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, p := range []RetryPolicy{{}, {Attempts: 1}, {Jitter: -1}, {Jitter: 1}, {Initial: time.Hour}, {Max: 1}} {
		if err := p.Check(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
		if f := p.Filled(); f.Check() != nil || f.Attempts == 0 || f.Initial == 0 || f.Max == 0 || f.Jitter == 0 {
			t.Errorf("%+v filled is %+v", p, f)
		}
	}
}

// TestReroutesOnlyWhatDidNothing: what is sent again must be safe to send again.
func TestReroutesOnlyWhatDidNothing(t *testing.T) {
	n := 0
	for _, info := range abi.Codes() {
		if Reroutes(info.Code) {
			n++
			if !info.Retryable {
				t.Errorf("%s is sent again though something may have been done", info.Name)
			}
		}
	}
	if n != 5 {
		t.Errorf("%d codes are rerouted", n)
	}
}
