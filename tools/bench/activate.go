package main

import (
	"context"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
)

// floorMost bounds the rounds of the floors.
var floorMost = map[string]int{"small": 5000, "Go": 300}

const activateNote = "Each operation is the first request to an identity that nobody has used: placement, lease, instance, turn. The floor\n" +
	"instantiates the same guest by wazero, unmetered, runs its `_initialize`, makes one call and closes it. `node` keeps its actors, up to\n" +
	"5,000 a round (1,000 of Go), and passivates them between rounds, outside of the figures: each instance is made anew, from the template.\n" +
	"`node in lots` passivates all of them after each hundredth operation, within the figures, so that instances are used again: activation,\n" +
	"turn and end. `small` is testdata/wasm/echo.wasm, `Go` the counter of testdata/wasm/examples.wasm (stock Go, which hibernates when it is\n" +
	"passivated: packing and keeping its state is in the figures too)."

// lot is how many actors live at once where they are passivated in lots.
const lot = 100

func activateCases(ctx context.Context, b *bench) ([]*measure, error) {
	n, err := startNode(ctx, b, "", host.Limits{Idle: time.Hour}, "echo.wasm", "examples.wasm")
	if err != nil {
		return nil, err
	}
	small, err := compileRaw(ctx, "echo.wasm")
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { small.rt.Close(context.Background()) })
	golang, err := compileRaw(ctx, "examples.wasm")
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { golang.rt.Close(context.Background()) })
	payload := abi.AppendBytes(nil, make([]byte, payloadSize-2))
	add := abi.AppendInt(abi.AppendText(abi.AppendMap(nil, 1), "by"), 1)

	var rows []*measure
	group := func(label string, raw *rawModule, event []byte, kind, method string, payload []byte, callers, most int) {
		floor := &measure{name: "floor wazero, " + label, callers: callers, most: min(most, floorMost[label]), op: func(ctx context.Context, _, _ int) error {
			g, err := raw.instantiate(ctx)
			if err != nil {
				return err
			}
			if event != nil {
				if _, err := g.call(ctx, event); err != nil {
					return err
				}
			}
			return g.mod.Close(ctx)
		}}
		rows = append(rows, floor, &measure{name: "node, " + label, callers: callers, most: most, floor: floor,
			reset: func() error { return n.Passivate(ctx) },
			op: func(ctx context.Context, _, _ int) error {
				return request(ctx, n, identity(kind, int(fresh.Add(1))), method, payload)
			}}, &measure{name: "node in lots, " + label, callers: callers, floor: floor,
			op: func(ctx context.Context, _, _ int) error {
				k := fresh.Add(1)
				err := request(ctx, n, identity(kind, int(k)), method, payload)
				if err == nil && k%lot == 0 {
					err = n.Passivate(ctx)
				}
				return err
			}})
	}
	group("small", small, rawEvent("echo", payload), "echo", "echo", payload, 1, 5000)
	group("small", small, rawEvent("echo", payload), "echo", "echo", payload, 64, 5000)
	// A Go guest's turn needs a call of its own kind; its instantiation is thousands of times that.
	goEvent := abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: "add", Payload: add, Token: 1,
		Self: &abi.Self{Identity: identity("counter", 1), Reason: "bench"}})
	group("Go", golang, goEvent, "counter", "add", add, 1, 1000)
	group("Go", golang, goEvent, "counter", "add", add, 64, 1000)
	return rows, nil
}
