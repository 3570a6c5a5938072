//go:build !portable

package slot

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canMap: memories are mappings.
const canMap = true

const (
	// maxReplicas is how many slots share one mapping at most: 100,000 slots then take 1,600 of the 65,530 mappings that
	// a process may have. It is the number of bits in region.blank.
	maxReplicas = 64
	// writeStep bounds the replicas that one Get writes, in bytes, after the first of them.
	writeStep = 4 << 20
	// compareUpTo is the size up to which an image is compared with the slot instead of asking the kernel. With two pages
	// written, in a slot of which the guest has read nothing and all: 64 KiB take 0.8 µs to compare and 0.8 to 1.2 µs to
	// ask; 128 KiB 1.7 and 0.8 to 1.6; 2 MiB 42 and 1.2 to 15.
	compareUpTo = 64 << 10
	// ownMappings is what a slot that grew takes: the image, what was added, and the room for more.
	ownMappings = 3
)

// maps keeps memories as private mappings of a file that holds the image, once or more often one behind the other. Its
// fields are guarded by the pool's lock, but for those that never change.
//
// Zero pages of the image are holes in the file. Touching one in a slot puts a page into the file that stays; hence
// replicas are counted with their holes. Holes as anonymous memory would save these pages, but take a mapping for each
// hole of each slot, and be no faster: a first write takes 2.0 µs to a hole, 2.0 to data and 2.3 to anonymous memory.
type maps struct {
	pool    *Pool
	machine *machine
	scanner *scanner
	fd      int
	stride  int  // size of the image
	max     int  // replicas at most
	compare bool // the image is so small that comparing is cheaper
	solid   int  // pages of the image that are written to the file

	written  int         // replicas in the file
	open     []*region   // those with blank slots
	spare    *region     // of these one that is all blank, so that a single slot coming and going maps nothing
	kept     []keptPlace // idle, the image again; the latest is taken first
	private  int         // pages of kept
	mappings int
	habits   habits // of those who get blank slots
}

// place is where a mapped slot lies: in a region, or, since it grew, in a mapping of its own.
type place struct {
	region *region
	index  int
	own    []byte // with the room for growth, which cannot be touched
}

type keptPlace struct {
	place
	pages int // private ones; of a compared slot those that the last user changed
}

func (p place) mapped() bool { return p.region != nil || p.own != nil }

// bytes is the slot in a region.
func (m *maps) bytes(p place) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(p.region.base, p.index*m.stride)), m.stride)
}

