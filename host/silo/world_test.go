package silo

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a silo under a real cluster of one.
type node struct {
	t    *testing.T
	silo *Silo
	sys  *cluster.System
	ext  *cluster.Extension
	api  *cluster.API
	kind *Kind

	kindErr error // guarded by mu

	sleepy  bool
	store   *store // the one of tests; nil: none, or another
	capture func(d *dormouse) error
	wake    func(state []byte) error
	resting time.Duration // of a dormouse

	mu     sync.Mutex
	events []string
	turn   func(h *actor.Host, ev *abi.Event, out *abi.Output) error
	start  func() error
	starts map[string]int
	live   map[string]int
}

func newNode(t *testing.T, change func(*Config, *Kind)) *node {
	n := &node{t: t, starts: map[string]int{}, live: map[string]int{}, start: func() error { return nil }}
	n.kind = &Kind{Desc: &abi.KindDescription{Name: "k", Events: []abi.EventTag{abi.EventCall, abi.EventMessage,
		abi.EventCompletion, abi.EventTimer, abi.EventPassivate}},
		Version: "v1", Idle: time.Minute, Cost: 100, Counters: &actor.Counters{},
		Limits: actor.Limits{Mailbox: 100, Turn: 5 * time.Second, Request: 10 * time.Second, MaxMessage: 1000, MaxOutgoing: 10, MaxTimers: 10}}
	cfg := Config{Kind: func(name string) (*Kind, error) {
		if name != "k" {
			return nil, abi.NewError(abi.ErrUnknownKind, name)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.kind, n.kindErr
	}}
	if change != nil {
		change(&cfg, n.kind)
	}
	n.kind.Start = func(h *actor.Host, state []byte) (actor.Instance, error) {
		if err := n.start(); err != nil {
			return nil, err
		}
		id := h.Identity().ID()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.starts[id]++
		n.live[id]++
		if n.live[id] > 1 {
			t.Errorf("%d instances of %s at once", n.live[id], id)
		}
		i := &instance{n: n, h: h}
		if !n.sleepy {
			return i, nil
		}
		return n.dormouse(i, state)
	}
	n.silo = New(cfg)
	n.store, _ = cfg.Sleepers.(*store)
	n.sleepy = cfg.Sleepers != nil
	self := cluster.Node{ID: "one", Authority: "127.0.0.1:7701"}
	n.sys = cluster.NewSystem(cluster.SystemConfig{})
	var err error
	n.ext, err = cluster.Install(n.sys, cluster.Config{Self: self, Topology: cluster.StaticTopology(self), Placement: n.silo,
		Waiting: n.silo.Waiting, Kinds: []cluster.Kind{{Name: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	n.api = n.ext.API()
	n.silo.Open(n.api)
	if err := n.sys.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		out.Kind, out.Payload = abi.OutReply, ev.Payload
		return nil
	}
	t.Cleanup(n.close)
	return n
}

func (n *node) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.sys.Shutdown(ctx); err != nil {
		n.t.Errorf("shutdown: %v", err)
	}
	n.silo.Close()
	if st := n.silo.Stats(); st.Activations != 0 || st.Bytes != 0 || st.Waiting != 0 {
		n.t.Errorf("left behind: %+v", st)
	}
	if l, b := n.silo.leaving.Load(), n.silo.leavingBytes.Load(); l != 0 || b != 0 {
		n.t.Errorf("%d activations of %d bytes are leaving", l, b)
	}
	for i := range n.silo.shards {
		if sh := &n.silo.shards[i]; len(sh.entries)+len(sh.orphans) != 0 {
			n.t.Errorf("shard %d keeps %d activations and %d backlogs", i, len(sh.entries), len(sh.orphans))
		}
	}
	for id, live := range n.live {
		if live != 0 {
			n.t.Errorf("%d instances of %s are left", live, id)
		}
	}
}

type instance struct {
	n     *node
	h     *actor.Host
	turns int
}

func (i *instance) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	*out = abi.Output{}
	i.turns++
	if ev.Tag == abi.EventPassivate {
		i.n.mu.Lock()
		i.n.events = append(i.n.events, i.h.Identity().ID()+" "+ev.Reason)
		i.n.mu.Unlock()
		out.Kind = abi.OutEffects
		return nil
	}
	return i.n.turn(i.h, ev, out)
}

func (i *instance) Close() error {
	i.n.mu.Lock()
	defer i.n.mu.Unlock()
	i.n.live[i.h.Identity().ID()]--
	return nil
}

func id(name string) abi.Identity {
	id, err := abi.NewIdentity("k", name)
	if err != nil {
		panic(err)
	}
	return id
}

func (n *node) env(name, method, payload string) *abi.Envelope {
	return &abi.Envelope{Target: id(name), Method: method, Payload: []byte(payload), Deadline: time.Now().Add(time.Minute)}
}

func (n *node) call(name, method, payload string) (string, error) {
	out, err := n.api.Send(context.Background(), n.env(name, method, payload))
	return string(out), err
}

func (n *node) must(name, method, payload string) string {
	n.t.Helper()
	out, err := n.call(name, method, payload)
	if err != nil {
		n.t.Fatalf("%s %s: %v", name, method, err)
	}
	return out
}

func (n *node) passivated() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.events...)
}

func numbered(prefix string, i int) string { return fmt.Sprintf("%s%04d", prefix, i) }

// activation is a request as the cluster would make it, under a lease of its own.
func activation(name string) cluster.ActivationRequest {
	return cluster.ActivationRequest{Lease: cluster.Lease{Identity: id(name)}, Reason: "call"}
}
