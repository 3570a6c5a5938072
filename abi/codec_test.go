package abi

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// roundTrip draws values, and expects of each that it is read back as it was and fits the bound, if there is one.
func roundTrip[V any](t *testing.T, draw func(*rapid.T) V, encode func(b []byte, v V) []byte,
	decode func(b []byte) (V, error), bound func(V) int) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		v := draw(t)
		prefix := []byte("prefix")
		b := encode(prefix, v)
		if !bytes.HasPrefix(b, prefix) {
			t.Fatal("what stood in the buffer was overwritten")
		}
		b = b[len(prefix):]
		if bound != nil && len(b) > bound(v) {
			t.Fatalf("%d bytes, the bound is %d: %+v", len(b), bound(v), v)
		}
		got, err := decode(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if !reflect.DeepEqual(got, v) {
			t.Fatalf("%x\nwent in  %+v\ncame out %+v", b, v, got)
		}
	})
}

func TestRoundTrips(t *testing.T) {
	t.Run("error", func(t *testing.T) {
		roundTrip(t, drawError, AppendError, func(b []byte) (*Error, error) {
			r := NewReader(b)
			e := r.Error()
			r.End()
			return e, r.Err()
		}, nil)
	})
	t.Run("event", func(t *testing.T) {
		roundTrip(t, drawEvent, AppendEvent, func(b []byte) (*Event, error) {
			e := &Event{Tag: 9, Method: "stale", Self: &Self{}}
			return e, DecodeEvent(b, e)
		}, (*Event).SizeBound)
	})
	t.Run("output", func(t *testing.T) {
		roundTrip(t, drawOutput, AppendOutput, func(b []byte) (*Output, error) {
			o := &Output{Payload: []byte("stale"), Err: &Error{}, Effects: make([]Effect, 3)}
			return o, DecodeOutput(b, o)
		}, nil)
	})
	t.Run("result", func(t *testing.T) {
		roundTrip(t, func(t *rapid.T) Result {
			if rapid.Bool().Draw(t, "failed") {
				return Result{Err: drawError(t)}
			}
			return Result{Payload: drawBytes(t)}
		}, AppendResult, DecodeResult, ResultSize)
	})
	t.Run("request", func(t *testing.T) {
		roundTrip(t, drawRequest, AppendRequest, func(b []byte) (*Request, error) {
			q := &Request{Method: "stale"}
			return q, DecodeRequest(b, q)
		}, nil)
	})
	t.Run("envelope", func(t *testing.T) {
		roundTrip(t, drawEnvelope, func(b []byte, v *Envelope) []byte { return AppendEnvelope(b, v, vectorNow) },
			func(b []byte) (*Envelope, error) {
				v := &Envelope{Method: "stale", Chain: make([]Identity, 2)}
				return v, DecodeEnvelope(b, v, vectorNow)
			}, nil)
	})
	t.Run("schema", func(t *testing.T) {
		roundTrip(t, func(t *rapid.T) *Schema { return drawSchema(t, 4) }, AppendSchema, func(b []byte) (*Schema, error) {
			r := NewReader(b)
			s := r.Schema()
			r.End()
			return s, r.Err()
		}, nil)
	})
	t.Run("description", func(t *testing.T) {
		roundTrip(t, drawDescription, AppendDescription, DecodeDescription, nil)
	})
}

// TestTextIsAlwaysReadable holds that a stray byte in a header or an error's text does not make a message unreadable.
func TestTextIsAlwaysReadable(t *testing.T) {
	const stray = "a\xff\xfe\xfdb\xc3"
	in := &Event{Tag: EventCall, Method: stray, TraceParent: stray, TraceState: stray, IdempotencyKey: stray,
		Timer: stray, Reason: stray,
		Err: &Error{Code: ErrActor, App: stray, Message: strings.Repeat(stray, 10_000)}}
	b := AppendEvent(nil, in)
	if len(b) > in.SizeBound() {
		t.Errorf("%d bytes, the bound is %d", len(b), in.SizeBound())
	}
	var out Event
	if err := DecodeEvent(b, &out); err != nil {
		t.Fatal(err)
	}
	if out.Method != "a?b?" || out.Err.App != "a?b?" || len(out.Err.Message) > MaxErrorMessageLen {
		t.Errorf("read as %q, %q, %d bytes", out.Method, out.Err.App, len(out.Err.Message))
	}
}

