package core

import (
	"slices"
	"time"
)

// Mode is what a node is to its cluster.
type Mode uint8

const (
	// Member hosts actors. The zero value.
	MemberMode Mode = iota
	// Client only calls: the kinds it registers are those it may name.
	ClientMode
)

// String returns "member" or "client".
func (m Mode) String() string {
	if m == ClientMode {
		return "client"
	}
	return "member"
}

// Phase is how far a machine's life has come.
type Phase uint8

// The phases, in order; there is no way back.
const (
	PhaseNew Phase = iota
	PhaseRunning
	PhaseShuttingDown
	PhaseStopped
)

// Config is what a [Machine] has to know from the start.
type Config struct {
	Self     NodeID
	Mode     Mode
	Strategy Strategy // nil is [Rendezvous]
	// Quorum: the voters' log says who owns what (see [Assigned]), not this node's view of the members.
	Quorum bool
	Boot   uint64 // of this run; what an earlier one owned is not this one's
}

// Machine is the cluster layer of one node as a pure state machine. See the package's comment for its promises.
type Machine struct {
	cfg         Config
	phase       Phase
	hosting     hosting
	view        *View
	ledger      Ledger
	epoch       uint64 // of the last lease; with a log of the last activation
	session     SessionID
	until       time.Duration // of the session
	assignments *Assignments
	held        map[MoveID]*heldPart
	waiting     map[Identity]struct{} // for what is held
	queue       queue
	effects     []Effect
}

// NewMachine returns a machine that knows no members yet.
func NewMachine(cfg Config) *Machine {
	if cfg.Strategy == nil {
		cfg.Strategy = Rendezvous{}
	}
	m := &Machine{cfg: cfg}
	m.hosting.hosted = make(map[NodeID][]string)
	m.hosting.blocked = make(map[NodeID]struct{})
	m.hosting.missed = make(map[NodeID]absence)
	m.held = make(map[MoveID]*heldPart)
	m.waiting = make(map[Identity]struct{})
	m.view = newView(nil, nil, &m.hosting, cfg.Strategy)
	return m
}

// Step takes one input at the time now, counted from any fixed moment on a monotonic clock, and returns what is to be done, in
// order. The slice is valid until the next Step. in is not kept.
func (m *Machine) Step(in *Input, now time.Duration) []Effect {
	clear(m.effects)
	m.effects = m.effects[:0]
	switch in.Type {
	case Resolve:
		m.resolve(in, now)
	case Activated:
		m.activated(in)
	case Failed:
		m.failed(in, now)
	case Started:
		m.started(in, now)
	case Releasing:
		m.releasing(in)
	case Terminated:
		m.terminated(in, now)
	case Start:
		if m.phase == PhaseNew {
			m.phase = PhaseRunning
		}
	case TopologyChanged:
		m.topologyChanged(in.Topology, now)
	case StreamEnded:
		m.queue.push(now, Event{Type: TopologyStreamEnded, Reason: in.Reason})
	case Resubscribed:
		m.queue.push(now, Event{Type: TopologyResubscribed})
	case SetKinds:
		m.setKinds(in.Node, in.Kinds, now)
	case Block:
		m.block(in.Node, now)
	case Unblock:
		m.unblock(in.Node, now)
	case Lapse:
		m.lapse(now)
	case Assigned:
		m.assigned(in, now)
	case Renewed:
		m.until = in.Until
	case Hold:
		h := &heldPart{Part: in.Part}
		m.held[in.Part.Move] = h
		m.do(Effect{Type: Withhold, Part: &h.Part})
	case Seal:
		m.seal(in.Part)
	case Unhold:
		m.unhold(in.Part.Move)
	case Shutdown:
		m.shutdown(now)
	case ReleaseAll:
		m.releaseAll(now)
	}
	return m.effects
}

// View returns who owns what at present.
func (m *Machine) View() *View { return m.view }

// Phase returns how far the machine's life has come.
func (m *Machine) Phase() Phase { return m.phase }

// Ledger returns the leases, to be read until the next Step.
func (m *Machine) Ledger() *Ledger { return &m.ledger }

// Queued reports whether there are events to take.
func (m *Machine) Queued() bool { return len(m.queue.events) > 0 }

// TakeEvents empties the queue of events: each is returned once, in order. The machine reuses spare's memory.
func (m *Machine) TakeEvents(spare []Event) []Event { return m.queue.take(spare) }

// Registered reports whether this node has registered a kind, as its host or as its client.
func (m *Machine) Registered(kind string) bool {
	_, ok := slices.BinarySearch(m.hosting.registered, kind)
	return ok
}

