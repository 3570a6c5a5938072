package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// Link is a node's end of all its connections. Its methods may be called from any goroutine. [Link.Shutdown] ends what [New]
// started.
type Link struct {
	cfg     Config
	cluster string
	log     *quietLog
	base    time.Time
	roster  roster
	notices notices

	lobby lobby

	members                         atomic.Pointer[map[cluster.NodeID]*peer] // all of SetMembers; nil peers take no connections
	relays                          map[string]bool                          // services that are asked through a relay; never changed
	lookOut                         chan struct{}                            // wakes the scout
	relayedOut, passedOn, relayedIn atomic.Uint64

	draining atomic.Bool // takes no connections any more
	closing  atomic.Bool // and makes none

	waiting sync.Pool // of *call, for callers that wait
	posted  sync.Pool // of *call, for those that do not

	ctx    context.Context // of dials and handshakes; ended when the shutdown begins
	cancel context.CancelCauseFunc
	stop   chan struct{} // closed at the end of the shutdown
	work   sync.WaitGroup
	over   chan struct{} // closed when the shutdown is complete
	err    error         // of the shutdown; set before over is closed

	mu        sync.Mutex
	peers     map[address]*peer
	listeners map[net.Listener]struct{}
	alive     map[*wire]struct{} // from the first packet to the last
	standing  map[*wire]struct{} // of these, those that are through with the handshake
	streams   map[*stream]struct{}
	empty     chan struct{} // not nil: somebody waits for alive to be empty
	kinds     []string
	version   uint64 // of kinds
	past      totals // of connections that have ended
}

type address struct {
	id        cluster.NodeID
	authority string
}

var _ cluster.Transport = (*Link)(nil)

// New checks cfg and returns a link that can reach other nodes; [Link.Serve] lets them reach it.
func New(cfg Config) (*Link, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	if cfg.Handler == nil {
		cfg.Handler = noHandler{}
	}
	l := &Link{cfg: cfg, cluster: cfg.Credentials.ID().Cluster, base: time.Now(),
		stop: make(chan struct{}), over: make(chan struct{}),
		peers: make(map[address]*peer), listeners: make(map[net.Listener]struct{}),
		alive: make(map[*wire]struct{}), standing: make(map[*wire]struct{}), streams: make(map[*stream]struct{}),
		kinds: slices.Clone(cfg.Kinds), version: 1}
	l.lobby.most = cfg.MaxHandshakes
	l.members.Store(&map[cluster.NodeID]*peer{})
	l.lookOut = make(chan struct{}, 1)
	l.relays = make(map[string]bool)
	for _, name := range cfg.Relayed {
		l.relays[name] = true
	}
	l.cfg.Services[reachService] = l.reach
	l.log = newQuietLog(cfg.Log, l.now)
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.notices.init()
	l.roster = roster{nodes: make(map[cluster.NodeID]*known), changed: l.notices.kindsChanged}
	l.work.Go(l.janitor)
	l.work.Go(l.scout)
	l.work.Go(func() { l.notices.run(l) })
	return l, nil
}

// now is the link's clock: monotonic, and cheaper than time.Now.
func (l *Link) now() time.Duration { return time.Since(l.base) }

// at is a time on the link's clock.
func (l *Link) at(t time.Time) time.Duration { return t.Sub(l.base) }

// Target returns where messages for actors of a node go. It never blocks, and costs a map look-up when the node is known: the
// connection is made with the first message. The error is an [*Error], for a node that has no link or is this node itself.
func (l *Link) Target(node cluster.Node) (cluster.Target, error) {
	return l.peer(node)
}

func (l *Link) peer(node cluster.Node) (*peer, error) {
	at := address{node.ID, node.Authority}
	l.mu.Lock()
	p := l.peers[at]
	if p == nil {
		if err := l.reachable(node); err != nil {
			l.mu.Unlock()
			return nil, err
		}
		p = &peer{link: l, id: node.ID, authority: node.Authority}
		l.peers[at] = p
	}
	l.mu.Unlock()
	p.expect(node.Boot)
	return p, nil
}

