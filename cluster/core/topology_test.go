package core

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTopologyHashIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9]{1,4}`), 0, 8, rapid.ID[string]).Draw(t, "ids")
		var members []Member
		for _, id := range ids {
			members = append(members, Member{ID: NodeID(id), Authority: id + ":1", Boot: rapid.Uint64Max(2).Draw(t, "boot")})
		}
		a := must(NewTopology(members...))
		shuffled := rapid.Permutation(members).Draw(t, "order")
		b := must(NewTopology(shuffled...))
		if a.Hash() != b.Hash() || a.Len() != b.Len() {
			t.Fatalf("%v and %v hash differently", members, shuffled)
		}
		if len(members) == 0 {
			return
		}
		i := rapid.IntRange(0, len(members)-1).Draw(t, "changed")
		changed := append([]Member(nil), members...)
		switch rapid.IntRange(0, 4).Draw(t, "how") {
		case 4:
			changed[i].Weight += 2
		case 0:
			changed[i].Boot += 5
		case 1:
			changed[i].Authority = "other:2"
		case 2:
			changed[i].ID = "another-one"
		case 3:
			changed = append(changed[:i], changed[i+1:]...)
		}
		if c := must(NewTopology(changed...)); c.Hash() == a.Hash() {
			t.Fatalf("%v and %v hash the same", members, changed)
		}
	})
}

func TestTopologyFindsMembers(t *testing.T) {
	topology := must(NewTopology(Member{ID: "b", Authority: "h:2"}, Member{ID: "a", Authority: "h:1"}))
	if m, ok := topology.Member("b"); !ok || m.Authority != "h:2" {
		t.Errorf("Member(b) = %v, %v", m, ok)
	}
	if _, ok := topology.Member("c"); ok {
		t.Error("found a member that is none")
	}
	members := topology.Members()
	members[0].ID = "changed"
	if topology.Members()[0].ID != "a" {
		t.Error("a snapshot was changed through its Members")
	}
}

func TestTopologyRefuses(t *testing.T) {
	for _, c := range []struct {
		members []Member
		want    error
		names   string
	}{
		{[]Member{{ID: "", Authority: "h:1"}}, ErrInvalidNodeID, `""`},
		{[]Member{{ID: "a b", Authority: "h:1"}}, ErrInvalidNodeID, `"a b"`},
		{[]Member{{ID: NodeID(strings.Repeat("x", 64)), Authority: "h:1"}}, ErrInvalidNodeID, "xxx"},
		{[]Member{{ID: "a", Authority: "h"}}, ErrInvalidAuthority, `"a"`},
		{[]Member{{ID: "a", Authority: "h:1", Weight: 1001}}, ErrInvalidWeight, `"a"`},
		{[]Member{{ID: "a", Authority: "h:1"}, {ID: "b", Authority: "h:2"}, {ID: "a", Authority: "h:3"}}, ErrDuplicateNode, `"h:3"`},
	} {
		_, err := NewTopology(c.members...)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("NewTopology(%v) = %v, want %v naming %s", c.members, err, c.want, c.names)
		}
	}
}

func TestAuthority(t *testing.T) {
	for _, s := range []string{"127.0.0.1:7701", "localhost:1", "a-b.example.com:65535", "[::1]:7701", "[fe80::1%eth0]:7701", "h:0"} {
		if err := CheckAuthority(s); err != nil {
			t.Errorf("CheckAuthority(%q) = %v", s, err)
		}
	}
	for _, s := range []string{"", ":", ":1", "h:", "h", "h:65536", "h:01", "h:-1", "h:1x", "::1:7701", "[::1]", "[::1]7701", "[]:1",
		"[::1:1", "h h:1", "h/x:1", "[1.2.3.4]:1", "[::1%]:1", "[::g]:1", "h:000000", "ü:1"} {
		if err := CheckAuthority(s); !errors.Is(err, ErrInvalidAuthority) {
			t.Errorf("CheckAuthority(%q) = %v, want a refusal", s, err)
		}
	}
}

// TestRendezvousSpreads checks balance, and that a node that joins moves nothing but what becomes its own.
func TestRendezvousSpreads(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{2, 3, 5, 20} {
		nodes := make([]Member, n+1)
		for i := range nodes {
			nodes[i].ID = NodeID(string(rune('a'+i)) + "-node")
		}
		var before, after [Partitions]uint16
		Rendezvous{}.Place(nodes[:n], &before)
		Rendezvous{}.Place(nodes, &after)
		share := make([]int, n+1)
		moved := 0
		for p := range after {
			share[after[p]]++
			if after[p] == before[p] {
				continue
			}
			moved++
			if int(after[p]) != n {
				t.Fatalf("%d nodes: partition %d moved between old nodes when one joined", n, p)
			}
		}
		fair := float64(Partitions) / float64(n+1)
		for i, s := range share {
			if f := float64(s) / fair; f < 0.65 || f > 1.4 {
				t.Errorf("%d nodes: %s owns %.2f of a fair share", n+1, nodes[i].ID, f)
			}
		}
		if f := float64(moved) / fair; f > 1.4 {
			t.Errorf("%d nodes: a join moved %.2f of a fair share", n, f)
		}
	}
	// The order in which ids are hashed does not matter, only which they are: a permutation gives the same owners.
	nodes := membersNamed("n1", "n2", "n3", "n4")
	var want [Partitions]uint16
	Rendezvous{}.Place(nodes, &want)
	for range 5 {
		order := rng.Perm(len(nodes))
		shuffled := make([]Member, len(nodes))
		for i, j := range order {
			shuffled[i] = nodes[j]
		}
		var got [Partitions]uint16
		Rendezvous{}.Place(shuffled, &got)
		for p := range got {
			if shuffled[got[p]].ID != nodes[want[p]].ID {
				t.Fatalf("partition %d: %s in one order, %s in another", p, shuffled[got[p]].ID, nodes[want[p]].ID)
			}
		}
	}
}

// countingStrategy counts how often it is asked.
type countingStrategy struct {
	Rendezvous
	asked *int
}

func (s countingStrategy) Place(nodes []Member, owners *[Partitions]uint16) {
	*s.asked++
	s.Rendezvous.Place(nodes, owners)
}

// TestB2_2_NothingIsComputedAnewForAKnownHash: an unchanged hash keeps the very same view; a changed one computes only groups
// whose hosts changed.
func TestB2_2_NothingIsComputedAnewForAKnownHash(t *testing.T) {
	asked := 0
	m := NewMachine(Config{Self: "n1", Strategy: countingStrategy{asked: &asked}})
	n1, n2, n3 := Member{ID: "n1", Authority: "h:1"}, Member{ID: "n2", Authority: "h:2"}, Member{ID: "n3", Authority: "h:3"}
	step := func(in Input) { m.Step(&in, 0) }
	step(Input{Type: TopologyChanged, Topology: must(NewTopology(n1, n2))})
	step(Input{Type: SetKinds, Node: "n1", Kinds: []string{"counter", "chat"}})
	step(Input{Type: SetKinds, Node: "n2", Kinds: []string{"counter", "chat"}})
	if asked != 2 { // {n1}, {n1, n2}: two kinds with the same hosts are one group
		t.Errorf("placed %d groups, want 2", asked)
	}
	view, before := m.View(), asked
	step(Input{Type: TopologyChanged, Topology: must(NewTopology(n2, n1))})
	step(Input{Type: SetKinds, Node: "n2", Kinds: []string{"chat", "counter", "chat"}})
	if m.View() != view || asked != before {
		t.Error("the same members and kinds made a new view")
	}
	step(Input{Type: TopologyChanged, Topology: must(NewTopology(n1, n2, n3))})
	if m.View() == view || asked != before {
		t.Errorf("a member that hosts nothing: new view %v, %d groups placed anew, want true and 0", m.View() != view, asked-before)
	}
}

func TestB2_1_SnapshotRebuildsOwnershipBeforeAnyLease(t *testing.T) {
	m := NewMachine(Config{Self: "n1"})
	n1, n2 := Member{ID: "n1", Authority: "h:1"}, Member{ID: "n2", Authority: "h:2"}
	step := func(in Input) []Effect { return m.Step(&in, 0) }
	step(Input{Type: Start})
	step(Input{Type: SetKinds, Node: "n1", Kinds: []string{"k"}})
	step(Input{Type: SetKinds, Node: "n2", Kinds: []string{"k"}})
	step(Input{Type: TopologyChanged, Topology: must(NewTopology(n1, n2))})
	for i := range 200 { // whatever is resolved after the snapshot follows it
		id := identity("k", i)
		owner, _ := m.View().OwnerOf(id)
		effect := step(Input{Type: Resolve, Identity: id})[0]
		if (effect.Type == Activate) != (owner.ID == "n1") {
			t.Fatalf("%s is owned by %s, but the resolve says %s", id, owner.ID, effect.describe())
		}
	}
	held := m.Ledger().InForce()
	step(Input{Type: TopologyChanged, Topology: must(NewTopology(n2))})
	if got := m.Ledger().InForce(); got != 0 || held == 0 {
		t.Errorf("%d of %d leases are in force although another node owns everything", got, held)
	}
}
