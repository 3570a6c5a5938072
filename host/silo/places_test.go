package silo

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

// world is what several places have in common: it sees whether an actor runs twice.
type world struct {
	t  testing.TB
	mu sync.Mutex
	// guarded by mu
	live   map[abi.Identity]int // instances
	serial uint64               // of captures
	woken  map[uint64]bool      // captures that an instance went on from
	notes  map[abi.Identity][]string
	told   []string // reasons of last turns
}

func newWorld(t testing.TB) *world {
	return &world{t: t, live: map[abi.Identity]int{}, woken: map[uint64]bool{}, notes: map[abi.Identity][]string{}}
}

// place is a silo with a store of package sleep, under a cluster layer as a planned move needs it: what is held comes back to its
// sender, and what was posted waits until it is let go.
type place struct {
	*world
	silo  *Silo
	store *sleep.Store

	kinds sync.Mutex
	kind  *Kind // guarded by kinds where a test changes it

	entered chan struct{} // a turn that blocks has begun
	resume  chan struct{} // ends it

	mu      sync.Mutex
	capture func() error // guarded by mu, as all of the following
	epoch   func(abi.Identity) abi.Epoch
	ledger  map[abi.Identity]*leased
	held    bool
	parked  []parked
}

type leased struct {
	target cluster.Target
	over   chan struct{}
}

type parked struct {
	env  *abi.Envelope
	done func([]byte, error)
}

// counter is the kind k of a place, and odd one that is volatile.
func (w *world) place(change func(*Config, *Kind), store sleep.Config) *place {
	z, err := sleep.New(store)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &place{world: w, store: z, entered: make(chan struct{}, 10), resume: make(chan struct{}), ledger: map[abi.Identity]*leased{},
		epoch: func(abi.Identity) abi.Epoch { return abi.Epoch{Index: 1} }}
	p.kind = &Kind{Desc: &abi.KindDescription{Name: "k", Events: []abi.EventTag{abi.EventCall, abi.EventMessage, abi.EventCompletion, abi.EventPassivate},
		State: abi.State{Keep: abi.KeepImage, Level: abi.LevelHibernating}},
		Version: "v1", Idle: time.Hour, Cost: 100, Counters: &actor.Counters{}, Quick: true,
		Limits: actor.Limits{Mailbox: 1000, Turn: 5 * time.Second, Request: 10 * time.Second, MaxMessage: 1000, MaxOutgoing: 10, MaxTimers: 10}}
	cfg := Config{Sleepers: z, Kind: func(name string) (*Kind, error) {
		p.kinds.Lock()
		defer p.kinds.Unlock()
		if name != "k" {
			return nil, abi.NewError(abi.ErrUnknownKind, name)
		}
		return p.kind, nil
	}}
	if change != nil {
		change(&cfg, p.kind)
	}
	p.kind.Start = p.start
	p.silo = New(cfg)
	p.silo.Open(p)
	return p
}

func (p *place) close() {
	p.silo.Close()
	if st := p.silo.Stats(); st.Activations != 0 || st.Bytes != 0 || st.Waiting != 0 {
		p.t.Errorf("left behind: %+v", st)
	}
	if st := p.store.Stats(); st.Staged != 0 {
		p.t.Errorf("%d are staged", st.Staged)
	}
	if err := p.store.Close(); err != nil {
		p.t.Error(err)
	}
}

// refused is what the cluster layer answers for a part that is moving.
var refused = abi.NewError(abi.ErrOwnershipChanged, "the actor is moving")

// resolve finds the activation for a message, or makes it.
func (p *place) resolve(env *abi.Envelope) (*leased, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held && len(env.Chain) == 0 {
		return nil, refused
	}
	if l := p.ledger[env.Target]; l != nil {
		return l, nil
	}
	l := &leased{over: make(chan struct{})}
	target, err := p.silo.Activate(cluster.ActivationRequest{Lease: cluster.Lease{Identity: env.Target, Epoch: p.epoch(env.Target)}, Reason: "call",
		Observer: observer{p, l}})
	if err != nil {
		return nil, err
	}
	l.target = target
	p.ledger[env.Target] = l
	return l, nil
}

// observer takes a lease out of the ledger.
type observer struct {
	p *place
	l *leased
}

func (observer) Started(cluster.Lease)             {}
func (observer) Releasing(cluster.Lease)           {}
func (o observer) Failed(l cluster.Lease, _ error) { o.Terminated(l, "") }
func (o observer) Terminated(l cluster.Lease, _ string) {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	if o.p.ledger[l.Identity] == o.l {
		delete(o.p.ledger, l.Identity)
	}
	close(o.l.over)
}

