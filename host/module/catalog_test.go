package module

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func unwatchedConfig(c *Config[*program]) { c.Watch = false }

func TestStartLoadsTheFilesOfTheDirectory(t *testing.T) {
	h := build(t, map[string]string{
		"b.wasm":       "module counter bank end",
		"a.wasm":       "module chat end",
		"notes.txt":    "no module",
		".c.wasm":      "module hidden end",
		"#d.wasm":      "module emacs end",
		"~e.wasm":      "module office end",
		"f.wasm~":      "module backup end",
		"g.wasm.part":  "module partial end",
		"broken.wasm":  "not wasm",
		"no-kind.wasm": "module nothing end",
		"panics.wasm":  "panic",
	}, unwatchedConfig)
	if err := os.MkdirAll(h.file("below/x.wasm"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatalf("broken files are no error of Start, but: %v", err)
	}
	if got, want := h.names(), "bank chat counter"; got != want {
		t.Errorf("kinds %q, want %q", got, want)
	}
	k, ok := h.Kind("counter")
	if !ok || k.Name != "counter" || k.File != h.file("b.wasm") || k.Version != k.Program.SHA256() ||
		k.Desc != &k.Program.desc.Kinds[0] || k.Loaded.IsZero() {
		t.Errorf("kind counter is %+v", k)
	}
	if _, ok := h.Kind("hidden"); ok {
		t.Error("a file with a leading dot was loaded")
	}
	var paths []string
	for _, f := range h.Files() {
		paths = append(paths, filepath.Base(f.Path)+" "+string(f.State))
	}
	want := "a.wasm loaded, b.wasm loaded, broken.wasm failed, no-kind.wasm failed, panics.wasm failed"
	if got := strings.Join(paths, ", "); got != want {
		t.Errorf("files %s, want %s", got, want)
	}
	contains(t, h.status("broken.wasm").Error, "not a module")
	contains(t, h.status("no-kind.wasm").Error, "no kinds")
	contains(t, h.status("panics.wasm").Error, "panicked", "planted", "report")
	if f := h.status("b.wasm"); f.SHA256 != k.Version || f.Size != 23 || strings.Join(f.Kinds, " ") != "bank counter" || f.Error != "" {
		t.Errorf("status of b.wasm: %+v", f)
	}
	if len(h.changes) != 1 {
		t.Errorf("OnChange was called %d times for one view", len(h.changes))
	}
	if made := h.loader.made; len(made) != 3 {
		t.Errorf("%d programs were made, want 3", len(made))
	}
	for _, p := range h.loader.made { // the one without kinds is closed at once, the others with the catalog
		if n := p.closed.Load(); (n == 1) != (p.desc == nil) {
			t.Errorf("the program of %v was closed %d times", p.desc, n)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range h.loader.made {
		if n := p.closed.Load(); n != 1 {
			t.Errorf("after Close the program of %v was closed %d times", p.desc, n)
		}
	}
	if h.names() != "" || len(h.Files()) != 0 {
		t.Error("a closed catalog still serves")
	}
}

func TestStartSaysWhatIsWrongWithTheDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "counter.wasm")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, dir string
		says      []string
		is        error
	}{
		{"none named", "", []string{"no actors directory is configured"}, nil},
		{"missing", filepath.Join(dir, "nowhere"), []string{"nowhere does not exist", "create it"}, fs.ErrNotExist},
		{"a file", file, []string{"counter.wasm is a file", "name the directory"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, watch := range []bool{false, true} {
				c := New(Config[*program]{Dir: tc.dir, Loader: &loader{}, Watch: watch})
				err := c.Start(t.Context())
				if err == nil {
					t.Fatal("no error")
				}
				contains(t, err.Error(), tc.says...)
				if tc.is != nil && !errors.Is(err, tc.is) {
					t.Errorf("%v is not %v", err, tc.is)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// removed removes dir, and returns a path to what is left of it: a directory, which nobody can list.
func removed(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	left := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if _, err := os.Stat(left); err != nil {
		t.Skip("this user may read every directory, and there is no /proc")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	return left
}

// TestStartRefusesAnUnreadableDirectory: no permission, or, for a user whom nothing stops, a directory that cannot be listed.
func TestStartRefusesAnUnreadableDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o311); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	if _, err := os.ReadDir(dir); err == nil {
		dir = removed(t, dir)
	}
	c := New(Config[*program]{Dir: dir, Loader: &loader{}})
	defer c.Close()
	err := c.Start(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	contains(t, err.Error(), dir, "readable")
}

func TestStartOnce(t *testing.T) {
	h := open(t, nil)
	if err := h.Start(t.Context()); err == nil {
		t.Error("a second Start is no error")
	}
	if len(h.changes) != 0 {
		t.Error("an empty directory is no new view")
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := h.Start(t.Context()); err == nil {
		t.Error("Start after Close is no error")
	}
	never := New(Config[*program]{Dir: h.dir, Loader: &loader{}})
	if err := never.Close(); err != nil {
		t.Error(err)
	}
	if err := never.Start(t.Context()); err == nil {
		t.Error("Start after Close is no error")
	}
	if err := New(Config[*program]{Dir: h.dir}).Start(t.Context()); err == nil {
		t.Error("no loader is no error")
	}
}

func TestStartEndsWithItsContextAndWithClose(t *testing.T) {
	for _, how := range []string{"context", "close"} {
		t.Run(how, func(t *testing.T) {
			h := build(t, map[string]string{"a.wasm": "module a end", "b.wasm": "module b end"}, func(c *Config[*program]) { c.Parallel = 1 })
			h.loader.gate, h.loader.entered = make(chan struct{}), make(chan struct{}, 2)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			started := make(chan error, 1)
			go func() { started <- h.Start(ctx) }()
			<-h.loader.entered
			if how == "context" {
				cancel()
			} else if err := h.Close(); err != nil {
				t.Error(err)
			}
			if err := <-started; !errors.Is(err, context.Canceled) {
				t.Errorf("Start ended with %v", err)
			}
			if len(h.Kinds()) != 0 || len(h.changes) != 0 {
				t.Error("a start that failed left kinds")
			}
		})
	}
}

// TestStartContextEndsAfterStart: the context bounds the first load only.
func TestStartContextEndsAfterStart(t *testing.T) {
	h := build(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	if err := h.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	h.write("late.wasm", "module late end")
	h.untilKinds("late")
}

func TestLoadsAreBounded(t *testing.T) {
	files := make(map[string]string)
	for _, name := range strings.Split("abcdefgh", "") {
		files[name+".wasm"] = "module " + name + " end"
	}
	h := build(t, files, unwatchedConfig, func(c *Config[*program]) { c.Parallel = 3 })
	h.loader.gate, h.loader.entered = make(chan struct{}), make(chan struct{}, len(files))
	started := make(chan error, 1)
	go func() { started <- h.Start(t.Context()) }()
	for range 3 { // three run side by side before any ends
		<-h.loader.entered
	}
	close(h.loader.gate)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if h.loader.most != 3 {
		t.Errorf("%d loads at once, want 3", h.loader.most)
	}
	if h.names() != "a b c d e f g h" {
		t.Errorf("kinds %s", h.names())
	}
}

func TestClosePanicIsAnError(t *testing.T) {
	h := open(t, map[string]string{"a.wasm": "module a badclose end"})
	err := h.Close()
	if err == nil {
		t.Fatal("no error")
	}
	contains(t, err.Error(), "panicked", "planted")
}

// TestReadersWhileViewsChange is for the race detector; a reader sees whole views.
func TestReadersWhileViewsChange(t *testing.T) {
	h := open(t, map[string]string{"a.wasm": "module a aa end", "b.wasm": "module b end"})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if ks := h.Kinds(); len(ks) == 2 { // b alone, or all three
					t.Errorf("half a view: %s and %s", ks[0].Name, ks[1].Name)
					return
				}
				h.Files()
				if k, ok := h.Kind("b"); !ok || k.Name != "b" {
					t.Error("kind b is missing")
					return
				}
			}
		})
	}
	for range 5 {
		h.remove("a.wasm")
		h.untilKinds("b")
		h.write("a.wasm", "module a aa end")
		h.untilKinds("a aa b")
	}
	close(stop)
	wg.Wait()
}
