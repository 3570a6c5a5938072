//go:build !portable

package slot

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// grow is Slot.Grow to more than there is. Not done: it belongs into the heap.
func (m *maps) grow(s *Slot, size int) (ok, done bool) {
	if s.room != nil {
		return false, false
	}
	old, was := s.place, max(len(s.buf), m.stride)
	switch {
	case size <= len(s.place.own):
		if unix.Mprotect(s.place.own[len(s.buf):size], unix.PROT_READ|unix.PROT_WRITE) != nil {
			return false, true
		}
		s.buf = s.place.own[:size]
	default:
		if !m.machine.budget.take(ownMappings) {
			return false, false
		}
		own := m.mapOwn(size, int(s.limit))
		if own == nil {
			m.machine.budget.give(ownMappings)
			return false, true
		}
		move := func(off uint32, page []byte) bool {
			copy(own[off:], page)
			return true
		}
		if m.dirty(s, move) != nil {
			s.compare(0, len(s.buf)/Page, move)
		}
		s.place, s.buf = place{own: own}, own[:size]
		m.pool.mu.Lock()
		m.mappings += ownMappings
		m.pool.mu.Unlock()
		if old.mapped() {
			m.leave(old)
		}
	}
	m.pool.mu.Lock()
	m.pool.past += int64(size - was)
	m.pool.mu.Unlock()
	return true, true
}

// mapOwn maps the image, zeros up to size, and reserves addresses up to limit, or as many as there are.
func (m *maps) mapOwn(size, limit int) []byte {
	var own []byte
	for room := limit; ; room = max(size, room/2/wasmPage*wasmPage) {
		base, err := unix.MmapPtr(-1, 0, nil, uintptr(room), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err == nil {
			own = unsafe.Slice((*byte)(base), room)
			break
		}
		if room == size {
			return nil
		}
	}
	base := unsafe.Pointer(unsafe.SliceData(own))
	if m.stride > 0 {
		_, err := unix.MmapPtr(m.fd, 0, base, uintptr(m.stride), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
		if err != nil {
			unix.MunmapPtr(base, uintptr(len(own)))
			return nil
		}
	}
	unix.Madvise(own[:m.stride], unix.MADV_NOHUGEPAGE)
	unix.Madvise(own[m.stride:], unix.MADV_HUGEPAGE) // 2 MiB for a fault: what is grown counts as taken
	if unix.Mprotect(own[m.stride:size], unix.PROT_READ|unix.PROT_WRITE) != nil {
		unix.MunmapPtr(base, uintptr(len(own)))
		return nil
	}
	return own
}

func (m *maps) unmapOwn(own []byte) {
	if unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(own)), uintptr(len(own))) != nil {
		return
	}
	m.machine.budget.give(ownMappings)
	m.pool.mu.Lock()
	m.mappings -= ownMappings
	m.pool.mu.Unlock()
}
