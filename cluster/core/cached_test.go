package core

import (
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// quorumMachine is node n1's, which owns all of kind a, and that of a table where n2 owns all of kind b.
func quorumMachine(t *testing.T) (*Machine, *Table) {
	table := grown(t,
		Command{Type: OpenSession, Node: "n1", Boot: 1, Authority: "h1:1", Kinds: []string{"a"}},
		Command{Type: OpenSession, Node: "n2", Boot: 2, Authority: "h2:1", Kinds: []string{"b"}},
		Command{Type: Regroup, Kinds: []string{"a"}},
		Command{Type: Regroup, Kinds: []string{"b"}},
		Command{Type: Assign, Group: 3, Session: 1, Partitions: everything()},
		Command{Type: Assign, Group: 4, Session: 2, Partitions: everything()})
	m := NewMachine(Config{Self: "n1", Quorum: true, Boot: 1})
	m.Step(&Input{Type: SetKinds, Node: "n1", Kinds: []string{"a"}}, 0)
	m.Step(&Input{Type: Start}, 0)
	m.Step(&Input{Type: Renewed, Until: SessionTime}, 0)
	m.Step(&Input{Type: Assigned, Assignments: table.Assignments(), Session: 1}, 0)
	return m, table
}

// TestWhatIsHeldIsNotCached: an activation that is about to move is found by those whom its part waits for, and by nobody after them who did
// not ask: it would never come to an end.
func TestWhatIsHeldIsNotCached(t *testing.T) {
	m, _ := quorumMachine(t)
	x, y := must(abi.ParseIdentity("a/x")), must(abi.ParseIdentity("a/y"))
	activate := func(id Identity, held bool) Lease {
		e := m.Step(&Input{Type: Resolve, Identity: id}, 0)[0]
		if e.Type != Activate {
			t.Fatalf("%+v", e)
		}
		if held {
			m.Step(&Input{Type: Hold, Part: Part{Move: 7, Kinds: []string{"a"}, Partitions: everything()}}, 0)
		}
		if got := m.Step(&Input{Type: Activated, Lease: e.Lease, Handle: id}, 0)[0]; got.Type != Admit || got.Held != held {
			t.Errorf("admitted with %+v", got)
		}
		return e.Lease
	}
	lease := activate(x, false)
	route := Route{Member: &Member{ID: "n1"}, Epoch: lease.Epoch, Serial: lease.Serial, Partition: PartitionOf(x)}
	activate(y, true)
	effects := m.Step(&Input{Type: Hold, Part: Part{Move: 7, Kinds: []string{"a"}, Partitions: everything()}}, 0)
	if len(effects) != 1 || effects[0].Type != Withhold {
		t.Fatalf("%+v", effects)
	}
	for _, c := range []struct {
		kind string
		r    Route
		want bool
	}{{"a", route, true}, {"b", route, false}, {"a", Route{Member: &Member{ID: "n2"}, Partition: PartitionOf(x)}, false}} {
		if got := effects[0].Part.Withholds(c.kind, c.r); got != c.want {
			t.Errorf("of %s, %+v: %v", c.kind, c.r, got)
		}
	}
	if e := m.Step(&Input{Type: Resolve, Identity: x}, 0)[0]; e.Type != Wait {
		t.Errorf("anybody: %+v", e)
	}
	if e := m.Step(&Input{Type: Resolve, Identity: x, Chain: []Identity{y}}, 0)[0]; e.Type != Use || !e.Held {
		t.Errorf("one that the part waits for: %+v", e)
	}
	m.Step(&Input{Type: Unhold, Part: Part{Move: 7}}, 0)
	if e := m.Step(&Input{Type: Resolve, Identity: x}, 0)[0]; e.Type != Use || e.Held {
		t.Errorf("afterwards: %+v", e)
	}
}

// TestAWithdrawnKindIsNobodysToBeAsked: when the last host of a kind says that it hosts it no more, a view names no owner of it, and what was
// known of its actors is to go.
func TestAWithdrawnKindIsNobodysToBeAsked(t *testing.T) {
	m, table := quorumMachine(t)
	r := Route{Member: must2(m.View().Owner("b", 5)), Partition: 5}
	if !m.View().Keeps("b", r) {
		t.Fatal("it is not kept from the start")
	}
	pending := m.Step(&Input{Type: Resolve, Identity: must(abi.ParseIdentity("a/x"))}, 0)[0]
	grow(t, table, Command{Type: UpdateSession, Session: 2}, Command{Type: UpdateSession, Session: 1})
	var moved *Moved
	for _, e := range m.Step(&Input{Type: Assigned, Assignments: table.Assignments(), Session: 1}, 0) {
		if e.Type == Recheck {
			moved = e.Moved
		}
	}
	if e := m.Step(&Input{Type: Activated, Lease: pending.Lease, Handle: 1}, 0)[0]; e.Type != Admit || !e.Held {
		t.Errorf("an activation that was on its way: %+v", e)
	}
	if m.View().Keeps("b", r) {
		t.Error("the view keeps the route")
	}
	if moved == nil || !moved[5] {
		t.Error("and it is not looked at")
	}
}

func must2(m *Member, p Placing) *Member {
	if p != Placed {
		panic(p)
	}
	return m
}

// TestCourse: of nodes that name each other in a circle a request asks three before it backs off, and not at once those who do not know better.
func TestCourse(t *testing.T) {
	var c Course
	for _, owner := range []NodeID{"", "from", "self"} {
		if c.MayFollow(owner, "from", "self") {
			t.Errorf("it follows %q", owner)
		}
	}
	plain := RetryPolicy{Initial: 10 * time.Millisecond, Max: time.Second, Jitter: -1}
	for round := range 3 {
		for range MaxHops {
			if !c.MayFollow("other", "from", "self") {
				t.Fatalf("round %d: it does not follow", round)
			}
			c.Follow()
		}
		if c.MayFollow("other", "from", "self") {
			t.Errorf("round %d: it follows for ever", round)
		}
		attempts := 1 + (MaxHops+1)*round + MaxHops
		if got, want := c.Pause(plain, attempts, abi.ErrOwnershipChanged, 0), 10*time.Millisecond<<round; got != want {
			t.Errorf("round %d: a back-off of %v, want %v", round, got, want)
		}
	}
	c = Course{}
	if got := c.Pause(plain, 6, abi.ErrUnreachable, 0); got != 320*time.Millisecond {
		t.Errorf("unreachable: %v", got)
	}
	if got := c.Pause(plain, 6, abi.ErrOwnershipChanged, 0); got != settling {
		t.Errorf("another owner: %v", got)
	}
	if got := c.Pause(plain, settlingTries+1, abi.ErrOwnershipChanged, 0); got != time.Second {
		t.Errorf("another owner for long: %v", got)
	}
}
