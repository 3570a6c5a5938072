package engine

import (
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasilo/wasilo/host/engine/slot"
)

// memory is the linear memory of one instance, bounded for that instance alone: wazero's own bound is for all. It lies in a
// slot of its template, or without one in the Go heap.
type memory struct {
	slot    *slot.Slot
	buf     []byte
	limit   uint64
	expect  uint64 // what the first allocation makes room for
	refused bool   // since it was last cleared, growth was refused
}

var _ interface {
	experimental.MemoryAllocator
	experimental.LinearMemory
} = (*memory)(nil)

// Allocate returns m itself: an instance has one memory.
func (m *memory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate returns the memory at its new size, or nil when that is too much: memory.grow is then answered -1. Memory
// never shrinks, so what lies behind its end is still zero.
func (m *memory) Reallocate(size uint64) []byte {
	if size > m.limit {
		m.refused = true
		return nil
	}
	if m.slot != nil {
		b := m.slot.Bytes()
		if size > uint64(len(b)) { // an image may be larger than what the module asks for: it grew while the template was built
			if b = m.slot.Grow(size); b == nil {
				m.refused = true
			}
		}
		return b
	}
	if size > uint64(cap(m.buf)) {
		room := min(m.limit, max(size, m.expect, uint64(cap(m.buf))+uint64(cap(m.buf))/4))
		grown := make([]byte, len(m.buf), room)
		copy(grown, m.buf)
		m.buf = grown
	}
	m.buf = m.buf[:size]
	return m.buf
}

// Free does nothing: whoever made the memory ends it.
func (m *memory) Free() {}
