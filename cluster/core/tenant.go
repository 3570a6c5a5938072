package core

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Tenant is a node's side of the log: it keeps a session, knows what the session owns, and carries out moves. It reads the node's own
// copy of the table, which its caller advances.
//
// Like all of this package it is pure: inputs at a time of this process's monotonic clock, effects to be carried out in order.
type Tenant struct {
	cfg     TenantConfig
	table   *Table
	session SessionID // 0: none
	lost    SessionID // the newest that has ended here, if not yet in the log
	until   time.Duration
	asked   time.Duration // when the last renewal was sent
	ever    bool          // one was
	ask     uint64
	asks    map[uint64]time.Duration // when each unanswered one was sent
	said    map[string]time.Duration // when what was proposed; it is proposed again until the table shows it
	out     map[MoveID]*outgoing
	in      map[MoveID]*incoming
	closing bool
	force   bool         // closing, whatever it owns
	given   *Assignments // that the machine was last told of
	givenTo SessionID
	effects []TenantEffect
	resumed []Part // to be told after the assignments that they follow from
}

// TenantConfig is what a node says of itself.
type TenantConfig struct {
	Node        NodeID
	Boot        uint64
	Authority   string
	Weight      uint32
	Kinds       []string
	Draining    bool
	SessionTime time.Duration // of a session, 0 is SessionTime; see [Chair.LetSessionsLast]
}

// outgoing is a move whose source this session is.
type outgoing struct {
	move     *Move
	done     bool // everything was handed over, and given up here for good
	failed   bool
	asOf     uint64
	manifest []byte
}

// incoming is a move whose target this session is.
type incoming struct {
	move *Move
	took bool
}

// TenantInputType says what happened to a [Tenant].
type TenantInputType uint8

// The inputs of a [Tenant].
const (
	// TenantTick says that time has passed. At least every RenewEvery/5.
	TenantTick TenantInputType = 1 + iota
	// TenantAdvanced says that the table has applied entries, or was replaced (Table).
	TenantAdvanced
	// TenantAnswered brings the answer to an [Ask] (Ask, Session, Void). An answer may come late, or never.
	TenantAnswered
	// TenantHandedOver says that [HandOver] is through: nothing of it runs here any more, the target has it all (Move, Manifest).
	TenantHandedOver
	// TenantHandOverFailed says that it is not: everything stays (Move).
	TenantHandOverFailed
	// TenantHosts says anew what the node hosts, and whether it leaves (Kinds, Weight, Draining).
	TenantHosts
	// TenantSuspended says that the machine stood still while its monotonic clock did, too: the session may have ended long ago.
	TenantSuspended
	// TenantClose ends the session once it owns nothing; what it still owns, if Force is set, has ended here for good.
	TenantClose
)

// TenantInput is one thing that happened.
type TenantInput struct {
	Type     TenantInputType
	Table    *Table
	Ask      uint64
	Session  SessionID
	Void     bool
	Move     MoveID
	Manifest []byte
	Kinds    []string
	Weight   uint32
	Draining bool
	Force    bool
}

// TenantEffectType says what a [Tenant] wants done.
type TenantEffectType uint8

// The effects of a [Tenant].
const (
	// Ask: send this one command to the leader, and tell the answer with the number (Commands, Ask).
	Ask TenantEffectType = 1 + iota
	// Propose: send these to the leader. No answer is needed; it is said again until the table shows it.
	Propose
	// Until: turns may run until then (Until), not at it or after it.
	Until
	// SessionLost: the session has ended, every activation with it.
	SessionLost
	// TakeIn: what was received with a move is this node's own under an epoch (Move, Epoch, Manifest, Part). It comes before the
	// assignment that makes it count.
	TakeIn
	// TurnAway: what was received with a move is to be dropped (Move).
	TurnAway
	// TellAssigned: the machine is to know these assignments, and which session is the node's own (Assignments, Session).
	TellAssigned
	// HandOver: bring the partitions of a move to its target: hold, surrender, send (Part, Target).
	HandOver
	// Resume: the hand-over has ended, either way; what was held goes where the assignments told before say, which may be here (Part).
	Resume
)

