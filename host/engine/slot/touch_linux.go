//go:build !portable

package slot

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Touch returns what the first touch of a page of memory takes on this machine: the median over some groups of pages, which are touched in a
// few milliseconds. It is 0 where that cannot be told.
func Touch() time.Duration {
	const groups, pages = 9, 32
	b, err := unix.Mmap(-1, 0, groups*pages*Page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0
	}
	defer unix.Munmap(b)
	unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	var took [groups]time.Duration
	for g := range took {
		began := time.Now()
		for p := range pages {
			b[(g*pages+p)*Page] = 1
		}
		took[g] = time.Since(began) / pages
	}
	slices.Sort(took[:])
	return took[groups/2]
}