// Blocked returns the block list, sorted.
func (m *Machine) Blocked() []NodeID {
	nodes := make([]NodeID, 0, len(m.hosting.blocked))
	for id := range m.hosting.blocked {
		nodes = append(nodes, id)
	}
	slices.Sort(nodes)
	return nodes
}

func (m *Machine) do(e Effect) { m.effects = append(m.effects, e) }

// wake tells those who wait for e that it has changed.
func (m *Machine) wake(e *entry) {
	if e.waited {
		e.waited = false
		m.do(Effect{Type: Wake, Identity: e.lease.Identity})
	}
}

// Callable returns why no actor of a kind could be resolved at present, or 0. now is the time as for [Machine.Step].
func (m *Machine) Callable(kind string, now time.Duration) Refusal {
	_, refusal := m.owner(kind, 0, now)
	return refusal
}

// owner returns the member that owns a partition of a kind, or why there is none to be named.
func (m *Machine) owner(kind string, p Partition, now time.Duration) (*Member, Refusal) {
	switch m.phase {
	case PhaseNew:
		return nil, RefusedNotStarted
	case PhaseShuttingDown, PhaseStopped:
		return nil, RefusedShuttingDown
	}
	return m.placed(kind, p, now)
}

// placed is owner without regard to the phase.
func (m *Machine) placed(kind string, p Partition, now time.Duration) (*Member, Refusal) {
	if m.cfg.Quorum && (m.session == 0 || now >= m.until) {
		return nil, RefusedNoQuorum
	}
	owner, placing := m.view.Owner(kind, p)
	if m.cfg.Quorum && owner == nil && m.assignments.Session(m.session) == nil {
		return nil, RefusedUnowned // its copy of the log is older than its session: what it does not know of may be there
	}
	switch placing {
	case UnknownKind:
		return nil, RefusedUnknownKind
	case NoMember:
		if !m.Registered(kind) && !m.hosting.misses(kind, now) && !m.assignments.hosts(kind) {
			return nil, RefusedUnknownKind
		}
		return nil, RefusedNoMember
	case AllBlocked:
		return nil, RefusedBlocked
	case Unowned:
		return nil, RefusedUnowned
	}
	if m.cfg.Quorum {
		if _, blocked := m.hosting.blocked[owner.ID]; blocked {
			return nil, RefusedBlocked
		}
		if s, _ := m.view.slot(kind, p); owner.ID == m.cfg.Self && s != m.session {
			return nil, RefusedUnowned // of an earlier run, or of a session that has ended
		}
	}
	return owner, 0
}

func (m *Machine) resolve(in *Input, now time.Duration) {
	refuse := func(r Refusal) { m.do(Effect{Type: Refuse, Refusal: r}) }
	id := in.Identity
	p := PartitionOf(id)
	owner, refusal := m.owner(id.Kind(), p, now)
	if refusal == RefusedShuttingDown && in.Finishing {
		if other, _ := m.placed(id.Kind(), p, now); other != nil && other.ID != m.cfg.Self {
			owner, refusal = other, 0
		}
	}
	if refusal != 0 {
		refuse(refusal)
		return
	}
	if owner.ID != m.cfg.Self {
		m.do(Effect{Type: Forward, Member: owner})
		return
	}

	e := m.ledger.byIdentity[id]
	h := m.holds(id.Kind(), p)
	if h != nil && !m.awaited(h, in.Chain) {
		m.waiting[id] = struct{}{}
		m.do(Effect{Type: Wait, Identity: id})
		return
	}
	if e == nil {
		if in.Existing {
			refuse(RefusedNotActive)
			return
		}
		e, err := m.ledger.issue(m.newLease(id, p), p)
		if err != nil { // there is no entry, so there is nothing it could collide with
			panic("cluster/core: " + err.Error())
		}
		m.do(Effect{Type: Activate, Lease: e.lease, Member: owner})
		return
	}
	switch {
	case e.lease.State != LeaseActive:
		if in.Existing {
			refuse(RefusedNotActive)
			return
		}
		e.waited = true
		m.do(Effect{Type: Wait, Identity: id})
	case e.pending():
		e.waited = true
		m.do(Effect{Type: Wait, Identity: id})
	case e.lease.Epoch == in.Refused && e.lease.Serial == in.RefusedSerial:
		// Its target says it is gone; the report of its end must be on its way. Handing it out again would only spin.
		e.waited = true
		m.do(Effect{Type: Wait, Identity: id, Refused: true})
	default:
		m.do(Effect{Type: Use, Lease: e.lease, Handle: e.handle, Member: owner, Held: h != nil})
	}
}
