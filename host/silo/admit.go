package silo

import (
	"math"
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

// cost returns what an activation of the kind is to take, as far as is known.
func (k *Kind) cost() int64 {
	if k.Typical != nil {
		if n := k.Typical(); n > 0 {
			return n
		}
	}
	return k.Cost
}

// admit counts one more activation, of cost bytes, making room for it if need be.
func (s *Silo) admit(cost int64) error {
	s.mu.Lock()
	draining := s.draining.Load()
	if !draining {
		s.count.Add(1)
	}
	s.mu.Unlock()
	if draining {
		return abi.NewError(abi.ErrShuttingDown, "the node is shutting down")
	}
	s.bytes.Add(cost)
	s.coming.Add(cost)
	for {
		yes, short := s.crowded()
		if !yes {
			break
		}
		if s.evict(short) {
			continue
		}
		if yes, _ = s.crowded(); yes {
			s.retire(cost, cost)
			return s.overloaded(", none idle")
		}
	}
	left, overdraft := s.room()
	if s.cfg.MaxActors > 0 && s.count.Load() > int64(s.cfg.MaxActors+s.cfg.MaxActors/10+leavingSlack) || left < -overdraft-leavingSlack*cost {
		s.retire(cost, cost)
		return s.overloaded("; idle ones are being passivated, but not as fast as new ones come")
	}
	return nil
}

// room returns how many bytes are left, with what was admitted taken off, and how many may be missing for what is leaving.
func (s *Silo) room() (left, overdraft int64) {
	if s.cfg.Room == nil {
		return math.MaxInt64, 0
	}
	left, overdraft = s.cfg.Room()
	return left - s.coming.Load(), overdraft
}

// Coming is how many bytes activations are expected to take that [Config].Room does not know of: those that have not started,
// and those that nobody else counts.
func (s *Silo) Coming() int64 { return s.coming.Load() }

// crowded reports whether the silo exceeds its bounds, those apart that are leaving; short, that there is not enough memory.
func (s *Silo) crowded() (yes, short bool) {
	var left int64
	if s.cfg.Room != nil {
		left, _ = s.cfg.Room()
	}
	s.mu.Lock() // one that has left is counted off all of these at once
	defer s.mu.Unlock()
	short = s.cfg.Room != nil && left-s.coming.Load()+s.leavingBytes.Load() < 0
	return short || s.cfg.MaxActors > 0 && s.count.Load()-s.leaving.Load() > int64(s.cfg.MaxActors), short
}

func (s *Silo) overloaded(why string) error {
	return abi.NewError(abi.ErrOverloaded, strconv.FormatInt(s.count.Load(), 10)+" activations of about "+
		strconv.FormatInt(s.bytes.Load()>>20, 10)+" MiB are in use"+why+"; raise limits.max_actors or limits.max_bytes, or add nodes")
}

// retire counts one activation less, of cost bytes, some of them coming.
func (s *Silo) retire(cost, coming int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retireLocked(cost, coming)
}

// retired counts an activation off that is gone, also among those that were leaving.
func (s *Silo) retired(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left(e)
	s.retireLocked(e.cost, e.arrived())
}

// retireLocked is retire. s.mu is held.
func (s *Silo) retireLocked(cost, coming int64) {
	s.bytes.Add(-cost)
	s.coming.Add(-coming)
	if s.count.Add(-1) == 0 && s.draining.Load() {
		close(s.empty)
	}
}

// evict sends off as many actors as it takes, of a few, those first that are least worth. It reports whether there was one, though another
// caller may have been quicker with it, or a message: then the next look finds others, or nobody.
func (s *Silo) evict(short bool) (some bool) {
	found := s.sample(time.Now(), func(_ *entry, idle time.Duration) bool { return idle >= minIdle }, short)
	for _, c := range found {
		if !s.send(c.e, "evicted", c.sleeps, c.used) {
			continue
		}
		s.evictions.Add(1)
		if yes, _ := s.crowded(); !yes {
			break
		}
	}
	return len(found) > 0
}
