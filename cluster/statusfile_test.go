package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestB1_5_StatusStores is what every StatusStore does.
func TestB1_5_StatusStores(t *testing.T) {
	file := FileStatus{Path: filepath.Join(t.TempDir(), "status")}
	for name, open := range map[string]func() StatusStore{
		"memory": func() func() StatusStore { s := &MemoryStatus{}; return func() StatusStore { return s } }(),
		"file":   func() StatusStore { return file }, // opened anew each time: it outlives whoever wrote it
	} {
		t.Run(name, func(t *testing.T) {
			if st, err := open().Load(); st != (Status{}) || err != nil {
				t.Fatalf("a new store has %+v, %v", st, err)
			}
			if err := open().Save(Status{}); err != nil {
				t.Errorf("clearing what is clear: %v", err)
			}
			for _, st := range []Status{{Readiness: ReadinessReady}, {Readiness: ReadinessDisabled, Reason: "by hand, \"日本\"\n"},
				{Readiness: ReadinessError, Kind: TopologyUnavailable, Reason: "no route"}, {}, {Readiness: ReadinessReady}} {
				if err := open().Save(st); err != nil {
					t.Fatal(err)
				}
				if got, err := open().Load(); got != st || err != nil {
					t.Errorf("saved %+v, loaded %+v, %v", st, got, err)
				}
			}
			var group sync.WaitGroup
			for _, r := range []Readiness{ReadinessReady, ReadinessDisabled, ReadinessError} {
				group.Go(func() {
					for range 20 {
						if err := open().Save(Status{Readiness: r, Reason: strings.Repeat(string(r), 200)}); err != nil {
							t.Error(err)
						}
						if st, err := open().Load(); err != nil || st.Reason != strings.Repeat(string(st.Readiness), 200) {
							t.Errorf("a mixture: %.40s…, %v", st.Reason, err)
						}
					}
				})
			}
			group.Wait()
		})
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file.Path), "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the file there is something left: %v, %v", left, err)
	}
}

// TestB1_5_WhatIsNoStatusIsRefused: it blocks the install, and says where it is and what to do.
func TestB1_5_WhatIsNoStatusIsRefused(t *testing.T) {
	good := `{"format":"wasilo cluster status 1","readiness":"ready"}`
	for name, text := range map[string]string{
		"empty":             "",
		"cut off":           good[:len(good)-3],
		"something follows": good + good,
		"zeros":             strings.Repeat("\x00", 100),
		"of another kind":   `{"name":"package.json"}`,
		"no format":         `{"readiness":"ready"}`,
		"a later version":   strings.Replace(good, "status 1", "status 2", 1),
		"unknown field":     `{"format":"wasilo cluster status 1","readiness":"ready","until":"monday"}`,
		"no readiness":      `{"format":"wasilo cluster status 1"}`,
		"odd readiness":     strings.Replace(good, "ready\"}", "maybe\"}", 1),
		"a list":            "[]",
		"huge":              good + strings.Repeat(" ", maxStatusFile),
	} {
		t.Run(name, func(t *testing.T) {
			store := FileStatus{Path: filepath.Join(t.TempDir(), "status")}
			if err := os.WriteFile(store.Path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := config(&fakeSilo{})
			cfg.Status = store
			x, err := Install(NewSystem(SystemConfig{}), cfg)
			var be *BootstrapError
			if x != nil || !errors.As(err, &be) || be.Kind != StatusStoreFailed || !errors.Is(err, ErrStatusFile) {
				t.Fatalf("Install = %v, %v", x, err)
			}
			for _, want := range []string{store.Path, "status clear"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if now, err := os.ReadFile(store.Path); err != nil || string(now) != text {
				t.Errorf("the file was changed: %.40q, %v", now, err)
			}
			if err := store.Save(Status{}); err != nil {
				t.Errorf("clearing it: %v", err)
			}
			if st, err := store.Load(); st != (Status{}) || err != nil {
				t.Errorf("cleared: %+v, %v", st, err)
			}
		})
	}
}

// TestB1_5_ADiskThatFailsBlocks: the store's own error reaches whoever installs, and what was there stays.
func TestB1_5_ADiskThatFailsBlocks(t *testing.T) {
	dir := t.TempDir()
	store := FileStatus{Path: filepath.Join(dir, "gone", "status")}
	cfg := config(&fakeSilo{})
	cfg.Status = store
	var be *BootstrapError
	if _, err := Install(NewSystem(SystemConfig{}), cfg); !errors.As(err, &be) || be.Kind != StatusStoreFailed || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its directory: %v", err)
	}
	store.Path = dir // a directory is no file to read
	cfg.Status = store
	if _, err := Install(NewSystem(SystemConfig{}), cfg); !errors.As(err, &be) || be.Kind != StatusStoreFailed {
		t.Errorf("a directory in its place: %v", err)
	}
	if err := store.Save(Status{Readiness: ReadinessReady}); err == nil {
		t.Error("saved over a directory")
	}
	if left, err := filepath.Glob(dir + "*.new-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestB1_5_TheReasonOutlivesTheProcess: a start that failed is told by the next one, in full, until it is cleared.
func TestB1_5_TheReasonOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	failing := config(&fakeSilo{})
	failing.Status = FileStatus{Path: path}
	failing.Topology = &fakeTopology{subscribeErr: func(int) error { return errors.New("no route to seed") }}
	if _, err := Install(NewSystem(SystemConfig{}), failing); err == nil {
		t.Fatal("installed without a topology")
	}
	mended := config(&fakeSilo{})
	mended.Status = FileStatus{Path: path}
	var be *BootstrapError
	if _, err := Install(NewSystem(SystemConfig{}), mended); !errors.As(err, &be) || be.Kind != EarlierFailure || !strings.Contains(err.Error(), "no route to seed") {
		t.Fatalf("the next process: %v", err)
	}
	if err := (FileStatus{Path: path}).Save(Status{}); err != nil {
		t.Fatal(err)
	}
	sys := NewSystem(SystemConfig{})
	x, err := Install(sys, mended)
	if x == nil || err != nil {
		t.Fatalf("cleared: %v", err)
	}
	if st, err := sys.Status(); st.Readiness != ReadinessReady || err != nil {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := sys.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
