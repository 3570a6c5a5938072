package consensus

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// TestScreen: a snapshot at which raft would panic is answered with an error and installed nowhere; the voter stays a voter, and
// takes the next request of the same sender.
func TestScreen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.net.(*memory)
		w.start(nil, abc...)
		w.propose("before")
		victim := w.leader()
		liar, ours := w.nodes["a"], rid("a", 77)
		if victim == liar {
			liar, ours = w.nodes["b"], rid("b", 77)
		}
		l := newLayer(ours, &VoterConfig{Authority: liar.authority, Network: &memoryEnd{m, liar.id}, Log: slog.New(slog.DiscardHandler),
			Resolve: func(id core.NodeID) (string, bool) { return w.nodes[id].authority, true }})
		trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: l, MaxPool: 1, Timeout: patience,
			Logger: newLogger(slog.New(slog.DiscardHandler), "liar")})
		defer func() {
			_ = trans.Close()
			trans.CloseStreams()
		}()
		good := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: ours.server(), Address: ours.address(liar.authority)}}})
		for _, c := range []struct {
			name string
			req  raft.InstallSnapshotRequest
			text string
		}{
			{"noise for a configuration", raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: []byte("noise")}, "cannot be read"},
			{"half a configuration", raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: good[:len(good)/2]}, "cannot be read"},
			{"nobody", raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: raft.EncodeConfiguration(raft.Configuration{})}, "nobody"},
			{"the version before", raft.InstallSnapshotRequest{SnapshotVersion: 0, Configuration: good}, "version 0"},
			{"a version to come", raft.InstallSnapshotRequest{SnapshotVersion: 9, Configuration: good}, "version 9"},
			{"less than nothing", raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: good, Size: -1}, "-1 bytes"},
		} {
			c.req.RPCHeader = raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(ours.String()), Addr: []byte(l.Addr().String())}
			c.req.Term, c.req.LastLogIndex, c.req.LastLogTerm = 1<<40, 1<<40, 1<<40
			var resp raft.InstallSnapshotResponse
			err := trans.InstallSnapshot(victim.ID().server(), victim.ID().address(victim.authority), &c.req, &resp, bytes.NewReader(nil))
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: it was answered %v", c.name, err)
			}
			if log := victim.log.String(); !strings.Contains(log, "a request of another voter was refused") || !strings.Contains(log, c.text) {
				t.Errorf("%s: not in the log:\n%s", c.name, log)
			}
		}
		if got := w.propose("after"); got != "2" {
			t.Errorf("the next entry is number %s", got)
		}
		if s := victim.Stats(); s.SnapshotIndex != 0 || s.Term >= 1<<40 || s.LastIndex >= 1<<40 {
			t.Errorf("what a liar sent was taken: %+v", s)
		}
		if got := victim.State(); got != Voting {
			t.Errorf("it is %s", got)
		}
	}, abc...)
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