func TestErrorsAreCut(t *testing.T) {
	for _, char := range []string{"a", "é", "日", "😀"} {
		for shift := range 4 {
			pad := strings.Repeat("x", shift)
			in := &Error{Code: ErrActor, App: pad + strings.Repeat(char, 200), Message: pad + strings.Repeat(char, 20_000),
				Details: make([]byte, MaxErrorDetailsLen)}
			r := NewReader(AppendError(nil, in))
			out := r.Error()
			if r.Err() != nil || !utf8.ValidString(out.App) || !utf8.ValidString(out.Message) ||
				!strings.HasPrefix(in.Message, out.Message) {
				t.Fatalf("%v: %q", r.Err(), out.App)
			}
			if n := len(out.App); n > MaxErrorCodeLen || n <= MaxErrorCodeLen-len(char) {
				t.Errorf("a code of %d bytes", n)
			}
			if n := len(out.Message); n > MaxErrorMessageLen || n <= MaxErrorMessageLen-len(char) {
				t.Errorf("a message of %d bytes", n)
			}
			if len(out.Details) != MaxErrorDetailsLen {
				t.Errorf("%d bytes of details", len(out.Details))
			}
		}
	}
	// The same cuts on the way in, from an encoder that does not know them.
	b := AppendMap(nil, 3)
	b = AppendText(AppendUint(b, errKeyApp), strings.Repeat("é", 100))
	b = AppendText(AppendUint(b, errKeyMessage), strings.Repeat("é", 10_000))
	b = AppendBytes(AppendUint(b, errKeyDetails), make([]byte, MaxErrorDetailsLen+1))
	r := NewReader(b)
	if e := r.Error(); r.Err() != nil || len(e.App) != 126 || len(e.Message) != MaxErrorMessageLen || e.Details != nil {
		t.Errorf("%d and %d bytes, details %v, %v", len(e.App), len(e.Message), e.Details != nil, r.Err())
	}
	for s, want := range map[string]string{"": "", "abcd": "abcd", "abcde": "abcd", "abc\u00e9": "abc", "\x80\x80\x80\x80\x80": ""} {
		if got := cut(s, 4); got != want {
			t.Errorf("%q is cut to %q", s, got)
		}
	}
}

// TestExtraIsBounded holds that no event passes MaxEnvelopeExtra, whatever was put into it, payload and method aside.
func TestExtraIsBounded(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	id := Identity{strings.Repeat("k", MaxKindLen), strings.Repeat("i", MaxIdentityLen)}
	e := &Event{Tag: EventCompletion, Method: huge[:MaxMethodLen], Token: math.MaxUint64, Handle: math.MaxUint64,
		Timer: huge[:MaxTimerNameLen], Remaining: MaxDuration, Flags: math.MaxUint32, Caller: id,
		TraceParent: huge[:MaxTraceLen], TraceState: huge[:MaxTraceLen], IdempotencyKey: huge[:MaxIdempotencyLen],
		Reason: huge[:64], Self: &Self{id, Epoch{math.MaxUint32, math.MaxUint64}, huge[:64]},
		Err: &Error{Code: math.MaxUint16, App: huge, Message: huge, Details: make([]byte, MaxErrorDetailsLen)}}
	if n := len(AppendEvent(nil, e)); n > MaxEnvelopeExtra {
		t.Errorf("an event of %d bytes beside its payload", n)
	}
	v := &Envelope{Target: id, Method: huge[:MaxMethodLen], Deadline: vectorNow.Add(MaxDuration),
		TraceParent: huge[:MaxTraceLen], TraceState: huge[:MaxTraceLen], IdempotencyKey: huge[:MaxIdempotencyLen],
		Caller: id, SenderEpoch: e.Self.Epoch, Flags: math.MaxUint32}
	for range MaxChain {
		v.Chain = append(v.Chain, id)
	}
	b := AppendEnvelope(nil, v, vectorNow)
	if len(b) > MaxEnvelopeExtra {
		t.Errorf("an envelope of %d bytes beside its payload", len(b))
	}
	var back Envelope
	if err := DecodeEnvelope(b, &back, vectorNow); err != nil || !reflect.DeepEqual(&back, v) {
		t.Error(err)
	}
}

