package silo

import (
	"math"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// What becomes of an idle activation is decided here, by functions of numbers alone: when it rests, sleeps or ends by its kind's
// times, and who goes first when room is needed. Both look at when it was used last and at how often it was used lately.

const (
	// restAfter is how long an actor keeps what only makes its next turn a little faster.
	restAfter = 5 * time.Second
	// halfLife is that of the count of turns: what was an hour ago says little.
	halfLife = time.Minute
	// loss is how many times as valuable an activation is whose state would end with it.
	loss = 4
	// Pressure below restFrom changes nothing: from there on idle actors rest early. Below easy nobody goes; from hard on, those go
	// too whose state is lost by it.
	restFrom = 0.65
	easy     = 0.75
	hard     = 0.95
)

// terms are a kind's times without a message, after which something becomes of an activation.
type terms struct {
	rest  time.Duration
	sleep time.Duration // 0: only under pressure, or never
	end   time.Duration // without its state
}

// keeps reports whether the state of the kind's actors is to outlive their activation, wherever the instance can be captured.
func (k *Kind) keeps() bool { return k.Desc.State.Keep == abi.KeepImage }

// stays reports whether it is to do so for good: an actor that is passivated goes on later. Otherwise it may, until its kind's
// idle time is over.
func (k *Kind) stays() bool {
	return k.keeps() && (k.Desc.State.Level == abi.LevelHibernating || k.Desc.State.Level == abi.LevelDurable)
}

// terms returns the times for an activation of the kind; sleeps says that its state can be kept.
func (k *Kind) terms(sleeps bool) terms {
	t := terms{rest: restAfter, end: k.Idle}
	if sleeps && k.stays() {
		t.sleep, t.end = k.Idle, 0
		if k.Hibernate > 0 {
			t.sleep = min(k.Hibernate, k.Idle)
		}
	}
	return t
}

// first returns how long an activation is left alone at least.
func (k *Kind) first() time.Duration {
	_, a := k.terms(true).next(0, false)
	_, b := k.terms(false).next(0, false)
	return min(a, b)
}

// action is what becomes of an activation.
type action uint8

const (
	stay action = iota
	rest
	hibernate
	passivate
)

// next says what is to become of an activation that has been idle for some time, and when to look again if it stays as it is then.
func (t terms) next(idle time.Duration, warm bool) (do action, again time.Duration) {
	again = time.Hour
	at := func(limit time.Duration, a action) bool {
		switch {
		case limit <= 0:
		case idle >= limit:
			do = a
			return true
		default:
			again = min(again, limit-idle)
		}
		return false
	}
	if at(t.end, passivate) || at(t.sleep, hibernate) || warm {
		return do, again
	}
	at(t.rest, rest)
	return do, again
}

// uses is about how many turns an actor had lately, those of a [halfLife] ago counted half, and so on.
type uses float32

// after returns the uses some time later, in which there were turns.
func (u uses) after(d time.Duration, turns uint32) uses {
	return u*uses(math.Exp2(-max(d, 0).Seconds()/halfLife.Seconds())) + uses(turns)
}

// pack makes a byte of it for a sleeper: a sixteenth of a power of two, up to 65,000.
func (u uses) pack() uint8 { return uint8(min(255, math.Round(16*math.Log2(1+float64(u))))) }

func unpack(b uint8) uses { return uses(math.Exp2(float64(b)/16) - 1) }

// worth says how much an activation should stay rather than another. That of an actor that was used twice as long ago is half. Often
// used ones are worth more, by the root, so that one that was busy goes too in the end. bytes is what it takes, 0 where that is of no
// interest.
func worth(idle time.Duration, u uses, bytes int64, lost bool) float64 {
	w := math.Sqrt(1+float64(u)) / max(idle, time.Millisecond).Seconds()
	if lost {
		w *= loss
	}
	if bytes > 0 {
		w /= float64(bytes)
	}
	return w
}

// share returns how many of count activations should go by the next look, under pressure from 0 to 1.
func share(count int64, pressure float64) int64 {
	if pressure < easy || count <= 0 {
		return 0
	}
	return 1 + int64(float64(count)*min(1, (pressure-easy)/(1-easy))/8)
}

// shortened returns how long an actor must have been idle to go before its time.
func shortened(d time.Duration, pressure float64) time.Duration {
	left := 1 - min(1, max(0, (pressure-easy)/(1-easy)))
	return max(minIdle, time.Duration(float64(d)*left))
}
