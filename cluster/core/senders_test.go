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
	told := m.View().Assigned().Index
	epoch := func(d int) abi.Epoch {
		return abi.Epoch{Generation: known.Generation, Index: uint64(int(told) + d)}
	}
	var s Senders
	if got := s.Judge(m.View(), x, known, "n2"); got != Current || s.Len() != 0 {
		t.Errorf("under the epoch of the view: %v", got)
	}
	if got := s.Judge(m.View(), x, abi.Epoch{Generation: known.Generation, Index: known.Index - 1}, "n2"); got != Replaced || s.Len() != 0 {
		t.Errorf("under an older one: %v", got)
	}
	for i, c := range []struct {
		later int
		want  Verdict
		len   int
	}{{3, Current, 1}, {2, Replaced, 1}, {3, Current, 1}, {5, Current, 1}, {3, Replaced, 1}} {
		if got := s.Judge(m.View(), x, epoch(c.later), "n2"); got != c.want || s.Len() != c.len {
			t.Errorf("message %d, of %d later: %v, %d known", i, c.later, got, s.Len())
		}
	}
	if invented := s.Settle(m.View(), epoch(4)); s.Len() != 1 || invented != nil {
		t.Error("it was forgotten though this node has not heard as much")
	}
	if got := s.Judge(m.View(), must(abi.ParseIdentity("c/x")), abi.Epoch{}, "n2"); got != Current {
		t.Error("of an actor of which nobody knows anything")
	}
	grow(t, table, Command{Type: Release, Session: 2, Group: 4, Partitions: everything(), Index: table.Index()})
	for table.Index() < epoch(5).Index {
		grow(t, table, Command{Type: RenewSession, Session: 1, Node: "n1"})
	}
	grow(t, table, Command{Type: Assign, Group: 4, Session: 2, Partitions: everything()})
	m.Step(&Input{Type: Assigned, Assignments: table.Assignments(), Session: 1}, 0)
	if invented := s.Settle(m.View(), abi.Epoch{}); s.Len() != 0 || invented != nil {
		t.Errorf("the view has a newer one, and %d are known beside it; %v taken for made up", s.Len(), invented)
	}
	if got := s.Judge(m.View(), x, epoch(5), "n2"); got != Replaced {
		t.Errorf("the view has a newer one: %v", got)
	}

	s = Senders{}
	for i := range maxAhead + 100 {
		s.Judge(m.View(), must(abi.NewIdentity(fmt.Sprintf("k%d", i), "x")), abi.Epoch{Generation: known.Generation, Index: m.View().Assigned().Index + 1}, "n2")
	}
	if s.Len() != maxAhead {
		t.Errorf("%d known", s.Len())
	}
}

// TestSendersThatLie: an epoch that the log has not given is believed until this node has heard of the log that far, and no longer; what is further
// ahead than a node falls behind is not believed at all, and keeps nobody else's messages out.
func TestSendersThatLie(t *testing.T) {
	m, _ := quorumMachine(t)
	x := must(abi.ParseIdentity("b/x"))
	v := m.View()
	real := v.Epoch("b", PartitionOf(x))
	at := abi.Epoch{Generation: v.Assigned().Generation, Index: v.Assigned().Index}
	later := func(e abi.Epoch, n uint64) abi.Epoch { e.Index += n; return e }
	var s Senders
	judge := func(what string, e abi.Epoch, want Verdict) {
		t.Helper()
		if got := s.Judge(v, x, e, "liar"); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	judge("far ahead", later(at, maxLag+1), FarAhead)
	judge("at the end of time", abi.Epoch{Generation: at.Generation, Index: 1<<64 - 1}, FarAhead)
	judge("of a generation to come", abi.Epoch{Generation: at.Generation + 1, Index: 1}, FarAhead)
	judge("the real one", real, Current)
	judge("a little ahead", later(at, maxLag), Current)
	judge("the real one, which seems to be replaced", real, Replaced)

	if invented := s.Settle(v, later(at, maxLag-1)); invented != nil || s.Len() != 1 {
		t.Errorf("the log is not that far yet: %v", invented)
	}
	want := Claim{"b", PartitionOf(x), later(at, maxLag), "liar"}
	if invented := s.Settle(v, later(at, maxLag)); len(invented) != 1 || invented[0] != want || s.Len() != 0 {
		t.Errorf("the log is that far and has not given it: %v", invented)
	}
	judge("the real one, again", real, Current)
	judge("the one that was made up, again", later(at, maxLag), Invented)
	judge("the next", later(at, maxLag+1), Current)
	judge("the real one, which seems to be replaced again", real, Replaced)
	s.Settle(v, abi.Epoch{Generation: at.Generation + 1, Index: at.Index})
	judge("the real one, after a recovery of the voters", real, Current)
}
