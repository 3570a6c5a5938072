package link

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// FuzzHello: what can be read is written the same, and means the same.
func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, &hello{min: 1, max: 1, cluster: "c", node: "n", boot: 1, authority: "h:1", maxFrame: 1 << 20, maxInFlight: 9})[lengthSize:])
	f.Add(appendHello(nil, &hello{min: 1, max: 1, probe: true})[lengthSize:])
	f.Add(appendHello(nil, &hello{min: 1, max: 1, stream: "log"})[lengthSize:])
	f.Add(appendHello(nil, &hello{min: 1, max: 1, version: 1, mode: 1, features: 3})[lengthSize:])
	f.Fuzz(func(t *testing.T, body []byte) {
		r, number, items, err := frameHead(body)
		if err != nil || number != frameHello {
			return
		}
		h, err := readHello(&r, items)
		if err != nil {
			return
		}
		r, _, items, err = frameHead(appendHello(nil, h)[lengthSize:])
		again, err2 := readHello(&r, items)
		if err != nil || err2 != nil || *again != *h {
			t.Fatalf("%+v became %+v: %v, %v", h, again, err, err2)
		}
	})
}

// FuzzKinds: lists come through in whatever parts, and nothing grows beyond its bound.
func FuzzKinds(f *testing.F) {
	f.Add(appendKinds(nil, 1, []string{"a", "b"}))
	f.Add(appendKinds(appendKinds(nil, 1, nil), 2, slices.Repeat([]string{"kind"}, 300)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		in := frameReader{src: bytes.NewReader(stream), max: 1 << 20}
		var k kindsReader
		for {
			body, err := in.buffered()
			if err != nil {
				return
			}
			if body == nil {
				if in.fill() != nil {
					return
				}
				continue
			}
			r, _, items, err := frameHead(body)
			if err != nil {
				return
			}
			version, kinds, done, err := k.read(&r, items)
			if err != nil {
				return
			}
			if len(k.parts) > maxKinds || len(kinds) > maxKinds {
				t.Fatal("too many kinds")
			}
			if done {
				if err := checkKinds(kinds); err != nil {
					t.Fatal(err)
				}
				readAll(t, appendKinds(nil, version, kinds), version, kinds)
			}
		}
	})
}

