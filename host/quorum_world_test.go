package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/consensus"
)

// mesh is the network between the links of nodes in this process. Who is cut from whom can neither connect nor keep its connections; who is
// muted keeps them, and nothing comes through.
type mesh struct {
	mu    sync.Mutex
	names map[string]string // by the address of a link
	cuts  map[[2]string]bool
	mutes map[[2]string]bool
	wires map[*wire]bool
	ended bool
	work  sync.WaitGroup
}

// wire is a connection that goes through the mesh.
type wire struct {
	from, to string
	ends     [2]net.Conn
	muted    atomic.Bool
}

func newMesh(t testing.TB) *mesh {
	m := &mesh{names: make(map[string]string), cuts: make(map[[2]string]bool), mutes: make(map[[2]string]bool), wires: make(map[*wire]bool)}
	t.Cleanup(m.close) // after the nodes, which were made later
	return m
}

func pairOf(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

var errCut = errors.New("the mesh: cut")

// dialer is how the link of a node makes connections.
func (m *mesh) dialer(from string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		m.mu.Lock()
		to := m.names[address]
		cut := m.cuts[pairOf(from, to)]
		m.mu.Unlock()
		if cut {
			return nil, errCut
		}
		far, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		near, mine, err := socketPair()
		if err != nil {
			return nil, errors.Join(err, far.Close())
		}
		w := &wire{from: from, to: to, ends: [2]net.Conn{near, far}}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.ended || m.cuts[pairOf(from, to)] {
			near.Close()
			far.Close()
			mine.Close()
			return nil, errCut
		}
		w.muted.Store(m.mutes[pairOf(from, to)])
		m.wires[w] = true
		m.work.Go(func() { m.carry(w, 0) })
		m.work.Go(func() { m.carry(w, 1) })
		return mine, nil
	}
}

// socketPair are both ends of a connection of loopback.
func socketPair() (a, b net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if b, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if a, err = l.Accept(); err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return a, b, nil
}

// carry brings bytes from one end to the other.
func (m *mesh) carry(w *wire, from int) {
	b := make([]byte, 64<<10)
	for {
		n, err := w.ends[from].Read(b)
		if n > 0 && !w.muted.Load() {
			if _, err := w.ends[1-from].Write(b[:n]); err != nil {
				break
			}
		}
		if err != nil && !(errors.Is(err, io.EOF) && w.muted.Load()) {
			break
		}
		if err != nil {
			return // the end is not heard of; close ends the other
		}
	}
	m.mu.Lock()
	delete(m.wires, w)
	m.mu.Unlock()
	w.ends[0].Close()
	w.ends[1].Close()
}

// cut takes the connections between nodes away, and lets no new ones come about; mend undoes it.
func (m *mesh) cut(a string, others ...string) { m.set(a, others, true, false) }

// mute lets nothing through between nodes, without a word.
func (m *mesh) mute(a string, others ...string) { m.set(a, others, false, true) }

func (m *mesh) mend(a string, others ...string) { m.set(a, others, false, false) }

func (m *mesh) set(a string, others []string, cut, mute bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range others {
		pair := pairOf(a, b)
		was := m.mutes[pair]
		m.cuts[pair], m.mutes[pair] = cut, mute
		for w := range m.wires {
			if pairOf(w.from, w.to) != pair {
				continue
			}
			w.muted.Store(mute)
			if cut || was && !mute { // what was swallowed is missing
				w.ends[0].Close()
				w.ends[1].Close()
			}
		}
	}
}

func (m *mesh) close() {
	m.mu.Lock()
	m.ended = true
	for w := range m.wires {
		w.ends[0].Close()
		w.ends[1].Close()
	}
	m.mu.Unlock()
	m.work.Wait()
}

// parliament is a party with voters.
type parliament struct {
	*party
	mesh   *mesh
	voters []cluster.Node
	dirs   map[string]string
	links  map[string]string // the addresses of the nodes' links
	all    []string          // ids of all nodes that ever were

	// session is how long the nodes' sessions last: longer than a machine stands still, so that nothing expires but what is cut off or killed.
	session time.Duration
}

// briefly is for tests in which sessions are to end.
const briefly = 8 * time.Second

// newParliament is nodes with voters v1, v2 and so on, none of which is started.
func newParliament(t testing.TB, voters int) *parliament {
	p := &parliament{mesh: newMesh(t), dirs: make(map[string]string), links: make(map[string]string), session: hang}
	p.party = newParty(t)
	for i := range voters {
		id := "v" + strconv.Itoa(i+1)
		p.voters = append(p.voters, cluster.Node{ID: cluster.NodeID(id), Authority: p.link(id)})
	}
	return p
}

// link returns where a node has its link, whenever it runs.
func (p *parliament) link(id string) string {
	p.t.Helper()
	if p.links[id] == "" {
		p.links[id] = ownAddress(p.t)
		p.mesh.mu.Lock()
		p.mesh.names[p.links[id]] = id // before anybody connects
		p.mesh.mu.Unlock()
	}
	return p.links[id]
}

