package silo

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

// What sleeps moves from one silo's store to another's in chunks (chunk.go): the one exports and keeps it until the cluster says Forget,
// the other stages it, and settles it once it is its own.

// mostMoves bounds the moves to a node that are under way.
const mostMoves = 1024

// moves are those to this node that are under way.
type moves struct {
	mu    sync.Mutex
	all   map[cluster.MoveID]*staged
	ended bool
}

// staged is what was imported under a move.
type staged struct {
	mu       sync.Mutex
	stage    *sleep.Stage // nil: the move is over
	manifest cluster.Manifest
	kinds    map[string]*arrivals
	timed    []abi.Identity // that have timers
}

// arrivals are the actors of a kind that came with a move.
type arrivals struct {
	partitions cluster.PartitionSet
	versions   map[uint64]int // how many each version left, by its hash
}

// foreign returns how many were left by another version than a kind has; nil: the node does not have the kind.
func (a *arrivals) foreign(k *Kind) (n int) {
	for version, left := range a.versions {
		if k == nil || version != xxhash.Sum64String(k.Version) {
			n += left
		}
	}
	return n
}

// Export implements [cluster.Mover].
func (s *Silo) Export(ctx context.Context, part cluster.Part, chunk int, emit func([]byte) error) (cluster.Manifest, error) {
	w := chunkWriter{most: chunk, emit: emit}
	if s.states.store == nil {
		return w.manifest, w.end()
	}
	newest := map[string]*[cluster.Partitions]abi.Epoch{} // of what was exported
	goes := map[string]bool{}
	for p := range uint16(cluster.Partitions) {
		if part.Partitions != nil && !part.Partitions[p] {
			continue
		}
		for _, info := range s.states.store.Partition(p) {
			id, kind := info.Identity, info.Identity.Kind()
			if _, known := goes[kind]; !known {
				goes[kind] = part.HasKind(kind) && s.travels(kind)
			}
			if !goes[kind] || s.states.outdated(id, p, info.Epoch) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return w.manifest, err
			}
			z, ok, err := s.states.store.Get(p, id)
			var damaged *sleep.DamagedError
			switch {
			case errors.As(err, &damaged): // who asks for it first will be told, there as here
				s.cfg.Log.Error("the state of a sleeping actor is lost", "actor", id, "err", err)
				z = s.note(id, info.Epoch, err)
			case err != nil:
				return w.manifest, err
			case !ok: // dropped meanwhile
				continue
			}
			if err := w.add(&z); err != nil {
				return w.manifest, err
			}
			if newest[kind] == nil {
				newest[kind] = new([cluster.Partitions]abi.Epoch)
			}
			if newest[kind][p].Less(z.Epoch) {
				newest[kind][p] = z.Epoch
			}
		}
	}
	if err := w.end(); err != nil {
		return w.manifest, err
	}
	for kind, epochs := range newest {
		for p, epoch := range epochs {
			if (epoch != abi.Epoch{}) && s.states.outdatedKind(kind, uint16(p), epoch) {
				return w.manifest, abi.NewError(abi.ErrOwnershipChanged, "this node has lost actors of "+kind+" while it handed them over")
			}
		}
	}
	return w.manifest, nil
}

// travels reports whether what actors of a kind left goes with a move. A kind that the node has no more may come back elsewhere.
func (s *Silo) travels(kind string) bool {
	k, err := s.cfg.Kind(kind)
	return err != nil || k.stays()
}

// Import implements [cluster.Mover].
func (s *Silo) Import(move cluster.MoveID, part cluster.Part, chunk []byte) error {
	if s.states.store == nil {
		return abi.NewError(abi.ErrUnsupported, "this node keeps no sleeping actors")
	}
	zs, m, err := readChunk(chunk)
	if err != nil {
		return err
	}
	for i := range zs {
		if !part.Has(zs[i].Identity) {
			return fmt.Errorf("%w: %s is no part of what moves", cluster.ErrChunkForeign, zs[i].Identity)
		}
	}
	if left, _ := s.room(); left < int64(len(chunk)) {
		return abi.NewError(abi.ErrOverloaded, "there is no room for sleeping actors of another node; raise limits.max_bytes, or add nodes")
	}
	g := s.moves.begin(move, s.states.store)
	if g == nil {
		return abi.NewError(abi.ErrOverloaded, "as many moves to this node as there can be are under way, or it is shutting down")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stage == nil {
		return cluster.ErrMoveUnknown
	}
	switch err := g.stage.Add(zs); {
	case errors.Is(err, sleep.ErrTwice), errors.Is(err, sleep.ErrNewer):
		return fmt.Errorf("%w: %w", cluster.ErrChunkForeign, err)
	case errors.Is(err, sleep.ErrFull):
		return abi.NewError(abi.ErrOverloaded, "sleeping actors of another node: "+err.Error())
	case err != nil:
		return err
	}
	g.add(zs, m)
	return nil
}

// begin returns what is staged under a move, which may be new; nil: there can be no more.
func (m *moves) begin(move cluster.MoveID, store Sleepers) *staged {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.all[move]; g != nil {
		return g
	}
	if m.ended || len(m.all) >= mostMoves {
		return nil
	}
	if m.all == nil {
		m.all = make(map[cluster.MoveID]*staged)
	}
	g := &staged{stage: store.Stage(), kinds: make(map[string]*arrivals)}
	m.all[move] = g
	return g
}

// find returns what is staged under a move, locked; nil: there is nothing.
func (m *moves) find(move cluster.MoveID) *staged {
	m.mu.Lock()
	g := m.all[move]
	m.mu.Unlock()
	if g == nil {
		return nil
	}
	g.mu.Lock()
	if g.stage == nil { // it has just ended
		g.mu.Unlock()
		return nil
	}
	return g
}

// over forgets a move whose stage has ended.
func (m *moves) over(move cluster.MoveID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, move)
}

