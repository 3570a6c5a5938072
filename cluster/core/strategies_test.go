package core

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestNegLog2 compares with floats, which have 20 places more than are wanted, and checks that the order is that of the draws.
func TestNegLog2(t *testing.T) {
	check := func(u uint64) {
		want := 64 - math.Log2(float64(max(u, 1)))
		got := float64(negLog2(u)) / (1 << logBits)
		// A float has 53 places of u, so near 2^64 only the difference to 2^64 can be computed well.
		if u > 1<<63 {
			want = -math.Log1p(-float64(-u)/(1<<64)) / math.Ln2
		}
		if u != 0 && math.Abs(got-want) > 1.5/(1<<logBits) {
			t.Errorf("-log2(%#x/2^64) = %.12f, want %.12f", u, got, want)
		}
	}
	for _, u := range []uint64{0, 1, 2, 3, 1 << 31, 1<<32 + 1, 1 << 63, 1<<63 + 1, math.MaxUint64 - 1, math.MaxUint64} {
		check(u)
	}
	if a, b := negLog2(0), negLog2(1); a != b || a != 64<<logBits {
		t.Errorf("of 0 %#x, of 1 %#x", a, b)
	}
	if negLog2(math.MaxUint64) == 0 {
		t.Error("the largest draw costs nothing, so that weights would not count beside it")
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		u := rng.Uint64() >> rng.IntN(64)
		check(u)
		if leastCost(u) > negLog2(u) {
			t.Fatalf("%#x costs %d, and %d at least", u, negLog2(u), leastCost(u))
		}
		if v := u + rng.Uint64N(4); v > u && negLog2(v) > negLog2(u) {
			t.Fatalf("%#x costs less than %#x", u, v)
		}
	}
}

// TestWeightedIsRendezvousForEqualWeights, whatever the weight is.
func TestWeightedIsRendezvousForEqualWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, w := rapid.IntRange(1, 30).Draw(t, "nodes"), uint16(rapid.IntRange(0, MaxWeight).Draw(t, "weight"))
		nodes := make([]Member, n)
		for i := range nodes {
			nodes[i] = Member{ID: NodeID(fmt.Sprintf("n%02d", i)), Weight: w}
		}
		var want, got [Partitions]uint16
		Rendezvous{}.Place(nodes, &want)
		Weighted{}.Place(nodes, &got)
		if got != want {
			t.Fatalf("%d nodes of weight %d are not placed as without weights", n, w)
		}
	})
}

// TestWeightedFollowsWeights: shares are as the weights, and a weight that grows moves partitions to its node alone.
func TestWeightedFollowsWeights(t *testing.T) {
	nodes := make([]Member, 12)
	total := 0
	for i := range nodes {
		nodes[i] = Member{ID: NodeID(fmt.Sprintf("n%02d", i)), Weight: uint16(1 + i%4)}
		total += 1 + i%4
	}
	var owners, after [Partitions]uint16
	Weighted{}.Place(nodes, &owners)
	byWeight := map[uint16]int{}
	for _, o := range owners {
		byWeight[nodes[o].Weight]++
	}
	for w := uint16(1); w <= 4; w++ { // three nodes of each weight
		fair := float64(Partitions) * 3 * float64(w) / float64(total)
		if f := float64(byWeight[w]) / fair; f < 0.8 || f > 1.2 {
			t.Errorf("nodes of weight %d own %.2f of their share", w, f)
		}
	}
	nodes[5].Weight = 9
	Weighted{}.Place(nodes, &after)
	gained := 0
	for p := range owners {
		if owners[p] != after[p] {
			gained++
			if after[p] != 5 {
				t.Fatalf("partition %d moved between nodes whose weight is as before", p)
			}
		}
	}
	if gained == 0 {
		t.Error("a heavier node gained nothing")
	}
}

// TestMaglevIsEven: no two nodes differ by more than one partition, and every partition has an owner.
func TestMaglevIsEven(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 7, 20, 100, 1000, 1024, 1500} {
		nodes := make([]Member, n)
		for i := range nodes {
			nodes[i].ID = NodeID(fmt.Sprintf("node-%d", i))
		}
		owners := [Partitions]uint16{}
		for p := range owners {
			owners[p] = math.MaxUint16
		}
		Maglev{}.Place(nodes, &owners)
		counts := make([]int, n)
		for p, o := range owners {
			if int(o) >= n {
				t.Fatalf("%d nodes: partition %d has no owner", n, p)
			}
			counts[o]++
		}
		for i, c := range counts {
			if c != Partitions/n && c != (Partitions+n-1)/n {
				t.Errorf("%d nodes: %s has %d partitions", n, nodes[i].ID, c)
			}
		}
	}
}

func TestStrategiesByName(t *testing.T) {
	for _, s := range Strategies() {
		if got, ok := StrategyNamed(s.Name()); !ok || got != s {
			t.Errorf("%s: %v", s.Name(), got)
		}
	}
	if s, ok := StrategyNamed(""); !ok || s != (Rendezvous{}) {
		t.Errorf("the default is %v", s)
	}
	if s, ok := StrategyNamed("modulo"); ok {
		t.Errorf("modulo is %v", s)
	}
}

// TestWeightsMoveGroups: a member whose weight has changed is not placed as before, though all else is equal.
func TestWeightsMoveGroups(t *testing.T) {
	m := NewMachine(Config{Self: "n1", Strategy: Weighted{}})
	share := func(weight uint16) (n int) {
		topology := must(NewTopology(Member{ID: "n1", Authority: "h:1"}, Member{ID: "n2", Authority: "h:2", Weight: weight}))
		m.Step(&Input{Type: TopologyChanged, Topology: topology}, 0)
		for _, id := range []NodeID{"n1", "n2"} {
			m.Step(&Input{Type: SetKinds, Node: id, Kinds: []string{"k"}}, 0)
		}
		for p := range Partition(Partitions) {
			if o, _ := m.View().Owner("k", p); o.ID == "n2" {
				n++
			}
		}
		return n
	}
	if even, heavy := share(1), share(9); even < 400 || even > 624 || heavy < 850 {
		t.Errorf("n2 has %d of weight 1, %d of weight 9", even, heavy)
	}
}
