package link

import (
	"slices"
	"strings"
	"sync"

	"github.com/wasilo/wasilo/cluster"
)

// roster is what is known of other nodes from what they said on any connection, of either direction.
type roster struct {
	changed func(cluster.NodeID) // called with mu held

	mu    sync.Mutex
	nodes map[cluster.NodeID]*known
}

type known struct {
	said    hello // the last
	version uint64
	kinds   []string // never changed in place
	told    bool     // kinds is what the node said
	reached bool     // this node has connected to it, or a member that it is reached through has
	hearsay bool     // kinds is what a member said that the node said
	wires   []*wire  // connections that stand, the oldest first
}

// maxWires bounds the connections of one node. A node needs one each way, and for a moment a few more.
const maxWires = 8

// admit enters a connection, or says that it is of a run that has ended: while a newer run of the node is connected, an older one
// is another process under the same id, or what is left of it.
func (r *roster) admit(w *wire) *fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.nodes[w.peer.node]
	if k == nil {
		k = &known{}
		r.nodes[w.peer.node] = k
	}
	for _, other := range k.wires {
		if other.peer.boot > w.peer.boot {
			return &fault{reason: StaleBoot, text: "a newer run of node " + string(w.peer.node) + " is connected"}
		}
	}
	for _, other := range k.wires {
		if other.peer.boot < w.peer.boot {
			other.close(&fault{reason: StaleBoot, text: "a newer run of the node has connected"})
		}
	}
	if k.said.boot != w.peer.boot {
		k.version, k.told, k.reached, k.hearsay = 0, false, false, false
	}
	if k.hearsay { // it can say itself now
		k.version, k.hearsay = 0, false
	}
	if w.dialled && !k.reached {
		if k.reached = true; k.told {
			r.changed(w.peer.node)
		}
	}
	k.said = w.peer
	if k.wires = append(k.wires, w); len(k.wires) > maxWires {
		k.wires[0].close(&fault{reason: Flood, text: "too many connections of one node"})
	}
	return nil
}

// remove takes a connection out, if it is in.
func (r *roster) remove(w *wire) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.nodes[w.peer.node]; k != nil {
		k.wires = slices.DeleteFunc(k.wires, func(other *wire) bool { return other == w })
	}
}

// setKinds notes what a node said on w that it hosts.
func (r *roster) setKinds(w *wire, version uint64, kinds []string) {
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.nodes[w.peer.node]
	if k == nil || k.said.boot != w.peer.boot || k.told && version <= k.version {
		return
	}
	if kinds == nil {
		kinds = []string{} // none is something that it said
	}
	same := k.told && slices.Equal(k.kinds, kinds)
	k.version, k.told, k.kinds = version, true, kinds
	if !same {
		r.changed(w.peer.node)
	}
}

// hear notes what a member says of a node that it reaches and this one does not. It counts for less than what the node says itself: it is
// not taken of a node that is connected, and forgotten when that says something.
func (r *roster) hear(node cluster.NodeID, a *reachAnswer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.nodes[node]
	if k == nil {
		k = &known{}
		r.nodes[node] = k
	}
	if k.said.boot > a.boot || k.said.boot < a.boot && len(k.wires) > 0 {
		return
	}
	if k.said.boot < a.boot || k.said.node == "" {
		k.said = hello{node: node, boot: a.boot}
		k.version, k.told, k.reached, k.hearsay = 0, false, false, true
	}
	changed := !k.reached
	k.reached = true
	if a.told && len(k.wires) == 0 && (!k.told || a.version > k.version) {
		kinds := slices.Clone(a.kinds)
		slices.Sort(kinds)
		if kinds = slices.Compact(kinds); kinds == nil {
			kinds = []string{}
		}
		changed = changed || !k.told || !slices.Equal(k.kinds, kinds)
		k.version, k.told, k.kinds, k.hearsay = a.version, true, kinds, true
	}
	if changed && k.told {
		r.changed(node)
	}
}

// heardOf returns the version of what is known of a run's kinds, to be told of later ones; 0 for none.
func (r *roster) heardOf(node cluster.NodeID, boot uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.nodes[node]; k != nil && k.told && k.said.boot == boot {
		return k.version
	}
	return 0
}

// saidOf returns what a run of a node said itself that it hosts.
func (r *roster) saidOf(node cluster.NodeID, boot uint64) (kinds []string, version uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.nodes[node]
	if k == nil || !k.told || k.hearsay || k.said.boot != boot {
		return nil, 0, false
	}
	return k.kinds, k.version, true
}

// kindsOf returns what a node said last; false if it has said nothing since it started.
func (r *roster) kindsOf(node cluster.NodeID) ([]string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.nodes[node]
	if k == nil || !k.told {
		return nil, false
	}
	return k.kinds, true
}

// Reached reports whether this node has connected to another one since that started, or has found a member that does and passes messages
// on. One that connects to others and cannot be reached by them can host nothing. OnKinds is told when it becomes so, if the node has said what it hosts by then.
func (l *Link) Reached(node cluster.NodeID) bool {
	l.roster.mu.Lock()
	defer l.roster.mu.Unlock()
	k := l.roster.nodes[node]
	return k != nil && k.reached
}

// prune forgets nodes that are neither connected nor kept.
func (r *roster) prune(keep map[cluster.NodeID]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, k := range r.nodes {
		if len(k.wires) == 0 && !keep[id] {
			delete(r.nodes, id)
		}
	}
}

// Peer is what a link knows of another node.
type Peer struct {
	ID        cluster.NodeID
	Authority string // as it said, or as it was dialled
	Boot      uint64
	Mode      cluster.Mode
	Kinds     []string       // not to be changed; nil if it has not said
	Outgoing  int            // connections that this node made and that stand
	Incoming  int            // connections that it made
	InFlight  int            // requests to it that await replies
	Serving   int            // requests of it that have not been answered
	Relay     cluster.NodeID // through which messages to it go, since it cannot be reached; "" for none
	Failure   error          // why the last attempt to connect failed, or the last connection ended; nil while connected
}

// Peers returns the nodes that the link has dealt with, sorted by id.
func (l *Link) Peers() []Peer {
	all := make(map[cluster.NodeID]*Peer)
	l.roster.mu.Lock()
	wires := make(map[cluster.NodeID][]*wire)
	for id, k := range l.roster.nodes {
		p := &Peer{ID: id, Authority: k.said.authority, Boot: k.said.boot, Mode: k.said.mode}
		if k.told {
			p.Kinds = k.kinds
		}
		all[id], wires[id] = p, slices.Clone(k.wires)
	}
	l.roster.mu.Unlock()
	for id, ws := range wires {
		for _, w := range ws {
			n, _ := w.role.underway()
			if w.dialled {
				all[id].Outgoing++
				all[id].InFlight += n
			} else {
				all[id].Incoming++
				all[id].Serving += n
			}
		}
	}
	for _, p := range l.everyPeer() {
		e := all[p.id]
		if e == nil {
			e = &Peer{ID: p.id, Authority: p.authority}
			all[p.id] = e
		}
		p.mu.Lock()
		if p.cause != nil && e.Outgoing == 0 {
			e.Failure = p.cause
		}
		if d := p.detour.Load(); d != nil {
			e.Relay = d.via.id
		}
		p.mu.Unlock()
	}
	out := make([]Peer, 0, len(all))
	for _, p := range all {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Peer) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// KindsOf returns the kinds that a node hosts, sorted, as it said last; false if it has said nothing since it started. They are
// not to be changed. What a node said is kept while it is not connected.
func (l *Link) KindsOf(node cluster.NodeID) ([]string, bool) { return l.roster.kindsOf(node) }
