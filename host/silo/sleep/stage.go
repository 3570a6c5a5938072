package sleep

import (
	"errors"
	"fmt"
	"slices"

	"github.com/wasilo/wasilo/abi"
)

// Stage is where sleepers lie that came from another node and are not this store's own yet: in the same memory, under the same bound, and
// spilled with the others. Nothing takes them from there but [Stage.Settle]. Its methods may be called from any goroutine, but for Settle
// and Drop, which end it: one of them is called, once, and nothing after it.
type Stage struct {
	store *Store
	part  part
}

// Stage returns an empty stage. It must be ended.
func (s *Store) Stage() *Stage {
	g := &Stage{store: s, part: part{once: true}}
	s.staging.Lock()
	defer s.staging.Unlock()
	g.part.closed = s.ended
	s.stages = append(s.stages, g)
	return g
}

// Add keeps all of some sleepers, whose states are copied, or none: then the error is that of [Store.Put] for one of them, or [ErrTwice].
func (g *Stage) Add(zs []Sleeper) error {
	for i := range zs {
		err := g.store.put(&g.part, &zs[i], g.store.room)
		if err == nil {
			continue
		}
		for j := range zs[:i] {
			_, _, _ = g.store.take(&g.part, 0, zs[j].Identity, latest) // of what was kept just now: damage is nothing to anybody
		}
		return fmt.Errorf("%s: %w", zs[i].Identity, err)
	}
	return nil
}

// latest is no earlier than any epoch.
var latest = abi.Epoch{Generation: ^uint32(0), Index: ^uint64(0)}

// Settle makes all that is staged sleepers of the store, under an epoch, in the partitions that of names, and ends the stage. It may exceed
// the store's bound while it does. What cannot be moved is lost, and failed is told of each: a [*DamagedError], or the store's error. A
// sleeper of a later epoch that is there already stays. It returns how many were moved; a store that is closed forgets the rest.
func (g *Stage) Settle(epoch abi.Epoch, of func(abi.Identity) uint16, failed func(abi.Identity, error)) (moved int) {
	s := g.store
	for _, info := range s.inOrder(&g.part) {
		p := of(info.Identity)
		z, ok, err := s.take(&g.part, p, info.Identity, latest)
		if err == nil && ok {
			z.Epoch = epoch
			err = s.put(&s.parts[p], &z, anyway)
		}
		switch {
		case err == nil:
			moved++
		case errors.Is(err, ErrClosed):
			return moved
		case !errors.Is(err, ErrNewer):
			failed(info.Identity, err)
		}
	}
	g.Drop()
	return moved
}

func anyway(int) error { return nil }

// Len returns how many sleepers are staged.
func (g *Stage) Len() int {
	g.part.mu.Lock()
	defer g.part.mu.Unlock()
	if g.part.arena == nil {
		return 0
	}
	return g.part.arena.index.count
}

// Drop forgets all that is staged, ends the stage, and returns how many there were.
func (g *Stage) Drop() int {
	s := g.store
	n := s.drop(&g.part)
	s.staging.Lock()
	defer s.staging.Unlock()
	s.stages = slices.DeleteFunc(s.stages, func(o *Stage) bool { return o == g })
	return n
}