func (l *Link) reachable(node cluster.Node) error {
	e := &Error{Node: node.ID, Authority: node.Authority, Code: abi.ErrUnreachable}
	if _, err := cluster.NewTopology(node); err != nil {
		e.Text, e.Err = "there is no such node", err
		return e
	}
	switch {
	case node.ID == l.cfg.Self.ID:
		e.Code, e.Text = abi.ErrInternal, "this is the node itself"
	case strings.HasSuffix(node.Authority, ":0"):
		e.Text = "it listens on no port"
	default:
		return nil
	}
	return e
}

// SetMembers says which nodes to stay connected to, so that what they host is known and the first message finds a connection.
// They are all other members of the cluster, as gossip sees them; one without an authority only calls others, and is not dialled.
// Connections to other nodes end after their last reply, and what is known of nodes that are neither connected nor members is
// forgotten.
func (l *Link) SetMembers(members []cluster.Node) {
	keep := make(map[*peer]bool)
	ids := make(map[cluster.NodeID]bool)
	byID := make(map[cluster.NodeID]*peer)
	for _, m := range members {
		if m.ID == l.cfg.Self.ID {
			continue
		}
		if ids[m.ID], byID[m.ID] = true, nil; m.Authority == "" {
			continue
		}
		p, err := l.peer(m)
		if err != nil {
			l.log.warn("a member cannot be reached", m.ID, "node", m.ID, "err", err)
			continue
		}
		keep[p], byID[m.ID] = true, p
	}
	l.members.Store(&byID)
	for _, p := range l.everyPeer() {
		p.setKeep(keep[p])
		if !keep[p] {
			l.dismiss(p)
		}
	}
	l.roster.prune(ids)
}

// dismiss forgets a peer that nobody is connected to. Whoever still has its target may use it.
func (l *Link) dismiss(p *peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := address{p.id, p.authority}
	if l.peers[at] == p {
		delete(l.peers, at)
	}
}

func (l *Link) everyPeer() []*peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*peer, 0, len(l.peers))
	for _, p := range l.peers {
		out = append(out, p)
	}
	return out
}

// SetKinds tells every node that is connected, and every one that will be, what this node hosts.
func (l *Link) SetKinds(kinds []string) error {
	if err := checkKinds(kinds); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kinds = slices.Clone(kinds)
	l.version++
	frames := appendKinds(nil, l.version, l.kinds)
	for w := range l.standing {
		w.control(func(b []byte) []byte { return append(b, frames...) })
	}
	return nil
}

// enter begins the life of a connection; false after a shutdown has begun.
func (l *Link) enter(w *wire, life func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing.Load() {
		return false
	}
	l.alive[w] = struct{}{}
	l.work.Go(life)
	return true
}

// spawn runs f, which ends with its connection.
func (l *Link) spawn(f func()) { l.work.Go(f) }

// attach makes a connection one of those that stand: the first frames are the kinds of this node.
func (l *Link) attach(w *wire) {
	w.sock.start()
	w.in.max = l.cfg.maxFrame()
	l.mu.Lock()
	l.standing[w] = struct{}{}
	w.control(func(b []byte) []byte { return appendKinds(b, l.version, l.kinds) })
	l.mu.Unlock()
	if l.draining.Load() && !w.dialled {
		w.role.retire(Leaving)
	}
}

// leave ends what enter began.
func (l *Link) leave(w *wire) {
	l.roster.remove(w)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.past.count(w)
	delete(l.alive, w)
	delete(l.standing, w)
	if len(l.alive) == 0 && l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
}

// listening enters a listener; false after a shutdown has begun.
func (l *Link) listening(ln net.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing.Load() {
		return false
	}
	l.listeners[ln] = struct{}{}
	return true
}

// Drain tells every node that is connected to send nothing more: they answer their callers that this node is shutting down. What is
// under way is finished, what was on its way is taken, and this node may still send. It returns at once.
func (l *Link) Drain() {
	l.draining.Store(true)
	for _, w := range l.wires(false) {
		if !w.dialled {
			w.role.retire(Leaving)
		}
	}
}