// steady gives voters timeouts that are to their sessions as the usual ones are to usual sessions. With the usual ones a machine that stands still
// for half a second costs a leader, and one that does so again and again has none; what a session bears is to be in the tests, and no more.
func (p *parliament) steady(v *consensus.VoterConfig) {
	t := min(p.session*2/15, 2*time.Second)
	v.Heartbeat, v.Election, v.Lease = t, t, t
}

// seat is the configuration of a node: a voter if its name is one's.
func (p *parliament) seat(id string, change func(*Config), kinds ...NativeKind) Config {
	p.t.Helper()
	cfg := p.config(id, kinds...)
	cfg.Net.Quorum = true
	cfg.Net.dial = p.mesh.dialer(id)
	if p.dirs[id] == "" {
		p.dirs[id] = p.t.TempDir()
	}
	cfg.DataDir = p.dirs[id]
	cfg.Net.Link, cfg.Net.session, cfg.Net.voter = p.link(id), p.session, p.steady
	if slices.ContainsFunc(p.voters, func(v cluster.Node) bool { return string(v.ID) == id }) {
		cfg.Net.Voters = p.voters
	}
	if !slices.Contains(p.all, id) {
		p.all = append(p.all, id)
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// enter starts nodes at the same time, as a first bootstrap needs it, and waits until each has a session.
func (p *parliament) enter(cfgs ...Config) {
	p.t.Helper()
	p.enterOnly(cfgs...)
	p.live()
}

// seeds are where a node finds the others: those that run, or the one that begins.
func (p *parliament) seeds() (all []string) {
	for _, id := range slices.Sorted(maps.Keys(p.nodes)) {
		all = append(all, p.nodes[id].GossipAddr())
	}
	if len(all) == 0 && p.seed != "" {
		all = append(all, p.seed)
	}
	return all
}

// enterOnly is enter that waits for the starts only.
func (p *parliament) enterOnly(cfgs ...Config) {
	p.t.Helper()
	var wg sync.WaitGroup
	nodes := make([]*Node, len(cfgs))
	for i, cfg := range cfgs {
		cfg.Net.Join = p.seeds()
		n, err := New(cfg)
		if err != nil {
			p.t.Fatal(err)
		}
		nodes[i] = n
		p.t.Cleanup(func() {
			if p.t.Failed() && p.nodes[cfg.ID] == n {
				p.t.Logf("at the end %s: %s", cfg.ID, standing(n))
			}
			hurry, cancel := context.WithCancel(context.Background())
			cancel() // the last ones have no majority any more, and would wait for it
			if err := n.Shutdown(hurry); err != nil {
				p.t.Logf("shutting down: %v", err)
			}
		})
		wg.Go(func() {
			if err := n.Start(context.Background()); err != nil {
				p.t.Errorf("%s: %v", cfg.ID, err)
			}
		})
		if p.seed == "" { // its start goes on once the others are there
			p.until("the first one's gossip", func() bool {
				p.seed = n.GossipAddr()
				return p.seed != "" || p.t.Failed()
			})
		}
	}
	wg.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
	for i, n := range nodes {
		p.nodes[cfgs[i].ID] = n
	}
}

// standing is how a node stands, for whoever has to find out why a test failed.
func standing(n *Node) string {
	if !n.quorum.opened.Load() {
		return "not open"
	}
	text := n.quorum.sessionText()
	if v := n.quorum.voter; v != nil {
		text += fmt.Sprintf("; its voter %+v", v.Stats())
	}
	return text
}

// live waits until every node has a session and nothing moves, and nobody lacks an owner.
func (p *parliament) live() {
	p.t.Helper()
	p.until("all have sessions and nothing moves", func() bool {
		for id := range p.nodes {
			if !p.settled(id) {
				return false
			}
		}
		return true
	})
}

func (p *parliament) settled(id string) bool {
	n := p.nodes[id]
	if n.quorum.ready() != nil {
		return false
	}
	s, _ := n.quorum.resident.Standing()
	for _, kind := range n.runtime.View().Kinds() {
		hosts := n.runtime.View().Hosts(kind)
		want := 0
		for _, o := range p.nodes {
			if o.kinds.Load().byName[kind] != nil {
				want++
			}
		}
		if len(hosts) != want {
			return false
		}
		if want == 0 {
			continue
		}
		var owners [core.Partitions]uint16
		core.Rendezvous{}.Place(hosts, &owners)
		for part := range core.Partition(core.Partitions) {
			if m, _ := n.runtime.View().Owner(kind, part); m == nil || m.ID != hosts[owners[part]].ID {
				return false
			}
		}
	}
	return s.Moving == 0
}

// leader returns who leads the voters.
func (p *parliament) leader() string {
	p.t.Helper()
	leader := ""
	p.until("there is a leader", func() bool {
		for id, n := range p.nodes {
			if n.quorum.voter == nil {
				continue
			}
			if lead, _ := n.quorum.voter.Leadership(); lead.Leading {
				leader = id
				return true
			}
		}
		return false
	})
	return leader
}

// isolate cuts a node from all others, silence lets nothing through; rejoin undoes either.
func (p *parliament) isolate(id string) {
	p.t.Helper()
	p.mesh.cut(id, p.others(id)...)
	p.apart(id)
}

func (p *parliament) silence(id string) { p.mesh.mute(id, p.others(id)...) }

func (p *parliament) rejoin(id string) {
	p.t.Helper()
	p.isolate(id) // what was muted is missing: those connections are of no use any more
	p.mesh.mend(id, p.others(id)...)
}

// apart waits until the nodes that run know that the connections of one are gone: of what is sent over such a connection before that, nobody
// knows what became.
func (p *parliament) apart(id string) {
	p.t.Helper()
	p.until("the others have no connection to "+id, func() bool {
		for one, n := range p.nodes {
			for _, peer := range n.net.link.Peers() {
				if other := string(peer.ID); one != other && (one == id || other == id) && peer.Outgoing+peer.Incoming > 0 {
					return false
				}
			}
		}
		return true
	})
}

func (p *parliament) others(ids ...string) []string {
	return slices.DeleteFunc(slices.Clone(p.all), func(o string) bool { return slices.Contains(ids, o) })
}

// kill ends a node as a crash does: the others hear nothing of it.
func (p *parliament) kill(id string) {
	p.t.Helper()
	n := p.nodes[id]
	delete(p.nodes, id)
	p.isolate(id)
	n.life.Lock()
	n.phase = ending
	n.leaving.Store(true)
	n.serving.Store(false)
	close(n.parting)
	n.life.Unlock()
	_ = n.close()
	n.fail(nil)
	n.hurryUp()
	close(n.ended)
}

// leave shuts a node down in good order.
func (p *parliament) leave(id string) {
	p.t.Helper()
	n := p.nodes[id]
	delete(p.nodes, id)
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil {
		p.t.Errorf("%s: shutting down: %v", id, err)
	}
}

// vigil sees whether nodes keep the sessions that they have. None of them ends while the machine goes on: what a node's calls come to is for tests
// to say as long as that is so.
func (p *parliament) vigil(ids ...string) (kept func() bool) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var lost atomic.Bool
	for _, id := range ids {
		resident := p.nodes[id].quorum.resident
		first, _ := resident.Standing()
		wg.Go(func() {
			for {
				s, changed := resident.Standing()
				left := time.NewTimer(time.Until(s.Until))
				select {
				case <-changed:
				case <-ctx.Done():
				case <-left.C:
				}
				left.Stop()
				if now, _ := resident.Standing(); now.Session != first.Session || time.Now().After(now.Until) {
					lost.Store(true)
				}
				if lost.Load() || ctx.Err() != nil {
					return
				}
			}
		})
	}
	p.t.Cleanup(func() { cancel(); wg.Wait() })
	return func() bool {
		cancel()
		wg.Wait()
		return !lost.Load()
	}
}

// load is calls that go on until stop.
type load struct {
	t       testing.TB
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	added   map[string]int // successful adds
	doubt   map[string]int // adds of which it is not known
	values  map[string]int // the highest answer
	calls   atomic.Int64
	failed  atomic.Int64
	worst   time.Duration
	unknown int // failures of which it is not known what was done
	errs    map[string]int
	back    []string // answers that went back
}

// put has workers call actors through the nodes that via returns.
func (p *parliament) put(workers, actors int, kind string, via func() *Node) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: p.t, cancel: cancel, added: map[string]int{}, doubt: map[string]int{}, values: map[string]int{}, errs: map[string]int{}}
	p.t.Cleanup(func() { cancel(); l.wg.Wait() })
	for w := range workers {
		l.wg.Go(func() {
			for i := w; ctx.Err() == nil; i += workers {
				l.one(via(), kind+"/"+strconv.Itoa(i%actors))
			}
		})
	}
	return l
}

