package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/serfwatch"
)

func load(t *testing.T, file string, env []string, args ...string) (settings, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if file != "" {
		if err := os.WriteFile(defaultFile, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	nodeFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadSettings(flags, env, defaultSettings())
}

func TestPrecedence(t *testing.T) {
	file := "id = 'file'\ncluster = 'file'\nhttp = '127.0.0.1:1'\n[limits]\nmailbox = 1\nmax_message = '1MiB'\n[log]\nlevel = 'error'\n"
	env := []string{"WASILO_ID=env", "WASILO_CLUSTER=env", "WASILO_MAILBOX=2", "WASILO_MAX_ACTORS=", "OTHER=x", "WASILO_NODE=x"}
	c, err := load(t, file, env, "--id", "flag", "--max-message", "2MiB")
	if err != nil {
		t.Fatal(err)
	}
	h := c.host
	if h.ID != "flag" || h.Cluster != "env" || h.HTTP != "127.0.0.1:1" || h.ActorsDir != "actors" || h.Limits.Mailbox != 2 ||
		h.Limits.MaxMessage != 2<<20 || h.Limits.MaxActors != 0 || c.logLevel != slog.LevelError || c.logFormat != "text" || !h.Watch {
		t.Errorf("%+v", c)
	}
	c, err = load(t, "", nil)
	if err != nil || c.host.HTTP != defaultHTTP || !reflect.DeepEqual(c.host.Limits, host.Limits{}) {
		t.Errorf("nothing given: %+v, %v", c, err)
	}
}

// Every setting can be given in each way, and lands where it should.
func TestEverySetting(t *testing.T) {
	values := map[string]string{
		"http": "127.0.0.1:9", "actors": "/a", "data": "/d", "id": "n1", "cluster": "c1", "log.level": "debug", "log.format": "json", "log.turns": "/t",
		"link": "127.0.0.1:1", "gossip": "127.0.0.1:2", "join": "127.0.0.1:3,[::1]:4", "advertise": "localhost", "profile": "wan",
		"mode": "client", "placement": "weighted", "weight": "3", "voters": "n2=127.0.0.1:8,n1=127.0.0.1:1", "voters_even": "true", "voter": "true", "quorum": "true", "cache": "/c", "ca": "/ca.crt", "cert": "/n1.crt", "key": "/n1.key", "gossip_key": "/gossip.key",
		"limits.max_message": "2MiB", "limits.mailbox": "7", "limits.turn": "1s", "limits.request": "2s", "limits.idle": "3m",
		"limits.hibernate": "never", "limits.max_sleep": "64MiB", "limits.memory": "128MiB",
		"limits.table": "5000", "limits.stack": "1MiB", "limits.fuel": "123456789", "limits.host_calls": "77", "limits.outgoing": "6", "limits.log_bytes": "2KiB",
		"limits.max_actors": "9", "limits.max_conns": "10", "limits.max_bytes": "1GiB",
	}
	want := defaultSettings()
	want.logLevel, want.logFormat, want.turnLog = slog.LevelDebug, "json", "/t"
	want.host.HTTP, want.host.ActorsDir, want.host.DataDir, want.host.ID, want.host.Cluster = "127.0.0.1:9", "/a", "/d", "n1", "c1"
	want.host.CacheDir = "/c"
	want.host.Net = host.Net{Link: "127.0.0.1:1", Gossip: "127.0.0.1:2", Join: []string{"127.0.0.1:3", "[::1]:4"}, Advertise: "localhost",
		Profile: serfwatch.WAN, Mode: cluster.Client, Placement: "weighted", Weight: 3,
		Voters: []cluster.Node{{ID: "n1", Authority: "127.0.0.1:1"}, {ID: "n2", Authority: "127.0.0.1:8"}}, VotersEven: true, Voter: true, Quorum: true, CA: "/ca.crt", Cert: "/n1.crt", Key: "/n1.key", GossipKey: "/gossip.key"}
	want.host.Limits = host.Limits{MaxMessage: 2 << 20, Mailbox: 7, Turn: time.Second, Request: 2 * time.Second, Idle: 3 * time.Minute,
		Hibernate: host.Never, MaxSleep: 64 << 20, Memory: 128 << 20, MaxActors: 9, MaxConns: 10, MaxBytes: 1 << 30,
		Table: 5000, Stack: 1 << 20, Fuel: 123456789, HostCalls: 77, Outgoing: 6, LogBytes: 2 << 10}
	var file strings.Builder
	var env, args []string
	for _, s := range nodeSettings() {
		v, ok := values[s.key]
		if !ok {
			t.Fatalf("no value for %s", s.key)
		}
		file.WriteString(s.key + " = '" + v + "'\n")
		env = append(env, s.variable()+"="+v)
		args = append(args, "--"+s.name+"="+v)
	}
	for name, try := range map[string]func() (settings, error){
		"file": func() (settings, error) { return load(t, file.String(), nil) },
		"env":  func() (settings, error) { return load(t, "", env) },
		"flag": func() (settings, error) { return load(t, "", nil, args...) },
	} {
		if got, err := try(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, want)
		}
	}
}

// A list is given by repeating the flag, with commas in a variable, as a list in the file; the weightiest is taken whole.
func TestLists(t *testing.T) {
	want := []string{"a:1", "b:2"}
	for name, try := range map[string]func() (settings, error){
		"file":     func() (settings, error) { return load(t, "join = ['a:1', 'b:2']\n", nil) },
		"text":     func() (settings, error) { return load(t, "join = 'a:1, b:2'\n", nil) },
		"variable": func() (settings, error) { return load(t, "join = ['c:3']\n", []string{"WASILO_JOIN=a:1,b:2"}) },
		"flags": func() (settings, error) {
			return load(t, "", []string{"WASILO_JOIN=c:3"}, "--join", "a:1", "--join", "b:2")
		},
		"flag": func() (settings, error) { return load(t, "", nil, "--join=a:1,b:2") },
	} {
		if c, err := try(); err != nil || !slices.Equal(c.host.Net.Join, want) {
			t.Errorf("%s: %q, %v", name, c.host.Net.Join, err)
		}
	}
	for file, says := range map[string]string{
		"join = []":            "wasilo.toml:1: join: ",
		"join = ['']":          "wasilo.toml:1: join: ",
		"join = [5]":           "wasilo.toml:1: join: a list of texts is expected",
		"join = [['a']]":       "wasilo.toml:1: join: a list of texts is expected",
		"link = ['a:1']":       "wasilo.toml:1: link: a text, a whole number, true or false is expected",
		"profile = 'fastest'":  `wasilo.toml:1: profile: "fastest" is no profile: fast, local, lan or wan`,
		"\n[[join]]\naddr = 1": "wasilo.toml:2: join",
	} {
		if _, err := load(t, file, nil); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%q:\n got %v\nwant %s…", file, err, says)
		}
	}
	for _, args := range [][]string{{"--join", ""}, {"--join", "a:1,,b:2"}, {"--join", "a:1", "--join", ""}} {
		if _, err := load(t, "", nil, args...); err == nil || !strings.HasPrefix(err.Error(), "--join: ") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestKindTables(t *testing.T) {
	c, err := load(t, "[kinds.chat]\nmailbox = 5\nidle = '1h'\nhibernate = '5s'\n[kinds]\nbank = { turn = '1s', hibernate = 0, memory = 1048576 }\n", nil)
	want := map[string]host.KindLimits{"chat": {Mailbox: 5, Idle: time.Hour, Hibernate: 5 * time.Second}, "bank": {Turn: time.Second, Hibernate: host.Never, Memory: 1 << 20}}
	if err != nil || !reflect.DeepEqual(c.host.Kinds, want) {
		t.Errorf("%+v, %v", c.host.Kinds, err)
	}
	c, err = load(t, "[kinds.a]\ntable = 5000\nstack = '1MiB'\nfuel = 20000\nmax_message = '2KiB'\nhost_calls = 9\noutgoing = 3\nlog_bytes = '4KiB'\n"+
		"[kinds.b]\nfuel = 0\n[kinds.c]\nfuel = 'none'\n", []string{"WASILO_FUEL=none"})
	want = map[string]host.KindLimits{"a": {Table: 5000, Stack: 1 << 20, Fuel: 20_000, MaxMessage: 2 << 10, HostCalls: 9, Outgoing: 3, LogBytes: 4 << 10},
		"b": {Fuel: host.Unlimited}, "c": {Fuel: host.Unlimited}}
	if err != nil || !reflect.DeepEqual(c.host.Kinds, want) || c.host.Limits.Fuel != 0 {
		t.Errorf("%+v, %v", c.host.Kinds, err)
	}
}

// Each limit of a guest is checked where it stands, for the node and for a kind.
func TestRangesOfLimits(t *testing.T) {
	for key, cases := range map[string]map[string]string{
		"table": {"0": "0 is out of range: 1 to 1048576", "1048577": "1048577 is out of range", "'many'": `"many" is no whole number`},
		"stack": {"'63KiB'": "63KiB is out of range: 64KiB to 64MiB", "'65MiB'": "65MiB is out of range", "'deep'": `"deep" is no size`},
		"fuel": {"9999": "9999 units of fuel are out of range: 10000 to 1125899906842624, or none", "-1": "-1 units of fuel are out of range",
			"1125899906842625": "are out of range", "'lots'": `"lots" is no amount of fuel: a whole number of units, or "none"`},
		"max_message": {"1023": "1023 is out of range: 1KiB to 1GiB", "'2GiB'": "2GiB is out of range"},
		"host_calls":  {"0": "0 is out of range: 1 to 1073741824"},
		"outgoing":    {"0": "0 is out of range: 1 to 1073741824"},
		"log_bytes":   {"'1B'": "1B is out of range: 1KiB to 1GiB", "'2GiB'": "2GiB is out of range"},
	} {
		for value, says := range cases {
			for _, table := range []string{"limits", "kinds.chat"} {
				_, err := load(t, "# limits\n["+table+"]\n"+key+" = "+value+"\n", nil)
				if prefix := "wasilo.toml:3: " + table + "." + key + ": "; err == nil || !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), says) {
					t.Errorf("%s %s = %s: %v", table, key, value, err)
				}
			}
		}
	}
}

func TestPathsInTheFileStartAtTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.toml")
	if err := os.WriteFile(path, []byte("actors = 'a'\ndata = '/abs'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, "", []string{"WASILO_CONFIG=" + path})
	if err != nil || c.host.ActorsDir != filepath.Join(dir, "a") || c.host.DataDir != "/abs" {
		t.Errorf("%q %q %v", c.host.ActorsDir, c.host.DataDir, err)
	}
	if c, err = load(t, "", nil, "--config", path, "--actors", "b"); err != nil || c.host.ActorsDir != "b" {
		t.Errorf("%q %v", c.host.ActorsDir, err)
	}
}

// The documentation names every setting, and its files can be loaded.
func TestSettingsAreDocumented(t *testing.T) {
	var files []string
	for _, name := range []string{"configuration.md", "cluster.md"} {
		text, err := os.ReadFile(filepath.Join("../../../docs", name))
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(text), "```toml\n") {
			if i > 0 {
				file, _, _ := strings.Cut(part, "```")
				files = append(files, file)
			}
		}
		if name != "configuration.md" {
			continue
		}
		for _, s := range nodeSettings() {
			if !strings.Contains(string(text), "`"+s.key+"`") || !strings.Contains(string(text), "`--"+s.name+"`") {
				t.Errorf("%s does not name %s and --%s", name, s.key, s.name)
			}
		}
	}
	for _, file := range files {
		if _, err := load(t, file, nil); err != nil {
			t.Errorf("%v\n%s", err, file)
		}
	}
	if len(files) < 2 {
		t.Errorf("%d files", len(files))
	}
}

