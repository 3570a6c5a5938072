package core

import (
	"testing"

	"github.com/wasilo/wasilo/abi"
)

// A log that goes on after a recovery has no sessions, keeps its index, what it knows of groups and blocked nodes, and whatever it gives out is
// above all that the lost voters may have.
func TestI2_RaisedAboveWhatWasLost(t *testing.T) {
	table := NewTable()
	apply := func(index uint64, c ...Command) []Result {
		t.Helper()
		results, err := table.Apply(index, AppendEntry(nil, c...))
		if err != nil {
			t.Fatal(err)
		}
		return results
	}
	open := Command{Type: OpenSession, Node: "n1", Boot: 1, Authority: "127.0.0.1:1", Weight: 1, Kinds: []string{"counter"}}
	session := SessionID(apply(5, open, Command{Type: BlockNode, Node: "n2"})[0].ID)
	chair := NewChair(table, nil, 0)
	chair.Led(0)
	chair.Barrier(0)
	for index, now := uint64(6), RenewEvery; index < 12; index, now = index+1, now+3*RenewEvery {
		chair.Applied(now)
		apply(index, append(chair.Tick(now, false), Command{Type: RenewSession, Session: session})...)
	}
	group, ok := table.GroupOf("counter")
	if !ok || group.Slots[7].Owner != session {
		t.Fatalf("no session owns anything: %+v", table.Groups())
	}
	old := group.Slots[7].Epoch

	before := table.AppendSnapshot(nil)
	raised, err := Raised(before)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Raised(raised) // a recovery may be repeated
	if err != nil {
		t.Fatal(err)
	}
	for n, snapshot := range map[uint32][]byte{2: raised, 3: again} {
		if table, err = ReadSnapshot(snapshot); err != nil {
			t.Fatal(err)
		}
		if table.Generation() != n || table.Index() != 11 || len(table.Sessions()) != 0 || len(table.Moves()) != 0 {
			t.Errorf("generation %d, index %d, %d sessions, %d moves", table.Generation(), table.Index(), len(table.Sessions()), len(table.Moves()))
		}
		if blocked := table.Blocked(); len(blocked) != 1 || blocked[0] != "n2" {
			t.Errorf("%v are blocked", blocked)
		}
		if !old.Less(abi.Epoch{Generation: n, Index: 1}) {
			t.Errorf("%v is not below generation %d", old, n)
		}
		open.Boot = 2
		if r := apply(12, open); r[0].Void != "" || SessionID(r[0].ID) <= session {
			t.Errorf("a session after the recovery: %+v", r[0])
		}
	}
	if _, err := Raised(before[:len(before)-1]); err == nil {
		t.Error("half a snapshot was raised")
	}
}
