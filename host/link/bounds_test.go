package link

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

const maxOfOrigin = maxGuests / 2

// TestManySilentConnections: they keep out nobody, though none of them would have to go for an hour.
func TestManySilentConnections(t *testing.T) {
	w := newWorld(t)
	b := w.node("b", func(c *Config) { c.DialTimeout, c.MaxHandshakes = time.Hour, maxGuests })
	var conns []net.Conn
	for range maxOfOrigin + 50 {
		c := w.connect(b.self.Authority)
		defer c.Close()
		conns = append(conns, c)
	}
	if _, err := w.target(w.node("a"), b).Deliver(t.Context(), message("counter/a", nil)); err != nil {
		t.Error(err)
	}
	for _, c := range conns[:50] { // the first to come are the first to go
		_ = c.SetReadDeadline(time.Now().Add(hang))
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Error(err)
		}
	}
	if i := b.expect(t, Flood); i.Node != "" || !i.Blame {
		t.Errorf("%+v", i)
	}
	if n := strings.Count(b.log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// TestRepliesThatNobodyReads: what a peer asked for before it stopped reading is kept within a bound, and it is told what was not kept.
func TestRepliesThatNobodyReads(t *testing.T) {
	const requests, size, limit = 300, 64 << 10, 1 << 20
	w := newWorld(t)
	got := make(inbox, requests)
	b := w.node("b", handler(got), func(c *Config) { c.MaxMessage, c.MaxBytes = size, limit })
	r := w.dial(b, "evil").meet(w, "evil")
	for id := range uint64(requests) {
		r.send(request(1+id, message("counter/a", nil)))
	}
	var held []received
	for range requests {
		held = append(held, <-got)
	}
	reply := make([]byte, size)
	for _, h := range held {
		h.done(reply, nil)
	}
	out := &b.wires(false)[0].out
	out.mu.Lock()
	n := len(out.buf)
	out.mu.Unlock()
	if n > 2*limit+size+requests*200 {
		t.Errorf("%d bytes are kept for a peer that does not read", n)
	}
	replies, dropped := 0, 0
	for replies+dropped < requests {
		number, _, rd, err := r.next()
		switch {
		case err != nil:
			t.Fatal(err)
		case number == frameReply:
			replies++
		case number == frameFailure:
			rd.Uint()
			if e := rd.Error(); e.Code != abi.ErrOutcomeUnknown || !strings.Contains(e.Message, "does not read its replies") {
				t.Error(e)
			}
			dropped++
		}
	}
	if replies*size < limit || dropped == 0 {
		t.Errorf("%d replies came, %d did not", replies, dropped)
	}
}

// TestRequestsThatNobodyReads: the frames of calls that have timed out do not pile up before a node that takes nothing.
func TestRequestsThatNobodyReads(t *testing.T) {
	const limit, size = 4 << 20, 64 << 10
	w := newWorld(t)
	done := make(chan struct{})
	defer close(done)
	met := make(chan struct{}, 1)
	b := w.listen("b", func(r *raw) {
		r.answer(w, "b")
		r.until(frameRequest)
		met <- struct{}{}
		<-done
	})
	a := w.node("a", func(c *Config) { c.MaxBytes = limit })
	target := must(a.Target(b))
	if err := target.Post(message("counter/a", nil), func([]byte, error) {}); err != nil {
		t.Fatal(err)
	}
	<-met // what waits for a connection is not in the queue, and gone when its time is up
	refused := 0
	for range 40 {
		told := make(chan error, 50)
		for range cap(told) {
			env := message("counter/a", make([]byte, size))
			env.Deadline = time.Now().Add(10 * time.Millisecond)
			if err := target.Post(env, func(_ []byte, err error) { told <- err }); err != nil {
				told <- err
			}
		}
		for range cap(told) {
			switch err := <-told; abi.CodeOf(err) {
			case abi.ErrOverloaded:
				refused++
			case abi.ErrTimeout:
			default:
				t.Error(err)
			}
		}
		for _, wire := range a.wires(false) {
			wire.out.mu.Lock()
			if n := len(wire.out.buf); n > limit+size {
				t.Errorf("%d bytes wait", n)
			}
			wire.out.mu.Unlock()
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// TestCutWithinAFrame: a connection that ends within a frame is no offence, its message never was, and the next connection works.
func TestCutWithinAFrame(t *testing.T) {
	w := newWorld(t)
	got := make(inbox, 1)
	b := w.node("b", handler(got))
	whole := request(1, message("counter/a", make([]byte, 100_000)))
	for _, cut := range []int{1, 3, 4, 5, 9, 40, readSize, len(whole) - 1} {
		r := w.dial(b, "evil").meet(w, "evil")
		wire := b.wires(false)
		r.send(whole[:cut])
		_ = r.tcp.Close()
		for _, wire := range wire {
			<-wire.done
		}
	}
	a := w.node("a")
	go func() { (<-got).done([]byte("reply"), nil) }()
	env := message("counter/b", nil)
	if reply, err := w.target(a, b).Deliver(t.Context(), env); err != nil || string(reply) != "reply" {
		t.Errorf("%q, %v", reply, err)
	}
	if s := b.Stats(); s.Serving != 0 || s.Dropped+s.Refused != 0 || strings.Contains(b.log.String(), "level=WARN") {
		t.Errorf("%+v\n%s", s, b.log)
	}
}

// TestWithoutProof: who has no certificate of the cluster's authority does not get to say a word.
func TestWithoutProof(t *testing.T) {
	w, foreign := newWorld(t), newWorld(t)
	b := w.node("b")
	own := must(w.authority.Credentials(ca.ID{Cluster: "test", Node: "evil"})).Client(ca.ID{Cluster: "test", Node: "b"})
	alien := must(foreign.authority.Credentials(ca.ID{Cluster: "test", Node: "evil"})).Client(ca.ID{Cluster: "test", Node: "b"})
	alien.VerifyConnection = nil // it does not mind whom it talks to
	old := own.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for _, c := range []struct {
		name   string
		config *tls.Config
		reason Reason
	}{
		{"no certificate", &tls.Config{InsecureSkipVerify: true}, BadCertificate},
		{"another authority's", alien, BadCertificate},
		{"TLS 1.2", old, Malformed},
		{"another protocol", &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, Malformed},
	} {
		conn := tls.Client(must(net.Dial("tcp", b.self.Authority)), c.config)
		_ = conn.SetDeadline(time.Now().Add(hang))
		if err := conn.Handshake(); err == nil { // the server's verdict on the certificate comes after it
			_, _ = conn.Write(appendHello(nil, rawHello(w, "evil")))
			if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("%s: it was heard: %d, %v", c.name, n, err)
			}
		}
		conn.Close()
		if i := b.expect(t, c.reason); i.Node != "" || i.Theirs || !i.Blame {
			t.Errorf("%s: %+v", c.name, i)
		}
	}
	if s := b.Stats(); s.Accepted != 0 || s.Refused != 4 {
		t.Errorf("%+v", s)
	}
}

// from is a listener whose connections come from addresses of the test's choice.
type from struct {
	net.Listener
	next func() string // "": as it is
}

type fromConn struct {
	net.Conn
	remote net.Addr
}

func (c *fromConn) RemoteAddr() net.Addr { return c.remote }

func (l *from) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if a := l.next(); a != "" {
		return &fromConn{c, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a))}, nil
	}
	return c, nil
}

