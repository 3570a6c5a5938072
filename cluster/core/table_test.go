package core

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
)

// drawNear draws a command that may well have an effect on a table as it is.
func drawNear(t *rapid.T, table *Table) Command {
	c := drawCommand(t)
	var near PartitionSet // few, so that commands meet
	for p := range c.Partitions.All {
		near.Add(p % 8)
	}
	c.Partitions = near
	sessions, groups, moves := table.Sessions(), table.Groups(), table.Moves()
	if rapid.IntRange(0, 3).Draw(t, "towards moves") > 0 { // they need so much before them that they would hardly come about
		switch {
		case len(sessions) < 2:
			c.Type = OpenSession
		case len(groups) == 0:
			c.Type = Regroup
		default:
			c.Type = rapid.SampledFrom([]CommandType{Assign, BeginMove, Release, SettleMove, AbortMove}).Draw(t, "of moves")
		}
	}
	if c.Authority == "?" || c.Authority == "" {
		c.Authority = "h:1"
	}
	if c.Node == "" {
		c.Node = "n1"
	}
	if n := len(sessions); n > 0 {
		c.Session = sessions[rapid.IntRange(0, n-1).Draw(t, "which session")].ID
		c.From = sessions[rapid.IntRange(0, n-1).Draw(t, "which source")].ID
	}
	if n := len(groups); n > 0 {
		g := groups[rapid.IntRange(0, n-1).Draw(t, "which group")]
		c.Group = g.ID
		if c.Type == BeginMove { // of what one has
			var own PartitionSet
			for p := range c.Partitions.All {
				if g.Slots[p].Owner == c.From && g.Slots[p].Move == 0 {
					own.Add(p)
				}
			}
			c.Partitions = own
		}
	}
	if n := len(moves); n > 0 && rapid.Bool().Draw(t, "a move") {
		m := moves[rapid.IntRange(0, n-1).Draw(t, "which move")]
		c.Move = m.ID
		if c.Type == Release {
			c.Session, c.Group, c.Partitions, c.Index = m.From, m.Group, m.Partitions, table.Index()
			if rapid.IntRange(0, 3).Draw(t, "without it") == 0 {
				c.Move = 0
			}
		}
	} else if c.Type == Release && rapid.Bool().Draw(t, "to nobody") {
		c.Move = 0
	}
	if c.Type == RaiseGeneration && rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
		c.Type = RenewSession
	}
	return c
}

type slotKey struct {
	kind string
	p    Partition
}

func slotsOf(table *Table) map[slotKey]Slot {
	all := make(map[slotKey]Slot)
	for _, g := range table.Groups() {
		for _, k := range g.Kinds {
			for p := range g.Slots {
				all[slotKey{k, Partition(p)}] = g.Slots[p]
			}
		}
	}
	return all
}

