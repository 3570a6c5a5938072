package serfwatch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/cluster"
)

// settle waits until goroutines that serf leaves behind, within the time of a probe, are gone.
func settle(t *testing.T, before int) {
	t.Helper()
	deadline := time.After(hang)
	for runtime.NumGoroutine() > before {
		select {
		case <-deadline:
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// onLoopback starts a node on real sockets.
func onLoopback(t *testing.T, id string, change func(*Config)) *node {
	t.Helper()
	n := &node{t: t, log: &logbook{}}
	cfg := Config{ID: cluster.NodeID(id), Profile: Fast, Bind: "127.0.0.1:0", Authority: "127.0.0.1:7701", Log: n.log.logger()}
	if change != nil {
		change(&cfg)
	}
	var err error
	if n.Watch, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	n.pace.broadcast = hang // to say goodbye: it ends when that was sent
	t.Cleanup(func() { _ = n.Close() })
	n.begin()
	return n
}

func TestOnSockets(t *testing.T) {
	before := runtime.NumGoroutine()
	n1 := onLoopback(t, "n1", nil)
	join := func(c *Config) { c.Join = []string{n1.Addr()} }
	n2, n3 := onLoopback(t, "n2", join), onLoopback(t, "n3", join)
	for _, n := range []*node{n1, n2, n3} {
		n.sees(hang, "n1", "n2", "n3")
	}
	began := time.Now()
	if err := n3.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1.sees(hang, "n1", "n2")
	t.Logf("left within %s", time.Since(began))
	_ = n2.Close()
	t.Logf("found dead after %s", n1.sees(hang, "n1"))
	_ = n1.Close()
	settle(t, before)
}

func TestStartsAndStopsOnSockets(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 50 {
		n := onLoopback(t, "n1", func(c *Config) { c.Join = []string{"127.0.0.1:1"} })
		n.sees(hang, "n1")
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, before)
}

func TestAPortInUse(t *testing.T) {
	taken := onLoopback(t, "n1", nil)
	n, err := New(Config{ID: "n2", Bind: taken.Addr(), Authority: "127.0.0.1:7701", Log: taken.cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	err = n.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), taken.Addr()) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Start on a port in use: %v", err)
	}
	if n.Start(t.Context()) == nil {
		t.Error("a second Start")
	}
	if _, err := n.Subscribe(t.Context()); !errors.Is(err, cluster.ErrStreamEnded) {
		t.Errorf("Subscribe: %v", err)
	}
	if n.Addr() != "" || n.Leave(t.Context()) != nil {
		t.Error("there is nothing to leave")
	}
}

func TestClosedBeforeStart(t *testing.T) {
	n, err := New(Config{ID: "n1", Bind: "127.0.0.1:0", Authority: "127.0.0.1:7701", Log: (&logbook{}).logger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if n.Start(t.Context()) == nil {
		t.Error("Start after Close")
	}
}

func TestWhereGossipListens(t *testing.T) {
	resolve := func(_ context.Context, host string) ([]netip.Addr, error) {
		switch ip, err := netip.ParseAddr(host); {
		case err == nil:
			return []netip.Addr{ip}, nil
		case host == "here":
			return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}, nil
		case host == "everywhere":
			return []netip.Addr{netip.IPv6Unspecified()}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for name, c := range map[string]struct {
		bind, advertise, authority string
		addr, fault                string // addr without its port, unless that is told
	}{
		"loopback":               {bind: "127.0.0.1:0", addr: "127.0.0.1"},
		"a name":                 {bind: "here:0", addr: "127.0.0.1"},
		"no such name":           {bind: "nowhere:0", fault: `Bind "nowhere"`},
		"no address of this one": {bind: "192.0.2.1:0", fault: "192.0.2.1:0"},
		"everywhere":             {bind: ":0", authority: "here:7701", addr: "127.0.0.1"},
		"everywhere on IPv4":     {bind: "0.0.0.0:0", authority: "127.0.0.1:7701", addr: "127.0.0.1"},
		"advertised":             {bind: "127.0.0.1:0", advertise: "192.0.2.7:7946", addr: "192.0.2.7:7946"},
		"advertised, no port":    {bind: ":0", advertise: "192.0.2.7", addr: "192.0.2.7"},
		"advertised nowhere":     {bind: ":0", advertise: "everywhere", fault: "every interface"},
		"an unknown authority":   {bind: ":0", authority: "nowhere:7701", fault: `Authority "nowhere"`},
	} {
		t.Run(name, func(t *testing.T) {
			if c.authority == "" {
				c.authority = "127.0.0.1:7701"
			}
			n, err := New(Config{ID: "n1", Bind: c.bind, Advertise: c.advertise, Authority: c.authority, Log: (&logbook{}).logger()})
			if err != nil {
				t.Fatal(err)
			}
			n.resolve = resolve
			defer n.Close()
			if err := n.Start(t.Context()); (err == nil) != (c.fault == "") {
				t.Fatal(err)
			} else if err != nil {
				if !strings.Contains(err.Error(), c.fault) {
					t.Error(err)
				}
				return
			}
			host, port, _ := net.SplitHostPort(n.Addr())
			if host != c.addr && n.Addr() != c.addr || port == "0" {
				t.Errorf("gossip is at %s", n.Addr())
			}
		})
	}
}
