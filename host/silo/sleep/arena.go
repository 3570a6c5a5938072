package sleep

import "math/bits"

const (
	chunkBytes = 64 << 10 // at most; offsets have 16 bits
	soloBytes  = 32 << 10 // a larger record has a chunk of its own
)

// arena is the sleepers of a partition. Its part's lock guards it.
type arena struct {
	index  index
	chunks []*chunk // by id; 0 is none
	ids    []uint32 // that are free
	active *chunk   // that records are appended to; the others are sealed
	due    []*chunk // sealed while they were mostly garbage
}

// chunk holds records one after the other, in memory or in the spill file. Offsets are the same in both.
type chunk struct {
	id    uint32
	gen   uint64 // never used twice; another when it moves to the file or is filled anew, so that id, gen and offset name one record
	block block
	mem   []byte // nil when spilled
	fill  int    // bytes written
	live  int    // of them records that are there
	count int    // records that are there
	bytes int    // resident
	used  uint64 // Store.serial when it was last written to or taken from

	solo    bool // one record of any size
	stuck   bool // a header is damaged: it cannot be walked
	taken   bool // its last record goes with the memory
	spilled bool // it is at ext
	writing bool // sealed, and being written to the file: the memory is not freed by others
	dead    bool // its arena was detached while it was written
	ext     extent
}

func (a *arena) chunkOf(w uint64) *chunk { return a.chunks[idOf(w)] }

// newChunk returns an empty chunk for n bytes that belongs to nobody yet.
func (s *Store) newChunk(n int) (*chunk, error) {
	b, err := s.pages.alloc(n)
	if err != nil {
		return nil, s.noMemory(err)
	}
	c := &chunk{gen: s.serial.Add(1), block: b, mem: b.mem, bytes: s.pages.resident(&b, 0)}
	c.used = c.gen
	s.bytes.Add(int64(c.bytes))
	return c, nil
}

// freeMemory gives back the memory of a chunk that nobody uses any more.
func (s *Store) freeMemory(c *chunk) {
	s.bytes.Add(-int64(c.bytes))
	s.pages.free(c.block, c.bytes)
}

// adopt files a chunk under an id.
func (a *arena) adopt(c *chunk) error {
	if n := len(a.ids); n > 0 {
		c.id, a.ids = a.ids[n-1], a.ids[:n-1]
		a.chunks[c.id] = c
		return nil
	}
	if len(a.chunks) > maxChunks {
		return &FullError{Err: errChunks}
	}
	if a.chunks == nil {
		a.chunks = make([]*chunk, 1, 2)
	}
	c.id = uint32(len(a.chunks))
	a.chunks = append(a.chunks, c)
	return nil
}

// retire forgets a chunk; what it takes is freed with the part's lock ([Store.unlock]).
func (s *Store) retire(pt *part, c *chunk) {
	a := pt.arena
	a.chunks[c.id] = nil
	a.ids = append(a.ids, c.id)
	if a.active == c {
		a.active = nil
	}
	if !c.taken {
		pt.freed = append(pt.freed, c)
	}
}

// unlock ends a critical section and then gives back what was retired in it.
func (s *Store) unlock(pt *part) {
	freed := pt.freed
	pt.freed = nil
	pt.mu.Unlock()
	for _, c := range freed {
		s.free(c)
	}
}

func (s *Store) free(c *chunk) {
	if c.spilled {
		s.file.free(c.ext)
		return
	}
	s.freeMemory(c)
}

// active returns the active chunk, with space for n bytes, n ≤ soloBytes.
func (s *Store) active(pt *part, n int) (*chunk, error) {
	a := pt.arena
	old := a.active
	if old != nil && old.fill+n <= len(old.mem) {
		return old, nil
	}
	// Half of what there is already, so that small partitions have small chunks.
	size := max(n, min(a.index.count*n/2, chunkBytes))
	c, err := s.newChunk(1 << bits.Len(uint(size-1)))
	if err != nil {
		return nil, err
	}
	c.mem = c.mem[:min(len(c.mem), chunkBytes)] // where pages are larger
	if err := a.adopt(c); err != nil {
		s.freeMemory(c)
		return nil, err
	}
	switch {
	case old == nil:
	case old.count == 0:
		s.retire(pt, old)
	case old.mostlyGarbage():
		a.due = append(a.due, old)
	}
	a.active = c
	return c, nil
}

