//go:build !portable

package slot

import (
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is one mapping, of n slots.
type region struct {
	base  unsafe.Pointer
	n     int
	blank uint64 // a bit for each slot that has no page of its own
	busy  int    // slots in use or kept; what is neither busy nor blank is never used again
	pos   int    // in maps.open, if blank is not 0
}

// get finds a place for s, and says what of it is to be made ready. False: there is no mapping left for it.
func (m *maps) get(s *Slot) (ok bool, p *plan, err error) {
	if m.stride == 0 {
		return true, nil, nil
	}
	if n := len(m.kept); n > 0 {
		k := m.kept[n-1]
		m.kept = m.kept[:n-1]
		m.private -= k.pages
		s.place = k.place
	} else {
		if len(m.open) == 0 {
			if ok, err := m.mapRegion(); !ok || err != nil {
				return false, nil, err
			}
		}
		r := m.open[len(m.open)-1]
		s.place = place{region: r, index: bits.TrailingZeros64(r.blank)}
		r.blank &^= 1 << s.place.index
		r.busy++
		if r == m.spare {
			m.spare = nil
		}
		if r.blank == 0 {
			m.shut(r)
		}
		if m.watches() {
			p, s.watched = m.habits.next()
		}
	}
	s.buf = m.bytes(s.place)
	return true, p, nil
}

// mapRegion maps as many slots as are live, rounded down to a power of two, or as many as there are replicas.
func (m *maps) mapRegion() (bool, error) {
	if !m.machine.budget.take(1) {
		return false, nil
	}
	want := min(1<<(bits.Len(uint(max(m.pool.live, 1)))-1), m.max)
	for step := 0; m.written < want && (step == 0 || step+m.stride <= writeStep); step += m.stride {
		if m.write(m.pool.image) != nil {
			m.max = m.written // no memory for more: these do
			break
		}
	}
	n := min(want, m.written)
	base, err := unix.MmapPtr(m.fd, 0, nil, uintptr(n*m.stride), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		m.machine.budget.give(1)
		return false, fmt.Errorf("mapping %d slots of %d bytes: %w: %w", n, m.stride, err, ErrMemory)
	}
	unix.Madvise(unsafe.Slice((*byte)(base), n*m.stride), unix.MADV_NOHUGEPAGE) // fails where there are no huge pages
	m.mappings++
	r := &region{base: base, n: n, blank: 1<<n - 1}
	m.reopen(r)
	return true, nil
}

func (m *maps) reopen(r *region) {
	r.pos = len(m.open)
	m.open = append(m.open, r)
}

func (m *maps) shut(r *region) {
	last := m.open[len(m.open)-1]
	m.open[r.pos], last.pos = last, r.pos
	m.open[len(m.open)-1] = nil
	m.open = m.open[:len(m.open)-1]
}

// unmapRegion is for one that nobody uses.
func (m *maps) unmapRegion(r *region) {
	if r.blank != 0 {
		m.shut(r)
	}
	if r == m.spare {
		m.spare = nil
	}
	if unix.MunmapPtr(r.base, uintptr(r.n*m.stride)) == nil {
		m.machine.budget.give(1)
		m.mappings--
	}
	*r = region{}
}

// zap takes all pages of its own from a slot in a region: what is read next is the file. False: it cannot be used again.
func (m *maps) zap(p place) bool {
	b := m.bytes(p)
	if m.machine.zaps && unix.Madvise(b, unix.MADV_DONTNEED) == nil {
		return true
	}
	// Mapped anew at the same place, it becomes one with its neighbours again once it has their flags.
	at := unsafe.Pointer(unsafe.SliceData(b))
	_, err := unix.MmapPtr(m.fd, int64(p.index*m.stride), at, uintptr(m.stride), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	if err != nil {
		return false
	}
	unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	return true
}

// vacate takes a slot from a region that was zapped.
func (m *maps) vacate(p place, blank bool) {
	r := p.region
	r.busy--
	if blank {
		if r.blank == 0 {
			m.reopen(r)
		}
		r.blank |= 1 << p.index
	}
	if r.busy > 0 {
		return
	}
	if m.spare == nil && bits.OnesCount64(r.blank) == r.n {
		m.spare = r
		return
	}
	m.unmapRegion(r)
}
