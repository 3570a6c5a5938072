package sleep

import (
	"os"
	"sync"
)

const (
	pageBytes = 4 << 10  // at least
	slabBytes = 32 << 20 // of address space
)

// sysMem is memory outside the Go heap.
type sysMem struct {
	mmap    func(n int) ([]byte, error)
	munmap  func([]byte) error
	release func([]byte) error // gives the pages back, keeps the addresses
}

// pager hands out blocks of memory: runs of pages from slabs of which only what is written to becomes resident, or with sys nil
// slices of the Go heap. A block of more than half a slab is a mapping of its own.
type pager struct {
	sys  *sysMem
	page int

	mu     sync.Mutex
	slabs  []*slab
	closed bool
	maps   int // mappings that exist
}

type slab struct {
	mem  []byte
	runs *buddy
}

// block is memory that its holder alone uses until it frees it.
type block struct {
	mem   []byte // nil: none
	slab  *slab  // nil: a mapping of its own, or a Go slice
	unit  int
	order int
}

func newPager(sys *sysMem) *pager {
	return &pager{sys: sys, page: max(pageBytes, os.Getpagesize())}
}

// round is n bytes in whole pages.
func (g *pager) round(n int) int { return (n + g.page - 1) &^ (g.page - 1) }

// resident is how much of a block is in memory when its first n bytes were written.
func (g *pager) resident(b *block, n int) int {
	if g.sys == nil {
		return len(b.mem)
	}
	return g.round(n)
}

// alloc returns at least n bytes, n > 0, with whatever was there before. The error is the system's, or [ErrClosed].
func (g *pager) alloc(n int) (block, error) {
	n = g.round(n)
	if g.sys == nil {
		return block{mem: make([]byte, n)}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return block{}, ErrClosed
	}
	if n > slabBytes/2 {
		mem, err := g.sys.mmap(n)
		if err != nil {
			return block{}, err
		}
		g.maps++
		return block{mem: mem}, nil
	}
	order := orderOf(n / g.page)
	var from *slab
	for _, sl := range g.slabs {
		if sl.runs.fits(order) {
			from = sl
			break
		}
	}
	if from == nil {
		mem, err := g.sys.mmap(slabBytes)
		if err != nil {
			return block{}, err
		}
		g.maps++
		from = &slab{mem, newBuddy(orderOf(slabBytes / g.page))}
		g.slabs = append(g.slabs, from)
	}
	unit := from.runs.alloc(order)
	start := unit * g.page
	return block{mem: from.mem[start : start+n : start+n], slab: from, unit: unit, order: order}, nil
}

// free takes a block back whose first touched bytes may be resident. It is called once for each block.
func (g *pager) free(b block, touched int) {
	if g.sys == nil || b.mem == nil {
		return
	}
	if b.slab == nil {
		_ = g.sys.munmap(b.mem) // fails for a mapping that is none: a programmer's error
		g.mu.Lock()
		g.maps--
		g.mu.Unlock()
		return
	}
	if touched > 0 {
		_ = g.sys.release(b.mem[:g.round(touched)]) // of locked memory, which stays resident until it is used again
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b.slab.runs.free(b.unit, b.order)
	if b.slab.runs.empty() {
		g.trim()
	}
}

// trim unmaps slabs that nothing uses: all but one, or all when it is closed. The caller holds the lock.
func (g *pager) trim() {
	spare := !g.closed
	keep := g.slabs[:0]
	for _, sl := range g.slabs {
		if sl.runs.empty() && !spare {
			_ = g.sys.munmap(sl.mem)
			g.maps--
			continue
		}
		spare = spare && !sl.runs.empty()
		keep = append(keep, sl)
	}
	clear(g.slabs[len(keep):])
	g.slabs = keep
}

// close ends allocation. A slab is unmapped when its last block is freed.
func (g *pager) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.trim()
}
