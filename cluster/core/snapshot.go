package core

import (
	"fmt"
	"slices"

	"github.com/wasilo/wasilo/abi"
)

// AppendSnapshot writes the table: equal tables give equal bytes.
func (t *Table) AppendSnapshot(b []byte) []byte {
	b = abi.AppendArray(b, 8)
	for _, v := range []uint64{uint64(t.Speaks()), t.index, uint64(t.generation), t.last} {
		b = abi.AppendUint(b, v)
	}
	b = abi.AppendArray(b, len(t.sessions))
	for _, s := range t.Sessions() {
		b = abi.AppendUint(abi.AppendArray(b, 9), uint64(s.ID))
		b = abi.AppendUint(abi.AppendText(b, string(s.Node)), s.Boot)
		b = abi.AppendUint(abi.AppendText(b, s.Authority), uint64(s.Weight))
		b = abi.AppendBool(appendTexts(b, s.Kinds), s.Draining)
		b = abi.AppendUint(abi.AppendUint(b, uint64(s.Speaks)), s.Renewed)
	}
	b = abi.AppendArray(b, len(t.groups))
	for _, g := range t.Groups() {
		b = appendTexts(abi.AppendUint(abi.AppendArray(b, 3), uint64(g.ID)), g.Kinds)
		b = g.appendSlots(b)
	}
	b = abi.AppendArray(b, len(t.moves))
	for _, m := range t.Moves() {
		b = abi.AppendArray(b, 7)
		for _, v := range []uint64{uint64(m.ID), uint64(m.Group), uint64(m.From), uint64(m.To), m.Released} {
			b = abi.AppendUint(b, v)
		}
		b = abi.AppendBytes(abi.AppendBytes(b, m.Partitions.append(nil)), m.Manifest)
	}
	b = abi.AppendArray(b, len(t.blocked))
	for _, node := range t.Blocked() {
		b = abi.AppendText(b, string(node))
	}
	return b
}

// appendSlots writes runs of equal slots: neighbours were mostly assigned by one entry, but to many sessions, so runs go by session.
func (g *Group) appendSlots(b []byte) []byte {
	sets := make(map[Slot]*PartitionSet)
	var order []Slot
	for p, s := range g.Slots {
		set := sets[s]
		if set == nil {
			set = new(PartitionSet)
			sets[s] = set
			order = append(order, s)
		}
		set.Add(Partition(p))
	}
	b = abi.AppendArray(b, len(order))
	for _, s := range order {
		b = abi.AppendArray(b, 5)
		for _, v := range []uint64{uint64(s.Owner), uint64(s.Epoch.Generation), s.Epoch.Index, uint64(s.Move)} {
			b = abi.AppendUint(b, v)
		}
		b = abi.AppendBytes(b, sets[s].append(nil))
	}
	return b
}

// ReadSnapshot reads what [Table.AppendSnapshot] wrote. The error says what is wrong, and wraps [ErrEntryVersion] for a later version.
func ReadSnapshot(b []byte) (*Table, error) {
	r := abi.NewReader(b)
	n := r.Array()
	switch version := r.Uint(); {
	case r.Err() != nil:
	case version > EntryVersion:
		return nil, fmt.Errorf("a snapshot of version %d, and this node reads up to %d: %w", version, EntryVersion, ErrEntryVersion)
	case version == 0:
		r.Fail("a snapshot has a version")
	}
	if n != 8 {
		r.Fail("a snapshot has eight items")
	}
	t := NewTable()
	t.index, t.generation, t.last = r.Uint(), r.Uint32(), r.Uint()
	for n, last := r.Array(), uint64(0); n > 0 && r.Err() == nil; n-- {
		last = ascending(&r, last, uint64(t.readSession(&r)))
	}
	for n, last := r.Array(), uint64(0); n > 0 && r.Err() == nil; n-- {
		last = ascending(&r, last, uint64(t.readGroup(&r)))
	}
	for n, last := r.Array(), uint64(0); n > 0 && r.Err() == nil; n-- {
		last = ascending(&r, last, uint64(t.readMove(&r)))
	}
	if r.Err() == nil {
		t.checkMoves(&r)
	}
	for n, last := r.Array(), NodeID(""); n > 0 && r.Err() == nil; n-- {
		node := NodeID(r.Text())
		if CheckNodeID(node) != nil || node <= last {
			r.Fail("the blocked nodes are sorted node ids")
		}
		t.blocked[node], last = true, node
	}
	r.End()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("a snapshot of the table: %w", err)
	}
	return t, nil
}

// ascending refuses ids that are not in order, so that a table has one way to be written.
func ascending(r *abi.Reader, last, id uint64) uint64 {
	if r.Err() == nil && id <= last {
		r.Fail(fmt.Sprintf("%d comes after %d", id, last))
	}
	return id
}

