package sleep

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

const (
	spillBatch  = 4 << 20     // that a Put which finds no room makes room for, besides its own
	readAhead   = 4 << 10     // first read of a record, which often has all of it
	warnEvery   = time.Minute //
	retryEvery  = time.Second // after a chunk could not be written
	fileGarbage = 4 << 20     // that the file may have before chunks are read back
	pullChunks  = 64          // read back by one Spill
	manyReads   = 16          // of one locate; further ones keep the lock, so that it ends
)

// spillState is the store's part that is about the file. Store.spilling guards what is not atomic.
type spillState struct {
	file        *spillFile // nil: never spills
	closed      bool
	failed      time.Time // when a chunk could not be written; zero: the last could
	failure     error
	warned      atomic.Int64 // unix nanoseconds
	spillErrors atomic.Uint64
}

// noMemory wraps the system's refusal.
func (s *Store) noMemory(err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	return &FullError{Bytes: s.bytes.Load(), Max: s.max, Err: err}
}

// warn logs at most once a minute: a full disk is found full again and again.
func (s *Store) warn(msg string, args ...any) {
	now, last := s.now().UnixNano(), s.warned.Load()
	if (last == 0 || now-last >= int64(warnEvery)) && s.warned.CompareAndSwap(last, now) {
		s.log.Warn(msg, args...)
	}
}

// room makes room for a record of n bytes, or refuses.
func (s *Store) room(n int) error {
	over := func() bool { return s.max > 0 && s.bytes.Load()+int64(n) > s.max }
	if !over() {
		return nil
	}
	full := &FullError{Max: s.max}
	if s.file != nil && int64(n) <= s.max {
		s.spilling.Lock()
		defer s.spilling.Unlock()
		if s.closed {
			return ErrClosed
		}
		if !over() { // another one made room
			return nil
		}
		// That there was room for a moment is enough, or others who take it meanwhile would be a reason to refuse. While there is
		// something to spill there may be.
		for did := (spilled{chunks: 1}); did.chunks > 0 && (s.failed.IsZero() || s.now().Sub(s.failed) >= retryEvery); {
			if did = s.spill(s.max - int64(n) - min(s.max/16, spillBatch)); did.least+int64(n) <= s.max {
				return nil
			}
		}
		full.Err = s.failure
	}
	full.Bytes = s.bytes.Load()
	return full
}

// Spill moves chunks to the file until memory ([Stats].Bytes) is at most target, those first that were not used for longest
// and the chunks that are being filled last, and returns how many bytes of memory that freed. What cannot be written stays in
// memory; a log line says so, at most once a minute. Without Dir it does nothing.
func (s *Store) Spill(target int64) (freed int64) {
	s.spilling.Lock()
	defer s.spilling.Unlock()
	if s.file == nil || s.closed {
		return 0
	}
	return s.spill(target).freed
}

// spilled is what came of a spill.
type spilled struct {
	freed  int64 // bytes of memory less than before
	least  int64 // the least that memory was meanwhile
	chunks int   // that were written
}

// victim is a chunk as it was when it was looked at.
type victim struct {
	part   *part
	p      int
	c      *chunk
	id     uint32
	gen    uint64
	used   uint64
	active bool
}

// victims lists the chunks that want says yes to. Calls hold s.spilling.
func (s *Store) victims(want func(a *arena, c *chunk) bool) (vs []victim) {
	s.each(func(p int, pt *part) {
		pt.mu.Lock()
		defer pt.mu.Unlock()
		if a := pt.arena; a != nil {
			for _, c := range a.chunks {
				if c != nil && c.count > 0 && want(a, c) {
					vs = append(vs, victim{pt, p, c, c.id, c.gen, c.used, c == a.active})
				}
			}
		}
	})
	return vs
}

// here reports whether the chunk is still there as it was. The caller holds the part's lock.
func (v *victim) here() bool {
	a := v.part.arena
	return a != nil && int(v.id) < len(a.chunks) && a.chunks[v.id] == v.c && v.c.gen == v.gen
}

