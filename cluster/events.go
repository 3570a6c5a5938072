package cluster

import (
	"context"
	"errors"
	"sync"
)

// Why [Subscription.Next] has nothing more to return.
var (
	// ErrEventsClosed: the subscription or the stream was closed, and everything before that has been returned.
	ErrEventsClosed = errors.New("the event stream is closed")
	// ErrEventsLagged: the subscriber fell further behind than it may, and was cut off.
	ErrEventsLagged = errors.New("the subscriber fell too far behind and was cut off from the event stream")
)

// DefaultEventLag is how many events a subscriber may be behind before it is cut off.
const DefaultEventLag = 1 << 20

// EventStream hands every event to every subscriber once and in order, each at its own pace. Publishing never waits for a
// subscriber: the events are one linked list of chunks, of which a subscriber holds the part it has yet to read. What everybody
// has read is garbage, so without subscribers nothing is kept.
type EventStream struct {
	mu     sync.Mutex
	tail   *chunk
	count  uint64 // events published
	subs   map[*Subscription]struct{}
	closed bool
}

const chunkLen = 32

type chunk struct {
	events [chunkLen]Event
	n      int // how many are set; guarded by the stream's mu
	next   *chunk
}

func newEventStream() *EventStream {
	return &EventStream{tail: new(chunk), subs: make(map[*Subscription]struct{})}
}

// Subscription is one subscriber's place in an [EventStream]. Next and TryNext are for one goroutine at a time.
type Subscription struct {
	stream *EventStream
	wake   chan struct{} // holds a token when there may be something new

	// guarded by stream.mu
	at   *chunk
	i    int    // of the next event in at
	read uint64 // the stream's count at that place
	lag  uint64
	err  error // final once set
}

// Subscribe begins with the next event published. lag is how many events the subscriber may be behind before it is cut
// off with [ErrEventsLagged]; 0 is [DefaultEventLag].
func (s *EventStream) Subscribe(lag int) *Subscription {
	if lag <= 0 {
		lag = DefaultEventLag
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := &Subscription{stream: s, wake: make(chan struct{}, 1), at: s.tail, i: s.tail.n, read: s.count, lag: uint64(lag)}
	if s.closed {
		sub.err = ErrEventsClosed
		return sub
	}
	s.subs[sub] = struct{}{}
	return sub
}

// publish appends events.
func (s *EventStream) publish(events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.count += uint64(len(events))
	if len(s.subs) == 0 {
		return
	}
	for i := range events {
		if s.tail.n == chunkLen {
			s.tail.next = new(chunk)
			s.tail = s.tail.next
		}
		s.tail.events[s.tail.n] = events[i]
		s.tail.n++
	}
	for sub := range s.subs {
		if s.count-sub.read > sub.lag {
			sub.endLocked(ErrEventsLagged)
		}
		sub.signal()
	}
}

// close lets subscribers read what there is and then ends them.
func (s *EventStream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for sub := range s.subs {
		sub.signal()
	}
}

func (sub *Subscription) signal() {
	select {
	case sub.wake <- struct{}{}:
	default:
	}
}

// endLocked drops the subscriber's place in the stream, and with it what only it had yet to read.
func (sub *Subscription) endLocked(err error) {
	if sub.err == nil {
		sub.err, sub.at = err, nil
		delete(sub.stream.subs, sub)
	}
}

// Next returns the next event, waiting for it until ctx ends. The error is ctx's, [ErrEventsClosed] or [ErrEventsLagged].
func (sub *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		ev, ok, err := sub.next()
		if ok || err != nil {
			return ev, err
		}
		select {
		case <-sub.wake:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// TryNext returns the next event if it has been published.
func (sub *Subscription) TryNext() (Event, bool) {
	ev, ok, _ := sub.next()
	return ev, ok
}

func (sub *Subscription) next() (ev Event, ok bool, err error) {
	s := sub.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.err != nil {
		return Event{}, false, sub.err
	}
	if sub.i == chunkLen && sub.at.next != nil {
		sub.at, sub.i = sub.at.next, 0
	}
	if sub.i < sub.at.n {
		ev = sub.at.events[sub.i]
		sub.i++
		sub.read++
		return ev, true, nil
	}
	if s.closed {
		sub.endLocked(ErrEventsClosed)
	}
	return Event{}, false, sub.err
}

// Close ends the subscription and a Next that waits.
func (sub *Subscription) Close() {
	sub.stream.mu.Lock()
	sub.endLocked(ErrEventsClosed)
	sub.stream.mu.Unlock()
	sub.signal()
}
