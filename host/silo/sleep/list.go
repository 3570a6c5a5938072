package sleep

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Info describes one sleeper.
type Info struct {
	Identity abi.Identity
	Epoch    abi.Epoch
	Uses     uint8
	Slept    time.Time
	Size     int // bytes of state
}

// Stats are figures of a whole store, each partition's of a moment of its own.
type Stats struct {
	Sleepers     int    // in memory and in the file
	Staged       int    // likewise, that came from elsewhere and are not this store's own yet; see [Stage]
	Bytes        int64  // of memory that sleepers take: pages of chunks that were written to, and indexes
	LiveBytes    int64  // of records in memory, the rest of Bytes being indexes, garbage and room to fill
	Spilled      int    // of Sleepers and Staged, those in the file
	SpilledBytes int64  // of the file that their chunks take
	Compactions  uint64 // chunks that were copied together
	Damaged      uint64 // sleepers that were lost
	SpillErrors  uint64 // chunks that could not be written
}

// Bytes is [Stats].Bytes. It takes some nanoseconds.
func (s *Store) Bytes() int64 { return s.bytes.Load() }

// Stats looks at every chunk: some hundred microseconds for a million sleepers.
func (s *Store) Stats() Stats {
	st := Stats{Bytes: s.bytes.Load(), Compactions: s.compactions.Load(), Damaged: s.damaged.Load(), SpillErrors: s.spillErrors.Load()}
	s.each(func(_ int, pt *part) {
		pt.mu.Lock()
		defer pt.mu.Unlock()
		if a := pt.arena; a != nil {
			if pt.once {
				st.Staged += a.index.count
			} else {
				st.Sleepers += a.index.count
			}
			for _, c := range a.chunks {
				switch {
				case c == nil:
				case c.spilled:
					st.Spilled += c.count
					st.SpilledBytes += c.ext.bytes()
				default:
					st.LiveBytes += int64(c.live)
				}
			}
		}
	})
	return st
}

// List returns up to limit sleepers whose key is greater than after, in order of key, of one kind or of all (""), and
// whether there are more. It looks at every sleeper and reads all that was spilled: a listing is for people, not for
// programs that poll. What is damaged is left out.
func (s *Store) List(kind, after string, limit int) (page []Info, more bool) {
	limit = max(limit, 0)
	type row struct {
		key  string
		info Info
	}
	var rows []row
	order := func(a, b row) int { return strings.Compare(a.key, b.key) }
	for p := range s.parts {
		_ = s.walk(&s.parts[p], func(_ ref, h *head, key []byte) { // what cannot be read is left out
			if kind != "" && string(key[:h.kind]) != kind || string(key) <= after {
				return
			}
			if id, err := h.identity(key); err == nil {
				rows = append(rows, row{string(key), h.info(id)})
			}
			if len(rows) >= 4*(limit+1) { // keep what may make the page
				slices.SortFunc(rows, order)
				clear(rows[limit+1:])
				rows = rows[:limit+1]
			}
		})
	}
	slices.SortFunc(rows, order)
	if len(rows) > limit {
		rows, more = rows[:limit], true
	}
	for _, r := range rows {
		page = append(page, r.info)
	}
	return page, more
}

// Partition returns all sleepers of a partition, in order of their place, which is the one to read them in. What is damaged so that it
// cannot be told whose it is, is left out. It panics unless p is below [Partitions].
func (s *Store) Partition(p uint16) []Info { return s.inOrder(&s.parts[p]) }

func (s *Store) inOrder(pt *part) []Info {
	type row struct {
		place uint64
		info  Info
	}
	var rows []row
	_ = s.walk(pt, func(r ref, h *head, key []byte) { // likewise
		if id, err := h.identity(key); err == nil {
			rows = append(rows, row{r.word & placeMask, h.info(id)})
		}
	})
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.place, b.place) })
	infos := make([]Info, len(rows))
	for i := range rows {
		infos[i] = rows[i].info
	}
	return infos
}

// DropKind forgets the sleepers of a kind for which which says so, or all of it with nil, and returns how many. It looks
// at what sleeps when it comes to a partition, and calls which without a lock.
func (s *Store) DropKind(kind string, which func(Info) bool) (dropped int) {
	kinds := map[string]func(Info) bool{kind: which}
	for p := range uint16(Partitions) {
		n, _ := s.DropKinds(p, kinds) // what cannot be read stays
		dropped += n
	}
	return dropped
}

