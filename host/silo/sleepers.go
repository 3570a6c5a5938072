package silo

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
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
	// Put keeps a sleeper in place of an earlier one of its identity; one of a later epoch stays, and the error is [sleep.ErrNewer]. The
	// state is copied.
	Put(p uint16, z *sleep.Sleeper) error
	// PutBack is Put for what was taken, or a note in its place: a store that is full takes it all the same.
	PutBack(p uint16, z *sleep.Sleeper) error
	// Take removes a sleeper and returns it. An error says that there was one and that it is lost, or that the store is closed; with
	// [sleep.ErrNewer] there is one of a later epoch than last, and it stays.
	Take(p uint16, id abi.Identity, last abi.Epoch) (z sleep.Sleeper, ok bool, err error)
	// Get is Take that changes nothing.
	Get(p uint16, id abi.Identity) (z sleep.Sleeper, ok bool, err error)
	Has(p uint16, id abi.Identity) bool
	// Partition returns all of a partition.
	Partition(p uint16) []sleep.Info
	// Stage returns a place for sleepers that are not this node's own yet.
	Stage() *sleep.Stage
	// DropKind forgets those of a kind for which which says so, all with nil, and returns how many.
	DropKind(kind string, which func(sleep.Info) bool) int
	// DropKinds is DropKind in one partition, of several kinds. An error says that there may be more of them.
	DropKinds(p uint16, kinds map[string]func(sleep.Info) bool) (int, error)
	List(kind, after string, limit int) (page []sleep.Info, more bool)
	Stats() sleep.Stats
}

// states is what the silo knows of the actors that sleep, beside the store.
type states struct {
	store Sleepers // nil: nothing is kept

	mu    sync.Mutex                 // guards changes of the next two
	lost  atomic.Pointer[losses]     // which epochs are out of date; nil: none
	kinds map[string]uint64          // of which something may be kept, and how often kept has said so; guarded by mu
	moved map[string]map[uint64]bool // by kind, the hashes of the versions that left what came with moves, guarded by mu
	timed timed
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
func (k *Kind) of(state []byte) bool { return versionOf(state) == xxhash.Sum64String(k.Version) }

// versionOf returns the hash of the version that left a state with all of its head.
func versionOf(state []byte) uint64 { return binary.BigEndian.Uint64(state[1:]) }

// here reports whether a state has all of its head, and is no note of one that is lost.
func here(state []byte) bool { return len(state) >= headLen && state[0] == headHere }

// note is what lies in the place of a state that is lost, for whoever asks for the actor first.
func (s *Silo) note(id abi.Identity, epoch abi.Epoch, why error) sleep.Sleeper {
	return sleep.Sleeper{Identity: id, Epoch: epoch, Slept: s.steady(time.Now()), State: append([]byte{headGone}, why.Error()...)}
}

// outdated reports whether what was left under a lease of that epoch is out of date, since the node has lost the actor meanwhile.
func (s *states) outdated(id abi.Identity, p uint16, epoch abi.Epoch) bool {
	return s.outdatedKind(id.Kind(), p, epoch)
}

// outdatedKind is outdated of any actor of a kind.
func (s *states) outdatedKind(kind string, p uint16, epoch abi.Epoch) bool {
	l := s.lost.Load()
	if l == nil {
		return false
	}
	if until(l.all, epoch) {
		return true
	}
	parts := l.kind[kind]
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

// kept notes that something of a kind is kept. It comes after the Put, or a walk that was too early for it could have the kind forgotten, and
// before a look whether it is outdated, since who drops what is lost goes by the kinds.
func (s *states) kept(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds == nil {
		s.kinds = make(map[string]uint64)
	}
	s.kinds[kind]++
}

// forgetKind notes that a walk has found nothing of a kind, unless something was kept since keptKinds said so often. There is one such walk
// at a time.
func (s *states) forgetKind(kind string, often uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds[kind] == often {
		delete(s.kinds, kind)
	}
}

// comes notes that something of a kind comes with a move, and which versions left it. There are as many of them as were deployed while the
// node lives.
func (s *states) comes(kind string, versions map[uint64]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moved == nil {
		s.moved = make(map[string]map[uint64]bool)
	}
	if s.moved[kind] == nil {
		s.moved[kind] = make(map[uint64]bool)
	}
	for version := range versions {
		s.moved[kind][version] = true
	}
}

// came reports whether something of a kind has come with a move that this version of it left.
func (s *states) came(kind string, version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved[kind][version]
}

// keptKinds returns the kinds of which something may be kept, and how often that was noted.
func (s *states) keptKinds() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.kinds)
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
		kinds = slices.Sorted(maps.Keys(s.states.keptKinds()))
	}
	if loss.Planned {
		s.dropGiven(loss)
		return
	}
	s.dropOutdated(kinds)
}

