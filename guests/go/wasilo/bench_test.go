package wasilo_test

import (
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/examples/go/counter"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// BenchmarkTurn is the SDK's part of one call: decode the event and the input, run the handler, encode the reply.
func BenchmarkTurn(b *testing.B) {
	add, err := wasilo.Encode(counter.Add{By: 1})
	if err != nil {
		b.Fatal(err)
	}
	ev := abi.Event{Tag: abi.EventCall, Method: "add", Token: 1, Payload: add, Remaining: time.Second,
		Self: &abi.Self{Identity: wasilo.ID("counter", "a"), Reason: "call"}}
	inst := wasilo.NewInstance(nil, counter.Kind)
	inst.Turn(abi.AppendEvent(nil, &ev))
	ev.Self = nil
	event := abi.AppendEvent(nil, &ev)
	b.ReportAllocs()
	for b.Loop() {
		if out := inst.Turn(event); out[0] != abi.OutReply {
			b.Fatalf("%x", out)
		}
	}
}
