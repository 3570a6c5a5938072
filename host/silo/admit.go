package silo

import (
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// evicting is how many activations may be on their way out of a full silo, beside a tenth of it.
const evicting = 16

// admit counts one more activation of kind, making room for it if need be.
func (s *Silo) admit(kind *Kind) error {
	s.mu.Lock()
	draining := s.draining
	if !draining {
		s.count.Add(1)
	}
	s.mu.Unlock()
	if draining {
		return abi.NewError(abi.ErrShuttingDown, "the node is shutting down")
	}
	s.bytes.Add(kind.Cost)
	if !s.full(0, 0) {
		return nil
	}
	// An actor that is being passivated counts until its last turn is over; some slack keeps a full silo from refusing
	// while room is on its way.
	if s.evict() && !s.full(s.cfg.MaxActors/10+evicting, s.cfg.MaxBytes/10+evicting*kind.Cost) {
		return nil
	}
	s.retire(kind)
	return abi.NewError(abi.ErrOverloaded, strconv.FormatInt(s.count.Load(), 10)+" activations of about "+
		strconv.FormatInt(s.bytes.Load()>>20, 10)+" MiB are in use, none idle; raise limits.max_actors or limits.max_bytes, or add nodes")
}

// retire counts one activation less.
func (s *Silo) retire(kind *Kind) {
	s.bytes.Add(-kind.Cost)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count.Add(-1) == 0 && s.draining {
		close(s.empty)
	}
}

// full reports whether the silo exceeds its bounds by more than the slack given.
func (s *Silo) full(actors int, bytes int64) bool {
	return s.cfg.MaxActors > 0 && s.count.Load() > int64(s.cfg.MaxActors+actors) ||
		s.cfg.MaxBytes > 0 && s.bytes.Load() > s.cfg.MaxBytes+bytes
}

// evict passivates the actor that was idle longest among a few shards: an approximation that costs little and needs no
// global order.
func (s *Silo) evict() bool {
	const look = 4 // shards with something idle in them
	before := time.Now().Add(-minIdle)
	found := 0
	var oldest *entry
	var used time.Time
	for range shards {
		sh := &s.shards[s.hand.Add(1)%shards]
		some := false
		sh.mu.Lock()
		for _, e := range sh.entries {
			if at := e.act.LastUsed(); at.Before(before) {
				some = true
				if oldest == nil || at.Before(used) {
					oldest, used = e, at
				}
			}
		}
		sh.mu.Unlock()
		if some {
			found++
		}
		if found == look {
			break
		}
	}
	if oldest == nil || !oldest.act.Passivate("evicted") {
		return false
	}
	s.evictions.Add(1)
	return true
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
				if now.Sub(e.act.LastUsed()) >= e.kind.Idle {
					e.act.Passivate("idle")
				}
			})
		}
	}
}
