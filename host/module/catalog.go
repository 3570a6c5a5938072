package module

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Program is a loaded module. Its methods are called from one goroutine at a time; what Description returns is shared
// with every holder of a [Kind] and is never changed.
type Program interface {
	Description() *abi.Description
	SHA256() string // hex, the module's version
	Size() int      // bytes
	Close() error   // called once; instances that still run are the program's own business
}

// Loader turns the bytes of a file into a program. It is called from several goroutines at once and heeds ctx, which
// ends when the catalog is closed. The bytes are the loader's to keep.
type Loader[P Program] interface {
	Load(ctx context.Context, wasm []byte) (P, error)
}

// Config is what a catalog needs. Dir and Loader are required, every other zero value stands for its default.
type Config[P Program] struct {
	Dir      string        // the actors directory; a relative one is relative to the directory at Start
	Loader   Loader[P]     //
	Watch    bool          // follow the directory after Start
	Log      *slog.Logger  // nil: nothing is logged
	OnChange func()        // called after each new view; returns soon, and never calls Start or Close. nil: nobody is told
	Debounce time.Duration // a changed file is looked at when it was quiet for so long. 0: 200 ms
	Poll     time.Duration // between looks at the directory where events cannot be relied on. 0: 1 s
	Parallel int           // loads at once. 0: one a CPU, at most 4, since each compiles and takes memory
}

// Kind is a kind of actor and the module that serves it. It is never changed; a new version is a new Kind.
type Kind[P Program] struct {
	Name    string
	File    string // path of the module, as Config.Dir has it
	Version string // SHA-256 of the module, hex
	Desc    *abi.KindDescription
	Program P
	Loaded  time.Time
}

// Catalog is the kinds of a directory. Use [New].
type Catalog[P Program] struct {
	cfg        Config[P]
	log        *slog.Logger
	openEvents func() (*fileEvents, error)
	openFile   func(path string) (*os.File, error)
	view       atomic.Pointer[view[P]]
	loads      *loads

	mu     sync.Mutex // guards cancel and closed
	cancel context.CancelFunc
	closed bool

	done     chan struct{} // closed when nothing of the catalog runs any more
	closing  sync.Once
	closeErr error

	// Owned by Start, then by the following goroutine, then, after done, by Close.
	dir   string // absolute
	files map[string]*file[P]
}

// view is what readers see: immutable once it is stored.
type view[P Program] struct {
	kinds  map[string]*Kind[P]
	sorted []*Kind[P]
	files  []FileStatus
}

// New returns a catalog that serves nothing until Start.
func New[P Program](cfg Config[P]) *Catalog[P] {
	if cfg.Debounce <= 0 {
		cfg.Debounce = 200 * time.Millisecond
	}
	if cfg.Poll <= 0 {
		cfg.Poll = time.Second
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = min(runtime.GOMAXPROCS(0), 4)
	}
	c := &Catalog[P]{
		cfg: cfg, log: cfg.Log, openEvents: openEvents, openFile: os.Open,
		done: make(chan struct{}), files: make(map[string]*file[P]),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.view.Store(&view[P]{})
	c.loads = newLoads(c.path)
	return c
}

// Start loads every module of the directory and then, with Config.Watch, follows it until Close. It returns when all
// files are loaded or have failed; a broken file is no error of Start (see [Catalog.Files]), a directory that is missing
// or unreadable is. ctx bounds this first load only. A catalog is started once.
func (c *Catalog[P]) Start(ctx context.Context) error {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.mu.Lock()
	switch {
	case c.closed:
		c.mu.Unlock()
		cancel()
		return errors.New("the module catalog is closed: make a new one")
	case c.cancel != nil:
		c.mu.Unlock()
		cancel()
		return errors.New("the module catalog was started before: make a new one")
	}
	c.cancel = cancel
	c.mu.Unlock()

	load, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(life, stop)() // Close ends the first load too

	w, err := c.first(load)
	if err != nil {
		cancel()
		close(c.done)
		_ = c.Close()
		return err
	}
	if w == nil {
		close(c.done)
		return nil
	}
	go func() {
		defer close(c.done)
		w.run(life)
	}()
	return nil
}

// first does the first load. The follower is nil where none is wanted.
func (c *Catalog[P]) first(ctx context.Context) (_ *follower[P], err error) {
	if c.cfg.Loader == nil {
		return nil, errors.New("the module catalog has no loader: set Config.Loader")
	}
	if c.dir, err = actorsDir(c.cfg.Dir); err != nil {
		return nil, err
	}
	var w *follower[P]
	if c.cfg.Watch { // from before the first look on, so that nothing falls between
		w = newFollower(c)
		defer func() {
			if err != nil {
				w.close()
			}
		}()
		w.watch()
	}
	names, err := modules(c.dir)
	if err != nil {
		return nil, fmt.Errorf("the actors directory %s cannot be read: %w: make it readable for this user", c.cfg.Dir, err)
	}
	now := time.Now()
	for _, name := range names {
		c.loads.hear(name, now)
	}
	c.loads.take(names)
	busy := c.update(ctx, names)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("loading the modules of %s: %w", c.cfg.Dir, err)
	}
	if len(names) == 0 {
		c.log.Info("the actors directory holds no .wasm file yet", "dir", c.cfg.Dir)
	}
	if w != nil {
		w.began(busy)
		return w, nil
	}
	c.loads.drop()
	if len(busy) > 0 {
		c.log.Warn("modules were written while they were read, and stay unloaded", "dir", c.cfg.Dir, "files", busy)
	}
	return w, nil
}