// TestSlowHandshakesOfOneOrigin: they make room for each other, and not at the cost of those from elsewhere, however slow these are; a
// connection that stands goes on.
func TestSlowHandshakesOfOneOrigin(t *testing.T) {
	w := newWorld(t)
	var flooding atomic.Bool
	var came atomic.Uint64
	ln := &from{w.listener(), func() string {
		if n := came.Add(1); flooding.Load() {
			return fmt.Sprintf("[2001:db8::%x]:7", n) // one network
		}
		return ""
	}}
	b := w.nodeOn(ln, "b", func(c *Config) { c.DialTimeout, c.MaxHandshakes = time.Hour, maxGuests })
	standing := w.target(w.node("a"), b)
	call := func(to cluster.Target) {
		t.Helper()
		if _, err := to.Deliver(t.Context(), message("counter/a", nil)); err != nil {
			t.Error(err)
		}
	}
	call(standing)
	slow := w.dial(b, "slow") // through with TLS, and yet to say hello

	flooding.Store(true)
	const more = 50
	before := came.Load()
	for i := range maxOfOrigin + more {
		c := w.connect(b.self.Authority)
		defer c.Close()
		if _, err := c.Write([]byte("\x16\x03\x01\x02")); err != nil { // the beginning of a handshake
			t.Fatal(err)
		}
		if i < more {
			defer func() {
				_ = c.SetReadDeadline(time.Now().Add(hang))
				if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
					t.Error(err)
				}
			}()
		}
		call(standing)
	}
	for came.Load() < before+maxOfOrigin+more { // each call is answered; the last may be in the listener's queue
		call(standing)
	}
	b.expect(t, Flood)
	flooding.Store(false)
	slow.meet(w, "slow")
	call(w.target(w.node("c"), b))
	if s := b.Stats(); s.Crowded != more || s.Refused < 1 || s.Handshakes != maxOfOrigin {
		t.Errorf("%+v", s)
	}
}

