//go:build !portable

package slot

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What one user of a pool touches first, most others touch too: a stock Go guest writes 11 pages in its first turn and reads from a dozen more
// places, always the same, and each is a fault while the guest runs. So a pool looks at what some users have touched. Before it hands out a blank slot
// it has the kernel make ready, in two calls, what most of them did: what was written gets its copy of the image's page, what was read is mapped.
const (
	looks     = 8         // that many of the latest count
	agree     = 6         // so many of them have touched a page that is made ready
	lookAgain = 64        // one blank slot in so many is left as it is, and looked at
	mostReady = 512       // runs of pages, and pages written: who touches more has other costs
	watchUpTo = 256 << 20 // bytes of an image: a look has the kernel write a 256th of that
)

// habits are what the users of a pool's slots touch first. The pool's lock guards them.
type habits struct {
	taken   int         // blank slots that were handed out
	watched int         // those of them that are still to be looked at
	seen    int         // looks
	last    [looks]look // the latest, each at its number modulo looks
	plan    *plan       // nil: there is none, or too little is known yet
}

// look is what one user has touched: the pages that it has of its own, and those of the file that are mapped.
type look struct{ wrote, read bitmap }

// plan is what is made ready. It is never changed.
type plan struct{ write, read []run }

// run is of pages: from first to before end.
type run struct{ first, end int }

// next says what is done with the next blank slot.
func (h *habits) next() (p *plan, watch bool) {
	h.taken++
	if h.seen+h.watched < looks || h.taken%lookAgain == 0 {
		h.watched++
		return nil, true
	}
	return h.plan, false
}

// learn looks at a watched slot, once. It still lies where its user touched it first.
func (m *maps) learn(s *Slot) {
	if !s.watched || s.place.region == nil {
		return
	}
	l, err := m.look(m.bytes(s.place))
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	m.unwatch(s)
	if err != nil {
		return
	}
	h := &m.habits
	h.last[h.seen%looks] = l
	if h.seen++; h.seen >= looks {
		h.plan = m.planned()
	}
}

// unwatch ends the wait for a look at s, be it that nobody has looked.
func (m *maps) unwatch(s *Slot) {
	if s.watched {
		s.watched = false
		m.habits.watched--
	}
}

// watches reports whether learning makes sense: the kernel tells what was touched, by the page, and makes pages ready.
func (m *maps) watches() bool {
	return m.stride <= watchUpTo && m.machine.how != byCompare && m.scanner.page == Page && !m.machine.warmer.refused.Load()
}

func (m *maps) look(mem []byte) (look, error) {
	l := look{newBitmap(len(mem) / Page), newBitmap(len(mem) / Page)}
	into := func(b bitmap) func(off, n int) bool {
		return func(off, n int) bool {
			for i := off / Page; i < (off+n)/Page; i++ {
				b.set(i)
			}
			return true
		}
	}
	err := m.scanner.entries(mem, private, into(l.wrote))
	if err == nil {
		err = m.scanner.entries(mem, shared, into(l.read))
	}
	return l, err
}

// planned is what most of the latest users have touched; nil: hardly anything. A hole of the image that is read stays a page of the file, so
// none is.
func (m *maps) planned() *plan {
	var wrote, read [looks]bitmap
	for i, l := range m.habits.last {
		wrote[i], read[i] = l.wrote, l.read
	}
	p, hot, pages := &plan{}, common(&wrote), 0
	for _, w := range hot {
		pages += bits.OnesCount64(w)
	}
	if pages <= mostReady {
		p.write = hot.runs()
	}
	hot = common(&read)
	if !m.compare {
		for i := range hot {
			hot[i] &^= m.pool.zero[i]
		}
	}
	p.read = hot.runs()
	p.read = p.read[:min(len(p.read), mostReady)]
	if pages+len(p.read) < 2 {
		return nil // a call costs what a fault does
	}
	return p
}

// common has the bits that at least agree of the looks have.
func common(of *[looks]bitmap) bitmap {
	out := make(bitmap, len(of[0]))
	for w := range out {
		var ones, twos, fours, eights uint64 // how often each bit is set, as binary numbers
		for _, b := range of {
			carry := b[w]
			ones, carry = ones^carry, ones&carry
			twos, carry = twos^carry, twos&carry
			fours, carry = fours^carry, fours&carry
			eights |= carry
		}
		out[w] = eights | fours&twos
	}
	return out
}

// runs lists what is set, in ascending order.
func (b bitmap) runs() (out []run) {
	for i := 0; i < len(b)*64; i++ {
		if !b.has(i) {
			continue
		}
		first := i
		for i++; i < len(b)*64 && b.has(i); {
			i++
		}
		out = append(out, run{first, i})
	}
	return out
}

// warmer has the kernel make pages ready, until it refuses once: then all are left to faults.
type warmer struct {
	advise  func(mem []byte, runs []run, advice int) error
	refused atomic.Bool
}

// warm makes pages of a blank slot ready for its user. What fails is a fault later. Where faults are cheap, as calls are, it saves little and
// costs no more.
func (m *maps) warm(s *Slot, p *plan) {
	w := m.machine.warmer
	if w.refused.Load() {
		return
	}
	err := w.advise(s.buf, p.write, unix.MADV_POPULATE_WRITE) // first: what was mapped to be read would have to be mapped anew
	if err == nil {
		err = w.advise(s.buf, firsts(s.buf, p.read), unix.MADV_POPULATE_READ)
	}
	if err != nil {
		w.refused.Store(true)
	}
}

// faultAround is what the kernel maps at once around a page of a file that is read, of what is there: its default.
const faultAround = 64 << 10

// firsts is of each piece of memory that is mapped at once the first page that runs have.
func firsts(mem []byte, runs []run) []run {
	base, next := uintptr(unsafe.Pointer(unsafe.SliceData(mem))), 0
	out := make([]run, 0, len(runs))
	for _, r := range runs {
		for i := max(r.first, next); i < r.end; i = next {
			out = append(out, run{i, i + 1})
			next = int((base+uintptr(i)*Page)/faultAround*faultAround+faultAround-base) / Page
		}
	}
	return out
}

// adviser gives advice of Linux 5.14 on runs of pages: all of them in one call, which Linux 6.15 allows, or one by one. Of
// 19 pages that takes 55 or 110 µs on a machine where 19 faults take 1.4 ms.
type adviser struct{ single atomic.Bool }

func (a *adviser) advise(mem []byte, runs []run, advice int) error {
	self := unix.PIDFD_SELF_PROCESS
	var vec [64]unix.Iovec
	for len(runs) > 0 && !a.single.Load() {
		n, bytes := min(len(runs), len(vec)), 0
		for i, r := range runs[:n] {
			vec[i].Base = &mem[r.first*Page]
			vec[i].SetLen((r.end - r.first) * Page)
			bytes += (r.end - r.first) * Page
		}
		done, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(self), uintptr(unsafe.Pointer(&vec[0])), uintptr(n), uintptr(advice), 0, 0)
		if errno != 0 || int(done) != bytes {
			a.single.Store(true)
			break
		}
		runs = runs[n:]
	}
	for _, r := range runs {
		if err := unix.Madvise(mem[r.first*Page:r.end*Page], advice); err != nil {
			return err
		}
	}
	return nil
}