// TenantEffect is one thing to be done.
type TenantEffect struct {
	Type        TenantEffectType
	Commands    []Command
	Ask         uint64
	Until       time.Duration
	Assignments *Assignments
	Session     SessionID
	Epoch       abi.Epoch
	Manifest    []byte
	Part        Part
	Target      Member
}

// Part is some partitions of the kinds of one group, as a move takes them along.
type Part struct {
	Move       MoveID
	Group      GroupID
	Kinds      []string
	Partitions PartitionSet
}

// NewTenant returns the tenant of a node that has no session yet. table is its copy of the log's.
func NewTenant(cfg TenantConfig, table *Table) *Tenant {
	cfg.Kinds = sortedKinds(cfg.Kinds)
	if cfg.SessionTime == 0 {
		cfg.SessionTime = SessionTime
	}
	return &Tenant{cfg: cfg, table: table, asks: make(map[uint64]time.Duration), said: make(map[string]time.Duration),
		out: make(map[MoveID]*outgoing), in: make(map[MoveID]*incoming)}
}

// sortedKinds is how the table keeps what a session hosts.
func sortedKinds(kinds []string) []string { return slices.Compact(slices.Sorted(slices.Values(kinds))) }

// Session returns the node's session, 0 for none.
func (t *Tenant) Session() SessionID { return t.session }

// Until returns the time before which turns may run.
func (t *Tenant) Until() time.Duration { return t.until }

// Closed reports whether [TenantClose] is through: there is no session any more, and none that was asked for can come.
func (t *Tenant) Closed() bool { return t.closing && t.session == 0 && len(t.asks) == 0 }

// Holds returns the epoch under which this node owns a partition of a group, and whether it does. It says nothing about the time.
func (t *Tenant) Holds(group GroupID, p Partition) (abi.Epoch, bool) {
	g := t.table.groups[group]
	if g == nil || t.session == 0 {
		return abi.Epoch{}, false
	}
	slot := &g.Slots[p]
	if slot.Owner != t.session {
		return abi.Epoch{}, false
	}
	for _, o := range t.out {
		if o.done && o.move.Group == group && o.move.Partitions.Has(p) && slot.Epoch.Index <= o.asOf {
			return abi.Epoch{}, false
		}
	}
	return slot.Epoch, true
}

// Step takes one input and returns what is to be done, in order. The slice is valid until the next Step.
func (t *Tenant) Step(in *TenantInput, now time.Duration) []TenantEffect {
	clear(t.effects)
	t.effects = t.effects[:0]
	switch in.Type {
	case TenantAdvanced:
		if in.Table != nil {
			t.table = in.Table
		}
	case TenantAnswered:
		t.answered(in, now)
	case TenantHandedOver:
		if o := t.out[in.Move]; o != nil && !o.failed {
			o.done, o.asOf, o.manifest = true, t.table.index, in.Manifest
		}
	case TenantHandOverFailed:
		if o := t.out[in.Move]; o != nil && !o.done && !o.failed {
			o.failed = true
			t.resume(o.move)
		}
	case TenantHosts:
		t.cfg.Kinds, t.cfg.Weight, t.cfg.Draining = sortedKinds(in.Kinds), in.Weight, in.Draining
	case TenantSuspended:
		switch {
		case planted(bugSuspendKept):
		case t.session != 0:
			t.lose()
		default: // of a session that was asked for before, nobody knows how long ago that was
			clear(t.asks)
			t.ever = false
		}
	case TenantClose:
		t.closing = true
		if in.Force && !t.force {
			t.force = true
			t.until = 0
			t.do(TenantEffect{Type: Until}) // what has not ended in time must not pass a check when another has its place
		}
	}
	t.look(now)
	t.renew(now)
	t.tell()
	for _, p := range t.resumed {
		t.do(TenantEffect{Type: Resume, Part: p})
	}
	t.resumed = t.resumed[:0]
	return t.effects
}

func (t *Tenant) resume(m *Move) { t.resumed = append(t.resumed, t.part(m)) }

func (t *Tenant) do(e TenantEffect) { t.effects = append(t.effects, e) }

