package wasilo

import (
	"reflect"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func sampleEvents() []abi.Event {
	caller := ID("bank", "alice")
	return []abi.Event{
		{Tag: abi.EventCall, Method: "add", Token: 1, Payload: []byte{0xa0}, Remaining: 5 * time.Second},
		{Tag: abi.EventCall, Method: "add", Token: 1 << 40, Payload: make([]byte, 300), Remaining: time.Millisecond, Caller: caller},
		{Tag: abi.EventCall, Method: "get", Token: 3, Payload: []byte{}, Caller: caller, Flags: abi.Idempotent, IdempotencyKey: "k"},
		{Tag: abi.EventMessage, Method: "get", Payload: []byte{1}, Caller: ID("bank", "bob"), TraceParent: "00-x", TraceState: "y"},
		{Tag: abi.EventCompletion, Method: "get", Handle: 7, Err: abi.NewError(abi.ErrTimeout, "late")},
		{Tag: abi.EventTimer, Timer: "tick", Payload: []byte{1}},
		{Tag: abi.EventPassivate, Reason: "idle"},
		{Tag: abi.EventCall, Method: "add", Token: 1, Self: &abi.Self{Identity: caller, Reason: "call"}},
	}
}

// The short way of reading an event gives what the long one gives, and does so for what comes most.
func TestEventReaderIsDecodeEvent(t *testing.T) {
	var r eventReader
	for round := range 2 {
		for i, ev := range sampleEvents() {
			b := abi.AppendEvent(nil, &ev)
			var got, want abi.Event
			quick := r.quick(b, &got)
			if round == 1 && i == 0 && !quick {
				t.Errorf("a plain call is not read the short way")
			}
			if err := r.read(b, &got); err != nil {
				t.Fatal(err)
			}
			if err := abi.DecodeEvent(b, &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("event %d:\ngot  %+v\nwant %+v", i, got, want)
			}
		}
	}
	b := abi.AppendEvent(nil, &sampleEvents()[1])
	var ev abi.Event
	if err := r.read(b, &ev); err != nil {
		t.Fatal(err)
	}
	if allocs := testing.AllocsPerRun(100, func() { _ = r.read(b, &ev) }); allocs != 0 {
		t.Errorf("an event like the last one takes %v allocations", allocs)
	}
}

func FuzzEventReader(f *testing.F) {
	for _, ev := range sampleEvents() {
		f.Add(abi.AppendEvent(nil, &ev), abi.AppendEvent(nil, &ev))
	}
	f.Add([]byte{}, []byte{0xa1, keyCaller, 0x60}) // a caller of no name, after none
	f.Fuzz(func(t *testing.T, before, b []byte) {
		var r eventReader
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
