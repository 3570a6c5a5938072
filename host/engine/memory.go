package engine

import "github.com/tetratelabs/wazero/experimental"

// memory is the linear memory of one instance, bounded for that instance alone: wazero's own bound is for all.
type memory struct {
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
	if size > uint64(cap(m.buf)) {
		room := min(m.limit, max(size, m.expect, uint64(cap(m.buf))+uint64(cap(m.buf))/4))
		grown := make([]byte, len(m.buf), room)
		copy(grown, m.buf)
		m.buf = grown
	}
	m.buf = m.buf[:size]
	return m.buf
}

// Free drops the memory.
func (m *memory) Free() { m.buf = nil }