// checkMoves checks what joins slots and moves: a slot that is in a move which is not there could never move again.
func (t *Table) checkMoves(r *abi.Reader) {
	for _, g := range t.Groups() {
		for p := range g.Slots {
			slot := &g.Slots[p]
			if slot.Move == 0 {
				continue
			}
			if m := t.moves[slot.Move]; m == nil || m.Released != 0 || m.Group != g.ID || m.From != slot.Owner || !m.Partitions.Has(Partition(p)) {
				r.Fail(fmt.Sprintf("partition %d of group %d cannot be in move %d", p, g.ID, slot.Move))
				return
			}
		}
	}
	for _, m := range t.Moves() {
		g := t.groups[m.Group]
		if t.sessions[m.To] == nil || m.Released == 0 && (g == nil || t.sessions[m.From] == nil) {
			r.Fail(fmt.Sprintf("move %d is of what is not there", m.ID))
			return
		}
		for p := range m.Partitions.All {
			if m.Released == 0 && g.Slots[p].Move != m.ID {
				r.Fail(fmt.Sprintf("partition %d of group %d is in move %d", p, g.ID, m.ID))
				return
			}
		}
	}
}

func (t *Table) readSession(r *abi.Reader) SessionID {
	s := &Session{}
	if r.Array() != 9 {
		r.Fail("a session has nine items")
	}
	s.ID, s.Node, s.Boot = SessionID(r.Uint()), NodeID(r.Text()), r.Uint()
	s.Authority, s.Weight, s.Kinds, s.Draining = r.Text(), r.Uint32(), readTexts(r, maxKindsOfNode), r.Bool()
	s.Speaks, s.Renewed = r.Uint32(), r.Uint()
	if r.Err() != nil {
		return 0
	}
	kinds, fault := checkHosted(s.Kinds)
	switch {
	case fault != "":
		r.Fail(fault)
	case !slices.Equal(kinds, s.Kinds):
		r.Fail("the kinds of a session are sorted")
	case s.ID == 0 || uint64(s.ID) > t.last || s.Renewed > t.index || s.Weight == 0 || s.Speaks == 0:
		r.Fail(fmt.Sprintf("session %d cannot be", s.ID))
	}
	if err := s.member().check(); err != nil {
		r.Fail(err.Error())
	}
	t.sessions[s.ID] = s
	return s.ID
}

func (t *Table) readGroup(r *abi.Reader) GroupID {
	g := &Group{}
	if r.Array() != 3 {
		r.Fail("a group has three items")
	}
	g.ID, g.Kinds = GroupID(r.Uint()), readTexts(r, maxCommands)
	var all PartitionSet
	first := -1
	runs := make(map[Slot]bool)
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		if r.Array() != 5 {
			r.Fail("a slot has five items")
		}
		slot := Slot{Owner: SessionID(r.Uint()), Epoch: abi.Epoch{Generation: r.Uint32(), Index: r.Uint()}, Move: MoveID(r.Uint())}
		var set PartitionSet
		if !set.read(r.Bytes()) || slot.Epoch.Index > t.index || slot.Epoch.Generation > t.generation ||
			slot.Owner != 0 && t.sessions[slot.Owner] == nil || runs[slot] || set.first() <= first {
			r.Fail(fmt.Sprintf("a slot of group %d cannot be", g.ID))
			return 0
		}
		runs[slot], first = true, set.first()
		for p := range set.All {
			if all.Has(p) {
				r.Fail(fmt.Sprintf("partition %d of group %d stands twice", p, g.ID))
			}
			all.Add(p)
			g.Slots[p] = slot
		}
	}
	switch {
	case r.Err() != nil:
		return 0
	case g.ID == 0 || uint64(g.ID) > t.last || len(g.Kinds) == 0 || all.Len() != Partitions || !slices.IsSorted(g.Kinds):
		r.Fail(fmt.Sprintf("group %d cannot be", g.ID))
	}
	t.groups[g.ID] = g
	for _, k := range g.Kinds {
		if t.byKind[k] != 0 {
			r.Fail("a kind is in two groups")
		}
		if err := abi.CheckKind(k); err != nil {
			r.Fail(err.Error())
		}
		t.byKind[k] = g.ID
	}
	return g.ID
}

func (t *Table) readMove(r *abi.Reader) MoveID {
	m := &Move{}
	if r.Array() != 7 {
		r.Fail("a move has seven items")
	}
	m.ID, m.Group, m.From, m.To, m.Released = MoveID(r.Uint()), GroupID(r.Uint()), SessionID(r.Uint()), SessionID(r.Uint()), r.Uint()
	if !m.Partitions.read(r.Bytes()) {
		r.Fail("these bytes are no set of partitions")
	}
	if b := r.Bytes(); len(b) > 0 {
		m.Manifest = slices.Clone(b)
	}
	if r.Err() == nil && (m.ID == 0 || uint64(m.ID) > t.last || m.Partitions == (PartitionSet{}) || len(m.Manifest) > maxManifest || m.Released > t.index) {
		r.Fail(fmt.Sprintf("move %d cannot be", m.ID))
	}
	t.moves[m.ID] = m
	return m.ID
}
