package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// TestHostileModulesHarmNobody puts every hostile fixture into one node: what cannot be loaded is refused with a reason,
// what misbehaves in a turn costs its caller an error, and another actor answers all along.
func TestHostileModulesHarmNobody(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(fixtures, "hostile", "*.wasm"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d hostile fixtures, %v", len(files), err)
	}
	names := []string{"echo.wasm"}
	for _, f := range files {
		// Others take the five seconds that a start may take already; the engine has these.
		if base := filepath.Base(f); base != "describe_bomb.wasm" && base != "inbox_scribble.wasm" {
			names = append(names, filepath.Join("hostile", base))
		}
	}
	n := start(t, Config{ActorsDir: actorsDir(t, names...), Limits: Limits{Turn: 300 * time.Millisecond, Memory: 8 << 20},
		Kinds: map[string]KindLimits{"echo": {Turn: hang}}})
	alive := func() {
		t.Helper()
		if got := mustCall(t, n, "echo/alive", "echo", `{"n":1}`); got != `{"n":1}` {
			t.Fatalf("echo answers %s", got)
		}
	}
	alive()

	refused := 0
	for _, f := range n.Files() {
		if f.State == "loaded" {
			continue
		}
		refused++
		if f.Error == "" || strings.Contains(f.Error, "\n") {
			t.Errorf("%s is refused with %q", f.Path, f.Error)
		}
		t.Logf("%s: %s", filepath.Base(f.Path), f.Error)
	}
	if refused < 15 {
		t.Errorf("%d files were refused", refused)
	}
	if !n.Ready().Ready {
		t.Error("files that cannot be loaded make the node unready")
	}

	turned := 0
	for _, k := range n.Kinds() {
		if k.Name == "echo" {
			continue
		}
		turned++
		began := time.Now()
		out, err := call(n, k.Name+"/x", "run", "")
		switch code := abi.CodeOf(err); code {
		case abi.ErrTrap, abi.ErrLimitExceeded, abi.ErrPayloadTooLarge, abi.ErrActivationFailed:
			t.Logf("%s: %v (%v)", k.Name, err, time.Since(began).Round(time.Millisecond))
		case abi.ErrNone: // some are hostile elsewhere: table_grow asks for much and is told no
			t.Logf("%s answers %.60s", k.Name, out)
		default:
			if k.Name != noJSON {
				t.Errorf("%s: %v", k.Name, err)
			}
		}
		alive()
		// The next message gets an activation of its own, and the same end, unless the machine stands still for the time of a turn.
		if _, again := call(n, k.Name+"/x", "run", ""); abi.CodeOf(again) != abi.CodeOf(err) && !timedOut(again) && !timedOut(err) {
			t.Errorf("%s: %v, the second time %v", k.Name, err, again)
		}
	}
	if turned < 15 {
		t.Errorf("%d hostile kinds had turns", turned)
	}
}

// timedOut reports whether a turn was ended by its limit of time.
func timedOut(err error) bool {
	return err != nil && strings.Contains(err.Error(), "exceeded its limit of 300ms")
}

// noJSON is a kind whose answer is CBOR that this test cannot show.
const noJSON = "hostile_reply_nested"

