package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/link"
	"github.com/wasilo/wasilo/host/link/ca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// journal is a Machine that remembers its entries.
type journal struct {
	mu      sync.Mutex
	entries []string
	last    uint64
	grown   chan struct{}
}

func (j *journal) changedLocked() {
	if j.grown != nil {
		close(j.grown)
		j.grown = nil
	}
}

func (j *journal) Apply(index uint64, entry []byte) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	if index <= j.last {
		panic(fmt.Sprintf("entry %d after %d", index, j.last))
	}
	j.last = index
	if len(entry) > 0 && entry[0] == 0xff {
		return []byte("malformed")
	}
	j.entries = append(j.entries, string(entry))
	j.changedLocked()
	return fmt.Appendf(nil, "%d", len(j.entries))
}

func (j *journal) Snapshot() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := []byte{}
	for _, e := range j.entries {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(e))), e...)
	}
	return b
}

func (j *journal) Restore(index uint64, b []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries, j.last = nil, index
	for len(b) > 0 {
		if len(b) < 4 || int(binary.BigEndian.Uint32(b)) > len(b)-4 {
			return errors.New("short")
		}
		n := binary.BigEndian.Uint32(b)
		j.entries = append(j.entries, string(b[4:4+n]))
		b = b[4+n:]
	}
	j.changedLocked()
	return nil
}

func (j *journal) CheckSnapshot(b []byte) error { return new(journal).Restore(0, b) }

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

// await waits until there are n entries.
func (j *journal) await(t testing.TB, n int) []string {
	t.Helper()
	limit := time.After(patience)
	for {
		j.mu.Lock()
		if len(j.entries) >= n {
			defer j.mu.Unlock()
			return slices.Clone(j.entries)
		}
		if j.grown == nil {
			j.grown = make(chan struct{})
		}
		grown, have := j.grown, len(j.entries)
		j.mu.Unlock()
		select {
		case <-grown:
		case <-limit:
			t.Fatalf("%d entries of %d", have, n)
		}
	}
}

const patience = 2 * time.Minute // a hang, not a measure

// calm are timeouts for voters on real links, on a machine that may stand still for seconds.
var calm = []func(*VoterConfig){func(c *VoterConfig) {
	c.Heartbeat, c.Election, c.Lease = 6*time.Second, 6*time.Second, 6*time.Second
}}

// bubble runs a test of voters on a clock of its own, on a network of pipes: whatever stands still, no leader is lost by it.
func bubble(t *testing.T, f func(t *testing.T, w *world), ids ...core.NodeID) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, newMemory(t), ids...)) })
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

// network is what nodes of a test are connected by.
type network interface {
	// join makes a node's end of it, with a port behind it.
	join(t testing.TB, id core.NodeID, p *Port) (Network, string)
}

// world is a cluster's worth of nodes, which may be voters.
type world struct {
	t     testing.TB
	net   network
	nodes map[core.NodeID]*node
}

type node struct {
	w         *world
	id        core.NodeID
	dir       string
	authority string
	net       Network
	port      *Port
	log       *logBuffer

	*Voter
	machine *journal
}

// newWorld makes nodes that are connected, and no voter yet.
func newWorld(t testing.TB, n network, ids ...core.NodeID) *world {
	t.Helper()
	w := &world{t: t, net: n, nodes: make(map[core.NodeID]*node)}
	for _, id := range ids {
		w.add(id)
	}
	return w
}

func (w *world) add(id core.NodeID) *node {
	n := &node{w: w, id: id, dir: w.t.TempDir(), port: &Port{}, log: &logBuffer{}}
	n.net, n.authority = w.net.join(w.t, id, n.port)
	w.nodes[id] = n
	w.t.Cleanup(func() { n.close() })
	return n
}

func (w *world) list(ids ...core.NodeID) []core.Member {
	var list []core.Member
	for _, id := range ids {
		list = append(list, core.Member{ID: id, Authority: w.nodes[id].authority})
	}
	return list
}

// config is a voter's, with timeouts that a loaded machine keeps.
func (n *node) config(list []core.Member, change ...func(*VoterConfig)) VoterConfig {
	n.machine = &journal{}
	cfg := VoterConfig{Dir: n.dir, Cluster: "test", Self: n.id, Authority: n.authority, Voters: list, Machine: n.machine,
		Network: n.net, Port: n.port, Heartbeat: 700 * time.Millisecond, Election: 700 * time.Millisecond, Lease: 700 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

func (n *node) open(list []core.Member, change ...func(*VoterConfig)) *node {
	n.w.t.Helper()
	v, err := OpenVoter(n.config(list, change...))
	if err != nil {
		n.w.t.Fatal(n.id, err)
	}
	n.Voter = v
	return n
}

// close closes the voter, if it is open.
func (n *node) close() {
	if n.Voter == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		n.w.t.Error(n.id, err)
	}
	n.Voter = nil
}

// start opens voters with one list of all of them.
func (w *world) start(change []func(*VoterConfig), ids ...core.NodeID) {
	w.t.Helper()
	for _, id := range ids {
		w.nodes[id].open(w.list(ids...), change...)
	}
}

// leader waits until one of the voters that are open leads, and has applied everything.
func (w *world) leader() *node {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		merged := make(chan struct{}, 1)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var found *node
		for _, n := range w.sorted() {
			if n.Voter == nil {
				continue
			}
			l, changed := n.Leadership()
			if l.Leading && found == nil && n.Barrier(ctx) == nil {
				found = n
			}
			wg.Go(func() {
				select {
				case <-changed:
					select {
					case merged <- struct{}{}:
					default:
					}
				case <-stop:
				}
			})
		}
		if found == nil {
			select {
			case <-merged:
			case <-ctx.Done():
				for _, n := range w.sorted() {
					w.t.Logf("%s:\n%s", n.id, n.log)
				}
				w.t.Fatal("no leader")
			}
		}
		close(stop)
		wg.Wait()
		if found != nil {
			return found
		}
	}
}

