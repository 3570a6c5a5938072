package engine

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/host/forge"
)

// loadCached loads the echo with a cache in dir, tries it, and returns what was logged.
func loadCached(t *testing.T, dir string) (log string) {
	t.Helper()
	var book logBook
	e, err := New(Config{CacheDir: dir, Log: book.logger()})
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Load(context.Background(), fixture(t, "echo.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	i, err := m.Instantiate(context.Background(), noHost{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := turn(i, call("echo", []byte("x"))); err != nil || string(out.Payload) != "x" {
		t.Errorf("%+v, %v", out, err)
	}
	i.Close()
	m.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	return book.String()
}

// cached returns the directory of the one module in the cache, and the file that wazero wrote there.
func cached(t *testing.T, dir string) (entry, file string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	entry = filepath.Join(dir, entries[0].Name())
	names, err := fileNames(entry)
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if err := verifySums(entry); err != nil {
		t.Error(err)
	}
	return entry, filepath.Join(entry, names[0])
}

func TestCacheIsUsed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "cache")
	if log := loadCached(t, dir); log != "" {
		t.Error(log)
	}
	_, file := cached(t, dir)
	before, _ := os.Stat(file)
	if log := loadCached(t, dir); log != "" {
		t.Error(log)
	}
	after, err := os.Stat(file)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("it was compiled anew: %v", err)
	}
}

// TestCacheIsKeyedByWhatIsCompiled: not by the file, of which another version of the engine makes other code, nor by the limits of a node.
func TestCacheIsKeyedByWhatIsCompiled(t *testing.T) {
	dir := t.TempDir()
	echo := fixture(t, "echo.wasm")
	want := make(map[string]bool)
	try := func(cfg Config, wasm []byte) {
		t.Helper()
		cfg.CacheDir = dir
		m, err := newEngine(t, cfg).Load(context.Background(), wasm)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		prepared, err := forge.Prepare(wasm, forgeOptions)
		if err != nil {
			t.Fatal(err)
		}
		want[hex.EncodeToString(prepared.OutputSHA256[:])] = true
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(want) {
			t.Fatalf("%v, %v; want %v", entries, err, want)
		}
		for _, e := range entries {
			if !want[e.Name()] {
				t.Errorf("an entry %s; want %v", e.Name(), want)
			}
		}
	}
	try(Config{}, echo)
	try(Config{}, append(slices.Clone(echo), 0, 3, 1, 'v', 1)) // a custom section, which nothing is made of
	if len(want) != 1 {
		t.Errorf("%d entries for code that is the same", len(want))
	}
	try(Config{Memory: 128 << 20}, echo)
	if len(want) != 1 {
		t.Errorf("%d entries for two limits of memory", len(want))
	}
}

func TestDamagedCache(t *testing.T) {
	write := func(t *testing.T, path string, change func([]byte) []byte) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, change(b), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, entry, file string){
		"offset": func(t *testing.T, _, file string) { // not covered by wazero's own checksum
			write(t, file, func(b []byte) []byte { b[30] ^= 0x10; return b })
		},
		"code": func(t *testing.T, _, file string) {
			write(t, file, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		},
		"truncated": func(t *testing.T, _, file string) { write(t, file, func(b []byte) []byte { return b[:len(b)/2] }) },
		"emptied":   func(t *testing.T, _, file string) { write(t, file, func([]byte) []byte { return nil }) },
		"unsealed":  func(t *testing.T, entry, _ string) { os.Remove(filepath.Join(entry, sumsFile)) },
		"gone":      func(t *testing.T, _, file string) { os.Remove(file) },
		"added":     func(t *testing.T, entry, _ string) { os.WriteFile(filepath.Join(entry, "more"), nil, 0o600) },
		"a file":    func(t *testing.T, entry, _ string) { os.RemoveAll(entry); os.WriteFile(entry, []byte("x"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			loadCached(t, dir)
			entry, file := cached(t, dir)
			damage(t, entry, file)
			if log := loadCached(t, dir); !strings.Contains(log, "a cached compiled module is damaged") {
				t.Errorf("log: %s", log)
			}
			cached(t, dir) // whole again
			if log := loadCached(t, dir); log != "" {
				t.Error(log)
			}
		})
	}
}

// TestSealedNonsenseInCache: what wazero itself refuses to read costs a warning.
func TestSealedNonsenseInCache(t *testing.T) {
	dir := t.TempDir()
	loadCached(t, dir)
	entry, file := cached(t, dir)
	if err := os.WriteFile(file, []byte("nonsense that is sealed all the same, long enough for a header"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeSums(entry); err != nil {
		t.Fatal(err)
	}
	if log := loadCached(t, dir); !strings.Contains(log, "the cache of compiled modules cannot be used") {
		t.Errorf("log: %s", log)
	}
	if log := loadCached(t, dir); log != "" {
		t.Error(log)
	}
	cached(t, dir)
}

func TestUnwritableCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "cache")} {
		if log := loadCached(t, dir); strings.Count(log, "the cache of compiled modules cannot be used") != 1 {
			t.Errorf("log: %s", log)
		}
	}
}

// TestCacheTakesNewFiles: another version of wazero, or another CPU, adds files to an entry.
func TestCacheTakesNewFiles(t *testing.T) {
	dir := t.TempDir()
	loadCached(t, dir)
	entry, file := cached(t, dir)
	os.Remove(file)
	if err := writeSums(entry); err != nil {
		t.Fatal(err)
	}
	if log := loadCached(t, dir); log != "" {
		t.Error(log)
	}
	cached(t, dir)
}

func TestCacheForgetsTheUnused(t *testing.T) {
	dir := t.TempDir()
	loadCached(t, dir)
	entry, _ := cached(t, dir)
	tmp := filepath.Join(dir, tmpPrefix+"x")
	foreign := filepath.Join(dir, "of somebody else")
	for _, d := range []string{tmp, foreign} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-keepUnused - time.Hour)
	for _, path := range []string{tmp, foreign, filepath.Join(entry, sumsFile)} {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	newEngine(t, Config{CacheDir: dir})
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != "of somebody else" {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestCacheIsShared(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			var book logBook
			e, err := New(Config{CacheDir: dir, Log: book.logger()})
			if err != nil {
				t.Error(err)
				return
			}
			m, err := e.Load(context.Background(), fixture(t, "hostcalls.wasm"))
			if err != nil {
				t.Error(err)
				return
			}
			m.Close()
			if log := book.String(); log != "" {
				t.Error(log)
			}
		})
	}
	all.Wait()
	cached(t, dir)
}

func TestBadModulesLeaveNothingInCache(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, Config{CacheDir: dir})
	for _, name := range []string{"notwasm", "truncated", "unknown_import"} {
		if _, err := e.Load(context.Background(), fixture(t, "hostile/"+name+".wasm")); err == nil {
			t.Errorf("%s was loaded", name)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("%v", entries)
	}
}
