package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

func streams(m map[string]StreamHandler) func(*Config) { return func(c *Config) { c.Streams = m } }

// echoStream answers every byte with itself.
func echoStream(conn net.Conn, _ cluster.NodeID) { _, _ = io.Copy(conn, conn) }

// exchange writes to an echo and reads what comes back.
func exchange(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(hang))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Write(b); err != nil {
			t.Error(err)
		}
	})
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes came back otherwise: %v", len(b), err)
	}
	wg.Wait()
	_ = c.SetDeadline(time.Time{})
}

func TestStream(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	from := make(chan cluster.NodeID, 10)
	b := w.node("b", streams(map[string]StreamHandler{
		"echo": echoStream,
		"greet": func(conn net.Conn, id cluster.NodeID) { // its first bytes may come with the hello
			from <- id
			_, _ = conn.Write([]byte("good day"))
		},
	}))
	c := must(a.Stream(t.Context(), b.self, "echo"))
	exchange(t, c, []byte("x"))
	exchange(t, c, bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
	for range 5 {
		g := must(a.Stream(t.Context(), b.self, "greet"))
		if got, _ := io.ReadAll(g); string(got) != "good day" {
			t.Errorf("%q", got)
		}
		if id := <-from; id != "a" {
			t.Errorf("opened by %q", id)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.target(a, b).Deliver(t.Context(), message("counter/a", []byte{1})); err != nil {
		t.Error("a message beside the streams:", err)
	}
	if s := a.Stats(); s.Streams != 1 || s.Outgoing != 1 || s.Connected != 1 {
		t.Errorf("%+v", s)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a closed stream can be read")
	}
	if n := a.Stats().Streams; n != 0 {
		t.Errorf("%d streams are left", n)
	}
	for _, n := range []*node{a, b} {
		if log := n.log.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
			t.Error(log)
		}
	}
}

// TestStreamRefused: whatever is wrong is said, and nothing is left of it.
func TestStreamRefused(t *testing.T) {
	w, foreign := newWorld(t), newWorld(t)
	prod := &world{t: t, authority: w.authority, cluster: "prod"}
	have := streams(map[string]StreamHandler{"echo": echoStream})
	a, hasty := w.node("a"), w.node("hasty", func(c *Config) { c.DialTimeout = time.Second })
	b := w.node("b", have)
	at := func(id cluster.NodeID, n *node) cluster.Node {
		return cluster.Node{ID: id, Authority: n.self.Authority}
	}
	older := w.listen("old", func(r *raw) { // rawHello has no features
		r.answer(w, "old")
		r.ended()
	})
	liar := w.listen("c", func(r *raw) {
		r.until(frameHello)
		h := rawHello(w, "d")
		h.version, h.features = 1, features
		r.send(appendHello(nil, h))
		if said := r.refusal(); said == nil || said.Reason != WrongNode {
			t.Errorf("the liar was told %v", said)
		}
	})
	mute := must(net.Listen("tcp", "127.0.0.1:0"))
	defer mute.Close()
	for _, c := range []struct {
		name   string
		node   cluster.Node
		stream string
		code   abi.Code
		text   string
	}{
		{"no such stream", b.self, "tail", abi.ErrUnsupported, `has no stream "tail"`},
		{"an older version", older, "echo", abi.ErrUnsupported, "upgrade it"},
		{"another node", at("c", b), "echo", abi.ErrUnreachable, "of another node"},
		{"another authority", at("b", foreign.node("b", have)), "echo", abi.ErrUnreachable, "of another authority"},
		{"another cluster", at("b", prod.node("b", have)), "echo", abi.ErrUnreachable, "of another cluster"},
		{"says another id", liar, "echo", abi.ErrUnreachable, `it says node "d"`},
		{"silence", cluster.Node{ID: "b", Authority: mute.Addr().String()}, "echo", abi.ErrUnreachable, "no answer in time"},
		{"itself", a.self, "echo", abi.ErrInternal, "the node itself"},
		{"no name", b.self, "no name", abi.ErrInvalidArgument, "no name of a stream"},
		{"no address", cluster.Node{ID: "b", Authority: "nowhere"}, "echo", abi.ErrUnreachable, "no such node"},
	} {
		from := a
		if c.name == "silence" {
			from = hasty
		}
		conn, err := from.Stream(t.Context(), c.node, c.stream)
		var e *Error
		if conn != nil || abi.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) || !errors.As(err, &e) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Stream(ctx, b.self, "echo"); abi.CodeOf(err) != abi.ErrCanceled {
		t.Error(err)
	}
	if a.Stats().Streams+b.Stats().Streams != 0 {
		t.Error("streams are left")
	}
}

// TestHostileStreams: what a node says when it opens a stream is judged as any hello is, and only then.
func TestHostileStreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		reason Reason
		change func(*hello)
	}{
		{"another's id", WrongNode, func(h *hello) { h.node = "a" }},
		{"another cluster", WrongCluster, func(h *hello) { h.cluster = "prod" }},
		{"a version to come", UnknownVersion, func(h *hello) { h.min, h.max = 7, 9 }},
		{"no name", Malformed, func(h *hello) { h.stream = "/\x00" }},
		{"a name without end", Malformed, func(h *hello) { h.stream = strings.Repeat("x", 5000) }},
		{"a probe too", Malformed, func(h *hello) { h.probe = true }},
		{"an older run", StaleBoot, func(h *hello) { h.boot = 0 }},
		{"a stream that is none", NoStream, func(h *hello) { h.stream = "tail" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			var calls atomic.Int32
			b := w.node("b", streams(map[string]StreamHandler{"echo": func(net.Conn, cluster.NodeID) { calls.Add(1) }}))
			w.dial(b, "evil").meet(w, "evil")
			r := w.dial(b, "evil")
			h := rawHello(w, "evil")
			h.stream = "echo"
			c.change(h)
			r.send(appendHello(nil, h))
			if said := r.refusal(); said == nil || said.Reason != c.reason {
				t.Errorf("it was told %v", said)
			}
			if i := b.expect(t, c.reason); i.Blame != (c.reason != NoStream) || i.Remote == "" {
				t.Errorf("%+v", i)
			}
			if calls.Load() != 0 || b.Stats().Streams != 0 {
				t.Error("it was let in")
			}
		})
	}
}

