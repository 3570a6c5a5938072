package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// Runtime is what a [Resident] tells of the log: a *cluster.Runtime is one.
type Runtime interface {
	HandleAssigned(a *core.Assignments, session core.SessionID)
	// HandleHeard says how far the node has heard of the log, after what HandleAssigned says of it.
	HandleHeard(generation uint32, index uint64)
	HandleSession(until time.Time)
	HandleHold(p core.Part)
	HandleUnhold(m core.MoveID)
}

// Mover carries actors from node to node. Its methods are called from one goroutine each; HandOver may take long.
type Mover interface {
	// HandOver ends the activations of a part and brings what they leave to the target. When it returns nil nothing of the part runs here any more, and the
	// target has what the manifest says. ctx ends when the move is off.
	HandOver(ctx context.Context, part core.Part, target core.Member) (manifest []byte, err error)
	// TakeIn makes what came with a move this node's own under an epoch.
	TakeIn(part core.Part, epoch abi.Epoch, manifest []byte) error
	// TurnAway drops what came with a move.
	TurnAway(m core.MoveID)
}

// ResidentConfig is what a [Resident] is made from; all fields are required unless they say otherwise.
type ResidentConfig struct {
	Self    core.Member // with the boot number
	Weight  uint32
	Kinds   []string
	Network interface {
		Ask(ctx context.Context, node core.Member, service string, payload []byte) ([]byte, error)
	}
	// Office is this node's own, if it is a voter; nil: it is not.
	Office *Office
	// Voters says where voters may be found: those of the configuration, and those that gossip knows. It is called often and must not wait.
	Voters  func() []core.Member
	Runtime Runtime
	Mover   Mover
	// SessionTime is how long a session lasts, 0 is core.SessionTime; see [Log.LetSessionsLast].
	SessionTime time.Duration
	// Fail is told why the node cannot be a part of the cluster any more.
	Fail func(error)
	Log  *slog.Logger
}

// Resident is a node's part in a cluster whose voters decide who owns what: it keeps the node's session, follows the log, and moves actors as it
// says. [Resident.Run] does the work; the other methods may be called from any goroutine.
type Resident struct {
	cfg   ResidentConfig
	log   *slog.Logger
	asker asker
	base  time.Time
	news  chan news
	in    chan core.TenantInput
	work  sync.WaitGroup
	over  chan struct{} // closed when Run has ended

	// proposing ends with Run, and what operators ask for with it.
	proposing     context.Context
	stopProposing context.CancelFunc

	hosts chan struct{} // there is something new in wants; has room for one

	unrenewed, lost atomic.Uint64
	refusal         atomic.Pointer[string] // why a session was refused last; nil: it was not
	forgotten       atomic.Uint64          // the last session that the voters did not know, which is said once

	mu      sync.Mutex
	wants   core.TenantInput // what the node hosts, as it was said last
	state   Standing
	changed chan struct{} // closed at the next change of state
	ending  bool          // Run waits for what is under way, which nothing may join any more

	// Run's own.
	table  *core.Table
	tenant *core.Tenant
	moves  map[core.MoveID]context.CancelFunc
	// opening ends before the session is given up: a late attempt to open it would make another, which nobody renews or gives up.
	opening     context.Context
	stopOpening context.CancelFunc
	ended       bool // it has told why it cannot go on: the table lacks something, and what comes after it must not be applied
	closed      bool // as it was published
}

// Standing is how a member stands.
type Standing struct {
	Session    core.SessionID
	Until      time.Time // of the session
	Index      uint64    // of the node's copy of the log
	Generation uint32
	Leader     core.NodeID // of the voters, as far as known
	Owned      int         // partitions, of all groups
	Takers     bool        // another node could take over some of them
	Moving     int         // moves under way from and to this node
	Draining   bool
	Drains     map[core.NodeID]uint64 // nodes that give their partitions away, this one included, and the boot number of each
	Closed     bool                   // the session was given up in good order
	Expected   map[core.MoveID]Expected
	Blocked    []core.NodeID // by operators
}

// Expected is a move that is to come to this node.
type Expected struct {
	Part core.Part
	From core.NodeID
}

// memberTick is how often time passes for the tenant.
const memberTick = core.RenewEvery / 10

