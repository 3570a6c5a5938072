package host

import (
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/silo"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

// dozer is an instance whose state is kept.
type dozer struct{}

func (dozer) Turn(_ *abi.Event, _ time.Time, out *abi.Output) error {
	out.Kind = abi.OutReply
	return nil
}
func (dozer) Close() error                       { return nil }
func (dozer) Rest()                              {}
func (dozer) Weight() int64                      { return 1 }
func (dozer) Capture(dst []byte) ([]byte, error) { return append(dst, 1), nil }

// bare is a node that has a silo and a store of sleepers, and nothing else.
func bare(t *testing.T) *Node {
	t.Helper()
	store, err := sleep.New(sleep.Config{})
	if err != nil {
		t.Fatal(err)
	}
	kind := &silo.Kind{Desc: &abi.KindDescription{Name: "k", Events: []abi.EventTag{abi.EventCall}, State: abi.State{Keep: abi.KeepImage, Level: abi.LevelHibernating}},
		Version: "v1", Idle: time.Hour, Counters: &actor.Counters{}, Start: func(*actor.Host, []byte) (actor.Instance, error) { return dozer{}, nil },
		Limits: actor.Limits{Mailbox: 10, Turn: hang, Request: hang, MaxMessage: 1000, MaxOutgoing: 10, MaxTimers: 10}}
	n := &Node{sleepers: store, silo: silo.New(silo.Config{Sleepers: store, Kind: func(string) (*silo.Kind, error) { return kind, nil }})}
	n.silo.Open(nil)
	t.Cleanup(func() {
		n.silo.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// somebodysChunk is a chunk with one actor that slept on another node.
func somebodysChunk(t *testing.T) (chunk []byte) {
	t.Helper()
	from := bare(t)
	id, err := abi.NewIdentity("k", "a")
	if err != nil {
		t.Fatal(err)
	}
	target, err := from.silo.Activate(cluster.ActivationRequest{Lease: cluster.Lease{Identity: id, Epoch: abi.Epoch{Index: 1}}, Reason: "call", Observer: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.Deliver(t.Context(), &abi.Envelope{Target: id, Method: "m", Deadline: time.Now().Add(hang)}); err != nil {
		t.Fatal(err)
	}
	if err := from.silo.PassivateIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := from.silo.Export(t.Context(), cluster.Part{}, chunkBytes, func(b []byte) error {
		chunk = append(chunk, b...)
		return nil
	})
	if err != nil || m.Actors != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	return chunk
}

// What comes with a move that has ended meanwhile, whichever way, is staged for nobody: nobody would end it, and after some such moves none
// could come in any more.
func TestWhatComesWithAMoveThatIsOver(t *testing.T) {
	chunk := somebodysChunk(t)
	whole := piece{of: len(chunk), bytes: chunk}
	part := func(id core.MoveID) core.Part {
		p := core.Part{Move: id, Kinds: []string{"k"}}
		for i := range p.Partitions {
			p.Partitions[i] = ^uint64(0)
		}
		return p
	}
	for name, end := range map[string]func(c *carrier, p core.Part){
		"turned away": func(c *carrier, p core.Part) { c.TurnAway(p.Move) },
		"taken in": func(c *carrier, p core.Part) {
			m, _ := c.node.silo.Staged(cluster.MoveID(p.Move))
			if err := c.TakeIn(p, abi.Epoch{Index: 2}, appendManifest(nil, m)); err != nil {
				t.Error(err)
			}
		},
		"taken in without a manifest": func(c *carrier, p core.Part) {
			if c.TakeIn(p, abi.Epoch{Index: 2}, nil) == nil {
				t.Error("nothing is a manifest")
			}
		},
		"taken in too early": func(c *carrier, p core.Part) {
			m, _ := c.node.silo.Staged(cluster.MoveID(p.Move))
			if err := c.TakeIn(p, abi.Epoch{}, appendManifest(nil, m)); m.Actors > 0 && err == nil {
				t.Error("it was left under a later epoch")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &carrier{node: bare(t)}
			staged := func(want int) {
				t.Helper()
				if n := c.node.sleepers.Stats().Staged; n != want {
					t.Fatalf("%d are staged, want %d", n, want)
				}
			}
			bring := func(p core.Part, what piece) error {
				what.move = p.Move
				return c.bring(p, what)
			}
			p := part(1)
			for range 2 { // it may begin once more
				c.restart(p.Move)
				if err := bring(p, whole); err != nil {
					t.Fatal(err)
				}
				staged(1)
			}
			end(c, p)
			staged(0)
			for _, late := range []piece{whole, {of: len(chunk), bytes: chunk[:9]}, {at: 9, of: len(chunk), bytes: chunk[9:]}} {
				if err := bring(p, late); abi.CodeOf(err) != abi.ErrNotReady {
					t.Errorf("bytes %d to %d: %v", late.at, late.at+len(late.bytes), err)
				}
				staged(0)
			}
			if len(c.arrives) != 0 {
				t.Errorf("a part of a chunk is kept for %d moves", len(c.arrives))
			}
			for id := core.MoveID(2); id < 200; id++ { // at the same time, in any order
				p := part(id)
				var wg sync.WaitGroup
				wg.Go(func() { _ = bring(p, whole) })
				wg.Go(func() { c.TurnAway(p.Move) })
				wg.Wait()
				staged(0)
			}
			p = part(1000)
			if err := bring(p, whole); err != nil {
				t.Error(err)
			}
			c.TurnAway(p.Move)
			for id := core.MoveID(2000); id < 2000+2*mostOver; id++ {
				c.TurnAway(id)
			}
			if err := bring(part(5000), whole); err != nil {
				t.Error(err)
			}
			staged(1)
		})
	}
}