// propose says something to the leader, unless it was said a moment ago.
func (t *Tenant) propose(now time.Duration, key string, c Command) {
	if at, ok := t.said[key]; ok && now-at < RenewEvery {
		return
	}
	t.said[key] = now
	t.do(TenantEffect{Type: Propose, Commands: []Command{c}})
}

// renew asks for a session, or renews the one there is. What is sent is not sent again until [RenewEvery] later: an answer that is lost costs
// one of six.
func (t *Tenant) renew(now time.Duration) {
	for id, at := range t.asks {
		if now-at >= t.cfg.SessionTime { // what it could still bring has passed
			delete(t.asks, id)
		}
	}
	if t.ever && now-t.asked < RenewEvery || t.closing && t.session == 0 {
		return
	}
	t.ask++
	t.ever, t.asked = true, now
	t.asks[t.ask] = now
	c := Command{Type: RenewSession, Session: t.session, Node: t.cfg.Node}
	if t.session == 0 {
		c = Command{Type: OpenSession, Node: t.cfg.Node, Boot: t.cfg.Boot, Authority: t.cfg.Authority, Weight: t.cfg.Weight,
			Kinds: t.cfg.Kinds, Draining: t.cfg.Draining, Speaks: EntryVersion}
	}
	t.do(TenantEffect{Type: Ask, Ask: t.ask, Commands: []Command{c}})
}

func (t *Tenant) answered(in *TenantInput, now time.Duration) {
	sent, ok := t.asks[in.Ask]
	if !ok {
		return
	}
	delete(t.asks, in.Ask)
	switch {
	case in.Void && !planted(bugResumeEnded):
		if in.Session == t.session && t.session != 0 {
			t.lose()
		}
		return
	case t.session == 0 && in.Session <= t.lost && !planted(bugResumeEnded):
		// The log has it still, but what ran under it has been discarded here, and what it kept given up: under the same epochs nothing may
		// begin again. Another one is to be had when this one has ended there, too.
		t.propose(now, "lost", Command{Type: CloseSession, Session: in.Session, Index: math.MaxUint64})
		return
	case t.session == 0:
		t.session = in.Session
	case in.Session != t.session:
		return // of a session that has ended since
	}
	if planted(bugDeadlineReceipt) {
		sent = now
	}
	until := sent + t.cfg.SessionTime
	if planted(bugCheckNoDeadline) {
		until = math.MaxInt64
	}
	if until > t.until && !t.force {
		t.until = until
		t.do(TenantEffect{Type: Until, Until: until})
	}
}

// lose ends the session here. A later answer to what was asked for it changes nothing.
func (t *Tenant) lose() {
	t.lost = max(t.lost, t.session)
	t.session, t.until = 0, 0
	clear(t.asks)
	clear(t.said)
	t.ever = false // the next one is asked for at once
	t.do(TenantEffect{Type: Until})
	t.do(TenantEffect{Type: SessionLost})
	for _, id := range slices.Sorted(maps.Keys(t.out)) {
		t.resume(t.out[id].move)
	}
	for _, id := range slices.Sorted(maps.Keys(t.in)) {
		if !t.in[id].took {
			t.do(TenantEffect{Type: TurnAway, Part: Part{Move: id}})
		}
	}
	clear(t.out)
	clear(t.in)
}

// look compares the table with what the node does, and does what follows.
func (t *Tenant) look(now time.Duration) {
	if t.session == 0 {
		return
	}
	s := t.table.sessions[t.session]
	switch {
	case s != nil:
	case uint64(t.session) > t.table.last:
		return // the copy of the table is older than the session
	case planted(bugResumeEnded):
		return
	default:
		t.lose()
		return
	}
	if !slices.Equal(s.Kinds, t.cfg.Kinds) || s.Weight != max(1, t.cfg.Weight) || s.Draining != t.cfg.Draining {
		t.propose(now, "update", Command{Type: UpdateSession, Session: s.ID, Kinds: t.cfg.Kinds, Weight: t.cfg.Weight,
			Draining: t.cfg.Draining})
	}
	t.incoming(now) // first: what has come may be to go on at once, and it must be here before it is handed over
	t.outgoing(now)
	if t.closing && (t.force || !t.owns()) {
		t.propose(now, "close", Command{Type: CloseSession, Session: s.ID, Index: t.table.index})
	}
}

