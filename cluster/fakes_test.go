package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hang is how long a test waits for what must come, on a machine of any speed.
const hang = 2 * time.Minute

var self = Node{ID: "n1", Authority: "127.0.0.1:7701"}

func id(key string) Identity { return must(ParseIdentity(key)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// fakeSilo is a PlacementActor whose activations are echoes. The zero value works; the hooks change what it does.
type fakeSilo struct {
	onActivate func(ActivationRequest) error // may block, refuse or report
	onDeliver  func(*activation, *abi.Envelope) ([]byte, error)
	keep       bool // a revoked activation ends only by end
	lostEnds   bool // Drain forgets to report

	mu       sync.Mutex
	kept     map[Identity]bool
	lost     []Loss
	live     map[Identity]*activation
	requests []ActivationRequest
	revoked  []Lease
	drained  atomic.Int32
	draining bool
	twice    int // activations of an identity that was live
}

// activation is an activation of a fakeSilo.
type activation struct {
	silo    *fakeSilo
	req     ActivationRequest
	gone    atomic.Bool // refuses messages
	started sync.Once
	calls   atomic.Int64
}

func (s *fakeSilo) Activate(req ActivationRequest) (Target, error) {
	s.mu.Lock()
	s.requests = append(s.requests, req)
	draining := s.draining
	s.mu.Unlock()
	if draining {
		return nil, abi.NewError(abi.ErrShuttingDown, "draining")
	}
	if s.onActivate != nil {
		if err := s.onActivate(req); err != nil {
			return nil, err
		}
	}
	a := &activation{silo: s, req: req}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live = make(map[Identity]*activation)
	}
	if s.live[req.Lease.Identity] != nil {
		s.twice++
	}
	s.live[req.Lease.Identity] = a
	return a, nil
}

func (s *fakeSilo) Keeps(id Identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[id]
}

func (s *fakeSilo) Forget(l Loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, l)
}

func (s *fakeSilo) losses() []Loss {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Loss(nil), s.lost...)
}

func (s *fakeSilo) find(id Identity) *activation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[id]
}

func (s *fakeSilo) activations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

func (s *fakeSilo) Revoke(l Lease) {
	s.mu.Lock()
	s.revoked = append(s.revoked, l)
	a := s.live[l.Identity]
	s.mu.Unlock()
	if a != nil && a.req.Lease.Epoch == l.Epoch {
		a.gone.Store(true)
		if !s.keep {
			a.end("revoked")
		}
	}
}

func (s *fakeSilo) Drain(ctx context.Context) error {
	s.drained.Add(1)
	s.mu.Lock()
	s.draining = true
	var all []*activation
	for _, a := range s.live {
		all = append(all, a)
	}
	s.mu.Unlock()
	for _, a := range all {
		a.gone.Store(true)
		if !s.lostEnds {
			a.end("shutdown")
		}
	}
	return ctx.Err()
}

// remove takes a out of the silo; false if it is not there.
func (a *activation) remove() bool {
	a.gone.Store(true)
	s := a.silo
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[a.req.Lease.Identity] != a {
		return false
	}
	delete(s.live, a.req.Lease.Identity)
	return true
}

func (a *activation) end(reason string) {
	if a.remove() {
		a.req.Observer.Terminated(a.req.Lease, reason)
	}
}

func (a *activation) fail(err error) {
	if a.remove() {
		a.req.Observer.Failed(a.req.Lease, err)
	}
}

var errGone = abi.NewError(abi.ErrOwnershipChanged, "the activation has ended")

func (a *activation) Deliver(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	if a.gone.Load() {
		return nil, errGone
	}
	return a.turn(env)
}

// turn runs a message that has been accepted.
func (a *activation) turn(env *abi.Envelope) ([]byte, error) {
	a.started.Do(func() { a.req.Observer.Started(a.req.Lease) })
	a.calls.Add(1)
	if a.silo.onDeliver != nil {
		return a.silo.onDeliver(a, env)
	}
	return env.Payload, nil
}

func (a *activation) Post(env *abi.Envelope, done func([]byte, error)) error {
	if a.gone.Load() {
		return errGone
	}
	payload, err := a.turn(env)
	if done != nil {
		done(payload, err)
	}
	return nil
}

// fakeMetrics records figures.
type fakeMetrics struct {
	mu       sync.Mutex
	requests map[Identity]int
	resolves map[Identity]int
	longest  time.Duration
	retries  []retryRecord
	blocked  []NodeID
	actors   int
	leases   int
	sets     int
}

