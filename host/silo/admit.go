package silo

import (
	"slices"
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

const (
	// leavingSlack is how many activations may be on their way out of a full silo, beside a tenth of it: an actor that is
	// being passivated takes room until its last turn is over.
	leavingSlack = 16
	// maxLeaving is how many the idle sweep sends off before it waits for its next round.
	maxLeaving = 1024
	// Eviction looks at a few shards with something idle in them, and at a few activations of each: an approximation
	// that costs little, whatever the silo holds, and needs no global order.
	lookShards  = 4
	lookIdle    = 16
	lookEntries = 64
)

// admit counts one more activation of kind, making room for it if need be.
func (s *Silo) admit(kind *Kind) error {
	s.mu.Lock()
	draining := s.draining.Load()
	if !draining {
		s.count.Add(1)
	}
	s.mu.Unlock()
	if draining {
		return abi.NewError(abi.ErrShuttingDown, "the node is shutting down")
	}
	s.bytes.Add(kind.Cost)
	for s.crowded() {
		if !s.evict() && s.crowded() {
			s.retire(kind)
			return s.overloaded(", none idle")
		}
	}
	if s.cfg.MaxActors > 0 && s.count.Load() > int64(s.cfg.MaxActors+s.cfg.MaxActors/10+leavingSlack) ||
		s.cfg.MaxBytes > 0 && s.bytes.Load() > s.cfg.MaxBytes+s.cfg.MaxBytes/10+leavingSlack*kind.Cost {
		s.retire(kind)
		return s.overloaded("; idle ones are being passivated, but not as fast as new ones come")
	}
	return nil
}

// crowded reports whether the silo exceeds its bounds, those apart that are leaving.
func (s *Silo) crowded() bool {
	return s.cfg.MaxActors > 0 && s.count.Load()-s.leaving.Load() > int64(s.cfg.MaxActors) ||
		s.cfg.MaxBytes > 0 && s.bytes.Load()-s.leavingBytes.Load() > s.cfg.MaxBytes
}

func (s *Silo) overloaded(why string) error {
	return abi.NewError(abi.ErrOverloaded, strconv.FormatInt(s.count.Load(), 10)+" activations of about "+
		strconv.FormatInt(s.bytes.Load()>>20, 10)+" MiB are in use"+why+"; raise limits.max_actors or limits.max_bytes, or add nodes")
}

// retire counts one activation less.
func (s *Silo) retire(kind *Kind) {
	s.bytes.Add(-kind.Cost)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count.Add(-1) == 0 && s.draining.Load() {
		close(s.empty)
	}
}

// evict passivates as many actors as it takes, of a few, those first that were idle longest. It reports whether there
// was one.
func (s *Silo) evict() (some bool) {
	type candidate struct {
		e    *entry
		used time.Time
	}
	var found []candidate
	before := time.Now().Add(-minIdle)
	with := 0
	for range shards {
		sh := &s.shards[s.hand.Add(1)%shards]
		idle, looked := 0, 0
		sh.mu.Lock()
		for _, e := range sh.entries { // begins anywhere
			if used := e.act.LastUsed(); used.Before(before) && e.act.Idle() {
				found = append(found, candidate{e, used})
				idle++
			}
			if looked++; idle == lookIdle || looked == lookEntries {
				break
			}
		}
		sh.mu.Unlock()
		if idle > 0 {
			with++
		}
		if with == lookShards {
			break
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return a.used.Compare(b.used) })
	for _, c := range found {
		if s.passivate(c.e, "evicted") {
			s.evictions.Add(1)
			if some = true; !s.crowded() {
				break
			}
		}
	}
	return some
}

// sweep passivates idle actors until the silo closes.
func (s *Silo) sweep() {
	tick := time.NewTicker(s.cfg.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case now := <-tick.C:
			s.each(func(e *entry) {
				if now.Sub(e.act.LastUsed()) >= e.kind.Idle && s.leaving.Load() < maxLeaving {
					s.passivate(e, "idle")
				}
			})
		}
	}
}
