package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// owned returns an identity of a kind that the node owns in a view.
func owned(v *View, kind string, by NodeID) Identity {
	for i := 0; ; i++ {
		who := must(NewIdentity(kind, string(rune('a'+i%26))+string(rune('a'+i/26))))
		if m, _ := v.OwnerOf(who); m != nil && m.ID == by {
			return who
		}
	}
}

// twoNodes starts a node whose topology is fed by the test, beside a peer that echoes.
func twoNodes(t *testing.T, change ...func(*Config)) (*node, *fakeTopology) {
	topology := &fakeTopology{}
	first := func(c *Config) {
		c.Topology = topology
		c.Transport = &fakeTransport{func(Node) (Target, error) {
			return targetFunc(func(env *abi.Envelope) ([]byte, error) { return []byte("from the peer"), nil }), nil
		}}
	}
	// The first snapshot has to be there when the node starts.
	feed := func(c *Config) {
		c.Topology = firstSnapshot{c.Topology.(*fakeTopology), must(NewTopology(self, peer))}
	}
	n := start(t, append([]func(*Config){first}, append(change, feed)...)...)
	if err := n.Runtime().SetPeerKinds("n2", []Kind{{"counter"}, {"bank"}}); err != nil {
		t.Fatal(err)
	}
	return n, topology
}

// firstSnapshot puts a snapshot into the first subscription of a stream.
type firstSnapshot struct {
	*fakeTopology
	first *Topology
}

func (f firstSnapshot) Subscribe(ctx context.Context) (TopologyStreamHandle, error) {
	h, err := f.fakeTopology.Subscribe(ctx)
	if err == nil && f.tried() == 1 {
		h.(*fakeHandle).snapshots <- f.first
	}
	return h, err
}

func TestB2_1_NewSnapshotRebuildsOwnershipBeforeNewLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, topology := twoNodes(t)
		mine, theirs := owned(n.Runtime().View(), "counter", "n1"), owned(n.Runtime().View(), "counter", "n2")
		n.ok(mine.Key())
		if reply, err := n.request(theirs.Key()); err != nil || string(reply) != "from the peer" {
			t.Fatalf("%q, %v", reply, err)
		}
		sub := n.Events().Subscribe(0)
		topology.handle(0).snapshots <- must(NewTopology(self)) // the peer is gone
		synctest.Wait()
		if ev := events(t, sub, 1)[0]; ev.Type != core.TopologyApplied || ev.Count != 1 {
			t.Errorf("event %+v", ev)
		}
		n.ok(theirs.Key()) // it is this node's now, and the PID on the peer is forgotten
		n.ok(mine.Key())
		if got := n.silo.activations(); got != 2 {
			t.Errorf("%d activations", got)
		}
		// It comes back: its actors are no longer leased here.
		topology.handle(0).snapshots <- must(NewTopology(self, peer))
		if err := n.Runtime().SetPeerKinds("n2", []Kind{{"counter"}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if reply, err := n.request(theirs.Key()); err != nil || string(reply) != "from the peer" {
			t.Errorf("after its return: %q, %v", reply, err)
		}
		if _, ok := n.Runtime().Lease(theirs); ok || n.silo.find(theirs) != nil {
			t.Error("its lease is still here")
		}
		if n.silo.find(mine) == nil {
			t.Error("an actor that did not move was discarded")
		}
	})
}

func TestB2_2_UnchangedHashReusesOwnershipAndPIDs(t *testing.T) {
	n, _ := twoNodes(t)
	r := n.Runtime()
	mine, theirs := owned(r.View(), "counter", "n1"), owned(r.View(), "counter", "n2")
	n.ok(mine.Key())
	if _, err := n.request(theirs.Key()); err != nil {
		t.Fatal(err)
	}
	view, a, b := r.View(), r.cache.get(mine), r.cache.get(theirs)
	r.HandleTopologyChanged(must(NewTopology(peer, self)))
	if r.View() != view || r.cache.get(mine) != a || r.cache.get(theirs) != b || a == nil || b == nil {
		t.Error("the same members again made the node forget something")
	}
	moved := peer
	moved.Boot = 77 // the same node, another run: its activations are gone
	r.HandleTopologyChanged(must(NewTopology(self, moved)))
	if r.View() == view || r.cache.get(mine) != a || r.cache.get(theirs) != nil {
		t.Error("a restarted member's PIDs were kept, or others were not")
	}
}

