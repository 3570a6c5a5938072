package cluster

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// pidEntry is an entry of the PID cache: where an actor's messages go. It never changes once it is in the cache.
type pidEntry struct {
	hash   uint64
	id     Identity
	route  core.Route
	target Target
	bridge PartitionBridge // that the activation was requested through; nil for another node's
	permit *permit         // of the activation's lease; nil for another node's, and where no log decides
}

// pidCache maps identities to where they are. Reading is wait-free and writes nothing that other readers touch, so a hot
// identity costs every core the same: one hash, and a probe of a table of pointers. Writers take a shard's lock. A reader may still
// see an entry for an instant after its removal; its target answers ownership_changed then.
//
// Entries of this node's activations end with them, and are as many as those. Entries of other nodes' actors, of which a node may
// call any number, are bounded: a new one takes the place of another, in the order of their hashes. Which one is used most
// is not known, since knowing would cost every reader a write; one that goes is resolved again when it is wanted, for about the
// cost of a map look-up.
type pidCache struct {
	seed   maphash.Seed
	limit  int // entries of other nodes in a shard
	shards [cacheShards]cacheShard
}

const (
	cacheShardBits = 6
	cacheShards    = 1 << cacheShardBits
	minTable       = 8
	// maxRemote is how many entries of other nodes there are at most, give or take how evenly hashes spread: about 40 MiB.
	maxRemote = 1 << 18
)

type cacheShard struct {
	table  atomic.Pointer[cacheTable]
	mu     sync.Mutex
	live   int    // entries
	used   int    // slots that are not empty: entries and tombstones
	remote int    // entries of other nodes
	hand   uint64 // the slot where the search for one to evict goes on
	_      [64 - 48]byte
}

// cacheTable is open addressing with linear probing. A slot, once filled, is emptied only where no probe needs it.
type cacheTable struct {
	slots []atomic.Pointer[pidEntry] // a power of two
}

// tombstone keeps a probe going past a removed entry. No identity equals its zero one.
var tombstone = &pidEntry{}

func newPIDCache() *pidCache {
	return &pidCache{seed: maphash.MakeSeed(), limit: maxRemote / cacheShards}
}

func (c *pidCache) hash(id Identity) uint64 {
	return maphash.String(c.seed, id.ID()) + bits.RotateLeft64(maphash.String(c.seed, id.Kind()), 23)
}

func (c *pidCache) shard(hash uint64) *cacheShard { return &c.shards[hash>>(64-cacheShardBits)] }

