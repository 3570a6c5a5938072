//go:build !portable

package slot

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// machine is what this system can do. Pools share it, because what it counts is the process's.
type machine struct {
	budget *budget
	how    how
	zaps   bool    // MADV_DONTNEED gives the file's pages back, as Linux promises and not everything that runs its programs keeps
	warmer *warmer // makes pages ready; pools share what it knows
	strict bool    // the kernel may refuse a page at the moment it is touched, which ends the process
}

// how written pages are found.
type how int

const (
	byIoctl   how = iota // PAGEMAP_SCAN, of Linux 6.7
	byPagemap            // bits 61 to 63 of /proc/self/pagemap
	byCompare            // all pages are compared with the image
)

// mapShare is the share of all mappings that slots may take: the Go runtime and its threads need some, and so does
// whoever embeds the host.
const mapShare = 0.75

// thisMachine looks once.
var thisMachine = sync.OnceValue(func() *machine {
	m := &machine{budget: &budget{max: int64(mapShare * float64(sysctl("/proc/sys/vm/max_map_count", 65530)))}, how: byCompare}
	m.warmer = &warmer{advise: new(adviser).advise}
	m.strict = sysctl("/proc/sys/vm/overcommit_memory", 0) == 2
	for _, h := range []how{byIoctl, byPagemap} {
		finds, zaps := try(h)
		m.zaps = zaps
		if finds {
			m.how = h
			break
		}
	}
	return m
})

func sysctl(path string, unknown int) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return unknown
	}
	return n
}

// try writes to one page of a small mapping, reads others, and looks whether that one page is found, and whether
// MADV_DONTNEED undoes it.
func try(h how) (finds, zaps bool) {
	s, err := newScanner(h)
	if err != nil {
		return false, false
	}
	defer s.close()
	fd, err := memfd()
	if err != nil {
		return false, false
	}
	defer unix.Close(fd)
	page := unix.Getpagesize()
	if _, err := unix.Pwrite(fd, bytes.Repeat([]byte{1}, 3*page), 0); err != nil || unix.Ftruncate(fd, int64(5*page)) != nil {
		return false, false
	}
	base, err := unix.MmapPtr(fd, 0, nil, uintptr(5*page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return false, false
	}
	defer unix.MunmapPtr(base, uintptr(5*page))
	b := unsafe.Slice((*byte)(base), 5*page)
	b[page]++
	b[4*page] = b[2*page] // a hole is written too
	found := make([]bool, 5)
	err = s.scan(b, func(off, n int) bool {
		for i := off / page; i < (off+n)/page; i++ {
			found[i] = true
		}
		return true
	})
	finds = err == nil && fmt.Sprint(found) == "[false true false false true]"
	zaps = unix.Madvise(b, unix.MADV_DONTNEED) == nil && b[page] == 1 && b[4*page] == 0
	return finds, zaps
}

// memfd makes an empty file in memory.
func memfd() (int, error) {
	const noExecSeal = 8 // MFD_NOEXEC_SEAL, of Linux 6.3; some systems insist on it
	fd, err := unix.MemfdCreate("wasilo-image", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|noExecSeal)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("wasilo-image", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	return fd, err
}