// TestTableKeepsItsPromises: epochs only grow, owners change only by what may change them, a void command changes nothing, what was handed
// out never changes, and a snapshot with the entries after it makes the same table as all entries.
func TestTableKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable()
		var copied *Table
		newest := make(map[slotKey]abi.Epoch)
		owner := make(map[slotKey]SessionID)
		for i := range rapid.IntRange(1, 40).Draw(t, "entries") {
			c := drawNear(t, table)
			index := uint64(i + 1)
			before := table.AppendSnapshot(nil)
			given := table.Assignments()
			taken := *given
			var slots [][Partitions]Slot
			for _, g := range given.groups {
				slots = append(slots, g.Slots)
			}
			entry := AppendEntry(nil, c)
			results, err := table.Apply(index, entry)
			if err != nil {
				t.Fatal(err)
			}
			after := table.AppendSnapshot(nil)
			if results[0].Void != "" {
				was, err := ReadSnapshot(before)
				if err != nil {
					t.Fatal(err)
				}
				was.index = index
				if !bytes.Equal(was.AppendSnapshot(nil), after) {
					t.Fatalf("%v is void (%s) and has changed something", c, results[0].Void)
				}
			}
			for j, g := range taken.groups {
				if g.Slots != slots[j] {
					t.Fatalf("%v changed what was handed out", c)
				}
			}
			slotsNow := slotsOf(table)
			for k := range owner {
				if _, ok := slotsNow[k]; !ok {
					owner[k] = 0 // its group is gone, which it is once nobody owns anything of it
				}
			}
			for k, s := range slotsNow {
				if s.Owner != owner[k] {
					if owner[k] != 0 && c.Type != Release && c.Type != ExpireSession && c.Type != CloseSession && c.Type != RaiseGeneration {
						t.Fatalf("%v took partition %d from its owner", c.Type, k.p)
					}
					if s.Owner != 0 && !newest[k].Less(s.Epoch) {
						t.Fatalf("%v gave partition %d away under %v, after %v", c.Type, k.p, s.Epoch, newest[k])
					}
				}
				if s.Epoch.Less(newest[k]) && s.Owner != 0 {
					t.Fatalf("%v took the epoch of partition %d back", c.Type, k.p)
				}
				owner[k] = s.Owner
				if newest[k].Less(s.Epoch) {
					newest[k] = s.Epoch
				}
				if s.Owner != 0 {
					if _, ok := table.Session(s.Owner); !ok {
						t.Fatalf("after %v partition %d is owned by a session that has ended", c.Type, k.p)
					}
				}
			}
			if copied != nil {
				if _, err := copied.Apply(index, entry); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(copied.AppendSnapshot(nil), after) {
					t.Fatalf("after %v the snapshot and what came after make another table", c)
				}
			}
			if copied == nil || rapid.IntRange(0, 5).Draw(t, "snapshot") == 0 {
				if copied, err = ReadSnapshot(after); err != nil {
					t.Fatalf("after %+v: %v", c, err)
				}
			}
		}
	})
}

// grown returns a table after commands, each an entry of its own.
func grown(t testing.TB, commands ...Command) *Table {
	t.Helper()
	table := NewTable()
	grow(t, table, commands...)
	return table
}

func grow(t testing.TB, table *Table, commands ...Command) {
	t.Helper()
	for _, c := range commands {
		results, err := table.Apply(table.Index()+1, AppendEntry(nil, c))
		if err != nil {
			t.Fatal(err)
		}
		if results[0].Void != "" {
			t.Fatalf("%v is void: %s", c.Type, results[0].Void)
		}
	}
}

// void applies a command that must change nothing.
func mustBeVoid(t testing.TB, table *Table, c Command) {
	t.Helper()
	results, err := table.Apply(table.Index()+1, AppendEntry(nil, c))
	if err != nil || results[0].Void == "" {
		t.Errorf("%v has an effect (%v)", c.Type, err)
	}
}

func partitions(ps ...Partition) (s PartitionSet) {
	for _, p := range ps {
		s.Add(p)
	}
	return s
}

func everything() (s PartitionSet) {
	for p := range Partition(Partitions) {
		s.Add(p)
	}
	return s
}

// pair is n1 (session 1), which owns all of group 3, and n2 (session 2), which owns nothing.
func pairTable(t testing.TB) *Table {
	return grown(t,
		Command{Type: OpenSession, Node: "n1", Boot: 1, Authority: "h1:1", Kinds: []string{"a"}},
		Command{Type: OpenSession, Node: "n2", Boot: 2, Authority: "h2:1", Kinds: []string{"a"}},
		Command{Type: Regroup, Kinds: []string{"a"}},
		Command{Type: Assign, Group: 3, Session: 1, Partitions: everything()})
}

func owners(table *Table, ps ...Partition) (all []SessionID) {
	for _, p := range ps {
		all = append(all, table.Groups()[0].Slots[p].Owner)
	}
	return all
}