// get returns the entry of an identity, or nil.
func (c *pidCache) get(id Identity) *pidEntry {
	hash := c.hash(id)
	t := c.shard(hash).table.Load()
	if t == nil {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash; ; i++ {
		e := t.slots[i&mask].Load()
		if e == nil {
			return nil
		}
		if e.hash == hash && e.id == id {
			return e
		}
	}
}

// put enters e in the place of any other entry of its identity.
func (c *pidCache) put(e *pidEntry) {
	sh := c.shard(e.hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.table.Load()
	if t == nil || 4*(sh.used+1) > 3*len(t.slots) {
		t = sh.rebuild(t)
	}
	mask := uint64(len(t.slots) - 1)
	if !e.route.Local() {
		if sh.remote >= c.limit {
			sh.evict(t, e)
		}
		sh.remote++
	}
	free := -1
	for i := e.hash; ; i++ {
		at := int(i & mask)
		switch old := t.slots[at].Load(); {
		case old == nil:
			if free < 0 {
				free = at
				sh.used++
			}
			sh.live++
			t.slots[free].Store(e)
			return
		case old == tombstone:
			if free < 0 {
				free = at
			}
		case old.hash == e.hash && old.id == e.id:
			if !old.route.Local() {
				sh.remote--
			}
			t.slots[at].Store(e)
			return
		}
	}
}

// evict makes room for e, which is another node's, in the place of another such.
func (sh *cacheShard) evict(t *cacheTable, e *pidEntry) {
	mask := uint64(len(t.slots) - 1)
	for {
		at := sh.hand & mask
		sh.hand++
		old := t.slots[at].Load()
		if old == nil || old == tombstone || old.route.Local() {
			continue
		}
		if old.id != e.id { // else it is replaced
			sh.clear(t, at)
		}
		return
	}
}

// rebuild replaces t by a table that the entries fill to at most three eighths.
func (sh *cacheShard) rebuild(t *cacheTable) *cacheTable {
	size := minTable
	for 3*size < 8*(sh.live+1) {
		size *= 2
	}
	next := &cacheTable{slots: make([]atomic.Pointer[pidEntry], size)}
	mask := uint64(size - 1)
	sh.used = 0
	if t != nil {
		for i := range t.slots {
			e := t.slots[i].Load()
			if e == nil || e == tombstone {
				continue
			}
			at := e.hash & mask
			for next.slots[at].Load() != nil {
				at = (at + 1) & mask
			}
			next.slots[at].Store(e)
			sh.used++
		}
	}
	sh.table.Store(next)
	return next
}

// remove drops the entry of an identity if it is of that epoch.
func (c *pidCache) remove(id Identity, epoch abi.Epoch) {
	hash := c.hash(id)
	c.removeIf(hash, id, func(e *pidEntry) bool { return e.route.Epoch == epoch })
}

// forget drops exactly this entry.
func (c *pidCache) forget(entry *pidEntry) {
	c.removeIf(entry.hash, entry.id, func(e *pidEntry) bool { return e == entry })
}

func (c *pidCache) removeIf(hash uint64, id Identity, same func(*pidEntry) bool) {
	sh := c.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.table.Load()
	if t == nil {
		return
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash; ; i++ {
		e := t.slots[i&mask].Load()
		if e == nil {
			return
		}
		if e.hash == hash && e.id == id {
			if same(e) {
				sh.clear(t, i&mask)
				sh.shrink(t)
			}
			return
		}
	}
}

// clear empties the slot at, with a tombstone if a probe may have to go past it. Where it need not, tombstones before it
// have served their time too.
func (sh *cacheShard) clear(t *cacheTable, at uint64) {
	mask := uint64(len(t.slots) - 1)
	sh.live--
	if !t.slots[at].Load().route.Local() {
		sh.remote--
	}
	if t.slots[(at+1)&mask].Load() != nil {
		t.slots[at].Store(tombstone)
		return
	}
	t.slots[at].Store(nil)
	sh.used--
	for at = (at - 1) & mask; t.slots[at].Load() == tombstone; at = (at - 1) & mask {
		t.slots[at].Store(nil)
		sh.used--
	}
}

// shrink gives back most of a table that has been much fuller.
func (sh *cacheShard) shrink(t *cacheTable) {
	if len(t.slots) > 8*minTable && 16*sh.live < len(t.slots) {
		sh.rebuild(t)
	}
}

// recheck drops every entry that the view no longer keeps. They are among the partitions that have moved.
func (c *pidCache) recheck(v *core.View, moved *core.Moved) {
	if moved != nil {
		c.drop(moved, func(e *pidEntry) bool { return !v.Keeps(e.id.Kind(), e.route) })
	}
}

// drop drops the entries among some partitions of which stale says so.
func (c *pidCache) drop(moved *core.Moved, stale func(*pidEntry) bool) {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		if t := sh.table.Load(); t != nil {
			for at := range t.slots {
				if e := t.slots[at].Load(); e != nil && e != tombstone && moved[e.route.Partition] && stale(e) {
					sh.clear(t, uint64(at))
				}
			}
			sh.shrink(t)
		}
		sh.mu.Unlock()
	}
}

// len returns how many entries there are.
func (c *pidCache) len() int {
	n := 0
	for i := range c.shards {
		c.shards[i].mu.Lock()
		n += c.shards[i].live
		c.shards[i].mu.Unlock()
	}
	return n
}