// actorsDir checks that dir is a directory and makes it absolute.
func actorsDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no actors directory is configured: name the one that holds the .wasm files")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("the actors directory %s: %w", dir, err)
	}
	fi, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the actors directory %s does not exist: create it, or name another one: %w", dir, fs.ErrNotExist)
	case err != nil:
		return "", fmt.Errorf("the actors directory %s: %w", dir, err)
	case !fi.IsDir():
		return "", fmt.Errorf("the actors directory %s is a file: name the directory that holds it", dir)
	}
	return abs, nil
}

// Kind finds the kind of that name. It reads one atomic pointer and one map.
func (c *Catalog[P]) Kind(name string) (*Kind[P], bool) {
	k, ok := c.view.Load().kinds[name]
	return k, ok
}

// Kinds returns every kind served, sorted by name. The slice is the caller's.
func (c *Catalog[P]) Kinds() []*Kind[P] { return slices.Clone(c.view.Load().sorted) }

// Files returns every module file of the directory, those on their way included, sorted by path. The slice is the caller's, its Kinds are
// not.
func (c *Catalog[P]) Files() []FileStatus {
	loading, _ := c.Loading() // before the view, which is there before the load is over
	files := slices.Clone(c.view.Load().files)
	for _, l := range loading {
		i, found := slices.BinarySearchFunc(files, l.Path, func(f FileStatus, path string) int { return strings.Compare(f.Path, path) })
		switch {
		case !found:
			files = slices.Insert(files, i, FileStatus{Path: l.Path, State: StateLoading, Loading: l.Since})
		case files[i].State == StateFailed: // for what was there before
			files[i] = FileStatus{Path: l.Path, State: StateLoading, Loading: l.Since}
		default:
			files[i].Loading = l.Since
		}
	}
	return files
}

// Loading returns the files that are on their way, sorted by path and not to be changed, and a channel that is closed when others are.
// A kind that is not found while there are any may be found once there are none; a file leaves the list after its kinds are in the view and
// OnChange has returned.
func (c *Catalog[P]) Loading() ([]Load, <-chan struct{}) {
	now := c.loads.now.Load()
	return now.files, now.changed
}

// serves reports whether something of the file serves. Any goroutine may ask.
func (c *Catalog[P]) serves(name string) bool {
	files := c.view.Load().files
	i, found := slices.BinarySearchFunc(files, c.path(name), func(f FileStatus, path string) int { return strings.Compare(f.Path, path) })
	return found && len(files[i].Kinds) > 0
}

// Close ends the following, waits for a load under way, empties the view and closes every program. The error joins
// theirs. It may be called at any time and again.
func (c *Catalog[P]) Close() error {
	c.mu.Lock()
	c.closed = true
	cancel := c.cancel
	c.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	<-c.done
	c.closing.Do(func() {
		c.view.Store(&view[P]{})
		c.loads.drop()
		var errs []error
		for _, name := range sortedKeys(c.files) {
			if s := c.files[name].serving; s != nil {
				errs = append(errs, closeProgram(s.program))
			}
		}
		clear(c.files)
		c.closeErr = errors.Join(errs...)
	})
	return c.closeErr
}

// publish makes the files' state the view if it differs from the one in place, then closes the programs that left it,
// then tells OnChange.
func (c *Catalog[P]) publish(left []P) {
	v := &view[P]{kinds: make(map[string]*Kind[P])}
	for _, name := range sortedKeys(c.files) {
		f := c.files[name]
		v.files = append(v.files, f.status(c.path(name)))
		if f.serving == nil {
			continue
		}
		for _, k := range f.serving.kinds {
			v.kinds[k.Name] = k
			v.sorted = append(v.sorted, k)
		}
	}
	slices.SortFunc(v.sorted, func(a, b *Kind[P]) int { return strings.Compare(a.Name, b.Name) })
	if slices.EqualFunc(v.files, c.view.Load().files, FileStatus.equal) {
		return // so nothing left it either
	}
	c.view.Store(v)
	c.release(left)
	if c.cfg.OnChange != nil {
		c.cfg.OnChange()
	}
}

// path is the file's name as people know it, abs the one that holds after a change of directory.
func (c *Catalog[P]) path(name string) string { return filepath.Join(c.cfg.Dir, name) }
func (c *Catalog[P]) abs(name string) string  { return filepath.Join(c.dir, name) }

// closeProgram closes p; a panic becomes an error, since a foreign program must not take the catalog down.
func closeProgram[P Program](p P) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("closing a module panicked: %v", r)
		}
	}()
	return p.Close()
}
