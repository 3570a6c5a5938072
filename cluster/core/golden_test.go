package core

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/wasilo/wasilo/abi"
)

// The values here are part of the protocol between nodes, and partitions of what a cluster has stored: a change of any of
// them breaks every cluster that exists.

func TestGoldenPartitions(t *testing.T) {
	for key, want := range map[string]Partition{
		"counter/a":                     162,
		"counter/b":                     318,
		"bank/alice":                    715,
		"chat/room/with/slashes":        610,
		"user/日本語":                      738,
		"a/0":                           877,
		"x/" + fmt.Sprintf("%0255d", 7): 460,
	} {
		if got := PartitionOf(must(abi.ParseIdentity(key))); got != want {
			t.Errorf("PartitionOf(%.40s) = %d, want %d", key, got, want)
		}
	}
}

func TestGoldenTopologyHash(t *testing.T) {
	topology := must(NewTopology(Member{ID: "n2", Authority: "[::1]:7702"}, Member{ID: "n1", Authority: "127.0.0.1:7701", Boot: 9}))
	if got, want := topology.Hash(), uint64(0xd0b101971482184e); got != want {
		t.Errorf("hash = %#x, want %#x", got, want)
	}
}

func TestGoldenTopologyHashWithWeights(t *testing.T) {
	topology := must(NewTopology(Member{ID: "n1", Authority: "h:1", Weight: 3}, Member{ID: "n2", Authority: "h:2", Weight: 1}))
	if got, want := topology.Hash(), uint64(0xd8262628640e72e6); got != want {
		t.Errorf("hash = %#x, want %#x", got, want)
	}
}

// testdata/placement.txt has the owners of every partition, by strategy, among a few clusters.
func TestGoldenPlacement(t *testing.T) {
	datadriven.RunTest(t, "testdata/placement.txt", func(t *testing.T, d *datadriven.TestData) string {
		s, ok := StrategyNamed(d.Cmd)
		if !ok {
			t.Fatalf("%s: no strategy %q", d.Pos, d.Cmd)
		}
		var nodes []Member
		for _, arg := range d.CmdArgs {
			m := Member{ID: NodeID(arg.Key)}
			if len(arg.Vals) > 0 {
				m.Weight = uint16(must(strconv.ParseUint(arg.Vals[0], 10, 16)))
			}
			nodes = append(nodes, m)
		}
		var owners [Partitions]uint16
		s.Place(nodes, &owners)
		var out strings.Builder
		counts := make([]int, len(nodes))
		for p, o := range owners {
			counts[o]++
			fmt.Fprintf(&out, "%x", o)
			if p%128 == 127 {
				out.WriteByte('\n')
			}
		}
		fmt.Fprintln(&out, counts)
		return out.String()
	})
}

func TestGoldenRendezvous(t *testing.T) {
	nodes := membersNamed("n1", "n2", "n3", "n4", "n5")
	var owners [Partitions]uint16
	Rendezvous{}.Place(nodes, &owners)
	sum := fnv.New64a()
	for _, o := range owners {
		fmt.Fprintf(sum, "%s\n", nodes[o].ID)
	}
	if got, want := sum.Sum64(), uint64(0x04f5ae2b01cf1636); got != want {
		t.Errorf("owners hash to %#x, want %#x; the first are %v", got, want, owners[:8])
	}
}

// membersNamed are members that strategies are asked about.
func membersNamed(ids ...NodeID) []Member {
	members := make([]Member, len(ids))
	for i, id := range ids {
		members[i].ID = id
	}
	return members
}
