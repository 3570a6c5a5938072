package core

import "github.com/cespare/xxhash/v2"

// Strategy spreads partitions over nodes. All nodes of a cluster need the same one. It must depend on nothing but the members' ids
// and weights, and moving one node in or out should move few partitions.
type Strategy interface {
	// Name is what configuration, gossip and diagnostics call it.
	Name() string
	// Place sets owners[p] to the index in nodes of the owner of partition p. nodes is sorted by id, is not empty and must not be
	// changed.
	Place(nodes []Member, owners *[Partitions]uint16)
}

// Strategies returns every strategy, the default first.
func Strategies() []Strategy { return []Strategy{Rendezvous{}, Weighted{}, Maglev{}} }

// StrategyNamed finds a strategy by its name; "" is the default.
func StrategyNamed(name string) (Strategy, bool) {
	for _, s := range Strategies() {
		if name == "" || s.Name() == name {
			return s, true
		}
	}
	return nil, false
}

// Rendezvous is highest-random-weight hashing: each partition goes to the node whose hash with it is largest, so a node that
// leaves gives up only its own partitions and one that joins takes only what becomes its own.
type Rendezvous struct{}

// Name returns "rendezvous".
func (Rendezvous) Name() string { return "rendezvous" }

// Place implements [Strategy]. Equal scores go to the smaller id; weights count for nothing.
func (Rendezvous) Place(nodes []Member, owners *[Partitions]uint16) {
	seeds := seedsOf(nodes)
	for p := range owners {
		best, top := 0, uint64(0)
		for i, seed := range seeds {
			if s := draw(seed, p); i == 0 || s > top {
				best, top = i, s
			}
		}
		owners[p] = uint16(best)
	}
}

// seedsOf hashes the nodes' ids.
func seedsOf(nodes []Member) []uint64 {
	seeds := make([]uint64, len(nodes))
	for i, m := range nodes {
		seeds[i] = xxhash.Sum64String(string(m.ID))
	}
	return seeds
}

// draw is the hash of a node, by its seed, with partition p.
func draw(seed uint64, p int) uint64 { return mix(seed + uint64(p+1)*0x9e3779b97f4a7c15) }

// mix is the finaliser of SplitMix64 (Stafford's variant 13): a bijection whose every output bit depends on every input bit.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
