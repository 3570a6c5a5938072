// Package delay is what tools/jitter puts at the beginning of functions and branches: a call that now and then sleeps. Nothing in the
// tree imports it.
//
// The sleep is a system call where there is one for it, and not [time.Sleep]: to the runtime such a goroutine is running. So the clock of
// a testing/synctest bubble stands still meanwhile, and a test that waits for all to be idle waits for this one too. Elsewhere (Windows
// among others) it is time.Sleep, which the clock of a bubble skips: such tests find less there.
//
// How often, how long and with which seed is read from a file whose name the linker puts in. Not from the environment: a test may start
// this program again with an environment of its own, and those processes are to be delayed too.
//
// A call draws from a sequence that the seed fixes, each call of a process the next number. Which goroutine makes the n-th call is
// the scheduler's to say, so a seed repeats the delays, and not the schedule.
package delay

import (
	"fmt"
	"os"
	"time"
)

// settings is the file with the settings; empty, as it is without the linker's help: there are no delays.
var settings string

// now are the settings; they are written before main and never after.
var now plan

// plan says which calls sleep, and for how long.
type plan struct {
	every uint64 // one call of so many sleeps; 0: none
	most  uint64 // nanoseconds, below which a usual delay is
	seed  uint64
}

func init() {
	if settings == "" {
		return
	}
	text, err := os.ReadFile(settings)
	if err == nil {
		now, err = parse(string(text))
	}
	if err != nil {
		panic("tools/jitter/delay: without its settings this program would run undelayed: " + err.Error())
	}
}

// parse reads "EVERY NANOSECONDS SEED".
func parse(text string) (p plan, err error) {
	if _, err := fmt.Sscan(text, &p.every, &p.most, &p.seed); err != nil {
		return plan{}, fmt.Errorf("settings %q: %w", text, err)
	}
	if p.every == 0 || p.most == 0 {
		return plan{}, fmt.Errorf("settings %q: a zero", text)
	}
	return p, nil
}

// Perhaps sleeps now and then.
//
// The race detector does not look at it, and under the race detector it uses nothing that orders goroutines: what it did would hide races.
//
//go:norace
func Perhaps() {
	if now.every == 0 {
		return
	}
	if d := now.length(next()); d > 0 {
		sleep(d)
	}
}

// One delay of rarely is far longer: the others fall between two steps, this one outlasts what others wait for.
const (
	rarely = 200
	longer = 50
)

// length is how long the n-th call sleeps.
func (p plan) length(n uint64) time.Duration {
	x := mix(p.seed*0xd1342543de82ef95 + n*0x9e3779b97f4a7c15)
	if x%p.every != 0 {
		return 0
	}
	x = mix(x)
	d := time.Duration(x%p.most) + 1
	if mix(x)%rarely == 0 {
		d *= longer
	}
	return d
}

// mix is the finalizer of splitmix64: every bit of x decides over every bit of the result.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
