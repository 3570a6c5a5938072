package actor

import (
	"cmp"
	"slices"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// minEvery is the shortest interval of a repeating timer; a timer has at most one event in the mailbox however slow its
// actor is.
const minEvery = time.Millisecond

// timer is a volatile timer: it keeps the activation from being passivated as idle, and dies with it. But where a surrendered actor's state is kept
// it is kept as well.
type timer struct {
	gen     uint64
	next    time.Time
	every   time.Duration
	payload []byte
	alarm   *alarm
}

// setTimer sets the timer of a name, in place of one that it may have.
func (a *Activation) setTimer(e *abi.Effect, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timers == nil {
		a.timers = make(map[string]*timer)
	}
	if old := a.timers[e.Name]; old != nil {
		old.alarm.stop()
	}
	a.lastTimer++ // never used twice: an event of a cancelled timer may still wait when its name is set again
	t := &timer{gen: a.lastTimer, next: now.Add(e.After), every: e.Every, payload: e.Payload}
	if t.every > 0 {
		t.every = max(t.every, minEvery)
	}
	a.timers[e.Name] = t
	a.arm(e.Name, t)
}

// arm sets t's alarm. The caller holds a.mu.
func (a *Activation) arm(name string, t *timer) {
	t.alarm = a.alarm(t.next, func() { a.internal(t.event(name)) })
}

func (t *timer) event(name string) message {
	return message{tag: abi.EventTimer, own: &own{name: name, gen: t.gen, payload: t.payload}}
}

// setAgain sets the timers that an earlier activation left, which had no time to stand still. Events that are overdue wait from now on, in
// their order. The caller owns running.
func (a *Activation) setAgain(k *kept) {
	if len(k.timers) == 0 {
		return
	}
	now := time.Now()
	passed := min(max(a.wall(now).Sub(k.at), 0), abi.MaxDuration) // at least none: the clocks of nodes differ
	slices.SortStableFunc(k.timers, func(x, y keptTimer) int { return cmp.Compare(x.left, y.left) })
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timers = make(map[string]*timer, len(k.timers))
	for i := range k.timers {
		z := &k.timers[i]
		a.lastTimer++
		t := &timer{gen: a.lastTimer, next: now.Add(z.left - passed), every: z.every, payload: z.payload}
		a.timers[z.name] = t
		if t.next.After(now) {
			a.arm(z.name, t)
		} else {
			a.queue.push(t.event(z.name))
		}
	}
}

func (a *Activation) dropTimer(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.timers[name]; t != nil {
		t.alarm.stop()
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
	a.arm(m.name, t)
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
	t := &timer{gen: m.gen, next: time.Now().Add(againAfter), payload: m.payload}
	a.timers[m.name] = t
	a.arm(m.name, t)
	return true
}
