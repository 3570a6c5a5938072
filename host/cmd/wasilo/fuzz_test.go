package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// FuzzConfigFile: whatever stands in wasilo.toml, it is refused with the file and the line, or is a configuration whose names are names.
func FuzzConfigFile(f *testing.F) {
	for _, s := range []string{"id = 'n1'\njoin = ['a:1', 'b']\n[limits]\nmailbox = 1\nmax_message = '1MiB'\n[kinds.counter]\nidle = '5s'\n",
		"kinds.'A b'.idle = '5s'", "[kinds]\nx.idle = '5s'\n'' = 1", "[[kinds]]\nidle = 1", "voters = 'a=a:1,b=b:2'", "\"a,b\" = 1", "'' = 1", "id = {}", "x = \xff",
		"limits.turn = 1979-05-27", "kinds.a.idle.b = 1", "id = 'a'\nid = 'b'"} {
		f.Add(s)
	}
	table := nodeSettings()
	f.Fuzz(func(t *testing.T, text string) {
		c := defaultSettings()
		if err := readFile(&c, "w.toml", []byte(text), table); err != nil {
			if !strings.HasPrefix(err.Error(), "w.toml:") {
				t.Fatal(err)
			}
			return
		}
		if c.host.ID != "" && core.CheckNodeID(core.NodeID(c.host.ID)) != nil || c.host.HTTP == "" {
			t.Fatalf("%+v", c.host)
		}
		for kind := range c.host.Kinds {
			if err := abi.CheckKind(kind); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzValues: sizes, times and counts are within their bounds, and are read the same as they are shown.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"64MiB", "1 kb", "512KiB", "7b", "0", "-1", "9223372036854775807", "9007199254740992 kib", "8589934592gib", "5s", "1h0m0s", "never", "none", "a, b", "[::1]:1,n1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseSize(s, 0, math.MaxInt64); err == nil {
			if again, err := parseSize(sizeText(n), 0, math.MaxInt64); err != nil || again != n || n < 0 {
				t.Errorf("%q is %d, shown as %s, which is %d, %v", s, n, sizeText(n), again, err)
			}
		}
		if d, err := parseDuration(s, time.Millisecond); err == nil {
			if again, err := parseDuration(timeText(d), time.Millisecond); err != nil || again != d || d < time.Millisecond || d > mostTime {
				t.Errorf("%q is %v, shown as %s, which is %v, %v", s, d, timeText(d), again, err)
			}
		}
		if n, err := parseFuel(s); err == nil && n != 0 && (n < leastFuel || n > mostFuel) {
			t.Errorf("%q is %d", s, n)
		}
		if list, err := parseSeeds(s); err == nil {
			again, err := parseSeeds(strings.Join(list, ","))
			if err != nil || strings.Join(again, ",") != strings.Join(list, ",") {
				t.Errorf("%q is %q, then %q, %v", s, list, again, err)
			}
		}
	})
}
