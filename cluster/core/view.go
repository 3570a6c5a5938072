package core

import (
	"encoding/binary"
	"slices"
	"strings"
)

// Placing says how a [View] places a kind.
type Placing uint8

// The outcomes of placing an actor of some kind.
const (
	Placed      Placing = iota // on a member
	UnknownKind                // nobody hosts the kind, and this node has not registered it
	NoMember                   // registered here, but no member hosts it at present
	AllBlocked                 // every member that hosts it is on the block list
)

// View is who owns what: computed once when members, hosted kinds or the block list change, then only read. Kinds with the
// same set of hosts form a placement group and share one table of [Partitions] owners. A View never changes.
type View struct {
	topology *Topology
	kinds    map[string]*kindPlace
}

type kindPlace struct {
	group   *group // nil: nobody can host it
	placing Placing
}

// group is the placement of every partition among one set of hosts.
type group struct {
	hosts  []Member // sorted by id
	owners [Partitions]uint16
}

// hosting is what a view is computed from, besides the topology.
type hosting struct {
	registered []string            // kinds that this node may call though nobody hosts them
	hosted     map[NodeID][]string // kinds by host
	blocked    map[NodeID]struct{}
}

// newView computes a view. Groups of prev whose hosts are the same are reused.
func newView(prev *View, t *Topology, h *hosting, s Strategy) *View {
	v := &View{topology: t, kinds: make(map[string]*kindPlace)}
	for _, kind := range h.registered {
		v.kinds[kind] = &kindPlace{placing: NoMember}
	}
	if t == nil {
		return v
	}
	able := make(map[string][]Member) // by kind; in order of id, since the members are
	for _, m := range t.members {
		_, blocked := h.blocked[m.ID]
		for _, kind := range h.hosted[m.ID] {
			k := v.kinds[kind]
			if k == nil {
				k = &kindPlace{placing: NoMember}
				v.kinds[kind] = k
			}
			if blocked {
				k.placing = AllBlocked
			} else {
				able[kind] = append(able[kind], m)
			}
		}
	}
	groups := make(map[string]*group)
	if prev != nil {
		for _, k := range prev.kinds {
			if k.group != nil {
				groups[groupKey(k.group.hosts)] = k.group
			}
		}
	}
	for kind, hosts := range able {
		key := groupKey(hosts)
		g := groups[key]
		if g == nil {
			g = &group{hosts: hosts}
			ids := make([]NodeID, len(hosts))
			for i, m := range hosts {
				ids[i] = m.ID
			}
			s.Place(ids, &g.owners)
			groups[key] = g
		}
		*v.kinds[kind] = kindPlace{group: g, placing: Placed}
	}
	return v
}

// groupKey tells sets of hosts apart, runs of one node included.
func groupKey(hosts []Member) string {
	var b strings.Builder
	var boot [8]byte
	for _, m := range hosts {
		b.WriteString(string(m.ID))
		b.WriteByte(0)
		b.WriteString(m.Authority)
		b.WriteByte(0)
		binary.LittleEndian.PutUint64(boot[:], m.Boot)
		b.Write(boot[:])
	}
	return b.String()
}

// Topology returns the snapshot that the view was computed from, nil before the first.
func (v *View) Topology() *Topology { return v.topology }

// Kinds returns every kind that can be named, sorted.
func (v *View) Kinds() []string {
	kinds := make([]string, 0, len(v.kinds))
	for k := range v.kinds {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	return kinds
}

// Hosts returns the members among which a kind is placed, sorted by id. The slice must not be changed.
func (v *View) Hosts(kind string) []Member {
	if k := v.kinds[kind]; k != nil && k.group != nil {
		return k.group.hosts
	}
	return nil
}

// Owner returns the member that owns partition p of a kind. The member is nil unless the placing is [Placed]; it is shared
// and must not be changed.
func (v *View) Owner(kind string, p Partition) (*Member, Placing) {
	k := v.kinds[kind]
	if k == nil {
		return nil, UnknownKind
	}
	if k.group == nil {
		return nil, k.placing
	}
	return &k.group.hosts[k.group.owners[p]], Placed
}

// OwnerOf returns the member that owns an actor; see [View.Owner].
func (v *View) OwnerOf(id Identity) (*Member, Placing) { return v.Owner(id.Kind(), PartitionOf(id)) }
