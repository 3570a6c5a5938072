package serfwatch

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/wasilo/wasilo/cluster"
)

func TestConfigIsChecked(t *testing.T) {
	good := Config{ID: "n1", Authority: "10.0.0.1:7701"}
	c, err := good.checked()
	if err != nil {
		t.Fatal(err)
	}
	if c.Cluster != "wasilo" || c.Bind != DefaultBind || c.Profile != LAN || c.Boot == 0 || c.Log == nil {
		t.Errorf("defaults: %+v", c)
	}
	for name, f := range map[string]struct {
		change func(*Config)
		says   string // "": it is right
	}{
		"no id":               {func(c *Config) { c.ID = "" }, "ID"},
		"a long id":           {func(c *Config) { c.ID = cluster.NodeID(strings.Repeat("n", 64)) }, "ID"},
		"a cluster's name":    {func(c *Config) { c.Cluster = "a b" }, `Cluster "a b"`},
		"a mode":              {func(c *Config) { c.Mode = 7 }, "Mode 7"},
		"no authority":        {func(c *Config) { c.Authority = "" }, "Authority"},
		"a client without":    {func(c *Config) { c.Mode, c.Authority = cluster.Client, "" }, ""},
		"a client with":       {func(c *Config) { c.Mode, c.Authority = cluster.Client, "10.0.0.1:0" }, "port 0"},
		"no link":             {func(c *Config) { c.Authority = "10.0.0.1:0" }, "port 0"},
		"every interface":     {func(c *Config) { c.Authority = "0.0.0.0:7701" }, "every interface"},
		"every IPv6 one":      {func(c *Config) { c.Authority = "[::]:7701" }, "every interface"},
		"an IPv6 authority":   {func(c *Config) { c.Authority = "[::1]:7701" }, ""},
		"a bind":              {func(c *Config) { c.Bind = "10.0.0.1:http" }, "Bind"},
		"a bind's zone":       {func(c *Config) { c.Bind = "[fe80::1%eth0]:7946" }, "zone"},
		"a bind's text":       {func(c *Config) { c.Bind = "a/b:7946" }, "Bind"},
		"a bind, IPv6":        {func(c *Config) { c.Bind = "[::1]" }, ""},
		"a bind, port":        {func(c *Config) { c.Bind = "127.0.0.1:65536" }, "65535"},
		"advertising nothing": {func(c *Config) { c.Advertise = "0.0.0.0:7946" }, "every interface"},
		"advertising text":    {func(c *Config) { c.Advertise = "a:b:c" }, "Advertise"},
		"a seed":              {func(c *Config) { c.Join = []string{"10.0.0.2", "node.example:7946", "[::1]:1"} }, ""},
		"a seed's name":       {func(c *Config) { c.Join = []string{"n2/10.0.0.2:7946"} }, "Join"},
		"a seed's port":       {func(c *Config) { c.Join = []string{"10.0.0.2:0"} }, "port 0"},
		"an empty seed":       {func(c *Config) { c.Join = []string{""} }, "no host"},
		"a profile":           {func(c *Config) { c.Profile = "lightning" }, "lightning"},
		"a key":               {func(c *Config) { c.Keys = [][]byte{make([]byte, 32), make([]byte, 16)} }, "Keys[1] has 16 bytes"},
		"a tag":               {func(c *Config) { c.Tags = map[string]string{"http": "10.0.0.1:8080"} }, ""},
		"a tag of ours":       {func(c *Config) { c.Tags = map[string]string{"boot": "1"} }, "sets itself"},
		"a tag's name":        {func(c *Config) { c.Tags = map[string]string{"": "1"} }, "no name"},
		"a tag's text":        {func(c *Config) { c.Tags = map[string]string{"a": "\n"} }, "printable"},
		"a long authority":    {func(c *Config) { c.Authority = strings.Repeat("a", 500) + ":1" }, "of 512"},
		"all of it long": {func(c *Config) {
			c.ID, c.Cluster = cluster.NodeID(strings.Repeat("n", 63)), strings.Repeat("c", 63)
			c.Authority = strings.Repeat("a", 253) + ":65535"
		}, ""},
	} {
		c := good
		f.change(&c)
		_, err := New(c)
		if (err == nil) != (f.says == "") || err != nil && !strings.Contains(err.Error(), f.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = New(Config{Bind: "x:y:z", Profile: "no"})
	for _, part := range []string{"ID", "Authority", "Bind", "Profile"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("not every fault is told: %v", err)
		}
	}
}

func TestBootNumbersGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no clock is set back
		a := NewBoot()
		time.Sleep(time.Millisecond)
		if b := NewBoot(); b <= a {
			t.Errorf("%x, then %x", a, b)
		}
	})
}

