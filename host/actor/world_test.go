package actor

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guest is a test's instance: a function a turn, on a host of its own.
type guest struct {
	host *Host
	turn func(h *Host, ev *abi.Event, out *abi.Output) error
	end  func()
}

func (g *guest) Turn(ev *abi.Event, deadline time.Time, out *abi.Output) error {
	return g.turn(g.host, ev, out)
}

func (g *guest) Close() error {
	if g.end != nil {
		g.end()
	}
	return nil
}

// world routes messages between activations of one table, as a node does, less the cluster.
type world struct {
	t      *testing.T
	ctx    context.Context
	cancel context.CancelFunc
	work   crew
	waits  *Waits
	limits Limits
	desc   *abi.KindDescription

	mu     sync.Mutex
	actors map[abi.Identity]*Activation
	going  map[*Activation]chan struct{} // closed when it has ended
	parked map[abi.Identity][]parcel
	start  map[abi.Identity]func(h *Host) (Instance, error)
	wake   map[abi.Identity]func(h *Host, state []byte) (Instance, error) // in place of start, for those whose state is kept
	shelf  *shelf                                                         // nil: no state is kept
	wall   func(time.Time) time.Time                                      // of activations made from now on
	quick  bool
	ends   []End
	starts int
	count  Counters
}

// crew is a sync.WaitGroup that may be added to while another waits at zero, as timers that fire do.
type crew struct {
	mu   sync.Mutex
	free sync.Cond
	n    int
}

func (c *crew) Go(f func()) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	go func() {
		defer func() { // also of one that runtime.Goexit ends
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.n--; c.n == 0 {
				c.free.Broadcast()
			}
		}()
		f()
	}()
}

// Wait returns at a moment when nothing runs.
func (c *crew) Wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.n > 0 {
		c.free.Wait()
	}
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, waits: NewWaits(), actors: map[abi.Identity]*Activation{}, going: map[*Activation]chan struct{}{},
		parked: map[abi.Identity][]parcel{}, start: map[abi.Identity]func(*Host) (Instance, error){},
		wake: map[abi.Identity]func(*Host, []byte) (Instance, error){},
		// The times are hang limits, but a turn's is half of what most clients have, so that it may run on their goroutine.
		limits: Limits{Mailbox: 1024, Turn: 30 * time.Second, Request: time.Minute, MaxMessage: 1 << 20, MaxOutgoing: 1024, MaxTimers: 16},
		desc: &abi.KindDescription{Name: "k", Events: []abi.EventTag{abi.EventCall, abi.EventMessage, abi.EventCompletion,
			abi.EventTimer, abi.EventPassivate}}}
	w.work.free.L = &w.work.mu
	w.ctx, w.cancel = context.WithCancel(context.Background())
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.cancel()
	for all := w.all(); len(all) > 0; all = w.all() { // what waits at one that is revoked goes to a successor
		for _, a := range all {
			a.Revoke()
		}
		w.work.Wait()
	}
	w.work.Wait()
	if n, loose := w.waits.Len(), w.waits.slack.Load(); w.t != nil && (n > 0 || loose > 0 || len(w.waits.loose) > 0) {
		w.t.Errorf("%d actors still wait, %d waits are loose", n, loose)
	}
}

func (w *world) all() (all []*Activation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.actors {
		all = append(all, a)
	}
	return all
}

func (w *world) id(name string) abi.Identity {
	id, err := abi.NewIdentity("k", name)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// define says what the actor of a name does in its turns.
func (w *world) define(name string, turn func(h *Host, ev *abi.Event, out *abi.Output) error) {
	w.start[w.id(name)] = func(h *Host) (Instance, error) { return &guest{host: h, turn: turn}, nil }
	delete(w.wake, w.id(name))
}

// at returns the activation of an identity, a new one if there is none.
func (w *world) at(id abi.Identity) *Activation {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.actors[id]
	if a == nil {
		a = w.activate(id)
	}
	return a
}

// activate makes an activation that takes the place of whatever there was. w.mu is held.
func (w *world) activate(id abi.Identity) *Activation {
	start := w.wake[id]
	if fresh := w.start[id]; start == nil {
		start = func(h *Host, _ []byte) (Instance, error) { return fresh(h) }
	}
	cfg := Config{Identity: id, Desc: w.desc, Reason: "test", Start: start, Wall: w.wall, Quick: w.quick, Outbox: w, Owner: w, Waits: w.waits,
		Limits: w.limits, Counters: &w.count, Context: w.ctx, Spawn: w.work.Go, Log: slog.New(slog.DiscardHandler)}
	if w.shelf != nil {
		cfg.Keeper = place{w.shelf, id}
	}
	a := New(cfg, time.Now())
	w.actors[id] = a
	w.going[a] = make(chan struct{})
	return a
}

func (w *world) Started(*Activation) {
	w.mu.Lock()
	w.starts++
	w.mu.Unlock()
}

func (w *world) Ended(a *Activation, e End) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends = append(w.ends, e)
	close(w.going[a])
	delete(w.going, a)
	if w.actors[a.Identity()] == a {
		delete(w.actors, a.Identity())
	}
	if e.Backlog.Len() > 0 {
		w.activate(a.Identity()).Adopt(e.Backlog)
	}
	parked := w.parked[a.Identity()]
	delete(w.parked, a.Identity())
	if len(parked) > 0 && w.actors[a.Identity()] == nil {
		w.activate(a.Identity())
	}
	for _, p := range parked {
		if err := w.actors[a.Identity()].Post(p.env, p.done); err != nil && p.done != nil {
			p.done(nil, err)
		}
	}
}

