package consensus

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// recorder is a stream layer whose streams keep what is written to them first, and end.
type recorder struct {
	closed chan struct{}
	said   chan []byte
}

func (r *recorder) Accept() (net.Conn, error) { <-r.closed; return nil, net.ErrClosed }
func (r *recorder) Close() error              { close(r.closed); return nil }
func (r *recorder) Addr() net.Addr            { return raftAddr("recorder") }
func (r *recorder) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	a, b := net.Pipe()
	go func() {
		defer b.Close()
		buf := make([]byte, 64<<10)
		n, _ := b.Read(buf)
		r.said <- buf[:n]
	}()
	return a, nil
}

// recorded returns the bytes of a request on raft's own transport.
func recorded(ask func(*raft.NetworkTransport)) []byte {
	r := &recorder{closed: make(chan struct{}), said: make(chan []byte, 1)}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: r, Timeout: patience,
		Logger: newLogger(slog.New(slog.DiscardHandler), "recorder")})
	defer trans.Close()
	ask(trans)
	return <-r.said
}

// FuzzStream: whatever a voter says after its first words, this one does not panic, and what raft is given is what raft and its log can bear.
func FuzzStream(f *testing.F) {
	self, peer := rid("a", 1), rid("b", 2)
	members := []raft.Server{{ID: self.server(), Address: self.address("a:1")}, {ID: peer.server(), Address: peer.address("b:1")}}
	good := raft.EncodeConfiguration(raft.Configuration{Servers: members})
	head := headOf(peer, "b:1")
	entry := func(index, term uint64, data string) *raft.Log {
		return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: []byte(data)}
	}
	for _, entries := range [][]*raft.Log{nil, {entry(8, 3, "x"), entry(9, 4, "y")}, {entry(9, 4, "y"), entry(8, 3, "x")}, {nil}, {entry(5, 9, "back")},
		{{Index: 8, Term: 4, Type: raft.LogConfiguration, Data: good}}} {
		f.Add(recorded(func(n *raft.NetworkTransport) {
			_ = n.AppendEntries("", "", &raft.AppendEntriesRequest{RPCHeader: head, Term: 4, PrevLogEntry: 7, PrevLogTerm: 3, Entries: entries, LeaderCommitIndex: 7}, new(raft.AppendEntriesResponse))
		}))
	}
	f.Add(recorded(func(n *raft.NetworkTransport) {
		_ = n.AppendEntries("", "", &raft.AppendEntriesRequest{RPCHeader: head, Term: 4}, new(raft.AppendEntriesResponse))
	}))
	f.Add(recorded(func(n *raft.NetworkTransport) {
		_ = n.InstallSnapshot("", "", &raft.InstallSnapshotRequest{RPCHeader: head, SnapshotVersion: 1, Term: 4, LastLogIndex: 9, LastLogTerm: 4, Configuration: good, Size: 3},
			new(raft.InstallSnapshotResponse), bytes.NewReader([]byte("abc")))
	}))
	f.Add(recorded(func(n *raft.NetworkTransport) {
		_ = n.RequestVote("", "", &raft.RequestVoteRequest{RPCHeader: head, Term: 4}, new(raft.RequestVoteResponse))
	}))
	f.Add(recorded(func(n *raft.NetworkTransport) {
		_ = n.RequestPreVote("", "", &raft.RequestPreVoteRequest{RPCHeader: head, Term: 4}, new(raft.RequestPreVoteResponse))
	}))
	f.Add(recorded(func(n *raft.NetworkTransport) {
		_ = n.TimeoutNow("", "", &raft.TimeoutNowRequest{RPCHeader: head}, new(raft.TimeoutNowResponse))
	}))
	f.Add([]byte{0, 0x81, 0xa4, 'A', 'd', 'd', 'r', 0xc6, 0xff, 0xff, 0xff, 0xff, 'x'})                 // four gigabytes of address
	f.Add([]byte{0, 0x81, 0xa7, 'E', 'n', 't', 'r', 'i', 'e', 's', 0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0}) // as many entries
	f.Add([]byte{9})

	now := standing{term: 4, leader: peer.server(), members: members, agreed: 6, termOf: func(i uint64) (uint64, bool) { return 3, i <= 7 }}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLayer(self, &VoterConfig{Authority: "a:1", Log: slog.New(slog.DiscardHandler)})
		s := newScreen(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: l, Logger: newLogger(slog.New(slog.DiscardHandler), "")}),
			patience, slog.New(slog.DiscardHandler), func() standing { return now })
		beats := make(chan raft.RPC)
		s.SetHeartbeatHandler(func(rpc raft.RPC) { beats <- rpc })
		l.serve = s.serve
		theirs, ours := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.take(ours, peer.Node)
			ours.Close()
		}()
		if err := knock(theirs, self, peer); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = theirs.Write(b)
			_ = theirs.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		for open := true; open; {
			select {
			case rpc := <-s.Consumer():
				bearable(t, rpc, peer)
			case rpc := <-beats:
				bearable(t, rpc, peer)
			case <-ended:
				open = false
			}
		}
		_ = s.Close()
	})
}

// bearable checks a request as raft would use it, and answers it.
func bearable(t *testing.T, rpc raft.RPC, from RaftID) {
	if head := rpc.Command.(raft.WithRPCHeader).GetRPCHeader(); string(head.ID) != from.String() || len(head.Addr) == 0 {
		t.Errorf("it is of %q at %q", head.ID, head.Addr)
	}
	switch m := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		for i, l := range m.Entries {
			if l.Index != m.PrevLogEntry+1+uint64(i) || l.Index <= 6 && l.Term != 3 || l.Term > m.Term {
				t.Errorf("entry %d of term %d after %d", l.Index, l.Term, m.PrevLogEntry)
			}
			if l.Type == raft.LogConfiguration {
				raft.DecodeConfiguration(l.Data)
			}
		}
		rpc.Respond(new(raft.AppendEntriesResponse), nil)
	case *raft.InstallSnapshotRequest:
		raft.DecodeConfiguration(m.Configuration)
		_, _ = io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(new(raft.InstallSnapshotResponse), nil)
	default:
		rpc.Respond(nil, nil)
	}
}
