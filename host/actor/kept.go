package actor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/wasilo/wasilo/abi"
)

// What a keeper has of an activation, numbers being LEB128, is the last token and the instance's state. With timers, as an actor has them
// that is surrendered, more stands before these:
//
//	timedMark   with which no number begins
//	when        it was kept, in nanoseconds since 1970, signed
//	count       of timers, not 0
//	timers      by name, each: bytes of the name, the name; nanoseconds left, signed; nanoseconds of the interval, or 0; 1 + bytes of the payload,
//	            or 0 without one; the payload
//
// A wasilo that knows only what has no timers finds no number there, and refuses it as damaged.
type kept struct {
	at     time.Time // of the timers; whoever wakes them may have another clock
	timers []keptTimer
	token  uint64
	state  []byte
}

type keptTimer struct {
	name    string
	left    time.Duration // negative: it is overdue
	every   time.Duration
	payload []byte
}

// timedMark is too large for a number by its last byte. Others, above 1, are for what else may be kept one day.
const timedMark = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"

// Timed reports whether there are timers in what an activation has given its [Keeper].
func Timed(state []byte) bool { return bytes.HasPrefix(state, []byte(timedMark)) }

// appendTo appends all of it but the state.
func (k *kept) appendTo(dst []byte) []byte {
	if len(k.timers) > 0 {
		dst = append(dst, timedMark...)
		dst = binary.AppendVarint(dst, k.at.UnixNano())
		dst = binary.AppendUvarint(dst, uint64(len(k.timers)))
		for i := range k.timers {
			t := &k.timers[i]
			dst = append(binary.AppendUvarint(dst, uint64(len(t.name))), t.name...)
			dst = binary.AppendVarint(dst, int64(t.left))
			dst = binary.AppendUvarint(dst, uint64(t.every))
			if t.payload == nil {
				dst = append(dst, 0)
			} else {
				dst = append(binary.AppendUvarint(dst, uint64(len(t.payload))+1), t.payload...)
			}
		}
	}
	return binary.AppendUvarint(dst, k.token)
}

// readKept reads what appendTo has written; the state is part of b. It comes from other nodes, too. What is damaged is state_unusable, and
// what is more than this node lets an actor have limit_exceeded.
func readKept(b []byte, limits *Limits) (k kept, err error) {
	r := keptReader{b: b}
	if Timed(b) {
		r.b = b[len(timedMark):]
		k.at = time.Unix(0, r.signed())
		n := r.number(uint64(len(b)))
		if n == 0 {
			r.fail("it has no timers, and says so twice")
		}
		if r.err == nil && n > limits.MaxTimers {
			return k, abi.NewError(abi.ErrLimitExceeded, "the actor's state has "+strconv.Itoa(n)+" timers; the limit is "+strconv.Itoa(limits.MaxTimers))
		}
		for last := ""; n > 0 && r.err == nil; n-- {
			t := r.timer()
			if r.err == nil && t.name <= last {
				r.fail("its timers are out of order")
			}
			if r.err == nil && len(t.payload) > limits.MaxMessage {
				return k, abi.NewError(abi.ErrLimitExceeded, "the actor's state has a timer with a payload of "+strconv.Itoa(len(t.payload))+
					" bytes; the limit is "+strconv.Itoa(limits.MaxMessage)+" (limits.max_message, or that of the kind)")
			}
			last = t.name
			k.timers = append(k.timers, t)
		}
	}
	k.token = r.uvarint()
	k.state = r.b
	if r.err != nil {
		return kept{}, abi.NewError(abi.ErrStateUnusable, "the actor's state is damaged: "+r.err.Error())
	}
	return k, nil
}

// keptReader reads numbers and what they count; the first failure sticks.
type keptReader struct {
	b   []byte
	err error
}

func (r *keptReader) fail(why string) {
	if r.err == nil {
		r.err, r.b = errors.New(why), nil
	}
}

func (r *keptReader) uvarint() uint64 {
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("it has no beginning")
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *keptReader) signed() int64 {
	x, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("it has no beginning")
		return 0
	}
	r.b = r.b[n:]
	return x
}

// number reads one of at most most.
func (r *keptReader) number(most uint64) int {
	x := r.uvarint()
	if x > most {
		r.fail("a number of its timers is too large")
		return 0
	}
	return int(x)
}

func (r *keptReader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("it is cut off in its timers")
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// timer reads a timer, which keeps nothing of the bytes.
func (r *keptReader) timer() (t keptTimer) {
	name := r.take(r.number(abi.MaxTimerNameLen))
	if len(name) == 0 || !utf8.Valid(name) {
		r.fail("a timer's name is none")
	}
	t.name = string(name)
	t.left = time.Duration(r.signed())
	t.every = time.Duration(r.number(uint64(abi.MaxDuration)))
	if t.left < -abi.MaxDuration || t.left > abi.MaxDuration || t.every > 0 && t.every < minEvery {
		r.fail("a timer's time is none")
	}
	if n := r.number(uint64(len(r.b)) + 1); n > 0 {
		t.payload = append([]byte{}, r.take(n-1)...)
	}
	return t
}

// wall is the time by which what is kept grows old: whoever wakes it has no other clock in common.
func (a *Activation) wall(now time.Time) time.Time {
	if a.cfg.Wall != nil {
		now = a.cfg.Wall(now)
	}
	return now.Round(0)
}

// leaving is what the activation has beside its instance for whoever goes on.
func (a *Activation) leaving() *kept {
	now := time.Now()
	k := &kept{at: a.wall(now), token: a.nextToken}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(a.timers)) {
		t := a.timers[name]
		left := min(max(t.next.Sub(now), -abi.MaxDuration), abi.MaxDuration)
		k.timers = append(k.timers, keptTimer{name, left, min(t.every, abi.MaxDuration), t.payload})
	}
	return k
}
