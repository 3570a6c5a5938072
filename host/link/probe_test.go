package link

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

func TestProbe(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	b := w.node("b", func(c *Config) { c.Self.Boot, c.Mode = 77, cluster.Client })
	got, err := a.Probe(t.Context(), b.self.Authority, "b")
	if err != nil || got.ID != "b" || got.Boot != 77 || got.Mode != cluster.Client || got.Authority != b.self.Authority {
		t.Errorf("%+v, %v", got, err)
	}
	for _, n := range []*node{a, b} {
		if s := n.Stats(); s.Outgoing+s.Incoming != 0 || s.Connected+s.Accepted+s.Refused+s.Dropped+s.Unreached != 0 || len(n.Peers()) != 0 {
			t.Errorf("a probe left something at %s: %+v %+v", n.self.ID, s, n.Peers())
		}
		if log := n.log.String(); strings.Contains(log, "level=WARN") {
			t.Error(log)
		}
	}
}

// TestProbeOfOwnID: two runs of a node learn of each other, both ways, and nothing happens to what others have to do with them.
func TestProbeOfOwnID(t *testing.T) {
	w := newWorld(t)
	got := make(inbox, 1)
	run := func(boot uint64, more ...func(*Config)) *node {
		return w.node("a", append(more, func(c *Config) { c.Self.Boot = boot })...)
	}
	old, young := run(1, handler(got)), run(2)
	b := w.node("b")
	told := make(chan error, 1)
	if err := w.target(b, old).Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	held := <-got
	for range 5 {
		if p, err := young.Probe(t.Context(), old.self.Authority, "a"); err != nil || p.Boot != 1 || p.ID != "a" {
			t.Errorf("%+v, %v", p, err)
		}
		if p, err := old.Probe(t.Context(), young.self.Authority, "a"); err != nil || p.Boot != 2 || p.ID != "a" {
			t.Errorf("%+v, %v", p, err)
		}
	}
	if p, err := old.Probe(t.Context(), old.self.Authority, "a"); err != nil || p.Boot != 1 {
		t.Errorf("of itself: %+v, %v", p, err)
	}
	held.done(nil, nil)
	if err := <-told; err != nil {
		t.Error("a call of another node:", err)
	}
	for _, n := range []*node{old, young} {
		if log := n.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "another run of this node asked") {
			t.Errorf("the log:\n%s", log)
		}
		select {
		case i := <-n.incidents:
			t.Errorf("%+v", i)
		default:
		}
	}
	if s := old.Stats(); s.Incoming != 1 || s.Accepted != 1 || s.Dropped+s.Refused != 0 {
		t.Errorf("%+v", s)
	}
}

func TestProbeFails(t *testing.T) {
	w := newWorld(t)
	foreign, prod := newWorld(t), &world{t: t, authority: w.authority, cluster: "prod"}
	a, hasty := w.node("a"), w.node("hasty", func(c *Config) { c.DialTimeout = time.Second })
	b := w.node("b")
	mute := must(net.Listen("tcp", "127.0.0.1:0")) // nobody accepts
	defer mute.Close()
	garbage := must(net.Listen("tcp", "127.0.0.1:0"))
	defer garbage.Close()
	go func() {
		for {
			c, err := garbage.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 smtp.example.org ready\r\n"))
			_, _ = c.Read(make([]byte, 64<<10)) // unread, it would cut off what was said
			c.Close()
		}
	}()
	liar := w.listen("c", func(r *raw) {
		r.until(frameHello)
		h := rawHello(w, "d")
		h.version = 1
		r.send(appendHello(nil, h))
	})
	for _, c := range []struct {
		name, authority string
		want            cluster.NodeID
		code            abi.Code
		text            string
	}{
		{"another node", b.self.Authority, "c", abi.ErrUnreachable, "of another node"},
		{"another authority", foreign.node("b").self.Authority, "b", abi.ErrUnreachable, "of another authority"},
		{"another cluster", prod.node("b").self.Authority, "b", abi.ErrUnreachable, "of another cluster"},
		{"nobody", "127.0.0.1:1", "b", abi.ErrUnreachable, "connection refused"},
		{"garbage", garbage.Addr().String(), "b", abi.ErrUnreachable, "it does not speak TLS"},
		{"says another id", liar.Authority, "c", abi.ErrUnreachable, `it says node "d"`},
		{"silence", mute.Addr().String(), "b", abi.ErrUnreachable, "no answer in time"},
		{"no address", "nowhere", "b", abi.ErrInvalidArgument, "no such node"},
		{"no id", b.self.Authority, "", abi.ErrInvalidArgument, "no such node"},
	} {
		from := a
		if c.name == "silence" {
			from = hasty
		}
		_, err := from.Probe(t.Context(), c.authority, c.want)
		var e *Error
		if abi.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) || !errors.As(err, &e) || e.Authority != c.authority {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.name == "nobody" && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Probe(ctx, b.self.Authority, "b"); abi.CodeOf(err) != abi.ErrCanceled {
		t.Error(err)
	}
	b.Drain()
	if _, err := a.Probe(t.Context(), b.self.Authority, "b"); abi.CodeOf(err) != abi.ErrShuttingDown || !strings.Contains(err.Error(), "node b at") {
		t.Error(err)
	}
}

// TestProbeEndsWithTheLink: a probe that waits does not outlive the link.
func TestProbeEndsWithTheLink(t *testing.T) {
	w := newWorld(t)
	mute := must(net.Listen("tcp", "127.0.0.1:0"))
	defer mute.Close()
	dialled := make(chan struct{}, 1)
	a := w.silent("a", "127.0.0.1:1", func(c *Config) {
		c.DialTimeout = time.Hour
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled <- struct{}{}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	told := make(chan error, 1)
	go func() {
		_, err := a.Probe(context.Background(), mute.Addr().String(), "b")
		told <- err
	}()
	<-dialled
	a.shut(t)
	if err := <-told; abi.CodeOf(err) != abi.ErrShuttingDown {
		t.Error(err)
	}
	if _, err := a.Probe(context.Background(), mute.Addr().String(), "b"); abi.CodeOf(err) != abi.ErrShuttingDown {
		t.Error(err)
	}
}
