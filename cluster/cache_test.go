package cluster

import (
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

func entryOf(c *pidCache, who Identity, epoch uint64, m *Node) *pidEntry {
	return &pidEntry{hash: c.hash(who), id: who,
		route: core.Route{Member: m, Epoch: abi.Epoch{Index: epoch}, Partition: core.PartitionOf(who)}}
}

// TestPIDCacheAgainstAModel drives the cache and a map side by side. All identities share one shard and many share
// a probe sequence, so that tombstones and rebuilds come into play.
func TestPIDCacheAgainstAModel(t *testing.T) {
	topologies := []*Topology{must(NewTopology(self)), must(NewTopology(self, peer))}
	rapid.Check(t, func(t *rapid.T) {
		c := newPIDCache()
		model := map[Identity]*pidEntry{}
		spread := uint64(rapid.IntRange(1, 64).Draw(t, "hashes"))
		ids := make([]Identity, 40)
		hash := map[Identity]uint64{}
		for i := range ids {
			ids[i] = id("k/" + strconv.Itoa(i))
			hash[ids[i]] = uint64(i) % spread
		}
		get := func(who Identity) *pidEntry { // get, with the test's hashes
			tb := c.shard(hash[who]).table.Load()
			if tb == nil {
				return nil
			}
			for i := hash[who]; ; i++ {
				e := tb.slots[i&uint64(len(tb.slots)-1)].Load()
				if e == nil || e.id == who {
					return e
				}
			}
		}
		for step := range rapid.IntRange(0, 200).Draw(t, "steps") {
			who := rapid.SampledFrom(ids).Draw(t, "id")
			old := model[who]
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			case 0, 1, 2, 3, 4:
				m := &self
				if rapid.Bool().Draw(t, "remote") {
					m = &peer
				}
				e := entryOf(c, who, uint64(step), m)
				e.hash = hash[who]
				c.put(e)
				model[who] = e
			case 5, 6:
				if old != nil {
					c.removeIf(hash[who], who, func(e *pidEntry) bool { return e == old })
					delete(model, who)
				}
			case 7:
				stale := entryOf(c, who, 1<<40, &self)
				stale.hash = hash[who]
				c.forget(stale) // another entry of the identity: nothing goes
			case 8:
				c.removeIf(hash[who], who, func(e *pidEntry) bool { return e.route.Epoch.Index == 1<<40 })
			case 9:
				m := core.NewMachine(core.Config{Self: "n1"})
				m.Step(&core.Input{Type: core.SetKinds, Node: "n1", Kinds: []string{"k"}}, 0)
				m.Step(&core.Input{Type: core.SetKinds, Node: "n2", Kinds: []string{"k"}}, 0)
				m.Step(&core.Input{Type: core.TopologyChanged, Topology: rapid.SampledFrom(topologies).Draw(t, "topology")}, 0)
				c.recheck(m.View(), everywhere())
				for who, e := range model {
					if !m.View().Keeps("k", e.route) {
						delete(model, who)
					}
				}
			}
			for _, who := range ids {
				if get(who) != model[who] {
					t.Fatalf("step %d: %s is %v, want %v", step, who, get(who), model[who])
				}
			}
			if c.len() != len(model) {
				t.Fatalf("len %d, want %d", c.len(), len(model))
			}
			sh := c.shard(0)
			if tb := sh.table.Load(); tb != nil {
				used := 0
				for i := range tb.slots {
					if tb.slots[i].Load() != nil {
						used++
					}
				}
				if used != sh.used || used == len(tb.slots) {
					t.Fatalf("%d slots used, counted %d of %d", used, sh.used, len(tb.slots))
				}
			}
		}
	})
}

func TestPIDCacheFindsManyAndShrinks(t *testing.T) {
	c := newPIDCache()
	const n = 50_000
	for i := range n {
		c.put(entryOf(c, id("k/"+strconv.Itoa(i)), uint64(i), &self))
	}
	for i := range n {
		who := id("k/" + strconv.Itoa(i))
		if e := c.get(who); e == nil || e.id != who {
			t.Fatalf("%s is %v", who, e)
		}
		if i%100 != 0 {
			c.remove(who, abi.Epoch{Index: uint64(i)})
		}
		c.remove(who, abi.Epoch{Index: n}) // of another epoch: stays
	}
	if c.len() != n/100 || c.get(id("k/1")) != nil || c.get(id("k/100")) == nil {
		t.Errorf("%d left", c.len())
	}
	slots := 0
	for i := range c.shards {
		slots += len(c.shards[i].table.Load().slots)
	}
	if slots > 20*c.len() {
		t.Errorf("%d slots for %d entries", slots, c.len())
	}
}