func TestWhatAFileMayNotHold(t *testing.T) {
	for file, says := range map[string]string{
		"xyzzy = 1":                         "wasilo.toml:1: unknown key xyzzy; known are http,",
		"\n\nlimits.mailbx = 1":             "wasilo.toml:3: unknown key limits.mailbx; did you mean limits.mailbox?",
		"limits = 5":                        "wasilo.toml:1: limits: a table is expected: [limits] with max_message, mailbox, ",
		"log = 'debug'":                     "wasilo.toml:1: log: a table is expected: [log] with level, format",
		"kinds = 5":                         "wasilo.toml:1: kinds: a table is expected: [kinds.NAME] with mailbox, ",
		"[[kinds]]\nidle = '1h'":            "wasilo.toml:1: kinds: a table is expected: ",
		"limits.turn = { a = 1 }":           "wasilo.toml:1: limits.turn: a value is expected, not a table",
		"[kinds.chat]\nidle = { a = 1 }":    "wasilo.toml:2: kinds.chat.idle: a value is expected, not a table",
		"'limits.turn' = '5s'":              "wasilo.toml:1: unknown key",
		"limits.turn = '9000h'":             "wasilo.toml:1: limits.turn: 9000h is too long: at most 8760h",
		"limits = { turn = '1s',\n  x = 1}": "wasilo.toml:2: unknown key limits.x",
		"[id]\na = 1":                       "wasilo.toml:1: id: a value is expected, not a table",
		"[[limits]]\nturn = '1s'":           "wasilo.toml:1: ",
		"[kinds.Chat]\nturn = '1s'":         "wasilo.toml:1: kinds.Chat: ",
		"[kinds]\nchat = 5":                 "wasilo.toml:2: kinds.chat: a table is expected: [kinds.NAME]",
		"[kinds.chat.more]\nx = 1":          "wasilo.toml:1: unknown key kinds.chat.more; known are mailbox, turn, idle, hibernate, memory, table, ",
		"http = ''":                         "wasilo.toml:1: http: it is empty",
		"[limits]\nturn = 1.5":              "wasilo.toml:2: limits.turn: a text, a whole number, true or false is expected",
		"[limits]\nturn = '-5s'":            "wasilo.toml:2: limits.turn: -5s is too short",
		"[limits]\nmailbox = 0":             "wasilo.toml:2: limits.mailbox: 0 is out of range: 1 to",
		"id = 'a'\nid = 'b'":                "wasilo.toml:2: ",
		"\"lim\\\"its\" = 1":                "wasilo.toml:1: unknown key",
	} {
		_, err := load(t, file, nil)
		if err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%q:\n got %v\nwant %s…", file, err, says)
		}
	}
}

