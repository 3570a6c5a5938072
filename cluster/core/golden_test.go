package core

import (
	"fmt"
	"hash/fnv"
	"testing"

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

func TestGoldenRendezvous(t *testing.T) {
	nodes := []NodeID{"n1", "n2", "n3", "n4", "n5"}
	var owners [Partitions]uint16
	Rendezvous{}.Place(nodes, &owners)
	sum := fnv.New64a()
	for _, o := range owners {
		fmt.Fprintf(sum, "%s\n", nodes[o])
	}
	if got, want := sum.Sum64(), uint64(0x04f5ae2b01cf1636); got != want {
		t.Errorf("owners hash to %#x, want %#x; the first are %v", got, want, owners[:8])
	}
}
