package consensus

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// chief speaks to a voter as a leader of a high term would, over raft's own transport and the network of the world.
type chief struct {
	t     *testing.T
	trans *raft.NetworkTransport
	head  raft.RPCHeader
	to    *node
	all   raft.Configuration
}

// newChief returns one who says to be a voter of a node, whose end of the network it has.
func newChief(t *testing.T, net Network, as RaftID, authority string, to *node) *chief {
	l := newLayer(as, &VoterConfig{Authority: authority, Network: net, Log: slog.New(slog.DiscardHandler),
		Resolve: func(id core.NodeID) (string, bool) { return to.authority, id == to.id }})
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: l, MaxPool: 1, Timeout: patience,
		Logger: newLogger(slog.New(slog.DiscardHandler), "chief")})
	t.Cleanup(func() {
		_ = trans.Close()
		trans.CloseStreams()
	})
	return &chief{t: t, trans: trans, to: to, all: to.raft.GetConfiguration().Configuration(), head: headOf(as, authority)}
}

func headOf(id RaftID, authority string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id.String()), Addr: []byte(id.address(authority))}
}

func (c *chief) peer() (raft.ServerID, raft.ServerAddress) {
	return c.to.ID().server(), c.to.ID().address(c.to.authority)
}

// snapshot is a request to install one of so many bytes.
func (c *chief) snapshot(term, index, snapshotTerm uint64, size int) *raft.InstallSnapshotRequest {
	return &raft.InstallSnapshotRequest{RPCHeader: c.head, SnapshotVersion: raft.SnapshotVersionMax, Term: term, LastLogIndex: index,
		LastLogTerm: snapshotTerm, Configuration: raft.EncodeConfiguration(c.all), ConfigurationIndex: 1, Size: int64(size)}
}

func (c *chief) send(req *raft.InstallSnapshotRequest, b []byte) (raft.InstallSnapshotResponse, error) {
	var resp raft.InstallSnapshotResponse
	id, address := c.peer()
	err := c.trans.InstallSnapshot(id, address, req, &resp, bytes.NewReader(b))
	return resp, err
}

func (c *chief) install(term, index, snapshotTerm uint64) {
	c.t.Helper()
	b := appendSnapshot(nil, index, nil)
	if resp, err := c.send(c.snapshot(term, index, snapshotTerm, len(b)), b); err != nil || !resp.Success {
		c.t.Fatalf("snapshot %d: %+v, %v", index, resp, err)
	}
}

// entries is a request to take n entries of a term after one of another.
func (c *chief) entries(term, prev, prevTerm uint64, n int) *raft.AppendEntriesRequest {
	req := &raft.AppendEntriesRequest{RPCHeader: c.head, Term: term, PrevLogEntry: prev, PrevLogTerm: prevTerm}
	for i := range uint64(n) {
		req.Entries = append(req.Entries, &raft.Log{Index: prev + 1 + i, Term: term, Type: raft.LogCommand, Data: []byte("x")})
	}
	return req
}

func (c *chief) ask(req *raft.AppendEntriesRequest) (raft.AppendEntriesResponse, error) {
	var resp raft.AppendEntriesResponse
	id, address := c.peer()
	err := c.trans.AppendEntries(id, address, req, &resp)
	return resp, err
}

// append reports whether entries were taken.
func (c *chief) append(term, prev, prevTerm uint64, n int) bool {
	c.t.Helper()
	resp, err := c.ask(c.entries(term, prev, prevTerm, n))
	if err != nil {
		c.t.Fatalf("entries after %d: %v", prev, err)
	}
	return resp.Success
}

// tryAppend returns why entries were refused.
func (c *chief) tryAppend(term, prev, prevTerm uint64, n int) error {
	_, err := c.ask(c.entries(term, prev, prevTerm, n))
	return err
}
