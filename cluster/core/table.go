package core

import (
	"fmt"
	"maps"
	"slices"

	"github.com/wasilo/wasilo/abi"
)

// Table is what the voters' log says: the sessions of nodes, and which session owns which partition of which placement group. It is
// the replicated state machine of quorum mode; every voter, and every node that follows the log, has one.
//
// The same entries in the same order make the same table. It belongs to one caller at a time; what [Table.Assignments] returns may be
// shared freely.
type Table struct {
	index      uint64 // of the last entry
	generation uint32
	last       uint64 // id handed out
	sessions   map[SessionID]*Session
	groups     map[GroupID]*Group
	moves      map[MoveID]*Move
	byKind     map[string]GroupID
	blocked    map[NodeID]bool
	touched    []SessionID // renewed by the last entry
	snapshot   *Assignments
}

// Session is the right of one run of a node to own partitions, for as long as it renews it.
type Session struct {
	ID        SessionID
	Node      NodeID
	Boot      uint64
	Authority string
	Weight    uint32
	Kinds     []string // that it hosts, sorted
	Draining  bool     // it leaves: it is given nothing
	Speaks    uint32
	Renewed   uint64 // index of the last renewal
}

// Group is a placement group: kinds that share their owners. A Group that [Table.Assignments] handed out never changes.
type Group struct {
	ID    GroupID
	Kinds []string // sorted
	Slots [Partitions]Slot

	shared bool
}

// Slot is who owns a partition of a group.
type Slot struct {
	Owner SessionID // 0: nobody
	Epoch abi.Epoch // of the last assignment
	Move  MoveID    // that is planned for it; 0: none
}

// Move is a planned change of owner.
type Move struct {
	ID         MoveID
	Group      GroupID
	From, To   SessionID
	Partitions PartitionSet
	Released   uint64 // index of the release; 0: the source still owns them
	Manifest   []byte // what the target has to have received, since the release
}

// NewTable returns an empty table, of generation 1.
func NewTable() *Table {
	return &Table{generation: 1, sessions: make(map[SessionID]*Session), groups: make(map[GroupID]*Group),
		moves: make(map[MoveID]*Move), byKind: make(map[string]GroupID), blocked: make(map[NodeID]bool)}
}

// Index returns the index of the last entry that was applied.
func (t *Table) Index() uint64 { return t.index }

// Generation returns how many lives the log has had; see [RaiseGeneration].
func (t *Table) Generation() uint32 { return t.generation }

// Session returns a session that has not ended. It must not be changed.
func (t *Table) Session(id SessionID) (*Session, bool) {
	s, ok := t.sessions[id]
	return s, ok
}

// Opened reports whether there ever was a session of that id.
func (t *Table) Opened(id SessionID) bool { return id > 0 && uint64(id) <= t.last }

// Sessions returns those that have not ended, oldest first.
func (t *Table) Sessions() []*Session { return sorted(t.sessions) }

// Groups returns the placement groups, oldest first. They must not be changed.
func (t *Table) Groups() []*Group { return sorted(t.groups) }

// Moves returns the moves that are not settled, oldest first. They must not be changed.
func (t *Table) Moves() []*Move { return sorted(t.moves) }

// Move returns a move that is not settled.
func (t *Table) Move(id MoveID) (*Move, bool) {
	m, ok := t.moves[id]
	return m, ok
}

// Group returns a placement group.
func (t *Table) Group(id GroupID) (*Group, bool) {
	g, ok := t.groups[id]
	return g, ok
}

// GroupOf returns the group that a kind is in.
func (t *Table) GroupOf(kind string) (*Group, bool) { return t.Group(t.byKind[kind]) }

// Speaks returns the newest version of entries that every session reads; 1 without any.
func (t *Table) Speaks() uint32 {
	version := uint32(EntryVersion)
	for _, s := range t.sessions {
		version = min(version, s.Speaks)
	}
	if len(t.sessions) == 0 {
		return 1
	}
	return max(version, 1)
}

// SessionOf returns the newest session of a run of a node.
func (t *Table) SessionOf(node NodeID, boot uint64) (*Session, bool) {
	var found *Session
	for _, s := range t.sessions {
		if s.Node == node && s.Boot == boot && (found == nil || s.ID > found.ID) {
			found = s
		}
	}
	return found, found != nil
}

func sorted[K ~uint64, V any](m map[K]V) []V {
	all := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}

