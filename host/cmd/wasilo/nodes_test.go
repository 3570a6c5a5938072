package main

import (
	"bytes"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/pflag"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/serfwatch"
)

func TestPlanNodes(t *testing.T) {
	c := defaultSettings()
	c.host.Limits.MaxBytes = 300 << 20
	const third = 100 << 20
	got, err := planNodes(&c, 3, "data")
	want := []nodePlan{
		{"n1", "127.0.0.1:7700", "127.0.0.1:7701", "127.0.0.1:7946", "data/n1", "data/cache", third, 0, false, ""},
		{"n2", "127.0.0.1:7710", "127.0.0.1:7711", "127.0.0.1:7956", "data/n2", "data/cache", third, 0, false, ""},
		{"n3", "127.0.0.1:7720", "127.0.0.1:7721", "127.0.0.1:7966", "data/n3", "data/cache", third, 0, false, ""},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%+v", err, got)
	}
	c.host.Limits.MaxBytes, c.host.Limits.MaxSleep = 0, 3<<19
	c.host.HTTP, c.host.Net.Link, c.host.Net.Gossip = "[::1]:0", "localhost:65525", "127.0.0.1:1"
	got, err = planNodes(&c, 2, "/d")
	if err != nil || got[1] != (nodePlan{"n2", "[::1]:0", "localhost:65535", "127.0.0.1:11", "/d/n2", "/d/cache", host.DefaultMaxBytes() / 2, 1 << 20, false, ""}) {
		t.Errorf("%v\n%+v", err, got)
	}
	for says, change := range map[string]func(*settings){
		"--link: localhost:65526":     func(c *settings) { c.host.Net.Link = "localhost:65526" },
		"--gossip: 127.0.0.1:x":       func(c *settings) { c.host.Net.Gossip = "127.0.0.1:x" },
		`--http: "7700"`:              func(c *settings) { c.host.HTTP = "7700" },
		"--nodes says itself which":   func(c *settings) { c.host.Net.Voter = true },
		"--nodes makes members":       func(c *settings) { c.host.Net.Mode = cluster.Client },
		"--nodes makes nodes for the": func(c *settings) { c.host.Net.Cert = "n1.crt" },
	} {
		c := defaultSettings()
		change(&c)
		if _, err := planNodes(&c, 2, "d"); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%v, not %s", err, says)
		}
	}
}

// With voters the first nodes are on the list, an odd number of them and five at most, and each has a log of its own for each size.
func TestPlanVoters(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 1, 3: 3, 4: 3, 5: 5, 7: 5, 9: 5} {
		c := defaultSettings()
		c.host.Net.Quorum = true
		c.host.Net.Link, c.host.Net.Gossip = "127.0.0.1:0", "127.0.0.1:7946"
		plans, err := planNodes(&c, n, "d")
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range plans {
			voters := strings.Split(p.voters, ",")
			switch {
			case !p.quorum || strings.HasSuffix(p.link, ":0") || !strings.HasPrefix(p.data, "d/quorum-"):
				t.Errorf("%d nodes: %+v", n, p)
			case i < want && (len(voters) != want || !slices.Contains(voters, p.id+"="+p.link) || p.voters != plans[0].voters):
				t.Errorf("%d nodes: the voters of %s are %q", n, p.id, p.voters)
			case i >= want && p.voters != "":
				t.Errorf("%d nodes: %s is a voter", n, p.id)
			}
		}
	}
}

