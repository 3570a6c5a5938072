package engine

import (
	"math"
	"reflect"

	"github.com/tetratelabs/wazero/api"
)

// Footprint estimates what an instance takes of this process's memory, in bytes, for admission, as long as none of its kind was measured
// (see [Gauge]). A copy of a template takes what it writes. One that is made plainly takes the linear memory that the module asks for
// at its start, and what wazero keeps beside it, chiefly an object for each table element, which goes with the size of the module (a
// stock Go guest of 2.1 MB with 2.6 MB of memory takes 3.9 MB in all).
func (m *Module) Footprint() int64 {
	if m.template != nil {
		return (&Gauge{}).expect(int64(len(m.template.pool.Image()))) + bodyBytes + m.held()
	}
	return int64(m.minMemory) + m.heapBytes()
}

// heapBytes is what wazero keeps beside the memory of a plainly made instance.
func (m *Module) heapBytes() int64 { return int64(m.size)*5/8 + 8<<10 + m.held() }

// held is what tables and globals of each instance take of the Go heap, of whatever tier it is.
func (m *Module) held() int64 {
	return int64(m.forged.TableEntries)*8 + int64(len(m.forged.Globals))*globalBytes
}

// globalBytes is about what wazero keeps for a global, and this package to reach it.
const globalBytes = 160

// keepBodies is how many bodies the module keeps for instances to come: as many as take no more than keepBytes, and of memories that are
// copies no more than keepCopies.
func (m *Module) keepBodies() int {
	n := min(maxBodies, keepBytes/(bodyBytes+m.held()))
	if t := m.template; t != nil && t.pool.Copies() {
		n = min(n, max(1, keepCopies/max(1, int64(len(t.pool.Image())))))
	}
	return int(n)
}

const (
	maxBodies = 128
	keepBytes = 4 << 20
	// keepCopies is how many bytes of memories in the heap they have together.
	keepCopies = 32 << 20
	// keepStack is how large a stack may have become, in bytes, that is kept with a body. It begins with 10 KB and never shrinks.
	keepStack = 64 << 10
)

// stackOf returns the bytes of the stack that a call handle keeps, which wazero does not tell; more than any stack if it has changed.
func stackOf(f api.Function) int {
	v := reflect.Indirect(reflect.ValueOf(f))
	if v.Kind() == reflect.Struct {
		if s := v.FieldByName("stack"); s.Kind() == reflect.Slice {
			return s.Cap() * int(s.Type().Elem().Size())
		}
	}
	return math.MaxInt
}
