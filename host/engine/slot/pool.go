package slot

import (
	"bytes"
	"fmt"
	"math"
	"sync"
)

// Page is the granularity of what is dirty, in bytes, whatever pages the machine has.
const Page = 4096

const (
	wasmPage  = 64 << 10
	maxMemory = 1 << 32
)

// Defaults of [Options].
const (
	DefaultReplicaBytes = 64 << 20
	DefaultKeepSlots    = 256
	DefaultKeepDirty    = 64
	keepHeap            = 32 << 20 // bytes of idle copies in the heap, from which their default number follows
)

// Options of a pool. The zero value is usable and picks the best that the machine has.
type Options struct {
	// Portable keeps memories as copies in the Go heap, where Get copies the whole image unless an idle copy is there.
	// It is all there is outside Linux.
	Portable bool
	// ReplicaBytes bounds the copies of the image that let many slots share one mapping, in bytes at their full length;
	// the first copy is always there. 0 is DefaultReplicaBytes.
	ReplicaBytes int64
	// KeepSlots bounds the idle slots with pages of their own. 0 is DefaultKeepSlots, or of copies in the heap as many
	// as are 32 MiB, at least one. Negative: none.
	KeepSlots int
	// KeepDirty bounds the pages of its own that an idle slot may have; one with more loses all of them and counts as
	// new. 0 is DefaultKeepDirty. Negative: none. Copies in the heap are whole anyway, and kept however dirty.
	KeepDirty int

	machine *machine // nil: this one; tests have others
}

// Stats is what is known of a pool without asking the kernel.
type Stats struct {
	Live     int // slots got and neither released nor discarded
	Idle     int // released slots that are kept with pages of their own
	Grown    int // of Live: those larger than the image
	Mappings int // mappings of the process that this pool has, its image included; counted as if none ever merged
	// PrivateBytes is the private memory that is known: copies in the heap with the room they have for growth, what
	// grown slots have past the image, and pages of idle slots as counted when they were released; of images up to 64 KiB
	// only pages that the last user changed. What live slots wrote within the image is not in it, see [Slot.DirtyBytes].
	PrivateBytes int64
	// ReplicaBytes is the length of all copies of the image, the first included, be they all resident or not.
	ReplicaBytes int64
	// WrittenBytes is what of them is in memory for certain: all but their pages of zeros, which come when a guest touches them.
	WrittenBytes int64
}

// Pool makes slots of one image.
type Pool struct {
	opt   Options
	image []byte
	zero  bitmap // the pages of the image that are all zero
	maps  *maps  // nil: everything is in the heap

	mu     sync.Mutex
	closed bool
	live   int
	grown  int
	heap   int64    // bytes of copies in the heap, live and idle
	past   int64    // bytes that slots with mappings of their own have past the image
	copies [][]byte // idle copies in the heap; the latest is taken first
}

// NewPool makes a pool of an image, which is copied: zero pages of it cost nothing where memory can be mapped. The image
// is a whole number of 64 KiB pages, maybe none.
func NewPool(image []byte, opt Options) (*Pool, error) {
	if len(image)%wasmPage != 0 || uint64(len(image)) > maxMemory {
		return nil, fmt.Errorf("slot: an image of %d bytes: %w", len(image), ErrImage)
	}
	opt = opt.withDefaults(len(image))
	p := &Pool{opt: opt, zero: zeroPages(image)}
	if !opt.Portable {
		if err := p.mapImage(image); err != nil {
			return nil, fmt.Errorf("slot: a pool for an image of %d bytes: %w", len(image), err)
		}
	}
	if p.maps == nil {
		p.image = bytes.Clone(image)
	}
	return p, nil
}

func (o Options) withDefaults(image int) Options {
	if !canMap {
		o.Portable = true
	}
	if o.ReplicaBytes == 0 {
		o.ReplicaBytes = DefaultReplicaBytes
	}
	if o.KeepSlots == 0 {
		o.KeepSlots = DefaultKeepSlots
		if o.Portable {
			o.KeepSlots = min(max(keepHeap/max(image, 1), 1), DefaultKeepSlots)
		}
	}
	if o.KeepDirty == 0 {
		o.KeepDirty = DefaultKeepDirty
	}
	return o
}