func TestDurations(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		d    time.Duration
		ms   uint64
		back time.Duration
	}{
		{0, 0, 0},
		{-1, 0, 0},
		{math.MinInt64, 0, 0},
		{1, 1, time.Millisecond},
		{time.Millisecond, 1, time.Millisecond},
		{time.Millisecond + 1, 2, 2 * time.Millisecond},
		{100 * year, 3_153_600_000_000, 100 * year},
		{100*year + 1, 3_153_600_000_001, 100 * year},
		{math.MaxInt64, 9_223_372_036_855, 100 * year},
	} {
		if got := toMillis(c.d); got != c.ms {
			t.Errorf("%d is written as %d ms, want %d", c.d, got, c.ms)
		}
		if got := millis(c.ms); got != c.back {
			t.Errorf("%d ms are read as %v, want %v", c.ms, got, c.back)
		}
	}
	for _, ms := range []uint64{math.MaxUint64, math.MaxInt64, 1 << 63} {
		b := AppendMap(nil, 3)
		b = AppendText(AppendUint(b, keyTarget), "a/b")
		b = AppendText(AppendUint(b, keyMethod), "m")
		b = AppendUint(AppendUint(b, keyTimeout), ms)
		var v Envelope
		now := time.Now()
		if err := DecodeEnvelope(b, &v, now); err != nil {
			t.Fatal(err)
		}
		if left := v.Deadline.Sub(now); left != MaxDuration || v.Deadline.UnixNano() < now.UnixNano() || !v.Deadline.After(now) {
			t.Errorf("%d ms leave %v", ms, left)
		}
	}
	// A deadline that has come is still a deadline.
	b := AppendEnvelope(nil, &Envelope{Target: Identity{"a", "b"}, Method: "m", Deadline: vectorNow.Add(-time.Hour)}, vectorNow)
	var v Envelope
	if err := DecodeEnvelope(b, &v, vectorNow); err != nil || !v.Deadline.Equal(vectorNow) {
		t.Errorf("%v, %v", v.Deadline, err)
	}
}

// TestWhatAliases holds the promises about who owns the bytes after decoding.
func TestWhatAliases(t *testing.T) {
	scribble := func(b []byte) {
		for i := range b {
			b[i] = 0xff
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		o := drawOutput(t)
		b := AppendOutput(nil, o)
		var got Output
		if err := DecodeOutput(b, &got); err != nil {
			t.Fatal(err)
		}
		if scribble(b); !reflect.DeepEqual(&got, o) {
			t.Fatal("an output changes with the buffer it was read from")
		}
		e := drawEvent(t)
		b = AppendEvent(nil, e)
		var ev Event
		if err := DecodeEvent(b, &ev); err != nil {
			t.Fatal(err)
		}
		scribble(b)
		if n := len(e.Payload); n > 0 && ev.Payload[0] != 0xff {
			t.Fatal("an event's payload was copied")
		}
		e.Payload, ev.Payload = nil, nil
		if !reflect.DeepEqual(&ev, e) {
			t.Fatal("more of an event than its payload changes with the buffer")
		}
	})
	e := Event{Tag: EventCall, Payload: []byte("p"), Method: "m", Token: 1}
	b := AppendEvent(nil, &e)
	var ev Event
	if err := DecodeEvent(b, &ev); err != nil {
		t.Fatal(err)
	}
	if _ = append(ev.Payload, 0xff); !bytes.Equal(b, AppendEvent(nil, &e)) {
		t.Error("appending to an event's payload writes over what follows it")
	}
}

func TestTooManyEffects(t *testing.T) {
	one := AppendEffect(nil, &Effect{Tag: EffectCancel, Name: "x"})
	var o Output
	for n, ok := range map[int]bool{MaxEffects: true, MaxEffects + 1: false} {
		b := AppendArray([]byte{OutEffects}, n)
		b = append(b, bytes.Repeat(one, n)...)
		if err := DecodeOutput(b, &o); (err == nil) != ok || ok && len(o.Effects) != n {
			t.Errorf("%d effects: %v", n, err)
		}
	}
}

