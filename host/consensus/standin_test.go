package consensus

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// chief speaks to a voter as a leader of a high term would.
type chief struct {
	t     *testing.T
	trans *raft.NetworkTransport
	head  raft.RPCHeader
	to    *node
	all   raft.Configuration
}

// newChief returns one who says to be the voter of another node, which is closed.
func newChief(t *testing.T, m *memory, as RaftID, authority string, to *node) *chief {
	l := newLayer(as, &VoterConfig{Authority: authority, Network: &memoryEnd{m, as.Node}, Log: slog.New(slog.DiscardHandler),
		Resolve: func(id core.NodeID) (string, bool) { return to.authority, id == to.id }})
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: l, MaxPool: 1, Timeout: patience,
		Logger: newLogger(slog.New(slog.DiscardHandler), "chief")})
	t.Cleanup(func() {
		_ = trans.Close()
		trans.CloseStreams()
	})
	return &chief{t: t, trans: trans, to: to, all: to.raft.GetConfiguration().Configuration(),
		head: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(as.String()), Addr: []byte(l.Addr().String())}}
}

func (c *chief) install(term, index, snapshotTerm uint64) {
	c.t.Helper()
	b := appendSnapshot(nil, index, nil)
	req := raft.InstallSnapshotRequest{RPCHeader: c.head, SnapshotVersion: raft.SnapshotVersionMax, Term: term, LastLogIndex: index,
		LastLogTerm: snapshotTerm, Configuration: raft.EncodeConfiguration(c.all), ConfigurationIndex: 1, Size: int64(len(b))}
	var resp raft.InstallSnapshotResponse
	if err := c.trans.InstallSnapshot(c.to.ID().server(), c.to.ID().address(c.to.authority), &req, &resp, bytes.NewReader(b)); err != nil || !resp.Success {
		c.t.Fatalf("snapshot %d: %+v, %v", index, resp, err)
	}
}

// append sends n entries of a term after one of another, and reports whether they were taken.
func (c *chief) append(term, prev, prevTerm uint64, n int) bool {
	c.t.Helper()
	req := raft.AppendEntriesRequest{RPCHeader: c.head, Term: term, PrevLogEntry: prev, PrevLogTerm: prevTerm}
	for i := range uint64(n) {
		req.Entries = append(req.Entries, &raft.Log{Index: prev + 1 + i, Term: term, Type: raft.LogCommand, Data: []byte("x")})
	}
	var resp raft.AppendEntriesResponse
	if err := c.trans.AppendEntries(c.to.ID().server(), c.to.ID().address(c.to.authority), &req, &resp); err != nil {
		c.t.Fatalf("entries after %d: %v", prev, err)
	}
	return resp.Success
}

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
		c := newChief(t, w.net.(*memory), as, a.authority, b)

		const term = 1000
		c.install(term, 100, term-1)
		if !c.append(term, 100, term-1, 2) {
			t.Fatal("what follows the snapshot was refused")
		}
		if !c.append(term, 100, term-1, 3) {
			t.Error("a leader that does not know what the voter has was refused, and would send the snapshot again and again")
		}
		if c.append(term, 99, term-1, 1) || c.append(term, 100, term-2, 1) {
			t.Error("another past was taken")
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
