package core

import "github.com/cespare/xxhash/v2"

// Strategy spreads partitions over nodes. It must depend on nothing but the ids given, and moving one node in or out should
// move few partitions.
type Strategy interface {
	// Name is what configuration and diagnostics call it.
	Name() string
	// Place sets owners[p] to the index in nodes of the owner of partition p. nodes is sorted and not empty.
	Place(nodes []NodeID, owners *[Partitions]uint16)
}

// Rendezvous is highest-random-weight hashing: each partition goes to the node whose hash with it is largest, so a node that
// leaves gives up only its own partitions and one that joins takes only what becomes its own.
type Rendezvous struct{}

// Name returns "rendezvous".
func (Rendezvous) Name() string { return "rendezvous" }

// Place implements [Strategy]. Equal scores go to the smaller id.
func (Rendezvous) Place(nodes []NodeID, owners *[Partitions]uint16) {
	seeds := make([]uint64, len(nodes))
	for i, id := range nodes {
		seeds[i] = xxhash.Sum64String(string(id))
	}
	for p := range owners {
		best, top := 0, uint64(0)
		for i, seed := range seeds {
			if s := mix(seed + uint64(p+1)*0x9e3779b97f4a7c15); i == 0 || s > top {
				best, top = i, s
			}
		}
		owners[p] = uint16(best)
	}
}

// mix is the finaliser of SplitMix64 (Stafford's variant 13): a bijection whose every output bit depends on every input bit.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