func TestPaces(t *testing.T) {
	for _, p := range Profiles() {
		pace, err := p.pace()
		if err != nil || pace.list == nil || pace.dial <= 0 || pace.firstJoin <= pace.dial || pace.broadcast <= 0 || pace.linger <= 0 {
			t.Errorf("%s: %+v, %v", p, pace, err)
		}
		const more = 10 * time.Second
		before := *pace.list
		patient := pace.patient(more)
		suspicion := func(mult int, every time.Duration) time.Duration { return time.Duration(mult) * every }
		if longer := suspicion(patient.list.SuspicionMult, patient.list.ProbeInterval) - suspicion(before.SuspicionMult, before.ProbeInterval); longer < more ||
			patient.list.TCPTimeout != before.TCPTimeout+more || patient.dial != pace.dial+more || patient.firstJoin != pace.firstJoin+more {
			t.Errorf("%s: with patience %+v", p, patient)
		}
	}
}

// member is a serf.Member as an honest node makes it.
func member(id string, boot uint64, status serf.MemberStatus, mode cluster.Mode) serf.Member {
	s := said{cluster: "wasilo", mode: mode, node: cluster.Node{ID: cluster.NodeID(id), Boot: boot, Authority: fmt.Sprintf("%s.example:%d", id, boot)}}
	return serf.Member{Name: s.name(), Tags: s.tags(), Status: status, Addr: net.IPv4(10, 0, 0, byte(boot)), Port: 7946}
}

// The order in which serf lists members, which is that of a map, never matters.
func TestThePictureDoesNotDependOnOrder(t *testing.T) {
	self := said{cluster: "wasilo", node: cluster.Node{ID: "a", Boot: 1, Authority: "a.example:1"}}
	members := []serf.Member{
		member("a", 1, serf.StatusAlive, cluster.Member),
		member("b", 2, serf.StatusAlive, cluster.Member), member("b", 3, serf.StatusAlive, cluster.Member), // the newer is used
		member("c", 9, serf.StatusLeaving, cluster.Member), member("c", 4, serf.StatusAlive, cluster.Member), // the one not leaving
		member("d", 5, serf.StatusLeaving, cluster.Member), member("d", 6, serf.StatusFailed, cluster.Member), // the one present
		member("e", 7, serf.StatusAlive, cluster.Client),
		member("f", 8, serf.StatusLeft, cluster.Member), member("f", 10, serf.StatusFailed, cluster.Member), member("f", 11, serf.StatusFailed, cluster.Member),
		{Name: "x", Status: serf.StatusAlive}, {Name: "y", Status: serf.StatusFailed}, {Name: "z", Status: serf.StatusNone},
	}
	var first picture
	for i := range 200 {
		p, err := draw(self, members)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = p
		} else if !reflect.DeepEqual(p, first) {
			t.Fatalf("%+v\nand\n%+v", p, first)
		}
		rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	}
	want := []cluster.Node{{ID: "a", Authority: "a.example:1", Boot: 1}, {ID: "b", Authority: "b.example:3", Boot: 3},
		{ID: "c", Authority: "c.example:4", Boot: 4}, {ID: "d", Authority: "d.example:5", Boot: 5}}
	if got := first.topology.Members(); !slices.Equal(got, want) {
		t.Errorf("topology: %v", got)
	}
	var listed []string
	for _, p := range first.peers {
		listed = append(listed, fmt.Sprintf("%s/%d %s %v", p.ID, p.Boot, p.Status, p.Duplicate))
	}
	if want := []string{"a/1 alive false", "b/3 alive false", "b/2 alive true", "c/4 alive false", "c/9 leaving true",
		"d/5 leaving false", "e/7 alive false", "f/11 failed false"}; !slices.Equal(listed, want) {
		t.Errorf("peers: %q", listed)
	}
	if d := first.duplicates(); len(d) != 2 || d[0][0].Boot != 3 || d[0][1].Boot != 2 || d[1][0].Boot != 4 || d[1][1].Boot != 9 {
		t.Errorf("duplicates: %+v", d)
	}
	if first.present != 6 || len(first.live) != 6 || len(first.ignored) != 1 || first.ignored[0].name != "x" {
		t.Errorf("%d present at %v, ignored %+v", first.present, first.live, first.ignored)
	}
}

