package core

import (
	"fmt"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

// TestSenders: a message is refused if a newer epoch of its sender is known, by the view or by a message before it; the view takes over from
// messages as it learns, and what nobody has said is not known.
func TestSenders(t *testing.T) {
	m, table := quorumMachine(t)
	x := must(abi.ParseIdentity("b/x"))
	known := m.View().Epoch("b", PartitionOf(x))
	epoch := func(d int) abi.Epoch {
		return abi.Epoch{Generation: known.Generation, Index: uint64(int(known.Index) + d)}
	}
	var s Senders
	for i, c := range []struct {
		later  int
		refuse bool
		len    int
	}{{-1, true, 0}, {0, false, 0}, {3, false, 1}, {0, true, 1}, {2, true, 1}, {3, false, 1}, {5, false, 1}, {3, true, 1}} {
		if got := s.Refuses(m.View(), x, epoch(c.later)); got != c.refuse || s.Len() != c.len {
			t.Errorf("message %d, of %d later: refused %v, %d known", i, c.later, got, s.Len())
		}
	}
	s.Settle(m.View())
	if s.Len() != 1 {
		t.Error("it was forgotten though the view does not know it")
	}
	if s.Refuses(m.View(), must(abi.ParseIdentity("c/x")), abi.Epoch{}) {
		t.Error("of an actor of which nobody knows anything")
	}
	grow(t, table, Command{Type: Release, Session: 2, Group: 4, Partitions: everything(), Index: table.Index()})
	for table.Index() < epoch(5).Index {
		grow(t, table, Command{Type: RenewSession, Session: 1, Node: "n1"})
	}
	grow(t, table, Command{Type: Assign, Group: 4, Session: 2, Partitions: everything()})
	m.Step(&Input{Type: Assigned, Assignments: table.Assignments(), Session: 1}, 0)
	s.Settle(m.View())
	if s.Len() != 0 || !s.Refuses(m.View(), x, epoch(5)) {
		t.Errorf("the view has a newer one, and %d are known beside it", s.Len())
	}

	s = Senders{}
	for i := range maxAhead + 100 {
		s.Refuses(m.View(), must(abi.NewIdentity(fmt.Sprintf("k%d", i), "x")), abi.Epoch{Generation: 1})
	}
	if s.Len() != maxAhead {
		t.Errorf("%d known", s.Len())
	}
}
