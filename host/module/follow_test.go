package module

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// ways are the two ways in which changes are found; what follows from them is the same.
var ways = []struct {
	name string
	open func() (*fileEvents, error)
}{
	{"events", openEvents},
	{"looks", func() (*fileEvents, error) { return nil, errors.New("planted: too many open files") }},
}

// eachWay runs the test on a started house in either way.
func eachWay(t *testing.T, files map[string]string, test func(t *testing.T, h *house)) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			h := build(t, files)
			h.openEvents = way.open
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			test(t, h)
		})
	}
}

func TestFollowNewChangedAndDeleted(t *testing.T) {
	eachWay(t, map[string]string{"a.wasm": "module a end"}, func(t *testing.T, h *house) {
		h.overwrite("b.wasm", "module b end")
		h.untilKinds("a b")

		old := h.program("b")
		h.overwrite("b.wasm", "module b b2 end")
		h.untilKinds("a b b2")
		h.untilClosed("the replaced program", old)
		if p := h.program("a"); p.closed.Load() != 0 {
			t.Error("the program of another file was closed")
		}

		old = h.program("b")
		h.remove("b.wasm")
		h.untilKinds("a")
		h.untilClosed("the removed program", old)
		if len(h.Files()) != 1 {
			t.Errorf("a deleted file is still listed: %+v", h.Files())
		}
	})
}

func TestFollowAtomicReplace(t *testing.T) {
	eachWay(t, map[string]string{"a.wasm": "module a end"}, func(t *testing.T, h *house) {
		h.write(".a.wasm.tmp", "module a a2 end")
		h.rename(h.file(".a.wasm.tmp"), h.file("a.wasm"))
		h.untilKinds("a a2")
		if n := h.loader.loads("module a a2 end"); n != 1 {
			t.Errorf("loaded %d times", n)
		}
	})
}

// TestFollowRename: a kind whose file is renamed is served in every view.
func TestFollowRename(t *testing.T) {
	h := open(t, map[string]string{"a.wasm": "module a end"}, func(c *Config[*program]) { c.Debounce = 0 })
	missing := false
	h.rename(h.file("a.wasm"), h.file("z.wasm"))
	h.until("served by z.wasm", func() bool {
		k, ok := h.Kind("a")
		missing = missing || !ok
		return ok && k.File == h.file("z.wasm")
	})
	if missing {
		t.Error("there was a view without the kind")
	}
}

