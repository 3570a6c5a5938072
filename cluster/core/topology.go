package core

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Topology is a snapshot of the cluster's members. It never changes.
type Topology struct {
	members []Member // sorted by id
	hash    uint64
}

// NewTopology makes a snapshot of members, in whatever order they come. The error wraps [ErrInvalidNodeID],
// [ErrInvalidAuthority], [ErrInvalidWeight] or [ErrDuplicateNode] and names the member.
func NewTopology(members ...Member) (*Topology, error) {
	t := &Topology{members: slices.Clone(members)}
	slices.SortFunc(t.members, func(a, b Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	for i, m := range t.members {
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("member %q at %q: %w", m.ID, m.Authority, err)
		}
		if i > 0 && t.members[i-1].ID == m.ID {
			return nil, fmt.Errorf("members %q at %q and at %q: %w", m.ID, t.members[i-1].Authority, m.Authority, ErrDuplicateNode)
		}
	}
	for i := range t.members {
		if t.members[i].Weight == 1 {
			t.members[i].Weight = 0 // one way to write each
		}
	}
	t.hash = t.sum()
	return t, nil
}

// sum hashes everything a decision could depend on, each part with its length so that no two lists of members read alike.
func (t *Topology) sum() uint64 {
	var d xxhash.Digest
	d.Reset()
	var n [8]byte
	text := func(s string) {
		binary.LittleEndian.PutUint64(n[:], uint64(len(s)))
		_, _ = d.Write(n[:])
		_, _ = d.WriteString(s)
	}
	for _, m := range t.members {
		text(string(m.ID))
		text(m.Authority)
		binary.LittleEndian.PutUint64(n[:], m.Boot)
		_, _ = d.Write(n[:])
		if m.Weight != 0 { // no id is so long that its length would read like this
			binary.LittleEndian.PutUint64(n[:], 1<<63|uint64(m.Weight))
			_, _ = d.Write(n[:])
		}
	}
	return d.Sum64()
}

// Hash is equal for equal sets of members, whatever their order.
func (t *Topology) Hash() uint64 { return t.hash }

// Len returns how many members there are.
func (t *Topology) Len() int { return len(t.members) }

// Members returns the members sorted by id, as a copy.
func (t *Topology) Members() []Member { return slices.Clone(t.members) }

// Member finds a member by its id.
func (t *Topology) Member(id NodeID) (Member, bool) {
	i, ok := slices.BinarySearchFunc(t.members, id, func(m Member, id NodeID) int {
		return strings.Compare(string(m.ID), string(id))
	})
	if !ok {
		return Member{}, false
	}
	return t.members[i], true
}