func readAll(t *testing.T, stream []byte, version uint64, want []string) {
	in := frameReader{src: bytes.NewReader(stream), max: 1 << 20}
	var k kindsReader
	for {
		body, err := in.buffered()
		if err != nil {
			t.Fatal(err)
		}
		if body == nil {
			if err := in.fill(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		r, _, items, _ := frameHead(body)
		if v, kinds, done, err := k.read(&r, items); err != nil {
			t.Fatal(err)
		} else if done {
			if v != version || !slices.Equal(kinds, want) {
				t.Fatalf("%v became %v", want, kinds)
			}
			return
		}
	}
}

// FuzzStream feeds what a peer sends, after TLS and hello, to both kinds of connection: whatever it is, it is read to an end without a
// panic, requests are handled at most once, and every answer that is written can be read.
func FuzzStream(f *testing.F) {
	f.Add(request(1, message("counter/a", []byte("x"))), true)
	f.Add(slices.Concat(request(1, message("counter/a", nil)), appendNumber(nil, frameCancel, 1), appendNumber(nil, framePing, 1)), true)
	f.Add(slices.Concat(appendAnswer(nil, 1<<16, []byte("reply"), nil), appendAnswer(nil, 1<<16|1, nil, abi.NewError(abi.ErrTrap, "x"))), false)
	f.Add(slices.Concat(appendKinds(nil, 1, []string{"a"}), appendRefusal(nil, Flood, "x"), appendNumber(nil, frameGoaway, 7)), false)
	f.Add((&question{"who", []byte("x")}).append(nil, 1, time.Second), true)
	f.Add(slices.Concat((&question{"none", nil}).append(nil, 1, 1), appendNumber(nil, frameCancel, 1)), true)
	f.Add(relayFrame(frameRelayed, 1, "c", "", abi.AppendEnvelope(nil, message("counter/a", []byte("x")), time.Now())), true)
	f.Add(slices.Concat(relayFrame(frameRelayed, 1, "c", "who", []byte("x")), relayFrame(frameRelayed, 2, "c", fenceService, nil)), true)
	f.Add(relayFrame(frameRelay, 1, "c", "who", nil), true)
	f.Add(appendAnswer(nil, 1<<16, nil, unrelayed{abi.NewError(abi.ErrUnreachable, "x")}), false)
	w := newWorld(f)
	a := w.silent("a", "127.0.0.1:1", func(c *Config) {
		c.Handler, c.MaxMessage, c.Log = handlerFunc(echo), 1<<10, slog.New(slog.DiscardHandler)
		c.OnKinds, c.OnIncident = nil, nil
		c.Services = map[string]Service{"who": func(_ context.Context, _ cluster.NodeID, p []byte) ([]byte, error) { return p, nil }}
		c.Relayed = []string{"who"}
	})
	f.Cleanup(func() { a.shut(f) })
	a.SetMembers([]cluster.Node{{ID: "b"}}) // so that it may relay
	p := must(a.peer(cluster.Node{ID: "b", Authority: "127.0.0.1:2"}))
	f.Fuzz(func(t *testing.T, stream []byte, inward bool) {
		var wire *wire
		answered := 0
		var out *outbound
		answering := func() bool { return false }
		if inward {
			c := newInbound(a.Link, "fuzz")
			c.from = "b"
			wire = &c.wire
			answering = func() bool { // which ends with the lock held that the answer is written under
				c.out.mu.Lock()
				defer c.out.mu.Unlock()
				return c.live.Load() > 0
			}
		} else {
			out = newOutbound(p)
			out.state = open
			out.peer.maxFrame = 1 << 20
			wire = &out.wire
			for range 2 {
				k := &call{request: true, deadline: forever, env: message("counter/a", nil), done: func([]byte, error) { answered++ }}
				if _, _, err := out.send(k, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		wire.peer.node, wire.peer.maxFrame = "b", 1<<20
		wire.sock = newSock(nil)
		wire.out.busy = true // nobody writes: the test looks
		wire.in = frameReader{src: bytes.NewReader(stream), max: 1<<10 + frameExtra}
		if err := wire.read(); err == nil {
			t.Fatal("it has no end")
		}
		for answering() {
			runtime.Gosched()
		}
		replies := frameReader{src: bytes.NewReader(wire.out.buf), max: 1 << 20}
		for {
			body, err := replies.buffered()
			if err != nil {
				t.Fatal(err)
			}
			if body == nil {
				if err := replies.fill(); err == io.EOF && !replies.partial() {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				continue
			}
			if _, number, _, err := frameHead(body); err != nil || number < frameRequest {
				t.Fatalf("it wrote %x: %v", body, err)
			}
		}
		if out != nil {
			out.state = lost
			out.cancel(nil)
			if left := len(out.calls.all()); left+answered != 2 {
				t.Fatalf("%d calls are left, %d were answered", left, answered)
			}
			if out.sweeper != nil {
				out.sweeper.Stop()
			}
		}
	})
}

// FuzzReach: what links ask each other about relays is read to an end, within bounds, and what can be read is written the same.
func FuzzReach(f *testing.F) {
	f.Add(appendReachQuestion(nil, []reachItem{{"b", 1, 2}, {"c", 1 << 60, 0}}), true)
	f.Add(appendReachAnswer(nil, []reachAnswer{{}, {true, 1, 2, true, []string{"x", "y"}}}), false)
	f.Fuzz(func(t *testing.T, b []byte, question bool) {
		if question {
			items, err := readReachQuestion(b)
			if err != nil {
				return
			}
			again, err := readReachQuestion(appendReachQuestion(nil, items))
			if err != nil || !slices.Equal(items, again) || len(items) > reachMost {
				t.Fatalf("%v became %v: %v", items, again, err)
			}
			return
		}
		answers, err := readReachAnswer(b)
		if err != nil {
			return
		}
		again, err := readReachAnswer(appendReachAnswer(nil, answers))
		same := func(a, b reachAnswer) bool {
			return a.reaches == b.reaches && a.boot == b.boot && a.version == b.version && a.told == b.told && slices.Equal(a.kinds, b.kinds)
		}
		if err != nil || !slices.EqualFunc(answers, again, same) || len(answers) > reachMost {
			t.Fatalf("%v became %v: %v", answers, again, err)
		}
		for _, a := range answers {
			if err := checkKinds(a.kinds); err != nil {
				t.Fatal(err)
			}
		}
	})
}