// NewResident returns a member that does nothing yet.
func NewResident(cfg ResidentConfig) *Resident {
	m := &Resident{cfg: cfg, log: cfg.Log, base: time.Now(), news: make(chan news), in: make(chan core.TenantInput), hosts: make(chan struct{}, 1),
		over: make(chan struct{}), table: core.NewTable(), moves: make(map[core.MoveID]context.CancelFunc),
		asker: asker{self: cfg.Self.ID, network: cfg.Network, office: cfg.Office, voters: cfg.Voters}}
	m.asker.work = &m.work
	m.opening, m.stopOpening = context.WithCancel(context.Background())
	m.proposing, m.stopProposing = context.WithCancel(context.Background())
	m.tenant = core.NewTenant(core.TenantConfig{Node: cfg.Self.ID, Boot: cfg.Self.Boot, Authority: cfg.Self.Authority, Weight: cfg.Weight,
		Kinds: cfg.Kinds, SessionTime: cfg.SessionTime}, m.table)
	return m
}

func (m *Resident) now() time.Duration { return time.Since(m.base) }

// Run follows the log and keeps the session until ctx ends. The session then runs out by itself, unless it was closed.
func (m *Resident) Run(ctx context.Context) {
	defer close(m.over)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		m.mu.Lock()
		m.ending = true
		m.mu.Unlock()
		m.work.Wait()
	}()
	defer cancel()
	defer m.stopOpening()
	defer m.stopProposing()
	m.work.Go(func() { m.follow(ctx) })
	tick := time.NewTicker(memberTick)
	defer tick.Stop()
	m.step(ctx, core.TenantInput{Type: core.TenantTick})
	for {
		select {
		case <-ctx.Done():
			m.cfg.Runtime.HandleSession(time.Time{})
			return
		case n := <-m.news:
			m.advance(ctx, n)
		case <-m.hosts:
			m.mu.Lock()
			in := m.wants
			m.mu.Unlock()
			m.step(ctx, in)
		case in := <-m.in:
			m.step(ctx, in)
		case <-tick.C:
			m.step(ctx, core.TenantInput{Type: core.TenantTick})
		}
	}
}

// advance applies what a follower brought.
func (m *Resident) advance(ctx context.Context, n news) {
	if m.ended {
		return
	}
	if n.err != nil {
		m.ended = true
		m.cfg.Fail(n.err)
		return
	}
	if n.table != nil {
		m.table = n.table
	}
	for _, r := range n.records {
		if r.index <= m.table.Index() {
			continue
		}
		if _, err := m.table.Apply(r.index, r.entry); err != nil {
			m.log.Error("an entry of the log cannot be applied", "index", r.index, "err", err)
			if err := versionError(err); err != nil {
				m.ended = true
				m.cfg.Fail(err)
				return
			}
		}
	}
	if n.table != nil || len(n.records) > 0 {
		m.step(ctx, core.TenantInput{Type: core.TenantAdvanced, Table: m.table})
	}
	if n.generation == m.table.Generation() {
		m.cfg.Runtime.HandleHeard(n.generation, max(n.upTo, m.table.Index()))
	}
}

// versionError is why a node has to end that got something newer than it knows; nil for other errors.
func versionError(err error) error {
	if !errors.Is(err, core.ErrEntryVersion) {
		return nil
	}
	return fmt.Errorf("the voters' log has something that this version of wasilo does not know: %w; update this node", err)
}

// step has the tenant take an input and carries out what it wants.
func (m *Resident) step(ctx context.Context, in core.TenantInput) {
	effects := slices.Clone(m.tenant.Step(&in, m.now()))
	for _, e := range effects {
		m.do(ctx, e)
	}
	// That the last answer which could make a session can come no more is a matter of time alone, and of no effect.
	if len(effects) > 0 || in.Type != core.TenantTick || m.tenant.Closed() != m.closed {
		m.publish()
	}
}

