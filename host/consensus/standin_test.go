package consensus

import (
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// TestALogBehindASnapshot: a voter whose log begins behind a snapshot takes what continues it, also what it has already, and what contradicts it.
func TestALogBehindASnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("0")
		a, b := w.nodes["a"], w.nodes["b"]
		b.machine.await(t, 1)
		as := a.ID()
		a.close() // without the two there is no majority, and no leader but the chief
		w.nodes["c"].close()
		c := newChief(t, a.net, as, a.authority, b)

		const term = 1000
		c.install(term, 100, term-1)
		if !c.append(term, 100, term-1, 2) {
			t.Fatal("what follows the snapshot was refused")
		}
		if !c.append(term, 100, term-1, 3) {
			t.Error("a leader that does not know what the voter has was refused, and would send the snapshot again and again")
		}
		if c.append(term, 100, term-2, 1) {
			t.Error("another past was taken")
		}
		if err := c.tryAppend(term, 99, term-1, 1); err == nil || !strings.Contains(err.Error(), "entry 100 is of term 1000, and a majority has one of term 999 in its place") {
			t.Errorf("what the snapshot holds was to be taken back: %v", err)
		}
		if last := must(b.disk.LastIndex()); last != 103 {
			t.Errorf("the log ends with %d", last)
		}

		// The leader of the next term knows nothing of 101 to 103, and has a snapshot of what took their place.
		c.install(term+1, 101, term+1)
		if last := must(b.disk.LastIndex()); last != 0 {
			t.Errorf("the log ends with %d", last)
		}
		if !c.append(term+1, 101, term+1, 1) {
			t.Error("what follows the second snapshot was refused")
		}
		if !c.append(term+1, 102, term+1, 3) {
			t.Error("and what follows that")
		}
		var l raft.Log
		for i := uint64(102); i <= 105; i++ {
			if err := b.disk.GetLog(i, &l); err != nil || l.Term != term+1 || l.Type != raft.LogCommand {
				t.Errorf("entry %d is %+v, %v", i, l, err)
			}
		}
	}, abc...)
}

// TestWhatStandsInIsNeverStored: neither by another voter nor by a leader, who has to know what it lacks.
func TestWhatStandsInIsNeverStored(t *testing.T) {
	if err := checkEntry(&raft.Log{Index: 1, Type: standInType}); err == nil {
		t.Error("a voter would store it")
	}
	w := newWorld(t, newMemory(t), "a")
	a := w.nodes["a"].open(w.list("a"), func(c *VoterConfig) { c.Trailing = 1 })
	w.propose("0")
	if err := a.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	s := a.Stats()
	if s.SnapshotIndex == 0 || !s.Leading {
		t.Fatalf("%+v", s)
	}
	if err := a.disk.DeleteRange(1, s.LastIndex); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := a.disk.GetLog(s.SnapshotIndex, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("a leader was given %+v, %v", l, err)
	}
}
