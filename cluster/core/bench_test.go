package core

import (
	"fmt"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

// big is a machine among 20 members that each host 200 kinds, with its share of n actors of one of them.
func big(b *testing.B, n int) (*Machine, []Member) {
	m := NewMachine(Config{Self: "n0"})
	var members []Member
	for i := range 20 {
		members = append(members, Member{ID: NodeID(fmt.Sprintf("n%d", i)), Authority: fmt.Sprintf("10.0.0.%d:7701", i), Boot: uint64(i + 1)})
		m.Step(&Input{Type: SetKinds, Node: members[i].ID, Kinds: manyKinds()}, 0)
	}
	m.Step(&Input{Type: TopologyChanged, Topology: must(NewTopology(members...))}, 0)
	m.Step(&Input{Type: Start}, 0)
	m.TakeEvents(nil)
	for i, got := 0, 0; got < n; i++ {
		id := must(abi.ParseIdentity(fmt.Sprintf("kind%03d/%d", i%200, i)))
		e := m.Step(&Input{Type: Resolve, Identity: id}, 0)[0]
		if e.Type == Activate {
			m.Step(&Input{Type: Activated, Lease: e.Lease, Handle: got}, 0)
			got++
		}
	}
	return m, members
}

func manyKinds() (kinds []string) {
	for i := range 200 {
		kinds = append(kinds, fmt.Sprintf("kind%03d", i))
	}
	return kinds
}

// BenchmarkClusterChange is what a change of the cluster costs a node with 100,000 leases, 200 kinds and 20 members: when it
// concerns nothing that the node has, when the kinds of a node change, and when a node leaves and joins.
func BenchmarkClusterChange(b *testing.B) {
	step := func(m *Machine, in *Input) {
		m.Step(in, 0)
		m.TakeEvents(nil)
	}
	b.Run("block-a-stranger", func(b *testing.B) {
		m, _ := big(b, 100_000)
		for b.Loop() {
			step(m, &Input{Type: Block, Node: "stranger"})
			step(m, &Input{Type: Unblock, Node: "stranger"})
		}
	})
	b.Run("one-kind-comes-and-goes", func(b *testing.B) {
		m, _ := big(b, 100_000)
		for b.Loop() {
			step(m, &Input{Type: SetKinds, Node: "n7", Kinds: manyKinds()[1:]})
			step(m, &Input{Type: SetKinds, Node: "n7", Kinds: manyKinds()})
		}
	})
	b.Run("a-node-leaves-and-joins", func(b *testing.B) {
		m, members := big(b, 100_000)
		less, all := must(NewTopology(members[:19]...)), must(NewTopology(members...))
		for b.Loop() {
			step(m, &Input{Type: TopologyChanged, Topology: less})
			step(m, &Input{Type: SetKinds, Node: "n19", Kinds: manyKinds()})
			step(m, &Input{Type: TopologyChanged, Topology: all})
		}
	})
}

// BenchmarkPlace is what a strategy costs when the members change: one table, for all kinds with the same hosts. What a lookup costs is
// in BenchmarkOwner, and does not depend on the strategy.
func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{5, 100, 1000} {
		nodes := make([]Member, n)
		for i := range nodes {
			nodes[i] = Member{ID: NodeID(fmt.Sprintf("node-%d", i)), Weight: uint16(1 + i%3)}
		}
		for _, s := range Strategies() {
			b.Run(fmt.Sprintf("%s/%d", s.Name(), n), func(b *testing.B) {
				var owners [Partitions]uint16
				for b.Loop() {
					s.Place(nodes, &owners)
				}
			})
		}
	}
}

// BenchmarkOwner is one lookup: from an identity to the member that owns it.
func BenchmarkOwner(b *testing.B) {
	m, _ := big(b, 0)
	v, id := m.View(), must(abi.ParseIdentity("kind007/somebody@example.com"))
	for b.Loop() {
		if owner, _ := v.OwnerOf(id); owner == nil {
			b.Fatal("no owner")
		}
	}
}
