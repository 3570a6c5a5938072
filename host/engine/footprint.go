package engine

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

// keepBodies is how many bodies the module keeps for instances to come: as many as take no more than keepBytes.
func (m *Module) keepBodies() int { return int(min(maxBodies, keepBytes/(bodyBytes+m.held()))) }

const (
	maxBodies = 128
	keepBytes = 4 << 20
)
