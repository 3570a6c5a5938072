package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// TestScreen: what no sound leader sends is answered with an error that says what is wrong, named in the log with who sent it, and taken nowhere:
// the voter stays a voter, with its log and its disk as they were, and takes the next request of the same sender. Over real links.
func TestScreen(t *testing.T) {
	w := newWorld(t, newLoopback(), abc...)
	w.start(calm, abc...)
	w.propose("before")
	victim := w.leader()
	liar, _ := w.followers(victim)
	before := victim.Stats()
	c := newChief(t, liar.net, liar.ID(), liar.authority, victim)
	term, last := before.Term+100, before.LastIndex
	refused := func(name, text string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: it was answered %v", name, err)
		}
		if log := victim.log.String(); !strings.Contains(log, `msg="a request of another voter was refused"`) || !strings.Contains(log, "from="+liar.ID().String()) ||
			!strings.Contains(log, text) {
			t.Errorf("%s: not in the log:\n%s", name, log)
		}
		victim.screenForgets()
	}

	good := raft.EncodeConfiguration(c.all)
	for _, k := range []struct {
		name string
		bad  func(*raft.InstallSnapshotRequest)
		text string
	}{
		{"noise for a configuration", func(m *raft.InstallSnapshotRequest) { m.Configuration = []byte("noise") }, "cannot be read"},
		{"half a configuration", func(m *raft.InstallSnapshotRequest) { m.Configuration = good[:len(good)/2] }, "cannot be read"},
		{"nobody", func(m *raft.InstallSnapshotRequest) { m.Configuration = raft.EncodeConfiguration(raft.Configuration{}) }, "nobody"},
		{"the version before", func(m *raft.InstallSnapshotRequest) { m.SnapshotVersion = 0 }, "version 0"},
		{"a version to come", func(m *raft.InstallSnapshotRequest) { m.SnapshotVersion = 9 }, "version 9"},
		{"less than nothing", func(m *raft.InstallSnapshotRequest) { m.Size = -1 }, "-1 bytes"},
		{"more than there is", func(m *raft.InstallSnapshotRequest) { m.Size = 1 << 50 }, "1125899906842624 bytes"},
		{"a term to come", func(m *raft.InstallSnapshotRequest) { m.LastLogTerm = m.Term + 1 }, "from a leader of term"},
		{"in another's name", func(m *raft.InstallSnapshotRequest) { m.RPCHeader = headOf(victim.ID(), victim.authority) }, "said to be of"},
	} {
		req := c.snapshot(term, last+1000, term, 0)
		k.bad(req)
		_, err := c.send(req, nil)
		refused(k.name, k.text, err)
	}

	entry := func(index, term uint64) *raft.Log {
		return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: []byte("lie")}
	}
	for _, k := range []struct {
		name string
		bad  func(*raft.AppendEntriesRequest)
		text string
	}{
		{"backwards", func(m *raft.AppendEntriesRequest) { slices.Reverse(m.Entries) }, fmt.Sprintf("number 1 of the entries after %d is entry %d: out of order", last, last+3)},
		{"one is missing", func(m *raft.AppendEntriesRequest) { m.Entries = slices.Delete(m.Entries, 1, 2) }, "out of order"},
		{"one comes twice", func(m *raft.AppendEntriesRequest) { m.Entries[1] = m.Entries[0] }, "out of order"},
		{"the first ones are missing", func(m *raft.AppendEntriesRequest) { m.Entries = m.Entries[2:] }, "out of order"},
		{"far ahead, after nothing", func(m *raft.AppendEntriesRequest) { m.PrevLogEntry, m.PrevLogTerm = 0, 0 }, "out of order"},
		{"none", func(m *raft.AppendEntriesRequest) { m.Entries[1] = nil }, "is none"},
		{"terms that fall", func(m *raft.AppendEntriesRequest) { m.Entries[2].Term-- }, "after one of term"},
		{"a term to come", func(m *raft.AppendEntriesRequest) { m.Entries[2].Term++ }, "from a leader of term"},
		{"no term", func(m *raft.AppendEntriesRequest) { m.PrevLogTerm, m.Entries[0].Term = 0, 0 }, "is of term 0"},
		{"of a type that there is not", func(m *raft.AppendEntriesRequest) { m.Entries[0].Type = 77 }, "is of type 77"},
		{"a configuration that is none", func(m *raft.AppendEntriesRequest) { m.Entries[0].Type = raft.LogConfiguration }, "cannot be read"},
		{"the last of all terms", func(m *raft.AppendEntriesRequest) { m.Term = 1<<64 - 1 }, "no elections come to that"},
		{"an entry is taken back", func(m *raft.AppendEntriesRequest) {
			m.PrevLogEntry, m.PrevLogTerm, m.Entries = 1, 1, []*raft.Log{entry(2, term)}
		}, "and a majority has one of term"},
		{"in another's name", func(m *raft.AppendEntriesRequest) { m.RPCHeader = headOf(rid("b", 99), "b:1") }, "said to be of"},
		{"by another's address", func(m *raft.AppendEntriesRequest) { m.Addr = []byte(victim.ID().address("x:1")) }, "said to be of"},
		//lint:ignore SA1019 what a liar may fill in
		{"in the old form", func(m *raft.AppendEntriesRequest) { m.Leader, m.Addr = m.Addr, nil }, "said to be of"},
		{"a heartbeat in another's name", func(m *raft.AppendEntriesRequest) {
			*m = raft.AppendEntriesRequest{RPCHeader: headOf(victim.ID(), victim.authority), Term: m.Term}
		}, "said to be of"},
	} {
		req := c.entries(term, last, before.Term, 3)
		k.bad(req)
		_, err := c.ask(req)
		refused(k.name, k.text, err)
	}

	id, address := c.peer()
	vote := raft.RequestVoteRequest{RPCHeader: c.head, Term: 1 << 63, LastLogIndex: 1 << 40, LastLogTerm: term, LeadershipTransfer: true}
	refused("a vote for the end of terms", "no elections come to that", c.trans.RequestVote(id, address, &vote, new(raft.RequestVoteResponse)))
	vote.Term, vote.ID = term, nil // raft would vote for it, whoever it is
	refused("a vote for nobody", "said to be of", c.trans.RequestVote(id, address, &vote, new(raft.RequestVoteResponse)))
	pre := raft.RequestPreVoteRequest{RPCHeader: headOf(rid(liar.id, 5), liar.authority), Term: term}
	refused("a vote for who it was", "said to be of", c.trans.RequestPreVote(id, address, &pre, new(raft.RequestPreVoteResponse)))

	// Nothing came of it. (On a machine that stands still, the leader may be another one by now.)
	if got := w.propose("after"); got != "2" {
		t.Errorf("the next entry is number %s", got)
	}
	for _, n := range w.sorted() {
		if got := n.machine.await(t, 2); !slices.Equal(got, []string{"before", "after"}) {
			t.Errorf("%s has %v", n.id, got)
		}
	}
	if s := victim.Stats(); s.SnapshotIndex != 0 || s.Term >= term || s.State != Voting {
		t.Errorf("what a liar sent was taken: %+v", s)
	}
	if err := victim.disk.failure(); err != nil {
		t.Errorf("the disk was blamed: %v", err)
	}
}

