package actor

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// storm is a world of actors that do at random whatever an actor may do, under a virtual clock. Whatever happens, every
// request ends exactly once and by its deadline, turns of an actor run one at a time on one instance that is not closed,
// messages of a sender keep their order, and at the end nobody waits and nothing is left.
type storm struct {
	*world
	t    *testing.T
	ids  []abi.Identity
	does func(g *stormy, ev *abi.Event, out *abi.Output) error

	pace    time.Duration // between two interventions of the operator, at most
	pending atomic.Int64
	seq     []atomic.Uint64 // of the posts of a sender
	busy    []atomic.Int32  // turns and starts of an actor under way
	live    []atomic.Int32
	outcome [32]atomic.Int64
}

// stormy is one instance in a storm.
type stormy struct {
	s      *storm
	i      int // which actor
	h      *Host
	rnd    *rand.Rand
	closed bool
	owed   []uint64 // tokens of deferred calls
	calls  uint64   // last handle
	last   []uint64 // highest number seen of each sender
}

func newStorm(t *testing.T, seed uint64, actors int, does func(*stormy, *abi.Event, *abi.Output) error) *storm {
	s := &storm{world: newWorld(t), t: t, does: does, pace: 200 * time.Millisecond, seq: make([]atomic.Uint64, 64), busy: make([]atomic.Int32, actors),
		live: make([]atomic.Int32, actors)}
	s.limits.Mailbox, s.limits.Turn, s.limits.Request = 200, time.Second, 10*time.Second
	s.shelf = &shelf{kept: map[abi.Identity][]byte{}}
	s.quick = seed%2 == 0
	for i := range actors {
		id := s.id(fmt.Sprint("a", i))
		s.ids = append(s.ids, id)
		n := uint64(0)
		s.wake[id] = func(h *Host, state []byte) (Instance, error) {
			defer s.enter(i)()
			n++
			g := &stormy{s: s, i: i, h: h, rnd: rand.New(rand.NewPCG(seed, uint64(i)<<32+n)),
				last: make([]uint64, len(s.seq))}
			switch g.rnd.IntN(40) {
			case 0:
				return nil, abi.NewError(abi.ErrOwnershipChanged, "replaced")
			case 1:
				return nil, fmt.Errorf("no memory")
			case 2:
				time.Sleep(g.upTo(time.Second))
			}
			for n := 0; len(state) > 0; n++ {
				g.last[n], state = binary.BigEndian.Uint64(state), state[8:]
			}
			if s.live[i].Add(1) != 1 {
				t.Errorf("two instances of %s", id)
			}
			return g, nil
		}
	}
	return s
}

// enter marks that an actor is at work.
func (s *storm) enter(i int) (leave func()) {
	if s.busy[i].Add(1) != 1 {
		s.t.Errorf("%s is at work twice at once", s.ids[i])
	}
	return func() { s.busy[i].Add(-1) }
}

func (g *stormy) Turn(ev *abi.Event, deadline time.Time, out *abi.Output) error {
	defer g.s.enter(g.i)()
	if g.closed {
		g.s.t.Errorf("a turn after the end of %s", g.s.ids[g.i])
	}
	if time.Until(deadline) != g.s.limits.Turn {
		g.s.t.Errorf("%v for a turn", time.Until(deadline))
	}
	if len(ev.Payload) == 16 { // numbered, by its sender
		sender, n := binary.BigEndian.Uint64(ev.Payload), binary.BigEndian.Uint64(ev.Payload[8:])
		if n <= g.last[sender] {
			g.s.t.Errorf("%s had number %d of sender %d after %d", g.s.ids[g.i], n, sender, g.last[sender])
		}
		g.last[sender] = n
	}
	return g.s.does(g, ev, out)
}

func (g *stormy) Close() error {
	defer g.s.enter(g.i)()
	if g.closed {
		g.s.t.Error("closed twice")
	}
	g.closed = true
	g.s.live[g.i].Add(-1)
	return nil
}

func (g *stormy) Rest()         { g.s.enter(g.i)() }
func (g *stormy) Weight() int64 { return 1 }

