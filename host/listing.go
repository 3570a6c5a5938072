package host

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/link"
	"github.com/wasilo/wasilo/host/module"
	"github.com/wasilo/wasilo/host/silo"
	"github.com/wasilo/wasilo/serfwatch"
)

// Actors lists actors that are active or sleep, in order of their key.
func (n *Node) Actors(q gateway.ActorQuery) gateway.ActorPage {
	if !n.up.Load() {
		return gateway.ActorPage{Actors: []gateway.ActorInfo{}}
	}
	filter := silo.Filter{Kind: q.Kind, Active: q.State == gateway.ActorsActive, Sleep: q.State == gateway.ActorSleeping}
	rows, more := n.silo.List(filter, q.After.String(), q.Limit)
	page := gateway.ActorPage{Actors: make([]gateway.ActorInfo, 0, len(rows)), More: more}
	for _, r := range rows {
		state := gateway.ActorIdle
		switch {
		case r.Status.Closing:
			state = gateway.ActorClosing
		case r.Status.Busy:
			state = gateway.ActorRunning
		case r.Sleeps:
			state = gateway.ActorSleeping
		case r.Status.Warm:
			state = gateway.ActorWarm
		}
		page.Actors = append(page.Actors, gateway.ActorInfo{Kind: r.Identity.Kind(), ID: r.Identity.ID(), State: state,
			Version: r.Version, Since: r.Since, Last: r.LastUsed, Waiting: r.Status.Queued, Calls: r.Status.Calls, Timers: r.Status.Timers,
			Size: r.Size})
	}
	return page
}

// Members lists the nodes of the cluster as gossip and link see them, by id.
func (n *Node) Members() []gateway.MemberInfo {
	v := n.kinds.Load()
	own := make([]string, 0, len(v.sorted))
	for _, k := range v.sorted {
		own = append(own, k.Desc.Name)
	}
	if !n.up.Load() || n.net == nil {
		return []gateway.MemberInfo{{ID: n.cfg.ID, Self: true, State: gateway.MemberAlive, Mode: n.cfg.Net.Mode.String(), Linked: true, Kinds: own}}
	}
	linked := make(map[cluster.NodeID]link.Peer)
	for _, p := range n.net.link.Peers() {
		linked[p.ID] = p
	}
	blocked, votes, drains := n.blockedNodes(), n.votes(), n.drains()
	var out []gateway.MemberInfo
	for _, p := range n.net.watch.Peers() {
		m := gateway.MemberInfo{ID: string(p.ID), State: string(p.Status), Mode: p.Mode.String(), Boot: fmt.Sprintf("%016x", p.Boot),
			Link: p.Authority, Gossip: p.Gossip, HTTP: p.Tags[tagHTTP], Blocked: slices.Contains(blocked, p.ID)}
		if !p.Duplicate {
			m.Voter, m.Leads = votes(p)
			m.Draining = drains(p)
		}
		switch l, known := linked[p.ID]; {
		case p.ID == n.net.self.ID && p.Boot == n.net.self.Boot:
			m.Self, m.Linked, m.Kinds = true, true, own
		case p.Duplicate:
			m.Problem = "a newer run of the same node has taken its place"
		case known && (l.Boot == p.Boot || l.Boot == 0):
			m.Linked, m.Kinds = l.Outgoing > 0 || l.Incoming > 0, l.Kinds
			m.Relay = string(l.Relay)
			if l.Failure != nil && p.Status == serfwatch.Alive {
				m.Problem = l.Failure.Error()
			}
			if m.Relay != "" {
				m.Problem = strings.TrimPrefix("relayed through node "+m.Relay+": "+m.Problem, ": ")
			}
		}
		out = append(out, m)
	}
	return out
}

