package main

import (
	"context"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
)

const localNote = "`wasm` and `native` are requests through the node's API (`API.Send`): PID cache, mailbox, turn, reply. The floors know\n" +
	"neither identities nor deadlines: a goroutine with an unbuffered channel, and the same guest called by wazero under a mutex,\n" +
	"without a time limit. In this version a turn of a guest is guarded by wazero's own check, which costs about a microsecond a\n" +
	"call; the forge replaces it."

func localCases(ctx context.Context, b *bench) ([]*measure, error) {
	n, err := startNode(ctx, b, "", host.Limits{Idle: time.Hour}, "echo.wasm")
	if err != nil {
		return nil, err
	}
	raw, err := compileRaw(ctx, "echo.wasm")
	if err != nil {
		return nil, err
	}
	b.onEnd(func() { raw.rt.Close(context.Background()) })
	payload := abi.AppendBytes(nil, make([]byte, payloadSize-2))
	event := rawEvent("echo", payload)

	const many = 10_000
	var channels []*channelActor
	var guests []*rawGuest
	for range many {
		channels = append(channels, newChannelActor())
		g, err := raw.instantiate(ctx)
		if err != nil {
			return nil, err
		}
		guests = append(guests, g)
	}
	b.onEnd(func() {
		for _, c := range channels {
			close(c.in)
		}
	})
	echoes, natives := identities("echo", many), identities("native", many)
	for _, id := range echoes { // activated before anything is measured
		if err := request(ctx, n, id, "echo", payload); err != nil {
			return nil, err
		}
	}
	var rows []*measure
	add := func(actors, callers int) {
		label := " 1 actor"
		if actors > 1 {
			label = " 10,000 actors"
		}
		replies := make([]chan []byte, callers)
		for i := range replies {
			replies[i] = make(chan []byte, 1)
		}
		pick := func(caller, n int) int { return (caller*7919 + n) % actors }
		channel := &measure{name: "floor channel," + label, callers: callers, op: func(ctx context.Context, c, i int) error {
			channels[pick(c, i)].call(payload, replies[c])
			return nil
		}}
		wazero := &measure{name: "floor wazero," + label, callers: callers, op: func(ctx context.Context, c, i int) error {
			_, err := guests[pick(c, i)].call(ctx, event)
			return err
		}}
		rows = append(rows, channel, wazero,
			&measure{name: "wasm," + label, callers: callers, floor: wazero, op: func(ctx context.Context, c, i int) error {
				return request(ctx, n, echoes[pick(c, i)], "echo", payload)
			}},
			&measure{name: "native," + label, callers: callers, floor: channel, op: func(ctx context.Context, c, i int) error {
				return request(ctx, n, natives[pick(c, i)], "echo", payload)
			}})
	}
	add(1, 1)
	add(1, 64)
	add(1, 1024)
	add(many, 1)
	add(many, 64)
	return rows, nil
}