// Ports that are chosen for somebody else are all different, free when they are let go, and none that a system gives to who asks for any.
func TestFreePorts(t *testing.T) {
	var free freePorts
	defer free.release()
	var addrs []string
	for range 50 {
		addr, err := free.take("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, text, err := net.SplitHostPort(addr)
		if port, perr := strconv.Atoi(text); err != nil || perr != nil || port < leastFree || port >= mostFree || slices.Contains(addrs, addr) {
			t.Errorf("%s, beside %q: %v", addr, addrs, err)
		}
		addrs = append(addrs, addr)
	}
	if addr, err := free.take("127.0.0.1:7946"); addr != "127.0.0.1:7946" || err != nil {
		t.Errorf("%s, %v", addr, err)
	}
	if _, err := free.take("7946"); err == nil {
		t.Error("no address is taken for one")
	}
	free.release()
	l, err := net.Listen("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// What was given as a flag reaches every node, but for what makes them differ.
func TestArgsOfNodes(t *testing.T) {
	flags := pflag.NewFlagSet("dev", pflag.ContinueOnError)
	nodeFlags(flags)
	flags.String("nodes", "", "")
	given := "--nodes 3 --http 127.0.0.1:1 --turn 3s --config a.toml --max-bytes 3GiB --join x:1 --profile wan"
	if err := flags.Parse(strings.Fields(given)); err != nil {
		t.Fatal(err)
	}
	c := defaultSettings()
	c.host.Net.Join, c.host.Net.Profile = []string{"x:1"}, serfwatch.WAN
	p := nodePlan{"n2", "127.0.0.1:11", "127.0.0.1:12", "127.0.0.1:13", "d/n2", "d/cache", 1 << 30, 1 << 20, false, ""}
	got := strings.Join(p.args(&c, flags, "127.0.0.1:3"), " ")
	want := "serve --leash --id n2 --http 127.0.0.1:11 --link 127.0.0.1:12 --gossip 127.0.0.1:13 --data d/n2 --cache d/cache --actors actors --profile wan " +
		"--max-bytes 1073741824 --max-sleep 1048576 --join x:1 --join 127.0.0.1:3 --config=a.toml --turn=3s"
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	c = defaultSettings()
	p.maxBytes, p.maxSleep = 0, 0
	got = strings.Join(p.args(&c, pflag.NewFlagSet("", 0), ""), " ")
	if strings.Contains(got, "--join") || !strings.HasSuffix(got, "--profile fast") {
		t.Error(got)
	}
}

func TestLinesDoNotMix(t *testing.T) {
	var out bytes.Buffer
	mu := new(sync.Mutex)
	a, b := &lineWriter{mu: mu, w: &out, prefix: "n1 | "}, &lineWriter{mu: mu, w: &out, prefix: "n2 | "}
	for _, s := range []struct {
		to   *lineWriter
		text string
	}{{a, "one\nha"}, {b, "two\n\nthree"}, {a, "lf\n"}, {b, ""}} {
		if n, err := s.to.Write([]byte(s.text)); n != len(s.text) || err != nil {
			t.Error(n, err)
		}
	}
	a.end()
	b.end()
	b.end()
	if want := "n1 | one\nn2 | two\nn2 | \nn1 | half\nn2 | three\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
	// A line without an end does not fill the memory.
	out.Reset()
	for range 3 {
		_, _ = a.Write(bytes.Repeat([]byte("x"), mostLine))
	}
	a.end()
	if strings.Count(out.String(), "\n") != 3 || strings.Count(out.String(), "x") != 3*mostLine {
		t.Errorf("%d bytes, %d lines", out.Len(), strings.Count(out.String(), "\n"))
	}
}

func TestAnnounced(t *testing.T) {
	for in, want := range map[string]string{
		`{"url":"http://127.0.0.1:1","id":"n1"}` + "\n": "n1",
		`{"id":"n1"}` + "\nmore\n":                      "n1",
		`{"id":"n1"}`:                                   "",
		"no JSON\n{\"id\":\"n1\"}\n":                    "",
		strings.Repeat("x", 2*mostLine):                 "",
	} {
		said := make(chan announcement, 1)
		w := &announced{to: said}
		for rest := in; rest != ""; { // in pieces, as pipes have it
			n := min(7, len(rest))
			_, _ = w.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		got := ""
		select {
		case a := <-said:
			got = a.ID
		default:
		}
		if got != want || len(w.line) > mostLine+7 {
			t.Errorf("%.50q: %q, %d bytes kept", in, got, len(w.line))
		}
	}
}

func TestConnected(t *testing.T) {
	list := &gateway.MemberList{Members: []gateway.MemberInfo{
		{ID: "self", Self: true, State: gateway.MemberAlive},
		{ID: "good", State: gateway.MemberAlive, Linked: true, Kinds: []string{}},
		{ID: "silent", State: gateway.MemberAlive, Linked: true},
		{ID: "apart", State: gateway.MemberAlive, Kinds: []string{"a"}},
		{ID: "gone", State: gateway.MemberFailed, Linked: true, Kinds: []string{"a"}},
	}}
	if n := connected(list); n != 2 {
		t.Error(n)
	}
}