// screenForgets has the screen log what it refuses, as if nothing had been refused yet.
func (n *node) screenForgets() {
	n.trans.mu.Lock()
	defer n.trans.mu.Unlock()
	clear(n.trans.told)
}

// TestAMemberThatIsNoVoter cannot bring those down who have a leader, nor the leader; the one that was cut off from it listens to the new ones, as a
// voter must that was away while all others were replaced.
func TestAMemberThatIsNoVoter(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("one")
		l := w.leader()
		d := w.nodes["d"]
		before, _ := l.Leadership()
		for _, n := range []*node{w.nodes["a"], w.nodes["b"], w.nodes["c"]} {
			n.machine.await(t, 1)
			n.awaitLeader(l.id)
			c := newChief(t, d.net, rid("d", 4), d.authority, n)
			if err := c.tryAppend(before.Term+7, 0, 0, 0); err == nil || !strings.Contains(err.Error(), "is no voter of this one's configuration, and says that it leads; the leader is "+l.ID().String()) {
				t.Errorf("%s answered a heartbeat %v", n.id, err)
			}
			if err := c.tryAppend(before.Term+7, 1, 1, 1); err == nil || !strings.Contains(err.Error(), "the leader is ") {
				t.Errorf("%s answered entries %v", n.id, err)
			}
			if _, err := c.send(c.snapshot(before.Term+7, 1000, before.Term+7, 0), nil); err == nil || !strings.Contains(err.Error(), "the leader is ") {
				t.Errorf("%s answered a snapshot %v", n.id, err)
			}
			id, address := c.peer()
			if err := c.trans.TimeoutNow(id, address, &raft.TimeoutNowRequest{RPCHeader: c.head}, new(raft.TimeoutNowResponse)); err == nil || !strings.Contains(err.Error(), "hands over a leadership") {
				t.Errorf("%s answered a transfer %v", n.id, err)
			}
			var resp raft.RequestVoteResponse
			vote := raft.RequestVoteRequest{RPCHeader: c.head, Term: before.Term + 7, LastLogIndex: 1 << 30, LastLogTerm: before.Term, LeadershipTransfer: true}
			if err := c.trans.RequestVote(id, address, &vote, &resp); err != nil || resp.Granted { // raft's own
				t.Errorf("%s votes: %+v, %v", n.id, resp, err)
			}
			if n != l && n.Stats().Term >= before.Term+7 {
				t.Errorf("%s took the term", n.id)
			}
		}
		w.propose("two")
		if now, _ := w.leader().Leadership(); now.Term >= before.Term+7 {
			t.Errorf("term %d after term %d", now.Term, before.Term)
		}
	}, "a", "b", "c", "d")
}

