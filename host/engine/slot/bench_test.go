package slot

import (
	"fmt"
	"testing"
)

// tiny is a hand-written module of one page; goLike is what a stock Go guest has after its start: 1.9 MiB of data, the
// rest zero.
var (
	tiny   = picture(wasmPage, 0, 9000)
	goLike = picture(64*wasmPage, Page, 1300<<10, 2<<20, 2<<20+600<<10)
)

// ways adds to what a pool can do what it is to beat: a copy for each, and a mapping for each.
func ways(b *testing.B, f func(b *testing.B, p *Pool, image []byte)) {
	for _, image := range []struct {
		name  string
		bytes []byte
	}{{"tiny", tiny}, {"Go", goLike}} {
		for _, mode := range []string{"default", "portable"} {
			b.Run(fmt.Sprintf("%s/%s", image.name, mode), func(b *testing.B) {
				f(b, newPool(b, image.bytes, modes[mode]), image.bytes)
			})
		}
	}
}

// touch writes to two pages, as an echo does.
func touch(mem []byte, i int) {
	mem[2*Page+8] = byte(i)
	mem[len(mem)-Page] = byte(i)
}

// BenchmarkLife is Get, two dirty pages, Release.
func BenchmarkLife(b *testing.B) {
	ways(b, func(b *testing.B, p *Pool, image []byte) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s := get(b, p, maxMemory)
			touch(s.Bytes(), i)
			s.Release()
		}
	})
}

// BenchmarkLifeRead is the same of a slot that its guest has read all of, so that all its pages are in the page table.
func BenchmarkLifeRead(b *testing.B) {
	ways(b, func(b *testing.B, p *Pool, image []byte) {
		sum := byte(0)
		for i := 0; b.Loop(); i++ {
			s := get(b, p, maxMemory)
			if i == 0 {
				for j := 0; j < len(s.Bytes()); j += Page {
					sum += s.Bytes()[j]
				}
			}
			touch(s.Bytes(), i)
			s.Release()
		}
	})
}

// BenchmarkLifeDiscard is Get, two dirty pages, Discard: what Release costs when nothing is kept.
func BenchmarkLifeDiscard(b *testing.B) {
	ways(b, func(b *testing.B, p *Pool, image []byte) {
		for i := 0; b.Loop(); i++ {
			s := get(b, p, maxMemory)
			touch(s.Bytes(), i)
			s.Discard()
		}
	})
}

// BenchmarkLifeGrown is Get, two dirty pages, growth by a page, Release.
func BenchmarkLifeGrown(b *testing.B) {
	ways(b, func(b *testing.B, p *Pool, image []byte) {
		for i := 0; b.Loop(); i++ {
			s := get(b, p, 64<<20)
			touch(s.Bytes(), i)
			touch(s.Grow(uint64(len(image)+wasmPage)), i)
			s.Release()
		}
	})
}

// BenchmarkDirty finds two pages.
func BenchmarkDirty(b *testing.B) {
	ways(b, func(b *testing.B, p *Pool, image []byte) {
		s := get(b, p, maxMemory)
		defer s.Release()
		touch(s.Bytes(), 77)
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			if err := s.Dirty(func(uint32, []byte) bool { n++; return true }); err != nil || n != 2 {
				b.Fatal(n, err)
			}
		}
	})
}

// BenchmarkDirtyBytes is what the budget asks of each idle instance.
func BenchmarkDirtyBytes(b *testing.B) {
	ways(b, func(b *testing.B, p *Pool, image []byte) {
		s := get(b, p, maxMemory)
		defer s.Release()
		touch(s.Bytes(), 77)
		for b.Loop() {
			s.DirtyBytes()
		}
	})
}

// BenchmarkCopy is a plain copy of the image to memory that is there.
func BenchmarkCopy(b *testing.B) {
	for name, image := range map[string][]byte{"tiny": tiny, "Go": goLike} {
		b.Run(name, func(b *testing.B) {
			mem := make([]byte, len(image))
			for i := 0; b.Loop(); i++ {
				copy(mem, image)
				touch(mem, i)
			}
		})
	}
}

// BenchmarkParallel is BenchmarkLife on all processors.
func BenchmarkParallel(b *testing.B) {
	ways(b, func(b *testing.B, p *Pool, image []byte) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				s := get(b, p, maxMemory)
				touch(s.Bytes(), i)
				s.Release()
			}
		})
	})
}
