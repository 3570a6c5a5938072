package slot

import "fmt"

// Slot is one linear memory. It is used by one goroutine at a time.
type Slot struct {
	pool    *Pool  // nil: given back
	buf     []byte // the memory now
	limit   uint64
	refused bool
	watched bool // the pool is to learn from it what users touch first
	own     int  // pages of its own that the last Dirty met, whether they differ or not; -1: not known

	// Where buf lies: in the heap, with room for growth, or at the place in a mapping.
	room  []byte
	place place
}

// Bytes is the whole memory: its length is the size, and so is its capacity. Growing it may move it. It is nil when the
// slot was given back.
func (s *Slot) Bytes() []byte { return s.buf[:len(s.buf):len(s.buf)] }

// Refused reports whether a Grow was refused since it was last cleared.
func (s *Slot) Refused() bool { return s.refused }

// ClearRefused forgets that a Grow was refused.
func (s *Slot) ClearRefused() { s.refused = false }

// Grow makes the memory size bytes, a whole number of 64 KiB pages, and returns it, or nil when that is over the limit
// or there is no memory for it; then the memory is as it was. What is added is zero. The memory may move, and slices of
// it that were taken before must not be used any more. A size that it has already changes nothing.
func (s *Slot) Grow(size uint64) []byte {
	if s.pool == nil {
		return nil
	}
	if size <= uint64(len(s.buf)) {
		return s.Bytes()
	}
	if size > s.limit || size%wasmPage != 0 || !s.grow(int(size)) {
		s.refused = true
		return nil
	}
	return s.Bytes()
}

func (s *Slot) grow(size int) bool {
	p, first := s.pool, len(s.buf) == len(s.pool.image)
	ok, done := false, false
	if p.maps != nil {
		ok, done = p.maps.grow(s, size)
	}
	if !done {
		ok = s.growInHeap(size)
	}
	if ok && first {
		p.mu.Lock()
		p.grown++
		p.mu.Unlock()
	}
	return ok
}

// growInHeap uses the room that is there, or takes a quarter more than there was.
func (s *Slot) growInHeap(size int) bool {
	if size > len(s.room) {
		room := min(s.limit, uint64(max(size, len(s.room)+len(s.room)/4)))
		grown := make([]byte, room)
		copy(grown, s.buf)
		s.pool.mu.Lock()
		s.pool.heap += int64(len(grown) - len(s.room))
		s.pool.mu.Unlock()
		old := s.place
		s.room, s.place = grown, place{}
		if old.mapped() {
			s.pool.maps.leave(old)
		}
	}
	s.buf = s.room[:size]
	return true
}

// Dirty calls yield for each page of [Page] bytes that differs from the image, or beyond the image is not all zero, in
// ascending order, until yield returns false. offset is where the page starts. yield may read the page and must not keep
// it; it must not use the slot.
//
// An error means that some may be missing, and what was yielded must be forgotten.
func (s *Slot) Dirty(yield func(offset uint32, page []byte) bool) error {
	if s.pool == nil {
		return fmt.Errorf("slot: %w", ErrReleased)
	}
	s.own = 0
	if s.pool.maps != nil && s.place.mapped() {
		return s.pool.maps.dirty(s, yield)
	}
	s.compare(0, len(s.buf)/Page, yield)
	return nil
}

// compare is Dirty of the pages from first to end, by looking at them.
func (s *Slot) compare(first, end int, yield func(offset uint32, page []byte) bool) bool {
	for i := first; i < end; i++ {
		page := s.buf[i*Page : (i+1)*Page : (i+1)*Page]
		if !s.pool.same(i, page) && !yield(uint32(i*Page), page) {
			return false
		}
	}
	return true
}

// DirtyBytes is the private memory of this slot, for budgets: never less than it has. Of a copy in the heap it is the
// whole, with its room for growth. Of a mapped slot it is what the kernel counts now, which takes a system call: 1.2 µs,
// and up to 15 µs when the guest has read 2 MiB of its image. It changes only while the guest runs: ask after a turn, or
// when it becomes idle, rather than each second.
func (s *Slot) DirtyBytes() int64 {
	if s.pool == nil {
		return 0
	}
	if s.pool.maps != nil && s.place.mapped() {
		return s.pool.maps.dirtyBytes(s)
	}
	return int64(len(s.room))
}

// Watched reports whether the pool is to learn from this slot what its users touch first, to have such pages ready in the next ones. It
// looks when it is asked for [Slot.Dirty] or [Slot.DirtyBytes], or at the end of the slot; whoever asks early, after a first turn, makes
// it learn what all users do, and not what few do later.
func (s *Slot) Watched() bool { return s.watched }

// Release gives the slot back, to be kept as the image for a later Get if it did not grow and has few dirty pages. Doing
// so again does nothing.
func (s *Slot) Release() { s.giveBack(true) }

// Discard gives the slot back without looking at it: none of its pages will be used again. Doing so after it was given
// back does nothing.
func (s *Slot) Discard() { s.giveBack(false) }

func (s *Slot) giveBack(keep bool) {
	p := s.pool
	if p == nil {
		return
	}
	grown := len(s.buf) > len(p.image)
	if s.place.mapped() {
		p.maps.giveBack(s, keep && !grown)
	} else {
		s.dropCopy(keep && !grown)
	}
	p.mu.Lock()
	if p.maps != nil {
		p.maps.unwatch(s)
	}
	p.live--
	if grown {
		p.grown--
	}
	p.mu.Unlock()
	*s = Slot{refused: s.refused}
}

// dropCopy gives a copy in the heap back. It is kept only where such copies are the rule.
func (s *Slot) dropCopy(keep bool) {
	p := s.pool
	keep = keep && p.maps == nil && len(s.buf) > 0
	if keep {
		p.mu.Lock()
		keep = len(p.copies) < p.opt.KeepSlots
		p.mu.Unlock()
	}
	if keep {
		s.compare(0, len(s.buf)/Page, func(offset uint32, page []byte) bool {
			p.restore(int(offset/Page), page)
			return true
		})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if keep && len(p.copies) < p.opt.KeepSlots {
		p.copies = append(p.copies, s.room)
		return
	}
	p.heap -= int64(len(s.room))
}
