package actor

import (
	"context"
	"log/slog"
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
	*out = abi.Output{}
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
	work   sync.WaitGroup
	waits  *Waits
	limits Limits
	desc   *abi.KindDescription

	mu     sync.Mutex
	actors map[abi.Identity]*Activation
	start  map[abi.Identity]func(h *Host) (Instance, error)
	ends   []End
	starts int
	count  Counters
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, waits: NewWaits(), actors: map[abi.Identity]*Activation{}, start: map[abi.Identity]func(*Host) (Instance, error){},
		limits: Limits{Mailbox: 1024, Turn: 5 * time.Second, Request: 10 * time.Second, MaxMessage: 1 << 20, MaxOutgoing: 1024, MaxTimers: 16},
		desc: &abi.KindDescription{Name: "k", Events: []abi.EventTag{abi.EventCall, abi.EventMessage, abi.EventCompletion,
			abi.EventTimer, abi.EventPassivate}}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.mu.Lock()
	var all []*Activation
	for _, a := range w.actors {
		all = append(all, a)
	}
	w.mu.Unlock()
	for _, a := range all {
		a.Revoke()
	}
	w.cancel()
	w.work.Wait()
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
}

// at returns the activation of an identity, a new one if there is none.
func (w *world) at(id abi.Identity) *Activation {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.actors[id]
	if a == nil {
		a = New(Config{Identity: id, Desc: w.desc, Reason: "test", Start: w.start[id], Outbox: w, Owner: w, Waits: w.waits,
			Limits: w.limits, Counters: &w.count, Context: w.ctx, Spawn: w.work.Go, Log: slog.New(slog.DiscardHandler)}, time.Now())
		w.actors[id] = a
	}
	return a
}

func (w *world) Started(*Activation) {
	w.mu.Lock()
	w.starts++
	w.mu.Unlock()
}

func (w *world) Ended(a *Activation, e End) {
	w.mu.Lock()
	w.ends = append(w.ends, e)
	if w.actors[a.Identity()] == a {
		delete(w.actors, a.Identity())
	}
	w.mu.Unlock()
	if e.Backlog.Len() > 0 {
		w.at(a.Identity()).Adopt(e.Backlog)
	}
}

func (w *world) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	return w.at(env.Target).Deliver(ctx, env)
}

func (w *world) Post(env *abi.Envelope, done func([]byte, error)) error {
	return w.at(env.Target).Post(env, done)
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