// TestStreamWithItsHello: what comes with the hello belongs to the handler.
func TestStreamWithItsHello(t *testing.T) {
	w := newWorld(t)
	b := w.node("b", streams(map[string]StreamHandler{"echo": echoStream}))
	r := w.dial(b, "a")
	h := rawHello(w, "a")
	h.stream = "echo"
	r.send(append(appendHello(nil, h), []byte("at once")...))
	r.until(frameHello)
	rest := r.in.buf[r.in.start:r.in.end]
	got := make([]byte, len("at once")-len(rest))
	if _, err := io.ReadFull(r.conn, got); err != nil || string(rest)+string(got) != "at once" {
		t.Errorf("%q %q, %v", rest, got, err)
	}
}

// TestStreamsAreBounded: one node cannot hold more than its share, and others do not notice.
func TestStreamsAreBounded(t *testing.T) {
	w := newWorld(t)
	a, c := w.node("a"), w.node("c")
	b := w.node("b", streams(map[string]StreamHandler{"echo": echoStream}))
	var open []net.Conn
	for range maxStreams {
		open = append(open, must(a.Stream(t.Context(), b.self, "echo")))
	}
	_, err := a.Stream(t.Context(), b.self, "echo")
	if abi.CodeOf(err) != abi.ErrOverloaded || !strings.Contains(err.Error(), "holds 64 streams of node a") {
		t.Error(err)
	}
	b.expect(t, Flood)
	exchange(t, must(c.Stream(t.Context(), b.self, "echo")), []byte("room for others"))
	for _, s := range open {
		_ = s.Close()
	}
	for { // b notices
		s, err := a.Stream(t.Context(), b.self, "echo")
		if err == nil {
			exchange(t, s, []byte("again"))
			return
		}
		if abi.CodeOf(err) != abi.ErrOverloaded {
			t.Fatal(err)
		}
	}
}

// TestStreamHandlerPanics: it ends that stream and nothing else.
func TestStreamHandlerPanics(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	b := w.node("b", streams(map[string]StreamHandler{"boom": func(net.Conn, cluster.NodeID) { panic("boom") }, "echo": echoStream}))
	s := must(a.Stream(t.Context(), b.self, "boom"))
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("it lives")
	}
	exchange(t, must(a.Stream(t.Context(), b.self, "echo")), []byte("alive"))
	if log := b.log.String(); !strings.Contains(log, "the handler of a stream panicked") {
		t.Error(log)
	}
}

