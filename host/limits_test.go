package host

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/engine"
)

// hostcalls is a payload that makes hostcalls.wat call a function of its host n times: op with the arguments a, b and c.
func hostcalls(n int, data []byte, op, a, b, c uint32) []byte {
	p := binary.LittleEndian.AppendUint32(nil, uint32(n))
	for range n {
		for _, v := range []uint32{op, a, b, c, 0, 0} {
			p = binary.LittleEndian.AppendUint32(p, v)
		}
	}
	return append(p, data...)
}

// behind is where data lies that follows n calls.
func behind(n int) uint32 { return uint32(65536 + 4 + 24*n) }

// send is a request with a payload that need not be CBOR.
func send(t *testing.T, n *Node, key, method string, payload []byte) ([]byte, error) {
	t.Helper()
	id, err := abi.ParseIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	return n.Send(t.Context(), &abi.Envelope{Target: id, Method: method, Payload: payload, Deadline: time.Now().Add(hang)})
}

// TestEachLimitSaysWhatItIs runs into every limit of a turn: one of the node's, and one of the kind's own. The error names the limit,
// its figure and where it is set, the next message gets a fresh activation, and it is counted.
func TestEachLimitSaysWhatItIs(t *testing.T) {
	const opNow, opClock = 6, 23
	for name, c := range map[string]struct {
		file   string
		node   Limits
		kind   KindLimits
		call   func(n *Node) error
		counts bool // as a turn that exceeded a limit
		words  []string
	}{
		"turn": {file: "hostile/loop.wasm", kind: KindLimits{Turn: 50 * time.Millisecond}, counts: true,
			words: []string{"limit_exceeded", "exceeded its limit of 50ms", "(limits.turn, or that of the kind)"}},
		"fuel": {file: "hostile/loop.wasm", kind: KindLimits{Fuel: 50_000}, counts: true,
			words: []string{"limit_exceeded", "more than its 50000 units of fuel", "(limits.fuel, or that of the kind)"}},
		"fuel of the node": {file: "hostile/loop.wasm", node: Limits{Fuel: 60_000}, counts: true,
			words: []string{"more than its 60000 units of fuel"}},
		"stack": {file: "hostile/recursion.wasm", kind: KindLimits{Stack: 64 << 10}, counts: true,
			words: []string{"limit_exceeded", "more than its 64 KiB of stack", "(limits.stack, or that of the kind)"}},
		"stack, as much as there may be": {file: "hostile/recursion.wasm", kind: KindLimits{Stack: 64 << 20}, counts: true,
			words: []string{"limit_exceeded", "more than its 64 MiB of stack"}},
		"memory": {file: "hostile/memory_bomb.wasm", kind: KindLimits{Memory: 2 << 20}, counts: true,
			words: []string{"limit_exceeded", "out of memory (limit 2 MiB; limits.memory, or that of the kind)"}},
		"table": {file: "hostile/table_full.wasm", kind: KindLimits{Table: 2000}, counts: true,
			words: []string{"limit_exceeded", "out of table entries (limit 2000; limits.table, or that of the kind)"}},
		"table at its start": {file: "hostile/table_full.wasm", kind: KindLimits{Table: 5},
			words: []string{"activation_failed", "starts with 10 entries of tables; its limit is 5 (limits.table, or that of the kind)"}},
		"host calls": {file: "hostcalls.wasm", node: Limits{HostCalls: 1000}, kind: KindLimits{HostCalls: 10}, counts: true,
			call: func(n *Node) error {
				if _, err := send(t, n, "hostcalls/x", "run", hostcalls(10, nil, opNow, 0, 0, 0)); err != nil {
					t.Errorf("as many host calls as it may: %v", err)
				}
				_, err := send(t, n, "hostcalls/x", "run", hostcalls(11, nil, opNow, 0, 0, 0))
				return err
			}, words: []string{"limit_exceeded", "more than 10 host calls (limits.host_calls, or that of the kind)"}},
		"host calls by WASI": {file: "hostcalls.wasm", kind: KindLimits{HostCalls: 10}, counts: true,
			call: func(n *Node) error {
				_, err := send(t, n, "hostcalls/x", "run", hostcalls(11, nil, opClock, 1, 32768, 0))
				return err
			}, words: []string{"limit_exceeded", "more than 10 host calls"}},
		"message": {file: "echo.wasm", kind: KindLimits{MaxMessage: 100},
			call: func(n *Node) error {
				if _, err := send(t, n, "echo/x", "echo", make([]byte, 100)); err != nil {
					t.Errorf("as large a message as it may have: %v", err)
				}
				_, err := send(t, n, "echo/x", "echo", make([]byte, 101))
				return err
			}, words: []string{"payload_too_large", "101 bytes; the limit is 100 (limits.max_message, or that of the kind)"}},
		"reply": {file: "hostcalls.wasm", kind: KindLimits{MaxMessage: 500},
			call: func(n *Node) error {
				_, err := send(t, n, "hostcalls/x", "run", hostcalls(1, nil, opNow, 0, 0, 0))
				return err
			}, words: []string{"payload_too_large", "a reply of 1032 bytes; the limit is 500 (limits.max_message, or that of the kind)"}},
	} {
		t.Run(name, func(t *testing.T) {
			kind := strings.TrimSuffix(strings.ReplaceAll(c.file, "/", "_"), ".wasm")
			if c.kind.Turn == 0 { // that limit is not the one
				c.node.Turn = hang
			}
			cfg := Config{ActorsDir: actorsDir(t, c.file), Limits: c.node, Kinds: map[string]KindLimits{kind: c.kind}}
			n := start(t, cfg)
			if c.call == nil {
				c.call = func(n *Node) error { _, err := send(t, n, kind+"/x", "run", nil); return err }
			}
			for range 2 {
				err := c.call(n)
				if err == nil {
					t.Fatal("it goes through")
				}
				for _, w := range c.words {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q lacks %q", err, w)
					}
				}
			}
			k := n.snapshot().Kinds[0]
			if c.counts && (k.Limits != 2 || k.Fuel == 0) || !c.counts && k.Limits != 0 {
				t.Errorf("%d limits, %d units of fuel", k.Limits, k.Fuel)
			}
		})
	}
}

