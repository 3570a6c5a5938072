package module

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// shut makes every load from now on wait until the test lets it go.
func (l *loader) shut() (open func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gate := make(chan struct{})
	l.gate, l.entered = gate, make(chan struct{}, 100)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.gate = nil
		close(gate)
	}
}

// coming are the files on their way.
func (h *house) coming() string {
	loads, _ := h.Loading()
	var names []string
	for _, l := range loads {
		names = append(names, strings.TrimPrefix(l.Path, h.dir+"/"))
	}
	return strings.Join(names, " ")
}

// awaitComing waits as a request does: on the channel that comes with the list.
func (h *house) awaitComing(want string) {
	h.t.Helper()
	for deadline := time.After(hang); ; {
		_, changed := h.Loading()
		if h.coming() == want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			h.t.Fatalf("on their way: %q, want %q", h.coming(), want)
		}
	}
}

func TestANewFileIsOnItsWayUntilItsKindsServe(t *testing.T) {
	eachWay(t, map[string]string{"a.wasm": "module a end"}, func(t *testing.T, h *house) {
		open := h.loader.shut()
		before := time.Now()
		h.write("b.wasm", "module b end")
		<-h.loader.entered
		if h.coming() != "b.wasm" {
			t.Fatalf("on their way: %q", h.coming())
		}
		st := h.status("b.wasm")
		if st.State != StateLoading || st.Loading.Before(before) || st.Loading.After(time.Now()) || len(st.Kinds) != 0 || st.Error != "" {
			t.Errorf("status %+v", st)
		}
		if st := h.status("a.wasm"); st.State != StateLoaded || !st.Loading.IsZero() {
			t.Errorf("status of another file %+v", st)
		}
		open()
		h.awaitComing("")
		if _, ok := h.Kind("b"); !ok {
			t.Error("the load is over, and its kind does not serve")
		}
		if st := h.status("b.wasm"); st.State != StateLoaded || !st.Loading.IsZero() {
			t.Errorf("status %+v", st)
		}
	})
}

// A file that arrives while another one is compiled is known to be on its way.
func TestAFileArrivesDuringALoad(t *testing.T) {
	h := open(t, nil)
	open := h.loader.shut()
	h.write("a.wasm", "module a end")
	<-h.loader.entered
	h.write("b.wasm", "module b end")
	h.awaitComing("a.wasm b.wasm")
	h.remove("b.wasm")
	h.write("c.wasm", "module c end")
	h.awaitComing("a.wasm b.wasm c.wasm") // b is still to be looked at
	open()
	h.awaitComing("")
	if h.names() != "a c" {
		t.Errorf("kinds %s", h.names())
	}
}

func TestWhatServesServesWhileItsSuccessorLoads(t *testing.T) {
	h := open(t, map[string]string{"a.wasm": "module a end"})
	old := h.program("a")
	open := h.loader.shut()
	h.write("a.wasm", "module a a2 end")
	<-h.loader.entered
	if h.program("a") != old || old.closed.Load() != 0 {
		t.Error("the old version does not serve")
	}
	if h.coming() != "a.wasm" { // it may bring a new kind
		t.Errorf("on their way: %q", h.coming())
	}
	if st := h.status("a.wasm"); st.State != StateLoaded || st.Loading.IsZero() || st.SHA256 != old.sum {
		t.Errorf("status %+v", st)
	}
	open()
	h.awaitComing("")
	if h.names() != "a a2" {
		t.Errorf("kinds %s", h.names())
	}
}

func TestABrokenFileThatIsMended(t *testing.T) {
	h := open(t, map[string]string{"a.wasm": "broken"})
	if h.coming() != "" {
		t.Errorf("after the start %q is on its way", h.coming())
	}
	open := h.loader.shut()
	h.write("a.wasm", "module a end")
	<-h.loader.entered
	if st := h.status("a.wasm"); st.State != StateLoading || st.Error != "" || st.Loading.IsZero() {
		t.Errorf("status %+v", st)
	}
	open()
	h.awaitComing("")
	h.write("b.wasm", "broken too")
	h.untilState("b.wasm", StateFailed)
	h.awaitComing("")
	if h.names() != "a" {
		t.Errorf("kinds %s", h.names())
	}
}

// What cannot change what serves holds nobody up: a look at what is known, and files that go.
func TestWhatIsNoNewsIsNotOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, map[string]string{"a.wasm": "module a end", "bad.wasm": "broken"},
			func(c *Config[*program]) { c.Debounce, c.Poll = 200*time.Millisecond, time.Hour })
		fake, events, _ := fakeEvents()
		h.openEvents = func() (*fileEvents, error) { return fake, nil }
		if err := h.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		events <- fsnotify.Event{Name: h.file("a.wasm"), Op: fsnotify.Write}
		events <- fsnotify.Event{Name: h.file("bad.wasm"), Op: fsnotify.Remove}
		events <- fsnotify.Event{Name: h.file("moved.wasm"), Op: fsnotify.Rename}
		synctest.Wait()
		if h.coming() != "" {
			t.Errorf("on their way: %q", h.coming())
		}
		began := time.Now()
		events <- fsnotify.Event{Name: h.file("ghost.wasm"), Op: fsnotify.Create} // gone before it is looked at
		synctest.Wait()
		loads, changed := h.Loading()
		if len(loads) != 1 || !loads[0].Since.Equal(began) {
			t.Errorf("on their way: %+v", loads)
		}
		<-changed
		if took := time.Since(began); h.coming() != "" || took != 200*time.Millisecond {
			t.Errorf("after %v on their way: %q", took, h.coming())
		}
		_ = h.Close()
	})
}

// The first load is told file by file, and its end too, however it ends.
func TestLoadingWhileTheCatalogStarts(t *testing.T) {
	for _, end := range []string{"done", "closed"} {
		t.Run(end, func(t *testing.T) {
			h := build(t, map[string]string{"a.wasm": "module a end", "b.wasm": "module b end", "c.wasm": "broken"},
				func(c *Config[*program]) { c.Parallel = 1 })
			open := h.loader.shut()
			started := make(chan error, 1)
			go func() { started <- h.Start(t.Context()) }()
			<-h.loader.entered
			if h.coming() != "a.wasm b.wasm c.wasm" {
				t.Errorf("on their way: %q", h.coming())
			}
			_, changed := h.Loading()
			if end == "closed" {
				_ = h.Close()
				<-started
			} else {
				open()
				if err := <-started; err != nil {
					t.Fatal(err)
				}
			}
			<-changed
			if h.coming() != "" {
				t.Errorf("on their way: %q", h.coming())
			}
		})
	}
}

func TestLoads(t *testing.T) {
	l := newLoads(func(name string) string { return name })
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	check := func(want ...Load) {
		t.Helper()
		if got := l.now.Load().files; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	check()
	l.hear("b", at(1))
	l.hear("b", at(2))
	l.hear("a", at(3))
	check(Load{"a", at(3)}, Load{"b", at(1)})
	changed := l.now.Load().changed
	l.take([]string{"b", "unheard"})
	l.begin("b", at(4)) // it is known since before
	check(Load{"a", at(3)}, Load{"b", at(1)})
	select {
	case <-changed:
		t.Error("told of no change")
	default:
	}
	l.begin("c", at(5))
	l.hear("b", at(6)) // written again meanwhile
	check(Load{"a", at(3)}, Load{"b", at(1)}, Load{"c", at(5)})
	<-changed
	l.end(nil)
	check(Load{"a", at(3)}, Load{"b", at(6)})
	l.take([]string{"a", "b"})
	l.end([]string{"b"})
	check(Load{"b", at(6)})
	l.drop()
	check()
}