// What others say of this node does not count.
func TestThisNodeIsWhatItSays(t *testing.T) {
	self := said{cluster: "wasilo", node: cluster.Node{ID: "a", Boot: 1, Authority: "a.example:1"}}
	for _, status := range []serf.MemberStatus{serf.StatusAlive, serf.StatusLeaving, serf.StatusLeft, serf.StatusFailed} {
		me := member("a", 1, status, cluster.Member)
		me.Tags["link"] = "elsewhere:1"
		p, err := draw(self, []serf.Member{me})
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := p.topology.Member("a"); !ok || m.Authority != "a.example:1" {
			t.Errorf("%v: %v", status, p.topology.Members())
		}
	}
}

func TestLinesOfSerf(t *testing.T) {
	for line, want := range map[string]struct {
		level      slog.Level
		part, text string
	}{
		"[DEBUG] memberlist: Using dynamic bind port 1\n":        {slog.LevelDebug, "memberlist", "Using dynamic bind port 1"},
		"[INFO] serf: EventMemberJoin: n1 10.0.0.1\n":            {slog.LevelDebug, "serf", "EventMemberJoin: n1 10.0.0.1"},
		"[WARN] memberlist: Refuting a dead message (from: x)\n": {slog.LevelWarn, "memberlist", "Refuting a dead message (from: x)"},
		"[ERR] memberlist: a\nb\x1b[2J\xff":                      {slog.LevelWarn, "memberlist", "a?b?[2J?"},
		"[ERR] Failed to shutdown transport: x":                  {slog.LevelWarn, "serf", "Failed to shutdown transport: x"},
		"Err: Could not set the deadline: x":                     {slog.LevelWarn, "serf", "Err: Could not set the deadline: x"},
		"":                                                       {slog.LevelWarn, "serf", ""},
		"[ERR] serf: " + strings.Repeat("x", 9999):               {slog.LevelWarn, "serf", strings.Repeat("x", 400-12) + "…"},
	} {
		if level, part, text := parseLine(line); level != want.level || part != want.part || text != want.text {
			t.Errorf("%.60q: %v %s %q", line, level, part, text)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	var l limiter
	now := time.Now()
	allowed := func(key string) (n, left int) {
		for range 1000 {
			if ok, out := l.allow(key, now); ok {
				n++
				left += out
			}
		}
		return n, left
	}
	if n, left := allowed("a"); n != perWindow || left != 0 {
		t.Errorf("%d let through", n)
	}
	if n, _ := allowed("b"); n != perWindow {
		t.Errorf("%d of another key", n)
	}
	now = now.Add(windowSize)
	if n, left := allowed("a"); n != perWindow || left != 1000-perWindow {
		t.Errorf("%d in the next minute, %d told to be left out", n, left)
	}
	total := 0
	for i := range 10 * maxTemplate {
		if ok, _ := l.allow(fmt.Sprint(i), now); ok {
			total++
		}
	}
	if total > maxTemplate+perWindow || len(l.keys) > maxTemplate+1 {
		t.Errorf("%d of many keys, %d kept", total, len(l.keys))
	}
	log := &logbook{}
	w := &logWriter{log: log.logger()}
	for i := range 100 {
		fmt.Fprintf(w, "[ERR] memberlist: Push/Pull with n%d failed: x", i)
		fmt.Fprintf(w, "[ERR] memberlist: discarding packet with unacceptable label %q: from=10.0.0.%d:7946", fmt.Sprint(i), i)
		fmt.Fprintf(w, "[INFO] serf: attempting reconnect to n%d", i)
	}
	if c := strings.Count(log.String(), "\n"); c != 2*perWindow {
		t.Errorf("%d lines:\n%s", c, log)
	}
}
