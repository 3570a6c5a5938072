package sleep

import "encoding/binary"

// A word of the index is 26 bits of the key's hash, 22 of a chunk's id and 16 of an offset in the chunk. Ids start at 1, so
// that no word is 0, which is a free slot.
const (
	offsetBits = 16
	idBits     = 22
	tagShift   = offsetBits + idBits
	tagBits    = 64 - tagShift

	maxChunks  = 1<<idBits - 1        // of an arena
	maxRecords = 1 << tagBits * 3 / 4 // of an arena: a home needs bits of the tag

	placeMask = 1<<tagShift - 1 // chunk and offset

	smallIndex = 512 // slots; below, an index is a Go slice of a power of two
	leastIndex = 8
)

func wordOf(hash uint64, id uint32, off int) uint64 {
	return hash>>tagShift<<tagShift | uint64(id)<<offsetBits | uint64(off)
}
func tagOf(w uint64) uint64 { return w >> tagShift }
func idOf(w uint64) uint32  { return uint32(w >> offsetBits & (1<<idBits - 1)) }
func offsetOf(w uint64) int { return int(w & (1<<offsetBits - 1)) }

// index is an open-addressed table with linear probing and deletion by shifting back, at most three quarters full. The home of
// a word is its tag scaled to the number of slots, so that any number will do and no key is read when it grows.
type index struct {
	mem   []byte
	block block // that mem is of; none for a Go slice
	slots int
	count int
}

func (t *index) at(i int) uint64     { return binary.LittleEndian.Uint64(t.mem[i*8:]) }
func (t *index) set(i int, w uint64) { binary.LittleEndian.PutUint64(t.mem[i*8:], w) }

func (t *index) home(hash uint64) int { return int(hash >> tagShift * uint64(t.slots) >> tagBits) }

func (t *index) next(i int) int {
	if i++; i < t.slots {
		return i
	}
	return 0
}

// insert adds a word, for which there is room.
func (t *index) insert(w uint64) {
	i := t.home(w)
	for t.at(i) != 0 {
		i = t.next(i)
	}
	t.set(i, w)
	t.count++
}

// find returns the slot of a word, or -1.
func (t *index) find(w uint64) int {
	for i := t.home(w); ; i = t.next(i) {
		switch t.at(i) {
		case w:
			return i
		case 0:
			return -1
		}
	}
}

// remove empties a slot and moves up what had to give way.
func (t *index) remove(i int) {
	t.count--
	for j := t.next(i); ; j = t.next(j) {
		w := t.at(j)
		if w == 0 {
			break
		}
		if t.distance(t.home(w), j) >= t.distance(i, j) {
			t.set(i, w)
			i = j
		}
	}
	t.set(i, 0)
}

// distance is how many steps of next lead from i to j.
func (t *index) distance(i, j int) int {
	if d := j - i; d >= 0 {
		return d
	}
	return j - i + t.slots
}

// slotsFor is the size of an index that is to hold n words and some more.
func slotsFor(n int) int {
	slots := leastIndex
	for slots < smallIndex && n > slots*3/4 {
		slots *= 2
	}
	if n > slots*3/4 { // about half full
		slots = (n*2 + smallIndex - 1) / smallIndex * smallIndex
	}
	return slots
}

// reserve makes room for n words in all, and shrinks an index that is all but empty.
func (s *Store) reserve(t *index, n int) error {
	if n <= t.slots*3/4 && (t.slots <= leastIndex*8 || n*8 > t.slots) {
		return nil
	}
	if n > maxRecords {
		return &FullError{Bytes: s.bytes.Load(), Max: s.max}
	}
	fresh := index{slots: slotsFor(n)}
	size := fresh.slots * 8
	if fresh.slots < smallIndex {
		fresh.mem = make([]byte, size)
	} else {
		var err error
		if fresh.block, err = s.pages.alloc(size); err != nil {
			return s.noMemory(err)
		}
		fresh.mem = fresh.block.mem[:size]
		clear(fresh.mem)
	}
	s.bytes.Add(int64(size))
	for i := range t.slots {
		if w := t.at(i); w != 0 {
			fresh.insert(w)
		}
	}
	s.dropIndex(t)
	*t = fresh
	return nil
}

func (s *Store) dropIndex(t *index) {
	s.bytes.Add(-int64(len(t.mem)))
	s.pages.free(t.block, len(t.mem))
	*t = index{}
}
