package link

import (
	"time"

	"github.com/wasilo/wasilo/abi"
)

// call is one request that awaits its reply. Its owner is whoever took it out of the table: the reader with the reply, the
// sweeper at its deadline, the caller that gave up, or the end of the connection.
type call struct {
	answered chan struct{}       // of a caller that waits; buffers one
	done     func([]byte, error) // of one that does not

	env      *abi.Envelope // what is sent, until its frame is written: this
	ask      *question     // or this
	pass     *passage      // or this, for or through a relay; env or ask is what it has, then
	request  bool          // false: one-way, never in the table
	id       uint64
	deadline time.Duration // on the link's clock
	start    uint64        // where its frame begins in the stream
	written  bool          // start is set
	size     int           // bytes that it counts for

	payload []byte
	err     error
}

// payloadSize returns the bytes of what is to be sent.
func (k *call) payloadSize() int {
	if k.pass != nil {
		return k.pass.size()
	}
	if k.ask != nil {
		return len(k.ask.payload)
	}
	return len(k.env.Payload)
}

// unsend drops what was to be sent; empty reports that there is nothing to be sent any more.
func (k *call) unsend()     { k.env, k.ask, k.pass = nil, nil, nil }
func (k *call) empty() bool { return k.env == nil && k.ask == nil && k.pass == nil }

// answer ends the call. The caller of answer owns it, and gives it up.
func (k *call) answer(l *Link, payload []byte, err error) {
	if k.answered != nil {
		k.payload, k.err = payload, err
		k.answered <- struct{}{}
		return
	}
	done := k.done
	l.putCall(k)
	if done != nil {
		done(payload, err)
	}
}

// getCall returns a call for a caller that waits.
func (l *Link) getCall() *call {
	k, _ := l.waiting.Get().(*call)
	if k == nil {
		k = &call{answered: make(chan struct{}, 1)}
	}
	return k
}

// getPost returns a call whose outcome goes to done.
func (l *Link) getPost(done func([]byte, error)) *call {
	k, _ := l.posted.Get().(*call)
	if k == nil {
		k = &call{}
	}
	k.done = done
	return k
}

// putCall takes back a call that nobody else knows any more. One that was never written may still stand in a list of those that
// wait for a connection.
func (l *Link) putCall(k *call) {
	if !k.written {
		return
	}
	*k = call{answered: k.answered}
	if k.answered != nil {
		l.waiting.Put(k)
	} else {
		l.posted.Put(k)
	}
}

// calls is a connection's table of calls, by id: a slot's number and, above slotBits, how often the slot has been used. So an id is
// found without hashing, is never used twice, and one that was never given out can be told from one whose caller has left.
type calls struct {
	slots []slot
	free  []uint32
	live  int
	bytes int
}

type slot struct {
	call *call
	uses uint64
}

const slotBits = 16

func (t *calls) add(k *call) {
	var at uint32
	if n := len(t.free); n > 0 {
		at, t.free = t.free[n-1], t.free[:n-1]
	} else {
		at = uint32(len(t.slots))
		t.slots = append(t.slots, slot{})
	}
	s := &t.slots[at]
	s.call = k
	s.uses++
	k.id = s.uses<<slotBits | uint64(at)
	t.live++
	t.bytes += k.size
}

// take removes the call of an id; nil if it has left already. known is false for an id that was never given out.
func (t *calls) take(id uint64) (k *call, known bool) {
	at, uses := id&(1<<slotBits-1), id>>slotBits
	if at >= uint64(len(t.slots)) || uses == 0 || uses > t.slots[at].uses {
		return nil, false
	}
	s := &t.slots[at]
	if uses != s.uses || s.call == nil {
		return nil, true
	}
	k, s.call = s.call, nil
	t.free = append(t.free, uint32(at))
	t.live--
	t.bytes -= k.size
	return k, true
}

// due removes the calls whose deadline has passed and returns them, and the next deadline (forever without one).
func (t *calls) due(now time.Duration) (late []*call, next time.Duration) {
	next = forever
	if t.live == 0 {
		return nil, next
	}
	for i := range t.slots {
		k := t.slots[i].call
		switch {
		case k == nil:
		case k.deadline <= now:
			t.take(k.id)
			late = append(late, k)
		default:
			next = min(next, k.deadline)
		}
	}
	return late, next
}

// all removes every call.
func (t *calls) all() []*call {
	late, _ := t.due(forever)
	return late
}

const forever = time.Duration(1<<63 - 1)
