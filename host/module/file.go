package module

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// MaxFileSize bounds a module, in bytes: a stock Go guest has 2 to 4 MB, and compiling takes memory in proportion.
const MaxFileSize = 64 << 20

// State says what a file does for the node.
type State string

// The states of a file.
const (
	StateLoaded State = "loaded"          // what is on disk serves
	StateFailed State = "failed"          // what is on disk was refused, and nothing of the file serves
	StateKept   State = "superseded-kept" // what is on disk was refused; the version before it still serves
	// StateLoading: what is on disk is on its way, and nothing of the file serves meanwhile.
	StateLoading State = "loading"
)

// FileStatus is one module file of the directory.
type FileStatus struct {
	Path   string    // as Config.Dir has it
	SHA256 string    // hex: of what serves; of what failed to load, if nothing does; "" if it could not be read
	Size   int64     // bytes, of the same
	Kinds  []string  // that it serves, sorted; not to be changed
	State  State     //
	Error  string    // why what is on disk does not serve, and what to do; "" when loaded
	Loaded time.Time // when what serves was loaded; zero: nothing does
	// Loading is since when what is on disk is on its way, zero if it is not. A file that serves goes on serving meanwhile.
	Loading time.Time
}

func (s FileStatus) equal(o FileStatus) bool {
	return s.Path == o.Path && s.SHA256 == o.SHA256 && s.Size == o.Size && s.State == o.State && s.Error == o.Error &&
		s.Loaded.Equal(o.Loaded) && slices.Equal(s.Kinds, o.Kinds)
}

// file is what the catalog knows of one file.
type file[P Program] struct {
	stamp   stamp       // of the last look
	sum     string      // SHA-256 of the contents of the last look, hex; "": not read, or to be tried again
	size    int64       // of the same
	serving *serving[P] // nil: nothing
	err     error       // why the contents do not serve; nil: they do
	wants   []string    // with a clash: the kinds the contents would serve
	logged  string      // the failure that was logged last
}

// serving is the version of a file that serves.
type serving[P Program] struct {
	program P
	sum     string
	size    int64
	kinds   []*Kind[P] // sorted by name
	loaded  time.Time
}

func (s *serving[P]) names() []string {
	if s == nil {
		return nil
	}
	names := make([]string, len(s.kinds))
	for i, k := range s.kinds {
		names[i] = k.Name
	}
	return names
}

func (f *file[P]) status(path string) FileStatus {
	st := FileStatus{Path: path, State: StateLoaded, SHA256: f.sum, Size: f.size}
	if s := f.serving; s != nil {
		st.SHA256, st.Size, st.Kinds, st.Loaded = s.sum, s.size, s.names(), s.loaded
	}
	if f.err != nil {
		st.State, st.Error = StateKept, f.err.Error()
		if f.serving == nil {
			st.State = StateFailed
		}
	}
	return st
}

// isModule reports whether a name in the directory is a module, by name alone.
func isModule(name string) bool {
	return strings.HasSuffix(name, ".wasm") && !strings.ContainsAny(name[:1], ".#~")
}

// modules lists the module names of dir, sorted.
func modules(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if isModule(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// stamp is what tells without reading that a file is probably as it was. The zero stamp is a file that cannot be seen.
type stamp struct {
	info fs.FileInfo
	at   time.Time // of the look
}

// racy is the age below which a modification time proves nothing: file systems round it, some to 2 s, so a file may be
// written again within the same instant.
const racy = 2 * time.Second

// stampOf looks at the file, through a symbolic link. With an error the stamp is that of a file that cannot be seen.
func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{at: time.Now()}, err
	}
	return stamp{info: info, at: time.Now()}, nil
}

// same reports whether the two are one file, as long, as old and with the same permissions.
func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime()) && s.info.Mode() == o.info.Mode() &&
		os.SameFile(s.info, o.info)
}

// settled reports whether the file was old enough at the look that another write since would show.
func (s stamp) settled() bool {
	return s.info == nil || s.at.Sub(s.info.ModTime()).Abs() > racy
}

// Why a file was not read. Everything else that fails is for the status as it stands.
var (
	errGone = errors.New("the file is gone")
	errBusy = errors.New("the file was written while it was read: it is loaded once the copy is complete")
)

// readModule reads the whole file, of at most [MaxFileSize] bytes, and stamps it. errBusy: it changed meanwhile. A file
// that should be readable and is not has the zero stamp, so that every look at the directory tries again: the cause, such
// as too many open files, may pass without a trace on the file.
func readModule(path string, open func(string) (*os.File, error)) ([]byte, stamp, error) {
	st, err := stampOf(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return nil, st, errors.New("the symbolic link leads nowhere: point it at a .wasm file, or remove it")
		}
		return nil, st, errGone
	}
	if err != nil {
		return nil, st, fmt.Errorf("the file cannot be read: %w", err)
	}
	if mode := st.info.Mode(); mode.IsDir() {
		return nil, st, errors.New("a directory, not a file: the actors directory is read flat, so move the modules up")
	} else if !mode.IsRegular() { // a pipe would block the read for ever
		return nil, st, fmt.Errorf("not a regular file (%s): put the module itself here", mode)
	}
	if n := st.info.Size(); n > MaxFileSize {
		return nil, st, fmt.Errorf("the file has %.1f MiB, more than the %d allowed: build it without debug information "+
			`(Go: -ldflags="-s -w")`, float64(n)/(1<<20), MaxFileSize>>20)
	}
	data, err := readStable(path, st.info, open)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, st, errGone
	case errors.Is(err, errBusy):
		return nil, st, err
	case err != nil:
		return nil, stamp{at: st.at}, fmt.Errorf("the file cannot be read: %w", err)
	}
	return data, st, nil
}

// readStable reads the file that info describes; errBusy if it is another, or is written while it is read.
func readStable(path string, info fs.FileInfo, open func(string) (*os.File, error)) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, 0, info.Size()+1) // one more, so that the end is seen without growing
	for len(data) < cap(data) {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	after, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != info.Size() || !(stamp{info: info}).same(stamp{info: after}) {
		return nil, errBusy
	}
	return data, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// short is the part of a hash that people compare.
func short(sum string) string { return sum[:min(len(sum), 12)] }