// TestRenameWhoseEventsComeApart: of the two the second may be long in coming.
func TestRenameWhoseEventsComeApart(t *testing.T) {
	h := build(t, map[string]string{"a.wasm": "module a end"})
	fake, _, _ := fakeEvents()
	h.openEvents = func() (*fileEvents, error) { return fake, nil }
	w, err := h.first(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.rename(h.file("a.wasm"), h.file("z.wasm"))
	h.write("new.wasm", "module new end") // this one is nobody's other half, and waits for its own turn
	now := time.Now()
	w.event(fsnotify.Event{Name: h.file("a.wasm"), Op: fsnotify.Rename}, now)
	now = now.Add(h.cfg.Debounce)
	w.event(fsnotify.Event{Name: h.file("z.wasm"), Op: fsnotify.Create}, now)
	names := w.turn(now)
	if !slices.Equal(names, []string{"a.wasm", "z.wasm"}) {
		t.Fatalf("it is the turn of %q", names)
	}
	h.update(t.Context(), names)
	if k, ok := h.Kind("a"); !ok || k.File != h.file("z.wasm") {
		t.Errorf("kinds %s", h.names())
	}
	if w.quiet.waits("z.wasm") {
		t.Error("it has another turn")
	}
}

// TestSameBytesDoNothing: the marker file is written later, so its view comes after the look at the others.
func TestSameBytesDoNothing(t *testing.T) {
	const good, bad = "module a end", "broken"
	eachWay(t, map[string]string{"a.wasm": good, "bad.wasm": bad}, func(t *testing.T, h *house) {
		before := h.program("a")
		h.write("a.wasm", good)
		h.write("bad.wasm", bad)
		h.write("marker.wasm", "module marker end")
		h.untilKinds("a marker")
		if n := h.loader.loads(good); n != 1 || h.program("a") != before || before.closed.Load() != 0 {
			t.Errorf("the same bytes were loaded %d times", n)
		}
		if n := h.logs.count("module not loaded"); n != 1 {
			t.Errorf("the failure was logged %d times", n)
		}
	})
}

func TestBrokenFileLeavesTheOldVersion(t *testing.T) {
	eachWay(t, map[string]string{"a.wasm": "module a end"}, func(t *testing.T, h *house) {
		old := h.status("a.wasm")
		program := h.program("a")
		for _, broken := range []string{"", "module a a2", "nonsense", "panic", "module nothing end"} {
			h.write("a.wasm", broken)
			h.until("refused "+broken, func() bool { return h.loader.loads(broken) > 0 && h.status("a.wasm").State == StateKept })
			st := h.status("a.wasm")
			if st.SHA256 != old.SHA256 || st.Size != old.Size || len(st.Kinds) != 1 || st.Error == "" {
				t.Errorf("with %q on disk: %+v", broken, st)
			}
			if h.program("a") != program || program.closed.Load() != 0 {
				t.Fatalf("with %q on disk the old version does not serve", broken)
			}
		}
		h.write("a.wasm", "module a end") // back to what serves: nothing to load
		h.untilState("a.wasm", StateLoaded)
		if n := h.loader.loads("module a end"); n != 1 || h.program("a") != program {
			t.Errorf("what serves was loaded %d times", n)
		}
		h.write("a.wasm", "module a a2 end")
		h.untilKinds("a a2")
	})
}

// TestFailureIsLoggedOnce, however often the directory is looked at.
func TestFailureIsLoggedOnce(t *testing.T) {
	h := open(t, map[string]string{"bad.wasm": "broken"})
	for _, mark := range []string{"m1", "m2", "m3"} {
		later := time.Now().Add(time.Hour) // touched: tried again, since the reason may have been the node's
		if err := os.Chtimes(h.file("bad.wasm"), later, later); err != nil {
			t.Fatal(err)
		}
		h.write("marker.wasm", "module "+mark+" end")
		h.untilKinds(mark)
	}
	if n := h.logs.count("module not loaded"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if n := h.loader.loads("broken"); n < 2 {
		t.Errorf("a touched file was not tried again: %d loads", n)
	}
	h.write("bad.wasm", "module cut")
	h.until("the next reason", func() bool { return h.logs.count("truncated") == 1 })
}

func TestFileThatGrows(t *testing.T) {
	eachWay(t, map[string]string{"a.wasm": "module a end"}, func(t *testing.T, h *house) {
		program := h.program("a")
		f, err := os.Create(h.file("a.wasm"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, part := range []string{"module a ", "a2 ", "#filler "} {
			if _, err := f.WriteString(part); err != nil {
				t.Fatal(err)
			}
			if h.program("a") != program {
				t.Fatal("half a file serves")
			}
		}
		// Until it was looked at with all of its parts, or the end comes before anybody saw that it was missing.
		h.until("refused", func() bool { return h.logs.count("truncated") > 0 && h.status("a.wasm").State == StateKept })
		if _, err := f.WriteString("end"); err != nil {
			t.Fatal(err)
		}
		h.untilKinds("a a2")
		if n := h.logs.count("truncated"); n != 1 {
			t.Errorf("the truncated file was logged %d times", n)
		}
	})
}

func TestDirectoryDeletedAndMadeAgain(t *testing.T) {
	eachWay(t, map[string]string{"a.wasm": "module a end"}, func(t *testing.T, h *house) {
		for range 2 {
			program := h.program("a")
			h.remove("")
			h.untilKinds("")
			h.untilClosed("the program", program)
			h.mkdir()
			h.write("a.wasm", "module a end")
			h.untilKinds("a")
			h.write("a.wasm", "module a a2 end") // and it is followed as before
			h.untilKinds("a a2")
			h.write("a.wasm", "module a end")
			h.untilKinds("a")
		}
	})
}

// TestDirectoryTroubleIsLoggedOnce drives the follower by hand.
func TestDirectoryTroubleIsLoggedOnce(t *testing.T) {
	h := build(t, map[string]string{"a.wasm": "module a end"})
	fake, _, _ := fakeEvents()
	fake.add = func(string) error { return errors.New("planted: no space left on device") }
	h.openEvents = func() (*fileEvents, error) { return fake, nil }
	w, err := h.first(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for range 3 {
		w.sweep(now)
	}
	for n := range 2 {
		h.remove("")
		for range 3 {
			now = now.Add(time.Hour)
			w.sweep(now)
			h.update(t.Context(), w.quiet.take(now.Add(time.Second)))
		}
		if h.logs.count(dirGone) != n+1 || h.names() != "" {
			t.Errorf("gone: logged %d times, kinds %s", h.logs.count(dirGone), h.names())
		}
		h.mkdir()
		h.write("a.wasm", "module a end")
		w.sweep(now)
		h.update(t.Context(), w.quiet.take(now.Add(time.Second)))
		if h.names() != "a" {
			t.Errorf("back: kinds %s", h.names())
		}
	}
	if h.logs.count("max_user_watches") != 1 {
		t.Errorf("the missing events were logged %d times", h.logs.count("max_user_watches"))
	}

	// A file in its place is no directory that is gone: what was loaded serves on.
	h.remove("")
	h.overwrite("", "a file")
	for range 2 {
		now = now.Add(time.Hour)
		w.sweep(now)
		h.update(t.Context(), w.quiet.take(now.Add(time.Second)))
	}
	if h.logs.count(dirBroken) != 1 || h.names() != "a" {
		t.Errorf("unreadable: logged %d times, kinds %s", h.logs.count(dirBroken), h.names())
	}
}

func TestDirectoryReplaced(t *testing.T) {
	eachWay(t, map[string]string{"a.wasm": "module a end", "same.wasm": "module same end"}, func(t *testing.T, h *house) {
		next := h.dir + ".next"
		if err := os.Mkdir(next, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"b.wasm": "module b end", "same.wasm": "module same end"} {
			if err := os.WriteFile(filepath.Join(next, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		h.rename(h.dir, h.dir+".last")
		h.rename(next, h.dir)
		h.untilKinds("b same")
		h.write("c.wasm", "module c end")
		h.untilKinds("b c same")
	})
}

func TestLinks(t *testing.T) {
	outside := t.TempDir()
	target := filepath.Join(outside, "built")
	if err := os.WriteFile(target, []byte("module a end"), 0o644); err != nil {
		t.Fatal(err)
	}
	eachWay(t, nil, func(t *testing.T, h *house) {
		if err := os.Symlink(target, h.file("a.wasm")); err != nil {
			t.Skip("no symbolic links here: ", err)
		}
		if err := os.Symlink(outside, h.file("dir.wasm")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(outside, "none"), h.file("void.wasm")); err != nil {
			t.Fatal(err)
		}
		h.untilKinds("a")
		contains(t, h.untilState("dir.wasm", StateFailed).Error, "directory")
		contains(t, h.untilState("void.wasm", StateFailed).Error, "leads nowhere")

		if err := os.WriteFile(target, []byte("module a a2 end"), 0o644); err != nil { // no event tells of it
			t.Fatal(err)
		}
		h.untilKinds("a a2")
		if err := os.WriteFile(target, []byte("module a end"), 0o644); err != nil {
			t.Fatal(err)
		}
		h.untilKinds("a")
	})
}

// TestLinkBelow is how Kubernetes changes a mounted ConfigMap: a link on the way to the files is replaced.
func TestLinkBelow(t *testing.T) {
	h := build(t, nil, func(c *Config[*program]) { c.Poll = time.Hour })
	for version, text := range map[string]string{"..v1": "module a end", "..v2": "module a a2 end"} {
		if err := os.Mkdir(h.file(version), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.file(version+"/a.wasm"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"..data": "..v1", "..next": "..v2", "a.wasm": "..data/a.wasm"} {
		if err := os.Symlink(target, h.file(link)); err != nil {
			t.Skip("no symbolic links here: ", err)
		}
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.untilKinds("a")
	h.rename(h.file("..next"), h.file("..data"))
	h.untilKinds("a a2")
}

func TestTooLargeFile(t *testing.T) {
	h := open(t, map[string]string{"a.wasm": "module a end"})
	if err := os.Truncate(h.file("a.wasm"), MaxFileSize+1); err != nil { // a hole: it takes no room
		t.Fatal(err)
	}
	contains(t, h.untilState("a.wasm", StateKept).Error, "64.0 MiB", "more than the 64 allowed")
	if h.names() != "a" {
		t.Error("the version before it does not serve")
	}
}

// TestUnreadableFile: no permission, or, for a user whom nothing stops, a file whose reading fails.
func TestUnreadableFile(t *testing.T) {
	h := open(t, map[string]string{"a.wasm": "module a end"})
	if err := os.Chmod(h.file("a.wasm"), 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open(h.file("a.wasm")); err == nil {
		f.Close()
		const unmapped = "/proc/self/mem" // regular, and nothing is at its start
		if _, err := os.Stat(unmapped); err != nil {
			t.Skip("this user may read every file, and there is no /proc")
		}
		if err := os.Symlink(unmapped, h.file(".link")); err != nil {
			t.Fatal(err)
		}
		h.rename(h.file(".link"), h.file("a.wasm"))
	}
	contains(t, h.untilState("a.wasm", StateKept).Error, "the file cannot be read: ")
	h.write("a.wasm", "module a end")
	h.untilState("a.wasm", StateLoaded)
	if n := h.loader.loads("module a end"); n != 1 {
		t.Errorf("what serves was loaded %d times", n)
	}
}

// TestReadFailureThatPasses: the file is as it was, only the node could not read it for a while, as without descriptors.
func TestReadFailureThatPasses(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			h := build(t, map[string]string{"a.wasm": "module a end"})
			h.openEvents = way.open
			old := time.Now().Add(-time.Hour) // nothing about the file asks for another look
			if err := os.Chtimes(h.file("a.wasm"), old, old); err != nil {
				t.Fatal(err)
			}
			var opened atomic.Int64
			h.openFile = func(path string) (*os.File, error) {
				if opened.Add(1) <= 3 {
					return nil, &os.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
				}
				return os.Open(path)
			}
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.untilKinds("a")
			if n := h.logs.count("module not loaded"); n != 1 {
				t.Errorf("the failure was logged %d times", n)
			}
		})
	}
}

func TestNoEventsIsAWarning(t *testing.T) {
	h := build(t, nil)
	h.openEvents = ways[1].open
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.logs.count("level=WARN") != 1 || h.logs.count("max_user_instances") != 1 {
		t.Errorf("the log does not say it once:\n%s", h.logs)
	}
}

// fakeEvents is a watcher that says only what the test says.
func fakeEvents() (*fileEvents, chan fsnotify.Event, chan error) {
	events, errs := make(chan fsnotify.Event), make(chan error)
	nothing := func(string) error { return nil }
	return &fileEvents{events: events, errors: errs, add: nothing, remove: nothing, close: func() error { return nil }}, events, errs
}

// TestOverflow: the events of a change are lost, and nothing but its bytes tells that the file is another.
func TestOverflow(t *testing.T) {
	h := build(t, map[string]string{"a.wasm": "module a #1 end"}, func(c *Config[*program]) { c.Poll = time.Hour })
	fake, _, errs := fakeEvents()
	h.openEvents = func() (*fileEvents, error) { return fake, nil }
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(h.file("a.wasm"), past, past); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.overwrite("a.wasm", "module b #1 end") // as long, and soon as old
	h.write("new.wasm", "module new end")
	if err := os.Chtimes(h.file("a.wasm"), past, past); err != nil {
		t.Fatal(err)
	}
	errs <- fsnotify.ErrEventOverflow
	h.untilKinds("b new")
}

// TestWatcherThatBreaks falls back to looks.
func TestWatcherThatBreaks(t *testing.T) {
	h := build(t, nil)
	fake, events, errs := fakeEvents()
	h.openEvents = func() (*fileEvents, error) { return fake, nil }
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	errs <- errors.New("planted")
	close(events)
	h.until("without events", func() bool { return h.logs.count(unwatched) > 0 })
	h.write("a.wasm", "module a end")
	h.untilKinds("a")
	if h.logs.count(eventsFail) != 1 || h.logs.count(unwatched) != 1 {
		t.Errorf("the log does not say it once:\n%s", h.logs)
	}
}

// TestDebounce: while a file is written it is not looked at, other files are.
func TestDebounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil, func(c *Config[*program]) { c.Debounce, c.Poll = 200*time.Millisecond, time.Hour })
		fake, events, _ := fakeEvents()
		h.openEvents = func() (*fileEvents, error) { return fake, nil }
		if err := h.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.write("slow.wasm", "module slow end")
		h.write("quick.wasm", "module quick end")
		began := time.Now()
		events <- fsnotify.Event{Name: h.file("quick.wasm"), Op: fsnotify.Create}
		for range 10 {
			events <- fsnotify.Event{Name: h.file("slow.wasm"), Op: fsnotify.Write}
			time.Sleep(150 * time.Millisecond) // the bubble's clock
		}
		<-h.changes
		if h.names() != "quick" {
			t.Errorf("after %v: %s", time.Since(began), h.names())
		}
		<-h.changes
		if took := time.Since(began); h.names() != "quick slow" || took != 9*150*time.Millisecond+200*time.Millisecond {
			t.Errorf("after %v: %s", took, h.names())
		}
		if n := h.loader.loads("module slow end"); n != 1 {
			t.Errorf("loaded %d times", n)
		}
		_ = h.Close()
	})
}

// TestCloseDuringALoad ends the load and lets no view of it through.
func TestCloseDuringALoad(t *testing.T) {
	h := open(t, map[string]string{"a.wasm": "module a end"})
	<-h.changes
	h.loader.mu.Lock()
	h.loader.gate, h.loader.entered = make(chan struct{}), make(chan struct{}, 1)
	h.loader.mu.Unlock()
	h.write("b.wasm", "module b end")
	<-h.loader.entered
	if h.names() != "a" {
		t.Error("a load under way is seen")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if len(h.changes) != 0 {
		t.Error("OnChange was called after Close")
	}
}
