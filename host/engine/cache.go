package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// diskCache keeps wazero's compiled code between runs. wazero trusts what it reads there: its checksum covers the native
// code alone, so a damaged table of offsets would jump anywhere. Hence every module has a directory of its own
//
//	<dir>/<sha256 of the prepared module>/sums            xxhash64, size and name of each file, written last
//	<dir>/<sha256 of the prepared module>/wazero-…/…      what wazero wrote
//
// which is filled under another name and renamed when complete, and verified before wazero sees it.
//
// The hash is that of what is compiled, which is what the forge made of a file. So code that was metered by other weights, or prepared for
// another limit of memory, is never found, and files that differ only in what the forge drops share an entry.
type diskCache struct {
	dir  string
	log  *slog.Logger
	warn sync.Once // for a directory that cannot be written: one warning is enough
}

const (
	sumsFile  = "sums"
	tmpPrefix = "tmp-"
	// keepUnused and keepTmp are how long entries that nothing uses stay.
	keepUnused = 30 * 24 * time.Hour
	keepTmp    = 24 * time.Hour
)

// openDiskCache makes the directory and drops what has not been used for long. Failures show when it is used.
func openDiskCache(dir string, log *slog.Logger) *diskCache {
	c := &diskCache{dir: dir, log: log}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.unusable(err)
		return c
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		c.unusable(err)
		return c
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			removeOlder(path, path, keepTmp)
		} else if len(e.Name()) == 64 {
			removeOlder(path, filepath.Join(path, sumsFile), keepUnused)
		}
	}
	return c
}

// removeOlder removes the entry at path if stamp was not touched for age.
func removeOlder(path, stamp string, age time.Duration) {
	if st, err := os.Stat(stamp); err == nil && time.Since(st.ModTime()) > age {
		os.RemoveAll(path)
	}
}

func (c *diskCache) unusable(err error) {
	c.warn.Do(func() {
		c.log.Warn("the cache of compiled modules cannot be used; every start will compile anew", "dir", c.dir, "err", err)
	})
}

// cacheEntry is a directory that wazero may read and write while it compiles one module.
type cacheEntry struct {
	c     *diskCache
	dir   string
	final string // where it belongs; equal to dir if it came from there
	names string // of the files that were verified
}

// entry returns the verified directory of a prepared module, or an empty one to be filled; nil means to do without.
func (c *diskCache) entry(sha string) *cacheEntry {
	final := filepath.Join(c.dir, sha)
	err := verifySums(final)
	if err == nil {
		now := time.Now()
		os.Chtimes(filepath.Join(final, sumsFile), now, now) // fails on a read-only cache, which is fine
		names, _ := fileNames(final)
		return &cacheEntry{c: c, dir: final, final: final, names: strings.Join(names, "\n")}
	}
	// Where there was nothing, another process may have put a whole one in the meantime.
	if !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("a cached compiled module is damaged; compiling anew", "dir", final, "err", err)
		if err := os.RemoveAll(final); err != nil {
			c.unusable(err)
			return nil
		}
	}
	tmp, err := os.MkdirTemp(c.dir, tmpPrefix)
	if err != nil {
		c.unusable(err)
		return nil
	}
	return &cacheEntry{c: c, dir: tmp, final: final}
}

// commit seals what wazero wrote and puts it in place. The runtime that was opened on the entry must not compile again.
func (e *cacheEntry) commit() {
	names, err := fileNames(e.dir)
	if err == nil && e.dir == e.final && strings.Join(names, "\n") == e.names {
		return // nothing was added, as ever but after an update of wazero or on another CPU
	}
	if err == nil {
		err = writeSums(e.dir)
	}
	if err == nil && e.dir != e.final {
		if err = os.Rename(e.dir, e.final); err != nil && verifySums(e.final) == nil {
			err = nil // another process was first
			os.RemoveAll(e.dir)
		}
	}
	if err != nil {
		e.discard()
		e.c.unusable(err)
	}
}

// discard removes the entry.
func (e *cacheEntry) discard() { os.RemoveAll(e.dir) }

// fileNames lists the files of an entry in order, with slashes.
func fileNames(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil && rel != sumsFile {
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	return names, err
}

// sums lists the files of an entry with hash and size.
func sums(dir string) ([]string, error) {
	lines, err := fileNames(dir)
	for i, name := range lines {
		if err != nil {
			return nil, err
		}
		lines[i], err = sum(dir, name)
	}
	return lines, err
}

func sum(dir, name string) (string, error) {
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := xxhash.New()
	n, err := io.Copy(h, f)
	return fmt.Sprintf("%016x %d %s", h.Sum64(), n, name), err
}

func writeSums(dir string) error {
	lines, err := sums(dir)
	if err != nil {
		return err
	}
	// Renamed into place: another process may be reading the entry.
	tmp := filepath.Join(filepath.Dir(dir), tmpPrefix+"sums-"+filepath.Base(dir))
	if err := os.WriteFile(tmp, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, sumsFile))
}

// verifySums compares an entry with what was written down of it; fs.ErrNotExist means that there is none.
func verifySums(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, sumsFile))
	if err != nil {
		return errors.New("it has no sums")
	}
	defer f.Close()
	var want []string
	for s := bufio.NewScanner(f); s.Scan(); {
		want = append(want, s.Text())
	}
	got, err := sums(dir)
	if err != nil {
		return errors.New("it cannot be read")
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		return errors.New("its files are not as they were written")
	}
	return nil
}

// codeFactor is how many bytes of machine code come of one that the forge prepared, where there is no cache to tell: a stock Go guest, 4.2 MB
// prepared, becomes 21 MB.
const codeFactor = 5

// dirBytes is the length of all files below dir: wazero keeps little beside the code, and maps it as a whole. It tells nobody how much
// that is. 0: they cannot be read.
func dirBytes(dir string) (sum int64) {
	names, err := fileNames(dir)
	if err != nil {
		return 0
	}
	for _, name := range names {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil {
			sum += st.Size()
		}
	}
	return sum
}
