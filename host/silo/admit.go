package silo

import (
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

const (
	// leavingSlack is how many activations may be on their way out of a full silo, beside a tenth of it: an actor that is
	// being passivated takes room until its last turn is over.
	leavingSlack = 16
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

// evict sends off as many actors as it takes, of a few, those first that are least worth. It reports whether there was one.
func (s *Silo) evict() (some bool) {
	byBytes := s.cfg.MaxBytes > 0 && s.bytes.Load()-s.leavingBytes.Load() > s.cfg.MaxBytes
	found := s.sample(time.Now(), func(_ *entry, idle time.Duration) bool { return idle >= minIdle }, byBytes)
	for _, c := range found {
		if s.send(c.e, "evicted", c.sleeps) {
			s.evictions.Add(1)
			if some = true; !s.crowded() {
				break
			}
		}
	}
	return some
}
