package consensus

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/wasilo/wasilo/cluster/core"
)

// What is in a voter's directory, beside voter.json.
const (
	raftDir     = "raft" // of the node's data directory
	walDir      = "wal"
	snapshotDir = "snapshots" // raft's FileSnapshotStore makes it, below the directory it is given
	lockName    = "lock"

	segmentSize     = 8 << 20 // bytes of a file of the log, taken from the disk when it is made. Never raise it: see verifySegments
	retainSnapshots = 2
	cachedEntries   = 512
)

// logAndStable is what raft keeps in the log's directory: raft-wal does both. Tests put one in between that fails.
type logAndStable interface {
	raft.LogStore
	raft.StableStore
	raft.MonotonicLogStore
}

// disk is a voter's directory, open. It is raft's log store, stable store and snapshot store at once, and stands between raft and a disk
// that fails: the first write or read that the disk refuses is the last. raft panics at some of these errors, on goroutines that
// nobody else can recover; where it would, the goroutine ends here instead, as if the process had died, and only it.
type disk struct {
	dir  string // DIR/raft
	node core.NodeID
	log  *slog.Logger
	size int // of a segment, in bytes

	lock  *os.File
	wal   *wal.WAL
	meta  *metaStore   // raft-wal does not close it
	store logAndStable // the wal, or what a test put before it
	cache *raft.LogCache
	snaps *raft.FileSnapshotStore

	check      func(state []byte) error  // the machine's part of a snapshot; nil: it is not looked into
	configured atomic.Uint64             // index of the configuration in the newest snapshot
	raft       atomic.Pointer[raft.Raft] // once it runs on this disk

	writing sync.Mutex // held while entries are stored or deleted: raft deletes old ones on a goroutine of its own

	mu     sync.Mutex
	extent extent
	term   uint64        // as it is on disk
	first  bool          // the first entry is being written: raft takes an error for an answer
	fault  error         // the first
	down   chan struct{} // closed with the fault
}

var (
	_ logAndStable       = (*disk)(nil)
	_ raft.SnapshotStore = (*snapshots)(nil)
)

// Keys of ours in the stable store.
var (
	keyTerm   = []byte("CurrentTerm")    // raft's own
	keyClosed = []byte("wasilo.LastLog") // the last index when the voter was closed in good order; 0 while it is open
)

// seam is where a test gets between a voter and its disk.
type seam struct {
	wrap    func(logAndStable) logAndStable // nil for nothing
	segment int                             // bytes; 0 is segmentSize
	cache   int                             // entries that are remembered; 0 is cachedEntries
}

// openDisk opens dir, or makes it, and reads all that is in it: what cannot be read is found now, and not in the middle of an election.
func openDisk(dir, clusterName string, node core.NodeID, out *slog.Logger, seam seam) (*disk, RaftID, error) {
	d := &disk{dir: filepath.Join(dir, raftDir), node: node, log: out, size: seam.segment, meta: &metaStore{dir: filepath.Join(dir, raftDir, walDir)}, down: make(chan struct{})}
	if d.size == 0 {
		d.size = segmentSize
	}
	id, err := d.open(clusterName, seam)
	if err != nil {
		_ = d.close(false)
		return nil, RaftID{}, err
	}
	return d, id, nil
}

