//go:build !portable

package slot

import "sync/atomic"

// budget counts mappings: the kernel bounds them for the whole process (vm.max_map_count), and the Go runtime dies when
// it gets none.
type budget struct {
	used atomic.Int64
	max  int64
}

// take takes n mappings if there are so many.
func (b *budget) take(n int) bool {
	for {
		used := b.used.Load()
		if used+int64(n) > b.max {
			return false
		}
		if b.used.CompareAndSwap(used, used+int64(n)) {
			return true
		}
	}
}

func (b *budget) give(n int) { b.used.Add(-int64(n)) }