// wrote counts a record of n bytes that was written at the end of a chunk.
func (s *Store) wrote(c *chunk, n int) {
	c.fill += n
	c.live += n
	c.count++
	c.used = s.serial.Load()
	if r := s.pages.resident(&c.block, c.fill); r > c.bytes {
		s.bytes.Add(int64(r - c.bytes))
		c.bytes = r
	}
}

// discard counts a record of a chunk out, which the index knows no more. A size of 0 is for one that is not known.
func (s *Store) discard(pt *part, c *chunk, size int) {
	c.count--
	c.live -= size
	switch {
	case c.writing: // whoever writes it sees to it
	case c.count > 0:
		s.compact(pt, c)
	case c == pt.arena.active:
		c.fill, c.live, c.stuck, c.gen = 0, 0, false, s.serial.Add(1)
	default:
		s.retire(pt, c)
	}
}

// unlink removes the record at slot i of the index.
func (s *Store) unlink(pt *part, i, size int) {
	a := pt.arena
	c := a.chunkOf(a.index.at(i))
	a.index.remove(i)
	s.discard(pt, c, size)
	s.settle(pt)
	if !s.tidy(pt) {
		_ = s.reserve(&a.index, a.index.count) // to shrink it; without memory it stays as it is
	}
}

// tidy drops an arena without records, and reports whether it did.
func (s *Store) tidy(pt *part) bool {
	a := pt.arena
	if a.index.count > 0 {
		return false
	}
	s.detach(a)
	for _, c := range a.chunks {
		if c != nil && !c.dead && !c.taken {
			pt.freed = append(pt.freed, c)
		}
	}
	s.dropIndex(&a.index)
	pt.arena = nil
	return true
}

func (c *chunk) mostlyGarbage() bool { return 2*c.live < c.fill }

// settle compacts a chunk that was put off: one for each operation.
func (s *Store) settle(pt *part) {
	a := pt.arena
	if n := len(a.due); n > 0 {
		c := a.due[n-1]
		a.due = a.due[:n-1]
		if a.chunks[c.id] == c {
			s.compact(pt, c)
		}
	}
}

// compact copies a chunk's records together elsewhere, when it is more than half garbage and it helps.
func (s *Store) compact(pt *part, c *chunk) {
	if c.stuck || c.writing || c.spilled || c.solo || c.count == 0 || !c.mostlyGarbage() {
		return
	}
	if c == pt.arena.active {
		if 2*c.fill <= len(c.mem) {
			return
		}
		pt.arena.active = nil
	}
	s.compactions.Add(1)
	s.evacuate(pt, c, c.mem[:c.fill])
}

// evacuate moves the records of a chunk, whose bytes are data, to the active chunk, and retires it. What cannot be moved
// for want of memory or because of damage stays where it is.
func (s *Store) evacuate(pt *part, c *chunk, data []byte) {
	a := pt.arena
	for off := 0; off < len(data); {
		h, key, err := parseHead(data[off:])
		n := h.len()
		if err != nil || n > len(data)-off {
			c.stuck = true
			return
		}
		hash := s.hash(key)
		if i := a.index.find(wordOf(hash, c.id, off)); i >= 0 {
			to, err := s.active(pt, n)
			if err != nil {
				return
			}
			at := to.fill
			copy(to.mem[at:], data[off:off+n])
			s.wrote(to, n)
			a.index.set(i, wordOf(hash, to.id, at))
			c.live -= n
			c.count--
		}
		off += n
	}
	if c.count > 0 { // of records whose headers say something else than when they were written
		c.stuck = true
		return
	}
	s.retire(pt, c)
}

// detach prepares an arena, which may be nil, for [Store.release], and returns how many records it has. It is called with
// the lock.
func (s *Store) detach(a *arena) int {
	if a == nil {
		return 0
	}
	for _, c := range a.chunks {
		if c != nil && c.writing {
			c.dead = true
		}
	}
	return a.index.count
}

// release frees a detached arena, without the lock.
func (s *Store) release(a *arena) {
	if a == nil {
		return
	}
	for _, c := range a.chunks {
		if c != nil && !c.dead {
			s.free(c)
		}
	}
	s.dropIndex(&a.index)
}
