package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		failures int
		refused  bool
		least    time.Duration
		most     time.Duration
	}{
		{0, false, 0, 0}, {0, true, 0, 0},
		{1, false, 25 * time.Millisecond, 50 * time.Millisecond},
		{2, false, 50 * time.Millisecond, 100 * time.Millisecond},
		{6, false, 800 * time.Millisecond, 1600 * time.Millisecond},
		{7, false, time.Second, 2 * time.Second},
		{1 << 40, false, time.Second, 2 * time.Second},
		{1, true, time.Second, 2 * time.Second},
		{9, true, 5 * time.Second, 10 * time.Second},
	} {
		if d := backoff(c.failures, c.refused, 0); d != c.least {
			t.Errorf("%d failures: at least %s", c.failures, d)
		}
		if d := backoff(c.failures, c.refused, 0.999999999); d > c.most || d < c.most-time.Microsecond {
			t.Errorf("%d failures: at most %s", c.failures, d)
		}
	}
}

// TestCallTable: whatever the order, an id finds its call once, or says that it has left, or that it never was.
func TestCallTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table calls
		here := map[uint64]*call{}
		gone := map[uint64]bool{}
		bytes := 0
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				k := &call{size: rapid.IntRange(1, 9).Draw(t, "size"), deadline: time.Duration(rapid.IntRange(0, 99).Draw(t, "deadline"))}
				table.add(k)
				if here[k.id] != nil || gone[k.id] || k.id == 0 {
					t.Fatalf("id %d was given out before", k.id)
				}
				here[k.id] = k
				bytes += k.size
			},
			"take": func(t *rapid.T) {
				ids := make([]uint64, 0, len(here)+len(gone))
				for id := range here {
					ids = append(ids, id)
				}
				for id := range gone {
					ids = append(ids, id)
				}
				if len(ids) == 0 {
					return
				}
				slices.Sort(ids)
				id := rapid.SampledFrom(ids).Draw(t, "id")
				k, known := table.take(id)
				if k != here[id] || !known {
					t.Fatalf("id %d: %v, %v", id, k, known)
				}
				if k != nil {
					bytes -= k.size
				}
				delete(here, id)
				gone[id] = true
			},
			"none": func(t *rapid.T) {
				id := rapid.Uint64().Draw(t, "id")
				if k, known := table.take(id); here[id] == nil && !gone[id] && (k != nil || known) {
					t.Fatalf("id %d was never given out: %v, %v", id, k, known)
				} else if here[id] != nil {
					bytes -= k.size
					delete(here, id)
					gone[id] = true
				}
			},
			"due": func(t *rapid.T) {
				now := time.Duration(rapid.IntRange(0, 99).Draw(t, "now"))
				late, next := table.due(now)
				want := forever
				for id, k := range here {
					if k.deadline <= now {
						if !slices.Contains(late, k) {
							t.Fatalf("%v is late", k)
						}
						bytes -= k.size
						delete(here, id)
						gone[id] = true
					} else {
						want = min(want, k.deadline)
					}
				}
				if next != want {
					t.Fatalf("the next deadline is %v, not %v", want, next)
				}
			},
			"": func(t *rapid.T) {
				if table.live != len(here) || table.bytes != bytes {
					t.Fatalf("%d calls of %d bytes, the table has %d of %d", len(here), bytes, table.live, table.bytes)
				}
			},
		})
	})
}

// TestLook: what the janitor makes of a connection, one look after another.
func TestLook(t *testing.T) {
	w := newWorld(t)
	a := w.silent("a", "127.0.0.1:1")
	defer a.shut(t)
	for _, c := range []struct {
		name   string
		reason Reason // 0: it lives
		looks  int    // until then
		step   func(*inbound)
	}{
		{"nothing comes", Silent, silentTicks, func(*inbound) {}},
		{"nothing comes, since it is not read", 0, 100, func(c *inbound) { c.paused.Store(true) }},
		{"bytes of a frame come", Stalled, stalledTicks, func(c *inbound) { c.sock.received.Add(1); c.partial.Store(true) }},
		{"frames come", 0, 100, func(c *inbound) { c.sock.received.Add(1); c.frames.Add(1); c.partial.Store(true) }},
		{"a write does not move", Unread, unreadTicks, func(c *inbound) { c.sock.received.Add(1); c.sock.waiting.Store(true) }},
		{"a write moves", 0, 100, func(c *inbound) { c.sock.received.Add(1); c.sock.sent.Add(1); c.sock.waiting.Store(true) }},
	} {
		near, far := net.Pipe()
		wire := newInbound(a.Link, "test")
		wire.sock = newSock(near)
		wire.sock.received.Add(1)
		ended := func() bool {
			select {
			case <-wire.done:
				return true
			default:
				return false
			}
		}
		looks := 0
		for wire.look(time.Now()); !ended() && looks < 100; looks++ {
			c.step(wire)
			wire.look(time.Now())
		}
		var f *fault
		if errors.As(wire.err, &f) != (c.reason != 0) || c.reason != 0 && f.reason != c.reason || looks != c.looks {
			t.Errorf("%s: %v after %d looks", c.name, wire.err, looks)
		}
		near.Close()
		far.Close()
	}
}

