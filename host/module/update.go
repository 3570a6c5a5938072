package module

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// outcome is what a look at one file found.
type outcome[P Program] struct {
	name  string
	stamp stamp
	sum   string // of what was read, hex
	size  int64
	same  bool // contents that are known: they serve, or fail as before
	fresh *loaded[P]
	err   error // errGone, errBusy, or why the contents do not serve
}

// loaded is what the loader made of new contents.
type loaded[P Program] struct {
	program P
	desc    *abi.Description
	version string
	took    time.Duration
}

// kinds are the names it would serve, sorted.
func (l *loaded[P]) kinds() []string {
	names := make([]string, len(l.desc.Kinds))
	for i := range l.desc.Kinds {
		names[i] = l.desc.Kinds[i].Name
	}
	slices.Sort(names)
	return names
}

// update looks at the named files, loads what is new, and puts the new view in place. It returns the names that were
// being written meanwhile and are to be looked at again. If ctx ends, which only a catalog that ends sees, the view stays.
func (c *Catalog[P]) update(ctx context.Context, names []string) (busy []string) {
	if len(names) == 0 {
		return nil
	}
	defer func() { c.loads.end(busy) }()
	var left []P
	for len(names) > 0 {
		found := c.lookAll(ctx, names)
		if ctx.Err() != nil {
			for _, o := range found {
				c.discard(o)
			}
			c.release(left)
			return nil
		}
		for _, o := range found {
			if o.err == errBusy {
				busy = append(busy, o.name)
			}
		}
		left = append(left, c.apply(found)...)
		names = c.freed() // what a clash kept out and none does any more
	}
	c.publish(left)
	return busy
}

// lookAll looks at the files side by side. The order of the answer is that of the names.
func (c *Catalog[P]) lookAll(ctx context.Context, names []string) []outcome[P] {
	found := make([]outcome[P], len(names))
	slots := make(chan struct{}, c.cfg.Parallel)
	var wg sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		known := c.files[name] // read here: the map is not for the goroutines
		wg.Go(func() {
			defer func() { <-slots }()
			found[i] = c.look(ctx, name, known)
		})
	}
	wg.Wait()
	return found
}

// look reads one file and loads it if its contents are new. known is only read.
func (c *Catalog[P]) look(ctx context.Context, name string, known *file[P]) (o outcome[P]) {
	o.name = name
	if ctx.Err() != nil {
		o.err = ctx.Err()
		return o
	}
	data, st, err := readModule(c.abs(name), c.openFile)
	o.stamp, o.err, o.size = st, err, int64(len(data))
	if err != nil {
		return o
	}
	hash := sha256.Sum256(data)
	o.sum = hex.EncodeToString(hash[:])
	if known != nil {
		if s := known.serving; s != nil && s.sum == o.sum {
			o.same = true // also when a broken version came and went
			return o
		}
		// A file that failed is tried again when it is touched: the reason may have been the node's, not the file's.
		if known.sum == o.sum && known.stamp.same(st) {
			o.same, o.err = true, known.err
			return o
		}
	}
	c.loads.begin(name, time.Now())
	o.fresh, o.err = c.load(ctx, name, data)
	return o
}

// load calls the loader and asks the program what it is. A program that is not returned is closed.
func (c *Catalog[P]) load(ctx context.Context, name string, data []byte) (_ *loaded[P], err error) {
	defer c.tellWhile(name, len(data))()
	var made *loaded[P]
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("the loader panicked", "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("the loader panicked: %v: this is a defect of the node, please report it with the module", r)
		}
		if err != nil && made != nil {
			err = errors.Join(err, closeProgram(made.program))
		}
	}()
	began := time.Now()
	program, err := c.cfg.Loader.Load(ctx, data)
	if err != nil {
		return nil, err
	}
	made = &loaded[P]{program: program, took: time.Since(began)}
	made.desc, made.version = program.Description(), program.SHA256()
	if made.desc == nil || len(made.desc.Kinds) == 0 {
		return nil, errors.New("the module describes no kinds: it must define at least one")
	}
	return made, nil
}

// patience is how long the log says nothing of a load, which is mostly the compilation and takes a second for a stock Go module.
const patience = 5 * time.Second

