package core

import "math/bits"

// Weighted is rendezvous hashing in which a node gets a share in proportion to its weight, by the logarithmic method: a node of
// weight w draws for each partition a number u, uniform in (0, 1), and the largest w / -log u has the partition. A node that joins, leaves or changes
// its weight moves only what it gains or gives. The method is that of Schindelhauer and Schomaker, "Weighted Distributed Hash Tables"
// (SPAA 2005), in the form of Resch, "New Hashing Algorithms for Data Storage" (SNIA SDC 2015).
//
// It is computed in whole numbers: math.Log has assembly of its own on some processors, and compilers may fuse multiplications with
// additions, so that the last bit of a float could decide otherwise on two nodes. If all weights are equal the owners are those of
// [Rendezvous], exactly.
type Weighted struct{}

// Name returns "weighted".
func (Weighted) Name() string { return "weighted" }

// Place implements [Strategy]. Where two scores are equal the larger draw has the partition, then the smaller id.
func (Weighted) Place(nodes []Member, owners *[Partitions]uint16) {
	seeds := seedsOf(nodes)
	for p := range owners {
		best, top, weight, cost := 0, uint64(0), uint64(0), uint64(0)
		for i, seed := range seeds {
			u, w := draw(seed, p), nodes[i].weight()
			if i > 0 && (u <= top && w <= weight || w*cost < weight*leastCost(u)) {
				continue // the logarithm, which takes a while, would not change that
			}
			c := negLog2(u)
			// w/c > weight/cost; both products are below 2^49, see MaxWeight and negLog2.
			if mine, its := w*cost, weight*c; i == 0 || mine > its || mine == its && u > top {
				best, top, weight, cost = i, u, w, c
			}
		}
		owners[p] = uint16(best)
	}
}

// leastCost is at most negLog2(u), and not far from it for the large draws that win: -ln x is at least 1 - x, and 1477/1024 is a little
// less than 1/ln 2.
func leastCost(u uint64) uint64 { return (^u >> logBits) * 1477 >> 10 }

// logBits are the binary places of a logarithm.
const logBits = 32

// negLog2 is -log2(u / 2^64) with logBits binary places, more than 0 and at most 64; u = 0 reads as 1. A larger u never gives more.
//
// The places come one by one from the normalised u: squaring it doubles its logarithm, whose whole part, 0 or 1, is the next one.
// What is cut off in squaring is below the last place.
func negLog2(u uint64) uint64 {
	u = max(u, 1)
	zeros := bits.LeadingZeros64(u)
	y := u << zeros // y / 2^63 is in [1, 2)
	var places uint64
	for range logBits {
		hi, lo := bits.Mul64(y, y) // y² / 2^126 is in [1, 4)
		places <<= 1
		if hi>>63 == 1 {
			places |= 1
			y = hi
		} else {
			y = hi<<1 | lo>>63
		}
	}
	whole := uint64(63 - zeros)
	return 64<<logBits - (whole<<logBits | places)
}
