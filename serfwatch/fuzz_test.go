package serfwatch

import (
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// FuzzLine: what serf and memberlist write, in which peers have a say, becomes one line of bounded length that a terminal may show.
func FuzzLine(f *testing.F) {
	f.Add("2026/01/02 [WARN] memberlist: Got ping for unexpected node\x1b[2J n1 from=10.0.0.1:1\n")
	f.Add("[DEBUG] serf: messageJoinType: n1")
	f.Add("[] serf: memberlist: ")
	f.Add("[ERR] \xff\xfe" + strings.Repeat("é", 300))
	f.Fuzz(func(t *testing.T, line string) {
		level, part, text := parseLine(line)
		if level != slog.LevelDebug && level != slog.LevelWarn || part != "serf" && part != "memberlist" {
			t.Fatalf("%v of %q", level, part)
		}
		if len(text) > 400+len("?…") || !printable(text) || !strings.HasPrefix(text, template(text)) {
			t.Fatalf("%d bytes: %q", len(text), text)
		}
	})
}

// FuzzSplitAddress: an address that is taken can be dialled as it is written by the standard library, and reads the same then.
func FuzzSplitAddress(f *testing.F) {
	for _, s := range []string{"10.0.0.1:7946", "[::1]:1", "::1", "[::1]", "n1.example", "n1:0", ":1", "", "[fe80::1%eth0]:1", "a:b:c", "[n1]", "h:+1", "h:007"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := splitAddress(s, 7946)
		if err != nil {
			return
		}
		if port < 0 || port > 65535 {
			t.Fatalf("%q has port %d", s, port)
		}
		if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() != "" {
			t.Fatalf("%q has a zone", s)
		}
		whole := net.JoinHostPort(host, strconv.Itoa(port))
		if h, p, err := splitAddress(whole, 1); err != nil || h != host || p != port {
			t.Fatalf("%q is %q and %d, %q is %q and %d, %v", s, host, port, whole, h, p, err)
		}
	})
}