func (s *Store) spill(target int64) spilled {
	before := s.bytes.Load()
	did := spilled{least: before}
	if before <= target {
		return did
	}
	s.pull()
	vs := s.victims(func(_ *arena, c *chunk) bool { return !c.spilled })
	slices.SortFunc(vs, func(a, b victim) int {
		if a.active != b.active {
			if a.active {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.p, b.p), cmp.Compare(a.id, b.id))
	})
	for i := range vs {
		now := s.bytes.Load()
		if did.least = min(did.least, now); now <= target {
			break
		}
		err := s.spillOne(&vs[i])
		if err != nil {
			s.failed, s.failure = s.now(), err
			s.spillErrors.Add(1)
			s.warn("sleeping actors stay in memory", "err", err, "bytes", s.bytes.Load())
			break
		}
		did.chunks++
		s.failed, s.failure = time.Time{}, nil
	}
	now := s.bytes.Load()
	did.freed, did.least = max(before-now, 0), min(did.least, now)
	return did
}

// spillOne writes a chunk to the file and frees its memory. Its records may be taken while it is written.
func (s *Store) spillOne(v *victim) error {
	pt, c := v.part, v.c
	pt.mu.Lock()
	if !v.here() || c.count == 0 {
		pt.mu.Unlock()
		return nil
	}
	if pt.arena.active == c {
		pt.arena.active = nil
	}
	c.writing = true
	data := c.mem[:c.fill]
	pt.mu.Unlock()

	ext, err := s.file.write(data)

	pt.mu.Lock()
	defer s.unlock(pt)
	c.writing = false
	switch {
	case c.dead || c.count == 0: // all of it went meanwhile
		if c.dead {
			pt.freed = append(pt.freed, c)
		} else {
			s.retire(pt, c)
		}
		if err == nil {
			pt.freed = append(pt.freed, &chunk{spilled: true, ext: ext})
		}
	case err != nil:
		s.compact(pt, c) // which was put off
	default:
		pt.freed = append(pt.freed, &chunk{block: c.block, bytes: c.bytes})
		c.block, c.mem, c.bytes = block{}, nil, 0
		c.spilled, c.ext, c.gen = true, ext, s.serial.Add(1)
	}
	return err
}

// pull reads chunks back into memory that are mostly garbage, when the file is: their records are spilled again with
// others of their partition, and the file does not grow beyond twice its records for long.
func (s *Store) pull() {
	if s.file.used.Load() >= fileGarbage {
		s.pullAll(pullChunks)
	}
}

// pullAll reads back up to most chunks.
func (s *Store) pullAll(most int) {
	vs := s.victims(func(_ *arena, c *chunk) bool { return c.spilled && !c.stuck && !c.solo && c.mostlyGarbage() })
	for i := range vs[:min(len(vs), most)] {
		v := &vs[i]
		pt := v.part
		data, err := s.file.read(v.c.ext, 0, v.c.fill) // only spilling changes them, which is ours
		pt.mu.Lock()
		if v.here() {
			if err != nil {
				v.c.stuck = true // its records say so when they are taken
			} else {
				s.evacuate(pt, v.c, data)
			}
		}
		s.unlock(pt)
	}
}

// diskRead is a record as it was read from the file.
type diskRead struct {
	ref
	rec []byte
	err error
}

func find(reads []diskRead, w, gen uint64) *diskRead {
	for i := range reads {
		if reads[i].ref == (ref{w, gen}) {
			return &reads[i]
		}
	}
	return nil
}

// readUnlocked reads a record, all of it or at least its header and key, with the part's lock given up meanwhile.
func (s *Store) readUnlocked(pt *part, w uint64, c *chunk, off int, whole, keep bool) diskRead {
	r := diskRead{ref: ref{w, c.gen}}
	ext, most := c.ext, c.fill-off
	if !keep {
		pt.mu.Unlock()
		defer pt.mu.Lock()
	}
	r.rec, r.err = s.file.read(ext, off, min(most, readAhead))
	if r.err != nil || !whole || most <= len(r.rec) {
		return r
	}
	h, _, err := parseHead(r.rec)
	if n := min(h.len(), most); err == nil && n > len(r.rec) {
		rest, err := s.file.read(ext, off+len(r.rec), n-len(r.rec))
		r.rec, r.err = append(r.rec, rest...), err
	}
	return r
}

// closeSpill ends and removes the file. The caller holds s.spilling.
func (s *Store) closeSpill() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.file == nil {
		return nil
	}
	return s.file.close()
}

// errShortFile is a file that ends before what was written to it.
var errShortFile = fmt.Errorf("the spill file is cut off: %w", io.ErrUnexpectedEOF)