func (m *Resident) do(ctx context.Context, e core.TenantEffect) {
	switch e.Type {
	case core.Ask:
		m.ask(ctx, e)
	case core.Propose:
		entry := core.AppendEntry(nil, e.Commands...)
		m.work.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, 2*askTime)
			defer cancel()
			if _, err := m.asker.reach(bounded, entry); err != nil && ctx.Err() == nil {
				m.log.Debug("a proposal is not known to be in the log; it is made again", "command", e.Commands[0].Type.String(), "err", err)
			}
		})
	case core.Until:
		until := time.Time{}
		if e.Until != 0 {
			until = m.base.Add(e.Until)
		}
		m.cfg.Runtime.HandleSession(until)
	case core.SessionLost:
		if !m.tenant.Closed() {
			m.lost.Add(1)
			m.log.Warn("the node's session with the voters has ended: its activations end; another session is asked for")
		}
		for id, off := range m.moves {
			off()
			delete(m.moves, id)
		}
	case core.TakeIn:
		if err := m.cfg.Mover.TakeIn(e.Part, e.Epoch, e.Manifest); err != nil {
			m.log.Error("what came with a move could not be taken in: those actors begin anew", "move", e.Part.Move, "err", err)
		}
	case core.TurnAway:
		m.cfg.Mover.TurnAway(e.Part.Move)
	case core.TellAssigned:
		m.cfg.Runtime.HandleAssigned(e.Assignments, e.Session)
	case core.HandOver:
		m.handOver(ctx, e.Part, e.Target)
	case core.Resume:
		if off := m.moves[e.Part.Move]; off != nil {
			off()
			delete(m.moves, e.Part.Move)
		}
		m.cfg.Runtime.HandleUnhold(e.Part.Move)
	}
}

// ask sends what is to be answered. One attempt at each voter: there is another in half a second.
func (m *Resident) ask(ctx context.Context, e core.TenantEffect) {
	entry, session := core.AppendEntry(nil, e.Commands...), e.Commands[0].Session
	m.work.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, core.SessionTime)
		defer cancel()
		if e.Commands[0].Type == core.OpenSession {
			defer context.AfterFunc(m.opening, cancel)()
		}
		out, err := m.asker.reach(bounded, entry)
		if err != nil {
			if ctx.Err() == nil && m.opening.Err() == nil {
				m.unrenewed.Add(1)
				m.log.Debug("the session is not known to be renewed", "err", err)
			}
			return
		}
		results, err := core.ReadResults(out.results)
		if err != nil || len(results) != 1 {
			m.log.Error("the answer of the voters cannot be read", "err", err)
			return
		}
		r := results[0]
		in := core.TenantInput{Type: core.TenantAnswered, Ask: e.Ask, Session: session, Void: r.Void != ""}
		switch {
		case in.Void && e.Commands[0].Type == core.OpenSession:
			if said := m.refusal.Swap(&r.Void); said == nil || *said != r.Void {
				m.log.Error("the voters refuse this node a session; it goes on asking", "why", r.Void)
			}
		case in.Void: // each renewal that was under way hears of it
			if core.SessionID(m.forgotten.Swap(uint64(session))) != session {
				m.log.Warn("the voters do not know this node's session any more", "why", r.Void)
			}
		case r.ID != 0:
			m.refusal.Store(nil)
			in.Session = core.SessionID(r.ID)
		}
		m.tell(ctx, in)
	})
}

func (m *Resident) tell(ctx context.Context, in core.TenantInput) {
	select {
	case m.in <- in:
	case <-ctx.Done():
	}
}

func (m *Resident) handOver(ctx context.Context, part core.Part, target core.Member) {
	ctx2, off := context.WithTimeout(ctx, core.MoveTimeout)
	m.moves[part.Move] = off
	m.cfg.Runtime.HandleHold(part)
	m.work.Go(func() {
		defer off()
		began := time.Now()
		manifest, err := m.cfg.Mover.HandOver(ctx2, part, target)
		if err != nil {
			m.log.Warn("a move of actors to another node failed; they stay", "move", part.Move, "to", target.ID, "kinds", part.Kinds, "err", err)
			m.tell(ctx, core.TenantInput{Type: core.TenantHandOverFailed, Move: part.Move})
			return
		}
		m.log.Debug("a part was handed over", "move", part.Move, "to", target.ID, "partitions", part.Partitions.Len(), "took", time.Since(began))
		m.tell(ctx, core.TenantInput{Type: core.TenantHandedOver, Move: part.Move, Manifest: manifest})
	})
}