func (l *load) one(n *Node, actor string) {
	if n == nil {
		time.Sleep(time.Millisecond)
		return
	}
	began := time.Now()
	out, err := callFor(n, actor, "add", `{"by":1}`, hang)
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.worst = max(l.worst, took)
	if err != nil {
		l.failed.Add(1)
		code := abi.CodeOf(err)
		l.errs[code.String()+": "+trim(err.Error())]++
		if code == abi.ErrOutcomeUnknown {
			l.unknown++
		}
		if code == abi.ErrOutcomeUnknown || code == abi.ErrTimeout {
			l.doubt[actor]++
		}
		return
	}
	l.calls.Add(1)
	l.added[actor]++
	if v, err := strconv.Atoi(strings.Trim(out, "{}\"valu:")); err == nil {
		if v <= l.values[actor] {
			l.back = append(l.back, fmt.Sprintf("%s answered %d after %d, through %s", actor, v, l.values[actor], n.cfg.ID))
		}
		l.values[actor] = max(l.values[actor], v)
	}
}

func trim(s string) string {
	if len(s) > 300 {
		s = s[:300]
	}
	return s
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
	for e, n := range l.errs {
		l.t.Logf("%d times: %s", n, e)
	}
	l.t.Logf("%d calls, %d failed, the longest took %s", l.calls.Load(), l.failed.Load(), l.worst)
}