func (w *world) sorted() []*node {
	var out []*node
	for _, n := range w.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *node) int { return bytes.Compare([]byte(a.id), []byte(b.id)) })
	return out
}

// propose puts an entry into the log, whoever leads, and returns the answer.
func (w *world) propose(entry string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		result, _, err := w.leader().Propose(ctx, []byte(entry))
		if err == nil {
			return string(result)
		}
		if !errors.Is(err, ErrNotLeader) { // an unknown outcome would make the test's count wrong
			w.t.Fatalf("%q: %v", entry, err)
		}
	}
}

// awaitState waits until a voter is what it is to be.
func (n *node) awaitState(want State) {
	n.w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for n.State() != want {
		select {
		case <-tick.C:
		case <-limit:
			n.w.t.Fatalf("%s is %s, and was to be %s:\n%s", n.id, n.State(), want, n.log)
		}
	}
}

// loopback is real links.
type loopback struct {
	authority *ca.Authority
}

func newLoopback() *loopback { return &loopback{must(ca.New(ca.Options{}))} }

func (l *loopback) join(t testing.TB, id core.NodeID, p *Port) (Network, string) {
	t.Helper()
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	k, err := link.New(link.Config{Self: core.Member{ID: id, Authority: ln.Addr().String(), Boot: 1},
		Credentials: must(l.authority.Credentials(ca.ID{Cluster: "test", Node: string(id)})),
		Services:    p.Services(), Streams: p.Streams(), Keepalive: patience, DialTimeout: patience, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- k.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = k.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return k, ln.Addr().String()
}

// memory is a network of pipes, whose nodes can be cut off.
type memory struct {
	mu    sync.Mutex
	ports map[core.NodeID]*Port
	cut   map[core.NodeID]bool
	conns map[*memoryConn]struct{}
	wg    sync.WaitGroup
}

// newMemory makes one that ends with the test, after the voters on it.
func newMemory(t testing.TB) *memory {
	m := &memory{ports: make(map[core.NodeID]*Port), cut: make(map[core.NodeID]bool), conns: make(map[*memoryConn]struct{})}
	t.Cleanup(m.wg.Wait)
	return m
}

type memoryEnd struct {
	m  *memory
	id core.NodeID
}

func (m *memory) join(_ testing.TB, id core.NodeID, p *Port) (Network, string) {
	m.mu.Lock()
	m.ports[id] = p
	m.mu.Unlock()
	return &memoryEnd{m, id}, string(id) + ":1"
}

// isolate cuts a node off, or ends that: what is written to it or by it is lost without a word, and when that ends, so do the
// connections that have lost something.
func (m *memory) isolate(id core.NodeID, cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut[id] = cut
	for c := range m.conns {
		if !cut && (c.from == id || c.to == id) {
			_ = c.Conn.Close()
			delete(m.conns, c)
		}
	}
}

func (m *memory) conn(c net.Conn, from, to core.NodeID) net.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	mc := &memoryConn{c, m, from, to}
	m.conns[mc] = struct{}{}
	return mc
}

func (c *memoryConn) Close() error {
	c.m.mu.Lock()
	delete(c.m.conns, c)
	c.m.mu.Unlock()
	return c.Conn.Close()
}

func (m *memory) reach(a, b core.NodeID) (*Port, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ports[b], !m.cut[a] && !m.cut[b] && m.ports[b] != nil
}

func (e *memoryEnd) Ask(ctx context.Context, n core.Member, service string, payload []byte) ([]byte, error) {
	p, ok := e.m.reach(e.id, n.ID)
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	f := p.Services()[service]
	if f == nil {
		return nil, abi.NewError(abi.ErrUnsupported, service)
	}
	return f(ctx, e.id, payload)
}

func (e *memoryEnd) Stream(ctx context.Context, n core.Member, name string) (net.Conn, error) {
	p, ok := e.m.reach(e.id, n.ID)
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a, b := net.Pipe()
	take := p.Streams()[name]
	e.m.wg.Go(func() {
		defer b.Close()
		take(e.m.conn(b, n.ID, e.id), e.id)
	})
	return e.m.conn(a, e.id, n.ID), nil
}

type memoryConn struct {
	net.Conn
	m        *memory
	from, to core.NodeID
}

func (c *memoryConn) Write(b []byte) (int, error) {
	if _, ok := c.m.reach(c.from, c.to); !ok {
		return len(b), nil
	}
	return c.Conn.Write(b)
}
