package silo

import (
	"slices"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/actor"
)

// Filter says which actors a listing is about.
type Filter struct {
	Kind          string // "": all kinds
	Active, Sleep bool   // neither: both
}

// Info describes one activation, or an actor that sleeps: then it has no more than identity, epoch, last use and size.
type Info struct {
	Sleeps   bool
	Size     int // bytes of the state of one that sleeps
	Identity abi.Identity
	Epoch    abi.Epoch
	Version  string
	Since    time.Time
	LastUsed time.Time
	Status   actor.Status
}

// List returns up to limit actors whose key is greater than after, in order of key, active and sleeping ones merged, and whether there are
// more. It looks at every one: a listing is for people, not for programs that poll.
func (s *Silo) List(f Filter, after string, limit int) (page []Info, more bool) {
	all := f.Active == f.Sleep
	if all || f.Active {
		page, more = s.active(f.Kind, after, limit)
	}
	if s.states.store == nil || !all && !f.Sleep {
		return page, more
	}
	asleep, moreAsleep := s.states.store.List(f.Kind, after, limit)
	for _, z := range asleep {
		page = append(page, Info{Identity: z.Identity, Epoch: z.Epoch, LastUsed: z.Slept, Sleeps: true, Size: z.Size})
	}
	// One that was woken or fell asleep between the two looks counts as active.
	slices.SortStableFunc(page, func(a, b Info) int { return strings.Compare(a.Identity.Key(), b.Identity.Key()) })
	page = slices.CompactFunc(page, func(a, b Info) bool { return a.Identity == b.Identity })
	if len(page) > limit {
		return page[:limit], true
	}
	return page, more || moreAsleep
}

// active is List of activations alone.
func (s *Silo) active(kind, after string, limit int) (page []Info, more bool) {
	type row struct {
		key string
		e   *entry
	}
	var rows []row
	order := func(a, b row) int { return strings.Compare(a.key, b.key) }
	s.each(func(e *entry) {
		id := e.act.Identity()
		if kind != "" && id.Kind() != kind {
			return
		}
		if key := id.Key(); key > after {
			rows = append(rows, row{key, e})
		}
		if len(rows) >= 4*(limit+1) { // keep what may make the page
			slices.SortFunc(rows, order)
			clear(rows[limit+1:])
			rows = rows[:limit+1]
		}
	})
	slices.SortFunc(rows, order)
	if len(rows) > limit {
		rows, more = rows[:limit], true
	}
	for _, r := range rows {
		page = append(page, Info{Identity: r.e.act.Identity(), Epoch: r.e.act.Epoch(), Version: r.e.kind.Version,
			Since: r.e.since, LastUsed: r.e.act.LastUsed(), Status: r.e.act.Status()})
	}
	return page, more
}

// Stats are figures of the whole silo.
type Stats struct {
	Activations int64
	Bytes       int64 // expected, by the kinds' costs
	Evictions   uint64
	Waiting     int // actors that wait for others in their mailboxes

	Sleepers   int               // hibernated actors
	SleepBytes int64             // of memory that they take
	Dropped    map[string]uint64 // states given up, by why: lost, replaced, unusable
}

// Stats returns figures of the whole silo.
func (s *Silo) Stats() Stats {
	st := Stats{Activations: s.count.Load(), Bytes: s.bytes.Load(), Evictions: s.evictions.Load(), Waiting: s.waits.Len()}
	if s.states.store == nil {
		return st
	}
	z := s.states.store.Stats()
	st.Sleepers, st.SleepBytes, st.Dropped = z.Sleepers, z.Bytes, make(map[string]uint64, dropReasons)
	for r := range dropReasons {
		st.Dropped[r.String()] = s.states.count[r].Load()
	}
	return st
}

// Hot returns how many activations are not at rest. It looks at every one.
func (s *Silo) Hot() (n int) {
	s.each(func(e *entry) {
		if st := e.act.Status(); !st.Warm {
			n++
		}
	})
	return n
}
