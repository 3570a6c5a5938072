package link

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func identity(key string) abi.Identity { return must(abi.ParseIdentity(key)) }

// handlerFunc is a Handler.
type handlerFunc func(env *abi.Envelope, from cluster.NodeID, done func([]byte, error))

func (f handlerFunc) Handle(env *abi.Envelope, from cluster.NodeID, done func([]byte, error)) {
	f(env, from, done)
}

func echo(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
	if done != nil {
		done(env.Payload, nil)
	}
}

// hang is how long a test waits for what must come: it ends a test that would wait for ever, on a machine of any speed.
const hang = 2 * time.Minute

// world is a cluster's worth of links with one authority.
type world struct {
	t         testing.TB
	authority *ca.Authority
	cluster   string
	pipes     *pipeNet // the network of a world in a bubble; nil: loopback
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{t: t, authority: must(ca.New(ca.Options{})), cluster: "test"}
}

// node is a link that listens on loopback, and what it told.
type node struct {
	*Link
	self      cluster.Node
	log       *logBuffer
	kinds     chan told
	incidents chan Incident
	served    chan error
}

type told struct {
	node  cluster.NodeID
	kinds []string
}

// node starts a link, which ends with the test.
func (w *world) node(id cluster.NodeID, change ...func(*Config)) *node {
	w.t.Helper()
	return w.nodeOn(w.listener(), id, change...)
}

// listener listens at an address of its own.
func (w *world) listener() net.Listener {
	w.t.Helper()
	if w.pipes != nil {
		return w.pipes.listen(w.pipes.free())
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return ln
}

// connect makes a connection that a test speaks for itself.
func (w *world) connect(addr string) net.Conn {
	w.t.Helper()
	dial := new(net.Dialer).DialContext
	if w.pipes != nil {
		dial = w.pipes.dial
	}
	c, err := dial(w.t.Context(), "tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) nodeOn(ln net.Listener, id cluster.NodeID, change ...func(*Config)) *node {
	w.t.Helper()
	n := w.silent(id, ln.Addr().String(), change...)
	go func() { n.served <- n.Serve(ln) }()
	w.t.Cleanup(func() {
		n.shut(w.t)
		if err := <-n.served; err != nil {
			w.t.Error(id, err)
		}
	})
	return n
}

// silent makes a link that does not listen; its end is the caller's matter. Outside a bubble it has patience, since the time of a busy machine
// says nothing: a test of what a link does when its patience ends runs in a bubble, or sets it.
func (w *world) silent(id cluster.NodeID, authority string, change ...func(*Config)) *node {
	w.t.Helper()
	n := &node{log: &logBuffer{}, kinds: make(chan told, 64), incidents: make(chan Incident, 64), served: make(chan error, 1)}
	cfg := Config{
		Self:        cluster.Node{ID: id, Authority: authority, Boot: 1},
		Credentials: must(w.authority.Credentials(ca.ID{Cluster: w.cluster, Node: string(id)})),
		Handler:     handlerFunc(echo),
		Log:         slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnKinds:     func(id cluster.NodeID, kinds []string) { n.kinds <- told{id, kinds} },
		OnIncident:  func(i Incident) { n.incidents <- i },
	}
	if w.pipes != nil {
		cfg.Dial = w.pipes.dial
	} else {
		cfg.Keepalive, cfg.DialTimeout = patience, patience
	}
	for _, f := range change {
		f(&cfg)
	}
	l, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.pipes == nil { // a line about a thing is the only one, however long the test takes
		l.log.mu.Lock()
		l.log.now = func() time.Duration { return 0 }
		l.log.mu.Unlock()
	}
	n.Link, n.self = l, cfg.Self
	return n
}

// patience is the keepalive and the time for a connection attempt of a link on a real network.
const patience = 30 * time.Second

func (n *node) shut(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown of %s: %v", n.self.ID, err)
	}
}

func (w *world) target(from, to *node) cluster.Target {
	w.t.Helper()
	t, err := from.Target(to.self)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// message is an envelope with time enough for any test.
func message(key string, payload []byte) *abi.Envelope {
	return &abi.Envelope{Target: identity(key), Method: "add", Payload: payload, Deadline: time.Now().Add(10 * time.Minute)}
}

// patient is a context with time enough for any question.
func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	return ctx
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
