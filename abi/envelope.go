package abi

import (
	"strconv"
	"time"
)

// Request is what a guest asks for in the imports `request` and `start`.
type Request struct {
	Target         Identity
	Method         string
	Payload        []byte
	Timeout        time.Duration // 0 is the node's default; never longer than the turn has left
	Flags          Flags
	IdempotencyKey string
}

// AppendRequest appends r's encoding.
func AppendRequest(b []byte, q *Request) []byte {
	f := beginFields(b)
	f.text(keyMethod, q.Method)
	f.bytes(keyPayload, q.Payload)
	f.identity(keyTarget, q.Target)
	f.uint(keyTimeout, toMillis(q.Timeout))
	f.uint(keyFlags, uint64(q.Flags))
	f.text(keyIdempotency, q.IdempotencyKey)
	return f.end()
}

// DecodeRequest reads what [AppendRequest] wrote into q, which it overwrites. The payload aliases b.
func DecodeRequest(b []byte, q *Request) error {
	*q = Request{}
	r := NewReader(b)
	r.pairs(func(k uint64) bool {
		switch k {
		case keyMethod:
			q.Method = r.Text()
		case keyPayload:
			q.Payload = r.Bytes()
		case keyTarget:
			q.Target = r.identity()
		case keyTimeout:
			q.Timeout = millis(r.Uint())
		case keyFlags:
			q.Flags = Flags(r.Uint32())
		case keyIdempotency:
			q.IdempotencyKey = r.Text()
		default:
			return false
		}
		return true
	})
	if r.err == nil {
		switch {
		case q.Target.IsZero():
			r.Fail("a request needs a target (key 3)")
		case checkMethod(q.Method) != "":
			r.Fail(checkMethod(q.Method))
		case q.Flags&^knownFlags != 0:
			r.Fail("unknown flags (key 8)")
		case len(q.IdempotencyKey) > MaxIdempotencyLen:
			r.Fail("the idempotency key (key 12) is too long")
		}
	}
	r.End()
	return r.Err()
}

// Envelope is one message on its way to an actor, on this node or to another.
type Envelope struct {
	Target         Identity
	Method         string
	Payload        []byte    // CBOR, opaque; whoever holds the envelope must not change it
	Deadline       time.Time // on this process's monotonic clock; it travels as the time left
	TraceParent    string    // W3C trace context
	TraceState     string
	IdempotencyKey string
	Caller         Identity // zero: a client from outside
	SenderEpoch    Epoch    // of the caller's activation
	// Chain lists the actors whose running turn cannot end before this message is answered, the outermost first.
	// A target that is in it would wait for itself.
	Chain []Identity
	Flags Flags
}

// AppendEnvelope appends v's encoding for another node; the deadline becomes the milliseconds left at now.
func AppendEnvelope(b []byte, v *Envelope, now time.Time) []byte {
	f := beginFields(b)
	f.text(keyMethod, v.Method)
	f.bytes(keyPayload, v.Payload)
	f.identity(keyTarget, v.Target)
	if !v.Deadline.IsZero() {
		f.key(keyTimeout)
		f.b = AppendUint(f.b, toMillis(v.Deadline.Sub(now)))
	}
	f.uint(keyFlags, uint64(v.Flags))
	f.identity(keyCaller, v.Caller)
	f.text(keyTraceParent, v.TraceParent)
	f.text(keyTraceState, v.TraceState)
	f.text(keyIdempotency, v.IdempotencyKey)
	if len(v.Chain) > 0 {
		f.key(keyChain)
		f.b = AppendArray(f.b, len(v.Chain))
		for _, id := range v.Chain {
			f.b = appendIdentity(f.b, id)
		}
	}
	f.epoch(keyEpoch, v.SenderEpoch)
	return f.end()
}

// DecodeEnvelope reads what [AppendEnvelope] wrote into v, which it overwrites; the payload aliases b, the deadline is
// counted from now.
func DecodeEnvelope(b []byte, v *Envelope, now time.Time) error {
	*v = Envelope{}
	r := NewReader(b)
	r.pairs(func(k uint64) bool {
		switch k {
		case keyMethod:
			v.Method = r.Text()
		case keyPayload:
			v.Payload = r.Bytes()
		case keyTarget:
			v.Target = r.identity()
		case keyTimeout:
			v.Deadline = now.Add(millis(r.Uint()))
		case keyFlags:
			v.Flags = Flags(r.Uint32())
		case keyCaller:
			v.Caller = r.identity()
		case keyTraceParent:
			v.TraceParent = string(cut(r.TextBytes(), MaxTraceLen))
		case keyTraceState:
			v.TraceState = string(cut(r.TextBytes(), MaxTraceLen))
		case keyIdempotency:
			v.IdempotencyKey = r.Text()
		case keyChain:
			n := r.Array()
			if n > MaxChain {
				r.Fail("a call chain of more than " + strconv.Itoa(MaxChain) + " actors")
				return true
			}
			for ; n > 0 && r.err == nil; n-- {
				v.Chain = append(v.Chain, r.identity())
			}
		case keyEpoch:
			v.SenderEpoch = r.epoch()
		default:
			return false
		}
		return true
	})
	if r.err == nil {
		switch {
		case v.Target.IsZero():
			r.Fail("an envelope needs a target (key 3)")
		case checkMethod(v.Method) != "":
			r.Fail(checkMethod(v.Method))
		case len(v.IdempotencyKey) > MaxIdempotencyLen:
			r.Fail("the idempotency key (key 12) is too long")
		}
	}
	r.End()
	return r.Err()
}
