package core

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// How the leader plans.
const (
	// Settle is how long the members and what they host must stay as they are before anything is moved for it.
	Settle = 2 * time.Second
	// MovePartitions is how many partitions one move takes along at most, MovesAtOnce in how many moves a node takes part each way.
	MovePartitions = 32
	MovesAtOnce    = 2
	// MoveTimeout is how long a move may take to be released, MoveAgain how long after one failed the same pair is not tried again.
	MoveTimeout = 30 * time.Second
	MoveAgain   = 5 * time.Second
)

// Planner decides who is to own what, from the table alone. The zero value needs a strategy.
type Planner struct {
	strategy Strategy
	hosts    string        // of all kinds, when last looked at
	since    time.Duration // when they became so
	moves    map[MoveID]pendingMove
	failed   map[pair]time.Duration
	done     *Assignments // with these there is nothing to be changed, however much time passes
}

type pair struct{ from, to SessionID }

type pendingMove struct {
	pair
	move  *Move
	began time.Duration
}

// reset forgets what an earlier leadership saw.
func (p *Planner) reset(now time.Duration) {
	*p = Planner{strategy: p.strategy, since: now, moves: make(map[MoveID]pendingMove), failed: make(map[pair]time.Duration)}
}

// Plan returns what is to be changed now. Kinds without a group and partitions without an owner are given away at once; what has an owner
// moves only after the members were the same for [Settle], or when its owner leaves or hosts it no more.
func (p *Planner) Plan(t *Table, now time.Duration) []Command {
	if p.moves == nil {
		p.reset(now)
	}
	if p.done != nil && p.done == t.snapshot {
		return nil
	}
	all := p.watch(t, now)
	able := ableHosts(t)
	if made := newGroups(t, able); len(made) > 0 {
		return append(all, made...)
	}
	var sign strings.Builder
	for _, k := range slices.Sorted(maps.Keys(able)) {
		sign.WriteString(k)
		sign.WriteString(hostsKey(able[k]))
	}
	if s := sign.String(); s != p.hosts {
		p.hosts, p.since = s, now
	}
	settled := now-p.since >= Settle
	busyOut, busyIn := make(map[SessionID]int), make(map[SessionID]int)
	for _, m := range t.moves {
		busyOut[m.From]++
		busyIn[m.To]++
	}
	for _, first := range []bool{true, false} { // what nobody can serve where it is goes before what only lies unevenly
		for _, g := range t.Groups() {
			if t.stranded(g) == first {
				all = append(all, p.planGroup(t, g, able, common(able, g.Kinds), settled, now, busyOut, busyIn)...)
			}
		}
	}
	p.done = nil
	if len(all) == 0 && settled && len(t.moves) == 0 && len(p.failed) == 0 {
		p.done = t.Assignments()
	}
	return all
}

// stranded reports whether something of a group is owned by a session that hosts none of its kinds any more.
func (t *Table) stranded(g *Group) bool {
	last := SessionID(0)
	for i := range g.Slots {
		if id := g.Slots[i].Owner; id != last {
			if s := t.sessions[id]; s != nil && !s.hostsAny(g.Kinds) {
				return true
			}
			last = id
		}
	}
	return false
}

// planGroup is Plan for one group. busyOut and busyIn count the moves of each session.
func (p *Planner) planGroup(t *Table, g *Group, able map[string][]*Session, hosts []*Session, settled bool, now time.Duration,
	busyOut, busyIn map[SessionID]int) []Command {
	orphans := slices.ContainsFunc(g.Slots[:], func(s Slot) bool { return s.Owner == 0 })
	if split := splits(t, g, able); len(split) > 0 && (settled || orphans && len(hosts) == 0) {
		return split
	}
	if len(hosts) == 0 {
		return nil
	}
	var want [Partitions]uint16
	p.place(hosts, &want)
	give := make(map[pair]*PartitionSet)
	var order []pair
	for i := range g.Slots {
		slot, to := &g.Slots[i], hosts[want[i]].ID
		if slot.Owner == to || slot.Move != 0 {
			continue
		}
		if s := t.sessions[slot.Owner]; s != nil && !settled && !s.Draining && s.hostsAny(g.Kinds) {
			continue
		}
		k := pair{slot.Owner, to}
		if give[k] == nil {
			give[k] = new(PartitionSet)
			order = append(order, k)
		}
		give[k].Add(Partition(i))
	}
	var all []Command
	for _, k := range order {
		if k.from == 0 {
			all = append(all, Command{Type: Assign, Group: g.ID, Session: k.to, Partitions: *give[k]})
		}
	}
	for _, k := range order {
		if k.from == 0 || t.superseded(k.from) || p.failed[k] > now {
			continue
		}
		left := *give[k]
		for left != (PartitionSet{}) && busyOut[k.from] < MovesAtOnce && busyIn[k.to] < MovesAtOnce {
			var some PartitionSet
			n := 0
			for i := range left.All {
				if some.Add(i); n+1 == MovePartitions {
					break
				}
				n++
			}
			for w := range left {
				left[w] &^= some[w]
			}
			busyOut[k.from]++
			busyIn[k.to]++
			all = append(all, Command{Type: BeginMove, Group: g.ID, From: k.from, Session: k.to, Partitions: some})
		}
	}
	return all
}

