package main

import (
	"context"

	"github.com/wasilo/wasilo/abi"
)

const activateNote = "Each operation is the first request to an identity that nobody has used: placement, lease, instance, turn. The floor\n" +
	"instantiates the same guest by wazero, runs its `_initialize`, makes one call and closes it; the node keeps its actors, so its\n" +
	"memory grows over a round, and the round is bounded in number for that. `small` is testdata/wasm/echo.wasm, `Go` the counter of\n" +
	"testdata/wasm/examples.wasm (stock Go). This version instantiates plainly; templates replace that."

func activateCases(ctx context.Context, b *bench) ([]*measure, error) {
	n, err := startNode(ctx, b, "", "echo.wasm", "examples.wasm")
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
		floor := &measure{name: "floor wazero, " + label, callers: callers, most: most, op: func(ctx context.Context, _, _ int) error {
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
			}})
	}
	group("small", small, rawEvent("echo", payload), "echo", "echo", payload, 1, 5000)
	group("small", small, rawEvent("echo", payload), "echo", "echo", payload, 64, 5000)
	// A Go guest's turn needs a call of its own kind; its instantiation is thousands of times that.
	goEvent := abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: "add", Payload: add, Token: 1,
		Self: &abi.Self{Identity: identity("counter", 1), Reason: "bench"}})
	group("Go", golang, goEvent, "counter", "add", add, 1, 300)
	group("Go", golang, goEvent, "counter", "add", add, 64, 300)
	return rows, nil
}