func TestAConfigurationIsNoDevice(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip("no /dev/zero here")
	}
	if _, err := load(t, "", nil, "--config", "/dev/zero"); err == nil || !strings.Contains(err.Error(), "more than 1MiB") {
		t.Error(err)
	}
}

// Kubernetes sets variables of this prefix for a service that is called wasilo; those are none of a node's.
func TestVariablesOfKubernetes(t *testing.T) {
	env := []string{"WASILO_SERVICE_HOST=10.0.0.1", "WASILO_SERVICE_PORT=7700", "WASILO_SERVICE_PORT_HTTP=7700",
		"WASILO_PORT=tcp://10.0.0.1:7700", "WASILO_PORT_7700_TCP=tcp://10.0.0.1:7700", "WASILO_PORT_7700_TCP_ADDR=10.0.0.1"}
	if _, err := load(t, "", env); err != nil {
		t.Error(err)
	}
	for _, v := range []string{"WASILO_PORTS=1", "WASILO_SERVICE=1"} {
		if _, err := load(t, "", []string{v}); err == nil {
			t.Errorf("%s is taken", v)
		}
	}
}

func TestTimeText(t *testing.T) {
	for d, want := range map[time.Duration]string{5 * time.Second: "5s", 10 * time.Minute: "10m", 90 * time.Second: "1m30s",
		time.Hour: "1h", 8760 * time.Hour: "8760h", time.Millisecond: "1ms", 61 * time.Minute: "1h1m", 0: "0s",
		time.Hour + time.Second: "1h0m1s"} {
		if got := timeText(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func TestLine(t *testing.T) {
	text := "a = 1\n\n[b]\nc = 2 # x\n[b.'d.e']\nf = { g = 1 }\n"
	for want, key := range map[int]toml.Key{1: {"a"}, 3: {"b"}, 4: {"b", "c"}, 5: {"b", "d.e"}, 6: {"b", "d.e", "f", "g"}, 0: {"nope"}} {
		if got := line(text, key); got != want {
			t.Errorf("%s: line %d, want %d", key, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, s := range []string{"127.0.0.1:0", ":7701", "[::1]:65535", "n1.example:7701"} {
		if got, err := parseAddr(s); err != nil || got != s {
			t.Errorf("%s: %s %v", s, got, err)
		}
	}
	for _, s := range []string{"", "7701", "127.0.0.1", "::1", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "a:b:1"} {
		if _, err := parseAddr(s); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"n1", "n1:7946", "10.0.0.1", "::1", "[::1]", "[::1]:7946", "a,b:1"} {
		if got, err := parseSeeds(s); err != nil || strings.Join(got, ",") != s {
			t.Errorf("%s: %q %v", s, got, err)
		}
	}
	for _, s := range []string{"a b", "n1:x", "n1:", "http://n1:7946", "[n1", "a,b:99999"} {
		if _, err := parseSeeds(s); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{"1": 1, "0": 0, "64MiB": 64 << 20, "64 mib": 64 << 20, "512KiB": 512 << 10, "2GiB": 2 << 30,
		"5kB": 5000, "5MB": 5e6, "1gb": 1e9, "100B": 100} {
		if got, err := parseSize(s, 0, 1<<40); err != nil || got != want {
			t.Errorf("%s: %d %v", s, got, err)
		}
	}
	for _, s := range []string{"", "MiB", "-1", "1.5MiB", "0x10", "1TiB", "99999999999GiB", "9223372036854775808", "1 2"} {
		if n, err := parseSize(s, 0, 1<<40); err == nil || !strings.Contains(err.Error(), "64MiB") {
			t.Errorf("%s: %d %v", s, n, err)
		}
	}
	for n, want := range map[int64]string{1 << 20: "1MiB", 1 << 30: "1GiB", 3 << 10: "3KiB", 1500: "1500B"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"http", "limits.mailbox", "limits.max_message", "id"}
	for s, want := range map[string]string{"htpp": "http", "limits.mailbx": "limits.mailbox", "HTTP": "http", "max_message": "limits.max_message",
		"ID": "id", "zzz": "", "": ""} {
		if got := nearest(s, words); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
	if edits("kitten", "sitting") != 3 || edits("", "abc") != 3 || edits("abc", "") != 3 || edits("a", "a") != 0 {
		t.Error("edits")
	}
}
