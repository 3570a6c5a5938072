package silo

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

const (
	// rousers is how many are roused at once.
	rousers = 16
	// rouseTime is how long one of them waits for a part that is held. It tries again with the next look.
	rouseTime = time.Second
)

// timed are those that sleep though they have timers, since they were surrendered. Nobody need ever send them a message, so the silo wakes
// them by itself: where they have come, or where they are still if their move was given up.
type timed struct {
	mu     sync.Mutex
	all    map[abi.Identity]struct{}
	rouses bool // some goroutine does
}

func (t *timed) add(ids ...abi.Identity) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil && len(ids) > 0 {
		t.all = make(map[abi.Identity]struct{})
	}
	for _, id := range ids {
		t.all[id] = struct{}{}
	}
}

func (t *timed) remove(id abi.Identity) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, id)
}

// begin returns all, in order, for whoever is to rouse them and to call end; nothing if there are none, or somebody is at it.
func (t *timed) begin() []abi.Identity {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rouses || len(t.all) == 0 {
		return nil
	}
	t.rouses = true
	return slices.SortedFunc(maps.Keys(t.all), func(a, b abi.Identity) int { return strings.Compare(a.Key(), b.Key()) })
}

func (t *timed) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rouses = false
}

// rouse wakes those that sleep with timers, on goroutines of its own.
func (s *Silo) rouse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shutting {
		return
	}
	all := s.states.timed.begin()
	if all == nil {
		return
	}
	var next atomic.Int64
	var left atomic.Int64
	left.Store(int64(min(rousers, len(all))))
	for range left.Load() {
		s.work.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				s.rouseOne(all[i])
			}
			if left.Add(-1) == 0 {
				s.states.timed.end()
			}
		})
	}
}

// rouseOne wakes an actor if it is here still, and this node's.
func (s *Silo) rouseOne(id abi.Identity) {
	if !s.states.store.Has(cluster.PartitionOf(id), id) {
		s.states.timed.remove(id)
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, rouseTime)
	defer cancel()
	if _, err := s.api.Get(ctx, id); err != nil {
		return // it is on its way, or there is no room for it
	}
	sh := s.shard(id)
	sh.mu.Lock()
	e := sh.entries[id]
	sh.mu.Unlock()
	if e != nil {
		e.act.Wake()
	}
}