func (d *disk) open(clusterName string, seam seam) (RaftID, error) {
	if err := os.MkdirAll(filepath.Join(d.dir, walDir), 0o700); err != nil {
		return RaftID{}, d.diskError(d.dir, err)
	}
	if err := d.takeLock(); err != nil {
		return RaftID{}, err
	}
	id, known, err := readPassport(d.dir, passportFile, clusterName, d.node)
	if err != nil {
		return RaftID{}, err
	}
	meta := filepath.Join(d.dir, walDir, metadb.FileName)
	segments, _ := filepath.Glob(filepath.Join(d.dir, walDir, "*.wal")) // only a bad pattern is an error
	if _, err := os.Stat(meta); errors.Is(err, fs.ErrNotExist) && (known || len(segments) > 0) {
		return RaftID{}, d.damaged(meta, errors.New("it is missing, and the log cannot be read without it"))
	}
	if d.snaps, err = raft.NewFileSnapshotStoreWithLogger(d.dir, retainSnapshots, newLogger(d.log, "snapshots")); err != nil {
		return RaftID{}, d.diskError(filepath.Join(d.dir, snapshotDir), err)
	}
	if err := d.openLog(); err != nil {
		return RaftID{}, err
	}
	if err := d.verify(); err != nil {
		return RaftID{}, err
	}
	if !known {
		if fresh, err := d.unwritten(); err != nil || !fresh {
			return RaftID{}, errors.Join(err, d.damaged(filepath.Join(d.dir, passportFile), errors.New("it is missing, and the log is not empty")))
		}
		if id, err = newPassport(d.dir, passportFile, clusterName, d.node); err != nil {
			return RaftID{}, d.diskError(d.dir, err)
		}
	}
	if id, err = d.adopt(id, clusterName); err != nil {
		return RaftID{}, err
	}
	if d.store = (checked{d.wal}); seam.wrap != nil {
		d.store = seam.wrap(d.store)
	}
	if d.cache, err = raft.NewLogCache(cmp.Or(seam.cache, cachedEntries), watched{d.store, d}); err != nil {
		return RaftID{}, err
	}
	return id, nil
}

func (d *disk) takeLock() error {
	path := filepath.Join(d.dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return d.diskError(path, err)
	}
	d.lock = f
	switch free, err := lockFile(f); {
	case err != nil:
		return d.diskError(path, err)
	case !free:
		return refuse(ErrRefused, "%s is in use by another process: end that one, or name another data directory", d.dir)
	}
	return nil
}

// openLog opens the log. bbolt, where raft-wal keeps its state, panics at some files that are damaged, and faults at some that are short.
func (d *disk) openLog() (err error) {
	path := filepath.Join(d.dir, walDir)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = d.damaged(filepath.Join(path, metadb.FileName), fmt.Errorf("%v", p))
		}
	}()
	d.wal, err = wal.Open(path, wal.WithMetaStore(d.meta), wal.WithSegmentSize(d.size),
		wal.WithLogger(newLogger(d.log, walDir)))
	switch {
	case err == nil:
		return nil
	case isFull(err), errors.Is(err, fs.ErrPermission):
		return d.diskError(path, err)
	}
	return d.damaged(path, err)
}

// verify reads everything once.
func (d *disk) verify() error {
	path := filepath.Join(d.dir, walDir)
	if err := d.verifySegments(path); err != nil {
		return err
	}
	first, err := d.wal.FirstIndex()
	if err != nil {
		return d.damaged(path, err)
	}
	last, err := d.wal.LastIndex()
	if err != nil {
		return d.damaged(path, err)
	}
	log := checked{d.wal}
	d.extent.last = last
	var l raft.Log
	for i := first; i > 0 && i <= last; i++ {
		err := log.GetLog(i, &l)
		if err == nil {
			err = checkEntry(&l)
		}
		if err != nil {
			return d.damaged(path, fmt.Errorf("entry %d: %w", i, err))
		}
	}
	newest, err := d.verifySnapshots()
	switch {
	case err != nil:
		return err
	case newest == 0 && first > 1:
		return d.damaged(filepath.Join(d.dir, snapshotDir), fmt.Errorf("the log begins with entry %d, and there is no snapshot of what was before", first))
	case last > 0 && first > newest+1:
		return d.damaged(path, fmt.Errorf("the last snapshot ends with entry %d, and the log begins with entry %d", newest, first))
	}
	if last > 0 && last < newest {
		d.log.Info("the log ends before the newest snapshot, and goes on after that", "first", first, "last", last)
		if err := d.forget(first, last); err != nil {
			return err
		}
	}
	if _, err := log.Get([]byte("LastVoteCand")); err != nil {
		return d.damaged(path, err)
	}
	if _, err := log.GetUint64([]byte("LastVoteTerm")); err != nil {
		return d.damaged(path, err)
	}
	closed, err := log.GetUint64(keyClosed)
	if err != nil {
		return d.damaged(path, err)
	}
	if max(last, newest) < closed {
		return d.damaged(path, fmt.Errorf("it ends with entry %d, and the voter was closed after entry %d", max(last, newest), closed))
	}
	if d.term, err = log.GetUint64(keyTerm); err != nil {
		return d.damaged(path, err)
	}
	if closed != 0 { // from now on the log may also become shorter, for good reasons
		if err := log.SetUint64(keyClosed, 0); err != nil {
			return d.diskError(path, err)
		}
	}
	return nil
}

