package actor

import (
	"time"

	"github.com/wasilo/wasilo/abi"
)

// minEvery is the shortest interval of a repeating timer; a timer has at most one event in the mailbox however slow its
// actor is.
const minEvery = time.Millisecond

// timer is a volatile timer: it dies with the activation, and keeps it from being passivated as idle.
type timer struct {
	gen     uint64
	next    time.Time
	every   time.Duration
	payload []byte
	clock   *time.Timer
}

func (t *timer) stop() {
	if t.clock != nil {
		t.clock.Stop()
	}
}

// setTimer sets the timer of a name, in place of one that it may have.
func (a *Activation) setTimer(e *abi.Effect, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timers == nil {
		a.timers = make(map[string]*timer)
	}
	if old := a.timers[e.Name]; old != nil {
		old.stop()
	}
	a.lastTimer++ // never used twice: an event of a cancelled timer may still wait when its name is set again
	t := &timer{gen: a.lastTimer, next: now.Add(e.After), every: e.Every, payload: e.Payload}
	if t.every > 0 {
		t.every = max(t.every, minEvery)
	}
	a.timers[e.Name] = t
	a.arm(e.Name, t, now)
}

// arm starts t's clock. The caller holds a.mu.
func (a *Activation) arm(name string, t *timer, now time.Time) {
	t.clock = time.AfterFunc(t.next.Sub(now), func() {
		a.internal(message{tag: abi.EventTimer, own: &own{name: name, gen: t.gen, payload: t.payload}})
	})
}

func (a *Activation) dropTimer(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.timers[name]; t != nil {
		t.stop()
		delete(a.timers, name)
	}
}

// takeTimer reports whether a timer's event still counts, and sets the next one of a repeating timer: its rhythm is kept,
// ticks that passed meanwhile are skipped. Once the activation is to end, timers count only while something that it has to wait for may need
// them; where it may be told to go on after all, they are put off.
func (a *Activation) takeTimer(m *own) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.timers[m.name]
	leaves := a.stopFor != "" && len(a.deferred)+len(a.calls) == 0
	if t == nil || t.gen != m.gen || leaves && a.handing == handsNothing {
		return false
	}
	now := time.Now()
	switch {
	case t.every > 0:
		t.next = t.next.Add(t.every)
		if late := now.Sub(t.next); late > 0 {
			t.next = t.next.Add(late.Truncate(t.every) + t.every)
		}
	case leaves:
		t.next = now.Add(minEvery)
	default:
		delete(a.timers, m.name)
		return true
	}
	a.arm(m.name, t, now)
	return !leaves
}

// putTimer sets a timer again that [Activation.takeTimer] took for a turn that did not begin. One that repeats is set already.
func (a *Activation) putTimer(m *own) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timers[m.name] != nil {
		return false
	}
	if a.timers == nil {
		a.timers = make(map[string]*timer)
	}
	now := time.Now()
	t := &timer{gen: m.gen, next: now.Add(againAfter), payload: m.payload}
	a.timers[m.name] = t
	a.arm(m.name, t, now)
	return true
}