// wires returns the connections that are alive, or that stand.
func (l *Link) wires(alive bool) []*wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.standing
	if alive {
		from = l.alive
	}
	out := make([]*wire, 0, len(from))
	for w := range from {
		out = append(out, w)
	}
	return out
}

// Shutdown ends the link in good order: it listens no more, tells the others, refuses new messages with shutting_down, and waits for
// the replies of those under way, in both directions. When ctx ends first it cuts off what is left, and returns ctx's error.
// Nothing of the link runs when it returns. It must not be called from a callback.
func (l *Link) Shutdown(ctx context.Context) error {
	l.mu.Lock()
	first := !l.closing.Swap(true)
	empty := make(chan struct{})
	if len(l.alive) == 0 {
		close(empty)
	} else if first {
		l.empty = empty
	}
	for ln := range l.listeners {
		_ = ln.Close()
	}
	l.mu.Unlock()
	if !first {
		<-l.over
		return l.err
	}
	l.cancel(errShutdown)
	for _, s := range l.everyStream() {
		_ = s.Close()
	}
	l.Drain()
	for _, p := range l.everyPeer() {
		p.setKeep(false)
	}
	for _, w := range l.wires(false) {
		w.role.retire(Leaving)
	}
	select {
	case <-empty:
	case <-ctx.Done():
		l.err = ctx.Err()
		for _, w := range l.wires(true) {
			w.close(errShutdown)
		}
	}
	close(l.stop)
	l.work.Wait()
	close(l.over)
	return l.err
}

// janitor looks after the connections until the end.
func (l *Link) janitor() {
	t := time.NewTicker(l.cfg.Keepalive)
	defer t.Stop()
	before := l.cfg.Credentials.Trusted()
	for {
		select {
		case <-t.C:
		case <-l.stop:
			return
		}
		now, trusted := l.cfg.Credentials.Now(), l.cfg.Credentials.Trusted()
		l.lookAtStreams(now, trusted != before)
		before = trusted
		for _, w := range l.wires(false) {
			w.look(now)
			w.lookAgainAt(trusted)
		}
	}
}

// report tells the log and the block list how a connection ended.
func (l *Link) report(w *wire, err error, connected bool) {
	var f *fault
	var refusal *Refusal
	who := any(w.proven)
	remote := w.remote
	if host, _, splitErr := net.SplitHostPort(remote); w.proven == "" && splitErr == nil {
		who = host
	}
	args := []any{"remote", remote}
	if w.proven != "" {
		args = append(args, "node", w.proven)
	}
	i := Incident{Node: w.proven, Remote: remote, Err: err}
	if p, ok := w.role.(*outbound); ok {
		i.Dialled = p.p.id
		if w.proven == "" {
			args = append(args, "dialled", i.Dialled)
		}
	}
	switch {
	case errors.Is(err, errProbed), errors.Is(err, errStreamed), errors.Is(err, errFinished), errors.Is(err, errShutdown), errors.Is(err, errLeft):
		l.cfg.Log.Debug("a connection between nodes ended", append(args, "why", err)...)
		return
	case errors.As(err, &f):
		i.Reason, i.Blame = f.reason, f.reason.misbehaviour()
		l.tally(connected, i.Blame)
		msg := "a node was refused"
		if connected {
			msg = "a node was dropped"
		}
		l.log.warn(msg+": "+f.reason.String(), who, append(args, "why", f.Error())...)
	case errors.As(err, &refusal):
		i.Reason, i.Theirs, i.Blame = refusal.Reason, true, false
		if refusal.Reason == Leaving {
			l.cfg.Log.Debug("a node is shutting down", args...)
			return
		}
		l.log.warn("a node refused this node: "+refusal.Reason.String(), who, append(args, "why", refusal.Text)...)
	case !w.dialled: // it hung up: the other node has more to say about it
		l.cfg.Log.Debug("a connection from a node ended", append(args, "why", err)...)
		return
	case connected:
		l.log.warn("the connection to a node was lost", who, append(args, "why", err)...)
		return
	default:
		l.log.warn("a node cannot be reached", who, append(args, "why", err)...)
		return
	}
	l.notices.incident(i)
}