// place spreads the partitions over hosts, which are sorted by node.
func (p *Planner) place(hosts []*Session, owners *[Partitions]uint16) {
	members := make([]Member, len(hosts))
	for i, s := range hosts {
		members[i] = s.member()
	}
	p.strategy.Place(members, owners)
}

// watch notes how moves fare, and gives up those that take too long.
func (p *Planner) watch(t *Table, now time.Duration) (all []Command) {
	for id, m := range p.moves {
		if t.moves[id] != nil {
			continue
		}
		delete(p.moves, id)
		if t.sessions[m.from] != nil && t.sessions[m.to] != nil && !t.went(m.move) {
			p.failed[m.pair] = now + MoveAgain
		}
	}
	for _, m := range t.Moves() {
		if m.Released != 0 {
			delete(p.moves, m.ID)
			continue
		}
		seen, ok := p.moves[m.ID]
		if !ok {
			seen = pendingMove{pair{m.From, m.To}, m, now}
			p.moves[m.ID] = seen
		}
		if now-seen.began > MoveTimeout {
			all = append(all, Command{Type: AbortMove, Move: m.ID})
		}
	}
	maps.DeleteFunc(p.failed, func(_ pair, until time.Duration) bool { return until <= now })
	return all
}

// went reports whether a move that is not in the table any more was released: that, and the end of it, may have come between two looks.
func (t *Table) went(m *Move) bool {
	g := t.groups[m.Group]
	if g == nil {
		return false
	}
	for p := range m.Partitions.All {
		if g.Slots[p].Owner == m.To {
			return true
		}
	}
	return false
}

// superseded reports whether another run of its node has a newer session: then this one only waits for its end.
func (t *Table) superseded(id SessionID) bool {
	s := t.sessions[id]
	for _, o := range t.sessions {
		if s != nil && o.Node == s.Node && o.ID > s.ID {
			return true
		}
	}
	return false
}

// Taker reports whether another node than a session's may be given actors of a group.
func (t *Table) Taker(g *Group, than *Session) bool {
	for _, s := range t.sessions {
		if s.Node != than.Node && !s.Draining && !t.superseded(s.ID) && slices.ContainsFunc(g.Kinds, s.hosts) {
			return true
		}
	}
	return false
}

// ableHosts returns who may be given actors of each kind, sorted by node.
func ableHosts(t *Table) map[string][]*Session {
	var able []*Session
	for _, s := range t.Sessions() {
		if !s.Draining && !t.blocked[s.Node] && !t.superseded(s.ID) {
			able = append(able, s)
		}
	}
	slices.SortFunc(able, func(a, b *Session) int { return strings.Compare(string(a.Node), string(b.Node)) })
	kinds := make(map[string][]*Session)
	for _, s := range able {
		for _, k := range s.Kinds {
			kinds[k] = append(kinds[k], s)
		}
	}
	return kinds
}

func hostsKey(hosts []*Session) string {
	b := make([]byte, 0, 8*len(hosts)+1)
	for _, s := range hosts {
		for v := uint64(s.ID); ; v >>= 7 {
			if v < 0x80 {
				b = append(b, byte(v))
				break
			}
			b = append(b, byte(v)|0x80)
		}
	}
	return string(append(b, 0))
}

// common returns those who host every kind.
func common(able map[string][]*Session, kinds []string) []*Session {
	var all []*Session
	for i, k := range kinds {
		if i == 0 {
			all = slices.Clone(able[k])
			continue
		}
		all = slices.DeleteFunc(all, func(s *Session) bool { return !s.hosts(k) })
	}
	return all
}

// newGroups makes groups of kinds that have none, those with the same hosts together.
func newGroups(t *Table, able map[string][]*Session) (all []Command) {
	by := make(map[string][]string)
	for _, k := range slices.Sorted(maps.Keys(able)) {
		if t.byKind[k] == 0 {
			key := hostsKey(able[k])
			by[key] = append(by[key], k)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(by)) {
		all = append(all, Command{Type: Regroup, Kinds: by[key]})
	}
	return all
}

// splits takes kinds out of a group whose hosts are not those of its first kind any more.
func splits(t *Table, g *Group, able map[string][]*Session) (all []Command) {
	for _, m := range t.moves {
		if m.Group == g.ID {
			return nil
		}
	}
	by := make(map[string][]string)
	first := hostsKey(able[g.Kinds[0]])
	for _, k := range g.Kinds {
		if key := hostsKey(able[k]); key != first {
			by[key] = append(by[key], k)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(by)) {
		all = append(all, Command{Type: Regroup, Kinds: by[key]})
	}
	return all
}
