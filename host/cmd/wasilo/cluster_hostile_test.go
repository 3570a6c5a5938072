package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/link/ca"
)

// testClusterHostile: whatever strangers and traitors send to a node's ports, it says so in a line and goes on, and so do its
// connections to others: calls between the nodes succeed all the time.
func testClusterHostile(t *testing.T, home string) {
	r := newRealm(t, home)
	n1, n2 := r.start("n1"), r.start("n2")
	r.agree()
	names := counters(30)
	each(names, func(_ int, name string) { n1.adds(name, 1) })
	watch := newTally(names, r.homes("counter"), 1)
	load := watch.press(t, []*member{n1, n2})
	load.strict = true

	authority, err := ca.OpenDevelopment(filepath.Join(home, "config", "wasilo", "dev-ca"), ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	traitor := func(t *testing.T, node, cluster string) net.Conn {
		mine, err := authority.Credentials(ca.ID{Cluster: cluster, Node: node})
		if err != nil {
			t.Fatal(err)
		}
		return tls.Client(dialTCP(t, n1.Link), mine.Client(ca.ID{Cluster: r.name, Node: "n1"}))
	}
	large := frameOf(10<<20, 3, 1)
	began, allowed := len(warnings(n1)), 0
	for _, c := range []struct {
		name string
		do   func(*testing.T)
		most int      // warnings
		says []string // in one of them
	}{
		{"HTTP", func(t *testing.T) { say(t, dialTCP(t, n1.Link), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")) },
			1, []string{"malformed", "TLS"}},
		{"Noise", func(t *testing.T) { say(t, dialTCP(t, n1.Link), bytes.Repeat([]byte("\x00\xff"), 5000)) },
			1, nil}, // as above: at most one line in ten seconds for what nobody has proven
		{"LargeHello", func(t *testing.T) { say(t, traitor(t, "evil1", r.name), large[:4]) },
			1, []string{"oversized"}},
		{"LargeFrame", func(t *testing.T) { say(t, traitor(t, "evil2", r.name), helloOf("evil2", r.name), large) },
			1, []string{"oversized", "node=evil2"}},
		{"CutFrame", func(t *testing.T) {
			cut(t, traitor(t, "evil3", r.name), helloOf("evil3", r.name), frameOf(1000, 3, 1)[:500])
		},
			1, nil}, // whoever hung up has more to say about it
		{"Garbage", func(t *testing.T) {
			say(t, traitor(t, "evil4", r.name), helloOf("evil4", r.name), bytes.Repeat([]byte{0, 0, 0, 9, 0xff, 3, 7}, 100))
		}, 1, []string{"malformed", "node=evil4"}},
		{"Impostor", func(t *testing.T) { say(t, traitor(t, "evil5", r.name), helloOf("n2", r.name)) },
			1, []string{"wrong_node", "n2", "evil5"}},
		{"OtherCluster", func(t *testing.T) { say(t, traitor(t, "evil6", "elsewhere"), helloOf("evil6", "elsewhere")) },
			1, []string{"elsewhere", r.name}},
		{"GossipTCP", func(t *testing.T) { say(t, dialTCP(t, n1.Gossip), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")) },
			1, []string{"gossip"}},
		{"GossipUDP", func(t *testing.T) {
			c, err := net.Dial("udp", n1.Gossip)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for range 200 {
				if _, err := c.Write(bytes.Repeat([]byte("\x00\xff"), 500)); err != nil {
					t.Error(err)
				}
			}
		}, 5, []string{"something that is no gossip of this cluster was refused"}}, // a minute

	} {
		r.run(c.name, func(t *testing.T) {
			before := len(warnings(n1))
			c.do(t)
			if len(c.says) > 0 {
				r.until("a line of the log", func() (bool, any) {
					said := warnings(n1)[before:]
					return len(grep(strings.Join(said, ""), c.says...)) > 0, said
				})
			}
			load.reach(50)
			// A line may be late, and is then said while the next part runs: all parts until now may have said this much. What it is known
			// by tells whose it is.
			allowed += c.most
			said := warnings(n1)
			if said := said[began:]; len(said) > allowed {
				t.Errorf("%d lines, %d allowed until now: %q", len(said), allowed, said)
			}
			if own := grep(strings.Join(said[before:], ""), c.says...); len(c.says) > 0 && len(own) > c.most {
				t.Errorf("%d lines: %q", len(own), own)
			}
		})
	}
	load.stop()
	watch.check(t, []*member{n1, n2})
	r.agree()
}

// warnings are the lines of a node's log that warn of something, but for those of a neighbour that was slow to answer: a machine that is busy
// makes them.
func warnings(m *member) []string {
	return slices.DeleteFunc(grep(m.log.String(), " WRN "), func(line string) bool { return strings.Contains(line, "UDP probes failed") })
}

func dialTCP(t *testing.T, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// say sends all of it, as far as the other side listens, and waits until that has had enough.
func say(t *testing.T, c net.Conn, parts ...[]byte) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(hangs))
	var said sync.WaitGroup
	said.Go(func() { _, _ = c.Write(bytes.Join(parts, nil)) })
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the connection was not ended")
	}
	said.Wait()
}

// cut sends all of it, and hangs up as a machine does that lost its power: by a reset.
func cut(t *testing.T, c net.Conn, parts ...[]byte) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(hangs))
	for _, p := range parts {
		if _, err := c.Write(p); err != nil {
			t.Error(err)
		}
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil { // of the hello: it was let in
		t.Error(err)
	}
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// frameOf is a frame of the link: a CBOR array of a frame's number, an id and n bytes.
func frameOf(n int, number, id uint64) []byte {
	b := abi.AppendUint(abi.AppendUint(abi.AppendArray(make([]byte, 4), 3), number), id)
	b = abi.AppendBytes(b, make([]byte, n))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// helloOf is how a node introduces itself on the link, key by key: versions, cluster, id, run, address, mode, features, limits.
func helloOf(node, cluster string) []byte {
	b := abi.AppendMap(abi.AppendUint(abi.AppendArray(make([]byte, 4), 2), 1), 10)
	for key, v := range []any{1, 1, nil, cluster, node, 1, "127.0.0.1:1", 0, 0, 1 << 20, 100} {
		switch v := v.(type) {
		case int:
			b = abi.AppendUint(abi.AppendUint(b, uint64(key)), uint64(v))
		case string:
			b = abi.AppendText(abi.AppendUint(b, uint64(key)), v)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}
