// Package sleep is where hibernated actors lie: what is left of an actor, an opaque string of bytes, by its identity. A
// node keeps a million of them, so one costs its bytes, a header of 36 and about 13 bytes of index, and the garbage
// collector has nothing to look at: no Go object, string or map entry is kept for a sleeper.
//
// # Where the bytes are
//
// Each of the 1024 partitions has an arena, made with its first sleeper. Records are appended to the arena's chunks of
// 4 to 64 KiB; a record of over 32 KiB has a chunk of its own. The index is an open-addressed table of words that hold 26
// bits of the key's hash, a chunk and an offset: a candidate's full key is compared. A record that is taken leaves
// garbage, and a chunk that is over half garbage is copied together at once: at most two chunks for each Put or
// Take, so the records of an arena take at most twice their size and one chunk more.
//
// On Linux chunks and larger indexes are cut from 32 MiB mappings outside the Go heap, so that the collector's pace does
// not follow them; pages that are not written to are not resident, and those of a freed chunk go back to the system.
// Elsewhere they are pointer-free slices.
//
// # Under memory pressure
//
// With a directory, cold chunks move to a file and their sleepers are read back one by one; the index stays in memory.
// The file is neither durable nor trusted: every record has checksums, which are verified when it is taken, and its
// identity is compared like that of one in memory. A chunk that cannot be written stays in memory.
//
// # Promises
//
// All methods may be called from any goroutine. An operation locks its partition; no lock is shared by all, except that a
// new chunk (and with it a record of over 32 KiB) takes the allocator's for some hundred nanoseconds. The disk is read without the
// partition's lock. What was put comes back with exactly its bytes or as a [*DamagedError], which says whose state is
// lost; nothing comes back for another identity.
package sleep

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Partitions is how many partitions there are: those of the cluster's core, fixed for a cluster's life.
const Partitions = 1024

// Config is what a store needs; every zero value stands for what its field says.
type Config struct {
	// Dir is where state is spilled under memory pressure; it is made if need be (0700). "": nothing is ever spilled.
	// Files are removed by [Store.Close], and those of dead processes by [New]; several stores may share a directory.
	Dir string
	// MaxBytes bounds [Stats].Bytes. Beyond it [Store.Put] spills cold chunks first, or without Dir refuses with
	// [ErrFull]. Each concurrent Put may overstep it by a chunk or the growth of an index, [Store.PutBack] by more. 0: no bound.
	MaxBytes int64
	// Log hears of failing disks and damage. nil: nobody does.
	Log *slog.Logger
}

// Sleeper is what is kept of one actor.
type Sleeper struct {
	Identity abi.Identity
	Epoch    abi.Epoch // of the lease it ended with
	Uses     uint8     // how often it was used lately, as the policy knows it
	Slept    time.Time // kept to the second, from 1970 to 2106; the zero time is kept as such
	State    []byte    // opaque, at most [MaxState]
}

// Store holds sleepers. Use [New].
type Store struct {
	max    int64
	log    *slog.Logger
	pages  *pager
	seed   maphash.Seed
	mask   uint64 // of hashes; tests clear bits to make them collide
	now    func() time.Time
	bytes  atomic.Int64  // resident: touched pages of chunks, and indexes
	serial atomic.Uint64 // the last chunk's; orders chunks by age
	parts  [Partitions]part

	staging sync.Mutex
	stages  []*Stage // guarded by staging
	ended   bool     // guarded by staging: what is staged from now on is closed from its beginning

	compactions atomic.Uint64
	damaged     atomic.Uint64

	spilling sync.Mutex // one spills or lists; taken before a partition's lock, never after
	spillState
}

// part is one partition, or what is staged of some. The lock guards the arena and all in it.
type part struct {
	mu     sync.Mutex
	arena  *arena   // nil: no sleepers
	freed  []*chunk // to be given back when the lock is
	closed bool
	once   bool // never changed: a second record of an identity is refused
}

