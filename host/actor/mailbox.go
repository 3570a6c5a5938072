package actor

import (
	"context"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// message is one entry of a mailbox.
type message struct {
	tag  abi.EventTag
	env  *abi.Envelope // call, message
	to   replier       // call; nil: nobody waits
	edge *edge         // call: who waits meanwhile; nil: no actor does
	own  *own          // completion, timer

	inline bool // call: its caller runs the turn
}

// own is an event that an activation sends to itself.
type own struct {
	handle  uint64 // completion
	method  string
	err     *abi.Error
	token   uint64 // completion: of the deferred call on whose behalf the call was made, 0 without one
	wake    bool   // neither: it takes nothing but an instance
	name    string // timer
	gen     uint64
	payload []byte
}

func (m *message) fail(err error) { m.answer(nil, err) }

func (m *message) answer(payload []byte, err error) {
	m.edge.drop()
	if m.to != nil {
		m.to.complete(payload, err)
	}
}

// expired reports whether nobody waits for the message any more.
func (m *message) expired(now time.Time) bool {
	return m.env != nil && !m.env.Deadline.IsZero() && m.env.Deadline.Before(now)
}

// replier takes one outcome.
type replier interface {
	complete(payload []byte, err error)
}

// doneFunc is a replier that is a function.
type doneFunc func([]byte, error)

func (f doneFunc) complete(payload []byte, err error) { f(payload, err) }

// mailbox is a growing ring of messages; the limit is its user's.
type mailbox struct {
	ring []message
	head int
	n    int
}

// keepRing is how many places an idle actor's mailbox keeps: a burst is no reason to keep its room.
const keepRing = 8

func (q *mailbox) len() int { return q.n }

func (q *mailbox) push(m message) {
	q.grow()
	q.ring[(q.head+q.n)%len(q.ring)] = m
	q.n++
}

// pushFront puts a message back that had been taken.
func (q *mailbox) pushFront(m message) {
	q.grow()
	q.head = (q.head + len(q.ring) - 1) % len(q.ring)
	q.ring[q.head] = m
	q.n++
}

func (q *mailbox) grow() {
	if q.n < len(q.ring) {
		return
	}
	ring := make([]message, max(keepRing, 2*len(q.ring)))
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = ring, 0
}

func (q *mailbox) pop() (message, bool) {
	if q.n == 0 {
		return message{}, false
	}
	m := q.ring[q.head]
	q.ring[q.head] = message{}
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	return m, true
}

// remove takes the first message out that is wanted, wherever it stands.
func (q *mailbox) remove(wanted func(*message) bool) (message, bool) {
	for i := range q.n {
		if !wanted(&q.ring[(q.head+i)%len(q.ring)]) {
			continue
		}
		m := q.ring[(q.head+i)%len(q.ring)]
		for ; i > 0; i-- { // those before it move up
			q.ring[(q.head+i)%len(q.ring)] = q.ring[(q.head+i-1)%len(q.ring)]
		}
		q.ring[q.head] = message{}
		q.head = (q.head + 1) % len(q.ring)
		q.n--
		return m, true
	}
	return message{}, false
}

// takeCalls takes out those messages that somebody waits for.
func (q *mailbox) takeCalls() (calls []message) {
	for range q.n {
		if m, _ := q.pop(); m.tag == abi.EventCall {
			calls = append(calls, m)
		} else {
			q.push(m)
		}
	}
	return calls
}

// take empties the mailbox.
func (q *mailbox) take() []message {
	out := make([]message, 0, q.n)
	for q.n > 0 {
		m, _ := q.pop()
		out = append(out, m)
	}
	q.ring, q.head = nil, 0
	return out
}

// shrink gives back what an idle actor does not need.
func (q *mailbox) shrink() {
	if q.n == 0 && len(q.ring) > keepRing {
		q.ring, q.head = nil, 0
	}
}

// waiter is a replier that a goroutine waits on.
type waiter struct {
	ch    chan outcome // of one
	timer *time.Timer
	edge  *edge // of the wait, to be dropped if it is given up
	home  *Waits
}

type outcome struct {
	payload []byte
	err     error
}

func (w *waiter) complete(payload []byte, err error) { w.ch <- outcome{payload, err} }

// waiter returns a waiter to use once. They are kept per node rather than per process, since a test's virtual clock
// must not meet channels and timers of another's.
func (w *Waits) waiter() *waiter {
	if old, ok := w.free.Get().(*waiter); ok {
		return old
	}
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &waiter{ch: make(chan outcome, 1), timer: t, home: w}
}

func (w *waiter) release() {
	w.edge = nil
	w.home.free.Put(w)
}

// wait waits for the outcome, ctx or the deadline. After one of the latter two the waiter is lost to its pool: the
// outcome may still come.
func (w *waiter) wait(ctx context.Context, deadline time.Time) ([]byte, error) {
	w.timer.Reset(time.Until(deadline))
	select {
	case o := <-w.ch:
		w.timer.Stop()
		w.release()
		return o.payload, o.err
	case <-w.timer.C:
		w.edge.drop()
		return nil, errLate
	case <-ctx.Done():
		w.timer.Stop()
		w.edge.drop()
		return nil, abi.NewError(abi.CodeOf(ctx.Err()), "the caller stopped waiting; the outcome is unknown")
	}
}

var (
	errLate    = abi.NewError(abi.ErrTimeout, "the deadline passed before the reply; the outcome is unknown")
	errExpired = abi.NewError(abi.ErrTimeout, "the deadline passed in the mailbox; the message had no turn")
)
