package telemetry

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bucket i of a histogram counts what took less than 2^(firstBucket+i) ns; one more counts the rest.
const (
	firstBucket = 10 // 1.024 µs
	buckets     = 25 // up to 17.2 s
)

// histogram counts durations. Prometheus' own does the same in more steps: it searches its bounds and adds to a
// floating-point sum in a loop; here the bound is the length of the number, and the sum an integer of nanoseconds.
// The zero value is ready.
type histogram struct {
	counts [buckets + 1]atomic.Uint64
	nanos  atomic.Uint64
}

func (h *histogram) observe(d time.Duration) {
	ns := uint64(max(d, 0))
	h.counts[min(max(bits.Len64(ns)-firstBucket, 0), buckets)].Add(1)
	h.nanos.Add(ns)
}

// metric returns a copy in Prometheus' form, nil when nothing was counted. Counts that move meanwhile may be in or out;
// the total is the sum of the buckets in any case.
func (h *histogram) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	cumulative := make(map[float64]uint64, buckets)
	var total uint64
	for i := range buckets {
		total += h.counts[i].Load()
		cumulative[float64(uint64(1)<<(firstBucket+i))/1e9] = total
	}
	total += h.counts[buckets].Load()
	if total == 0 {
		return nil
	}
	return prometheus.MustNewConstHistogram(desc, total, float64(h.nanos.Load())/1e9, cumulative, labels...)
}
