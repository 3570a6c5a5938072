package cluster

import (
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
				c.recheck(m.View())
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
