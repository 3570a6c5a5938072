package core

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// Placing says how a [View] places a kind.
type Placing uint8

// The outcomes of placing an actor of some kind.
const (
	Placed      Placing = iota // on a member
	UnknownKind                // nobody hosts the kind, and this node has not registered it
	NoMember                   // no member hosts it at present; but it is registered here, or a host of it was lost
	AllBlocked                 // every member that hosts it is on the block list
	Unowned                    // the log gives the partition to nobody at present
)

// View is who owns what: computed once when members, hosted kinds or the block list change, then only read. Kinds with the
// same set of hosts form a placement group and share one table of [Partitions] owners. A View never changes.
type View struct {
	topology *Topology
	kinds    map[string]kindPlace
	groups   map[string]*group // by groupKey
	assigned *Assignments      // what it was computed from where the voters' log decides, otherwise nil
}

type kindPlace struct {
	group   *group // nil: nobody can host it
	placing Placing
	// withdrawn: the log has a group for it, and nobody hosts it any more. Who owned something of it owns that still, so that it goes on where
	// it is when the kind comes back; until then there is nobody to be asked for it.
	withdrawn bool
}

// group is the placement of every partition among one set of hosts.
type group struct {
	hosts  []Member // sorted by id
	owners [Partitions]uint16

	// Where the log decides:
	key      string
	slots    *Group
	sessions []SessionID // of hosts
}

// hosting is what a view is computed from, besides the topology.
type hosting struct {
	registered []string            // kinds that this node may call though nobody hosts them
	hosted     map[NodeID][]string // kinds by host
	blocked    map[NodeID]struct{}
	// missed are the kinds of hosts that were lost, or told that they leave: they are not unknown, the host may come back or another
	// take over.
	missed map[NodeID]absence
}

// absence is what a host that is gone had, and since when it is gone.
type absence struct {
	kinds []string
	since time.Duration
}

// maxMissed bounds the hosts that are missed, missedFor how long one is: by then nobody waits for it any more, and a kind that
// nobody else hosts is unknown.
const (
	maxMissed = 256
	missedFor = time.Minute
)

func (h *hosting) miss(host NodeID, kinds []string, now time.Duration) {
	for other, a := range h.missed {
		if now-a.since >= missedFor {
			delete(h.missed, other)
		}
	}
	if len(kinds) > 0 && len(h.missed) < maxMissed {
		h.missed[host] = absence{kinds, now}
	}
}

// misses reports whether a host of a kind is gone, but not for long.
func (h *hosting) misses(kind string, now time.Duration) bool {
	for _, a := range h.missed {
		if _, ok := slices.BinarySearch(a.kinds, kind); ok && now-a.since < missedFor {
			return true
		}
	}
	return false
}

// found says that a host is there with kinds now, and had others before. What it has withdrawn is missed no more.
func (h *hosting) found(host NodeID, before, now []string) {
	delete(h.missed, host)
	for _, kind := range before {
		if _, still := slices.BinarySearch(now, kind); still {
			continue
		}
		for other, a := range h.missed {
			if i, ok := slices.BinarySearch(a.kinds, kind); ok {
				h.missed[other] = absence{slices.Delete(slices.Clone(a.kinds), i, i+1), a.since}
			}
		}
	}
}

// newView computes a view. Groups of prev whose hosts are the same are reused.
func newView(prev *View, t *Topology, h *hosting, s Strategy) *View {
	v := &View{topology: t, kinds: make(map[string]kindPlace), groups: make(map[string]*group)}
	for _, kind := range h.registered {
		v.kinds[kind] = kindPlace{placing: NoMember}
	}
	for _, a := range h.missed {
		for _, kind := range a.kinds {
			v.kinds[kind] = kindPlace{placing: NoMember}
		}
	}
	if t == nil {
		return v
	}
	able := make(map[string][]byte) // by kind, the hosts: two bytes of each one's place among the members, in order
	for i, m := range t.members {
		_, blocked := h.blocked[m.ID]
		for _, kind := range h.hosted[m.ID] {
			if blocked {
				v.kinds[kind] = kindPlace{placing: AllBlocked}
			} else {
				able[kind] = binary.BigEndian.AppendUint16(able[kind], uint16(i))
			}
		}
	}
	made := make(map[string]*group) // by the hosts' places; most kinds have those of another
	for kind, hosts := range able {
		g := made[string(hosts)]
		if g == nil {
			g = v.group(prev, hosts, s)
			made[string(hosts)] = g
		}
		v.kinds[kind] = kindPlace{group: g, placing: Placed}
	}
	return v
}

// group finds or makes the placement among the members at the places given.
func (v *View) group(prev *View, places []byte, s Strategy) *group {
	hosts := make([]Member, 0, len(places)/2)
	for ; len(places) > 0; places = places[2:] {
		hosts = append(hosts, v.topology.members[binary.BigEndian.Uint16(places)])
	}
	key := groupKey(hosts)
	var g *group
	if prev != nil {
		g = prev.groups[key]
	}
	if g == nil {
		g = &group{hosts: hosts}
		s.Place(hosts, &g.owners)
	}
	v.groups[key] = g
	return g
}