// Apply applies the entry at an index, which is higher than that of the entry before. An entry that cannot be read changes nothing but the
// index; the error says why. One that wraps [ErrEntryVersion] means that this node must not go on.
func (t *Table) Apply(index uint64, entry []byte) ([]Result, error) {
	if index <= t.index {
		return nil, fmt.Errorf("entry %d comes after entry %d", index, t.index)
	}
	commands, err := ReadEntry(entry)
	t.index = index
	t.touched = t.touched[:0]
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(commands))
	for i := range commands {
		results[i] = t.apply(&commands[i])
	}
	return results, nil
}

// Touched returns the sessions that the last entry opened or renewed. It is valid until the next Apply.
func (t *Table) Touched() []SessionID { return t.touched }

func void(format string, args ...any) Result { return Result{Void: fmt.Sprintf(format, args...)} }

func (t *Table) apply(c *Command) Result {
	switch c.Type {
	case OpenSession:
		return t.open(c)
	case RenewSession:
		s := t.sessions[c.Session]
		if s == nil && planted(bugRenewEnded) {
			s = &Session{ID: c.Session, Node: c.Node, Authority: "planted:0", Weight: 1, Speaks: 1}
			t.sessions[s.ID] = s
		}
		if s == nil {
			return void("session %d has ended", c.Session)
		}
		if t.blocked[s.Node] {
			return t.isBlocked(s.Node)
		}
		t.renew(s)
		return Result{}
	case ExpireSession:
		s := t.sessions[c.Session]
		switch {
		case s == nil:
			return void("session %d has ended", c.Session)
		case s.Renewed > c.Index && !planted(bugExpireRenewed):
			return void("session %d of %s was renewed at %d, after %d", c.Session, s.Node, s.Renewed, c.Index)
		}
		t.end(s)
		return Result{}
	case CloseSession:
		s := t.sessions[c.Session]
		if s == nil {
			return void("session %d has ended", c.Session)
		}
		if t.givenAfter(s.ID, c.Index) {
			return void("session %d was given more after %d", s.ID, c.Index)
		}
		t.end(s)
		return Result{}
	case UpdateSession:
		return t.update(c)
	case Regroup:
		return t.regroup(c)
	case Assign:
		return t.assign(c)
	case BeginMove:
		return t.beginMove(c)
	case AbortMove:
		m := t.moves[c.Move]
		if m == nil || m.Released != 0 {
			return void("move %d does not stand any more", c.Move)
		}
		t.dropMove(m)
		return Result{}
	case Release:
		return t.release(c)
	case SettleMove:
		m := t.moves[c.Move]
		if m == nil || m.Released == 0 {
			return void("move %d is not released", c.Move)
		}
		t.dropMove(m)
		return Result{}
	case BlockNode, UnblockNode:
		if err := CheckNodeID(c.Node); err != nil {
			return void("%s", err)
		}
		if c.Type == BlockNode {
			t.blocked[c.Node] = true
		} else {
			delete(t.blocked, c.Node)
		}
		return Result{}
	case RaiseGeneration:
		if c.Generation <= t.generation {
			return void("the generation is %d already", t.generation)
		}
		if !planted(bugGenerationKept) {
			t.generation = c.Generation
			// What a lost tail of the log has handed out must not be handed out again: a node may still go by it.
			t.last = max(t.last, uint64(c.Generation)<<32)
		}
		for _, s := range t.Sessions() {
			t.end(s)
		}
		return Result{}
	}
	return void("there is no such command")
}

func (t *Table) open(c *Command) Result {
	kinds, fault := checkHosted(c.Kinds)
	if fault == "" {
		if err := (Member{ID: c.Node, Authority: c.Authority}).check(); err != nil {
			fault = err.Error()
		}
	}
	if fault != "" {
		return void("%s", fault)
	}
	if t.blocked[c.Node] {
		return t.isBlocked(c.Node)
	}
	s, ok := t.SessionOf(c.Node, c.Boot)
	if !ok {
		t.last++
		s = &Session{ID: SessionID(t.last), Node: c.Node, Boot: c.Boot}
	}
	n := *s // sessions that Assignments handed out never change
	n.Authority, n.Weight, n.Kinds, n.Draining, n.Speaks = c.Authority, max(1, c.Weight), kinds, c.Draining, max(1, c.Speaks)
	t.sessions[n.ID] = &n
	t.snapshot = nil
	t.renew(&n)
	return Result{ID: uint64(n.ID)}
}

