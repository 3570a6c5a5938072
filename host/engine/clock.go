package engine

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"time"
)

// environment is what a guest sees of the world by WASI: clock and randomness. While a template is built or a module is
// described both are fixed, so that every node makes the same; afterwards they are real.
type environment struct {
	guard *guard
	fixed bool
	ticks int64             // reads of the fixed clock
	seed  *mathrand.ChaCha8 // of the fixed random source
	ahead int64             // nanoseconds that the monotonic clock runs before this node's, after a move from another
}

// templateTime is when templates are built, as they see it: 2024-01-01T00:00:00Z.
const templateTime = 1_704_067_200

// templateSeed is what fixed randomness is made of.
var templateSeed = [32]byte([]byte("wasilo: the seed of all template"))

// started is when this process did; the monotonic clock of guests goes on from there as the wall clock stood, so that it goes
// on, more or less, on another node too.
var started = time.Now()

// fix makes the environment the same everywhere.
func (e *environment) fix() { e.fixed, e.ticks, e.seed = true, 0, mathrand.NewChaCha8(templateSeed) }

func (e *environment) tick() int64 {
	e.ticks++ // so that a guest that waits for time to pass sees it pass
	return e.ticks * int64(time.Microsecond)
}

func (e *environment) walltime() (sec int64, nsec int32) {
	if e.fixed {
		ns := e.tick()
		return templateTime + ns/1e9, int32(ns % 1e9)
	}
	now := time.Now()
	return now.Unix(), int32(now.Nanosecond())
}

func (e *environment) nanotime() int64 {
	if e.fixed {
		return templateTime*1e9 + e.tick()
	}
	return monotonic() + e.ahead
}

// monotonic never goes back while this process lives.
func monotonic() int64 { return started.UnixNano() + int64(time.Since(started)) }

func (e *environment) nanosleep(ns int64) {
	if e.fixed {
		e.ticks += ns / int64(time.Microsecond)
		return
	}
	e.guard.sleep(ns)
}

// Read serves random_get.
func (e *environment) Read(b []byte) (int, error) {
	for at := 0; at < len(b); at += randomStep {
		if err := e.guard.check(); err != nil {
			return at, err // the guest's next look at its fuel ends it
		}
		part := b[at:min(at+randomStep, len(b))]
		if e.fixed {
			e.seed.Read(part) // never fails
		} else {
			rand.Read(part) // never fails
		}
	}
	return len(b), nil
}
