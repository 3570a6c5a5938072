package host

import (
	"reflect"
	"slices"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/consensus"
)

// reread: what can be read of another node means the same when it is written anew, no longer than before: a number may have come in more
// bytes than it needs.
func reread[T any](t *testing.T, b []byte, read func([]byte) (T, error), write func(T) []byte) {
	v, err := read(b)
	if err != nil {
		return
	}
	again := write(v)
	if same, err := read(again); err != nil || !reflect.DeepEqual(same, v) || len(again) > len(b) {
		t.Fatalf("%x is read as %+v, %x as %+v, %v", b, v, again, same, err)
	}
}

// FuzzCarrier: what nodes tell each other about moves.
func FuzzCarrier(f *testing.F) {
	f.Add((&piece{move: 7, at: 3, of: 9, bytes: []byte("chunk")}).append(nil))
	f.Add((&piece{at: mostChunk, of: mostChunk + 1}).append(nil))
	f.Add(appendManifest(nil, cluster.Manifest{Actors: 1, Bytes: 1 << 40, Sum: 1 << 63, Newest: abi.Epoch{Generation: 1, Index: 2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		reread(t, b, readPiece, func(p piece) []byte { return p.append(nil) })
		reread(t, b, readManifest, func(m cluster.Manifest) []byte { return appendManifest(nil, m) })
		if p, err := readPiece(b); err != nil && abi.CodeOf(err) != abi.ErrInvalidArgument || err == nil && (p.at < 0 || p.of < 0 || p.of > mostChunk+1) {
			t.Fatalf("%+v, %v", p, err)
		}
	})
}

// FuzzVoters: what nodes tell each other about voters.
func FuzzVoters(f *testing.F) {
	f.Add((&voterChange{remove: true, which: "n1#0000000000000001"}).append(nil))
	f.Add((&voterChanged{led: true, leader: cluster.Node{ID: "n1", Authority: "h:1"}, voter: "n2", count: 3}).append(nil))
	id := consensus.RaftID{Node: "n1", Nonce: 1 << 60}
	f.Add((&voterView{id: id, state: "leader", leading: true, term: 1, last: 2, applied: 2, contact: -1, config: 1, leader: "n1",
		members: []voterSeat{{id, "h:1"}, {consensus.RaftID{Node: "n2", Nonce: 1}, ""}}}).append(nil))
	f.Add((&voterView{id: id, members: slices.Repeat([]voterSeat{{id, ""}}, 64)}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		reread(t, b, readVoterChange, func(c voterChange) []byte { return c.append(nil) })
		reread(t, b, readVoterChanged, func(c voterChanged) []byte { return c.append(nil) })
		reread(t, b, readVoterView, func(v voterView) []byte { return v.append(nil) })
		if v, err := readVoterView(b); err != nil && abi.CodeOf(err) != abi.ErrInvalidArgument || err == nil && len(v.members) > 64 {
			t.Fatalf("%+v, %v", v, err)
		}
	})
}
