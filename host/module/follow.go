package module

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// calm is how much rarer the looks at the directory are while events can be relied on.
const calm = 10

// Troubles that last, each logged when it comes.
const (
	dirGone    = "the actors directory is gone, and its kinds with it, until it is back"
	dirBroken  = "the actors directory cannot be read; what was loaded still serves"
	unwatched  = "no file events, so the actors directory is looked at every so often"
	eventsFail = "file events of the actors directory failed"
)

// follower follows the directory. One goroutine at a time calls it: Start's, then the one of run. That one goes on listening while
// an update compiles for seconds, so that a file which arrives meanwhile is known to be on its way; it leaves the catalog's files
// alone until the update is over.
type follower[P Program] struct {
	c       *Catalog[P]
	events  *fileEvents // nil: none to be had, so that only looks find changes
	watched os.FileInfo // the directory that the events are of; nil: none
	quiet   quiet
	sweepAt time.Time       // of the next look at the whole directory
	lost    bool            // events were lost: the next look is at all contents
	warned  map[string]bool // troubles that were logged and have not passed
}

func newFollower[P Program](c *Catalog[P]) *follower[P] {
	w := &follower[P]{
		c: c, quiet: quiet{wait: c.cfg.Debounce, due: make(map[string]time.Time)}, warned: make(map[string]bool),
	}
	var err error
	if w.events, err = c.openEvents(); err != nil {
		w.events = nil
		w.warn(unwatched, fmt.Errorf("%w; on Linux fs.inotify.max_user_instances may be too low", err))
	}
	return w
}

func (w *follower[P]) close() {
	if w.events != nil {
		_ = w.events.close()
	}
}

// began is called after the first load.
func (w *follower[P]) began(busy []string) {
	now := time.Now()
	for _, name := range busy {
		w.quiet.heard(name, now)
	}
	w.sweepAt = now.Add(w.c.cfg.Poll)
}

// run follows the directory until ctx ends.
func (w *follower[P]) run(ctx context.Context) {
	defer w.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var updated chan []string // takes the busy files of the update that runs; nil: none does
	for {
		var turn <-chan time.Time
		if updated == nil {
			timer.Reset(time.Until(w.next()))
			turn = timer.C
		}
		var events <-chan fsnotify.Event
		var errs <-chan error
		if w.events != nil {
			events, errs = w.events.events, w.events.errors
		}
		select {
		case <-ctx.Done():
			if updated != nil {
				<-updated // it ends with ctx too
			}
			return
		case ev, ok := <-events:
			if !ok {
				w.broke()
				continue
			}
			w.event(ev, time.Now())
		case err, ok := <-errs:
			if !ok {
				w.broke()
				continue
			}
			w.trouble(err)
		case busy := <-updated:
			updated = nil
			for _, name := range busy {
				w.quiet.heard(name, time.Now())
			}
		case <-turn:
			if now := time.Now(); !now.Before(w.sweepAt) {
				w.sweep(now)
			}
			if names := w.turn(time.Now()); len(names) > 0 {
				w.c.loads.take(names)
				updated = make(chan []string, 1)
				go func() { updated <- w.c.update(ctx, names) }()
			}
		}
	}
}

// turn takes the files whose turn it is, and with one that is gone the same file under its new name: on a busy machine the second event
// of a rename may come much later than the first.
func (w *follower[P]) turn(now time.Time) []string {
	names := w.quiet.take(now)
	var gone []os.FileInfo
	for _, name := range names {
		if f := w.c.files[name]; f != nil && f.stamp.info != nil {
			if _, err := os.Lstat(w.c.abs(name)); errors.Is(err, fs.ErrNotExist) {
				gone = append(gone, f.stamp.info)
			}
		}
	}
	if len(gone) == 0 {
		return names
	}
	listed, _ := modules(w.c.dir) // with an error nothing is listed, and the next look tells of it
	for _, name := range listed {
		if w.c.files[name] != nil || slices.Contains(names, name) {
			continue
		}
		st, err := stampOf(w.c.abs(name))
		if err == nil && slices.ContainsFunc(gone, func(old os.FileInfo) bool { return os.SameFile(old, st.info) }) {
			w.quiet.drop(name)
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// next is when there is something to do without an event.
func (w *follower[P]) next() time.Time {
	if due, ok := w.quiet.next(); ok && due.Before(w.sweepAt) {
		return due
	}
	return w.sweepAt
}

// event takes one event. Only names matter: what happened is found out by looking.
func (w *follower[P]) event(ev fsnotify.Event, now time.Time) {
	switch {
	case ev.Name == "": // fsnotify's "nothing after all"
	case ev.Name == w.c.dir:
		if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
			w.watched = nil
		}
		w.sweepSoon(now)
	case isModule(filepath.Base(ev.Name)):
		name := filepath.Base(ev.Name)
		w.quiet.heard(name, now)
		if !ev.Has(fsnotify.Remove) && !ev.Has(fsnotify.Rename) {
			w.comes(name, now)
		}
	case ev.Has(fsnotify.Create) || ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename):
		w.sweepSoon(now) // perhaps a link on the way to a module, such as Kubernetes' ..data
	}
}

// trouble takes an error of the watcher. After an overflow nothing is known, so every file is read.
func (w *follower[P]) trouble(err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		w.warn(eventsFail, err)
		w.sweepSoon(time.Now())
		return
	}
	w.c.log.Debug("too many file events at once, reading the actors directory anew", "dir", w.c.cfg.Dir)
	w.lost, w.sweepAt = true, time.Now()
}

