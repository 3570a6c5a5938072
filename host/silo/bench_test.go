package silo

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

// still is an instance that costs nothing.
type still struct{}

func (still) Turn(_ *abi.Event, _ time.Time, out *abi.Output) error { return nil }
func (still) Close() error                                          { return nil }
func (still) Rest()                                                 {}
func (still) Weight() int64                                         { return 1 }
func (still) Capture(dst []byte) ([]byte, error)                    { return append(dst, "state"...), nil }

// bench is a node without anything that counts.
func bench(b *testing.B, quick bool) (*Silo, *cluster.API) {
	z, err := sleep.New(sleep.Config{})
	if err != nil {
		b.Fatal(err)
	}
	kind := &Kind{Desc: &abi.KindDescription{Name: "k", Events: []abi.EventTag{abi.EventCall}, State: abi.State{Keep: abi.KeepImage,
		Level: abi.LevelHibernating}}, Version: "v1", Idle: time.Hour, Hibernate: time.Hour, Cost: 1, Counters: &actor.Counters{}, Quick: quick,
		Start:  func(*actor.Host, []byte) (actor.Instance, error) { return still{}, nil },
		Limits: actor.Limits{Mailbox: 100, Turn: 5 * time.Second, Request: 10 * time.Second, MaxMessage: 1000, MaxOutgoing: 10, MaxTimers: 10}}
	s := New(Config{Kind: func(string) (*Kind, error) { return kind, nil }, Sleepers: z})
	self := cluster.Node{ID: "one", Authority: "127.0.0.1:7701"}
	sys := cluster.NewSystem(cluster.SystemConfig{})
	ext, err := cluster.Install(sys, cluster.Config{Self: self, Topology: cluster.StaticTopology(self), Placement: s,
		Kinds: []cluster.Kind{{Name: "k"}}})
	if err != nil {
		b.Fatal(err)
	}
	s.Open(ext.API())
	if err := sys.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = sys.Shutdown(context.Background())
		s.Close()
		z.Close()
	})
	return s, ext.API()
}

func ask(b *testing.B, api *cluster.API, name string) {
	env := &abi.Envelope{Target: id(name), Method: "m", Deadline: time.Now().Add(time.Minute)}
	if _, err := api.Send(context.Background(), env); err != nil {
		b.Fatal(err)
	}
}

// An activation and its first call, less the instance.
func BenchmarkActivation(b *testing.B) {
	for _, quick := range []bool{false, true} {
		b.Run(fmt.Sprint("quick=", quick), func(b *testing.B) {
			_, api := bench(b, quick)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ask(b, api, fmt.Sprint("a", i))
			}
		})
	}
}

// A wake and its first call, and the way back to sleep, less the instance.
func BenchmarkWake(b *testing.B) {
	s, api := bench(b, true)
	const actors = 1000
	for i := range actors {
		ask(b, api, fmt.Sprint("a", i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%actors == 0 {
			if err := s.PassivateIdle(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		ask(b, api, fmt.Sprint("a", i%actors))
	}
}

// What each of some sleeping actors costs in a move: 100 bytes of state each, in chunks of 256 KiB.
func BenchmarkMove(b *testing.B) {
	const actors = 10_000
	from, err := sleep.New(sleep.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	to, err := sleep.New(sleep.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer to.Close()
	kind := &Kind{Desc: &abi.KindDescription{Name: "k", State: abi.State{Keep: abi.KeepImage, Level: abi.LevelHibernating}}, Version: "v1"}
	silos := [2]*Silo{}
	for i, store := range []*sleep.Store{from, to} {
		silos[i] = New(Config{Kind: func(string) (*Kind, error) { return kind, nil }, Sleepers: store})
		defer silos[i].Close()
	}
	state := kind.head(nil)
	state = append(state, make([]byte, 100-len(state))...)
	for i := range actors {
		z := sleep.Sleeper{Identity: id(fmt.Sprint("user-", i)), Epoch: abi.Epoch{Index: 1}, Slept: time.Now(), State: state}
		if err := from.Put(cluster.PartitionOf(z.Identity), &z); err != nil {
			b.Fatal(err)
		}
	}
	var export, staged, accept time.Duration
	var bytes uint64
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		move := cluster.MoveID(i)
		began, importing := time.Now(), time.Duration(0)
		m, err := silos[0].Export(b.Context(), cluster.Part{}, 256<<10, func(chunk []byte) error {
			at := time.Now()
			defer func() { importing += time.Since(at) }()
			return silos[1].Import(move, cluster.Part{}, chunk)
		})
		if err != nil || m.Actors != actors {
			b.Fatal(err, m)
		}
		exported := time.Now()
		if err := silos[1].Accept(move, abi.Epoch{Index: uint64(i) + 2}); err != nil {
			b.Fatal(err)
		}
		accept += time.Since(exported)
		export += exported.Sub(began) - importing
		staged += importing
		bytes = m.Bytes
		to.DropKind("k", nil)
	}
	per := func(d time.Duration, unit string) {
		b.ReportMetric(float64(d.Nanoseconds())/float64(b.N)/actors/1000, unit)
	}
	per(export, "µs-export/actor")
	per(staged, "µs-import/actor")
	per(accept, "µs-accept/actor")
	b.ReportMetric(float64(bytes)/actors, "wire-B/actor")
}

// What it costs to end an idle activation and keep its state, less the instance's capture.
func BenchmarkSurrender(b *testing.B) {
	const actors = 1000
	s, api := bench(b, true)
	var took time.Duration
	for b.Loop() {
		for i := range actors {
			ask(b, api, fmt.Sprint("a", i))
		}
		began := time.Now()
		if err := s.Surrender(b.Context(), cluster.Part{}); err != nil {
			b.Fatal(err)
		}
		took += time.Since(began)
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/actors/1000, "µs/actor")
}
