package abi

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Keys of the maps that cross between host and guest and between nodes. One table serves events, effects, requests and
// envelopes, so an SDK has one switch to write. Append, never reorder, never reuse.
const (
	keyTag         = 0
	keyMethod      = 1
	keyPayload     = 2
	keyTarget      = 3
	keyToken       = 4
	keyHandle      = 5
	keyError       = 6
	keyTimeout     = 7 // ms
	keyFlags       = 8
	keyCaller      = 9
	keyTraceParent = 10
	keyTraceState  = 11
	keyIdempotency = 12
	keySelf        = 13
	keyName        = 14
	keyAfter       = 15 // ms
	keyEvery       = 16 // ms
	keyReason      = 17
	keyChain       = 18
	keyEpoch       = 19
	keyOp          = 20 // reserved for kv
	keyKey         = 21 // reserved for kv
	keyValue       = 22 // reserved for kv
)

// Flags qualify a call.
type Flags uint32

const (
	// OnlyIfActive asks not to activate: an actor that is not active answers not_active.
	OnlyIfActive Flags = 1 << iota
	// MustExist asks not to create: an actor without stored state answers not_active.
	MustExist
	// OneWay asks for no reply: a `message` rather than a `call`.
	OneWay
	// Idempotent says that the call may be sent again when its outcome is unknown.
	Idempotent

	knownFlags = OnlyIfActive | MustExist | OneWay | Idempotent
)

// fields counts and writes the pairs of one map whose absent fields are left out.
type fields struct {
	b []byte
	n int
	// at is the offset of the map's head, one byte: no map here has more than 23 keys.
	at int
}

func beginFields(b []byte) fields {
	return fields{b: append(b, majorMap<<5), at: len(b)}
}

func (f *fields) key(k uint64) {
	f.n++
	f.b = AppendUint(f.b, k)
}

func (f *fields) uint(k, v uint64) {
	if v != 0 {
		f.key(k)
		f.b = AppendUint(f.b, v)
	}
}

// text writes v with whatever is not UTF-8 in it replaced: one stray byte of a header or of an error's text would
// otherwise make the whole map unreadable at the other end. The replacement is never longer than what it replaces.
func (f *fields) text(k uint64, v string) {
	if v != "" {
		f.key(k)
		if !utf8.ValidString(v) {
			v = strings.ToValidUTF8(v, "?")
		}
		f.b = AppendText(f.b, v)
	}
}

func (f *fields) identity(k uint64, v Identity) {
	if !v.IsZero() {
		f.key(k)
		f.b = appendIdentity(f.b, v)
	}
}

func (f *fields) bytes(k uint64, v []byte) {
	if v != nil {
		f.key(k)
		f.b = AppendBytes(f.b, v)
	}
}

func (f *fields) err(k uint64, v *Error) {
	if v != nil {
		f.key(k)
		f.b = AppendError(f.b, v)
	}
}

func (f *fields) epoch(k uint64, v Epoch) {
	if v != (Epoch{}) {
		f.key(k)
		f.b = appendEpoch(f.b, v)
	}
}

func (f *fields) end() []byte {
	f.b[f.at] |= byte(f.n)
	return f.b
}

func appendIdentity(b []byte, v Identity) []byte {
	b = appendHead(b, majorText, uint64(len(v.kind)+1+len(v.id)))
	b = append(b, v.kind...)
	b = append(b, '/')
	return append(b, v.id...)
}

func appendEpoch(b []byte, v Epoch) []byte {
	b = AppendArray(b, 2)
	b = AppendUint(b, uint64(v.Generation))
	return AppendUint(b, v.Index)
}

func (r *Reader) epoch() Epoch {
	if n := r.Array(); n != 2 {
		r.Fail("an epoch is [generation, index]")
		return Epoch{}
	}
	return Epoch{Generation: r.Uint32(), Index: r.Uint()}
}

func (r *Reader) identity() Identity {
	at := r.off
	s := r.TextBytes()
	if r.err != nil {
		return Identity{}
	}
	id, err := ParseIdentity(string(s))
	if err != nil {
		r.off = at
		r.Fail(err.Error())
	}
	return id
}

// millis turns a count of milliseconds from outside into a duration. What is longer than [MaxDuration] reads as that,
// so that a duration may be added to any time of this century and still be told in nanoseconds.
func millis(v uint64) time.Duration {
	return time.Duration(min(v, uint64(MaxDuration/time.Millisecond))) * time.Millisecond
}

// toMillis rounds up, so that a time that is left never reads as none.
func toMillis(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	ms := uint64(d / time.Millisecond)
	if d%time.Millisecond != 0 {
		ms++
	}
	return ms
}

// pairs reads the pairs of a map: each key is handed to field, which reads its value; unknown keys and keys that are no
// integers are skipped, a key given twice is refused.
func (r *Reader) pairs(field func(key uint64) bool) {
	n := r.Map()
	var seen uint64
	for ; n > 0 && r.err == nil; n-- {
		if c, ok := r.Peek(); ok && c>>5 != majorUint {
			r.Skip()
			r.Skip()
			continue
		}
		at := r.off
		k := r.Uint()
		if k < 64 {
			if seen&(1<<k) != 0 {
				r.off = at
				r.Fail("key " + strconv.FormatUint(k, 10) + " stands twice")
				return
			}
			seen |= 1 << k
		}
		if r.err == nil && !field(k) {
			r.Skip()
		}
	}
}

// Keys of an error map.
const (
	errKeyCode    = 0
	errKeyApp     = 1
	errKeyMessage = 2
	errKeyDetails = 3
)

// AppendError appends e as a map; overlong texts are cut, overlong details left out.
func AppendError(b []byte, e *Error) []byte {
	f := beginFields(b)
	f.uint(errKeyCode, uint64(e.Code))
	f.text(errKeyApp, cut(e.App, MaxErrorCodeLen))
	f.text(errKeyMessage, cut(e.Message, MaxErrorMessageLen))
	if len(e.Details) <= MaxErrorDetailsLen {
		f.bytes(errKeyDetails, e.Details)
	}
	return f.end()
}

// Error reads an error map, cut like [AppendError] cuts; nothing of it aliases the buffer. A code that is absent is the
// actor's own error.
func (r *Reader) Error() *Error {
	e := &Error{}
	r.pairs(func(k uint64) bool {
		switch k {
		case errKeyCode:
			if v := r.Uint(); v < 1<<16 {
				e.Code = Code(v)
			} else {
				e.Code = ErrInternal
			}
		case errKeyApp:
			e.App = string(cut(r.TextBytes(), MaxErrorCodeLen))
		case errKeyMessage:
			e.Message = string(cut(r.TextBytes(), MaxErrorMessageLen))
		case errKeyDetails:
			if d := r.Bytes(); len(d) <= MaxErrorDetailsLen {
				e.Details = clone(d)
			}
		default:
			return false
		}
		return true
	})
	if e.Code == ErrNone {
		e.Code = ErrActor
	}
	return e
}

// cut shortens s to at most n bytes without splitting a character.
func cut[S ~string | ~[]byte](s S, n int) S {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}