// Moved says which partitions have another owner than before, for any kind; nil: none has.
type Moved [Partitions]bool

// moved compares v with the view before it.
func (v *View) moved(prev *View) *Moved {
	var all *Moved
	type change struct {
		from, to *group
		gone     bool // there is nobody to be asked for it any more, whoever owns it
	}
	seen := make(map[change]bool)
	for kind, was := range prev.kinds {
		now := v.kinds[kind]
		c := change{was.group, now.group, now.withdrawn && !was.withdrawn}
		if c.from == c.to && !c.gone || c.from == nil || seen[c] { // what nobody hosted had no actors
			continue
		}
		seen[c] = true
		if all == nil {
			all = new(Moved)
		}
		for p := range all {
			all[p] = all[p] || c.gone || !c.from.same(c.to, p)
		}
	}
	return all
}

// lost returns what self owned in prev and does not own in v, by kind in order of names.
func (v *View) lost(prev *View, self NodeID) (all []loss) {
	type change struct{ from, to *group }
	seen := make(map[change]*Moved)
	for kind, was := range prev.kinds {
		c := change{was.group, v.kinds[kind].group}
		if c.from == c.to || c.from == nil {
			continue
		}
		parts, done := seen[c]
		if !done {
			parts = c.from.lost(c.to, self)
			seen[c] = parts
		}
		if parts != nil {
			all = append(all, loss{kind, parts})
		}
	}
	slices.SortFunc(all, func(a, b loss) int { return strings.Compare(a.kind, b.kind) })
	return all
}

// loss is what a node has lost of one kind. The partitions are shared among kinds and never change.
type loss struct {
	kind       string
	partitions *Moved
}

// lost returns the partitions that self owns in g and not in to, which may be nil; nil: none.
func (g *group) lost(to *group, self NodeID) (parts *Moved) {
	for p := range g.owners {
		if !g.owns(self, p) || to.owns(self, p) && (g.slots == nil || g.assignedAs(to, p)) {
			continue
		}
		if parts == nil {
			parts = new(Moved)
		}
		parts[p] = true
	}
	return parts
}

// owner returns nil where the log names none.
func (g *group) owner(p int) *Member {
	if i := g.owners[p]; i != noOwner {
		return &g.hosts[i]
	}
	return nil
}

// owns reports whether a node owns a partition in g, which may be nil.
func (g *group) owns(node NodeID, p int) bool {
	if g == nil {
		return false
	}
	m := g.owner(p)
	return m != nil && m.ID == node
}

// assignedAs reports whether the log gives a partition to one session in g and to, under the same epoch. What else is known of the session may
// have changed.
func (g *group) assignedAs(to *group, p int) bool {
	if to.slots == nil {
		return false
	}
	a, b := &g.slots.Slots[p], &to.slots.Slots[p]
	return a.Owner == b.Owner && a.Epoch == b.Epoch
}

// same reports whether g and to, which may be nil, have one owner of a partition, under the same epoch.
func (g *group) same(to *group, p int) bool {
	if to == nil {
		return false
	}
	if g.slots != nil && to.slots != nil {
		return g.assignedAs(to, p) && (g.owner(p) == nil || to.owner(p) != nil && *g.owner(p) == *to.owner(p))
	}
	a, b := g.owner(p), to.owner(p)
	return a == b || a != nil && b != nil && *a == *b
}

// groupKey tells sets of hosts apart, runs of one node included.
func groupKey(hosts []Member) string {
	var b strings.Builder
	var boot [10]byte
	for _, m := range hosts {
		b.WriteString(string(m.ID))
		b.WriteByte(0)
		b.WriteString(m.Authority)
		b.WriteByte(0)
		binary.LittleEndian.PutUint64(boot[:], m.Boot)
		binary.LittleEndian.PutUint16(boot[8:], m.Weight)
		b.Write(boot[:])
	}
	return b.String()
}

// Topology returns the snapshot that the view was computed from, nil before the first.
func (v *View) Topology() *Topology { return v.topology }

// Kinds returns every kind that can be named, sorted.
func (v *View) Kinds() []string {
	kinds := make([]string, 0, len(v.kinds))
	for k, place := range v.kinds {
		if !place.withdrawn {
			kinds = append(kinds, k)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// Hosts returns the members among which a kind is placed, sorted by id. The slice must not be changed.
func (v *View) Hosts(kind string) []Member {
	if k := v.kinds[kind]; k.group != nil && !k.withdrawn {
		return k.group.hosts
	}
	return nil
}

// Owner returns the member that owns partition p of a kind. The member is nil unless the placing is [Placed]; it is shared
// and must not be changed.
func (v *View) Owner(kind string, p Partition) (*Member, Placing) {
	k, known := v.kinds[kind]
	switch {
	case !known:
		return nil, UnknownKind
	case k.group == nil:
		return nil, k.placing
	case k.withdrawn:
		return nil, NoMember
	}
	if m := k.group.owner(int(p)); m != nil {
		return m, Placed
	}
	return nil, Unowned
}

// OwnerOf returns the member that owns an actor; see [View.Owner].
func (v *View) OwnerOf(id Identity) (*Member, Placing) { return v.Owner(id.Kind(), PartitionOf(id)) }