// publish makes the state known to other goroutines.
func (m *Resident) publish() {
	m.closed = m.tenant.Closed()
	s := Standing{Session: m.tenant.Session(), Index: m.table.Index(), Generation: m.table.Generation(), Leader: m.asker.leading().ID,
		Blocked: m.table.Blocked(),
		Drains:  make(map[core.NodeID]uint64), Closed: m.closed, Expected: make(map[core.MoveID]Expected)}
	for _, other := range m.table.Sessions() {
		if other.Draining {
			s.Drains[other.Node] = other.Boot
		}
	}
	if u := m.tenant.Until(); u != 0 {
		s.Until = m.base.Add(u)
	}
	if own, ok := m.table.Session(s.Session); ok && s.Session != 0 {
		s.Draining = own.Draining
		for _, g := range m.table.Groups() {
			before := s.Owned
			for p := range g.Slots {
				if g.Slots[p].Owner == s.Session {
					s.Owned++
				}
			}
			s.Takers = s.Takers || s.Owned > before && m.table.Taker(g, own)
		}
		for _, mv := range m.table.Moves() {
			from, ok := m.table.Session(mv.From)
			if mv.To == s.Session && ok {
				part := core.Part{Move: mv.ID, Group: mv.Group, Partitions: mv.Partitions}
				if g, ok := m.table.Group(mv.Group); ok {
					part.Kinds = slices.Clone(g.Kinds)
				}
				s.Expected[mv.ID] = Expected{part, from.Node}
			}
			if mv.To == s.Session || mv.From == s.Session {
				s.Moving++
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// Standing returns how the member stands, and a channel that is closed when it is looked at again: at the latest a tick later.
func (m *Resident) Standing() (Standing, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.state, m.changed
}

// Self returns the node.
func (m *Resident) Self() core.NodeID { return m.cfg.Self.ID }

// Losses returns how many requests for a session, or for its renewal, were not answered, and how many sessions ended before their time.
func (m *Resident) Losses() (unrenewed, lost uint64) { return m.unrenewed.Load(), m.lost.Load() }

// Await waits until ok says so of the state, or ctx ends.
func (m *Resident) Await(ctx context.Context, ok func(Standing) bool) error {
	for {
		s, changed := m.Standing()
		if ok(s) {
			return nil
		}
		select {
		case <-changed:
		case <-m.over:
			return errNoMember
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// SetHosts says anew what the node hosts, and whether it leaves: then what it owns moves away, as far as others host it. It never blocks.
func (m *Resident) SetHosts(kinds []string, weight uint32, draining bool) {
	m.mu.Lock()
	m.wants = core.TenantInput{Type: core.TenantHosts, Kinds: kinds, Weight: weight, Draining: draining}
	m.mu.Unlock()
	select {
	case m.hosts <- struct{}{}:
	default:
	}
}

// Suspended ends the session, as after a time in which the machine stood still and its monotonic clock with it.
func (m *Resident) Suspended(ctx context.Context) {
	m.hand(ctx, core.TenantInput{Type: core.TenantSuspended})
}

// Close gives the session up: once it owns nothing, or at once with force, when nothing of it runs any more. It returns when the log
// shows it, or ctx ends.
func (m *Resident) Close(ctx context.Context, force bool) error {
	m.stopOpening()
	m.hand(ctx, core.TenantInput{Type: core.TenantClose, Force: force})
	return m.Await(ctx, func(s Standing) bool { return s.Closed })
}

// hand gives Run an input.
func (m *Resident) hand(ctx context.Context, in core.TenantInput) {
	select {
	case m.in <- in:
	case <-m.over:
	case <-ctx.Done():
	}
}

var errNoMember = errors.New("the node is not a member any more")

// Propose puts a command of an operator's into the log; core.BlockNode and core.UnblockNode are such. The error says why not, or that it is
// not known. It ends with Run at the latest.
func (m *Resident) Propose(ctx context.Context, c core.Command) error {
	m.mu.Lock()
	if m.ending {
		m.mu.Unlock()
		return errNoMember
	}
	m.work.Add(1)
	m.mu.Unlock()
	defer m.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.proposing, cancel)()
	out, err := m.asker.reach(ctx, core.AppendEntry(nil, c))
	if err != nil {
		return err
	}
	results, err := core.ReadResults(out.results)
	switch {
	case err != nil:
		return err
	case len(results) == 1 && results[0].Void != "":
		return abi.NewError(abi.ErrInvalidArgument, results[0].Void)
	}
	return nil
}
