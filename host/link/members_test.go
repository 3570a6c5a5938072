package link

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

func TestKinds(t *testing.T) {
	w := newWorld(t)
	var many []string
	for n := range 5000 {
		many = append(many, fmt.Sprintf("kind-%04d-%s", n, strings.Repeat("x", 40)))
	}
	a := w.node("a", func(c *Config) { c.Kinds = []string{"zebra", "ant", "ant"} })
	b := w.node("b", func(c *Config) { c.Kinds, c.MaxMessage = many, 1<<10 })
	if kinds, ok := a.KindsOf("b"); ok {
		t.Error("known before it was said:", kinds)
	}
	a.SetMembers([]cluster.Node{a.self, b.self})
	// next waits for the last of the lists that from has said since. Those before it may be left out.
	next := func(n *node, from cluster.NodeID, said ...[]string) {
		t.Helper()
		want := said[len(said)-1]
		for {
			got := <-n.kinds
			if got.node != from || !slices.ContainsFunc(said, func(list []string) bool { return slices.Equal(list, got.kinds) }) {
				t.Errorf("%s was told %d kinds of %s", n.self.ID, len(got.kinds), got.node)
			}
			if slices.Equal(got.kinds, want) {
				if kinds, ok := n.KindsOf(from); !ok || !slices.Equal(kinds, want) {
					t.Errorf("%s knows %d kinds of %s", n.self.ID, len(kinds), from)
				}
				return
			}
		}
	}
	next(a, "b", many)
	next(b, "a", []string{"ant", "zebra"})
	if err := b.SetKinds([]string{"bank", "counter"}); err != nil {
		t.Fatal(err)
	}
	next(a, "b", []string{"bank", "counter"})
	if err := errors.Join(a.SetKinds(nil), a.SetKinds([]string{"chat"})); err != nil {
		t.Fatal(err)
	}
	next(b, "a", nil, []string{"chat"})
	if err := b.SetKinds([]string{"No"}); err == nil {
		t.Error("a kind that is none was taken")
	}
	peers := a.Peers()
	if len(peers) != 1 || peers[0].ID != "b" || peers[0].Outgoing != 1 || !slices.Equal(peers[0].Kinds, []string{"bank", "counter"}) ||
		peers[0].Authority != b.self.Authority || peers[0].Boot != 1 || peers[0].Failure != nil {
		t.Errorf("%+v", peers)
	}
}

// TestMembersStayConnected: a member that restarts is connected to again without a message, and says its kinds again.
func TestMembersStayConnected(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		ln := w.listener()
		addr := ln.Addr().String()
		b := w.silent("b", addr, func(c *Config) { c.Kinds = []string{"one"} })
		served := make(chan error, 1)
		go func() { served <- b.Serve(ln) }()
		a.SetMembers([]cluster.Node{b.self})
		if got := <-a.kinds; got.kinds[0] != "one" {
			t.Error(got)
		}
		b.shut(t)
		if err := <-served; err != nil {
			t.Error(err)
		}
		b = w.nodeOn(w.pipes.listen(addr), "b", func(c *Config) { c.Kinds, c.Self.Boot = []string{"one"}, 2 })
		if got := <-a.kinds; got.node != "b" || got.kinds[0] != "one" {
			t.Error(got)
		}
		if s := a.Stats(); s.Connected != 2 || s.Reconnected != 1 || s.Outgoing != 1 {
			t.Errorf("%+v", s)
		}
		if p := a.Peers()[0]; p.Boot != 2 {
			t.Errorf("%+v", p)
		}
		if strings.Contains(a.log.String(), "was lost") {
			t.Errorf("it left in good order:\n%s", a.log)
		}
		// It is no member any more: the connection ends, and what it said is forgotten.
		gone := make(chan struct{})
		for _, wire := range a.wires(false) {
			go func() { <-wire.done; close(gone) }()
		}
		a.SetMembers(nil)
		<-gone
		// A message goes through all the same.
		if _, err := w.target(a, b).Deliver(t.Context(), message("counter/a", nil)); err != nil {
			t.Error(err)
		}
	})
}

// TestTwoRuns: two processes under one id. The later run wins, and the other is told.
func TestTwoRuns(t *testing.T) {
	w := newWorld(t)
	b := w.node("b", func(c *Config) { c.Handler = make(inbox, 4) })
	run := func(boot uint64) *node { return w.node("a", func(c *Config) { c.Self.Boot = boot }) }
	old, young := run(1), run(2)
	told := make(chan error, 1)
	if err := w.target(old, b).Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	<-b.cfg.Handler.(inbox)
	if err := w.target(young, b).Post(message("counter/a", nil), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
		t.Error(err)
	}
	if i := b.expect(t, StaleBoot); i.Node != "a" {
		t.Errorf("%+v", i)
	}
	<-b.cfg.Handler.(inbox)
	var err error
	for err == nil || !strings.Contains(err.Error(), "stale_boot") {
		_, err = w.target(old, b).Deliver(t.Context(), message("counter/a", nil))
		if abi.CodeOf(err) != abi.ErrUnreachable {
			t.Fatal(err)
		}
	}
}

// TestGossipKnowsBetter: gossip has seen a newer run of a node than the one that is connected.
func TestGossipKnowsBetter(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	b := w.node("b", func(c *Config) { c.Handler = make(inbox, 1) })
	told := make(chan error, 1)
	if err := w.target(a, b).Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	<-b.cfg.Handler.(inbox)
	node := b.self
	node.Boot = 5
	target := must(a.Target(node))
	if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
		t.Error(err)
	}
	if _, err := target.Deliver(t.Context(), message("counter/a", nil)); abi.CodeOf(err) != abi.ErrUnreachable {
		t.Error(err)
	}
}
