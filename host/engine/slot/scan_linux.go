//go:build !portable

package slot

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scanner asks the kernel which pages of a range are private to it: present or swapped out, and not a page of the file.
// Those are all that could have been written. It may be used from any goroutine.
type scanner struct {
	how  how
	fd   int // of /proc/self/pagemap
	page int // of the machine, in bytes
	bufs sync.Pool
}

func newScanner(h how) (*scanner, error) {
	s := &scanner{how: h, fd: -1, page: unix.Getpagesize()}
	s.bufs.New = func() any { return new(scanBuf) }
	if h == byCompare {
		return s, nil
	}
	fd, err := unix.Open("/proc/self/pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s.fd = fd
	return s, nil
}

func (s *scanner) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// scanBuf is what the kernel reads and writes. It is in the heap, because the address of its regions goes to the kernel
// as a number, and stacks move.
type scanBuf struct {
	arg     scanArg
	regions [64]pageRegion
	entries [512]uint64
}

// scanArg is struct pm_scan_arg of linux/fs.h.
type scanArg struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	inverted, required, anyOf, returned                     uint64
}

// pageRegion is struct page_region.
type pageRegion struct {
	start, end uint64
	_          uint64 // categories
}

const (
	pagemapScan = 0xC0606610 // _IOWR('f', 16, struct pm_scan_arg)

	pageIsFile    = 1 << 2
	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4

	entryFile    = 1 << 61
	entrySwapped = 1 << 62
	entryPresent = 1 << 63
)

// scan calls each for runs of private pages in ascending order, as offset and length in bytes, until it returns false.
// mem starts and ends at pages of the machine.
func (s *scanner) scan(mem []byte, each func(off, n int) bool) error {
	if len(mem) == 0 {
		return nil
	}
	buf := s.bufs.Get().(*scanBuf)
	defer s.bufs.Put(buf)
	if s.how == byIoctl {
		return s.ioctl(buf, mem, each)
	}
	return s.read(buf, mem, private, each)
}

// entries calls each for runs of pages whose entries match.
func (s *scanner) entries(mem []byte, match func(entry uint64) bool, each func(off, n int) bool) error {
	buf := s.bufs.Get().(*scanBuf)
	defer s.bufs.Put(buf)
	return s.read(buf, mem, match, each)
}

func (s *scanner) ioctl(buf *scanBuf, mem []byte, each func(off, n int) bool) error {
	base := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
	end := base + uint64(len(mem))
	for start := base; start < end; start = buf.arg.walkEnd {
		buf.arg = scanArg{
			size: uint64(unsafe.Sizeof(buf.arg)), start: start, end: end,
			vec: uint64(uintptr(unsafe.Pointer(&buf.regions))), vecLen: uint64(len(buf.regions)),
			inverted: pageIsFile, required: pageIsFile, anyOf: pageIsPresent | pageIsSwapped, returned: pageIsFile,
		}
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), pagemapScan, uintptr(unsafe.Pointer(&buf.arg)))
		if errno == unix.EINTR {
			buf.arg.walkEnd = start
			continue
		}
		if errno != 0 {
			return errno
		}
		if n > uintptr(len(buf.regions)) || buf.arg.walkEnd <= start || buf.arg.walkEnd > end {
			return unix.EPROTO // not what was promised
		}
		for _, r := range buf.regions[:n] {
			if r.start < start || r.end <= r.start || r.end > end {
				return unix.EPROTO
			}
			if !each(int(r.start-base), int(r.end-r.start)) {
				return nil
			}
		}
	}
	return nil
}

func (s *scanner) read(buf *scanBuf, mem []byte, match func(entry uint64) bool, each func(off, n int) bool) error {
	at := int64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) / int64(s.page) * 8
	for i, pages := 0, len(mem)/s.page; i < pages; {
		n := min(pages-i, len(buf.entries))
		b := unsafe.Slice((*byte)(unsafe.Pointer(&buf.entries)), n*8)
		got, err := unix.Pread(s.fd, b, at+int64(i)*8)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if got < 8 {
			return unix.EIO
		}
		n = got / 8
		for first := 0; first < n; {
			if !match(buf.entries[first]) {
				first++
				continue
			}
			last := first + 1
			for last < n && match(buf.entries[last]) {
				last++
			}
			if !each((i+first)*s.page, (last-first)*s.page) {
				return nil
			}
			first = last
		}
		i += n
	}
	return nil
}

func private(entry uint64) bool {
	return entry&(entryPresent|entrySwapped) != 0 && entry&entryFile == 0
}

// shared is a page of the file.
func shared(entry uint64) bool { return entry&entryPresent != 0 && entry&entryFile != 0 }