// each calls f for every part there is: the partitions, then what is staged.
func (s *Store) each(f func(p int, pt *part)) {
	for p := range s.parts {
		f(p, &s.parts[p])
	}
	s.staging.Lock()
	stages := slices.Clone(s.stages)
	s.staging.Unlock()
	for i, g := range stages {
		f(Partitions+i, &g.part)
	}
}

// New returns an empty store. With a directory it makes the spill file and removes files that dead processes left; its
// error is about that.
func New(cfg Config) (*Store, error) {
	s := newStore(cfg, systemMemory())
	if cfg.Dir != "" {
		f, err := openSpill(cfg.Dir)
		if err != nil {
			return nil, fmt.Errorf("a file for sleeping actors: %w", err)
		}
		s.file = f
	}
	return s, nil
}

func newStore(cfg Config, sys *sysMem) *Store {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{max: cfg.MaxBytes, log: cfg.Log, pages: newPager(sys), seed: maphash.MakeSeed(), mask: ^uint64(0), now: time.Now}
}

// keyBuf has room for any key, so that looking one up allocates nothing.
type keyBuf [maxKey]byte

func (b *keyBuf) of(id abi.Identity) []byte {
	return append(append(append(b[:0], id.Kind()...), '/'), id.ID()...)
}

func (s *Store) hash(key []byte) uint64 { return maphash.Bytes(s.seed, key) & s.mask }

// Put keeps a sleeper, whose state is copied, in place of an earlier one of its identity. It panics unless p is below
// [Partitions]. Errors: [ErrFull] (a [*FullError]), [ErrTooLarge], [ErrInvalid], [ErrClosed], and [ErrNewer] if there is one of a
// later epoch; what was there before then stays.
func (s *Store) Put(p uint16, z *Sleeper) error { return s.put(&s.parts[p], z, s.room) }

// PutBack is Put for what was taken, or for less in its place: it makes room as Put does, but where there is none it oversteps the bound
// rather than refuse. Put refuses as long as it is overstepped. So all records that there are take at most the bound and what was out when
// the last Put was let in, and their garbage at most as much again, as ever.
func (s *Store) PutBack(p uint16, z *Sleeper) error {
	return s.put(&s.parts[p], z, func(n int) error {
		_ = s.room(n)
		return nil
	})
}

// put is Put into any part; room makes room for a record of so many bytes, or refuses.
func (s *Store) put(pt *part, z *Sleeper, room func(n int) error) error {
	if z.Identity.IsZero() {
		return ErrInvalid
	}
	if len(z.State) > MaxState {
		return fmt.Errorf("%s sleeps with %d bytes: %w", z.Identity, len(z.State), ErrTooLarge)
	}
	var kb keyBuf
	key := kb.of(z.Identity)
	h := newHead(z, key)
	n := h.len()
	if err := room(n); err != nil {
		return err
	}
	var solo *chunk
	if n > soloBytes { // copied before the lock is taken
		var err error
		if solo, err = s.newChunk(n); err != nil {
			return err
		}
		solo.solo = true
		h.put(solo.mem, key, z.State)
		s.wrote(solo, n)
	}
	hash := s.hash(key)

	pt.mu.Lock()
	defer s.unlock(pt)
	err := s.putLocked(pt, hash, &h, key, z.State, solo)
	if err != nil && solo != nil {
		s.freeMemory(solo)
	}
	return err
}

