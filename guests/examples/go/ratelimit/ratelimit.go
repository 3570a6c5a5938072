// Package ratelimit keeps token buckets: every ratelimit/NAME is one, of ten tokens, refilled by one a second. Ask it
// before doing something on NAME's behalf, a user, an API key, an address.
//
// It shows that an actor which does nothing costs nothing: no timer refills the bucket. Its whole state is one point in
// time, and a bucket nobody has asked for a while is full, so it does not even matter if the node forgets it then.
package ratelimit

import (
	"time"

	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// The bucket.
const (
	Capacity = 10
	Refill   = time.Second // for one token
)

// InvalidCount is the code of the error for less than one token.
const InvalidCount = "invalid_count"

// Bucket is one token bucket.
type Bucket struct {
	// full is when the bucket will be full again, if nobody takes from it; what is missing follows. This is the generic
	// cell rate algorithm (GCRA) of ITU-T I.371, in its form as virtual scheduling.
	full time.Time
}

// Take says how many tokens are wanted.
type Take struct {
	N int64 `json:"n"`
}

// Taken says whether they were there, and how many are left.
type Taken struct {
	Allowed   bool  `json:"allowed"`
	Remaining int64 `json:"remaining"`
}

// Take takes n tokens, all or none.
func (b *Bucket) Take(ctx *wasilo.Context, in Take) (Taken, error) {
	if in.N < 1 {
		return Taken{}, wasilo.Errorf(InvalidCount, "n is %d, and must be above 0", in.N)
	}
	now := ctx.Now()
	if b.full.Before(now) {
		b.full = now
	}
	if most := now.Add(Capacity * Refill); b.full.After(most) {
		b.full = most // the clock was set back
	}
	missing := (b.full.Sub(now) + Refill - 1) / Refill // a token that is not whole yet is missing
	remaining := Capacity - int64(missing)
	if in.N > remaining {
		return Taken{Allowed: false, Remaining: remaining}, nil
	}
	b.full = b.full.Add(time.Duration(in.N) * Refill)
	return Taken{Allowed: true, Remaining: remaining - in.N}, nil
}

// Kind is the kind "ratelimit".
var Kind = wasilo.Kind("ratelimit",
	wasilo.Method("take", (*Bucket).Take, "Takes `n` tokens if they are there, none otherwise."),
).Doc("Token buckets: ten tokens, refilled by one a second.").Hibernates()
