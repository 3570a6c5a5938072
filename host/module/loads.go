package module

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Load is a file on its way: it has just been noticed, waits for its turn, or is being loaded.
type Load struct {
	Path  string    // as Config.Dir has it
	Since time.Time // when the file was noticed, or what serves was found to be superseded
}

// loads is which files are on their way. Files that serve nothing count from the moment they are heard of, since a request for their
// kinds cannot be answered before; files that serve count once their contents are known to be new.
type loads struct {
	path func(name string) string

	mu    sync.Mutex
	heard map[string]time.Time // not looked at yet
	under map[string]time.Time // looked at, or waiting for a slot
	now   atomic.Pointer[loading]
}

// loading is what readers see: immutable.
type loading struct {
	files   []Load        // by path
	changed chan struct{} // closed when there is another
}

func newLoads(path func(string) string) *loads {
	l := &loads{path: path, heard: make(map[string]time.Time), under: make(map[string]time.Time)}
	l.now.Store(&loading{changed: make(chan struct{})})
	return l
}

// hear notes a file that is to be looked at and serves nothing.
func (l *loads) hear(name string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, before := l.heard[name]; before {
		return
	}
	l.heard[name] = now
	l.publishLocked()
}

// take begins the look at what was heard of the names.
func (l *loads) take(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if since, ok := l.heard[name]; ok {
			delete(l.heard, name)
			l.under[name] = since
		}
	}
}

// begin notes that the contents of a file are new and go to the loader.
func (l *loads) begin(name string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, before := l.under[name]; before {
		return
	}
	l.under[name] = now
	l.publishLocked()
}

// end ends the looks under way, after what they found is in place. Those at the busy files come again.
func (l *loads) end(busy []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range busy {
		if since, ok := l.under[name]; ok {
			l.heard[name] = since
		}
	}
	clear(l.under)
	l.publishLocked()
}

// drop forgets all: nobody will look.
func (l *loads) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.heard)
	clear(l.under)
	l.publishLocked()
}

func (l *loads) publishLocked() {
	since := maps.Clone(l.heard)
	for name, at := range l.under {
		if before, ok := since[name]; !ok || at.Before(before) {
			since[name] = at
		}
	}
	old := l.now.Load()
	if len(since) == 0 && len(old.files) == 0 {
		return
	}
	v := &loading{changed: make(chan struct{}), files: make([]Load, 0, len(since))}
	for name, at := range since {
		v.files = append(v.files, Load{Path: l.path(name), Since: at})
	}
	slices.SortFunc(v.files, func(a, b Load) int { return cmp.Compare(a.Path, b.Path) })
	if slices.Equal(v.files, old.files) {
		return
	}
	l.now.Store(v)
	close(old.changed)
}