func (w *world) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	for {
		a := w.at(env.Target)
		out, err := a.Deliver(ctx, env)
		if abi.CodeOf(err) == abi.ErrOwnershipChanged {
			err = w.outlive(ctx, a, env.Deadline)
			if err == nil {
				continue
			}
		}
		return out, err
	}
}

// Post keeps what an activation that is about to end refuses for the next one, in order.
func (w *world) Post(env *abi.Envelope, done func([]byte, error)) error {
	for {
		a := w.at(env.Target)
		w.mu.Lock()
		behind := len(w.parked[env.Target]) > 0
		w.mu.Unlock()
		if !behind {
			if err := a.Post(env, done); err != gone {
				return err
			}
		}
		w.mu.Lock()
		wait := w.going[a] != nil
		if wait {
			w.parked[env.Target] = append(w.parked[env.Target], parcel{env, done})
		}
		w.mu.Unlock()
		if wait {
			return nil
		}
	}
}

// parcel is a post that waits for the next activation.
type parcel struct {
	env  *abi.Envelope
	done func([]byte, error)
}

// outlive waits for the end of an activation that refuses messages.
func (w *world) outlive(ctx context.Context, a *Activation, deadline time.Time) error {
	w.mu.Lock()
	ended := w.going[a]
	w.mu.Unlock()
	if ended == nil {
		return nil
	}
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return abi.CodeOf(ctx.Err())
	case <-late.C:
		return errLate
	}
}

// call is a request of an outside client.
func (w *world) call(name, method string, payload string, timeout time.Duration) (string, error) {
	out, err := w.Send(context.Background(), w.env(name, method, payload, timeout))
	return string(out), err
}

func (w *world) env(name, method, payload string, timeout time.Duration) *abi.Envelope {
	return &abi.Envelope{Target: w.id(name), Method: method, Payload: []byte(payload), Deadline: time.Now().Add(timeout)}
}

func (w *world) ended() []End {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]End(nil), w.ends...)
}

// ask is a request from within a turn.
func ask(h *Host, target abi.Identity, method string) ([]byte, error) {
	r := h.Request(&abi.Request{Target: target, Method: method})
	if r.Err != nil {
		return nil, r.Err
	}
	return r.Payload, nil
}

func reply(out *abi.Output, s string) error {
	out.Kind, out.Payload = abi.OutReply, []byte(s)
	return nil
}

func effects(out *abi.Output, es ...abi.Effect) error {
	out.Kind, out.Effects = abi.OutEffects, es
	return nil
}

func wantCode(t *testing.T, err error, code abi.Code) {
	t.Helper()
	if abi.CodeOf(err) != code {
		t.Fatalf("error %v (%s), want %s", err, abi.CodeOf(err), code)
	}
}

// ask is a request of an outside client, whose outcome comes in time.
func (w *world) ask(name, method string) <-chan string {
	out := make(chan string, 1)
	w.work.Go(func() {
		s, err := w.call(name, method, "", time.Minute)
		if err != nil {
			s = err.Error()
		}
		out <- s
	})
	return out
}

// queued waits until so many messages wait at an actor.
func (w *world) queued(name string, n int) {
	w.t.Helper()
	for began := time.Now(); w.at(w.id(name)).Status().Queued < n; runtime.Gosched() {
		if time.Since(began) > time.Minute {
			w.t.Fatalf("no %d messages wait at %s", n, name)
		}
	}
}