func (s *Store) putLocked(pt *part, hash uint64, h *head, key, state []byte, solo *chunk) error {
	f := s.locate(pt, hash, key, false)
	switch {
	case pt.closed:
		return ErrClosed
	case f.found && h.epoch.Less(f.head.epoch):
		return ErrNewer
	case f.found && pt.once:
		return ErrTwice
	}
	if pt.arena == nil {
		pt.arena = new(arena)
	}
	a := pt.arena
	if !f.found && f.damage != nil { // it cannot be told from ours, and ours is newer
		s.lost(f.damage, key)
		s.unlink(pt, f.at, 0)
		if pt.arena == nil {
			pt.arena = new(arena)
			a = pt.arena
		}
	}
	if !f.found {
		if err := s.reserve(&a.index, a.index.count+1); err != nil {
			s.tidy(pt)
			return err
		}
	}
	c, off := solo, 0
	var err error
	if c == nil {
		if c, err = s.active(pt, h.len()); err == nil {
			off = c.fill
			h.put(c.mem[off:], key, state)
			s.wrote(c, h.len())
		}
	} else {
		err = a.adopt(c)
	}
	if err != nil {
		s.tidy(pt)
		return err
	}
	word := wordOf(hash, c.id, off)
	if f.found {
		old, size := a.chunkOf(a.index.at(f.at)), f.head.len()
		a.index.set(f.at, word)
		s.discard(pt, old, size)
	} else {
		a.index.insert(word)
	}
	s.settle(pt)
	return nil
}

// Take removes a sleeper and returns it; its state is the caller's. With ok false and no error there was none. A
// [*DamagedError] says that there was one and that its state is lost; it is removed all the same. One of a later epoch than last stays
// where it is, and the error is [ErrNewer]. Otherwise the error is [ErrClosed]. It panics unless p is below [Partitions].
func (s *Store) Take(p uint16, id abi.Identity, last abi.Epoch) (z Sleeper, ok bool, err error) {
	return s.take(&s.parts[p], p, id, last)
}

func (s *Store) take(pt *part, p uint16, id abi.Identity, last abi.Epoch) (z Sleeper, ok bool, err error) {
	var kb keyBuf
	key := kb.of(id)
	hash := s.hash(key)

	pt.mu.Lock()
	f := s.locate(pt, hash, key, true)
	switch {
	case pt.closed:
		pt.mu.Unlock()
		return Sleeper{}, false, ErrClosed
	case !f.found && f.damage == nil:
		pt.mu.Unlock()
		return Sleeper{}, false, nil
	case !f.found:
		where := place(f.chunk)
		s.unlink(pt, f.at, 0)
		s.unlock(pt)
		s.damaged.Add(1)
		return Sleeper{}, false, &DamagedError{Identity: id, Partition: p, Where: where, Err: f.damage}
	case last.Less(f.head.epoch):
		pt.mu.Unlock()
		return Sleeper{}, false, ErrNewer
	}
	c, where := f.chunk, place(f.chunk)
	switch {
	case c.spilled: // f.rec is a copy
		s.unlink(pt, f.at, f.head.len())
		s.unlock(pt)
		z, err = f.head.sleeper(id, f.rec, false)
	case c.solo && !c.writing: // the chunk is ours now, and what may be 64 MiB is copied without the lock
		c.taken = true
		s.unlink(pt, f.at, f.head.len())
		s.unlock(pt)
		z, err = f.head.sleeper(id, f.rec, true)
		s.freeMemory(c)
	default:
		c.used = s.serial.Load()
		z, err = f.head.sleeper(id, f.rec, true)
		s.unlink(pt, f.at, f.head.len())
		s.unlock(pt)
	}
	if err != nil {
		s.damaged.Add(1)
		return Sleeper{}, false, &DamagedError{Identity: id, Partition: p, Where: where, Err: err}
	}
	return z, true, nil
}

// Get is Take that leaves the sleeper where it is; one that is damaged too.
func (s *Store) Get(p uint16, id abi.Identity) (z Sleeper, ok bool, err error) {
	pt := &s.parts[p]
	var kb keyBuf
	key := kb.of(id)
	hash := s.hash(key)
	pt.mu.Lock()
	defer pt.mu.Unlock()
	f := s.locate(pt, hash, key, true)
	switch {
	case pt.closed:
		return Sleeper{}, false, ErrClosed
	case f.found:
		if z, err = f.head.sleeper(id, f.rec, true); err == nil {
			return z, true, nil
		}
	case f.damage == nil:
		return Sleeper{}, false, nil
	default:
		err = f.damage
	}
	return Sleeper{}, false, &DamagedError{Identity: id, Partition: p, Where: place(f.chunk), Err: err}
}