// Capture takes its time, and fails now and then.
func (g *stormy) Capture(dst []byte) ([]byte, error) {
	defer g.s.enter(g.i)()
	if g.closed {
		g.s.t.Error("a capture after the end")
	}
	switch g.rnd.IntN(8) {
	case 0:
		return dst, fmt.Errorf("no capture")
	case 1:
		time.Sleep(g.upTo(time.Second))
	}
	for _, n := range g.last {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	return dst, nil
}

func (g *stormy) upTo(d time.Duration) time.Duration { return time.Duration(g.rnd.Int64N(int64(d))) }
func (g *stormy) other() abi.Identity                { return g.s.ids[g.rnd.IntN(len(g.s.ids))] }

// call makes a client's request, one way or the other, and sees to it that it ends once and on time.
func (s *storm) call(rnd *rand.Rand, sender int) {
	timeout := time.Duration(rnd.Int64N(int64(4*time.Second))) + time.Millisecond
	env := s.env("a0", "m", "", timeout)
	env.Target = s.ids[rnd.IntN(len(s.ids))]
	deadline := env.Deadline
	s.pending.Add(1)
	var ended atomic.Bool
	end := func(_ []byte, err error) {
		if ended.Swap(true) {
			s.t.Error("a request ended twice")
		}
		s.outcome[abi.CodeOf(err)].Add(1)
		s.pending.Add(-1)
	}
	switch rnd.IntN(4) {
	case 0:
		if rnd.IntN(2) == 0 {
			env.Flags |= abi.OneWay
		}
		n := s.seq[sender].Add(1)
		env.Payload = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(sender)), n)
		if err := s.Post(env, end); err != nil {
			end(nil, err)
		}
		return
	case 1:
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rnd.Int64N(int64(timeout))))
		defer cancel()
		end(s.Send(ctx, env))
	default:
		end(s.Send(context.Background(), env))
	}
	if late := time.Since(deadline); late > 0 {
		s.t.Errorf("a request ended %v after its deadline", late)
	}
}

// run lets clients loose, and somebody who ends activations.
func (s *storm) run(seed uint64, clients, each int) {
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(c)))
			for range each {
				s.call(rnd, c)
				if rnd.IntN(3) == 0 {
					time.Sleep(time.Duration(rnd.Int64N(int64(100 * time.Millisecond))))
				}
			}
		})
	}
	over := make(chan struct{})
	s.work.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 1<<40))
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(rnd.Int64N(int64(s.pace)))):
			}
			a := s.at(s.ids[rnd.IntN(len(s.ids))])
			switch rnd.IntN(6) {
			case 0:
				a.Stop("stopped")
			case 1:
				a.Revoke()
			case 2:
				a.Passivate("idle")
			case 3:
				a.Rest()
				a.Weight()
			default:
				a.Hibernate("idle")
			}
		}
	})
	wg.Wait()
	close(over)
	time.Sleep(30 * time.Second) // every deadline has passed
	synctest.Wait()
	if n := s.pending.Load(); n != 0 {
		s.t.Errorf("%d requests have not ended", n)
	}
	if n := s.waits.Len(); n != 0 {
		s.t.Errorf("%d actors still wait", n)
	}
	for _, a := range s.all() {
		if st := a.Status(); st != (Status{Timers: st.Timers, Warm: st.Warm, Sleeps: st.Sleeps}) {
			s.t.Errorf("%s: %+v", a.Identity(), st)
		}
	}
	s.close()
	for i := range s.ids {
		if s.live[i].Load() != 0 {
			s.t.Errorf("an instance of %s is left", s.ids[i])
		}
	}
}

func (s *storm) outcomes() (text string) {
	for c := range s.outcome {
		if n := s.outcome[c].Load(); n > 0 {
			text += fmt.Sprintf(" %s %d", abi.Code(c).String(), n)
		}
	}
	return text
}

