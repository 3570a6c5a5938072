package engine

import (
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasilo/wasilo/host/engine/slot"
)

// memory is the linear memory of one instance, bounded for that instance alone: wazero's own bound is for all. It lies in a
// slot of its template, or without one in the Go heap. The engine's ledger counts it, and may refuse growth.
type memory struct {
	slot   *slot.Slot
	buf    []byte
	limit  uint64
	expect uint64 // what the first allocation makes room for

	engine *Engine
	where  *atomic.Int64 // in the ledger
	base   int64         // counted there for pages within the image, or for what it was instantiated with
	grown  int64         // counted there beyond that
	free   bool          // growth is counted, and never refused for the node's sake
	making bool          // it is being instantiated: what it asks for is no growth

	refused refusal // of growth, since it was last cleared
}

// refusal is why growth was refused.
type refusal uint8

const (
	notRefused refusal = iota
	ownLimit           // the instance has its share, or the system has no more
	nodeLimit          // all of them together have theirs
)

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
		m.refused = ownLimit
		return nil
	}
	if m.slot != nil {
		b := m.slot.Bytes()
		if size <= uint64(len(b)) { // an image may be larger than what the module asks for: it grew while the template was built
			return b
		}
		more := int64(size) - int64(len(b))
		if !m.take(more) {
			return nil
		}
		if b = m.slot.Grow(size); b == nil {
			m.giveBack(more)
			m.refused = ownLimit
		}
		return b
	}
	if size > uint64(cap(m.buf)) {
		room := min(m.limit, max(size, m.expect, uint64(cap(m.buf))+uint64(cap(m.buf))/4))
		switch more := int64(room) - int64(cap(m.buf)); {
		case m.making: // whoever let the instance start counted on it
			m.rebase(more)
		case !m.take(more):
			return nil
		}
		grown := make([]byte, len(m.buf), room)
		copy(grown, m.buf)
		m.buf = grown
	}
	m.buf = m.buf[:size]
	return m.buf
}

// take counts n bytes of growth. Where there is no room for them the engine parts with what it keeps for instances to come.
func (m *memory) take(n int64) bool {
	l := &m.engine.ledger
	switch {
	case m.free:
		l.grown.Add(n)
		l.add(m.where, n)
	case l.grow(m.where, n, m.grown):
	case l.idle.Load() > 0 && m.engine.Trim() > 0 && l.grow(m.where, n, m.grown):
	default:
		l.refused.Add(1)
		m.refused = nodeLimit
		return false
	}
	m.grown += n
	return true
}

func (m *memory) giveBack(n int64) {
	m.engine.ledger.grown.Add(-n)
	m.where.Add(-n)
	m.grown -= n
}

// rebase counts what was there before growth anew.
func (m *memory) rebase(base int64) {
	m.engine.ledger.add(m.where, base-m.base)
	m.base = base
}

// forget counts nothing of it any more.
func (m *memory) forget() {
	m.rebase(0)
	m.giveBack(m.grown)
}

// private is what is counted.
func (m *memory) private() int64 { return m.base + m.grown }

// Free does nothing: whoever made the memory ends it.
func (m *memory) Free() {}
