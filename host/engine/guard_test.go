package engine

import (
	"testing"
	"time"

	"github.com/wasilo/wasilo/host/engine/slot"
)

// TestPace: where touching memory takes longer, less of it may be touched within a slice.
func TestPace(t *testing.T) {
	for _, quick := range []time.Duration{0, time.Microsecond, 1200 * time.Nanosecond} {
		if have, want := paceFor(quick), (pace{shortSlice, leastSlice, somePages, worstUnit}); have != want {
			t.Errorf("touched in %v: %+v, want %+v", quick, have, want)
		}
	}
	for touch := time.Microsecond; touch <= 50*time.Microsecond; touch += 300 * time.Nanosecond {
		p := paceFor(touch)
		all, stores := time.Duration(p.some/slot.Page)*touch, time.Duration(p.short)*touch
		last := time.Duration(p.least) * touch
		if all > longTouch || stores > longTouch || last > lateTouch || p.worst < 2*touch {
			t.Errorf("touched in %v: all of the memory takes %v, a slice of stores %v, the last %v: %+v", touch, all, stores, last, p)
		}
		if touch > 8*time.Microsecond && (all < longTouch*9/10 || stores < longTouch*9/10) {
			t.Errorf("touched in %v: all of the memory takes %v, a slice of stores %v: that is less than it may", touch, all, stores)
		}
	}
	if p := paceFor(time.Hour); p.short < 500 || p.least < 50 {
		t.Errorf("%+v", p)
	}
}
