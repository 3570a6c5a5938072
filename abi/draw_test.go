package abi

import (
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// Generators of everything that travels, within its limits.

func drawKind(t *rapid.T) string {
	return rapid.StringMatching(`[a-z][a-z0-9_-]{0,62}`).Draw(t, "kind")
}

func drawID(t *rapid.T) string {
	printable := rapid.Rune().Filter(func(r rune) bool { return r >= 0x20 && (r < 0x7f || r >= 0xa0) })
	return rapid.StringOfN(printable, 1, 60, MaxIdentityLen).Draw(t, "id")
}

func drawIdentity(t *rapid.T) Identity {
	id, err := NewIdentity(drawKind(t), drawID(t))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func maybe[V any](t *rapid.T, draw func(*rapid.T) V) (v V) {
	if rapid.Bool().Draw(t, "present") {
		v = draw(t)
	}
	return v
}

func drawText(most int) func(*rapid.T) string {
	return func(t *rapid.T) string { return rapid.StringN(0, -1, most).Draw(t, "text") }
}

func drawBytes(t *rapid.T) []byte { return rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "bytes") }

func drawMillis(t *rapid.T) time.Duration {
	return millis(rapid.Uint64Range(0, uint64(MaxDuration/time.Millisecond)).Draw(t, "ms"))
}

func drawUint(t *rapid.T) uint64 { return rapid.Uint64().Draw(t, "uint") }

func drawFlags(t *rapid.T) Flags {
	return Flags(rapid.Uint32Range(0, uint32(knownFlags)).Draw(t, "flags"))
}

func drawEpoch(t *rapid.T) Epoch { return Epoch{rapid.Uint32().Draw(t, "generation"), drawUint(t)} }

func drawMethod(t *rapid.T) string {
	return rapid.StringMatching(`[A-Za-z0-9_.-]{1,127}`).Draw(t, "method")
}

func drawError(t *rapid.T) *Error {
	return &Error{Code: Code(rapid.Uint16Range(1, 1<<16-1).Draw(t, "code")), App: drawText(MaxErrorCodeLen)(t),
		Message: drawText(400)(t), Details: maybe(t, drawBytes)}
}

func drawEvent(t *rapid.T) *Event {
	e := &Event{Tag: EventTag(rapid.Byte().Draw(t, "tag")), Method: maybe(t, drawMethod), Payload: maybe(t, drawBytes),
		Token: maybe(t, drawUint), Handle: maybe(t, drawUint), Err: maybe(t, drawError),
		Timer: maybe(t, drawText(MaxTimerNameLen)), Remaining: maybe(t, drawMillis), Flags: maybe(t, drawFlags),
		Caller: maybe(t, drawIdentity), TraceParent: maybe(t, drawText(MaxTraceLen)),
		TraceState: maybe(t, drawText(MaxTraceLen)), IdempotencyKey: maybe(t, drawText(MaxIdempotencyLen)),
		Reason: maybe(t, drawText(60))}
	if rapid.Bool().Draw(t, "self") {
		e.Self = &Self{drawIdentity(t), maybe(t, drawEpoch), maybe(t, drawText(60))}
	}
	return e
}

func drawEffect(t *rapid.T) Effect {
	name := func(t *rapid.T) string { return rapid.StringN(1, -1, MaxTimerNameLen).Draw(t, "name") }
	e := Effect{Tag: EffectTag(rapid.IntRange(int(EffectReply), int(EffectCancel)).Draw(t, "tag"))}
	switch e.Tag {
	case EffectReply:
		e.Token, e.Payload, e.Err = max(drawUint(t), 1), maybe(t, drawBytes), maybe(t, drawError)
	case EffectTell, EffectCall:
		e.Target, e.Method, e.Payload, e.Flags = drawIdentity(t), drawMethod(t), maybe(t, drawBytes), drawFlags(t)
		e.IdempotencyKey = maybe(t, drawText(MaxIdempotencyLen))
		if e.Tag == EffectCall {
			e.Handle, e.Timeout = max(drawUint(t), 1), maybe(t, drawMillis)
		}
	case EffectRemind:
		e.Name, e.After, e.Every, e.Payload = name(t), maybe(t, drawMillis), maybe(t, drawMillis), maybe(t, drawBytes)
	case EffectCancel:
		e.Name = name(t)
	}
	return e
}

func drawOutput(t *rapid.T) *Output {
	switch kind := byte(rapid.IntRange(OutReply, OutEffects).Draw(t, "form")); kind {
	case OutReply:
		return &Output{Kind: kind, Payload: drawBytes(t)}
	case OutError:
		return &Output{Kind: kind, Err: drawError(t)}
	}
	o := &Output{Kind: OutEffects}
	for range rapid.IntRange(0, 30).Draw(t, "effects") {
		o.Effects = append(o.Effects, drawEffect(t))
	}
	return o
}

func drawRequest(t *rapid.T) *Request {
	return &Request{drawIdentity(t), drawMethod(t), maybe(t, drawBytes), maybe(t, drawMillis), drawFlags(t),
		maybe(t, drawText(MaxIdempotencyLen))}
}

func drawEnvelope(t *rapid.T) *Envelope {
	e := &Envelope{Target: drawIdentity(t), Method: drawMethod(t), Payload: maybe(t, drawBytes),
		TraceParent: maybe(t, drawText(MaxTraceLen)), TraceState: maybe(t, drawText(MaxTraceLen)),
		IdempotencyKey: maybe(t, drawText(MaxIdempotencyLen)), Caller: maybe(t, drawIdentity),
		SenderEpoch: maybe(t, drawEpoch), Flags: Flags(rapid.Uint32().Draw(t, "flags"))}
	if rapid.Bool().Draw(t, "deadline") {
		e.Deadline = vectorNow.Add(drawMillis(t))
	}
	for range rapid.IntRange(0, MaxChain).Draw(t, "chain") / 8 {
		e.Chain = append(e.Chain, drawIdentity(t))
	}
	return e
}

func drawSchema(t *rapid.T, depth int) *Schema {
	last := TypeRecord
	if depth == 0 {
		last = TypeBytes
	}
	typ := SchemaType(rapid.IntRange(int(TypeAny), int(last)).Draw(t, "type"))
	if typ == TypeAny {
		return nil
	}
	s := &Schema{Type: typ, Nullable: rapid.Bool().Draw(t, "nullable")}
	switch typ {
	case TypeList, TypeMap:
		s.Elem = drawSchema(t, depth-1)
	case TypeRecord:
		for _, name := range rapid.SliceOfNDistinct(rapid.String(), 0, 5, rapid.ID).Draw(t, "fields") {
			s.Fields = append(s.Fields, Field{name, drawSchema(t, depth-1), rapid.Bool().Draw(t, "optional")})
		}
	}
	return s
}

func drawDescription(t *rapid.T) *Description {
	d := &Description{Major: rapid.Uint32().Draw(t, "major"), Minor: rapid.Uint32().Draw(t, "minor"), SDK: drawText(127)(t)}
	kinds := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9_-]{0,9}`), 1, 4, rapid.ID).Draw(t, "kinds")
	slices.SortFunc(kinds, strings.Compare)
	for _, name := range kinds {
		k := KindDescription{Name: name, Doc: drawText(60)(t), State: State{
			rapid.SampledFrom([]Keep{KeepNone, KeepTyped, KeepImage}).Draw(t, "keep"),
			rapid.SampledFrom([]Level{LevelVolatile, LevelHibernating, LevelDurable}).Draw(t, "level"), rapid.Uint32().Draw(t, "version")}}
		k.Events = rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) EventTag {
			return EventTag(rapid.IntRange(int(EventCall), int(EventPassivate)).Draw(t, "event"))
		}), 1, 5, rapid.ID).Draw(t, "events")
		methods := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z0-9_.-]{1,20}`), 0, 5, rapid.ID).Draw(t, "methods")
		slices.SortFunc(methods, strings.Compare)
		for _, m := range methods {
			readOnly := rapid.Bool().Draw(t, "read_only")
			k.Methods = append(k.Methods, Method{m, drawText(60)(t), readOnly, drawSchema(t, 2), drawSchema(t, 2)})
		}
		d.Kinds = append(d.Kinds, k)
	}
	return d
}
