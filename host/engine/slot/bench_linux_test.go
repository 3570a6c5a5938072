//go:build !portable

package slot

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BenchmarkMapping is a mapping of the file for each life, which is what a pool of slots saves.
func BenchmarkMapping(b *testing.B) {
	for name, image := range map[string][]byte{"tiny": tiny, "Go": goLike} {
		b.Run(name, func(b *testing.B) {
			p := newPool(b, image, Options{})
			if p.maps == nil {
				b.Skip("nothing can be mapped here")
			}
			for i := 0; b.Loop(); i++ {
				base, err := unix.MmapPtr(p.maps.fd, 0, nil, uintptr(len(image)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
				if err != nil {
					b.Fatal(err)
				}
				touch(unsafe.Slice((*byte)(base), len(image)), i)
				unix.MunmapPtr(base, uintptr(len(image)))
			}
		})
	}
}