// forget empties a log that ends before the newest snapshot: the process ended between two steps, when it had the snapshot of another voter and not
// yet thrown away what that holds. raft goes on behind the snapshot, and such a log takes nothing that does not follow its last entry.
func (d *disk) forget(first, last uint64) error {
	if err := d.wal.DeleteRange(first, last); err != nil {
		return d.diskError(filepath.Join(d.dir, walDir), err)
	}
	d.extent.last = 0
	return nil
}

// verifySegments finds files that were cut short: they are made in their full size, and never become smaller. One that ends early and
// holds nothing may come from a crash in the moment it was made.
func (d *disk) verifySegments(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return d.damaged(dir, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil {
			return d.damaged(path, err)
		}
		if !strings.HasSuffix(e.Name(), ".wal") || info.Size() >= int64(d.size) {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return d.damaged(path, err)
		}
		if len(bytes.Trim(b, "\x00")) > 0 {
			return d.damaged(path, fmt.Errorf("it was cut to %d bytes", info.Size()))
		}
	}
	return nil
}

// verifySnapshots reads all snapshots and returns the index of the newest, 0 if there is none. raft would fall back to an older one,
// and then miss what the log does not hold any more.
func (d *disk) verifySnapshots() (newest uint64, err error) {
	dir := filepath.Join(d.dir, snapshotDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, d.damaged(dir, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.IsDir() {
			continue
		}
		if strings.HasSuffix(e.Name(), ".tmp") { // one that was not finished
			if err := os.RemoveAll(path); err != nil {
				return 0, d.diskError(path, err)
			}
			continue
		}
		meta, r, err := d.snaps.Open(e.Name())
		if err != nil {
			return 0, d.damaged(path, err)
		}
		b, err := io.ReadAll(r)
		_ = r.Close()
		if err == nil && int64(len(b)) != meta.Size {
			err = fmt.Errorf("it has %d bytes, and had %d", len(b), meta.Size)
		}
		if err == nil {
			_, _, err = readSnapshot(b)
		}
		if err != nil {
			return 0, d.damaged(path, err)
		}
		if meta.Index >= newest { // of two of one entry a recovery has written the second
			newest = meta.Index
			d.snapshotted(meta.Index, meta.Term)
			d.configured.Store(meta.ConfigurationIndex)
		}
	}
	return newest, nil
}

// unwritten reports whether nothing was ever written.
func (d *disk) unwritten() (bool, error) {
	log := checked{d.wal}
	has, err := raft.HasExistingState(log, log, d.snaps)
	return !has, err
}

// close closes what is open. orderly says that raft has ended, and wrote all that it wanted to.
func (d *disk) close(orderly bool) error {
	var errs []error
	if d.wal != nil {
		if last, err := d.wal.LastIndex(); orderly && err == nil && d.failure() == nil {
			errs = append(errs, d.store.SetUint64(keyClosed, last))
		}
		errs = append(errs, d.wal.Close())
	}
	errs = append(errs, d.meta.Close())
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

func (d *disk) damaged(path string, err error) error {
	return &DamagedError{Path: path, Dir: d.dir, Node: d.node, Err: err}
}

func (d *disk) diskError(path string, err error) error {
	return &DiskError{Path: path, Full: isFull(err), Err: err}
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// failure returns the first fault, or nil.
func (d *disk) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fault
}

// fail notes a fault: err is what the disk said of path.
func (d *disk) fail(path string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == nil {
		d.fault = d.diskError(path, err)
		close(d.down)
	}
}

// shield calls raft on a goroutine that a fault may end.
func (d *disk) shield(call func() error) error {
	err := errors.New("raft did not come to an end")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("raft: %v", p)
			}
		}()
		err = call()
	}()
	<-ended
	if fault := d.failure(); fault != nil {
		return fault
	}
	return err
}