// TestHostileActorsAtOnce lets every guest that loads misbehave at the same time, in several actors each, while one counts: each attacker's
// caller gets an error or an answer, and the count is right all along.
func TestHostileActorsAtOnce(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(fixtures, "hostile", "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"tally.wasm", "echo.wasm"}
	for _, f := range files {
		// These take the five seconds that a start may take; the test above has them.
		if base := filepath.Base(f); !strings.Contains(base, "_loop") && base != "describe_bomb.wasm" && base != "inbox_scribble.wasm" {
			names = append(names, filepath.Join("hostile", base))
		}
	}
	n := start(t, Config{ActorsDir: actorsDir(t, names...), Limits: Limits{Turn: 200 * time.Millisecond, Memory: 8 << 20},
		Kinds: map[string]KindLimits{"tally": {Turn: hang}, "echo": {Turn: hang}}})
	var kinds []string
	for _, k := range n.Kinds() {
		if strings.HasPrefix(k.Name, "hostile_") {
			kinds = append(kinds, k.Name)
		}
	}
	if len(kinds) < 40 {
		t.Fatalf("%d hostile kinds", len(kinds))
	}
	var attack sync.WaitGroup
	for _, k := range kinds {
		for i := range 3 {
			attack.Go(func() {
				switch _, err := callFor(n, fmt.Sprint(k, "/", i), "run", "", 5*hang); abi.CodeOf(err) { // there are many at a time
				case abi.ErrNone, abi.ErrTrap, abi.ErrLimitExceeded, abi.ErrPayloadTooLarge, abi.ErrActivationFailed, abi.ErrOverloaded:
				default:
					if k != noJSON {
						t.Errorf("%s: %v", k, err)
					}
				}
			})
		}
	}
	over := make(chan struct{})
	go func() { attack.Wait(); close(over) }()
	count := 0
	add := func() {
		t.Helper()
		count++
		if got := field[int](t, mustCall(t, n, "tally/innocent", "add", ""), "value"); got != count {
			t.Fatalf("it counted %d, the answer is %d", count, got)
		}
	}
	for attacked := true; attacked; {
		select {
		case <-over:
			attacked = false
		default:
			add()
		}
	}
	add()
	t.Logf("%d attackers of %d kinds; the innocent counted to %d", 3*len(kinds), len(kinds), count)
}

func TestBadNodeConfigurations(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	busy := start(t, Config{HTTP: "127.0.0.1:0"})
	port := strings.TrimPrefix(busy.URL(), "http://")
	tests := map[string]struct {
		cfg   Config
		words []string
	}{
		"port in use":         {Config{HTTP: port}, []string{port, "in use"}},
		"not loopback":        {Config{HTTP: "0.0.0.0:0"}, []string{"loopback"}},
		"data is a file":      {Config{DataDir: file}, []string{"data directory", file, "--data"}},
		"data below a file":   {Config{DataDir: filepath.Join(file, "x")}, []string{"data directory", "--data"}},
		"no actors directory": {Config{ActorsDir: filepath.Join(dir, "none")}, []string{"none"}},
		"bad id":              {Config{ID: "Über"}, []string{"id"}},
		"negative limit":      {Config{Limits: Limits{Mailbox: -1}}, []string{"limits.mailbox"}},
		"tiny memory":         {Config{Kinds: map[string]KindLimits{"counter": {Memory: 5}}}, []string{"kinds.counter.memory", "64KiB"}},
		"bad kind":            {Config{Kinds: map[string]KindLimits{"Counter": {}}}, []string{"kinds.Counter"}},
		"empty native kind":   {Config{Native: []NativeKind{{}}}, []string{"native kind"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n, err := New(tt.cfg)
			if err == nil {
				err = n.Start(t.Context())
			}
			if err == nil {
				n.Shutdown(t.Context())
				t.Fatal("it starts")
			}
			for _, w := range tt.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
		})
	}
}

func TestUnwritableDataDirectory(t *testing.T) {
	if os.Getuid() == 0 {
		// Root writes anywhere; a directory that refuses even root is one of /proc.
		if _, err := os.Stat("/proc/self"); err != nil {
			t.Skip("skipped: running as root, and there is no /proc")
		}
		n, err := New(Config{DataDir: "/proc/self/wasilo"})
		if err == nil {
			err = n.Start(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), "/proc/self/wasilo") {
			t.Errorf("%v", err)
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "ro")
	if err := os.Mkdir(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	n, err := New(Config{DataDir: dir})
	if err == nil {
		err = n.Start(t.Context())
	}
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--data") {
		t.Errorf("%v", err)
	}
}
