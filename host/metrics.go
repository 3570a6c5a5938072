package host

import (
	"maps"
	"slices"

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
	if n.net != nil {
		counts := telemetry.LinkCounts(n.net.link.Stats())
		s.Link = &counts
		s.Members = map[string]int{gateway.MemberAlive: 0, gateway.MemberLeaving: 0, gateway.MemberLeft: 0, gateway.MemberFailed: 0}
		for _, m := range n.net.watch.Peers() {
			s.Members[string(m.Status)]++
		}
	}
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
