package wasilo

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// sample is an event, and whether it is read the short way.
type sample struct {
	ev    abi.Event
	quick bool
}

func samples() []sample {
	caller := ID("bank", "alice")
	self := func(id Identity, epoch abi.Epoch, reason string) abi.Event {
		return abi.Event{Tag: abi.EventCall, Method: "add", Token: 1, Caller: caller, Self: &abi.Self{Identity: id, Epoch: epoch, Reason: reason}}
	}
	return []sample{
		{abi.Event{Tag: abi.EventCall, Method: "add", Token: 1, Payload: []byte{0xa0}, Remaining: 5 * time.Second}, true},
		{abi.Event{Tag: abi.EventCall, Method: "add", Token: 1 << 40, Payload: make([]byte, 300), Remaining: time.Millisecond, Caller: caller}, true},
		{abi.Event{Tag: abi.EventCall, Method: "get", Token: 3, Payload: []byte{}, Caller: caller, Flags: abi.Idempotent}, true},
		{abi.Event{Tag: abi.EventCall, Method: "get", Token: 3, Caller: ID("other", "ü/x"), Flags: abi.Idempotent, IdempotencyKey: "k"}, false},
		{abi.Event{Tag: abi.EventMessage, Method: "gët", Payload: []byte{1}, Caller: ID("bank", "bob")}, true},
		{abi.Event{Tag: abi.EventMessage, Method: "get", Payload: []byte{1}, Caller: ID("bank", "bob"), TraceParent: "00-x", TraceState: "y"}, false},
		{abi.Event{Tag: abi.EventCompletion, Method: "get", Handle: 7, Err: abi.NewError(abi.ErrTimeout, "late")}, false},
		{abi.Event{Tag: abi.EventTimer, Timer: "tick", Payload: []byte{1}}, false},
		{abi.Event{Tag: abi.EventPassivate, Reason: "idle"}, false},
		{self(caller, abi.Epoch{}, "call"), true},
		{self(caller, abi.Epoch{Generation: 1, Index: 1 << 33}, "wake"), true},
		{self(ID("room", strings.Repeat("ü", 100)), abi.Epoch{Generation: 1<<32 - 1, Index: 25}, "message"), true},
		{self(ID("room", "a"), abi.Epoch{Index: 1}, ""), true},
		{self(ID("room", "a"), abi.Epoch{Index: 1}, "whim"), false},
		{self(ID("other", "a"), abi.Epoch{Index: 1}, "call"), false},
	}
}

// newEventReader knows two kinds, and is of an actor of one.
func newEventReader() *eventReader {
	bank := Kind("bank", Method("add", (*sum).add), Method("get", (*sum).add))
	r := &eventReader{kinds: []*Definition{bank, Kind[sum]("room")}, methods: bank.methods}
	r.names.Grow(32)
	return r
}

// The short way of reading an event gives what the long one gives, and does so for what comes most.
func TestEventReaderIsDecodeEvent(t *testing.T) {
	r := newEventReader()
	for range 2 {
		for i, s := range samples() {
			b := abi.AppendEvent(nil, &s.ev)
			var got, want abi.Event
			if err := abi.DecodeEvent(b, &want); err != nil {
				t.Fatal(err)
			}
			if quick := r.quick(b, &got); quick != s.quick {
				t.Errorf("event %d: read the short way: %v", i, quick)
			} else if quick && !reflect.DeepEqual(got, want) {
				t.Errorf("event %d, the short way:\ngot  %+v\nwant %+v", i, got, want)
			}
			if err := r.read(b, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("event %d:\ngot  %+v\nwant %+v", i, got, want)
			}
		}
	}
}

func TestReadingAllocatesNothingForWhatIsKnown(t *testing.T) {
	all := samples()
	for _, c := range []struct {
		name         string
		before, then abi.Event
	}{
		{"an event like the last one", all[1].ev, all[1].ev},
		{"another method of the kind", all[1].ev, all[2].ev},
		{"the same actor, woken", all[9].ev, all[10].ev},
	} {
		r := newEventReader()
		events := [][]byte{abi.AppendEvent(nil, &c.before), abi.AppendEvent(nil, &c.then)}
		var ev abi.Event
		if allocs := testing.AllocsPerRun(100, func() {
			for _, b := range events {
				if err := r.read(b, &ev); err != nil {
					t.Fatal(err)
				}
			}
		}); allocs != 0 {
			t.Errorf("%s takes %v allocations", c.name, allocs)
		}
	}
}

func FuzzEventReader(f *testing.F) {
	for _, s := range samples() {
		b := abi.AppendEvent(nil, &s.ev)
		f.Add(b, b)
		f.Add([]byte{}, b)
	}
	f.Add([]byte{}, []byte{0xa1, keyCaller, 0x60}) // a caller of no name, after none
	for _, self := range []string{
		"\xa0",                                  // nobody
		"\xa2\x00\x64room\x01\x60",              // an identity of no name
		"\xa2\x00\x64room\x01\x61\x0a",          // one that is none
		"\xa2\x00\x64room\x01\x63\xe2\x82\x28",  // or no text
		"\xa3\x00\x64room\x00\x64bank\x01\x61a", // a key that stands twice
		"\xa3\x00\x64room\x01\x61a\x02\x81\x01", // half an epoch
		"\xa3\x00\x64room\x01\x61a\x02\x82\x1b\x00\x00\x00\x01\x00\x00\x00\x00\x01", // a generation that is too large
		"\xa3\x00\x78\x04room\x01\x61a\x02\x98\x02\x01\x02",                         // heads that are longer than they need be
		"\xb8\x02\x00\x64room\x01\x61a",
		"\xa3\x00\x64room\x01\x61a\x04\x01", // a key that nobody knows
		"\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x00\x64room\x01\x61a",
	} {
		f.Add([]byte{}, append([]byte{0xa1, keySelf}, self...))
	}
	f.Fuzz(func(t *testing.T, before, b []byte) {
		r := newEventReader()
		var got, want abi.Event
		_ = r.read(before, &got)
		if !r.quick(b, &got) {
			return
		}
		if err := abi.DecodeEvent(b, &want); err != nil {
			t.Fatalf("%x is accepted, though %v", b, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%x:\ngot  %+v\nwant %+v", b, got, want)
		}
	})
}