// A kind may be without a limit of fuel where the node has one, and what it uses is counted either way.
func TestFuelOfAKind(t *testing.T) {
	n := start(t, Config{ActorsDir: actorsDir(t, "echo.wasm", "hostcalls.wasm"), Limits: Limits{Fuel: 10_000},
		Kinds: map[string]KindLimits{"hostcalls": {Fuel: Unlimited}}})
	if _, err := send(t, n, "hostcalls/x", "run", hostcalls(1000, nil, 6, 0, 0, 0)); err != nil { // 500 units a call
		t.Error(err)
	}
	if _, err := send(t, n, "echo/x", "echo", make([]byte, 64)); err != nil {
		t.Error(err)
	}
	for _, k := range n.snapshot().Kinds {
		switch {
		case k.Kind == "echo" && (k.Fuel < 20 || k.Fuel > 10_000), k.Kind == "hostcalls" && k.Fuel < 500_000:
			t.Errorf("%s used %d units", k.Kind, k.Fuel)
		}
	}
	for _, k := range n.Kinds() {
		if want := map[string]int64{"echo": 10_000, "hostcalls": 0}[k.Name]; k.Limits == nil || k.Limits.Fuel != want || k.Limits.Stack != 8<<20 ||
			k.Limits.Memory != abi.DefaultMemory || k.Limits.TurnMS != 5000 || k.Limits.LogBytes != 64<<10 || k.Limits.Table != 128<<10 {
			t.Errorf("%s: %+v", k.Name, k.Limits)
		}
	}
}

// Messages of a turn: a guest's requests are refused beyond the limit, effects beyond it break the turn.
func TestOutgoingOfAKind(t *testing.T) {
	teller := nativeKind("teller", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error {
		id, err := abi.NewIdentity("teller", "other")
		if err != nil || ev.Tag != abi.EventCall {
			return err
		}
		out.Kind = abi.OutEffects
		for range 3 {
			out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectTell, Target: id, Method: "m", Payload: []byte{0xf6}})
		}
		return nil
	})
	n := start(t, Config{ActorsDir: actorsDir(t, "hostcalls.wasm", "echo.wasm"), Native: []NativeKind{teller}, Limits: Limits{Outgoing: 2},
		Kinds: map[string]KindLimits{"hostcalls": {Outgoing: 4}}})
	_, err := call(n, "teller/x", "m", "")
	wantCode(t, err, abi.ErrLimitExceeded, "more than 2 messages to others (limits.outgoing, or that of the kind); no effect of the turn was applied")
	id, _ := abi.NewIdentity("echo", "e")
	q := abi.AppendRequest(nil, &abi.Request{Target: id, Method: "echo", Payload: []byte{0xf6}})
	out, err := send(t, n, "hostcalls/x", "run", hostcalls(6, q, 1, behind(6), uint32(len(q)), 0)) // start
	if err != nil {
		t.Fatal(err)
	}
	for k := range 6 {
		got := int64(binary.LittleEndian.Uint64(out[8*k:]))
		if k < 4 && got <= 0 || k >= 4 && got != -int64(abi.ErrLimitExceeded) {
			t.Errorf("request %d: %d", k, got)
		}
	}
	if k := n.Kinds(); k[1].Name != "hostcalls" || k[1].Limits.Outgoing != 4 || k[2].Limits.Outgoing != 2 || k[2].Limits.Memory != 0 {
		t.Errorf("%+v", k)
	}
}

