package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link"
	"github.com/wasilo/wasilo/serfwatch"
)

func TestMembersThatRefuse(t *testing.T) {
	refused := fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)})
	failing := func(id cluster.NodeID, authority string, err error) link.Peer {
		return link.Peer{ID: id, Authority: "as it said once", Failure: &link.Error{Node: id, Authority: authority, Err: err}}
	}
	a := cluster.Node{ID: "a", Authority: "h:1", Boot: 1}
	b := cluster.Node{ID: "b", Authority: "h:2", Boot: 1}
	again := cluster.Node{ID: "a", Authority: "h:1", Boot: 2}
	both := []cluster.Node{a, b}
	down := failing("a", "h:1", refused)
	connected := down
	connected.Incoming = 1
	for name, steps := range map[string][]struct {
		at             time.Duration
		members        []cluster.Node
		peers          []link.Peer
		block, unblock string
	}{
		"refuses for long": {
			{0, both, []link.Peer{down}, "[]", "[]"},
			{refusedTime - 1, both, []link.Peer{down}, "[]", "[]"},
			{refusedTime, both, []link.Peer{down}, "[a]", "[]"},
			{refusedTime + 1, both, []link.Peer{down}, "[]", "[]"},
			{refusedTime + 2, both, []link.Peer{{ID: "a", Outgoing: 1}}, "[]", "[a]"},
			{refusedTime + 3, both, []link.Peer{{ID: "a", Outgoing: 1}}, "[]", "[]"},
		},
		"refuses, then is silent": {
			{0, both, []link.Peer{down}, "[]", "[]"},
			{refusedTime, both, []link.Peer{down}, "[a]", "[]"},
			{2 * refusedTime, both, []link.Peer{failing("a", "h:1", context.DeadlineExceeded)}, "[]", "[]"},
			{3 * refusedTime, both, nil, "[]", "[]"},
			{4 * refusedTime, both, []link.Peer{{ID: "a", Incoming: 1}}, "[]", "[a]"},
		},
		"refuses for a moment": {
			{0, both, []link.Peer{down}, "[]", "[]"},
			{1, both, []link.Peer{{ID: "a", Outgoing: 1}}, "[]", "[]"},
			{2, both, []link.Peer{down}, "[]", "[]"},
			{refusedTime + 1, both, []link.Peer{down}, "[]", "[]"},
			{refusedTime + 2, both, []link.Peer{down}, "[a]", "[]"},
		},
		"gossip has noticed": {
			{0, both, []link.Peer{down}, "[]", "[]"},
			{refusedTime, both, []link.Peer{down}, "[a]", "[]"},
			{2 * refusedTime, []cluster.Node{b}, []link.Peer{down}, "[]", "[a]"},
		},
		"a new run": {
			{0, both, []link.Peer{down}, "[]", "[]"},
			{refusedTime, both, []link.Peer{down}, "[a]", "[]"},
			{2 * refusedTime, []cluster.Node{again, b}, []link.Peer{down}, "[]", "[a]"},
			{3 * refusedTime, []cluster.Node{again, b}, []link.Peer{down}, "[a]", "[]"},
		},
		"does not answer":           {{0, both, []link.Peer{failing("a", "h:1", context.DeadlineExceeded)}, "[]", "[]"}, {time.Hour, both, []link.Peer{failing("a", "h:1", context.DeadlineExceeded)}, "[]", "[]"}},
		"refuses at an old address": {{0, both, []link.Peer{failing("a", "h:9", refused)}, "[]", "[]"}, {time.Hour, both, []link.Peer{failing("a", "h:9", refused)}, "[]", "[]"}},
		"has a connection here":     {{0, both, []link.Peer{connected}, "[]", "[]"}, {time.Hour, both, []link.Peer{connected}, "[]", "[]"}},
		"is no member":              {{0, []cluster.Node{b}, []link.Peer{down}, "[]", "[]"}, {time.Hour, []cluster.Node{b}, []link.Peer{down}, "[]", "[]"}},
	} {
		r, start := newRefusals(), time.Now()
		for i, s := range steps {
			block, unblock := r.look(s.members, s.peers, start.Add(s.at))
			if fmt.Sprint(block) != s.block || fmt.Sprint(unblock) != s.unblock {
				t.Errorf("%s, step %d: block %v, unblock %v; want %s and %s", name, i, block, unblock, s.block, s.unblock)
			}
		}
	}
}

// The actors of a process that was killed answer again before gossip knows, however slow the gossip is.
func TestTheActorsOfADeadProcessMoveBeforeGossipKnows(t *testing.T) {
	p := newParty(t)
	for _, id := range []string{"n1", "n2", "n3"} {
		cfg := p.config(id, counting("count"))
		cfg.Net.Profile = serfwatch.LAN // 6 s
		p.add(cfg)
	}
	p.agree()
	const identities = 60
	for i := range identities {
		mustCall(t, p.nodes["n1"], "count/"+strconv.Itoa(i), "add", "")
	}
	dead := p.nodes["n3"]
	hurry, cancel := context.WithCancel(context.Background())
	cancel()
	if err := dead.net.link.Shutdown(hurry); !errors.Is(err, context.Canceled) { // its gossip goes on
		t.Fatal(err)
	}
	for _, id := range []string{"n1", "n2"} { // of what is sent over a connection before that is known to be gone, nobody knows what became
		p.until(id+" has no connection to n3", func() bool {
			return !slices.ContainsFunc(p.nodes[id].net.link.Peers(), func(peer link.Peer) bool { return peer.ID == "n3" && peer.Outgoing+peer.Incoming > 0 })
		})
	}
	for i := range identities {
		name := "count/" + strconv.Itoa(i)
		if got := mustCall(t, p.nodes["n2"], name, "add", ""); got != "1" && got != "2" {
			t.Errorf("%s is %s", name, got)
		}
	}
	for _, id := range []string{"n1", "n2"} {
		p.until("n3 is on the block list", func() bool {
			return slices.Equal(p.nodes[id].runtime.Blocked(), []cluster.NodeID{"n3"})
		})
	}
	if top := p.nodes["n1"].runtime.View().Topology(); top.Len() != 3 {
		t.Errorf("gossip knows already: %d members", top.Len())
	}
}