func TestDescriptionLimits(t *testing.T) {
	build := func(kinds, methods, fields int) []byte {
		d := &Description{Major: Major}
		for i := range kinds {
			k := KindDescription{Name: "k" + strconv.Itoa(i), Events: []EventTag{EventCall}}
			for j := range methods {
				m := Method{Name: "m" + strconv.Itoa(j)}
				if fields >= 0 {
					m.Params = &Schema{Type: TypeRecord}
				}
				for f := range fields {
					m.Params.Fields = append(m.Params.Fields, Field{Name: strconv.Itoa(f)})
				}
				k.Methods = append(k.Methods, m)
			}
			d.Kinds = append(d.Kinds, k)
		}
		return AppendDescription(nil, d)
	}
	for _, c := range []struct {
		name                   string
		kinds, methods, fields int
		want                   string
	}{
		{"most kinds", MaxKindsPerModule, 0, 0, ""},
		{"too many kinds", MaxKindsPerModule + 1, 0, 0, "more than 256 kinds"},
		{"most methods", 1, MaxMethodsPerKind, -1, ""},
		{"too many methods", 1, MaxMethodsPerKind + 1, -1, "more than 1024 methods"},
		{"most fields", 1, 1, MaxFieldsPerRecord, ""},
		{"too many fields", 1, 1, MaxFieldsPerRecord + 1, "a record of more than 256 fields"},
		{"too long", 256, 60, -1, "a description of more than 262144 bytes"},
	} {
		d, err := DecodeDescription(build(c.kinds, c.methods, c.fields))
		switch {
		case c.want == "" && (err != nil || len(d.Kinds) != c.kinds),
			c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestDescriptionOfAnotherVersion(t *testing.T) {
	good := &Description{Major: Major, Minor: Minor}
	if err := good.CheckVersion(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		major, minor uint32
		want         string
	}{
		{2, 0, "the module speaks ABI 2.0, this host 1.0: rebuild it with an SDK for ABI 1"},
		{0, 9, "the module speaks ABI 0.9, this host 1.0: rebuild it with an SDK for ABI 1"},
		{1, 1, "the module needs ABI 1.1, this host speaks 1.0: upgrade the node, or rebuild the module with an older SDK"},
	} {
		// The rest cannot be read: what is told all the same is that the version differs.
		b := AppendMap(nil, 2)
		b = AppendText(b, "abi")
		b = AppendUint(AppendUint(AppendArray(b, 2), uint64(c.major)), uint64(c.minor))
		b = AppendText(AppendText(b, "kinds"), "of another shape")
		_, err := DecodeDescription(b)
		var typed *Error
		if !errors.As(err, &typed) || typed.Code != ErrUnsupported || typed.Message != c.want {
			t.Errorf("%v", err)
		}
	}
}

func TestKindLookups(t *testing.T) {
	k := KindDescription{Events: []EventTag{EventTimer, EventCall},
		Methods: []Method{{Name: "a"}, {Name: "b", ReadOnly: true}, {Name: "c"}}}
	if m, ok := k.Method("b"); !ok || !m.ReadOnly || m != &k.Methods[1] {
		t.Error("a method is not found")
	}
	for _, name := range []string{"", "aa", "d"} {
		if _, ok := k.Method(name); ok {
			t.Errorf("the method %q is found", name)
		}
	}
	if !k.Handles(EventCall) || k.Handles(EventMessage) {
		t.Error("events are mixed up")
	}
	for tag := range EventTag(10) {
		got, ok := EventTagByName(tag.String())
		if known := tag >= EventCall && tag <= EventPassivate; ok != known || known && got != tag {
			t.Errorf("event %d, %q, is found as %d", tag, tag, got)
		}
	}
	if got := EffectTag(77).String(); got != "effect 77" {
		t.Error(got)
	}
}

func TestSchemaText(t *testing.T) {
	s := &Schema{Type: TypeRecord, Fields: []Field{
		{"by", &Schema{Type: TypeInt}, true},
		{"items", &Schema{Type: TypeList, Elem: &Schema{Type: TypeMap, Elem: &Schema{Type: TypeBytes, Nullable: true}}}, false},
		{"x", nil, false},
	}, Nullable: true}
	if got, want := s.String(), "{by?: int, items: [{text: bytes?}], x: any}?"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if f, ok := s.Field("items"); !ok || f != &s.Fields[1] {
		t.Error("a field is not found")
	}
	if _, ok := s.Field("y"); ok {
		t.Error("a field is found that is not there")
	}
	if _, ok := (*Schema)(nil).Field("y"); ok {
		t.Error("any has fields")
	}
	if got := SchemaType(99).String(); got != "?" {
		t.Error(got)
	}
}