func (t *Tenant) owns() bool {
	for _, g := range t.table.groups {
		if slices.ContainsFunc(g.Slots[:], func(s Slot) bool { return s.Owner == t.session }) {
			return true
		}
	}
	return false
}

func (t *Tenant) outgoing(now time.Duration) {
	for _, m := range t.table.Moves() {
		if m.From != t.session || m.Released != 0 || t.out[m.ID] != nil {
			continue
		}
		to := t.table.sessions[m.To]
		t.out[m.ID] = &outgoing{move: m}
		if planted(bugReleaseRunning) { // before anything here has ended
			t.propose(now, "release"+moveKey(m.ID), Command{Type: Release, Session: t.session, Group: m.Group,
				Partitions: m.Partitions, Index: t.table.index, Move: m.ID})
		}
		t.do(TenantEffect{Type: HandOver, Part: t.part(m), Target: to.member()})
	}
	for _, id := range slices.Sorted(maps.Keys(t.out)) {
		o := t.out[id]
		m := t.table.moves[id]
		stands := m != nil && m.Released == 0
		switch {
		case o.done && stands:
			t.propose(now, "release"+moveKey(id), Command{Type: Release, Session: t.session, Group: o.move.Group,
				Partitions: o.move.Partitions, Index: o.asOf, Move: id, Manifest: o.manifest})
		case o.done:
			// What was held goes where the table says. If the move fell before it was released that is here, still under the old epoch: a
			// release that is under way is void.
			t.resume(o.move)
			t.forget(id, "release")
		case o.failed && stands:
			t.propose(now, "abort"+moveKey(id), Command{Type: AbortMove, Move: id})
		case !stands:
			if !o.failed {
				t.resume(o.move)
			}
			t.forget(id, "abort")
		}
	}
}

func (t *Tenant) forget(id MoveID, said string) {
	delete(t.out, id)
	delete(t.said, said+moveKey(id))
}

func (t *Tenant) incoming(now time.Duration) {
	for _, m := range t.table.Moves() {
		if m.To != t.session {
			continue
		}
		in := t.in[m.ID]
		if in == nil {
			in = &incoming{}
			t.in[m.ID] = in
		}
		in.move = m
		if m.Released == 0 {
			continue
		}
		if !in.took {
			in.took = true
			epoch := abi.Epoch{Generation: t.table.generation, Index: m.Released}
			t.do(TenantEffect{Type: TakeIn, Part: t.part(m), Epoch: epoch, Manifest: m.Manifest})
		}
		t.propose(now, "settle"+moveKey(m.ID), Command{Type: SettleMove, Move: m.ID})
	}
	for _, id := range slices.Sorted(maps.Keys(t.in)) {
		if t.table.moves[id] != nil {
			continue
		}
		if in := t.in[id]; !in.took {
			if planted(bugImageOnAbort) {
				t.do(TenantEffect{Type: TakeIn, Part: t.part(in.move), Epoch: abi.Epoch{Generation: t.table.generation, Index: t.table.index}})
			} else {
				t.do(TenantEffect{Type: TurnAway, Part: Part{Move: id}})
			}
		}
		delete(t.in, id)
		delete(t.said, "settle"+moveKey(id))
	}
}

// tell hands the assignments to the machine when they, or the node's session, have changed.
func (t *Tenant) tell() {
	a := t.table.Assignments()
	if a == t.given && t.session == t.givenTo {
		return
	}
	t.given, t.givenTo = a, t.session
	t.do(TenantEffect{Type: TellAssigned, Assignments: a, Session: t.session})
}

func (t *Tenant) part(m *Move) Part {
	p := Part{Move: m.ID, Group: m.Group, Partitions: m.Partitions}
	if g := t.table.groups[m.Group]; g != nil {
		p.Kinds = slices.Clone(g.Kinds)
	}
	return p
}

// moveKey tells what is proposed for moves apart.
func moveKey(id MoveID) string { return string(abi.AppendUint(nil, uint64(id))) }