// Readers under way while writers come and go: an entry that nobody removes is always found, and what is found is right.
func TestPIDCacheConcurrently(t *testing.T) {
	c := newPIDCache()
	var fixed []Identity
	for i := range 200 {
		fixed = append(fixed, id("k/fixed"+strconv.Itoa(i)))
		c.put(entryOf(c, fixed[i], 1, &self))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				for _, who := range fixed {
					if e := c.get(who); e == nil || e.id != who {
						t.Errorf("%s is %v", who, e)
						return
					}
				}
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := range 5_000 {
				who := id("k/" + strconv.Itoa(w) + "-" + strconv.Itoa(i%700))
				c.put(entryOf(c, who, uint64(i), &self))
				if i%3 != 0 {
					c.remove(who, abi.Epoch{Index: uint64(i)})
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	wg.Wait()
}

// However many actors of other nodes a node calls, it remembers a bounded number; those of its own are not touched.
func TestPIDCacheBoundsWhatOtherNodesHave(t *testing.T) {
	c := newPIDCache()
	c.limit /= 8 // for the time it takes
	const own, most = 5_000, maxRemote / 8
	for i := range own {
		c.put(entryOf(c, id("k/own"+strconv.Itoa(i)), uint64(i+1), &self))
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const calls = 2 * most
	for i := range calls {
		who := id("k/other" + strconv.Itoa(i))
		c.put(entryOf(c, who, 0, &peer))
		if e := c.get(who); e == nil {
			t.Fatalf("%s is not there", who)
		}
		if i%7 == 0 { // replaced, not added
			c.put(entryOf(c, who, 0, &peer))
		}
	}
	after := heap()
	n := c.len() - own
	if n > most || n < most*9/10 {
		t.Errorf("%d of %d are remembered", n, calls)
	}
	for i := range own {
		who := id("k/own" + strconv.Itoa(i))
		if c.get(who) == nil {
			t.Fatalf("%s went", who)
		}
		c.remove(who, abi.Epoch{Index: uint64(i + 1)})
	}
	sum := 0
	for i := range c.shards {
		sum += c.shards[i].remote
	}
	if sum != n || c.len() != n {
		t.Errorf("%d counted, %d there, want %d", sum, c.len(), n)
	}
	t.Logf("%d entries, %d bytes each", n, (after-before)/uint64(n))
	m := core.NewMachine(core.Config{Self: "n1"})
	c.recheck(m.View(), everywhere())
	for i := range c.shards {
		if c.shards[i].remote != 0 || c.shards[i].live != 0 {
			t.Fatalf("%d are left, %d of other nodes", c.shards[i].live, c.shards[i].remote)
		}
	}
}

// A shard's bound holds through every order of putting, replacing and removing.
func TestPIDCacheBoundAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newPIDCache()
		c.limit = rapid.IntRange(1, 5).Draw(t, "limit")
		model := map[Identity]*pidEntry{}
		spread := uint64(rapid.IntRange(1, 64).Draw(t, "hashes"))
		for step := range rapid.IntRange(0, 150).Draw(t, "steps") {
			i := rapid.IntRange(0, 15).Draw(t, "id")
			who, hash := id("k/"+strconv.Itoa(i)), uint64(i)%spread
			if rapid.IntRange(0, 3).Draw(t, "op") == 0 {
				c.removeIf(hash, who, func(*pidEntry) bool { return true })
				delete(model, who)
			} else {
				e := entryOf(c, who, uint64(step)*uint64(rapid.IntRange(0, 1).Draw(t, "local")), &self)
				e.hash = hash
				c.put(e)
				model[who] = e
			}
			sh, remote, live := c.shard(0), 0, map[Identity]bool{}
			for i := range sh.table.Load().all() {
				e := sh.table.Load().slots[i].Load()
				if e == nil || e == tombstone {
					continue
				}
				if model[e.id] != e || live[e.id] {
					t.Fatalf("step %d: %s is %v, want %v", step, e.id, e, model[e.id])
				}
				live[e.id] = true
				if !e.route.Local() {
					remote++
				}
			}
			if remote > c.limit || remote != sh.remote || len(live) != sh.live {
				t.Fatalf("step %d: %d remote of %d, counted %d; %d live, counted %d", step, remote, c.limit, sh.remote, len(live), sh.live)
			}
			for who, e := range model {
				if !live[who] {
					if e.route.Local() {
						t.Fatalf("step %d: %s went", step, who)
					}
					delete(model, who)
				}
			}
		}
	})
}

// all ranges over the slots; nil has none.
func (t *cacheTable) all() []struct{} {
	if t == nil {
		return nil
	}
	return make([]struct{}, len(t.slots))
}

// everywhere is a change of every partition.
func everywhere() *core.Moved {
	m := new(core.Moved)
	for p := range m {
		m[p] = true
	}
	return m
}