// TestLateReleases: a release that comes late, or twice, takes nothing that was assigned since, nor what its source has taken up again.
func TestLateReleases(t *testing.T) {
	move := func(from, to SessionID) Command {
		return Command{Type: BeginMove, Group: 3, From: from, Session: to, Partitions: partitions(1, 2)}
	}
	t.Run("moved and back", func(t *testing.T) {
		table := pairTable(t)
		grow(t, table, move(1, 2))
		release := Command{Type: Release, Session: 1, Group: 3, Partitions: partitions(1, 2), Index: 5, Move: 4}
		grow(t, table, release, Command{Type: SettleMove, Move: 4}, move(2, 1),
			Command{Type: Release, Session: 2, Group: 3, Partitions: partitions(1, 2), Index: 8, Move: 5}, Command{Type: SettleMove, Move: 5})
		mustBeVoid(t, table, release)
		if got := owners(table, 1, 2); got[0] != 1 || got[1] != 1 {
			t.Errorf("owners %v", got)
		}
	})
	t.Run("the move fell", func(t *testing.T) {
		table := pairTable(t)
		grow(t, table, move(1, 2), Command{Type: ExpireSession, Session: 2, Index: 2})
		mustBeVoid(t, table, Command{Type: Release, Session: 1, Group: 3, Partitions: partitions(1, 2), Index: 5, Move: 4})
		if got := owners(table, 1, 2); got[0] != 1 || got[1] != 1 {
			t.Errorf("owners %v", got)
		}
	})
	t.Run("without a move", func(t *testing.T) {
		table := pairTable(t)
		grow(t, table, Command{Type: Release, Session: 1, Group: 3, Partitions: partitions(1), Index: 4},
			Command{Type: Assign, Group: 3, Session: 1, Partitions: partitions(1)})
		mustBeVoid(t, table, Command{Type: Release, Session: 1, Group: 3, Partitions: partitions(1), Index: 4})
	})
}

// TestCloseAsOf: a session is not closed that was given more than its node knew of: the node may run it already.
func TestCloseAsOf(t *testing.T) {
	table := pairTable(t)
	mustBeVoid(t, table, Command{Type: CloseSession, Session: 1, Index: 3})
	grow(t, table, Command{Type: CloseSession, Session: 1, Index: 4})
	if got := owners(table, 0, 1023); got[0] != 0 || got[1] != 0 {
		t.Errorf("owners %v", got)
	}
}

// TestExpiryAndRenewal: an expiry is void once a newer renewal was applied, and a session that has ended is not renewed.
func TestExpiryAndRenewal(t *testing.T) {
	table := pairTable(t)
	grow(t, table, Command{Type: RenewSession, Session: 2})
	mustBeVoid(t, table, Command{Type: ExpireSession, Session: 2, Index: 4})
	grow(t, table, Command{Type: ExpireSession, Session: 2, Index: 5})
	mustBeVoid(t, table, Command{Type: RenewSession, Session: 2})
	// The same run may open another, which is not the one before.
	results, err := table.Apply(50, AppendEntry(nil, Command{Type: OpenSession, Node: "n2", Boot: 2, Authority: "h2:1"}))
	if err != nil || results[0].ID == 2 {
		t.Errorf("%v, %v", results, err)
	}
}

// TestGenerations: a new life of the log ends every session, and no id that a lost tail may have handed out is handed out again.
func TestGenerations(t *testing.T) {
	table := pairTable(t)
	mustBeVoid(t, table, Command{Type: RaiseGeneration, Generation: 1})
	grow(t, table, Command{Type: RaiseGeneration, Generation: 2})
	if len(table.Sessions()) != 0 || len(table.Groups()) != 0 {
		t.Errorf("%d sessions, %d groups", len(table.Sessions()), len(table.Groups()))
	}
	results, err := table.Apply(20, AppendEntry(nil, Command{Type: OpenSession, Node: "n1", Boot: 1, Authority: "h1:1"}))
	if err != nil || results[0].ID <= 1<<32 {
		t.Errorf("session %d, %v", results[0].ID, err)
	}
}

func TestPartitionSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawPartitions(t)
		b := s.append([]byte{9})
		var back PartitionSet
		if !back.read(b[1:]) || back != s {
			t.Fatalf("%x", b)
		}
		n, last := 0, -1
		for p := range s.All {
			if int(p) <= last || !s.Has(p) || !s.Moved()[p] {
				t.Fatalf("%d after %d", p, last)
			}
			last = int(p)
			n++
		}
		if n != s.Len() {
			t.Fatalf("%d of %d", n, s.Len())
		}
	})
	var s PartitionSet
	if s.read([]byte{1, 0}) || s.read(make([]byte, Partitions/8+1)) {
		t.Error("a second way to write a set was read")
	}
}
