package cluster

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// nothing is a silo whose activations answer at once, at no cost.
type nothing struct{}

func (nothing) Activate(ActivationRequest) (Target, error) { return answerer, nil }
func (nothing) Revoke(Lease)                               {}
func (nothing) Drain(context.Context) error                { return nil }

type instant struct{}

var answerer Target = instant{}

func (instant) Deliver(_ context.Context, env *abi.Envelope) ([]byte, error) { return env.Payload, nil }
func (instant) Post(env *abi.Envelope, done func([]byte, error)) error {
	if done != nil {
		done(env.Payload, nil)
	}
	return nil
}

// counting is a sink as cheap as one can be.
type counting struct {
	NopMetrics
	n atomic.Int64
}

func (c *counting) RecordRequestLatency(Identity, time.Duration) { c.n.Add(1) }

func benchNode(b *testing.B, m Metrics) *API {
	n := start(b, func(c *Config) {
		c.Placement, c.Metrics = nothing{}, m
		c.Log = nil
	})
	b.Cleanup(func() { // nobody ends the activations of nothing: a shutdown in a hurry
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.sys.Shutdown(ctx)
	})
	return n.API()
}

// BenchmarkSendHot is what Send costs over Target.Deliver on one cached identity: from one caller and from all cores,
// without and with metrics, with and without a deadline of the caller's.
func BenchmarkSendHot(b *testing.B) {
	far := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name     string
		metrics  Metrics
		deadline time.Time
	}{{"plain", nil, far}, {"default-deadline", nil, time.Time{}}, {"metrics", &counting{}, far}} {
		b.Run(c.name, func(b *testing.B) {
			api, ctx := benchNode(b, c.metrics), context.Background()
			e := &abi.Envelope{Target: id("counter/hot"), Method: "get"}
			if _, err := api.Send(ctx, e); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				e.Deadline = c.deadline
				if _, err := api.Send(ctx, e); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/parallel", func(b *testing.B) {
			api, ctx := benchNode(b, c.metrics), context.Background()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				e := &abi.Envelope{Target: id("counter/hot"), Method: "get"}
				for pb.Next() {
					e.Deadline = c.deadline
					if _, err := api.Send(ctx, e); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkSend10k is the same over 10,000 identities, from all cores.
func BenchmarkSend10k(b *testing.B) {
	api, ctx := benchNode(b, nil), context.Background()
	ids := make([]Identity, 10_000)
	far := time.Now().Add(time.Hour)
	for i := range ids {
		ids[i] = id("counter/" + strconv.Itoa(i))
		if _, err := api.Send(ctx, &abi.Envelope{Target: ids[i], Method: "get", Deadline: far}); err != nil {
			b.Fatal(err)
		}
	}
	var next atomic.Uint32
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		e := &abi.Envelope{Method: "get", Deadline: far}
		for i := int(next.Add(5003)); pb.Next(); i += 7 {
			e.Target = ids[i%len(ids)]
			if _, err := api.Send(ctx, e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPostHot is what Post costs over Target.Post on a cached identity.
func BenchmarkPostHot(b *testing.B) {
	api := benchNode(b, nil)
	e := &abi.Envelope{Target: id("counter/hot"), Method: "get", Deadline: time.Now().Add(time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		if err := api.Post(e, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// ending is a silo whose activations start and end with their only message.
type ending struct{ nothing }

func (ending) Activate(req ActivationRequest) (Target, error) {
	return &once{lease: req.Lease, observer: req.Observer}, nil
}

type once struct {
	lease    Lease
	observer Observer
}

func (o *once) Deliver(_ context.Context, env *abi.Envelope) ([]byte, error) {
	o.observer.Started(o.lease)
	o.observer.Terminated(o.lease, "idle")
	return env.Payload, nil
}

func (o *once) Post(*abi.Envelope, func([]byte, error)) error { return nil }

// BenchmarkActivation is the bookkeeping of a whole activation: resolve, lease, activation request, PID, start, end; beside
// 100,000 other leases.
func BenchmarkActivation(b *testing.B) {
	n := start(b, func(c *Config) { c.Placement, c.Metrics, c.Log = ending{}, nil, nil })
	api, ctx, far := n.API(), context.Background(), time.Now().Add(time.Hour)
	b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.sys.Shutdown(ctx)
	})
	for i := range 100_000 {
		if _, err := api.Get(ctx, id("bank/"+strconv.Itoa(i))); err != nil {
			b.Fatal(err)
		}
	}
	ids := make([]Identity, 4096)
	for i := range ids {
		ids[i] = id("counter/" + strconv.Itoa(i))
	}
	e := &abi.Envelope{Method: "get", Deadline: far}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.Target = ids[i%len(ids)]
		if _, err := api.Send(ctx, e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkViewChange is what a change of the cluster costs a node that remembers 100,000 actors of its own and 100,000 of
// others, beside 200 kinds and 20 members: requests that have to resolve wait for it. Each operation is two changes.
func BenchmarkViewChange(b *testing.B) {
	members := make([]Node, 20)
	var kinds []Kind
	for i := range 200 {
		kinds = append(kinds, Kind{"kind" + strconv.Itoa(i)})
	}
	for i := range members {
		members[i] = member(i + 1)
	}
	n := start(b, func(c *Config) {
		c.Self, c.Topology, c.Kinds, c.Metrics, c.Log = members[0], StaticTopology(members...), kinds, nil, nil
		c.Placement = nothing{}
		c.Transport = &fakeTransport{func(Node) (Target, error) { return answerer, nil }}
	})
	b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.sys.Shutdown(ctx)
	})
	r := n.Runtime()
	for _, m := range members[1:] {
		if err := r.SetPeerKinds(m.ID, kinds); err != nil {
			b.Fatal(err)
		}
	}
	own, others := 0, 0
	for i := 0; own < 100_000 || others < 100_000; i++ {
		who := id(kinds[i%200].Name + "/" + strconv.Itoa(i))
		m, _ := r.View().OwnerOf(who)
		switch {
		case m.ID == members[0].ID && own < 100_000:
			own++
		case m.ID != members[0].ID && others < 100_000:
			others++
		default:
			continue
		}
		if _, err := n.API().Get(context.Background(), who); err != nil {
			b.Fatal(err)
		}
	}
	less, all := must(NewTopology(members[:19]...)), must(NewTopology(members...))
	b.Run("stranger", func(b *testing.B) {
		for b.Loop() {
			r.HandleBlockedNode("stranger")
			r.HandleUnblockedNode("stranger")
		}
	})
	b.Run("kind", func(b *testing.B) {
		for b.Loop() {
			_ = r.SetPeerKinds("n7", kinds[1:])
			_ = r.SetPeerKinds("n7", kinds)
		}
	})
	b.Run("member", func(b *testing.B) {
		for b.Loop() {
			r.HandleTopologyChanged(less)
			_ = r.SetPeerKinds("n20", kinds)
			r.HandleTopologyChanged(all)
		}
	})
}

// BenchmarkReceiveHot is what Receive costs over Target.Post on a cached identity.
func BenchmarkReceiveHot(b *testing.B) {
	api := benchNode(b, nil)
	e := &abi.Envelope{Target: id("counter/hot"), Method: "get", Deadline: time.Now().Add(time.Hour)}
	done := func([]byte, error) {}
	b.ReportAllocs()
	for b.Loop() {
		api.Receive(e, "n2", done)
	}
}

// BenchmarkRemoteHot is what Send and Post cost over the target's on a cached identity of another node's.
func BenchmarkRemoteHot(b *testing.B) {
	n := start(b, func(c *Config) {
		c.Mode, c.Placement, c.Kinds, c.Metrics, c.Log = Client, nil, nil, nil, nil
		c.Topology = StaticTopology(self, peer)
		c.Transport = &fakeTransport{func(Node) (Target, error) { return answerer, nil }}
	})
	if err := n.Runtime().SetPeerKinds(peer.ID, []Kind{{"counter"}}); err != nil {
		b.Fatal(err)
	}
	api := n.API()
	e := &abi.Envelope{Target: id("counter/hot"), Method: "get", Deadline: time.Now().Add(time.Hour)}
	b.Run("send", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := api.Send(context.Background(), e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("post", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := api.Post(e, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