// TestStreamsAndDrain: who drains keeps its streams and takes new ones; who shuts down closes all and waits for the handlers.
func TestStreamsAndDrain(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	entered, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b := w.node("b", streams(map[string]StreamHandler{"echo": echoStream, "slow": func(conn net.Conn, _ cluster.NodeID) {
		close(entered)
		_, _ = io.Copy(io.Discard, conn) // until the link closes it
		<-release
		close(returned)
	}}))
	old := must(a.Stream(t.Context(), b.self, "echo"))
	b.Drain()
	exchange(t, old, []byte("still here"))
	exchange(t, must(a.Stream(t.Context(), b.self, "echo")), []byte("and new"))
	_ = must(a.Stream(t.Context(), b.self, "slow"))
	<-entered                                          // the answer is sent before that: a shutdown between the two runs no handler
	back, err := b.Stream(t.Context(), a.self, "echo") // a has none, but b may ask
	if back != nil || abi.CodeOf(err) != abi.ErrUnsupported {
		t.Error(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Shutdown(context.Background()) }()
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("a stream outlived the link")
	}
	select {
	case <-ended:
		t.Error("it did not wait for the handler")
	default:
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	select {
	case <-returned:
	default:
		t.Error("the handler had not returned")
	}
	if _, err := b.Stream(context.Background(), a.self, "echo"); abi.CodeOf(err) != abi.ErrShuttingDown {
		t.Error(err)
	}
	if _, err := a.Stream(context.Background(), b.self, "echo"); err == nil {
		t.Error("a link that was shut down takes streams")
	}
	if n := b.Stats().Streams; n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// TestStreamEndsWithTheLink: the ends that a node opened go with its link, too, and so does an attempt.
func TestStreamEndsWithTheLink(t *testing.T) {
	w := newWorld(t)
	b := w.node("b", streams(map[string]StreamHandler{"echo": echoStream}))
	mute := must(net.Listen("tcp", "127.0.0.1:0"))
	defer mute.Close()
	dialled := make(chan struct{}, 2)
	a := w.silent("a", "127.0.0.1:1", func(c *Config) {
		c.DialTimeout = time.Hour
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled <- struct{}{}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	s := must(a.Stream(t.Context(), b.self, "echo"))
	<-dialled
	told := make(chan error, 1)
	go func() {
		_, err := a.Stream(context.Background(), cluster.Node{ID: "c", Authority: mute.Addr().String()}, "echo")
		told <- err
	}()
	<-dialled
	a.shut(t)
	if err := <-told; abi.CodeOf(err) != abi.ErrShuttingDown {
		t.Error(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("it lives")
	}
}

// TestStreamAndTrust: a stream does not outlive the trust that it was opened in.
func TestStreamAndTrust(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	kept := must(ca.New(ca.Options{}))
	bundle := filepath.Join(dir, "both.crt")
	write := func(name string, data []byte) string {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	write(bundle, append(w.authority.Certificate(), kept.Certificate()...))
	certified := func(by *ca.Authority, id string) func(*Config) {
		p := must(by.Issue(ca.ID{Cluster: w.cluster, Node: id}, 0))
		cert, key := write(filepath.Join(dir, id+".crt"), p.Certificate), write(filepath.Join(dir, id+".key"), p.Key)
		return func(c *Config) {
			c.Credentials = must(ca.OpenFiles(bundle, cert, key, ca.Options{}))
			c.Keepalive = 100 * time.Millisecond
		}
	}
	a := w.node("a", certified(kept, "a"), streams(map[string]StreamHandler{"echo": echoStream}))
	b, c := w.node("b", certified(w.authority, "b")), w.node("c", certified(kept, "c"))
	out, stays := must(b.Stream(t.Context(), a.self, "echo")), must(c.Stream(t.Context(), a.self, "echo"))
	exchange(t, out, []byte("trusted"))
	write(bundle, kept.Certificate())
	if _, err := out.Read(make([]byte, 1)); err == nil {
		t.Error("it lives")
	}
	exchange(t, stays, []byte("trusted still"))
}