// dropGiven drops what another node has by now. What the node had lost before counts as such.
func (s *Silo) dropGiven(loss cluster.Loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shutting {
		return
	}
	s.work.Go(func() {
		n := s.states.store.DropKind(loss.Kind, func(i sleep.Info) bool {
			l := s.states.lost.Load()
			return until(loss.Epoch, i.Epoch) && !until(l.all, i.Epoch) && (loss.Partitions == nil || loss.Partitions[cluster.PartitionOf(i.Identity)])
		})
		if n > 0 {
			s.cfg.Log.Debug("sleeping actors are with another node now", "kind", loss.Kind, "actors", n)
		}
		s.dropOutdated([]string{loss.Kind})
	})
}

// dropOutdated gives up what of some kinds is out of date.
func (s *Silo) dropOutdated(kinds []string) {
	s.drop("this node lost sleeping actors", dropLost, kinds, func(i sleep.Info) bool {
		return s.states.outdated(i.Identity, cluster.PartitionOf(i.Identity), i.Epoch)
	})
}

// Replaced says that a kind has another version, or none, since a time before which no actor of it was used: what actors left under the
// one before is given up.
func (s *Silo) Replaced(kind string, since time.Time) {
	if s.states.store == nil {
		return
	}
	k, err := s.cfg.Kind(kind)
	version := uint64(0)
	if err == nil {
		version = xxhash.Sum64String(k.Version)
	}
	// What the new version keeps was used later. Times are kept to the second; what is left of this one shows when it is to wake.
	since = s.steady(since).Truncate(time.Second)
	older := func(i sleep.Info) bool {
		if !i.Slept.Before(since) {
			return false
		}
		// What came with a move was used elsewhere and may be of just this version. It may come at any moment, also now.
		if err != nil || !s.states.came(kind, version) {
			return true
		}
		z, ok, err := s.states.store.Get(cluster.PartitionOf(i.Identity), i.Identity)
		return err != nil || ok && here(z.State) && !k.of(z.State)
	}
	s.drop("sleeping actors were of the module's version before, which the new one cannot read: their state is given up", dropReplaced, []string{kind},
		older)
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
	p := e.part
	z, ok, err := s.states.store.Take(p, id, e.lease.Epoch)
	s.states.timed.remove(id)
	switch {
	case errors.Is(err, sleep.ErrNewer): // it came with the actor, when that was this node's again
		return nil, abi.NewError(abi.ErrOwnershipChanged, "this node has had and lost "+id.Key()+" since")
	case err != nil:
		// It is gone, and whoever asks has to hear of it: a note of it lies in its place until somebody did.
		s.cfg.Log.Error("the state of a sleeping actor is lost", "actor", id, "err", err)
		z = s.note(id, e.lease.Epoch, err)
	case !ok:
	case s.states.outdated(id, p, z.Epoch):
		s.states.count[dropLost].Add(1)
		ok = false
	case here(z.State) && !e.kind.of(z.State):
		s.states.count[dropReplaced].Add(1)
		s.cfg.Log.Warn("a sleeping actor was of another version of its module: its state is given up", "actor", id)
		ok = false
	case !e.kind.stays() && s.steady(time.Now()).Sub(z.Slept) >= e.kind.Idle: // it would have been passivated by now
		ok = false
	}
	switch {
	case err == nil && !ok:
		if s.states.outdated(id, p, e.lease.Epoch) { // else it would begin from nothing, for a moment, where it is not at home
			return nil, abi.NewError(abi.ErrOwnershipChanged, "this node has lost "+id.Key())
		}
		return nil, nil
	case !here(z.State):
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
	if err := s.states.store.PutBack(e.part, z); err != nil {
		s.cfg.Log.Error("a sleeping actor could not be woken, and its state not be kept", "actor", z.Identity, "err", why, "kept", err)
		lost := s.note(z.Identity, z.Epoch, err)
		if errors.Is(err, sleep.ErrNewer) || s.states.store.PutBack(e.part, &lost) != nil {
			s.states.count[dropDamaged].Add(1)
			return
		}
	}
	s.states.kept(z.Identity.Kind())
	if actor.Untried(why) && chunkOf(z.State) == chunkTimed {
		s.states.timed.add(z.Identity)
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
	if s.states.remove(p, id, epoch) {
		s.states.count[dropLost].Add(1)
	}
}

// remove drops what was kept under an epoch up to last, and reports whether there was something.
func (s *states) remove(p uint16, id abi.Identity, last abi.Epoch) bool {
	_, ok, err := s.store.Take(p, id, last)
	return ok || err != nil && !errors.Is(err, sleep.ErrNewer)
}

// woke notes that the instance stands, and goes on counting where the activation before left off.
func (e *entry) woke() {
	s, now := e.silo, time.Now()
	if s.cfg.Woken != nil {
		s.cfg.Woken(e.kind.Desc.Name, now.Sub(e.waking))
	}
	u := unpack(e.taken.Uses).after(s.steady(now).Sub(e.taken.Slept), 0)
	e.taken, e.waking = nil, time.Time{}
	sh := s.shard(e.lease.Identity)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e.uses += u
}

// giveUp drops a state that is of no use, once somebody was told so.
func (e *entry) giveUp() {
	if e.silo.states.remove(e.part, e.lease.Identity, e.lease.Epoch) {
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

	b := s.states.buffer()
	defer s.states.release(b)
	state, err := capture(e.kind.head((*b)[:0]))
	if err == nil {
		*b = state[:0]
		// The time is that of the last use: idleness goes on in sleep.
		err = s.states.store.Put(e.part, &sleep.Sleeper{Identity: id, Epoch: e.lease.Epoch, Uses: u.pack(),
			Slept: s.steady(e.act.LastUsed()), State: state})
	}
	if err == nil {
		s.states.kept(id.Kind())
		if chunkOf(state) == chunkTimed {
			s.states.timed.add(id)
		}
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
		until := time.Now().Add(pause)
		e.awake.Store(&until)
	}
	s.left(e)
	e.refusal.Store(&err)
}

// Stays implements [actor.Keeper]. Before it a look at the activation still shows that it ends.
func (e *entry) Stays() { e.settled() }

// settled tells who waits for the activation's end that it goes on.
func (e *entry) settled() {
	if ch := e.attempt.Swap(nil); ch != nil {
		close(*ch)
	}
}

// failing returns a channel that is closed when the state could not be kept and the activation goes on. Whoever waits asks for it before it looks
// whether the activation ends: after that look it may be too late.
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
	return !e.leftAlone(now) && e.canEverSleep()
}

// leftAlone reports whether the activation is left alone for now, since its state could not be kept.
func (e *entry) leftAlone(now time.Time) bool {
	until := e.awake.Load()
	return until != nil && until.After(now)
}

// steady is a time of this process's monotonic clock as the wall clock would show it, had nobody set it since the silo began. By it sleepers' times
// are kept and compared: a clock that is set makes nobody older or younger.
func (s *Silo) steady(t time.Time) time.Time { return s.began.Round(0).Add(t.Sub(s.began)) }

// canEverSleep is canSleep, though its state could not be kept lately.
func (e *entry) canEverSleep() bool {
	if e.silo.states.store == nil || !e.kind.keeps() || e.plain.Load() {
		return false
	}
	k, err := e.silo.cfg.Kind(e.kind.Desc.Name)
	return err != nil || k.Version == e.kind.Version // one that this node has no more may come back, here or, with a move, elsewhere
}

// startExpiry has what sleeps for too long given up, on a goroutine of its own: that reads all of the spill file. It does nothing while an
// earlier one is at it.
func (s *Silo) startExpiry(now time.Time) {
	if !s.expiring.CompareAndSwap(false, true) {
		return
	}
	s.work.Go(func() {
		defer s.expiring.Store(false)
		s.expire(now)
	})
}

// expire gives up what sleeps longer than its kind keeps an actor without a message: those that slept only since room was needed. Kinds of
// which nothing sleeps are not looked for again before something does.
func (s *Silo) expire(now time.Time) {
	kept := s.states.keptKinds()
	kinds, found := make(map[string]func(sleep.Info) bool), make(map[string]bool)
	for name := range kept {
		k, err := s.cfg.Kind(name)
		if err != nil || k.stays() {
			continue
		}
		kinds[name] = func(i sleep.Info) bool {
			found[name] = true
			return s.steady(now).Sub(i.Slept) >= k.Idle
		}
	}
	if len(kinds) == 0 {
		return
	}
	var missed error
	for p := range uint16(cluster.Partitions) {
		select {
		case <-s.quit:
			return
		default:
		}
		_, err := s.states.store.DropKinds(p, kinds)
		missed = cmp.Or(missed, err)
	}
	for name := range kinds {
		if !found[name] && missed == nil {
			s.states.forgetKind(name, kept[name])
		}
	}
}
