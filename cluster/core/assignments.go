package core

import (
	"slices"
	"strings"

	"github.com/wasilo/wasilo/abi"
)

// Assignments is who owned what at one index of the log. It never changes.
type Assignments struct {
	Index      uint64
	Generation uint32
	sessions   []*Session // oldest first
	groups     []*Group   // oldest first
}

// Assignments returns the present state, the same as before while nobody's ownership, kinds or address changed.
func (t *Table) Assignments() *Assignments {
	if t.snapshot == nil {
		for _, g := range t.groups {
			g.shared = true
		}
		t.snapshot = &Assignments{Index: t.index, Generation: t.generation, sessions: t.Sessions(), groups: t.Groups()}
		if planted(bugServeAtMove) {
			t.serveAtMove(t.snapshot.groups)
		}
	}
	return t.snapshot
}

// serveAtMove is a planted bug: what is to move is shown as the target's already.
func (t *Table) serveAtMove(groups []*Group) {
	for i, g := range groups {
		n := *g
		for p := range n.Slots {
			if m := t.moves[n.Slots[p].Move]; m != nil {
				n.Slots[p].Owner = m.To
			}
		}
		groups[i] = &n
	}
}

// Session returns a session, or nil, as a nil a does.
func (a *Assignments) Session(id SessionID) *Session {
	if a == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(a.sessions, id, func(s *Session, id SessionID) int { return compare(s.ID, id) })
	if !ok {
		return nil
	}
	return a.sessions[i]
}

// Slot returns who owns a partition of a kind.
func (a *Assignments) Slot(kind string, p Partition) (Slot, bool) {
	for _, g := range a.groups {
		if _, ok := slices.BinarySearch(g.Kinds, kind); ok {
			return g.Slots[p], true
		}
	}
	return Slot{}, false
}

func compare[T ~uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// member is how a view shows a session.
func (s *Session) member() Member {
	return Member{ID: s.Node, Authority: s.Authority, Boot: s.Boot, Weight: uint16(min(s.Weight, MaxWeight))}
}

// noOwner stands in group.owners for a partition that nobody owns.
const noOwner = ^uint16(0)

// assignedView computes the view that the log's assignments make. Groups of prev that are the same are reused.
func assignedView(prev *View, t *Topology, h *hosting, a *Assignments) *View {
	v := &View{topology: t, kinds: make(map[string]kindPlace), groups: make(map[string]*group), assigned: a}
	for _, kind := range h.registered {
		v.kinds[kind] = kindPlace{placing: NoMember}
	}
	for _, gone := range h.missed {
		for _, kind := range gone.kinds {
			v.kinds[kind] = kindPlace{placing: NoMember}
		}
	}
	if a == nil {
		return v
	}
	hosted := make(map[string]bool)
	for _, s := range a.sessions {
		for _, kind := range s.Kinds {
			hosted[kind] = true
			v.kinds[kind] = kindPlace{placing: NoMember} // until it has a group
		}
	}
	for _, g := range a.groups {
		place := prev.assignedGroup(g, a)
		v.groups[place.key] = place
		for _, kind := range g.Kinds {
			v.kinds[kind] = kindPlace{group: place, placing: Placed, withdrawn: !hosted[kind]}
		}
	}
	return v
}

// assignedGroup makes the placement of a group, or takes that of v.
func (v *View) assignedGroup(g *Group, a *Assignments) *group {
	owns := make(map[SessionID]int)
	for p := range g.Slots {
		owns[g.Slots[p].Owner]++
	}
	var hosts []*Session
	for _, s := range a.sessions {
		if owns[s.ID] > 0 || slices.ContainsFunc(g.Kinds, func(k string) bool { return s.hosts(k) }) {
			hosts = append(hosts, s)
		}
	}
	slices.SortFunc(hosts, func(a, b *Session) int {
		if c := strings.Compare(string(a.Node), string(b.Node)); c != 0 {
			return c
		}
		return compare(a.ID, b.ID)
	})
	n := &group{slots: g, hosts: make([]Member, len(hosts)), sessions: make([]SessionID, len(hosts))}
	at := make(map[SessionID]uint16, len(hosts))
	for i, s := range hosts {
		n.hosts[i], n.sessions[i] = s.member(), s.ID
		at[s.ID] = uint16(i)
	}
	n.key = groupKey(n.hosts) + "\x00" + strings.Join(g.Kinds, ",")
	if old := v.groups[n.key]; old != nil && old.slots == g && slices.Equal(old.sessions, n.sessions) {
		return old
	}
	for p := range g.Slots {
		n.owners[p] = noOwner
		if i, ok := at[g.Slots[p].Owner]; ok {
			n.owners[p] = i
		}
	}
	return n
}

// hosts reports whether any session hosts a kind; none does of a nil a.
func (a *Assignments) hosts(kind string) bool {
	return a != nil && slices.ContainsFunc(a.sessions, func(s *Session) bool { return s.hosts(kind) })
}

// hosts reports whether a session hosts a kind.
func (s *Session) hosts(kind string) bool {
	_, ok := slices.BinarySearch(s.Kinds, kind)
	return ok
}

func (s *Session) hostsAny(kinds []string) bool { return slices.ContainsFunc(kinds, s.hosts) }

// slot returns the log's assignment of a partition of a kind, and the session that the owner has.
func (v *View) slot(kind string, p Partition) (SessionID, abi.Epoch) {
	g := v.kinds[kind].group
	if g == nil || g.slots == nil {
		return 0, abi.Epoch{}
	}
	return g.slots.Slots[p].Owner, g.slots.Slots[p].Epoch
}

// Assigned returns the assignments that the view was computed from, nil without a log.
func (v *View) Assigned() *Assignments { return v.assigned }

// Epoch returns the epoch under which a partition of a kind is owned; zero without a log.
func (v *View) Epoch(kind string, p Partition) abi.Epoch {
	_, e := v.slot(kind, p)
	return e
}

// newest returns the newest epoch under which lost partitions were owned.
func (v *View) newest(l loss) (newest abi.Epoch) {
	for p, lost := range l.partitions {
		if _, e := v.slot(l.kind, Partition(p)); lost && newest.Less(e) {
			newest = e
		}
	}
	return newest
}