func TestB2_3_BlockedNodeLosesLeasesAndPIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := twoNodes(t)
		r := n.Runtime()
		theirs, mine := owned(r.View(), "counter", "n2"), owned(r.View(), "bank", "n1")
		if _, err := n.request(theirs.Key()); err != nil {
			t.Fatal(err)
		}
		sub := n.Events().Subscribe(0)
		r.HandleBlockedNode("n2")
		if r.cache.get(theirs) != nil {
			t.Error("a PID on a blocked node is still cached")
		}
		if ev := events(t, sub, 1)[0]; ev.Type != core.BlockListApplied || ev.Node != "n2" {
			t.Errorf("event %+v", ev)
		}
		n.ok(theirs.Key()) // it is this node's while the other is blocked
		if got := r.Blocked(); len(got) != 1 || got[0] != "n2" {
			t.Errorf("block list %v", got)
		}
		r.HandleBlockedNode("n2")
		if _, ok := sub.TryNext(); len(n.metrics.blocked) != 1 && ok {
			t.Error("applied twice")
		}

		// This node itself.
		n.ok(mine.Key())
		held := r.Leases()
		r.HandleBlockedNode("n1")
		if r.Leases() != 0 || held != 2 || len(n.silo.revoked) != 2 || n.silo.find(mine) != nil {
			t.Errorf("%d of %d leases left, %d revoked", r.Leases(), held, len(n.silo.revoked))
		}
		if l := n.silo.revoked[0]; l.State != core.LeaseRevoked {
			t.Errorf("revoked as %s", l.State)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := n.API().Send(ctx, env(mine.Key())); !errors.Is(err, ErrBlocked) || !errors.Is(err, ErrTimeout) {
			t.Errorf("while everybody is blocked: %v", err)
		}
		r.HandleUnblockedNode("n1")
		r.HandleUnblockedNode("n2")
		if len(r.Blocked()) != 0 {
			t.Error("still blocked")
		}
		n.ok(mine.Key())
		if want := []NodeID{"n2", "n1"}; len(n.metrics.blocked) != 2 || n.metrics.blocked[0] != want[0] || n.metrics.blocked[1] != want[1] {
			t.Errorf("blocks recorded: %v", n.metrics.blocked)
		}
	})
}

func TestB2_4_StreamEndKeepsTheSnapshotAndResubscribes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, topology := twoNodes(t, func(c *Config) {
			c.Resubscribe = RetryPolicy{Initial: time.Second, Max: 4 * time.Second, Jitter: -1}
		})
		sub := n.Events().Subscribe(0)
		topology.refuse(func(try int) error {
			if try < 4 { // the first two resubscriptions fail
				return errors.New("still down")
			}
			return nil
		})
		view := n.Runtime().View()
		begin := time.Now()
		topology.mu.Lock()
		topology.fresh = make(chan *fakeHandle, 1)
		topology.mu.Unlock()
		topology.handle(0).ends <- errors.New("gossip is broken")
		synctest.Wait()
		if n.Runtime().View() != view {
			t.Error("the last snapshot was dropped")
		}
		n.ok(owned(view, "counter", "n1").Key())
		warned := 0
		for line := range strings.Lines(n.log.String()) {
			if strings.Contains(line, "level=WARN") && strings.Contains(line, "the last snapshot stays in force") && strings.Contains(line, "gossip is broken") {
				warned++
			}
		}
		if warned != 1 {
			t.Errorf("warned of it %d times:\n%s", warned, n.log)
		}
		if topology.handle(0).closed.Load() == 0 {
			t.Error("the ended subscription was left open")
		}
		h := <-topology.fresh
		if took := time.Since(begin); took != 1*time.Second+2*time.Second+4*time.Second {
			t.Errorf("resubscribed after %s", took)
		}
		h.snapshots <- must(NewTopology(self))
		synctest.Wait()
		if n.Context().Topology().Len() != 1 {
			t.Error("the newest snapshot was not applied")
		}
		var types []core.EventType
		for {
			ev, ok := sub.TryNext()
			if !ok {
				break
			}
			types = append(types, ev.Type)
		}
		want := []core.EventType{core.TopologyStreamEnded, core.ActivationStarted, core.TopologyResubscribed, core.TopologyApplied}
		if len(types) != len(want) {
			t.Fatalf("events %v", types)
		}
		for i := range want {
			if types[i] != want[i] {
				t.Fatalf("events %v, want %v", types, want)
			}
		}

		// A subscription that is granted and ends at once does not spin: the back-off grows until a snapshot has come.
		tries := topology.tried()
		begin = time.Now()
		for range 5 {
			h.ends <- ErrStreamEnded
			h = <-topology.fresh
		}
		if took := time.Since(begin); took < (1+2+4+4+4)*time.Second || topology.tried() != tries+5 {
			t.Errorf("5 resubscriptions took %s, %d tries", took, topology.tried()-tries)
		}
		h.snapshots <- must(NewTopology(self, peer))
		h.ends <- ErrStreamEnded
		begin = time.Now()
		h = <-topology.fresh
		if took := time.Since(begin); took != time.Second {
			t.Errorf("after a snapshot the first back-off is %s", took)
		}
		h.snapshots <- nil // no snapshot is an end too
		<-topology.fresh
	})
}

// A shutdown ends a pump that waits to resubscribe.
func TestB2_4_ShutdownEndsTheResubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, topology := twoNodes(t)
		topology.refuse(func(int) error { return errors.New("down for good") })
		topology.handle(0).ends <- ErrStreamEnded
		time.Sleep(time.Minute)
		begin := time.Now()
		if err := n.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("the shutdown took %s", took)
		}
	})
}

func TestStaticTopologyEnds(t *testing.T) {
	h := must(StaticTopology(self).Subscribe(t.Context()))
	if topology, err := h.Next(t.Context()); err != nil || topology.Len() != 1 {
		t.Fatal(topology, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := h.Next(t.Context()); !errors.Is(err, ErrStreamEnded) {
		t.Error(err)
	}
}