// Copies reports whether every slot is a whole copy of the image, in the heap.
func (p *Pool) Copies() bool { return p.maps == nil }

// Image is the image at its full length. It must not be written to: where it is mapped, that ends the process.
// It is there until Close.
func (p *Pool) Image() []byte { return p.image }

// Get returns a slot that holds the image and may grow to limit bytes, at most 4 GiB. Pages that most users touch first are ready in it where
// the kernel does that (Linux 5.14).
func (p *Pool) Get(limit uint64) (*Slot, error) {
	if limit < uint64(len(p.image)) {
		return nil, fmt.Errorf("slot: a limit of %d bytes, an image of %d: %w", limit, len(p.image), ErrLimit)
	}
	s := &Slot{pool: p, limit: min(limit, maxMemory, math.MaxInt) / wasmPage * wasmPage}
	plan, err := p.place(s)
	if err != nil {
		return nil, fmt.Errorf("slot: %w", err)
	}
	if plan != nil {
		p.maps.warm(s, plan)
	}
	return s, nil
}

// place finds room for s, where the image is. Pages of a plan are to be made ready, which takes too long for the lock.
func (p *Pool) place(s *Slot) (*plan, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if p.maps != nil {
		ok, plan, err := p.maps.get(s)
		if err != nil {
			return nil, err
		}
		if ok {
			p.live++
			return plan, nil
		}
	}
	p.live++
	if n := len(p.copies); n > 0 {
		s.room, p.copies[n-1] = p.copies[n-1], nil
		p.copies = p.copies[:n-1]
	} else {
		s.room = make([]byte, len(p.image))
		copy(s.room, p.image)
		p.heap += int64(len(s.room))
	}
	s.buf = s.room
	return nil, nil
}

// Trim gives the memory of idle slots back to the system, or to the garbage collector.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trim()
}

func (p *Pool) trim() {
	p.heap -= int64(len(p.copies)) * int64(len(p.image))
	p.copies = nil
	if p.maps != nil {
		p.maps.trim()
	}
}

// Mapped reports whether slots are mappings, and not copies in the Go heap.
func (p *Pool) Mapped() bool { return p.maps != nil }

// Stats may be called at any time.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := Stats{Live: p.live, Idle: len(p.copies), Grown: p.grown, PrivateBytes: p.heap + p.past}
	if p.maps != nil {
		p.maps.stats(&st)
	} else {
		st.WrittenBytes = int64(len(p.image))
	}
	return st
}

// Close gives everything back, the image too. While slots are live it does nothing but return a *[LiveError]. Closing
// again does nothing.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if p.live > 0 {
		return &LiveError{Live: p.live}
	}
	p.closed = true
	p.trim()
	if p.maps != nil {
		return p.maps.close()
	}
	return nil
}

// bitmap has a bit for each page.
type bitmap []uint64

func newBitmap(pages int) bitmap { return make(bitmap, (pages+63)/64) }

func (b bitmap) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) set(i int)      { b[i/64] |= 1 << (i % 64) }

var zeroPage [Page]byte

// zeroPages tells which pages of an image are all zero.
func zeroPages(image []byte) bitmap {
	pages := len(image) / Page
	b := newBitmap(pages)
	for i := range pages {
		if bytes.Equal(image[i*Page:(i+1)*Page], zeroPage[:]) {
			b.set(i)
		}
	}
	return b
}

// same reports whether page i of a memory is what it was at first: the image's, or zero beyond it.
func (p *Pool) same(i int, page []byte) bool {
	if off := i * Page; off < len(p.image) && !p.zero.has(i) {
		return bytes.Equal(page, p.image[off:off+Page])
	}
	return bytes.Equal(page, zeroPage[:])
}

// restore makes page i of a memory what it was at first.
func (p *Pool) restore(i int, page []byte) {
	if off := i * Page; off < len(p.image) && !p.zero.has(i) {
		copy(page, p.image[off:off+Page])
	} else {
		clear(page)
	}
}