// awaitLeader waits until a node leads as far as a voter knows, or, with "", none.
func (n *node) awaitLeader(leader core.NodeID) {
	n.w.t.Helper()
	for {
		l, changed := n.Leadership()
		if l.Leader == leader {
			return
		}
		<-changed
	}
}

// TestWhoKnowsNoLeaderListens: see TestAMemberThatIsNoVoter.
func TestWhoKnowsNoLeaderListens(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("one")
		l := w.leader()
		n, other := w.followers(l)
		n.machine.await(t, 1)
		l.close()
		other.close()
		n.awaitLeader("")
		d := w.nodes["d"]
		c := newChief(t, d.net, rid("d", 4), d.authority, n)
		s := n.Stats()
		if !c.append(s.Term+50, s.LastIndex, must(termAt(n, s.LastIndex)), 2) {
			t.Error("the leader of those who took the place of the others was refused")
		}
	}, "a", "b", "c", "d")
}

func termAt(n *node, index uint64) (uint64, error) {
	var l raft.Log
	err := n.disk.GetLog(index, &l)
	return l.Term, err
}

// TestATransferToWhoIsNew: without a configuration it would be a candidate for ever, and the log could not begin.
func TestATransferToWhoIsNew(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.nodes["a"].open(w.list(abc...))
		d := w.nodes["d"]
		c := newChief(t, d.net, rid("d", 4), d.authority, a)
		id, address := c.peer()
		if err := c.trans.TimeoutNow(id, address, &raft.TimeoutNowRequest{RPCHeader: c.head}, new(raft.TimeoutNowResponse)); err == nil || !strings.Contains(err.Error(), "hands over a leadership") {
			t.Errorf("it was answered %v", err)
		}
		w.nodes["b"].open(w.list(abc...))
		w.nodes["c"].open(w.list(abc...))
		w.propose("one")
	}, "a", "b", "c", "d")
}

// TestASnapshotThatCannotBeRead is not kept: the voter would not start with it any more.
func TestASnapshotThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("0")
		a, b := w.nodes["a"], w.nodes["b"]
		b.machine.await(t, 1)
		as := a.ID()
		a.close()
		w.nodes["c"].close()
		c := newChief(t, a.net, as, a.authority, b)
		whole := appendSnapshot(nil, 100, []byte{0, 0, 0, 1, 'x'})
		for _, k := range []struct {
			name, text string
			b          []byte
		}{
			{"noise", "it is no snapshot", []byte("noise")},
			{"nothing", "it is no snapshot", nil},
			{"half a state", "short", whole[:len(whole)-1]},
			{"of later entries", "it holds entry 101", appendSnapshot(nil, 101, nil)},
		} {
			if resp, err := c.send(c.snapshot(1000, 100, 999, len(k.b)), k.b); err == nil || !strings.Contains(err.Error(), k.text) {
				t.Errorf("%s: it was answered %+v, %v", k.name, resp, err)
			}
		}
		if _, err := c.send(c.snapshot(1000, 100, 999, len(whole)+7), whole); err == nil {
			t.Error("one that does not come to its end was taken")
		}
		if s := b.Stats(); s.SnapshotIndex != 0 || b.disk.failure() != nil || !slices.Equal(b.machine.all(), []string{"0"}) {
			t.Errorf("%+v, %v, %v", s, b.disk.failure(), b.machine.all())
		}
		b.close()
		for _, id := range abc {
			w.nodes[id].open(nil)
		}
		if got := w.propose("1"); got != "2" {
			t.Errorf("the next entry is number %s", got)
		}
	}, abc...)
}