// tellWhile says every now and then that a file is still being loaded, until what it returns is called.
func (c *Catalog[P]) tellWhile(name string, size int) (stop func()) {
	began, done := time.Now(), make(chan struct{})
	var teller sync.WaitGroup
	teller.Go(func() {
		t := time.NewTicker(patience)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				c.log.Info("module is still being loaded", "file", c.path(name), "bytes", size, "for", time.Since(began).Round(time.Second))
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		teller.Wait()
	}
}

// apply takes the outcomes into the files' state and returns the programs that serve no longer.
func (c *Catalog[P]) apply(found []outcome[P]) (left []P) {
	fresh := make(map[string]outcome[P])
	for _, o := range found {
		if o.err == errGone {
			left = append(left, c.remove(o.name)...)
			continue
		}
		f := c.files[o.name]
		if f == nil {
			f = &file[P]{}
			c.files[o.name] = f
		}
		f.stamp, f.sum, f.size = o.stamp, o.sum, o.size
		if !o.same || o.err == nil { // else a clash is still one
			f.wants = nil
		}
		if o.fresh != nil {
			fresh[o.name] = o
			continue
		}
		c.fail(o.name, f, o.err)
	}
	refused := c.settle(fresh)
	for _, name := range sortedKeys(fresh) {
		o, f := fresh[name], c.files[name]
		if clash := refused[name]; clash != nil {
			f.wants = o.fresh.kinds()
			c.fail(name, f, clash)
			c.discard(o)
			continue
		}
		if f.serving != nil {
			left = append(left, f.serving.program)
		}
		c.serve(name, f, o)
	}
	return left
}

// settle asks which of the fresh files are refused.
func (c *Catalog[P]) settle(fresh map[string]outcome[P]) map[string]*ClashError {
	claims := make([]claim, 0, len(c.files))
	for name, f := range c.files {
		cl := claim{file: name, serves: f.serving.names()}
		if o, ok := fresh[name]; ok {
			cl.wants = o.fresh.kinds()
		}
		claims = append(claims, cl)
	}
	return settle(claims)
}

// freed returns the files that a clash keeps out though none of their kinds is served by another file any more, and
// forgets their contents so that they are loaded again.
func (c *Catalog[P]) freed() (names []string) {
	owner := make(map[string]string)
	for name, f := range c.files {
		for _, kind := range f.serving.names() {
			owner[kind] = name
		}
	}
	for _, name := range sortedKeys(c.files) {
		f := c.files[name]
		blocked := func(kind string) bool { o, ok := owner[kind]; return ok && o != name }
		if f.wants != nil && !slices.ContainsFunc(f.wants, blocked) {
			f.sum, f.wants = "", nil
			names = append(names, name)
		}
	}
	return names
}

// serve makes the program what the file serves.
func (c *Catalog[P]) serve(name string, f *file[P], o outcome[P]) {
	l := o.fresh
	s := &serving[P]{program: l.program, sum: o.sum, size: o.size, loaded: time.Now()}
	for i := range l.desc.Kinds {
		d := &l.desc.Kinds[i]
		s.kinds = append(s.kinds, &Kind[P]{
			Name: d.Name, File: c.path(name), Version: l.version, Desc: d, Program: l.program, Loaded: s.loaded,
		})
	}
	slices.SortFunc(s.kinds, func(a, b *Kind[P]) int { return strings.Compare(a.Name, b.Name) })
	what := "module loaded"
	if f.serving != nil {
		what = "module replaced"
	}
	f.serving, f.err, f.logged = s, nil, ""
	c.log.Info(what, "file", c.path(name), "kinds", s.names(), "version", short(l.version),
		"took", l.took.Round(time.Millisecond))
}

// fail notes why the contents of the file do not serve; nil: they do after all. Each reason is logged once.
func (c *Catalog[P]) fail(name string, f *file[P], err error) {
	if err == nil {
		if f.err != nil {
			c.log.Info("module restored to the version that serves", "file", c.path(name))
		}
		f.err, f.logged = nil, ""
		return
	}
	f.err = err
	if err == errBusy || f.logged == err.Error() {
		return
	}
	f.logged = err.Error()
	if f.serving != nil {
		c.log.Warn("module not loaded, the version before it still serves", "file", c.path(name),
			"kinds", f.serving.names(), "err", err)
		return
	}
	c.log.Warn("module not loaded", "file", c.path(name), "err", err)
}

// remove forgets a file and returns its program, if it had one.
func (c *Catalog[P]) remove(name string) []P {
	f := c.files[name]
	if f == nil {
		return nil
	}
	delete(c.files, name)
	if f.serving == nil {
		return nil
	}
	c.log.Info("module removed", "file", c.path(name), "kinds", f.serving.names())
	return []P{f.serving.program}
}

// discard closes a program that never served.
func (c *Catalog[P]) discard(o outcome[P]) {
	if o.fresh == nil {
		return
	}
	if err := closeProgram(o.fresh.program); err != nil {
		c.log.Warn("a refused module did not close cleanly", "file", c.path(o.name), "err", err)
	}
}

// release closes programs that are served no longer.
func (c *Catalog[P]) release(left []P) {
	for _, p := range left {
		if err := closeProgram(p); err != nil {
			c.log.Warn("a module that is served no longer did not close cleanly", "err", err)
		}
	}
}