// mapImage writes the image to a file and maps it. Without p.maps and without an error this system cannot.
func (p *Pool) mapImage(image []byte) (err error) {
	mach := p.opt.machine
	if mach == nil {
		mach = thisMachine()
	}
	m := &maps{pool: p, machine: mach, fd: -1, stride: len(image), compare: len(image) <= compareUpTo || mach.how == byCompare}
	defer func() {
		if err != nil {
			m.closeFiles()
		}
	}()
	if m.scanner, err = newScanner(mach.how); err != nil {
		return fmt.Errorf("/proc/self/pagemap: %w: %w", err, ErrMemory)
	}
	if m.stride == 0 {
		p.maps = m
		return nil
	}
	if m.fd, err = memfd(); err != nil {
		if err == unix.ENOSYS || err == unix.EPERM || err == unix.EACCES {
			m.closeFiles()
			return nil
		}
		return fmt.Errorf("memfd_create: %w: %w", err, ErrMemory)
	}
	if !mach.budget.take(1) {
		m.closeFiles()
		return nil
	}
	defer func() {
		if err != nil {
			mach.budget.give(1)
		}
	}()
	m.solid = m.stride / Page
	if !m.compare {
		for i := range m.stride / Page {
			if p.zero.has(i) {
				m.solid--
			}
		}
	}
	m.max = int(min(max(p.opt.ReplicaBytes/int64(m.stride), 1), maxReplicas))
	if err := unix.Ftruncate(m.fd, int64(m.max)*int64(m.stride)); err != nil {
		return fmt.Errorf("a file for %d replicas: %w: %w", m.max, err, ErrMemory)
	}
	// A file that shrank would end the process at the next page that is read.
	if _, err := unix.FcntlInt(uintptr(m.fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		return fmt.Errorf("sealing the image: %w", err)
	}
	if err := m.write(image); err != nil {
		return fmt.Errorf("writing the image: %w: %w", err, ErrMemory)
	}
	base, err := unix.MmapPtr(m.fd, 0, nil, uintptr(m.stride), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("mapping the image: %w: %w", err, ErrMemory)
	}
	p.image = unsafe.Slice((*byte)(base), m.stride)
	unix.Madvise(p.image, unix.MADV_NOHUGEPAGE)
	m.mappings = 1
	p.maps = m
	return nil
}

// write writes the image to the next replica, and closes the file to all writing after the last.
func (m *maps) write(image []byte) error {
	at := int64(m.written) * int64(m.stride)
	if m.machine.strict {
		if err := unix.Fallocate(m.fd, 0, at, int64(m.stride)); err != nil {
			return err
		}
	}
	zero := m.pool.zero
	for i, pages := 0, m.stride/Page; i < pages; {
		// A small image is compared as a whole, and read quicker when all of it is there.
		if !m.compare && zero.has(i) {
			i++
			continue
		}
		end := i + 1
		for end < pages && (m.compare || !zero.has(end)) {
			end++
		}
		for off := i * Page; off < end*Page; {
			n, err := unix.Pwrite(m.fd, image[off:end*Page], at+int64(off))
			if err != nil && err != unix.EINTR {
				return err
			}
			off += max(n, 0)
		}
		i = end
	}
	m.written++
	if m.written == m.max {
		_, err := unix.FcntlInt(uintptr(m.fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
		return err
	}
	return nil
}

// leave gives a place up that its slot has moved away from.
func (m *maps) leave(p place) {
	if p.own != nil {
		m.unmapOwn(p.own)
	} else {
		m.takeBack(p, true)
	}
}

// giveBack takes back what a slot lies in.
func (m *maps) giveBack(s *Slot, keep bool) {
	if keep {
		m.learn(s)
	}
	if s.place.own == nil {
		m.takeBack(s.place, keep)
		return
	}
	m.unmapOwn(s.place.own)
	m.pool.mu.Lock()
	m.pool.past -= int64(len(s.buf) - m.stride)
	m.pool.mu.Unlock()
}

// takeBack takes a place in a region back. It is kept when it is the image again, and has few pages of its own.
func (m *maps) takeBack(p place, keep bool) {
	if keep && m.pool.opt.KeepSlots > 0 {
		if pages, ok := m.restore(m.bytes(p)); ok && m.keep(p, pages) {
			return
		}
	}
	blank := m.zap(p)
	m.pool.mu.Lock()
	m.vacate(p, blank)
	m.pool.mu.Unlock()
}

func (m *maps) keep(p place, pages int) bool {
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	if len(m.kept) >= m.pool.opt.KeepSlots {
		return false
	}
	m.kept = append(m.kept, keptPlace{p, pages})
	m.private += pages
	return true
}

// restore makes a slot the image again and counts the pages of its own that it has. False: there are too many of them,
// or they are not known.
func (m *maps) restore(b []byte) (pages int, ok bool) {
	p := m.pool
	if m.compare {
		if m.stride > compareUpTo {
			return 0, false // pages that were written, but not changed, would add up unseen
		}
		for i := range m.stride / Page {
			page := b[i*Page : (i+1)*Page]
			if p.same(i, page) {
				continue
			}
			if pages++; pages > p.opt.KeepDirty {
				return 0, false
			}
			p.restore(i, page)
		}
		return pages, true
	}
	err := m.scanner.scan(b, func(off, n int) bool {
		if pages += n / Page; pages > p.opt.KeepDirty {
			return false
		}
		for i := off / Page; i < (off+n)/Page; i++ {
			p.restore(i, b[i*Page:(i+1)*Page])
		}
		return true
	})
	return pages, err == nil && pages <= p.opt.KeepDirty
}

// dirty is Slot.Dirty.
func (m *maps) dirty(s *Slot, yield func(offset uint32, page []byte) bool) error {
	m.learn(s)
	if m.machine.how == byCompare || m.compare && s.place.own == nil {
		if m.stride > compareUpTo {
			s.own = -1
		}
		s.compare(0, len(s.buf)/Page, yield)
		return nil
	}
	err := m.scanner.scan(s.buf, func(off, n int) bool {
		s.own += n / Page
		return s.compare(off/Page, (off+n)/Page, yield)
	})
	if err != nil {
		return fmt.Errorf("slot: looking for written pages: %w: %w", err, ErrScan)
	}
	return nil
}

// dirtyBytes is Slot.DirtyBytes.
func (m *maps) dirtyBytes(s *Slot) (sum int64) {
	m.learn(s)
	if m.machine.how == byCompare {
		return int64(len(s.buf))
	}
	err := m.scanner.scan(s.buf, func(_, n int) bool { sum += int64(n); return true })
	if err != nil {
		return int64(len(s.buf))
	}
	return sum
}

// trim gives up what is kept, and regions that nobody uses.
func (m *maps) trim() {
	kept := m.kept
	m.kept, m.private = nil, 0
	for _, k := range kept {
		k.region.busy--
	}
	for _, k := range kept {
		r := k.region
		if r.busy == 0 {
			if r.base != nil { // not yet
				m.unmapRegion(r)
			}
			continue
		}
		r.busy++
		m.vacate(k.place, m.zap(k.place))
	}
	if m.spare != nil {
		m.unmapRegion(m.spare)
	}
}

func (m *maps) stats(st *Stats) {
	st.Idle += len(m.kept)
	st.Mappings += m.mappings
	st.PrivateBytes += int64(m.private) * Page
	st.ReplicaBytes = int64(m.written) * int64(m.stride)
	st.WrittenBytes = int64(m.written) * int64(m.solid) * Page
}

// close is after trim, with no slot live.
func (m *maps) close() error {
	if m.stride > 0 {
		if err := unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(m.pool.image)), uintptr(m.stride)); err != nil {
			return fmt.Errorf("slot: unmapping the image: %w", err)
		}
		m.pool.image = nil
		m.machine.budget.give(1)
		m.mappings--
	}
	m.closeFiles()
	return nil
}

func (m *maps) closeFiles() {
	if m.fd >= 0 {
		unix.Close(m.fd)
		m.fd = -1
	}
	if m.scanner != nil {
		m.scanner.close()
		m.scanner = nil
	}
}
