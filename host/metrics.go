package host

import (
	"maps"
	"slices"
	"time"

	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/telemetry"
)

// snapshot is what the node counts by itself, for /metrics.
func (n *Node) snapshot() telemetry.Snapshot {
	st := n.silo.Stats()
	s := telemetry.Snapshot{Version: n.cfg.Version, Bytes: st.Bytes, Evictions: st.Evictions, Waiting: st.Waiting,
		Sleepers: st.Sleepers, Asleep: st.SleepBytes, Dropped: st.Dropped, Modules: make(map[string]int)}
	for _, f := range n.Files() {
		s.Modules[f.State]++
	}
	if a := n.budget.now.Load(); a != nil {
		s.Memory = a.counts()
	}
	if n.gateway != nil {
		counts := telemetry.GatewayCounts(n.gateway.Conns())
		s.Gateway = &counts
	}
	if n.net != nil {
		counts := telemetry.LinkCounts(n.net.link.Stats())
		s.Link = &counts
		s.Members = map[string]int{gateway.MemberAlive: 0, gateway.MemberLeaving: 0, gateway.MemberLeft: 0, gateway.MemberFailed: 0}
		for _, m := range n.net.watch.Peers() {
			s.Members[string(m.Status)]++
		}
	}
	s.Quorum = n.quorumCounts()
	n.counters.mu.Lock()
	byKind := maps.Clone(n.counters.byKind)
	n.counters.mu.Unlock()
	serving := n.kinds.Load().byName
	for _, name := range slices.Sorted(maps.Keys(byKind)) {
		c := byKind[name]
		s.Kinds = append(s.Kinds, telemetry.KindCounts{Kind: name, Turns: c.Turns.Load(), Fuel: c.Fuel.Load(), Inline: c.Inline.Load(), Traps: c.Traps.Load(),
			Limits: c.Limits.Load(), Deadlocks: c.Deadlocks.Load(), MailboxFull: c.MailboxFull.Load(), Expired: c.Expired.Load(),
			Hibernations: c.Hibernations.Load(), Wakes: c.Wakes.Load(), CaptureFailures: c.CaptureFailures.Load(),
			WakeFailures: c.WakeFailures.Load(), StartFailures: c.StartFailures.Load(), HeldBack: n.silo.HeldBack(name),
			Backoff: serving[name] != nil && n.backoff(serving[name]) != nil})
	}
	return s
}

// quorumCounts is how the node stands with the voters; nil: there are none.
func (n *Node) quorumCounts() *telemetry.QuorumCounts {
	q := n.quorum
	if q == nil || !q.opened.Load() {
		return nil
	}
	s, _ := q.resident.Standing()
	c := &telemetry.QuorumCounts{Index: s.Index, Generation: s.Generation, Partitions: s.Owned, Moving: s.Moving,
		Out: telemetry.MoveCounts{Moves: n.moved.movesOut.Load(), Actors: n.moved.actorsOut.Load(), Bytes: n.moved.bytesOut.Load()},
		In:  telemetry.MoveCounts{Moves: n.moved.movesIn.Load(), Actors: n.moved.actorsIn.Load(), Bytes: n.moved.bytesIn.Load()}}
	if s.Session != 0 && !s.Until.IsZero() {
		c.Left = time.Until(s.Until)
	}
	c.Unrenewed, c.Lost = q.resident.Losses()
	if q.voter == nil {
		return c
	}
	v := q.voter.Stats()
	c.Voter = &telemetry.VoterCounts{Leads: v.Leading, Votes: v.State == consensus.Voting, Term: v.Term, Last: v.LastIndex, Applied: v.AppliedIndex,
		Proposed: v.Proposed, Refused: v.Refused, Unknown: v.Unknown}
	c.Voter.Entries, c.Voter.Took = q.office.Entries()
	return c
}
