package core

import "testing"

// TestReleaseOfWhatIsInAnotherMove: a session may give up what is in a move of its own without that move, or with another. A snapshot in which
// a move had partitions that are nobody's any more could be read by no voter that starts, and by no node that follows.
func TestReleaseOfWhatIsInAnotherMove(t *testing.T) {
	readable := func(t *testing.T, table *Table) {
		t.Helper()
		if _, err := ReadSnapshot(table.AppendSnapshot(nil)); err != nil {
			t.Error(err)
		}
	}
	begun := func(t *testing.T) *Table {
		table := pairTable(t)
		grow(t, table, Command{Type: BeginMove, Group: 3, From: 1, Session: 2, Partitions: partitions(1, 2)},
			Command{Type: BeginMove, Group: 3, From: 1, Session: 2, Partitions: partitions(3, 4)})
		return table
	}
	for name, ps := range map[string]PartitionSet{"a part of it": partitions(1), "all of it": partitions(1, 2), "more": partitions(1, 2, 9)} {
		t.Run("to nobody, "+name, func(t *testing.T) {
			table := begun(t)
			grow(t, table, Command{Type: Release, Session: 1, Group: 3, Partitions: ps, Index: table.Index()})
			readable(t, table)
			if got := owners(table, 1, 3); got[0] != 0 || got[1] != 1 {
				t.Errorf("owners %v", got)
			}
			if _, stands := table.Move(4); stands {
				t.Error("the move stands")
			}
			if slot := table.Groups()[0].Slots[2]; slot.Move != 0 {
				t.Errorf("%+v", slot)
			}
			mustBeVoid(t, table, Command{Type: Release, Session: 1, Group: 3, Partitions: partitions(1, 2), Index: table.Index(), Move: 4})
		})
	}
	t.Run("with another move", func(t *testing.T) {
		table := begun(t)
		grow(t, table, Command{Type: Release, Session: 1, Group: 3, Partitions: partitions(1, 2, 3), Index: table.Index(), Move: 4})
		readable(t, table)
		if got := owners(table, 1, 2, 3, 4); got[0] != 2 || got[1] != 2 || got[2] != 0 || got[3] != 1 {
			t.Errorf("owners %v", got)
		}
	})
}
