package link

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// TestHostilePeers: whatever a peer does, it is dropped with a line in the log and an incident, and a call between two others that
// was under way all the time is answered.
func TestHostilePeers(t *testing.T) {
	frame := func(body ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	plain := func(say string) func(*testing.T, *world, *node) {
		return func(t *testing.T, w *world, b *node) {
			c := w.connect(b.self.Authority)
			defer c.Close()
			if say != "" {
				if _, err := c.Write([]byte(say)); err != nil {
					t.Error(err)
				}
			}
			_ = c.SetReadDeadline(time.Now().Add(hang))
			if _, err := bytes.NewBuffer(nil).ReadFrom(c); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Error("the connection was not ended")
			}
		}
	}
	says := func(b ...[]byte) func(*testing.T, *world, *node) {
		return func(t *testing.T, w *world, n *node) {
			r := w.dial(n, "evil").meet(w, "evil")
			r.send(bytes.Join(b, nil))
			r.ended()
		}
	}
	many := func(n int, one []byte) []byte { return bytes.Repeat(one, n) }
	tooManyKinds := abi.AppendArray(abi.AppendBool(abi.AppendUint(openFrame(nil, 4, frameKinds), 1), true), maxKinds+1)
	for range maxKinds + 1 {
		tooManyKinds = abi.AppendText(tooManyKinds, "k")
	}
	for _, c := range []struct {
		name   string
		reason Reason
		proven bool
		do     func(*testing.T, *world, *node)
	}{
		{"speaks HTTP", Malformed, false, plain("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		{"speaks noise", Malformed, false, plain(strings.Repeat("\x00\xff", 1000))},
		{"says nothing", Stalled, false, plain("")},
		{"stops within the handshake", Stalled, false, plain("\x16\x03\x01\x02")},
		{"proves itself and says nothing", Stalled, false, func(t *testing.T, w *world, n *node) { w.dial(n, "evil").ended() }},
		{"stops within its hello", Stalled, false, func(t *testing.T, w *world, n *node) {
			r := w.dial(n, "evil")
			r.send(appendHello(nil, rawHello(w, "evil"))[:20])
			r.ended()
		}},
		{"announces a large hello", Oversized, false, func(t *testing.T, w *world, n *node) {
			r := w.dial(n, "evil")
			r.send([]byte{0, 1, 0, 0})
			r.ended()
		}},
		{"begins with a request", Malformed, false, func(t *testing.T, w *world, n *node) {
			r := w.dial(n, "evil")
			r.send(request(1, message("counter/a", nil)))
			r.ended()
		}},
		{"announces 4 GiB", Oversized, true, says([]byte{0xff, 0xff, 0xff, 0xff})},
		{"sends 10 MiB", Oversized, true, says(request(1, message("counter/a", make([]byte, 10<<20))))},
		{"sends an empty frame", Malformed, true, says([]byte{0, 0, 0, 0})},
		{"sends noise", Malformed, true, says(bytes.Repeat([]byte{0, 0, 0, 9, 0xff, 3, 7}, 100))},
		{"sends a frame of a number that is none", Malformed, true, says(frame(0x81, 0x18, 99))},
		{"sends text for a frame", Malformed, true, says(frame(0x61, 'x'))},
		{"says hello twice", Malformed, true, says(appendHello(nil, &hello{}))},
		{"answers what nobody asked", Malformed, true, says(appendAnswer(nil, 1<<16, nil, nil))},
		{"pings with an essay", Malformed, true, says(frame(0x82, framePing, 0x61, 'x'))},
		{"floods with pings", Flood, true, says(many(50_000, appendNumber(nil, framePing, 1)))},
		{"hosts more kinds than there can be", Malformed, true, says(sealFrame(tooManyKinds, 0))},
		{"hosts a kind that is none", Malformed, true, says(appendKinds(nil, 1, []string{"Not a kind"}))},
		{"begins a frame and does not end it", Silent, true, says(request(1, message("counter/a", make([]byte, 1000)))[:500])},
		{"ends a frame a byte at a time", Stalled, true, func(t *testing.T, w *world, n *node) {
			r := w.dial(n, "evil").meet(w, "evil")
			b := request(1, message("counter/a", make([]byte, 100_000)))
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				r.ended()
			}()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for len(b) > 0 {
				select {
				case <-tick.C:
					r.send(b[:1])
					b = b[1:]
				case <-ended:
					return
				}
			}
			t.Error("it was let")
		}},
		{"breaks TLS", Malformed, true, func(t *testing.T, w *world, n *node) {
			r := w.dial(n, "evil").meet(w, "evil")
			_, _ = r.tcp.Write([]byte("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32)))
			r.ended()
		}},
	} {
		run := func(t *testing.T, w *world) {
			got := make(inbox, 1)
			b := w.node("b", handler(got), func(c *Config) { c.MaxInFlight = 10 })
			target := w.target(w.node("a"), b)
			told := make(chan error, 1)
			if err := target.Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
				t.Fatal(err)
			}
			bystander := <-got
			c.do(t, w, b)
			i := b.expect(t, c.reason)
			if want := cluster.NodeID("evil"); c.proven && i.Node != want || !c.proven && i.Node != "" || i.Theirs ||
				i.Blame != (c.reason != Silent) || i.Remote == "" || i.Err == nil {
				t.Errorf("%+v", i)
			}
			if log := b.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, c.reason.String()) {
				t.Errorf("the log:\n%s", log)
			}
			bystander.done(nil, nil)
			if err := <-told; err != nil {
				t.Errorf("another node's call: %v", err)
			}
		}
		t.Run(c.name, func(t *testing.T) {
			if c.reason == Stalled || c.reason == Silent { // a matter of time
				bubble(t, run)
				return
			}
			run(t, newWorld(t))
		})
	}
}

func TestImpostors(t *testing.T) {
	w := newWorld(t)
	b := w.node("b")
	for _, c := range []struct {
		name        string
		certificate cluster.NodeID
		change      func(*hello)
		reason      Reason
		text        string
	}{
		{"another's id", "evil", func(h *hello) { h.node = "a" }, WrongNode, `it says node "a"; its certificate is of "evil"`},
		{"another cluster", "evil", func(h *hello) { h.cluster = "prod" }, WrongCluster, `it says cluster "prod"; node b is of "test"`},
		{"a version to come", "evil", func(h *hello) { h.min, h.max = 7, 9 }, UnknownVersion, "versions 7 to 9 of the protocol; node b speaks 1 to 1"},
		{"this node's id", "b", func(h *hello) {}, SameNode, "two nodes with one id"},
		{"no mode", "evil", func(h *hello) { h.mode = 9 }, Malformed, "mode"},
		{"no room", "evil", func(h *hello) { h.maxInFlight = 0 }, Malformed, "takes no requests"},
		{"a long address", "evil", func(h *hello) { h.authority = strings.Repeat("x", 5000) }, Malformed, "authority"},
	} {
		r := w.dial(b, c.certificate)
		h := rawHello(w, c.certificate)
		c.change(h)
		r.send(appendHello(nil, h))
		said := r.refusal()
		if said == nil || said.Reason != c.reason || !strings.Contains(said.Text, c.text) {
			t.Errorf("%s: it was told %v", c.name, said)
		}
		if i := b.expect(t, c.reason); !i.Blame || !strings.Contains(i.Err.Error(), c.text) {
			t.Errorf("%s: %+v", c.name, i)
		}
	}
	if s := b.Stats(); s.Accepted != 0 || s.Refused != 7 || s.Incoming != 0 {
		t.Errorf("%+v", s)
	}
}

func TestForeignAuthority(t *testing.T) {
	w, foreign := newWorld(t), newWorld(t)
	b, a := w.node("b"), foreign.node("a")
	_, err := w.target(a, b).Deliver(t.Context(), message("counter/a", nil))
	if abi.CodeOf(err) != abi.ErrUnreachable || !strings.Contains(err.Error(), "of another authority") {
		t.Error(err)
	}
	if i := a.expect(t, BadCertificate); i.Node != "" || i.Dialled != "b" || i.Theirs || !i.Blame {
		t.Errorf("%+v", i)
	}
	if i := b.expect(t, BadCertificate); i.Node != "" || !i.Theirs || i.Blame {
		t.Errorf("%+v", i)
	}
}

// TestWrongClusterIsTold: a node of another cluster under the same authority, as two clusters on a developer's machine are.
func TestWrongCluster(t *testing.T) {
	w := newWorld(t)
	other := &world{t: t, authority: w.authority, cluster: "prod"}
	b, a := w.node("b"), other.node("a")
	_, err := w.target(a, b).Deliver(t.Context(), message("counter/a", nil))
	if abi.CodeOf(err) != abi.ErrUnreachable || !strings.Contains(err.Error(), "of another cluster") {
		t.Error(err)
	}
	if i := a.expect(t, WrongCluster); i.Dialled != "b" || i.Node != "" {
		t.Errorf("%+v", i)
	}
}

// TestAnotherNodeAnswers: gossip says where a node is, its certificate says who it is.
func TestAnotherNodeAnswers(t *testing.T) {
	w := newWorld(t)
	a, b := w.node("a"), w.node("b")
	target := must(a.Target(cluster.Node{ID: "c", Authority: b.self.Authority}))
	_, err := target.Deliver(t.Context(), message("counter/a", nil))
	if abi.CodeOf(err) != abi.ErrUnreachable || !strings.Contains(err.Error(), "of another node") {
		t.Error(err)
	}
	if i := a.expect(t, WrongNode); i.Dialled != "c" {
		t.Errorf("%+v", i)
	}
}

// TestHostileServers: what is dialled may be hostile too.
func TestHostileServers(t *testing.T) {
	for _, c := range []struct {
		name   string
		reason Reason
		code   abi.Code
		serve  func(*world, *raw)
	}{
		{"says nothing", 0, abi.ErrUnreachable, func(_ *world, r *raw) { r.ended() }},
		{"chooses a version that was not offered", UnknownVersion, abi.ErrUnreachable, func(w *world, r *raw) {
			r.until(frameHello)
			h := rawHello(w, "b")
			h.version = 2
			r.send(appendHello(nil, h))
			if said := r.refusal(); said == nil || said.Reason != UnknownVersion {
				w.t.Errorf("it was told %v", said)
			}
		}},
		{"says that it is another", WrongNode, abi.ErrUnreachable, func(w *world, r *raw) {
			r.until(frameHello)
			h := rawHello(w, "c")
			h.version = 1
			r.send(appendHello(nil, h))
			r.ended()
		}},
		{"is an older run", StaleBoot, abi.ErrUnreachable, func(w *world, r *raw) {
			r.until(frameHello)
			h := rawHello(w, "b")
			h.version, h.boot = 1, 0
			r.send(appendHello(nil, h))
			r.ended()
		}},
		{"answers noise", Malformed, abi.ErrOutcomeUnknown, func(w *world, r *raw) {
			r.answer(w, "b")
			r.until(frameRequest)
			r.send([]byte{0, 0, 0, 1, 0xff})
			r.ended()
		}},
		{"answers what was not asked", Malformed, abi.ErrOutcomeUnknown, func(w *world, r *raw) {
			r.answer(w, "b")
			r.until(frameRequest)
			r.send(appendAnswer(nil, 77, nil, nil))
			r.ended()
		}},
		{"asks where it should answer", Malformed, abi.ErrOutcomeUnknown, func(w *world, r *raw) {
			r.answer(w, "b")
			r.until(frameRequest)
			r.send(request(1, message("counter/a", nil)))
			r.ended()
		}},
		{"answers too much", Oversized, abi.ErrOutcomeUnknown, func(w *world, r *raw) {
			r.answer(w, "b")
			rd := r.until(frameRequest)
			r.send(appendAnswer(nil, rd.Uint(), make([]byte, 10<<20), nil))
			r.ended()
		}},
		{"hangs up", 0, abi.ErrOutcomeUnknown, func(w *world, r *raw) {
			r.answer(w, "b")
			r.until(frameRequest)
		}},
		{"refuses at once", StaleBoot, abi.ErrUnreachable, func(w *world, r *raw) {
			r.until(frameHello)
			r.send(appendRefusal(nil, StaleBoot, "a newer run\nof you is here"))
		}},
		{"refuses later", StaleBoot, abi.ErrOutcomeUnknown, func(w *world, r *raw) {
			r.answer(w, "b")
			r.until(frameRequest)
			r.send(appendRefusal(nil, StaleBoot, "a newer run of you is here"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.node("a", func(cfg *Config) {
				if c.reason == 0 && c.code == abi.ErrUnreachable { // nothing comes
					cfg.DialTimeout = 300 * time.Millisecond
				}
			})
			target := must(a.Target(w.listen("b", func(r *raw) { c.serve(w, r) })))
			_, err := target.Deliver(t.Context(), message("counter/a", []byte("x")))
			if abi.CodeOf(err) != c.code {
				t.Errorf("%v", err)
			}
			if c.reason != 0 {
				a.expect(t, c.reason)
			}
		})
	}
}

// TestReceiverKeepsToItsLimits: a sender that does not count is told for each request, and harms nobody.
func TestReceiverKeepsToItsLimits(t *testing.T) {
	w := newWorld(t)
	got := make(inbox, 10)
	b := w.node("b", handler(got), func(c *Config) { c.MaxInFlight = 4 })
	r := w.dial(b, "evil").meet(w, "evil")
	for id := range uint64(8) {
		r.send(request(id, message("counter/a", []byte("x"))))
	}
	for range 4 {
		rd := r.until(frameFailure)
		id, e := rd.Uint(), rd.Error()
		if e.Code != abi.ErrOverloaded || id < 4 {
			t.Errorf("request %d: %v", id, e)
		}
	}
	for range 4 {
		(<-got).done([]byte("y"), nil)
	}
	for range 4 {
		if id := r.until(frameReply).Uint(); id >= 4 {
			t.Errorf("request %d was answered", id)
		}
	}
	if s := b.Stats(); s.Overloaded != 4 || s.Serving != 0 {
		t.Errorf("%+v", s)
	}
}

// TestUnreadableEnvelope: the others on the same connection have nothing to do with it.
func TestUnreadableEnvelope(t *testing.T) {
	w := newWorld(t)
	b := w.node("b")
	r := w.dial(b, "a").meet(w, "a")
	bad := func(number uint64, ids ...uint64) []byte {
		f := openFrame(nil, 2+len(ids), number)
		for _, id := range ids {
			f = abi.AppendUint(f, id)
		}
		return sealFrame(abi.AppendMap(f, 0), 0)
	}
	r.send(bad(frameRequest, 5))
	rd := r.until(frameFailure)
	if id, e := rd.Uint(), rd.Error(); id != 5 || e.Code != abi.ErrInvalidArgument || !strings.Contains(e.Message, "needs a target") {
		t.Error(id, e)
	}
	r.send(bad(frameOneWay))
	r.send(request(6, message("counter/a", []byte("x"))))
	if id := r.until(frameReply).Uint(); id != 6 {
		t.Error(id)
	}
}

// TestPeerThatDoesNotRead: its requests are not read either, until it is dropped; what others ask is answered meanwhile.
func TestPeerThatDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		reply := make([]byte, 64<<10)
		b := w.node("b", func(c *Config) {
			c.MaxMessage, c.MaxBytes = 64<<10, 1<<20
			c.Handler = handlerFunc(func(env *abi.Envelope, from cluster.NodeID, done func([]byte, error)) {
				if from == "evil" {
					done(reply, nil)
					return
				}
				done(env.Payload, nil)
			})
		})
		r := w.dial(b, "evil").meet(w, "evil")
		one := request(1, message("counter/a", nil))
		wrote := make(chan int, 1)
		go func() {
			n := 0
			for {
				if _, err := r.conn.Write(bytes.Repeat(one, 100)); err != nil {
					wrote <- n
					return
				}
				n += 100
			}
		}()
		synctest.Wait() // neither side takes any more
		target := w.target(w.node("a"), b)
		for n := range 100 {
			if reply, err := target.Deliver(t.Context(), message("counter/a", fmt.Append(nil, n))); err != nil || string(reply) != fmt.Sprint(n) {
				t.Errorf("%q, %v", reply, err)
			}
		}
		if i := b.expect(t, Unread); i.Node != "evil" || !i.Blame {
			t.Errorf("%+v", i)
		}
		<-wrote
	})
}