// DropKinds is DropKind for one partition, and for several kinds at once, each with a which of its own. An error is that of the spill file:
// there may be sleepers that were not looked at. It panics unless p is below [Partitions].
func (s *Store) DropKinds(p uint16, kinds map[string]func(Info) bool) (dropped int, err error) {
	type candidate struct {
		ref
		size int
		info Info
	}
	var found []candidate
	pt := &s.parts[p]
	err = s.walk(pt, func(r ref, h *head, key []byte) {
		if _, ok := kinds[string(key[:h.kind])]; !ok {
			return
		}
		if id, err := h.identity(key); err == nil {
			found = append(found, candidate{r, h.len(), h.info(id)})
		}
	})
	found = slices.DeleteFunc(found, func(c candidate) bool {
		which := kinds[c.info.Identity.Kind()]
		return which != nil && !which(c.info)
	})
	for _, c := range found {
		pt.mu.Lock()
		// By its place, or where it moved since, by what it is.
		if i := pt.lookup(c.ref); i >= 0 {
			s.unlink(pt, i, c.size)
			dropped++
		} else if s.dropMoved(pt, c.info) {
			dropped++
		}
		s.unlock(pt)
	}
	return dropped, err
}

// dropMoved removes a sleeper if it is still the one that info describes.
func (s *Store) dropMoved(pt *part, info Info) bool {
	var kb keyBuf
	key := kb.of(info.Identity)
	f := s.locate(pt, s.hash(key), key, false)
	if !f.found || f.head.info(info.Identity) != info {
		return false
	}
	s.unlink(pt, f.at, f.head.len())
	return true
}

func (h *head) info(id abi.Identity) Info {
	return Info{Identity: id, Epoch: h.epoch, Uses: h.uses, Slept: timeOf(h.slept), Size: int(h.state)}
}

// ref is a record's place. The record is there as long as the index has the word and the word's chunk the gen.
type ref struct {
	word uint64
	gen  uint64
}

// lookup is the slot of a ref, or -1 when the record has gone or moved.
func (pt *part) lookup(r ref) int {
	a := pt.arena
	if a == nil {
		return -1
	}
	if c := int(idOf(r.word)); c >= len(a.chunks) || a.chunks[c] == nil || a.chunks[c].gen != r.gen {
		return -1
	}
	return a.index.find(r.word)
}

// walk calls fn for every record of a part whose header is intact, under the part's lock: what is in memory at
// one moment, then what is in the file. Nothing moves between the two meanwhile. An error is the first of the file's; what can be read
// is walked all the same.
func (s *Store) walk(pt *part, fn func(r ref, h *head, key []byte)) (failed error) {
	s.spilling.Lock()
	defer s.spilling.Unlock()

	type spilled struct {
		ref
		c    *chunk
		ext  extent
		fill int
	}
	var onDisk []spilled
	pt.mu.Lock()
	if a := pt.arena; a != nil {
		for i := range a.index.slots {
			w := a.index.at(i)
			if w == 0 {
				continue
			}
			c := a.chunkOf(w)
			if c.spilled {
				onDisk = append(onDisk, spilled{ref{w, c.gen}, c, c.ext, c.fill})
			} else if h, key, err := parseHead(c.mem[offsetOf(w):c.fill]); err == nil {
				fn(ref{w, c.gen}, &h, key)
			}
		}
	}
	pt.mu.Unlock()

	slices.SortFunc(onDisk, func(a, b spilled) int { return cmp.Compare(a.word&placeMask, b.word&placeMask) })
	var buf []byte
	var held *chunk // whose bytes, or first bytes, buf has
	for _, d := range onDisk {
		if d.c != held {
			held = d.c
			var err error
			if buf, err = s.file.read(d.ext, 0, min(d.fill, chunkBytes)); err != nil {
				buf, failed = nil, cmp.Or(failed, err)
				s.warn("sleeping actors are missing from a listing", "err", err)
			}
		}
		off := min(offsetOf(d.word), len(buf))
		h, key, err := parseHead(buf[off:])
		if err != nil {
			continue
		}
		pt.mu.Lock()
		if pt.lookup(d.ref) >= 0 {
			fn(d.ref, &h, key)
		}
		pt.mu.Unlock()
	}
	return failed
}
