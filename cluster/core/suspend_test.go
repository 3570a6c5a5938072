package core

import (
	"testing"
	"time"
)

func TestSuspends(t *testing.T) {
	var s Suspends
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for i, c := range []struct{ ahead, want int }{{5000, 0}, {5003, 0}, {4998, 0}, {5100, 0}, {5101, 101}, {5101, 0}, {8000, 2899}, // one that is long
		{8060, 0}, {8095, 0}, {8130, 130}, {8131, 0}} { // several that are short
		if got := s.Look(ms(c.ahead)); got != ms(c.want) {
			t.Errorf("look %d: suspended for %v, want %v", i, got, ms(c.want))
		}
	}
}