// What a guest writes beyond its rate is dropped, and the log says which limit did it.
func TestLogBytesOfAKind(t *testing.T) {
	line := append(bytes.Repeat([]byte{'x'}, 1000), '\n')
	const written = 20
	for bytes, least := range map[int]int{1 << 10: 4, 1 << 20: written} {
		var log lines
		n := start(t, Config{ActorsDir: actorsDir(t, "hostcalls.wasm"), Log: log.logger(),
			Kinds: map[string]KindLimits{"hostcalls": {LogBytes: bytes}}})
		began := time.Now()
		if _, err := send(t, n, "hostcalls/x", "run", hostcalls(written, line, 8, 1, behind(written), uint32(len(line)))); err != nil {
			t.Fatal(err)
		}
		most := min(written, least+int(time.Since(began).Seconds()*float64(bytes)/1000)) // what came in meanwhile
		if err := n.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(log.all, "")
		got := strings.Count(text, strings.Repeat("x", 1000))
		if got < least || got > most {
			t.Errorf("%d bytes a second: %d lines, want %d to %d", bytes, got, least, most)
		}
		dropped := 0 // they are told of now and then, and at the end
		for _, m := range regexp.MustCompile(`dropped_lines=(\d+)`).FindAllStringSubmatch(text, -1) {
			n, _ := strconv.Atoi(m[1])
			dropped += n
		}
		if dropped != written-got || strings.Contains(text, "limits.log_bytes") != (dropped > 0) {
			t.Errorf("%d bytes a second: %d lines were dropped, want %d: %s", bytes, dropped, written-got, text)
		}
	}
}

// Of 4 GiB a guest can have all but the last page.
func TestMemoryOf4GiB(t *testing.T) {
	kinds := map[string]KindLimits{"hostcalls": {Memory: 4 << 30}}
	for _, c := range []Config{{Limits: Limits{Memory: 4 << 30}}, {Kinds: kinds}, {Limits: Limits{Memory: 4 << 30}, Kinds: kinds}} {
		c.ActorsDir = actorsDir(t, "hostcalls.wasm")
		n := start(t, c)
		if _, err := send(t, n, "hostcalls/x", "run", hostcalls(1, nil, 6, 0, 0, 0)); err != nil {
			t.Error(err)
		}
		if k := n.Kinds()[0]; k.Limits == nil || k.Limits.Memory != engine.MaxMemory {
			t.Errorf("%+v", k)
		}
	}
}

func TestBadLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		kind   KindLimits
		words  string
	}{
		"memory":      {Limits{Memory: 4<<30 + 1}, KindLimits{Memory: 64<<10 - 1}, "memory must be from 64KiB to 4GiB"},
		"table":       {Limits{Table: 1<<20 + 1}, KindLimits{Table: -1}, "table must be from 1 to 1048576 entries"},
		"stack":       {Limits{Stack: 64<<10 - 1}, KindLimits{Stack: 64<<20 + 1}, "stack must be from 64KiB to 64MiB"},
		"fuel":        {Limits{Fuel: 9999}, KindLimits{Fuel: -2}, "fuel must be 0, for none, or from 10000 to 1125899906842624 units"},
		"host_calls":  {Limits{HostCalls: -1}, KindLimits{HostCalls: 1<<30 + 1}, "host_calls must be from 1 to 1073741824"},
		"outgoing":    {Limits{Outgoing: -1}, KindLimits{Outgoing: 1<<30 + 1}, "outgoing must be from 1 to 1073741824"},
		"log_bytes":   {Limits{LogBytes: 1023}, KindLimits{LogBytes: 1<<30 + 1}, "log_bytes must be from 1KiB to 1GiB"},
		"max_message": {Limits{MaxMessage: 1<<30 + 1}, KindLimits{MaxMessage: 2 << 20}, "max_message"},
	} {
		_, err := New(Config{Limits: c.limits})
		if err == nil || !strings.Contains(err.Error(), "limits."+c.words) {
			t.Errorf("%s: %v", name, err)
		}
		_, err = New(Config{Kinds: map[string]KindLimits{"chat": c.kind}})
		if err == nil || !strings.Contains(err.Error(), "kinds.chat."+c.words) {
			t.Errorf("%s of a kind: %v", name, err)
		}
	}
	_, err := New(Config{Kinds: map[string]KindLimits{"chat": {MaxMessage: 2 << 20}}})
	if err == nil || !strings.Contains(err.Error(), "kinds.chat.max_message is 2097152, more than limits.max_message, 1048576") {
		t.Error(err)
	}
	if _, err := New(Config{Limits: Limits{Table: 1, Stack: 64 << 20, Fuel: 10_000, HostCalls: 1, Outgoing: 1, LogBytes: 1 << 10},
		Kinds: map[string]KindLimits{"chat": {Table: 1 << 20, Stack: 64 << 10, Fuel: Unlimited, MaxMessage: 1}}}); err != nil {
		t.Error(err)
	}
}