type retryRecord struct {
	id       Identity
	attempts int
	outcome  RetryOutcome
}

func (m *fakeMetrics) RecordRequestLatency(id Identity, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.requests == nil {
		m.requests = map[Identity]int{}
	}
	m.requests[id]++
	m.longest = max(m.longest, d)
}

func (m *fakeMetrics) RecordResolveLatency(id Identity, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resolves == nil {
		m.resolves = map[Identity]int{}
	}
	m.resolves[id]++
	m.longest = max(m.longest, d)
}

func (m *fakeMetrics) RecordRetry(id Identity, attempts int, outcome RetryOutcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retries = append(m.retries, retryRecord{id, attempts, outcome})
}

func (m *fakeMetrics) RecordBlockList(node NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blocked = append(m.blocked, node)
}

func (m *fakeMetrics) SetActorCount(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.actors, m.sets = n, m.sets+1
}

func (m *fakeMetrics) SetLeases(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leases = n
}

func (m *fakeMetrics) gauges() (actors, leases int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.actors, m.leases
}

// fakeTopology is a stream that a test feeds.
type fakeTopology struct {
	subscribeErr func(n int) error // of the n-th subscription, from 1

	mu      sync.Mutex
	handles []*fakeHandle
	tries   int
	fresh   chan *fakeHandle // each new handle, if anybody listens
}

type fakeHandle struct {
	snapshots chan *Topology
	ends      chan error
	closed    atomic.Int32
}

func (f *fakeTopology) Subscribe(context.Context) (TopologyStreamHandle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	if f.subscribeErr != nil {
		if err := f.subscribeErr(f.tries); err != nil {
			return nil, err
		}
	}
	h := &fakeHandle{snapshots: make(chan *Topology, 16), ends: make(chan error, 1)}
	f.handles = append(f.handles, h)
	if f.fresh != nil {
		f.fresh <- h
	}
	return h, nil
}

func (f *fakeTopology) handle(i int) *fakeHandle {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handles[i]
}

func (f *fakeTopology) tried() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tries
}

func (f *fakeTopology) refuse(subscribeErr func(n int) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscribeErr = subscribeErr
}

func (h *fakeHandle) Next(ctx context.Context) (*Topology, error) {
	select { // what was sent before the end comes before it
	case t := <-h.snapshots:
		return t, nil
	default:
	}
	select {
	case t := <-h.snapshots:
		return t, nil
	case err := <-h.ends:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *fakeHandle) Close() error {
	h.closed.Add(1)
	return nil
}

// node is an installed and started extension over fakes.
type node struct {
	*Extension
	t       testing.TB
	sys     *System
	silo    *fakeSilo
	metrics *fakeMetrics
	log     *logBuffer
}

// logBuffer is a log that a test can read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newLog() (*logBuffer, *slog.Logger) {
	b := &logBuffer{}
	return b, slog.New(slog.NewTextHandler(b, nil))
}

// config is a valid configuration over silo.
func config(silo PlacementActor) Config {
	return Config{Self: self, Topology: StaticTopology(self), Placement: silo, Kinds: []Kind{{"counter"}, {"bank"}}}
}

// start installs and starts a node, which ends with the test.
func start(t testing.TB, change ...func(*Config)) *node {
	t.Helper()
	n := &node{t: t, silo: &fakeSilo{}, metrics: &fakeMetrics{}}
	var log *slog.Logger
	n.log, log = newLog()
	cfg := config(n.silo)
	cfg.Metrics, cfg.Log = n.metrics, log
	for _, f := range change {
		f(&cfg)
	}
	n.sys = NewSystem(SystemConfig{Log: log})
	x, err := Install(n.sys, cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Extension = x
	if err := n.sys.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.stop() })
	return n
}

func (n *node) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	return n.sys.Shutdown(ctx)
}

func (n *node) request(key string) ([]byte, error) {
	return n.API().Request(context.Background(), id(key), Message{Method: "get", Payload: []byte("hello")})
}

// ok makes a request that must succeed, from any goroutine.
func (n *node) ok(key string) {
	n.t.Helper()
	if reply, err := n.request(key); err != nil || string(reply) != "hello" {
		n.t.Errorf("request %s: %q, %v", key, reply, err)
	}
}

func env(key string) *abi.Envelope {
	return &abi.Envelope{Target: id(key), Method: "get", Payload: []byte("hello")}
}

// events reads n events of a subscription.
func events(t testing.TB, sub *Subscription, n int) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	var got []Event
	for range n {
		ev, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("after %d events: %v", len(got), err)
		}
		got = append(got, ev)
	}
	return got
}
