package core

import "testing"

// TestAnotherWeightLosesNothing: a session that says another weight owns what it owned, under the same epochs. What its node forgot would be
// out of date for as long as the epoch lasts.
func TestAnotherWeightLosesNothing(t *testing.T) {
	table := grown(t,
		Command{Type: OpenSession, Node: "n1", Boot: 1, Authority: "h1:1", Weight: 1, Kinds: []string{"a"}},
		Command{Type: Regroup, Kinds: []string{"a"}},
		Command{Type: Assign, Group: 2, Session: 1, Partitions: everything()})
	m := NewMachine(Config{Self: "n1", Quorum: true, Boot: 1})
	m.Step(&Input{Type: SetKinds, Node: "n1", Kinds: []string{"a"}}, 0)
	m.Step(&Input{Type: Start}, 0)
	m.Step(&Input{Type: Renewed, Until: SessionTime}, 0)
	m.Step(&Input{Type: Assigned, Assignments: table.Assignments(), Session: 1}, 0)
	grow(t, table, Command{Type: UpdateSession, Session: 1, Weight: 5, Kinds: []string{"a"}})
	for _, e := range m.Step(&Input{Type: Assigned, Assignments: table.Assignments(), Session: 1}, 0) {
		if e.Type == Forget {
			t.Errorf("it forgets what it left under epochs up to %v, and owns all of it under %v", e.Epoch, m.View().Epoch("a", 0))
		}
	}
}
