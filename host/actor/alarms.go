package actor

import (
	"container/heap"
	"sync"
	"time"
)

// alarms calls functions at their times, all those that are due on one goroutine. A timer for each would make a goroutine for each, and a turn
// that has started a thousand requests lets a thousand go off at once: whoever yields then waits until all have run. The zero value is
// usable, from any goroutine.
type alarms struct {
	mu    sync.Mutex
	queue alarmQueue
	clock *time.Timer
	armed time.Time // when the clock goes off; zero: it stands
}

// alarm has ring called at a time, on a goroutine that it must not keep. Most activations never do that, so they have alarms with the first.
func (a *Activation) alarm(at time.Time, ring func()) *alarm {
	s := a.alarms.Load()
	for s == nil {
		a.alarms.CompareAndSwap(nil, &alarms{})
		s = a.alarms.Load()
	}
	return s.set(at, ring)
}

// alarm is one function and its time.
type alarm struct {
	of   *alarms
	at   time.Time
	ring func()
	pos  int // in the queue; notQueued
}

const notQueued = -1

// set has ring called at a time, without a lock held. It is called at most once, on a goroutine that it must not keep.
func (s *alarms) set(at time.Time, ring func()) *alarm {
	a := &alarm{of: s, at: at, ring: ring}
	s.mu.Lock()
	defer s.mu.Unlock()
	heap.Push(&s.queue, a)
	s.arm()
	return a
}

// stop takes an alarm back, if it is one. One that is going off now is not stopped.
func (a *alarm) stop() {
	if a == nil {
		return
	}
	s := a.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.pos != notQueued {
		heap.Remove(&s.queue, a.pos)
		s.arm()
	}
}

// arm sets the clock to the first alarm; one that goes off too early does no harm, and one is not kept for nothing. s.mu is held.
func (s *alarms) arm() {
	switch {
	case len(s.queue) == 0:
		if !s.armed.IsZero() {
			s.clock.Stop()
		}
		s.queue, s.armed = nil, time.Time{}
	case s.armed.IsZero() || s.queue[0].at.Before(s.armed):
		s.armed = s.queue[0].at
		if d := time.Until(s.armed); s.clock == nil {
			s.clock = time.AfterFunc(d, s.ring)
		} else {
			s.clock.Reset(d)
		}
	}
}

// ring calls what is due, and then sets the clock anew.
func (s *alarms) ring() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || time.Now().Before(s.queue[0].at) {
			s.armed = time.Time{}
			s.arm()
			s.mu.Unlock()
			return
		}
		a := heap.Pop(&s.queue).(*alarm)
		s.mu.Unlock()
		a.ring()
	}
}

// alarmQueue is a heap, the earliest first.
type alarmQueue []*alarm

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q alarmQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].pos, q[j].pos = i, j
}

func (q *alarmQueue) Push(x any) {
	a := x.(*alarm)
	a.pos = len(*q)
	*q = append(*q, a)
}

func (q *alarmQueue) Pop() any {
	last := len(*q) - 1
	a := (*q)[last]
	(*q)[last], *q = nil, (*q)[:last]
	a.pos = notQueued
	return a
}
