package silo

import (
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// What does not start is not started at once again for every message that comes: after some failures in a row there is a pause, then
// one start is let through as a trial, and while it fails the pauses grow.
const (
	failuresInARow = 3
	firstPause     = 100 * time.Millisecond
	longestPause   = 30 * time.Second
	// trialTime is when a trial that has told nothing no longer keeps others from trying.
	trialTime = 10 * time.Second
	// forgetAfter is when an actor that nobody asked for since its pause ended counts as any other.
	forgetAfter = time.Minute
	// mostSick bounds the actors that are told apart within a kind.
	mostSick = 8
)

// pauseFor returns how long the nth pause in a row is: doubling, from half of it to all by chance, which is within [0, 1).
func pauseFor(nth int, chance float64) time.Duration {
	d := firstPause
	for i := 1; i < nth && d < longestPause; i++ {
		d *= 2
	}
	d = min(d, longestPause)
	return d/2 + time.Duration(chance*float64(d/2))
}

// streak is failures in a row and the pauses that they bring about. The zero value has none.
type streak struct {
	failures int
	pauses   int       // in a row; 0: nothing is held back
	until    time.Time // the end of the pause, or of the trial's time
	trying   bool      // a trial is under way
	turn     uint64    // counts pauses, so that the trial is told from starts that began before
}

// holds reports whether a start has to wait.
func (s *streak) holds(now time.Time) bool { return s.pauses > 0 && now.Before(s.until) }

// begin lets a start through and returns by what its outcome is known.
func (s *streak) begin(now time.Time) (turn uint64) {
	if s.pauses > 0 {
		s.trying, s.until = true, now.Add(trialTime)
	}
	return s.turn
}

// fail takes the failure of a start. Only a trial makes pauses longer: however many starts were under way when the first
// pause began, they tell no more than one. apt says whether a first pause may begin.
func (s *streak) fail(turn uint64, now time.Time, chance float64, apt bool) {
	s.failures++
	switch {
	case s.pauses == 0 && (s.failures < failuresInARow || !apt):
		return
	case s.pauses > 0 && !(s.trying && turn == s.turn):
		return
	}
	s.pauses++
	s.turn++
	s.trying, s.until = false, now.Add(pauseFor(s.pauses, chance))
}

// pass takes a start that told nothing: the next one may try at once.
func (s *streak) pass(turn uint64, now time.Time) {
	if s.pauses > 0 && s.trying && turn == s.turn {
		s.trying, s.until = false, now
	}
}

// backoff decides which starts of a kind go ahead. Failures of one actor hold that actor back; failures in a row of several, with
// no start that succeeded in between, hold back all of the kind. It knows no clock and no chance of its own.
type backoff struct {
	version string // of the kind that this is about
	kind    streak
	several bool         // the failures in a row are of more than one actor
	last    abi.Identity // whose failure was the last of them
	err     string       // of the failure before
	sick    [mostSick]patient
}

// patient is an actor whose last starts failed.
type patient struct {
	streak
	id   abi.Identity
	when time.Time // of the last failure
	err  string
}

// attempt is what a start that was let through is known by.
type attempt struct {
	id        abi.Identity
	kind, own uint64
}

// healthy reports whether there is nothing to remember.
func (b *backoff) healthy() bool {
	if b.kind.failures > 0 {
		return false
	}
	for i := range b.sick {
		if b.sick[i].failures > 0 {
			return false
		}
	}
	return true
}

// holds returns what holds a start back, nil if nothing does.
func (b *backoff) holds(id abi.Identity, now time.Time) *Backoff {
	if b.kind.holds(now) {
		return b.ofKind(now)
	}
	if p := b.patient(id, now); p != nil && p.holds(now) {
		return p.backoff(now)
	}
	return nil
}

// begin lets a start through that nothing holds back.
func (b *backoff) begin(id abi.Identity, now time.Time) attempt {
	a := attempt{id: id, kind: b.kind.begin(now)}
	if p := b.patient(id, now); p != nil {
		a.own = p.begin(now)
	}
	return a
}

// failed takes the failure of a start.
func (b *backoff) failed(a attempt, err string, now time.Time, chance float64) {
	if b.kind.failures > 0 && b.last != a.id {
		b.several = true
	}
	b.last, b.err = a.id, err
	b.kind.fail(a.kind, now, chance, b.several)
	p := b.patient(a.id, now)
	if p == nil { // in the place of the one that failed longest ago
		p = &b.sick[0]
		for i := range b.sick {
			if b.sick[i].when.Before(p.when) {
				p = &b.sick[i]
			}
		}
		*p = patient{id: a.id}
	}
	p.when, p.err = now, err
	p.fail(a.own, now, chance, true)
}

// started takes a start that succeeded. If all of the kind was held back, what is known of single actors was the same
// fault, and is forgotten with it.
func (b *backoff) started(a attempt, now time.Time) {
	if b.kind.pauses > 0 {
		b.sick = [mostSick]patient{}
	} else if p := b.patient(a.id, now); p != nil {
		*p = patient{}
	}
	b.kind = streak{turn: b.kind.turn + 1}
	b.several, b.last = false, abi.Identity{}
}

// passed takes a start that told nothing.
func (b *backoff) passed(a attempt, now time.Time) {
	b.kind.pass(a.kind, now)
	if p := b.patient(a.id, now); p != nil {
		p.pass(a.own, now)
	}
}

// patient finds an actor among those that failed.
func (b *backoff) patient(id abi.Identity, now time.Time) *patient {
	for i := range b.sick {
		if p := &b.sick[i]; p.failures > 0 && p.id == id {
			if p.forgotten(now) {
				*p = patient{}
				return nil
			}
			return p
		}
	}
	return nil
}

func (p *patient) forgotten(now time.Time) bool { return now.Sub(p.when) > longestPause+forgetAfter }

// Backoff says which starts are held back, and why.
type Backoff struct {
	Actor    abi.Identity  // only its starts; the zero value: all of the kind
	Actors   int           // how many actors are held back by themselves, with Actor one of them
	Failures int           // in a row
	Wait     time.Duration // until one is tried; 0: the next one that is asked for
	Trying   bool          // one is under way
	Err      string        // of the last failure
}

// state says what is held back: all of the kind, else single actors, of which it names the one that failed last; else nil.
func (b *backoff) state(now time.Time) *Backoff {
	if b.kind.pauses > 0 {
		return b.ofKind(now)
	}
	var worst *patient
	n := 0
	for i := range b.sick {
		if p := &b.sick[i]; p.pauses > 0 && !p.forgotten(now) {
			n++
			if worst == nil || p.when.After(worst.when) {
				worst = p
			}
		}
	}
	if worst == nil {
		return nil
	}
	s := worst.backoff(now)
	s.Actors = n
	return s
}

func (b *backoff) ofKind(now time.Time) *Backoff { return b.kind.backoff(now, b.err) }

func (p *patient) backoff(now time.Time) *Backoff {
	s := p.streak.backoff(now, p.err)
	s.Actor, s.Actors = p.id, 1
	return s
}

func (s *streak) backoff(now time.Time, err string) *Backoff {
	b := &Backoff{Failures: s.failures, Trying: s.trying && now.Before(s.until), Err: err}
	if !b.Trying {
		b.Wait = max(0, s.until.Sub(now))
	}
	return b
}

// Next says when a start is tried.
func (b *Backoff) Next() string {
	switch {
	case b.Trying:
		return "one is tried just now"
	case b.Wait <= 0:
		return "the next one is tried"
	case b.Wait < time.Second:
		return "next try in " + b.Wait.Round(time.Millisecond).String()
	}
	return "next try in " + b.Wait.Round(100*time.Millisecond).String()
}

// refusal is what those get whose start is held back: retryable, and for the caller to know at once. The codes by which the cluster
// itself tries again would only have it ask here again and again.
func (b *Backoff) refusal(kind string) error {
	who := "kind " + kind
	if !b.Actor.IsZero() {
		who = b.Actor.Key()
	}
	return abi.NewError(abi.ErrOverloaded, "starts of "+who+" are held back, since "+strconv.Itoa(b.Failures)+" in a row failed; "+b.Next()+
		"; the last error: "+b.Err)
}
