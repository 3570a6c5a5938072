package sleep

import "golang.org/x/sys/unix"

// systemMemory is anonymous memory. Without huge pages: they would make resident what was never written to.
func systemMemory() *sysMem {
	return &sysMem{
		mmap: func(n int) ([]byte, error) {
			mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
			if err == nil {
				_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE) // fails on kernels without huge pages
			}
			return mem, err
		},
		munmap:  unix.Munmap,
		release: func(mem []byte) error { return unix.Madvise(mem, unix.MADV_DONTNEED) },
	}
}
