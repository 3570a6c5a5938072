package sleep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	unitBytes  = 4 << 10
	spaceBytes = 256 << 20 // of the file, which has holes: a record of MaxState fits
	prefix     = "sleepers-"
	suffix     = ".spill"
)

// disk is what a spill file needs of a file.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Punch(off, n int64) error // gives the space back; what it cannot do does not matter
	Close() error             // and removes it
}

// spillFile is space in a file, in runs of units. Its methods may be called from any goroutine, except that a run is freed once, by
// whom it belongs to.
type spillFile struct {
	disk disk
	used atomic.Int64 // bytes of extents

	mu     sync.Mutex
	spaces []*buddy
}

// extent is a place in the file.
type extent struct {
	space int
	unit  int
	order int
	units int
}

func (e extent) offset() int64 { return int64(e.space)*spaceBytes + int64(e.unit)*unitBytes }
func (e extent) bytes() int64  { return int64(e.units) * unitBytes }

func (f *spillFile) write(data []byte) (extent, error) {
	e := f.reserve((len(data) + unitBytes - 1) / unitBytes)
	if n, err := f.disk.WriteAt(data, e.offset()); err != nil || n < len(data) {
		f.free(e)
		if err == nil {
			err = io.ErrShortWrite
		}
		return extent{}, fmt.Errorf("writing %d bytes of the spill file: %w", len(data), err)
	}
	return e, nil
}

func (f *spillFile) reserve(units int) extent {
	e := extent{order: orderOf(units), units: units}
	f.used.Add(e.bytes())
	f.mu.Lock()
	defer f.mu.Unlock()
	for e.space = range f.spaces {
		if f.spaces[e.space].fits(e.order) {
			e.unit = f.spaces[e.space].alloc(e.order)
			return e
		}
	}
	f.spaces = append(f.spaces, newBuddy(orderOf(spaceBytes/unitBytes)))
	e.space = len(f.spaces) - 1
	e.unit = f.spaces[e.space].alloc(e.order)
	return e
}

// free gives an extent back, to the file system too where that can be told.
func (f *spillFile) free(e extent) {
	_ = f.disk.Punch(e.offset(), e.bytes()) // otherwise the space is used again, or goes with the last extent
	f.used.Add(-e.bytes())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spaces[e.space].free(e.unit, e.order)
	n := len(f.spaces)
	for n > 0 && f.spaces[n-1].empty() {
		n--
	}
	if n < len(f.spaces) {
		clear(f.spaces[n:])
		f.spaces = f.spaces[:n]
		_ = f.disk.Truncate(int64(n) * spaceBytes)
	}
}

// read returns n bytes at off of an extent, or what there is of them with an error.
func (f *spillFile) read(e extent, off, n int) ([]byte, error) {
	buf := make([]byte, n)
	got, err := f.disk.ReadAt(buf, e.offset()+int64(off))
	switch {
	case got == n:
		return buf, nil
	case err == nil || errors.Is(err, io.EOF):
		err = errShortFile
	default:
		err = fmt.Errorf("reading the spill file: %w", err)
	}
	return buf[:got], err
}

func (f *spillFile) close() error { return f.disk.Close() }

// osFile is a disk in a directory.
type osFile struct{ *os.File }

func (f osFile) Close() error {
	return errors.Join(removeLocked(f.File), f.File.Close())
}

// openSpill removes what dead processes left in dir, and makes a file that is locked for as long as this one lives.
func openSpill(dir string) (*spillFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := removeLeftovers(dir); err != nil {
		return nil, err
	}
	for range 100 {
		f, err := os.CreateTemp(dir, prefix+"*"+suffix) // 0600
		if err != nil {
			return nil, err
		}
		// Another process may take it for a leftover before it is locked. Then it holds the lock, or has removed it.
		if ok, err := lockFile(f); err != nil {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), os.Remove(f.Name()), f.Close())
		} else if ok && named(f) {
			return &spillFile{disk: osFile{f}}, nil
		}
		_ = f.Close() // it is the other's to remove
	}
	return nil, fmt.Errorf("%s: others remove every file that is made", dir)
}

// named reports whether f's name still stands for it.
func named(f *os.File) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(a, b)
}

func removeLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDWR, 0)
		if err != nil {
			continue // removed meanwhile, or not ours to open
		}
		if ok, err := lockFile(f); ok && err == nil && named(f) {
			_ = removeLocked(f) // fails where others may not; it is tried again by the next process
		}
		_ = f.Close()
	}
	return nil
}
