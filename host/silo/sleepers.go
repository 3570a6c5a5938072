package silo

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

// Sleepers keeps what hibernated actors have left, by partition: package sleep does. Its methods may be called from any goroutine.
type Sleepers interface {
	// Put keeps a sleeper in place of an earlier one of its identity. The state is copied.
	Put(p uint16, z *sleep.Sleeper) error
	// Take removes a sleeper and returns it. An error says that there was one and that it is lost, or that the store is closed.
	Take(p uint16, id abi.Identity) (z sleep.Sleeper, ok bool, err error)
	Has(p uint16, id abi.Identity) bool
	// DropKind forgets those of a kind for which which says so, all with nil, and returns how many.
	DropKind(kind string, which func(sleep.Info) bool) int
	List(kind, after string, limit int) (page []sleep.Info, more bool)
	Stats() sleep.Stats
}

// states is what the silo knows of the actors that sleep, beside the store.
type states struct {
	store Sleepers // nil: nothing is kept

	mu    sync.Mutex                 // guards changes of the next two
	lost  atomic.Pointer[losses]     // which epochs are out of date; nil: none
	kinds map[string]*abi.State      // of which something was kept, guarded by mu
	free  sync.Pool                  // of *[]byte
	count [dropReasons]atomic.Uint64 // sleepers given up, by why
}

// losses are immutable.
type losses struct {
	all  abi.Epoch // of every kind and partition
	kind map[string]*[cluster.Partitions]abi.Epoch
}

// dropReason says why a sleeper was given up.
type dropReason uint8

const (
	dropLost     dropReason = iota // the node did not own it any more
	dropReplaced                   // it is of another version of its kind
	dropDamaged                    // nothing can be made of it
	dropReasons
)

func (r dropReason) String() string {
	return [...]string{dropLost: "lost", dropReplaced: "replaced", dropDamaged: "unusable"}[r]
}

// The states that the silo puts into the store begin with what it needs to know of them, and the rest is the activation's:
//
//	1, xxhash64 of the kind's version, the state
//	0, why nothing can be made of what there was
const (
	headGone = 0
	headHere = 1
	headLen  = 1 + 8
)

func (k *Kind) head(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(append(dst, headHere), xxhash.Sum64String(k.Version))
}

// of reports whether a state, with all of its head, was left by the kind as it is.
func (k *Kind) of(state []byte) bool {
	return binary.BigEndian.Uint64(state[1:]) == xxhash.Sum64String(k.Version)
}

// outdated reports whether what was left under a lease of that epoch is out of date, since the node has lost the actor meanwhile.
func (s *states) outdated(id abi.Identity, p uint16, epoch abi.Epoch) bool {
	l := s.lost.Load()
	if l == nil {
		return false
	}
	if until(l.all, epoch) {
		return true
	}
	parts := l.kind[id.Kind()]
	return parts != nil && until(parts[p], epoch)
}

// until reports whether epoch is at most the last one that counts for nothing; the zero value is none.
func until(last, epoch abi.Epoch) bool { return last != abi.Epoch{} && !last.Less(epoch) }

// lose notes a loss. What was kept under earlier epochs counts for nothing from its return on; nobody waits for its removal.
func (s *states) lose(loss cluster.Loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.lost.Load()
	if old == nil {
		old = &losses{}
	}
	l := &losses{all: old.all, kind: make(map[string]*[cluster.Partitions]abi.Epoch, len(old.kind)+1)}
	for kind, parts := range old.kind {
		l.kind[kind] = parts
	}
	switch {
	case loss.Kind == "":
		if l.all.Less(loss.Epoch) {
			l.all = loss.Epoch
		}
	default:
		parts := new([cluster.Partitions]abi.Epoch)
		if before := l.kind[loss.Kind]; before != nil {
			*parts = *before
		}
		for p := range parts {
			if (loss.Partitions == nil || loss.Partitions[p]) && parts[p].Less(loss.Epoch) {
				parts[p] = loss.Epoch
			}
		}
		l.kind[loss.Kind] = parts
	}
	s.lost.Store(l)
}

// keptKinds returns the kinds of which something was kept.
func (s *states) keptKinds() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.kinds))
	for name := range s.kinds {
		names = append(names, name)
	}
	return names
}