// comes notes that a file is there which is not what was looked at last. One that serves does so until its contents are known to be new.
func (w *follower[P]) comes(name string, now time.Time) {
	if !w.c.serves(name) {
		w.c.loads.hear(name, now)
	}
}

// broke goes on without events.
func (w *follower[P]) broke() {
	w.close()
	w.events, w.watched = nil, nil
	w.sweepSoon(time.Now())
	w.warn(unwatched, errors.New("they ended"))
}

func (w *follower[P]) sweepSoon(now time.Time) {
	if soon := now.Add(w.c.cfg.Debounce); soon.Before(w.sweepAt) {
		w.sweepAt = soon
	}
}

// sweep looks at the whole directory, without reading files, and hands over those that may have changed.
func (w *follower[P]) sweep(now time.Time) {
	w.sweepAt = now.Add(w.c.cfg.Poll)
	w.watch()
	names, err := modules(w.c.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.warn(dirGone, err)
	case err != nil:
		w.warn(dirBroken, err)
		return
	default:
		delete(w.warned, dirGone)
		delete(w.warned, dirBroken)
	}
	if w.lost {
		w.lost = false
		for name := range w.c.files {
			w.quiet.heard(name, now)
		}
	}
	listed := make(map[string]bool, len(names))
	linked := false
	for _, name := range names {
		listed[name] = true
		linked = linked || isLink(w.c.abs(name))
		f := w.c.files[name]
		st, _ := stampOf(w.c.abs(name))
		if f == nil || !f.stamp.same(st) {
			w.changed(name, now)
			if f == nil || f.stamp.info != nil { // else it is tried at every look, for as long as it cannot be read
				w.comes(name, time.Now()) // now was before the directory was read
			}
		} else if !f.stamp.settled() {
			w.changed(name, now)
		}
	}
	for name := range w.c.files {
		if !listed[name] {
			w.changed(name, now)
		}
	}
	if w.watched != nil && !linked && !isLink(w.c.dir) {
		w.sweepAt = now.Add(calm * w.c.cfg.Poll) // the target of a link changes without an event here
	}
}

// changed is what a look found. It never puts off a turn, or looks more frequent than turns would starve them.
func (w *follower[P]) changed(name string, now time.Time) {
	if !w.quiet.waits(name) {
		w.quiet.heard(name, now)
	}
}

// watch sees to it that the events are those of the directory that now bears the name.
func (w *follower[P]) watch() {
	if w.events == nil {
		return
	}
	info, err := os.Stat(w.c.dir)
	if err != nil {
		w.watched = nil
		return
	}
	if w.watched != nil && os.SameFile(w.watched, info) {
		return
	}
	_ = w.events.remove(w.c.dir) // of a former directory; it may have ended by itself
	w.watched = nil
	if err := w.events.add(w.c.dir); err != nil {
		w.warn(unwatched, fmt.Errorf("%w; on Linux fs.inotify.max_user_watches may be too low", err))
		return
	}
	w.watched = info
	delete(w.warned, unwatched)
}

// warn logs a trouble once until it passes.
func (w *follower[P]) warn(what string, err error) {
	if !w.warned[what] {
		w.warned[what] = true
		w.c.log.Warn(what, "dir", w.c.cfg.Dir, "every", w.c.cfg.Poll, "err", err)
	}
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}