// TestACrashBeforeTheOldLogIsGone: a voter that was sent a snapshot, and ends before it has thrown away what that holds, goes on when it is back.
func TestACrashBeforeTheOldLogIsGone(t *testing.T) {
	w := newWorld(t, newMemory(t), abc...)
	w.start(calm, abc...)
	w.propose("0")
	a, b := w.nodes["a"], w.nodes["b"]
	b.machine.await(t, 1)
	as, all := a.ID(), b.raft.GetConfiguration().Configuration()
	for _, n := range w.sorted() {
		n.close()
	}
	d, _, err := openDisk(b.dir, "test", "b", slog.New(slog.DiscardHandler), seam{})
	if err != nil {
		t.Fatal(err)
	}
	sink := must((&snapshots{d}).Create(raft.SnapshotVersionMax, 100, 7, all, 1, nowhere{}))
	must(sink.Write(appendSnapshot(nil, 100, nil)))
	if err := errors.Join(sink.Close(), d.close(false)); err != nil {
		t.Fatal(err)
	}
	b.open(nil, calm...)
	c := newChief(t, a.net, as, a.authority, b)
	if !c.append(1000, 100, 7, 3) {
		t.Error("what follows the snapshot was refused")
	}
	if err := b.disk.failure(); err != nil || must(b.disk.LastIndex()) != 103 {
		t.Errorf("the log ends with %d: %v", must(b.disk.LastIndex()), err)
	}
	b.close()
	b.open(nil, calm...) // and what is there can be read
	if last := b.Stats().LastIndex; last != 103 {
		t.Errorf("the log ends with %d", last)
	}
}

// TestEntriesFollowOneAnother: what gets past the screen all the same is an error, and no fault of the disk.
func TestEntriesFollowOneAnother(t *testing.T) {
	d, _, err := openDisk(t.TempDir(), "test", "a", slog.New(slog.DiscardHandler), seam{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(true); err != nil {
			t.Error(err)
		}
	}()
	store := func(ok bool, indices ...uint64) {
		t.Helper()
		var logs []*raft.Log
		for _, i := range indices {
			logs = append(logs, &raft.Log{Index: i, Term: 1, Type: raft.LogCommand})
		}
		if err := d.StoreLogs(logs); (err == nil) != ok || d.failure() != nil {
			t.Errorf("%d: %v, %v", indices, err, d.failure())
		}
	}
	store(false, 2)
	store(true, 1, 2)
	store(false, 4)
	store(false, 3, 5)
	store(false, 2)
	store(true, 3)
	all := raft.Configuration{Servers: []raft.Server{{ID: "a#0000000000000001", Address: "a#0000000000000001@a:1"}}}
	sink := must((&snapshots{d}).Create(raft.SnapshotVersionMax, 100, 7, all, 1, nowhere{}))
	must(sink.Write(appendSnapshot(nil, 100, nil)))
	if err := errors.Join(sink.Close(), d.DeleteRange(1, 3)); err != nil {
		t.Fatal(err)
	}
	store(false, 4)
	store(false, 102)
	store(true, 101, 102)
}

// TestRefusalsDoNotFillTheLog: who is refused asks again and again.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("one")
		l := w.leader()
		d := w.nodes["d"]
		c := newChief(t, d.net, rid("d", 4), d.authority, l)
		for range 500 {
			if err := c.tryAppend(99, 0, 0, 0); err == nil {
				t.Fatal("it was taken")
			}
		}
		if n := strings.Count(l.log.String(), "a request of another voter was refused"); n == 0 || n > 3*toldLines {
			t.Errorf("500 refusals are %d lines of the log", n)
		}
	}, "a", "b", "c", "d")
}

// TestNoPipelines: with them a leader's replication to a follower, and raft's end with it, may wait for ever.
func TestNoPipelines(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("one")
		leader := w.leader()
		for _, n := range w.nodes {
			if n != leader {
				if _, err := leader.trans.AppendEntriesPipeline(n.ID().server(), n.ID().address(n.authority)); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
					t.Errorf("a pipeline to %s: %v", n.id, err)
				}
			}
		}
	}, abc...)
}
