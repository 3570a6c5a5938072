package wasilotest

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// clock is what is due when, the earliest first, at the same time in the order of setting.
type clock []alarm

type alarm struct {
	at time.Time
	do func()
}

func (c *clock) set(at time.Time, do func()) {
	i := len(*c)
	for i > 0 && (*c)[i-1].at.After(at) {
		i--
	}
	*c = slices.Insert(*c, i, alarm{at, do})
}

func (c clock) empty() bool { return len(c) == 0 }

func (c clock) due(by time.Time) bool { return len(c) > 0 && !c[0].at.After(by) }

func (c *clock) pop() (time.Time, func()) {
	a := (*c)[0]
	*c = slices.Delete(*c, 0, 1)
	return a.at, a.do
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