func (s *states) buffer() *[]byte {
	if b, ok := s.free.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

// keepBuffer is how large a buffer may be that is used again.
const keepBuffer = 1 << 20

func (s *states) release(b *[]byte) {
	if cap(*b) <= keepBuffer {
		s.free.Put(b)
	}
}

var (
	_ cluster.Keeper = (*Silo)(nil)
	_ actor.Keeper   = (*entry)(nil)
	_ Sleepers       = (*sleep.Store)(nil)
)

// Keeps implements [cluster.Keeper].
func (s *Silo) Keeps(id abi.Identity) bool {
	return s.states.store != nil && s.states.store.Has(cluster.PartitionOf(id), id)
}

// Forget implements [cluster.Keeper]. The memory is given back a little later.
func (s *Silo) Forget(loss cluster.Loss) {
	if s.states.store == nil {
		return
	}
	s.states.lose(loss)
	kinds := []string{loss.Kind}
	if loss.Kind == "" {
		kinds = s.states.keptKinds()
	}
	s.drop("this node lost sleeping actors", dropLost, kinds, func(i sleep.Info) bool {
		return s.states.outdated(i.Identity, cluster.PartitionOf(i.Identity), i.Epoch)
	})
}

// Replaced says that a kind has another version from now on, or none: what actors left under the one before is given up.
func (s *Silo) Replaced(kind string) {
	if s.states.store == nil {
		return
	}
	// What the new version keeps was used later. Times are kept to the second; what is left of this one shows when it is to wake.
	now := time.Now().Truncate(time.Second)
	s.drop("sleeping actors were of the module's version before, which the new one cannot read: their state is given up", dropReplaced, []string{kind},
		func(i sleep.Info) bool { return i.Slept.Before(now) })
}

// drop gives up sleepers of some kinds, on a goroutine of its own.
func (s *Silo) drop(what string, why dropReason, kinds []string, which func(sleep.Info) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shutting {
		return
	}
	s.work.Go(func() {
		for _, kind := range kinds {
			if n := s.states.store.DropKind(kind, which); n > 0 {
				s.states.count[why].Add(uint64(n))
				s.cfg.Log.Warn(what, "kind", kind, "actors", n)
			}
		}
	})
}

// Take implements [actor.Keeper].
func (e *entry) Take() ([]byte, error) {
	s, id := e.silo, e.lease.Identity
	p := cluster.PartitionOf(id)
	z, ok, err := s.states.store.Take(p, id)
	switch {
	case err != nil:
		// It is gone, and whoever asks has to hear of it: a note of it lies in its place until somebody did.
		s.cfg.Log.Error("the state of a sleeping actor is lost", "actor", id, "err", err)
		z = sleep.Sleeper{Identity: id, Epoch: e.lease.Epoch, Slept: time.Now(), State: append([]byte{headGone}, err.Error()...)}
	case !ok:
	case s.states.outdated(id, p, z.Epoch):
		s.states.count[dropLost].Add(1)
		ok = false
	case len(z.State) >= headLen && z.State[0] == headHere && !e.kind.of(z.State):
		s.states.count[dropReplaced].Add(1)
		s.cfg.Log.Warn("a sleeping actor was of another version of its module: its state is given up", "actor", id)
		ok = false
	case !e.kind.stays() && time.Since(z.Slept) >= e.kind.Idle: // it would have been passivated by now
		ok = false
	}
	switch {
	case err == nil && !ok:
		if s.states.outdated(id, p, e.lease.Epoch) { // else it would begin from nothing, for a moment, where it is not at home
			return nil, abi.NewError(abi.ErrOwnershipChanged, "this node has lost "+id.Key())
		}
		return nil, nil
	case len(z.State) < headLen || z.State[0] != headHere:
		why := "its state was damaged where it slept"
		if len(z.State) > 1 && z.State[0] == headGone {
			why = string(z.State[1:])
		}
		unusable := abi.NewError(abi.ErrStateUnusable, why)
		e.taken = &z
		e.Return(nil, unusable)
		return nil, unusable
	}
	e.taken, e.waking = &z, time.Now()
	return z.State[headLen:], nil
}

// Return implements [actor.Keeper].
func (e *entry) Return(_ []byte, why error) {
	s := e.silo
	z := e.taken
	e.taken, e.waking = nil, time.Time{}
	if err := s.states.store.Put(cluster.PartitionOf(z.Identity), z); err != nil {
		s.states.count[dropDamaged].Add(1)
		s.cfg.Log.Error("a sleeping actor could not be woken, and its state not be kept", "actor", z.Identity, "err", why, "kept", err)
		return
	}
	if abi.CodeOf(why) == abi.ErrStateUnusable {
		s.cfg.Log.Error("nothing can be made of what a sleeping actor left", "actor", z.Identity, "err", why)
	}
	s.dropLate(z.Identity, z.Epoch)
}

// dropLate gives up what came into the store when its actor was lost already: whoever looked for such has been there, and it would lie there
// until the actor is asked for on this node again.
func (s *Silo) dropLate(id abi.Identity, epoch abi.Epoch) {
	p := cluster.PartitionOf(id)
	if !s.states.outdated(id, p, epoch) {
		return
	}
	if _, ok, err := s.states.store.Take(p, id); ok || err != nil {
		s.states.count[dropLost].Add(1)
	}
}

// woke notes that the instance stands, and goes on counting where the activation before left off.
func (e *entry) woke() {
	s, now := e.silo, time.Now()
	if s.cfg.Woken != nil {
		s.cfg.Woken(e.kind.Desc.Name, now.Sub(e.waking))
	}
	u := unpack(e.taken.Uses).after(now.Sub(e.taken.Slept), 0)
	e.taken, e.waking = nil, time.Time{}
	sh := s.shard(e.lease.Identity)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e.uses += u
}

// giveUp drops a state that is of no use, once somebody was told so.
func (e *entry) giveUp() {
	if _, ok, err := e.silo.states.store.Take(cluster.PartitionOf(e.lease.Identity), e.lease.Identity); ok || err != nil {
		e.silo.states.count[dropDamaged].Add(1)
		e.silo.cfg.Log.Warn("the state of a sleeping actor was given up: the next message begins anew", "actor", e.lease.Identity)
	}
}

// Keep implements [actor.Keeper].
func (e *entry) Keep(capture func([]byte) ([]byte, error)) error {
	s, id := e.silo, e.lease.Identity
	sh := s.shard(id)
	sh.mu.Lock()
	u := e.usesAt(time.Now())
	sh.mu.Unlock()
	s.states.mu.Lock()
	if s.states.kinds[id.Kind()] == nil {
		if s.states.kinds == nil {
			s.states.kinds = make(map[string]*abi.State)
		}
		s.states.kinds[id.Kind()] = &e.kind.Desc.State
	}
	s.states.mu.Unlock()

	b := s.states.buffer()
	defer s.states.release(b)
	state, err := capture(e.kind.head((*b)[:0]))
	if err == nil {
		*b = state[:0]
		// The time is that of the last use: idleness goes on in sleep.
		err = s.states.store.Put(cluster.PartitionOf(id), &sleep.Sleeper{Identity: id, Epoch: e.lease.Epoch, Uses: u.pack(),
			Slept: e.act.LastUsed(), State: state})
	}
	if err == nil {
		s.dropLate(id, e.lease.Epoch)
	}
	if abi.CodeOf(err) == abi.ErrUnsupported { // it can never be captured
		e.plain.Store(true)
	}
	if err != nil {
		e.keptAwake(err)
	}
	return err
}

// How long an actor is left alone whose state could not be kept: twice as long each time.
const (
	firstAwake   = 10 * time.Second
	longestAwake = 10 * time.Minute
)

// keptAwake notes that the activation goes on since its state could not be kept.
func (e *entry) keptAwake(err error) {
	s := e.silo
	pause := min(firstAwake<<min(e.refusals, 6), longestAwake)
	if e.refusals++; e.refusals == 1 {
		s.cfg.Log.Warn("an actor cannot be hibernated", "actor", e.lease.Identity, "err", err)
	}
	if !e.plain.Load() {
		e.awake.Store(time.Now().Add(pause).UnixNano())
	}
	s.left(e)
	if ch := e.attempt.Swap(nil); ch != nil {
		close(*ch)
	}
}

// failing returns a channel that is closed when the state could not be kept.
func (e *entry) failing() <-chan struct{} {
	ch := make(chan struct{})
	for !e.attempt.CompareAndSwap(nil, &ch) {
		if other := e.attempt.Load(); other != nil {
			return *other
		}
	}
	return ch
}

// canSleep reports whether the activation may be hibernated now, as far as the silo knows.
func (e *entry) canSleep(now time.Time) bool {
	if e.silo.states.store == nil || !e.kind.keeps() || e.plain.Load() || e.awake.Load() > now.UnixNano() {
		return false
	}
	k, err := e.silo.cfg.Kind(e.kind.Desc.Name)
	return err == nil && k.Version == e.kind.Version
}

// expire gives up what sleeps longer than its kind keeps an actor without a message: those that slept only since room was needed.
func (s *Silo) expire(now time.Time) {
	for _, name := range s.states.keptKinds() {
		k, err := s.cfg.Kind(name)
		if err != nil || k.stays() {
			continue
		}
		s.states.store.DropKind(name, func(i sleep.Info) bool { return now.Sub(i.Slept) >= k.Idle })
	}
}
