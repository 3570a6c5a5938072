package engine

import "sync/atomic"

// Gauge is what instances of a kind were found to take: estimates that follow what is measured, quickly up and slowly down.
type Gauge struct {
	base   atomic.Int64  // pages within the image, of an instance in use; 0: none was measured yet
	weight atomic.Int64  // all that an instance in use takes
	taken  atomic.Uint32 // instances that were made
}

// unmeasured is what an instance is taken for until one of its kind was measured: a stock Go guest writes about as much.
const unmeasured = 96 << 10

// Weight returns the bytes that an instance in use takes, once one was measured; else 0.
func (g *Gauge) Weight() int64 { return g.weight.Load() }

// expect returns the bytes of pages within its image that an instance will have.
func (g *Gauge) expect(image int64) int64 {
	if n := g.base.Load(); n > 0 {
		return n
	}
	return min(image, unmeasured)
}

// saw takes the measure of an instance.
func (g *Gauge) saw(base, weight int64) {
	follow(&g.base, max(base, 1))
	follow(&g.weight, max(weight, 1))
}

// follow moves an estimate halfway up to v, or an eighth of the way down. That two do so at once costs one measure.
func follow(at *atomic.Int64, v int64) {
	switch old := at.Load(); {
	case old == 0:
		at.Store(v)
	case v > old:
		at.Store(old + (v-old+1)/2)
	default:
		at.Store(old - (old-v)/8)
	}
}

// Which turns of an instance are followed by a measurement, which takes 1 to 15 microseconds: the first of some instances, or of all where
// they are large, then one in a thousand.
const (
	firstSamples = 32
	sampleOne    = 32 // in so many
	sampleLarge  = 512 << 10
	sampleTurns  = 1024
	sampleEarly  = 32
)

// samplesFirst reports whether the next instance is to be measured after its first turn.
func (g *Gauge) samplesFirst() bool {
	n := g.taken.Add(1)
	return n <= firstSamples || n%sampleOne == 0 || g.base.Load() > sampleLarge
}

// Gauge returns that of one kind of the module's. It lives as long as the module.
func (m *Module) Gauge(kind string) *Gauge {
	g, ok := m.gauges.Load(kind)
	if !ok {
		g, _ = m.gauges.LoadOrStore(kind, &Gauge{})
	}
	return g.(*Gauge)
}
