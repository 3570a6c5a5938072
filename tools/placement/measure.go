package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// figures are what one strategy does with clusters of one size, on average over some clusters. Shares are of all actors or partitions.
type figures struct {
	strategy string
	nodes    int
	weights  bool // of 1 to 4; then max is that of a node relative to its weight

	maxPartitions, maxActors float64 // what the node with the most has, relative to the mean
	none                     float64 // nodes that have nothing, share of all

	// What a node that joins or leaves moves, relative to its share: 1 is what cannot be less on average. A join is a leave seen from the other
	// side, as placements do not depend on what was before.
	moveMean, moveMax float64 // partitions
	moveActors        float64 // actors, on average
	// extra is the share of what was moved that need not have been: from a node that stays to one that was there before.
	extra float64

	place time.Duration // to compute a table anew
}

// population is how many actors each partition has.
type population struct {
	perPartition [core.Partitions]int
	total        int
	some         []abi.Identity // for lookups
}

// populate makes n actors of names as people give them.
func populate(n int) (*population, error) {
	p := &population{total: n}
	for i := range n {
		id, err := abi.NewIdentity("customer", "C-"+strconv.Itoa(100_000+i))
		if err != nil {
			return nil, err
		}
		p.perPartition[core.PartitionOf(id)]++
		if len(p.some) < 1024 {
			p.some = append(p.some, id)
		}
	}
	return p, nil
}

// cluster makes members whose names depend on the seed.
func cluster(seed uint64, n int, weights bool) []core.Member {
	rng := rand.New(rand.NewPCG(seed, 7))
	members := make([]core.Member, n)
	for i := range members {
		members[i].ID = core.NodeID(fmt.Sprintf("node-%05d-%08x", i, rng.Uint32())) // sorted
		if weights {
			members[i].Weight = uint16(1 + i%4)
		}
	}
	return members
}

// measure places the population on several clusters of n nodes, and has nodes leave and join each of them.
func measure(s core.Strategy, n int, weights bool, clusters, changes int, p *population) figures {
	f := figures{strategy: s.Name(), nodes: n, weights: weights}
	tries := 0
	moves, extra := 0, 0
	for seed := range clusters {
		all := cluster(uint64(seed), n+1, weights)
		rng := rand.New(rand.NewPCG(uint64(seed), 8))
		var owners, after [core.Partitions]uint16
		s.Place(all[:n], &owners)
		maxParts, maxActors, none := p.balance(all[:n], &owners)
		f.maxPartitions += maxParts / float64(clusters)
		f.maxActors += maxActors / float64(clusters)
		f.none += none / float64(clusters)
		for range changes {
			tries++
			// Somebody leaves n+1, or joins n.
			gone := rng.IntN(n + 1)
			s.Place(all, &owners)
			rest := append(append([]core.Member(nil), all[:gone]...), all[gone+1:]...)
			s.Place(rest, &after)
			parts, actors, needless := p.moved(all, rest, all[gone].ID, &owners, &after)
			moves += parts
			extra += needless
			share, fair := float64(parts)/core.Partitions, fairShare(all, gone)
			f.moveMean += share / fair
			f.moveMax = max(f.moveMax, share/fair)
			f.moveActors += float64(actors) / float64(p.total) / fair
		}
	}
	f.place = timePlace(s, cluster(0, n, weights))
	f.moveMean /= float64(tries)
	f.moveActors /= float64(tries)
	if moves > 0 {
		f.extra = float64(extra) / float64(moves)
	}
	return f
}

// timePlace is how long a table takes, the quickest of some.
func timePlace(s core.Strategy, members []core.Member) time.Duration {
	var owners [core.Partitions]uint16
	best := time.Duration(0)
	for i := range 5 {
		began := time.Now()
		s.Place(members, &owners)
		if took := time.Since(began); i == 0 || took < best {
			best = took
		}
	}
	return best
}

// timeLookup is how long it takes from an identity to its node, the same for every strategy: the table is there.
func (p *population) timeLookup() time.Duration {
	m := core.NewMachine(core.Config{Self: "n"})
	topology, err := core.NewTopology(core.Member{ID: "n", Authority: "h:1"})
	if err != nil {
		return 0
	}
	m.Step(&core.Input{Type: core.TopologyChanged, Topology: topology}, 0)
	m.Step(&core.Input{Type: core.SetKinds, Node: "n", Kinds: []string{"customer"}}, 0)
	view, found := m.View(), 0
	const rounds = 1000
	began := time.Now()
	for range rounds {
		for _, id := range p.some {
			if owner, _ := view.OwnerOf(id); owner != nil {
				found++
			}
		}
	}
	return time.Since(began) / time.Duration(max(found, 1))
}

// fairShare is what a member should have of everything.
func fairShare(all []core.Member, i int) float64 {
	total := 0
	for _, m := range all {
		total += int(max(m.Weight, 1))
	}
	return float64(max(all[i].Weight, 1)) / float64(total)
}

// balance says how much the members with the most have, relative to their share, and how many have nothing.
func (p *population) balance(all []core.Member, owners *[core.Partitions]uint16) (partitions, actors, none float64) {
	counts, people := make([]int, len(all)), make([]int, len(all))
	for part, o := range owners {
		counts[o]++
		people[o] += p.perPartition[part]
	}
	for i := range all {
		fair := fairShare(all, i)
		partitions = max(partitions, float64(counts[i])/core.Partitions/fair)
		actors = max(actors, float64(people[i])/float64(p.total)/fair)
		if counts[i] == 0 {
			none += 1 / float64(len(all))
		}
	}
	return partitions, actors, none
}

// moved compares two placements of which the second lacks one member: how much has another owner, and how much of that was not the
// missing member's.
func (p *population) moved(all, rest []core.Member, gone core.NodeID, before, after *[core.Partitions]uint16) (partitions, actors, needless int) {
	for part := range before {
		was := all[before[part]].ID
		if was == rest[after[part]].ID {
			continue
		}
		partitions++
		actors += p.perPartition[part]
		if was != gone {
			needless++
		}
	}
	return partitions, actors, needless
}
