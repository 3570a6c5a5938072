package host

import (
	"os"
	"path/filepath"
	"strings"
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
		names = append(names, filepath.Join("hostile", filepath.Base(f)))
	}
	n := start(t, Config{ActorsDir: actorsDir(t, names...), Limits: Limits{Turn: 300 * time.Millisecond, Memory: 8 << 20}})
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
			t.Errorf("%s: %v", k.Name, err)
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("%s took %v", k.Name, d)
		}
		alive()
		// The next message gets an activation of its own, and the same end.
		if _, again := call(n, k.Name+"/x", "run", ""); abi.CodeOf(again) != abi.CodeOf(err) {
			t.Errorf("%s: %v, the second time %v", k.Name, err, again)
		}
	}
	if turned < 15 {
		t.Errorf("%d hostile kinds had turns", turned)
	}
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