// Has reports whether there is something to take, which may turn out to be damaged. It panics unless p is below
// [Partitions].
func (s *Store) Has(p uint16, id abi.Identity) bool {
	pt := &s.parts[p]
	var kb keyBuf
	key := kb.of(id)
	hash := s.hash(key)
	pt.mu.Lock()
	defer pt.mu.Unlock()
	f := s.locate(pt, hash, key, false)
	return f.found || f.damage != nil
}

// Drop forgets all sleepers of a partition and returns how many there were. It panics unless p is below [Partitions].
func (s *Store) Drop(p uint16) int { return s.drop(&s.parts[p]) }

func (s *Store) drop(pt *part) int {
	pt.mu.Lock()
	a := pt.arena
	pt.arena = nil
	n := s.detach(a)
	pt.mu.Unlock()
	s.release(a)
	return n
}

// Close forgets all sleepers, returns the memory and removes the spill file; its error is about the file. Operations that
// run meanwhile end as if before it or with [ErrClosed], and later ones find nothing. Further calls do nothing.
func (s *Store) Close() error {
	s.spilling.Lock()
	defer s.spilling.Unlock()
	s.staging.Lock()
	s.ended = true
	s.staging.Unlock()
	var arenas []*arena
	s.each(func(_ int, pt *part) {
		pt.mu.Lock()
		defer pt.mu.Unlock()
		if a := pt.arena; a != nil {
			arenas = append(arenas, a)
			s.detach(a)
		}
		pt.arena, pt.closed = nil, true
	})
	err := s.closeSpill() // after all that reads it can tell why that failed
	for _, a := range arenas {
		s.release(a)
	}
	s.pages.close()
	return err
}

// found is what locate found.
type found struct {
	found  bool
	at     int    // in the index
	chunk  *chunk // that holds it
	head   head
	rec    []byte // the record, which in memory is valid under the lock; without whole perhaps only its head and key
	damage error  // not found: a record at at that may well be the one looked for is unreadable
}

// locate finds a key. The partition's lock is held, and given up while the disk is read: after it, what was known of
// the partition before counts no more.
func (s *Store) locate(pt *part, hash uint64, key []byte, whole bool) (f found) {
	var reads []diskRead
scan:
	if pt.arena == nil {
		return found{}
	}
	a := pt.arena
	f = found{}
	for i := a.index.home(hash); ; i = a.index.next(i) {
		w := a.index.at(i)
		if w == 0 {
			return f
		}
		if tagOf(w) != hash>>tagShift {
			continue
		}
		c, off := a.chunkOf(w), offsetOf(w)
		var rec []byte
		var err error
		if c.spilled {
			r := find(reads, w, c.gen)
			if r == nil {
				// The read holds if the word still stands for this chunk afterwards: a chunk's gen is never
				// used again, and changes whenever the chunk moves.
				reads = append(reads, s.readUnlocked(pt, w, c, off, whole, len(reads) >= manyReads))
				goto scan
			}
			rec, err = r.rec, r.err
		} else {
			rec = c.mem[off:c.fill]
		}
		var h head
		var k []byte
		if err == nil {
			h, k, err = parseHead(rec)
		}
		if err == nil && h.len() > c.fill-off {
			err = errShort
		}
		if err != nil {
			if f.damage == nil {
				f.at, f.chunk, f.damage = i, c, err
			}
			continue
		}
		if string(k) == string(key) {
			return found{found: true, at: i, chunk: c, head: h, rec: rec}
		}
	}
}

// lost says that a record was given up that nobody asked for.
func (s *Store) lost(err error, key []byte) {
	s.damaged.Add(1)
	s.log.Warn("a damaged sleeper was replaced", "actor", string(key), "err", err)
}

func place(c *chunk) string {
	if c.spilled {
		return "the spill file"
	}
	return "memory"
}
