package link

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

func TestConfig(t *testing.T) {
	w := newWorld(t)
	good := Config{Self: cluster.Node{ID: "a", Authority: "127.0.0.1:1"}, Credentials: must(w.authority.Credentials(ca.ID{Cluster: "test", Node: "a"}))}
	for text, change := range map[string]func(*Config){
		"Self":                    func(c *Config) { c.Self.Authority = "nowhere" },
		"Credentials are missing": func(c *Config) { c.Credentials = nil },
		"wasilo node cert b":      func(c *Config) { c.Self.ID = "b" },
		"Mode":                    func(c *Config) { c.Mode = 7 },
		"Kinds":                   func(c *Config) { c.Kinds = []string{"No"} },
		"MaxMessage -1":           func(c *Config) { c.MaxMessage = -1 },
		"MaxInFlight 100000":      func(c *Config) { c.MaxInFlight = 100_000 },
		"Keepalive -1s":           func(c *Config) { c.Keepalive = -time.Second },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestListen(t *testing.T) {
	w := newWorld(t)
	real := must(w.authority.Credentials(ca.ID{Cluster: "test", Node: "a"}))
	dev := must(must(ca.OpenDevelopment(t.TempDir()+"/dev-ca", ca.Options{})).Credentials(ca.ID{Cluster: "test", Node: "a"}))
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "localhost:0"} {
		ln, err := Listen(t.Context(), addr, dev)
		if err != nil {
			t.Error(err)
			continue
		}
		ln.Close()
	}
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0"} {
		var e *ListenError
		if _, err := Listen(t.Context(), addr, dev); !errors.As(err, &e) || abi.CodeOf(err) != abi.ErrInvalidArgument ||
			!strings.Contains(err.Error(), "wasilo ca init") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"127.0.0.1", "127.0.0.1:x", ""} {
		if _, err := Listen(t.Context(), addr, real); abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Errorf("%s: %v", addr, err)
		}
	}
	ln := must(Listen(t.Context(), "0.0.0.0:0", real))
	defer ln.Close()
	if _, err := Listen(t.Context(), ln.Addr().String(), real); abi.CodeOf(err) != abi.ErrInternal || !strings.Contains(err.Error(), "--link") {
		t.Error(err)
	}
}