// beginning says whether the first entry is being written.
func (d *disk) beginning(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.first = yes
}

// wrote passes on what came of a write to the log, after a fault always that fault.
func (d *disk) wrote(err error) error {
	if err != nil {
		d.fail(filepath.Join(d.dir, walDir), err)
	}
	return d.failure()
}

func (d *disk) IsMonotonic() bool           { return d.store.IsMonotonic() }
func (d *disk) FirstIndex() (uint64, error) { return d.cache.FirstIndex() }
func (d *disk) LastIndex() (uint64, error)  { return d.cache.LastIndex() }

// GetLog is where raft panics when it cannot read what was committed.
func (d *disk) GetLog(index uint64, l *raft.Log) error {
	err := d.cache.GetLog(index, l)
	if errors.Is(err, raft.ErrLogNotFound) && d.standIn(index, l) {
		return nil
	}
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, wal.ErrClosed) {
		return err
	}
	d.fail(filepath.Join(d.dir, walDir), fmt.Errorf("entry %d: %w", index, err))
	runtime.Goexit()
	return err
}

func (d *disk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *disk) StoreLogs(logs []*raft.Log) error {
	for _, l := range logs {
		if err := checkEntry(l); err != nil {
			return err // whoever sent it is to blame, not the disk
		}
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.follows(logs); err != nil {
		return err // the same
	}
	if err := d.failure(); err != nil {
		return err
	}
	if err := d.cache.StoreLogs(logs); err != nil {
		return errors.Join(d.failure(), err)
	}
	if n := len(logs); n > 0 {
		d.mu.Lock()
		d.extent.last = logs[n-1].Index
		d.mu.Unlock()
	}
	return nil
}

// follows says why entries do not continue the log, or the snapshot that it begins behind. raft-wal would refuse them, or begin anew.
func (d *disk) follows(logs []*raft.Log) error {
	last, err := d.cache.LastIndex()
	if err != nil {
		return d.wrote(err)
	}
	if last == 0 {
		d.mu.Lock()
		last = d.extent.index
		d.mu.Unlock()
	}
	for _, l := range logs {
		if l.Index != last+1 {
			return fmt.Errorf("entry %d does not follow entry %d", l.Index, last)
		}
		last = l.Index
	}
	return nil
}

func (d *disk) DeleteRange(lo, hi uint64) error {
	if err := d.failure(); err != nil {
		return err
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	d.awaitRotation()
	switch last, err := d.cache.LastIndex(); {
	case err != nil:
		return err
	case lo > last: // see standIn
		return nil
	}
	return d.cache.DeleteRange(lo, hi)
}

// awaitRotation waits until raft-wal 0.4.0 has begun its next segment, if it is about to, in the background: deleting does not wait for
// that, and what is begun after it begins in the wrong place. Storing does wait, before it refuses what is in the log already. d.writing is
// held, or the last entry might be deleted meanwhile, and what is to be refused would be stored.
func (d *disk) awaitRotation() {
	if last, err := d.wal.LastIndex(); err == nil && last > 0 {
		_ = d.wal.StoreLogs([]*raft.Log{{Index: last}})
	}
}

// watched lies under the cache, which hides what its store says.
type watched struct {
	logAndStable
	d *disk
}

func (w watched) StoreLogs(logs []*raft.Log) error { return w.d.wrote(w.logAndStable.StoreLogs(logs)) }
func (w watched) DeleteRange(lo, hi uint64) error {
	return w.d.wrote(w.logAndStable.DeleteRange(lo, hi))
}

func (d *disk) Get(key []byte) ([]byte, error)       { return d.store.Get(key) }
func (d *disk) GetUint64(key []byte) (uint64, error) { return d.store.GetUint64(key) }

func (d *disk) Set(key, value []byte) error {
	if err := d.failure(); err != nil {
		return err
	}
	return d.wrote(d.store.Set(key, value))
}

// SetUint64 is where raft panics when it cannot keep its term. It sets the term that is there already, too, when it starts.
func (d *disk) SetUint64(key []byte, v uint64) error {
	term := bytes.Equal(key, keyTerm)
	d.mu.Lock()
	same, fatal := term && d.term == v, term && !d.first
	d.mu.Unlock()
	if same {
		return nil
	}
	err := d.failure()
	if err == nil {
		err = d.wrote(d.store.SetUint64(key, v))
	}
	if err != nil {
		if fatal {
			runtime.Goexit()
		}
		return err
	}
	if term {
		d.mu.Lock()
		d.term = v
		d.mu.Unlock()
	}
	return nil
}

// snapshots is the disk as raft's snapshot store.
type snapshots struct{ d *disk }

func (s *snapshots) List() ([]*raft.SnapshotMeta, error) { return s.d.snaps.List() }

func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return s.d.snaps.Open(id)
}

func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, configurationIndex uint64,
	trans raft.Transport) (raft.SnapshotSink, error) {
	if err := s.d.failure(); err != nil {
		return nil, err
	}
	sink, err := s.d.snaps.Create(version, index, term, c, configurationIndex, trans)
	if err != nil {
		return nil, s.failed(err)
	}
	return &watchedSink{SnapshotSink: sink, s: s, index: index, term: term, configured: configurationIndex}, nil
}