func (p *place) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	for {
		l, err := p.resolve(env)
		if err != nil {
			return nil, err
		}
		out, err := l.target.Deliver(ctx, env)
		if abi.CodeOf(err) != abi.ErrOwnershipChanged {
			return out, err
		}
		p.mu.Lock()
		held := p.held && len(env.Chain) == 0
		p.mu.Unlock()
		if held {
			return nil, err
		}
		select {
		case <-l.over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Post parks what it cannot hand over, in order.
func (p *place) Post(env *abi.Envelope, done func([]byte, error)) error {
	l, err := p.resolve(env)
	if err == nil {
		err = l.target.Post(env, done)
	}
	if abi.CodeOf(err) == abi.ErrOwnershipChanged {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.parked = append(p.parked, parked{env, done})
		return nil
	}
	return err
}

func (p *place) Get(_ context.Context, id abi.Identity) (cluster.ActorRef, error) {
	_, err := p.resolve(&abi.Envelope{Target: id})
	return cluster.ActorRef{}, err
}

// hold keeps back what comes from outside; letGo has what waited posted to another place, or this one.
func (p *place) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

func (p *place) letGo(to *place) {
	p.mu.Lock()
	p.held = false
	all := p.parked
	p.parked = nil
	p.mu.Unlock()
	for _, m := range all {
		if err := to.Post(m.env, m.done); err != nil {
			p.t.Errorf("a parked message: %v", err)
		}
	}
}

func (p *place) call(id abi.Identity, method, payload string) (string, error) {
	env := &abi.Envelope{Target: id, Method: method, Payload: []byte(payload), Deadline: time.Now().Add(time.Minute)}
	out, err := p.Send(context.Background(), env)
	return string(out), err
}

func (p *place) want(id abi.Identity, method, reply string) {
	p.t.Helper()
	if got, err := p.call(id, method, ""); err != nil || got != reply {
		p.t.Errorf("%s %s: %q, %v; want %q", id, method, got, err, reply)
	}
}

// abacus counts what it was asked.
type abacus struct {
	p *place
	h *actor.Host
	n uint64
}

func (p *place) start(h *actor.Host, state []byte) (actor.Instance, error) {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	y := &abacus{p: p, h: h}
	if state != nil {
		y.n = binary.BigEndian.Uint64(state)
		serial := binary.BigEndian.Uint64(state[8:])
		if p.woken[serial] {
			p.t.Errorf("%s goes on twice from one state", h.Identity())
		}
		p.woken[serial] = true
	}
	if p.live[h.Identity()]++; p.live[h.Identity()] > 1 {
		p.t.Errorf("%s runs twice", h.Identity())
	}
	return y, nil
}

func (y *abacus) Close() error {
	y.p.world.mu.Lock()
	defer y.p.world.mu.Unlock()
	y.p.live[y.h.Identity()]--
	return nil
}

func (y *abacus) Rest()         {}
func (y *abacus) Weight() int64 { return 100 }

func (y *abacus) Capture(dst []byte) ([]byte, error) {
	y.p.mu.Lock()
	capture := y.p.capture
	y.p.mu.Unlock()
	if capture != nil {
		if err := capture(); err != nil {
			return dst, err
		}
	}
	y.p.world.mu.Lock()
	defer y.p.world.mu.Unlock()
	y.p.serial++
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, y.n), y.p.serial), nil
}

func (y *abacus) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	out.Kind = abi.OutReply
	w := y.p.world
	switch ev.Tag {
	case abi.EventPassivate:
		w.mu.Lock()
		w.told = append(w.told, y.h.Identity().ID()+" "+ev.Reason)
		w.mu.Unlock()
		out.Kind = abi.OutEffects
		return nil
	case abi.EventMessage:
		y.n++
		w.mu.Lock()
		w.notes[y.h.Identity()] = append(w.notes[y.h.Identity()], string(ev.Payload))
		w.mu.Unlock()
		out.Kind = abi.OutEffects
		return nil
	case abi.EventCompletion: // of what "later" asked
		y.n++
		out.Kind = abi.OutEffects
		out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectReply, Token: ev.Handle, Payload: fmt.Append(nil, y.n, " after ", string(ev.Payload))})
		return nil
	}
	switch ev.Method {
	case "block":
		y.p.entered <- struct{}{}
		<-y.p.resume
	case "ask", "block and ask":
		if ev.Method != "ask" {
			y.p.entered <- struct{}{}
			<-y.p.resume
		}
		res := y.h.Request(&abi.Request{Target: id(string(ev.Payload)), Method: "add"})
		if res.Err != nil {
			out.Kind, out.Err = abi.OutError, res.Err
			return nil
		}
		y.n++
		out.Payload = fmt.Append(nil, y.n, " after ", string(res.Payload))
		return nil
	case "later":
		out.Kind = abi.OutEffects
		out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectCall, Handle: ev.Token, Target: id(string(ev.Payload)), Method: "block"})
		return nil
	case "tick":
		out.Kind = abi.OutEffects
		out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectRemind, Name: "tick", After: time.Second, Every: time.Second},
			abi.Effect{Tag: abi.EffectReply, Token: ev.Token, Payload: fmt.Append(nil, y.n)})
		return nil
	case "get":
		out.Payload = fmt.Append(nil, y.n)
		return nil
	}
	y.n++
	out.Payload = fmt.Append(nil, y.n)
	return nil
}

// half is a part: the actors of every other partition.
func half(odd bool) cluster.Part {
	set := new(cluster.PartitionSet)
	for p := range set {
		set[p] = p%2 == 1 == odd
	}
	return cluster.Part{Kinds: []string{"k"}, Partitions: set}
}

// export returns a part's chunks.
func (p *place) export(part cluster.Part, chunk int) (chunks [][]byte, m cluster.Manifest) {
	p.t.Helper()
	m, err := p.silo.Export(context.Background(), part, chunk, func(b []byte) error {
		chunks = append(chunks, append([]byte(nil), b...))
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return chunks, m
}