// TestRetiredAtTheLastMoment: a connection that nobody wants any more may be through with its handshake before it learns of it. It
// must not stand for ever.
func TestRetiredAtTheLastMoment(t *testing.T) {
	w := newWorld(t)
	a := w.silent("a", "127.0.0.1:1")
	defer a.shut(t)
	c := newOutbound(must(a.peer(cluster.Node{ID: "b", Authority: "127.0.0.1:2"})))
	c.retire(Reconnect)
	c.opened()
	if c.state != retired || !c.out.final {
		t.Errorf("state %d", c.state)
	}
}

// TestFrameReader: however the stream is cut, the same frames come out; the buffer follows what has come.
func TestFrameReader(t *testing.T) {
	var stream []byte
	var want [][]byte
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 2, 100, readSize - lengthSize, readSize, readSize + 1, 1 << 20, 3, 300_000, 1, 1, 1} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		want = append(want, b)
		stream = sealFrame(append(append(stream, 0, 0, 0, 0), b...), len(stream))
	}
	for name, src := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "half": iotest.HalfReader(bytes.NewReader(stream)), "with the end": iotest.DataErrReader(bytes.NewReader(stream)),
		"bytes": iotest.OneByteReader(bytes.NewReader(stream)),
	} {
		f := frameReader{src: src, max: 1 << 20}
		n := 0
		for {
			body, err := f.buffered()
			if err != nil {
				t.Fatal(name, err)
			}
			if body == nil {
				if err := f.fill(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(name, err)
				}
				if held := f.end - f.start; len(f.buf) > max(readSize, 2*held) && held > 0 && f.small == 0 {
					t.Fatalf("%s: %d bytes for %d that have come", name, len(f.buf), held)
				}
				continue
			}
			if !bytes.Equal(body, want[n]) {
				t.Fatalf("%s: frame %d differs", name, n)
			}
			n++
		}
		if n != len(want) || f.partial() {
			t.Errorf("%s: %d frames", name, n)
		}
	}
	// What is announced and does not come costs nothing.
	f := frameReader{src: bytes.NewReader([]byte{0, 0x10, 0, 0, 1, 2, 3}), max: 1 << 20}
	for f.fill() == nil {
	}
	if len(f.buf) > readSize {
		t.Errorf("%d bytes for 7", len(f.buf))
	}
}

func TestQuietLog(t *testing.T) {
	var out bytes.Buffer
	var now time.Duration
	q := newQuietLog(slog.New(slog.NewTextHandler(&out, nil)), func() time.Duration { return now })
	lines := func() int {
		n := strings.Count(out.String(), "\n")
		out.Reset()
		return n
	}
	for range 10 {
		q.warn("one", "a")
		q.warn("one", "b")
		q.warn("two", "a")
	}
	if n := lines(); n != 3 {
		t.Errorf("%d lines", n)
	}
	now += quietFor
	q.warn("one", "a")
	if s := out.String(); !strings.Contains(s, "left_out=9") {
		t.Error(s)
	}
	lines()
	for n := range 10 * quietKeys {
		q.warn("one", fmt.Sprint(n))
	}
	if n := lines(); n > quietKeys+1 || len(q.seen) > quietKeys+1 {
		t.Errorf("%d lines, %d remembered", n, len(q.seen))
	}
	now += quietFor
	q.warn("one", "new")
	if n := lines(); n != 1 || len(q.seen) > 2 {
		t.Errorf("%d lines, %d remembered", n, len(q.seen))
	}
}

func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for r := Malformed; r <= Reconnect; r++ {
		if s := r.String(); seen[s] || strings.Contains(s, "reason") {
			t.Error(s)
		} else {
			seen[s] = true
		}
	}
	if s := Reason(999).String(); s != "reason_999" {
		t.Error(s)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"ünï": "ünï", "a\nb\x1b[2J": "a.b.[2J", "a\xffb": "a.b", strings.Repeat("ä", 400): strings.Repeat("ä", 150) + "…"} {
		if got := printable(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

func TestHello(t *testing.T) {
	h := hello{min: 1, max: 3, version: 2, cluster: "c", node: "n", boot: 1 << 63, authority: "h:1", mode: 1, features: 5, maxFrame: 1 << 20, maxInFlight: 7}
	r, number, items, err := frameHead(appendHello(nil, &h)[lengthSize:])
	if err != nil || number != frameHello {
		t.Fatal(number, err)
	}
	if got, err := readHello(&r, items); err != nil || *got != h {
		t.Errorf("%+v, %v", got, err)
	}
	// A hello of a version to come: other keys, values of other types.
	b := abi.AppendMap(openFrame(nil, 2, frameHello), 3)
	b = abi.AppendUint(abi.AppendUint(b, helloMin), 9)
	b = abi.AppendUint(abi.AppendUint(b, helloMax), 9)
	b = sealFrame(abi.AppendArray(abi.AppendUint(b, 99), 0), 0)
	r, _, items, _ = frameHead(b[lengthSize:])
	if got, err := readHello(&r, items); err != nil || got.min != 9 {
		t.Errorf("%+v, %v", got, err)
	}
}