func (s *snapshots) failed(err error) error {
	s.d.fail(filepath.Join(s.d.dir, snapshotDir), err)
	return err
}

// watchedSink is a snapshot being written.
type watchedSink struct {
	raft.SnapshotSink
	s                       *snapshots
	index, term, configured uint64
	bytes                   []byte // all that was written, until it was read
	read                    bool
}

func (w *watchedSink) Write(b []byte) (int, error) {
	w.bytes = append(w.bytes, b...)
	n, err := w.SnapshotSink.Write(b)
	if err != nil {
		err = w.s.failed(err)
	}
	return n, err
}

// Close puts the snapshot in its place, if it can be read: with one that cannot, this voter would not start any more. Whoever sent it is to blame.
func (w *watchedSink) Close() error {
	if !w.read { // raft closes a snapshot of its own once more
		err := w.s.d.checkSnapshot(w.index, w.bytes)
		if err != nil {
			_ = w.SnapshotSink.Cancel()
			return fmt.Errorf("the snapshot of entry %d cannot be read: %w", w.index, err)
		}
		w.read, w.bytes = true, nil
	}
	err := w.SnapshotSink.Close()
	if errors.Is(err, fs.ErrExist) { // the same one, in the same millisecond: its name is taken, and the disk is well
		return err
	}
	if err != nil {
		return w.s.failed(err)
	}
	w.s.d.snapshotted(w.index, w.term)
	w.s.d.configured.Store(w.configured)
	return nil
}

// checkSnapshot says what is wrong with the bytes of a snapshot that ends with an entry.
func (d *disk) checkSnapshot(index uint64, b []byte) error {
	held, state, err := readSnapshot(b)
	switch {
	case err != nil:
		return err
	case held > index:
		return fmt.Errorf("it holds entry %d", held)
	case d.check != nil:
		return d.check(state)
	}
	return nil
}
