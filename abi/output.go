package abi

import (
	"strconv"
	"time"
)

// The first byte of a turn's output, and of the outcome of a request.
const (
	OutReply   = 0x00 // the payload follows
	OutError   = 0x01 // an error map follows
	OutEffects = 0x02 // an array of effects follows
)

// EffectTag says what an effect does. Append, never reorder.
type EffectTag uint8

// The effects of ABI v1.
const (
	EffectReply     EffectTag = 1 // answer a call, of this turn or an earlier one
	EffectTell      EffectTag = 2 // send, and forget
	EffectCall      EffectTag = 3 // send, and be told the outcome in a `completion`
	EffectRemind    EffectTag = 4 // set the timer of a name
	EffectCancel    EffectTag = 5 // drop the timer of a name
	EffectKV        EffectTag = 6 // change its own key-value state: unsupported yet
	EffectReplyPart EffectTag = 7 // reserved: streaming
	EffectPublish   EffectTag = 8 // reserved
)

var effectNames = [...]string{EffectReply: "reply", EffectTell: "tell", EffectCall: "call", EffectRemind: "remind",
	EffectCancel: "cancel", EffectKV: "kv", EffectReplyPart: "reply_part", EffectPublish: "publish"}

// String returns the effect's name.
func (t EffectTag) String() string {
	if int(t) < len(effectNames) && effectNames[t] != "" {
		return effectNames[t]
	}
	return "effect " + strconv.Itoa(int(t))
}

// Effect is one thing that a turn asks for. Which fields are set depends on the tag; see ABI.md.
type Effect struct {
	Tag            EffectTag
	Token          uint64   // reply: of the call that is answered
	Target         Identity // tell, call
	Method         string   // tell, call
	Payload        []byte   // reply, tell, call, remind
	Err            *Error   // reply: instead of a payload
	Handle         uint64   // call: the guest's own number, not 0, comes back in the completion
	Name           string   // remind, cancel: the timer
	After          time.Duration
	Every          time.Duration // remind: 0 fires once
	Timeout        time.Duration // call: 0 is the node's default
	Flags          Flags         // tell, call
	IdempotencyKey string        // tell, call
}

// Output is what a turn returns: exactly one of a reply, an error or a list of effects. An empty list leaves a call
// unanswered: a deferred reply.
type Output struct {
	Kind    byte // OutReply, OutError or OutEffects
	Payload []byte
	Err     *Error
	Effects []Effect
}

// AppendOutput appends o's encoding.
func AppendOutput(b []byte, o *Output) []byte {
	b = append(b, o.Kind)
	switch o.Kind {
	case OutReply:
		return append(b, o.Payload...)
	case OutError:
		return AppendError(b, o.Err)
	}
	b = AppendArray(b, len(o.Effects))
	for i := range o.Effects {
		b = AppendEffect(b, &o.Effects[i])
	}
	return b
}

// AppendEffect appends one effect.
func AppendEffect(b []byte, e *Effect) []byte {
	f := beginFields(b)
	f.uint(keyTag, uint64(e.Tag))
	f.text(keyMethod, e.Method)
	f.bytes(keyPayload, e.Payload)
	f.identity(keyTarget, e.Target)
	f.uint(keyToken, e.Token)
	f.uint(keyHandle, e.Handle)
	f.err(keyError, e.Err)
	f.uint(keyTimeout, toMillis(e.Timeout))
	f.uint(keyFlags, uint64(e.Flags))
	f.text(keyIdempotency, e.IdempotencyKey)
	f.text(keyName, e.Name)
	f.uint(keyAfter, toMillis(e.After))
	f.uint(keyEvery, toMillis(e.Every))
	return f.end()
}

// DecodeOutput reads a turn's output into o, which it overwrites. Everything is copied out of b, which may be guest
// memory. The error is a [*DecodeError]; an effect that lacks what its tag needs is one too.
func DecodeOutput(b []byte, o *Output) error {
	*o = Output{}
	if len(b) == 0 {
		return &DecodeError{Reason: "an empty output"}
	}
	o.Kind = b[0]
	r := NewReader(b)
	r.off = 1
	switch o.Kind {
	case OutReply:
		o.Payload = append(make([]byte, 0, len(b)-1), b[1:]...)
		return nil
	case OutError:
		o.Err = r.Error()
	case OutEffects:
		n := r.Array()
		if n > MaxEffects {
			r.Fail("more than " + strconv.Itoa(MaxEffects) + " effects")
		}
		if n > 0 {
			o.Effects = make([]Effect, 0, min(n, 64))
		}
		for i := 0; i < n && r.err == nil; i++ {
			o.Effects = append(o.Effects, r.effect())
		}
	default:
		return &DecodeError{Reason: "an output starts with 0 (reply), 1 (error) or 2 (effects), not " + strconv.Itoa(int(o.Kind))}
	}
	r.End()
	return r.Err()
}

