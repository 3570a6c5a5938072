package core

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestMovedNamesEveryChange: whatever changes, a partition that is not among those moved has the owner that it had, for
// every kind that had one; what this node owned and does not own any more, and nothing else, is forgotten; and what two machines with the same data decide does not depend on how they came to it.
func TestMovedNamesEveryChange(t *testing.T) {
	names := []string{"bank", "chat", "counter"}
	rapid.Check(t, func(t *rapid.T) {
		m := NewMachine(Config{Self: "n0"})
		m.epoch = 7
		nodes := make([]Member, 5)
		for i := range nodes {
			nodes[i] = Member{ID: NodeID(fmt.Sprintf("n%d", i)), Authority: fmt.Sprintf("h:%d", i)}
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			node := rapid.IntRange(0, 4).Draw(t, "node")
			in := &Input{Node: nodes[node].ID}
			switch rapid.IntRange(0, 5).Draw(t, "input") {
			case 0:
				in.Type = Block
			case 1:
				in.Type = Unblock
			case 2, 3:
				in.Type = SetKinds
				for _, k := range names {
					if rapid.Bool().Draw(t, k) {
						in.Kinds = append(in.Kinds, k)
					}
				}
			default:
				in.Type = TopologyChanged
				nodes[node].Boot++
				var present []Member
				for i := range nodes {
					if rapid.IntRange(0, 3).Draw(t, "present") > 0 {
						present = append(present, nodes[i])
					}
				}
				in.Topology = must(NewTopology(present...))
			}
			before := m.View()
			var moved *Moved
			again := false
			forgotten := map[string]*Moved{}
			for _, e := range m.Step(in, 0) {
				switch e.Type {
				case Recheck:
					moved, again = e.Moved, true
				case Forget:
					if e.Epoch.Index != 7 || forgotten[e.Kind] != nil {
						t.Fatalf("%v: %v of %s", in, e.Epoch, e.Kind)
					}
					forgotten[e.Kind] = e.Moved
				}
			}
			if !again && before != m.View() {
				t.Fatal("a new view without a recheck")
			}
			some := false
			for _, kind := range names {
				for p := range Partition(Partitions) {
					was, _ := before.Owner(kind, p)
					is, _ := m.View().Owner(kind, p)
					lost := was != nil && was.ID == "n0" && (is == nil || is.ID != "n0")
					if f := forgotten[kind]; (f != nil && f[p]) != lost {
						t.Fatalf("%v: partition %d of %s went from %v to %v: forgotten %v", in, p, kind, was, is, !lost)
					}
					if was == nil || is != nil && *is == *was {
						continue
					}
					if some = true; moved == nil || !moved[p] {
						t.Fatalf("%v: partition %d of %s went from %v to %v and is not among those moved", in, p, kind, was, is)
					}
				}
			}
			if !some && moved != nil && moved.any() {
				t.Fatalf("%v: nothing moved", in)
			}
		}
	})
}

func (m *Moved) any() bool {
	for _, v := range m {
		if v {
			return true
		}
	}
	return false
}