// anything is a turn that does at random whatever a turn may do.
func anything(g *stormy, ev *abi.Event, out *abi.Output) error {
	var es []abi.Effect
	answer, deep := true, []byte{3}
	if len(ev.Payload) == 1 {
		deep = []byte{ev.Payload[0] - 1}
	}
	for range g.rnd.IntN(4) {
		if deep[0] == 0 || ev.Tag != abi.EventCall && ev.Tag != abi.EventMessage {
			break // or it would never end
		}
		switch g.rnd.IntN(14) {
		case 0:
			time.Sleep(min(g.upTo(300*time.Millisecond), time.Until(g.h.Deadline())))
		case 1, 2:
			g.h.Request(&abi.Request{Target: g.other(), Method: "m", Payload: deep, Timeout: g.upTo(time.Second)})
		case 3, 4:
			var hs []uint32
			for range 1 + g.rnd.IntN(5) {
				if n, code := g.h.Start(&abi.Request{Target: g.other(), Method: "m", Payload: deep, Timeout: g.upTo(2 * time.Second)}); code == abi.ErrNone {
					hs = append(hs, n)
				}
			}
			need := g.rnd.IntN(len(hs) + 1)
			n, code := g.h.Wait(hs, need, g.upTo(2*time.Second)-time.Second)
			if code != abi.ErrNone || n < 0 || n > len(hs) {
				g.s.t.Errorf("wait: %d, %v", n, code)
			}
			for _, h := range hs {
				if _, ready, code := g.h.Take(h); code != abi.ErrNone {
					g.s.t.Errorf("take: %v", code)
				} else if ready {
					n--
				}
			}
			if n > 0 {
				g.s.t.Errorf("%d outcomes have gone", n)
			}
		case 5, 6:
			es = append(es, abi.Effect{Tag: abi.EffectTell, Target: g.other(), Method: "m", Payload: deep})
		case 7, 8:
			g.calls++
			es = append(es, abi.Effect{Tag: abi.EffectCall, Handle: g.calls, Target: g.other(), Method: "m", Payload: deep, Timeout: g.upTo(2 * time.Second)})
		case 9:
			every := time.Duration(0)
			if g.rnd.IntN(4) == 0 {
				every = g.upTo(100 * time.Millisecond)
			}
			es = append(es, abi.Effect{Tag: abi.EffectRemind, Name: fmt.Sprint(g.rnd.IntN(3)), After: g.upTo(time.Second), Every: every})
		case 10, 11:
			es = append(es, abi.Effect{Tag: abi.EffectCancel, Name: fmt.Sprint(g.rnd.IntN(3))})
		case 12:
			answer = false
		case 13:
			switch g.rnd.IntN(12) {
			case 0:
				return abi.NewError(abi.ErrTrap, "trap")
			case 1:
				panic("at random")
			}
		}
	}
	for len(g.owed) > 0 && g.rnd.IntN(3) > 0 {
		es = append(es, abi.Effect{Tag: abi.EffectReply, Token: g.owed[0]})
		g.owed = g.owed[1:]
	}
	if ev.Tag == abi.EventCall {
		if answer {
			es = append(es, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
		} else {
			g.owed = append(g.owed, ev.Token)
		}
	}
	return effects(out, es...)
}

// seeds returns a few that are printed on failure, one of them new each time.
func seeds(t *testing.T) []uint64 {
	s := []uint64{1, 2, 3, rand.Uint64()}
	t.Logf("seeds %d", s)
	return s
}

func TestStorm(t *testing.T) {
	for _, seed := range seeds(t) {
		for _, actors := range []int{2, 12} {
			synctest.Test(t, func(t *testing.T) {
				s := newStorm(t, seed, actors, anything)
				s.run(seed, 12, 60)
				t.Logf("seed %d, %d actors: %d turns, %d deadlocks, %d wakes; clients:%s", seed, actors, s.count.Turns.Load(), s.count.Deadlocks.Load(),
					s.count.Wakes.Load(), s.outcomes())
			})
		}
	}
}

// Actors that are captured at every opportunity, while messages come.
func TestStormOfSleepers(t *testing.T) {
	for _, seed := range seeds(t) {
		synctest.Test(t, func(t *testing.T) {
			s := newStorm(t, seed, 6, func(g *stormy, ev *abi.Event, out *abi.Output) error {
				if ev.Tag == abi.EventPassivate {
					return reply(out, "")
				}
				switch g.rnd.IntN(12) {
				case 0:
					time.Sleep(g.upTo(50 * time.Millisecond))
				case 1:
					if len(ev.Payload) != 1 {
						return effects(out, abi.Effect{Tag: abi.EffectTell, Target: g.other(), Method: "m", Payload: []byte{1}},
							abi.Effect{Tag: abi.EffectReply, Token: max(ev.Token, 1)})
					}
				}
				return reply(out, "")
			})
			s.pace = 20 * time.Millisecond
			s.run(seed, 8, 200)
			t.Logf("seed %d: %d turns, %d wakes, %d captures failed; clients:%s", seed, s.count.Turns.Load(), s.count.Wakes.Load(),
				s.count.CaptureFailures.Load(), s.outcomes())
		})
	}
}

// Actors that only ask one another, at once and wait for all, take no time: each request ends in a reply or a deadlock. A
// deadlock that nobody saw would last until a turn's limit.
func TestStormOfRequestsMissesNoDeadlock(t *testing.T) {
	for _, seed := range seeds(t) {
		synctest.Test(t, func(t *testing.T) {
			s := newStorm(t, seed, 8, nil)
			s.limits = Limits{Mailbox: 1 << 20, Turn: time.Hour, Request: time.Hour, MaxMessage: 100, MaxOutgoing: 100, MaxTimers: 1}
			var deadlocks, fine atomic.Int64
			for i, id := range s.ids {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				s.define(id.ID(), func(h *Host, ev *abi.Event, out *abi.Output) error {
					var hs []uint32
					depth := 0
					fmt.Sscan(string(ev.Payload), &depth)
					ask := func() *abi.Request {
						return &abi.Request{Target: s.ids[rnd.IntN(len(s.ids))], Method: "m", Payload: fmt.Append(nil, depth-1)}
					}
					tally := func(r abi.Result) {
						switch {
						case r.Err == nil:
							fine.Add(1)
						case r.Err.Code == abi.ErrDeadlock:
							deadlocks.Add(1)
						default:
							t.Errorf("%v", r.Err)
						}
					}
					if depth > 0 {
						for range rnd.IntN(3) {
							if rnd.IntN(2) == 0 {
								tally(h.Request(ask()))
							} else if n, code := h.Start(ask()); code == abi.ErrNone {
								hs = append(hs, n)
							}
						}
					}
					h.Wait(hs, len(hs), -1)
					for _, n := range hs {
						r, _, _ := h.Take(n)
						tally(r)
					}
					return reply(out, "")
				})
			}
			began := time.Now()
			var wg sync.WaitGroup
			for c := range 8 {
				wg.Go(func() {
					for i := range 100 {
						if _, err := s.world.call(s.ids[(c+i)%len(s.ids)].ID(), "m", "4", 2*time.Hour); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if d := time.Since(began); d > 0 {
				t.Errorf("seed %d: it took %v: some deadlock was not seen", seed, d)
			}
			s.close()
			t.Logf("%d answered, %d deadlocks", fine.Load(), deadlocks.Load())
		})
	}
}

// Actors that never wait in a turn never deadlock, however they call one another.
func TestStormOfCompletionsHasNoDeadlock(t *testing.T) {
	for _, seed := range seeds(t) {
		synctest.Test(t, func(t *testing.T) {
			s := newStorm(t, seed, 6, nil)
			s.limits.Mailbox = 1 << 20
			for i, id := range s.ids {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				handle := uint64(0)
				behalf := map[uint64]uint64{}
				s.define(id.ID(), func(h *Host, ev *abi.Event, out *abi.Output) error {
					hops, token := 0, ev.Token
					if ev.Tag == abi.EventCall {
						fmt.Sscan(string(ev.Payload), &hops)
					} else {
						token = behalf[ev.Handle]
						delete(behalf, ev.Handle)
						if ev.Err != nil {
							t.Errorf("%v", ev.Err)
						}
						hops = rnd.IntN(2)
					}
					if hops == 0 {
						return effects(out, abi.Effect{Tag: abi.EffectReply, Token: token})
					}
					handle++
					behalf[handle] = token
					return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: handle, Target: s.ids[rnd.IntN(len(s.ids))], Method: "m",
						Payload: fmt.Append(nil, hops-1)})
				})
			}
			var wg sync.WaitGroup
			for c := range 8 {
				wg.Go(func() {
					for i := range 60 {
						if _, err := s.world.call(s.ids[(c+i)%len(s.ids)].ID(), "m", "5", time.Hour); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			s.close()
		})
	}
}
