package abi

import "time"

// EventTag says what a turn is about. Append, never reorder.
type EventTag uint8

// The events of ABI v1. A kind is sent only those that its description declares.
const (
	EventCall       EventTag = 1 // somebody waits for a reply
	EventMessage    EventTag = 2 // nobody does
	EventCompletion EventTag = 3 // the outcome of an effect `call`
	EventTimer      EventTag = 4 // an effect `remind` is due
	EventPassivate  EventTag = 5 // the last turn before the instance goes
)

var eventNames = [...]string{EventCall: "call", EventMessage: "message", EventCompletion: "completion", EventTimer: "timer", EventPassivate: "passivate"}

// String returns the name that descriptions use.
func (t EventTag) String() string {
	if int(t) < len(eventNames) && eventNames[t] != "" {
		return eventNames[t]
	}
	return "unknown"
}

// EventTagByName finds a tag by the name that descriptions use.
func EventTagByName(name string) (EventTag, bool) {
	for t, n := range eventNames {
		if n == name && n != "" {
			return EventTag(t), true
		}
	}
	return 0, false
}

// Self tells an activation who it is. It comes with its first event.
type Self struct {
	Identity Identity
	Epoch    Epoch
	Reason   string // why it was activated: "call", "message", …
}

// Event is one turn's input. Which fields are set depends on the tag; see ABI.md.
type Event struct {
	Tag            EventTag
	Method         string        // call, message; completion: that of the call
	Payload        []byte        // call, message, timer; completion: the reply
	Token          uint64        // call: names the reply
	Handle         uint64        // completion: as the effect `call` gave it
	Err            *Error        // completion: instead of a reply
	Timer          string        // timer: its name
	Remaining      time.Duration // until the deadline of the turn
	Flags          Flags
	Caller         Identity // zero: a client from outside
	TraceParent    string
	TraceState     string
	IdempotencyKey string
	Reason         string // passivate: "idle", "shutdown", "moved", "evicted"
	Self           *Self
}

// SizeBound returns how many bytes [AppendEvent] appends at the most.
func (e *Event) SizeBound() int {
	n := 96 + len(e.Method) + len(e.Payload) + len(e.Timer) + len(e.Caller.kind) + len(e.Caller.id) +
		len(e.TraceParent) + len(e.TraceState) + len(e.IdempotencyKey) + len(e.Reason)
	if e.Err != nil {
		n += 48 + len(e.Err.App) + len(e.Err.Message) + len(e.Err.Details)
	}
	if e.Self != nil {
		n += 64 + len(e.Self.Identity.kind) + len(e.Self.Identity.id) + len(e.Self.Reason)
	}
	return n
}

// Keys of the map `self`.
const (
	selfKeyKind     = 0
	selfKeyIdentity = 1
	selfKeyEpoch    = 2
	selfKeyReason   = 3
)

// AppendEvent appends e's encoding.
func AppendEvent(b []byte, e *Event) []byte {
	f := beginFields(b)
	f.uint(keyTag, uint64(e.Tag))
	f.text(keyMethod, e.Method)
	f.bytes(keyPayload, e.Payload)
	f.uint(keyToken, e.Token)
	f.uint(keyHandle, e.Handle)
	f.err(keyError, e.Err)
	f.uint(keyTimeout, toMillis(e.Remaining))
	f.uint(keyFlags, uint64(e.Flags))
	f.identity(keyCaller, e.Caller)
	f.text(keyTraceParent, e.TraceParent)
	f.text(keyTraceState, e.TraceState)
	f.text(keyIdempotency, e.IdempotencyKey)
	if s := e.Self; s != nil {
		f.key(keySelf)
		g := beginFields(f.b)
		g.text(selfKeyKind, s.Identity.kind)
		g.text(selfKeyIdentity, s.Identity.id)
		g.epoch(selfKeyEpoch, s.Epoch)
		g.text(selfKeyReason, s.Reason)
		f.b = g.end()
	}
	f.text(keyName, e.Timer)
	f.text(keyReason, e.Reason)
	return f.end()
}

// DecodeEvent reads what [AppendEvent] wrote into e, which it overwrites. The payload aliases b. A tag that this
// version does not know is kept (one above 255 reads as 255). The error is a [*DecodeError].
func DecodeEvent(b []byte, e *Event) error {
	*e = Event{}
	r := NewReader(b)
	r.pairs(func(k uint64) bool {
		switch k {
		case keyTag:
			e.Tag = EventTag(min(r.Uint(), 255))
		case keyMethod:
			e.Method = r.Text()
		case keyPayload:
			e.Payload = r.Bytes()
		case keyToken:
			e.Token = r.Uint()
		case keyHandle:
			e.Handle = r.Uint()
		case keyError:
			e.Err = r.Error()
		case keyTimeout:
			e.Remaining = millis(r.Uint())
		case keyFlags:
			e.Flags = Flags(r.Uint32())
		case keyCaller:
			e.Caller = r.identity()
		case keyTraceParent:
			e.TraceParent = r.Text()
		case keyTraceState:
			e.TraceState = r.Text()
		case keyIdempotency:
			e.IdempotencyKey = r.Text()
		case keySelf:
			e.Self = r.self()
		case keyName:
			e.Timer = r.Text()
		case keyReason:
			e.Reason = r.Text()
		default:
			return false
		}
		return true
	})
	r.End()
	return r.Err()
}

func (r *Reader) self() *Self {
	var s Self
	var kind, id string
	at := r.off
	r.pairs(func(k uint64) bool {
		switch k {
		case selfKeyKind:
			kind = r.Text()
		case selfKeyIdentity:
			id = r.Text()
		case selfKeyEpoch:
			s.Epoch = r.epoch()
		case selfKeyReason:
			s.Reason = r.Text()
		default:
			return false
		}
		return true
	})
	if r.err != nil {
		return nil
	}
	identity, err := NewIdentity(kind, id)
	if err != nil {
		r.off = at
		r.Fail(err.Error())
		return nil
	}
	s.Identity = identity
	return &s
}