// end ends all moves.
func (m *moves) end() {
	m.mu.Lock()
	m.ended = true
	all := m.all
	m.all = nil
	m.mu.Unlock()
	for _, g := range all {
		g.mu.Lock()
		g.drop()
		g.mu.Unlock()
	}
}

// drop ends the stage, if it has not ended. g.mu is held.
func (g *staged) drop() {
	if g.stage != nil {
		g.stage.Drop()
		g.stage = nil
	}
}

// add counts what a chunk brought.
func (g *staged) add(zs []sleep.Sleeper, m cluster.Manifest) {
	add(&g.manifest, m)
	for i := range zs {
		z := &zs[i]
		a := g.kinds[z.Identity.Kind()]
		if a == nil {
			a = &arrivals{versions: make(map[uint64]int)}
			g.kinds[z.Identity.Kind()] = a
		}
		a.partitions[cluster.PartitionOf(z.Identity)] = true
		if here(z.State) {
			a.versions[versionOf(z.State)]++
		}
		if chunkOf(z.State) == chunkTimed {
			g.timed = append(g.timed, z.Identity)
		}
	}
}

// Staged implements [cluster.Mover].
func (s *Silo) Staged(move cluster.MoveID) (m cluster.Manifest, foreign map[string]int) {
	g := s.moves.find(move)
	if g == nil {
		return m, nil
	}
	defer g.mu.Unlock()
	return g.manifest, s.foreign(g)
}

// foreign counts, by kind, what other versions left. g.mu is held.
func (s *Silo) foreign(g *staged) map[string]int {
	var foreign map[string]int
	for kind, a := range g.kinds {
		k, err := s.cfg.Kind(kind)
		if err != nil {
			k = nil
		}
		if n := a.foreign(k); n > 0 {
			if foreign == nil {
				foreign = make(map[string]int)
			}
			foreign[kind] = n
		}
	}
	return foreign
}

// Accept implements [cluster.Mover].
func (s *Silo) Accept(move cluster.MoveID, epoch abi.Epoch) error {
	g := s.moves.find(move)
	if g == nil {
		return cluster.ErrMoveUnknown
	}
	defer g.mu.Unlock()
	if newest := g.manifest.Newest; epoch.Less(newest) {
		return fmt.Errorf("%w: %d.%d is before %d.%d", cluster.ErrMoveEpoch, epoch.Generation, epoch.Index, newest.Generation, newest.Index)
	}
	for kind, a := range g.kinds { // before there is anything of them: who looks for what is replaced goes by these
		s.states.comes(kind, a.versions)
	}
	for kind, n := range s.foreign(g) {
		s.cfg.Log.Warn("sleeping actors came from a node with another version of their module: unless that comes here too, their state is given up "+
			"when they are asked for", "kind", kind, "actors", n)
	}
	g.stage.Settle(epoch, cluster.PartitionOf, func(id abi.Identity, err error) {
		s.cfg.Log.Error("the state of a sleeping actor is lost, which came from another node", "actor", id, "err", err)
		z := s.note(id, epoch, err)
		if err := s.states.store.PutBack(cluster.PartitionOf(id), &z); err != nil {
			s.states.count[dropDamaged].Add(1)
		}
	})
	g.stage = nil
	s.moves.over(move)
	s.states.timed.add(g.timed...)

	var lost []string
	for kind, a := range g.kinds {
		s.states.kept(kind)
		for p, came := range a.partitions {
			if came && s.states.outdatedKind(kind, uint16(p), epoch) {
				lost = append(lost, kind)
				break
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	s.dropOutdated(lost)
	return abi.NewError(abi.ErrOwnershipChanged, "this node has lost actors that came from another one before they were accepted")
}

// Reject implements [cluster.Mover].
func (s *Silo) Reject(move cluster.MoveID) {
	if g := s.moves.find(move); g != nil {
		g.drop()
		s.moves.over(move)
		g.mu.Unlock()
	}
}