func (r *Reader) effect() Effect {
	var e Effect
	at := r.off
	r.pairs(func(k uint64) bool {
		switch k {
		case keyTag:
			e.Tag = EffectTag(min(r.Uint(), 255))
		case keyMethod:
			e.Method = r.Text()
		case keyPayload:
			e.Payload = clone(r.Bytes())
		case keyTarget:
			e.Target = r.identity()
		case keyToken:
			e.Token = r.Uint()
		case keyHandle:
			e.Handle = r.Uint()
		case keyError:
			e.Err = r.Error()
		case keyTimeout:
			e.Timeout = millis(r.Uint())
		case keyFlags:
			e.Flags = Flags(r.Uint32())
		case keyIdempotency:
			e.IdempotencyKey = r.Text()
		case keyName:
			e.Name = r.Text()
		case keyAfter:
			e.After = millis(r.Uint())
		case keyEvery:
			e.Every = millis(r.Uint())
		default:
			return false
		}
		return true
	})
	if reason := e.check(); reason != "" && r.err == nil {
		r.off = at
		r.Fail(reason)
	}
	return e
}

// check says what e lacks for its tag, or "".
func (e *Effect) check() string {
	switch e.Tag {
	case EffectReply:
		if e.Token == 0 {
			return "a reply needs the token (key 4) of its call"
		}
	case EffectTell, EffectCall:
		if e.Target.IsZero() {
			return "a " + e.Tag.String() + " needs a target (key 3)"
		}
		if reason := checkMethod(e.Method); reason != "" {
			return reason
		}
		if e.Tag == EffectCall && e.Handle == 0 {
			return "a call needs a handle (key 5) other than 0"
		}
		if e.Flags&^knownFlags != 0 {
			return "unknown flags (key 8)"
		}
		if len(e.IdempotencyKey) > MaxIdempotencyLen {
			return "the idempotency key (key 12) is longer than " + strconv.Itoa(MaxIdempotencyLen) + " bytes"
		}
	case EffectRemind, EffectCancel:
		if e.Name == "" || len(e.Name) > MaxTimerNameLen {
			return "a timer needs a name (key 14) of 1 to " + strconv.Itoa(MaxTimerNameLen) + " bytes"
		}
	case EffectKV, EffectReplyPart, EffectPublish:
		return "the effect `" + e.Tag.String() + "` is unsupported by this host"
	case 0:
		return "an effect needs a tag (key 0)"
	default:
		return "unknown effect tag " + strconv.Itoa(int(e.Tag))
	}
	return ""
}

const checkMethodName = "a method name is 1 to 127 of A-Z, a-z, 0-9, '_', '.' and '-'"

func checkMethod(m string) string {
	if m == "" {
		return "a method name (key 1) is missing"
	}
	if !ValidMethod(m) {
		return checkMethodName
	}
	return ""
}

// ValidMethod reports whether m can name a method: 1 to [MaxMethodLen] of A-Z, a-z, 0-9, '_', '.' and '-'.
func ValidMethod(m string) bool {
	if m == "" || len(m) > MaxMethodLen {
		return false
	}
	for i := 0; i < len(m); i++ {
		c := m[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// Result is the outcome of a request: a payload, or an error.
type Result struct {
	Payload []byte
	Err     *Error
}

// AppendResult appends the outcome as the import `take` hands it to a guest: [OutReply] and the payload, or [OutError]
// and an error map.
func AppendResult(b []byte, r Result) []byte {
	if r.Err != nil {
		return AppendError(append(b, OutError), r.Err)
	}
	return append(append(b, OutReply), r.Payload...)
}

// ResultSize returns how many bytes [AppendResult] appends at the most.
func ResultSize(r Result) int {
	if r.Err != nil {
		return 64 + len(r.Err.App) + len(r.Err.Message) + len(r.Err.Details)
	}
	return 1 + len(r.Payload)
}

// DecodeResult reads what [AppendResult] wrote; the payload aliases b.
func DecodeResult(b []byte) (Result, error) {
	if len(b) == 0 {
		return Result{}, &DecodeError{Reason: "an empty outcome"}
	}
	switch b[0] {
	case OutReply:
		return Result{Payload: b[1:]}, nil
	case OutError:
		r := NewReader(b)
		r.off = 1
		e := r.Error()
		r.End()
		return Result{Err: e}, r.Err()
	}
	return Result{}, &DecodeError{Reason: "an outcome starts with 0 (reply) or 1 (error)"}
}
