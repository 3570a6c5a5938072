package silo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
)

// stormLast is what an instance remembers of whom it had messages from.
type stormLast struct {
	rnd  *rand.Rand
	last map[uint64]uint64
	owed []uint64
	call uint64
}

// TestStorm is a node under a virtual clock whose actors do at random whatever actors do, in a silo that is too small for
// them, while their kind comes and goes, starts fail or find themselves replaced, and activations are passivated and
// revoked. Every request ends once and by its deadline, no actor has two instances (checked by the world), messages of one
// sender keep their order, and at the end nothing is left (checked by close).
func TestStorm(t *testing.T) {
	all := []uint64{1, 2, rand.Uint64()}
	t.Logf("seeds %d", all)
	for _, seed := range all {
		synctest.Test(t, func(t *testing.T) { storm(t, seed, false) })
		synctest.Test(t, func(t *testing.T) { storm(t, seed, true) })
	}
}

// storm with sleepy has actors that are hibernated whenever they could be passivated, if the capture does not fail.
func storm(t *testing.T, seed uint64, sleepy bool) {
	const actors, clients, each = 20, 10, 60
	n := newNode(t, func(c *Config, k *Kind) {
		c.MaxActors = 16
		k.Idle = 2 * time.Second
		k.Limits.Turn = time.Second
		if sleepy {
			c.Sleepers = newStore()
			k.Desc.State = abi.State{Keep: abi.KeepImage, Level: abi.LevelHibernating}
			k.Hibernate, k.Quick = 100*time.Millisecond, seed%2 == 0
			c.Sweep = 50 * time.Millisecond
		}
	})
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 0))
	draw := func(k int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(k)
	}
	some := func() abi.Identity { return id(numbered("a", draw(actors))) }
	n.start = func() error {
		switch draw(12) {
		case 0:
			return abi.NewError(abi.ErrOwnershipChanged, "replaced")
		case 1:
			return errors.New("no memory")
		}
		return nil
	}
	n.capture = func(*dormouse) error {
		if draw(10) == 0 {
			return errors.New("not now")
		}
		time.Sleep(time.Duration(draw(int(20 * time.Millisecond))))
		return nil
	}
	memory := map[*actor.Host]*stormLast{} // one a activation
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		mu.Lock()
		m := memory[h]
		if m == nil {
			m = &stormLast{rnd: rand.New(rand.NewPCG(seed, rnd.Uint64())), last: map[uint64]uint64{}}
			memory[h] = m
		}
		mu.Unlock()
		depth := byte(0)
		if len(ev.Payload) == 17 {
			depth = ev.Payload[16]
			sender, seq := binary.BigEndian.Uint64(ev.Payload), binary.BigEndian.Uint64(ev.Payload[8:])
			if seq <= m.last[sender] && seq > 0 {
				t.Errorf("%s: %d after %d of sender %d", h.Identity(), seq, m.last[sender], sender)
			}
			m.last[sender] = seq
		}
		out.Kind = abi.OutEffects
		deep := append(make([]byte, 16, 17), depth-1) // unnumbered
		short := func() time.Duration { return time.Duration(m.rnd.Int64N(int64(time.Second))) }
		for range m.rnd.IntN(4) {
			if depth == 0 {
				break
			}
			switch m.rnd.IntN(9) {
			case 0:
				time.Sleep(min(short()/3, time.Until(h.Deadline())))
			case 1:
				h.Request(&abi.Request{Target: some(), Method: "m", Payload: deep, Timeout: short()})
			case 2:
				var hs []uint32
				for range 3 {
					if x, code := h.Start(&abi.Request{Target: some(), Method: "m", Payload: deep}); code == abi.ErrNone {
						hs = append(hs, x)
					}
				}
				h.Wait(hs, m.rnd.IntN(len(hs)+1), short())
			case 3, 4:
				out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectTell, Target: some(), Method: "m", Payload: deep})
			case 5:
				m.call++
				out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectCall, Handle: m.call, Target: some(), Method: "m",
					Payload: deep, Timeout: short()})
			case 6:
				out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectRemind, Name: "t", After: short()})
			case 7:
				if m.rnd.IntN(8) == 0 {
					return abi.NewError(abi.ErrTrap, "boom")
				}
			}
		}
		for len(m.owed) > 0 && m.rnd.IntN(2) == 0 {
			out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectReply, Token: m.owed[0]})
			m.owed = m.owed[1:]
		}
		if ev.Tag == abi.EventCall {
			if m.rnd.IntN(6) == 0 {
				m.owed = append(m.owed, ev.Token)
			} else {
				out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			}
		}
		return nil
	}

	var codes [32]atomic.Int64
	var pending atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(c)+1))
			var seq uint64
			for range each {
				seq++
				payload := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(c)+1), seq)
				env := n.env(numbered("a", rnd.IntN(actors)), "m", string(append(payload, 3)))
				env.Deadline = time.Now().Add(time.Duration(rnd.Int64N(int64(5*time.Second))) + time.Millisecond)
				deadline := env.Deadline
				pending.Add(1)
				var ended atomic.Bool
				end := func(_ []byte, err error) {
					if ended.Swap(true) {
						t.Error("a request ended twice")
					}
					codes[abi.CodeOf(err)].Add(1)
					pending.Add(-1)
				}
				ctx, cancel := context.WithCancel(context.Background())
				switch rnd.IntN(5) {
				case 0:
					env.Flags = abi.OneWay
					end(n.api.Send(ctx, env))
				case 1:
					if err := n.api.Post(env, end); err != nil {
						end(nil, err)
					}
				case 2:
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.Int64N(int64(time.Second))))
					end(n.api.Send(ctx, env))
				default:
					end(n.api.Send(ctx, env))
				}
				cancel()
				if late := time.Since(deadline); late > 0 {
					t.Errorf("a request ended %v late", late)
				}
				time.Sleep(time.Duration(rnd.Int64N(int64(50 * time.Millisecond))))
			}
		})
	}
	over := make(chan struct{})
	var operator sync.WaitGroup
	operator.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 1<<40))
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(rnd.Int64N(int64(200 * time.Millisecond)))):
			}
			switch rnd.IntN(8) {
			case 0: // the kind goes, and its actors with it
				if err := n.ext.Runtime().SetKinds(nil); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
				if err := n.ext.Runtime().SetKinds([]cluster.Kind{{Name: "k"}}); err != nil {
					t.Error(err)
				}
			case 1:
				n.silo.PassivateIdle(t.Context())
			default:
				n.silo.List(Filter{Kind: ""}, "", 5)
			}
		}
	})
	wg.Wait()
	close(over)
	operator.Wait()
	time.Sleep(20 * time.Second)
	synctest.Wait()
	if p := pending.Load(); p != 0 {
		t.Errorf("seed %d: %d requests have not ended", seed, p)
	}
	if w := n.silo.Stats().Waiting; w != 0 {
		t.Errorf("seed %d: %d actors wait", seed, w)
	}
	text := ""
	for c := range codes {
		if k := codes[c].Load(); k > 0 {
			text += fmt.Sprintf(" %s %d", abi.Code(c).String(), k)
		}
	}
	t.Logf("seed %d: %d turns, %d evictions, %d wakes:%s", seed, n.kind.Counters.Turns.Load(), n.silo.Stats().Evictions,
		n.kind.Counters.Wakes.Load(), text)
}