func (t *Table) isBlocked(node NodeID) Result {
	return void("node %s is blocked by an operator; `wasilo members unblock %s` lets it in again", node, node)
}

// Blocked returns the nodes that an operator has blocked, sorted.
func (t *Table) Blocked() []NodeID { return slices.Sorted(maps.Keys(t.blocked)) }

// checkHosted returns kinds sorted, each once, or says what is wrong with them.
func checkHosted(kinds []string) (sorted []string, fault string) {
	for _, k := range kinds {
		if err := abi.CheckKind(k); err != nil {
			return nil, err.Error()
		}
	}
	kinds = slices.Clone(kinds)
	slices.Sort(kinds)
	return slices.Compact(kinds), ""
}

// renew does not make a new snapshot: who owns what is the same.
func (t *Table) renew(s *Session) {
	s.Renewed = t.index
	t.touched = append(t.touched, s.ID)
}

func (t *Table) update(c *Command) Result {
	s := t.sessions[c.Session]
	if s == nil {
		return void("session %d has ended", c.Session)
	}
	kinds, fault := checkHosted(c.Kinds)
	if fault != "" {
		return void("%s", fault)
	}
	n := *s
	n.Kinds, n.Weight, n.Draining = kinds, max(1, c.Weight), c.Draining
	t.sessions[s.ID] = &n
	t.snapshot = nil
	t.prune()
	return Result{}
}

// givenAfter reports whether a session owns what it was given after an index: whoever closes it may not have known, and may run it.
func (t *Table) givenAfter(s SessionID, index uint64) bool {
	for _, g := range t.groups {
		if slices.ContainsFunc(g.Slots[:], func(slot Slot) bool { return slot.Owner == s && slot.Epoch.Index > index }) {
			return true
		}
	}
	return false
}

// end ends a session: what it owned is nobody's, and its moves are off.
func (t *Table) end(s *Session) {
	t.snapshot = nil
	for _, m := range t.Moves() {
		if m.From == s.ID && m.Released == 0 || m.To == s.ID {
			t.dropMove(m)
		}
	}
	for id, g := range t.groups {
		if slices.ContainsFunc(g.Slots[:], func(slot Slot) bool { return slot.Owner == s.ID }) {
			g = t.own(id)
			for p := range g.Slots {
				if g.Slots[p].Owner == s.ID {
					g.Slots[p].Owner = 0
				}
			}
		}
	}
	delete(t.sessions, s.ID)
	t.prune()
}

// prune drops groups that nobody hosts or owns anything of.
func (t *Table) prune() {
	var hosted map[string]bool
	for id, g := range t.groups {
		if slices.ContainsFunc(g.Slots[:], func(s Slot) bool { return s.Owner != 0 }) {
			continue
		}
		if hosted == nil {
			hosted = make(map[string]bool)
			for _, s := range t.sessions {
				for _, k := range s.Kinds {
					hosted[k] = true
				}
			}
		}
		if slices.ContainsFunc(g.Kinds, func(k string) bool { return hosted[k] }) {
			continue
		}
		for _, k := range g.Kinds {
			delete(t.byKind, k)
		}
		delete(t.groups, id)
		t.snapshot = nil
	}
}

// own returns a group to be changed: a copy, if its present state was handed out.
func (t *Table) own(id GroupID) *Group {
	t.snapshot = nil
	g := t.groups[id]
	if g.shared {
		n := *g
		n.Kinds, n.shared = slices.Clone(g.Kinds), false
		g = &n
		t.groups[id] = g
	}
	return g
}

func (t *Table) regroup(c *Command) Result {
	kinds, fault := checkHosted(c.Kinds)
	if fault != "" || len(kinds) == 0 {
		return void("a group needs kinds; %s", fault)
	}
	from := t.byKind[kinds[0]]
	for _, k := range kinds {
		if t.byKind[k] != from {
			return void("the kinds %s and %s are in groups %d and %d", kinds[0], k, from, t.byKind[k])
		}
	}
	n := &Group{Kinds: kinds}
	if from != 0 {
		g := t.groups[from]
		if len(g.Kinds) == len(kinds) {
			return void("group %d is just these kinds", from)
		}
		for _, m := range t.moves {
			if m.Group == from {
				return void("group %d has moves that are not settled", from)
			}
		}
		g = t.own(from)
		n.Slots = g.Slots
		g.Kinds = slices.DeleteFunc(g.Kinds, func(k string) bool { return slices.Contains(kinds, k) })
	}
	t.last++
	n.ID = GroupID(t.last)
	t.groups[n.ID] = n
	for _, k := range kinds {
		t.byKind[k] = n.ID
	}
	t.snapshot = nil
	return Result{ID: uint64(n.ID)}
}