// TestWhoLeavesTheLobby: whoever fills it loses his own.
func TestWhoLeavesTheLobby(t *testing.T) {
	b := lobby{most: maxGuests}
	l := &Link{}
	var raws []net.Conn
	enter := func(addr string) *inbound {
		here, there := net.Pipe()
		raws = append(raws, here)
		c := newInbound(l, addr)
		b.enter(c, &fromConn{there, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))})
		return c
	}
	defer func() {
		for _, c := range raws {
			c.Close()
		}
	}()
	out := func(c *inbound) bool {
		select {
		case <-c.done:
			return true
		default:
			return false
		}
	}
	first := enter("192.0.2.1:1")
	var many, others []*inbound
	for i := range maxOfOrigin {
		many = append(many, enter(fmt.Sprintf("[2001:db8::%x]:1", i)))
	}
	for i := range maxGuests - maxOfOrigin - 1 {
		others = append(others, enter(fmt.Sprintf("10.0.%d.1:1", i)))
	}
	if n, crowded := b.counts(); n != maxGuests || crowded != 0 {
		t.Fatal(n, crowded)
	}
	enter("192.0.2.2:1") // from another origin: the one with most has to make room
	enter("[::ffff:192.0.2.1]:2")
	enter("[2001:db8::ffff]:1") // and again, though its origin has fewer than it may
	if !out(many[0]) || !out(many[1]) || !out(many[2]) || out(many[3]) || out(first) {
		t.Error("not the first of the origin that has most")
	}
	for i, c := range others {
		if out(c) {
			t.Errorf("number %d, alone of its origin, had to go", i)
		}
		b.leave(c)
		b.leave(c)
	}
	b.leave(first)
	for range maxOfOrigin { // one origin, written in two ways
		enter("192.0.2.3:1")
		enter("[::ffff:192.0.2.3]:1")
	}
	if n, crowded := b.counts(); b.of[originOf(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 3)})] != maxOfOrigin || crowded < 3+maxOfOrigin {
		t.Error(n, crowded, b.of)
	}
	for _, g := range slices.Clone(b.guests) {
		b.leave(g.c)
	}
	if len(b.of) != 0 || len(b.guests) != 0 {
		t.Error(b.of)
	}
}

func TestDefaultHandshakes(t *testing.T) {
	for files, want := range map[uint64]int{0: 256, 64: 16, 256: 32, 1024: 128, 2048: 256, 1<<64 - 1: 256} {
		if n := defaultGuests(files); n != want {
			t.Errorf("%d files: %d, want %d", files, n, want)
		}
	}
}