// votes returns what says of a member whether it is a voter and whether it leads them: by the log, if this node has it, else by what the
// member says of itself.
func (n *Node) votes() func(p serfwatch.Peer) (voter, leads bool) {
	q := n.quorum
	if q == nil || !q.opened.Load() {
		return func(serfwatch.Peer) (bool, bool) { return false, false }
	}
	s, _ := q.resident.Standing()
	is := func(p serfwatch.Peer) bool { return p.Tags[tagVoter] != "" }
	if q.voter != nil {
		if members, _ := q.voter.Voters(); len(members) > 0 {
			is = func(p serfwatch.Peer) bool {
				return slices.ContainsFunc(members, func(m consensus.Member) bool { return m.ID.Node == p.ID })
			}
		}
	}
	return func(p serfwatch.Peer) (bool, bool) { return is(p), p.ID == s.Leader && p.ID != "" }
}

// drains returns what says of a member whether it gives its actors away: of others by the log, of this node at once.
func (n *Node) drains() func(serfwatch.Peer) bool {
	var known map[cluster.NodeID]uint64
	if q := n.quorum; q != nil && q.opened.Load() {
		s, _ := q.resident.Standing()
		known = s.Drains
	}
	own := n.Drained().Draining
	return func(p serfwatch.Peer) bool {
		boot, is := known[p.ID]
		return is && boot == p.Boot || own && p.ID == n.net.self.ID
	}
}

// Ready reports whether the node serves: its modules are read, the cluster stands, and it is not leaving. A file that
// could not be loaded, or a kind that does not start, is shown and leaves the node ready: its other kinds serve, and another
// node would have no more luck with the same module.
func (n *Node) Ready() gateway.Readiness {
	loaded, leaving := n.loaded.Load(), n.leaving.Load()
	r := gateway.Readiness{Ready: n.serving.Load()}
	check := func(name string, ok bool, detail string) {
		r.Checks = append(r.Checks, gateway.Check{Name: name, OK: ok, Detail: detail})
	}
	switch {
	case leaving:
		check("serving", false, "the node is shutting down")
	case loaded && !n.serving.Load():
		check("serving", false, "joining the cluster")
	default:
		check("serving", true, "")
	}
	if !loaded {
		detail := "still loading"
		if n.up.Load() && n.catalog != nil {
			if loads, _ := n.catalog.Loading(); len(loads) > 0 {
				detail += ": " + loadsText(loads, time.Now())
			}
		}
		check("modules", false, detail)
		return r
	}
	bad, loading := 0, 0
	for _, f := range n.Files() {
		if !f.LoadingSince.IsZero() {
			loading++
			check("file "+f.Path, true, "loading for "+time.Since(f.LoadingSince).Truncate(100*time.Millisecond).String())
		} else if f.State != string(module.StateLoaded) {
			bad++
			check("file "+f.Path, false, f.Error)
		}
	}
	kinds := n.kinds.Load().sorted
	check("modules", true, fmt.Sprintf("%d kinds; %d files refused, %d loading", len(kinds), bad, loading))
	for _, k := range kinds {
		if b := n.backoff(k); b != nil {
			check("kind "+k.Desc.Name, false, "it "+b.String())
		}
	}
	if n.serving.Load() && n.net != nil {
		members, away := n.Members(), 0
		for _, m := range members {
			if m.Problem != "" {
				away++
				check("node "+m.ID, false, m.Problem)
			}
		}
		check("cluster", true, fmt.Sprintf("%d nodes in sight, %d of them with a problem", len(members), away))
		if n.quorum != nil {
			err := n.quorum.ready()
			if err != nil {
				r.Ready = false
				check("session", false, err.Error())
			} else {
				check("session", true, n.quorum.sessionText())
			}
			if why := n.quorum.voterDown.Load(); why != nil {
				check("voter", false, *why)
			}
		}
		if n.quorum == nil && n.Drained().Draining {
			r.Ready = false
			check("drain", false, errDrained.Error())
		}
		if n.net.outcast() {
			r.Ready = false
			check("accepted", false, "every other member refuses this node, or is refused by it: its certificate is of another authority or cluster, or has ended")
		}
	}
	st := n.silo.Stats()
	used := int64(0)
	if a := n.budget.now.Load(); a != nil {
		used = a.used
	}
	check("silo", true, fmt.Sprintf("%d activations; %d MiB of %d are used; %d actors sleep", st.Activations, used>>20, n.cfg.Limits.MaxBytes>>20,
		st.Sleepers))
	return r
}
