//go:build !linux || portable

package slot

import "time"

// canMap: there is nothing but copies in the heap. The tag portable tries this on Linux.
const canMap = false

// maps is never made here; its methods let the rest compile.
type maps struct{}

type machine struct{}

type place struct{}

type plan struct{}

func (place) mapped() bool { return false }

func (p *Pool) mapImage([]byte) error { return nil }

func (m *maps) get(*Slot) (bool, *plan, error)               { return false, nil, nil }
func (m *maps) warm(*Slot, *plan)                            {}
func (m *maps) unwatch(*Slot)                                {}
func (m *maps) grow(*Slot, int) (ok, done bool)              { return false, false }
func (m *maps) dirty(*Slot, func(uint32, []byte) bool) error { return nil }
func (m *maps) dirtyBytes(*Slot) int64                       { return 0 }
func (m *maps) leave(place)                                  {}
func (m *maps) giveBack(*Slot, bool)                         {}
func (m *maps) trim()                                        {}
func (m *maps) stats(*Stats)                                 {}
func (m *maps) close() error                                 { return nil }

// Touch returns what the first touch of a page of memory takes: 0, it cannot be told here.
func Touch() time.Duration { return 0 }