// give makes s the owner of a slot from this entry on. An entry gives a slot away at most once, so that epochs grow strictly.
func (t *Table) give(slot *Slot, s SessionID) bool {
	epoch := abi.Epoch{Generation: t.generation, Index: t.index}
	if !slot.Epoch.Less(epoch) {
		slot.Owner = 0
		return false
	}
	slot.Owner, slot.Epoch, slot.Move = s, epoch, 0
	return true
}

func (t *Table) assign(c *Command) Result {
	g, s := t.groups[c.Group], t.sessions[c.Session]
	if g == nil || s == nil {
		return void("group %d or session %d is gone", c.Group, c.Session)
	}
	n := 0
	for p := range c.Partitions.All {
		if g.Slots[p].Owner == 0 {
			g = t.own(g.ID)
			if t.give(&g.Slots[p], s.ID) {
				n++
			}
		}
	}
	if n == 0 {
		return void("all of them are owned")
	}
	return Result{}
}

func (t *Table) beginMove(c *Command) Result {
	g, to := t.groups[c.Group], t.sessions[c.Session]
	if g == nil || to == nil || c.From == c.Session || c.Partitions.Len() == 0 {
		return void("group %d, session %d or its partitions are gone", c.Group, c.Session)
	}
	for p := range c.Partitions.All {
		if s := &g.Slots[p]; s.Owner != c.From || s.Owner == 0 || s.Move != 0 {
			return void("partition %d is of session %d and in move %d", p, s.Owner, s.Move)
		}
	}
	g = t.own(g.ID)
	t.last++
	m := &Move{ID: MoveID(t.last), Group: g.ID, From: c.From, To: to.ID, Partitions: c.Partitions}
	t.moves[m.ID] = m
	for p := range m.Partitions.All {
		g.Slots[p].Move = m.ID
	}
	return Result{ID: uint64(m.ID)}
}

// dropMove forgets a move: what it has not released stays where it is.
func (t *Table) dropMove(m *Move) {
	delete(t.moves, m.ID)
	t.snapshot = nil
	if m.Released != 0 || t.groups[m.Group] == nil {
		return
	}
	g := t.own(m.Group)
	for p := range m.Partitions.All {
		if g.Slots[p].Move == m.ID {
			g.Slots[p].Move = 0
		}
	}
}

// release takes what the session owned at an index: an entry that is late, or comes twice, must not take what it was given again since.
func (t *Table) release(c *Command) Result {
	g, s := t.groups[c.Group], t.sessions[c.Session]
	if g == nil || s == nil {
		return void("group %d or session %d is gone", c.Group, c.Session)
	}
	m := t.moves[c.Move]
	if m != nil && (m.Released != 0 || m.From != s.ID || m.Group != g.ID) {
		m = nil
	}
	if c.Move != 0 && m == nil && !planted(bugReleaseLate) {
		return void("move %d does not stand any more", c.Move) // so its source may go on
	}
	var given PartitionSet
	n := 0
	for p := range c.Partitions.All {
		if slot := &g.Slots[p]; slot.Owner != s.ID || slot.Epoch.Index > c.Index && !planted(bugReleaseLate) {
			continue
		}
		g = t.own(g.ID)
		slot := &g.Slots[p]
		n++
		if other := t.moves[slot.Move]; other != nil && other != m { // it cannot hand over what is given up
			t.dropMove(other)
		}
		if m != nil && slot.Move == m.ID && planted(bugEpochKept) {
			slot.Owner, slot.Move = m.To, 0
			given.Add(p)
			continue
		}
		if m != nil && slot.Move == m.ID && t.give(slot, m.To) {
			given.Add(p)
		} else {
			slot.Owner, slot.Move = 0, 0
		}
	}
	if n == 0 {
		return void("the session owns none of them any more")
	}
	if m != nil {
		r := *m
		t.dropMove(m) // partitions of the move that were not released stay
		if given != (PartitionSet{}) {
			r.Partitions, r.Released, r.Manifest = given, t.index, c.Manifest
			t.moves[r.ID] = &r
		}
	}
	return Result{}
}
