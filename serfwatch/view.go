package serfwatch

import (
	"cmp"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/serf/serf"

	"github.com/wasilo/wasilo/cluster"
)

// Status is how a node of the cluster is, as far as gossip knows.
type Status string

// The statuses, the best first.
const (
	Alive   Status = "alive"
	Leaving Status = "leaving" // still counts as a member
	Left    Status = "left"    // said so
	Failed  Status = "failed"  // did not answer
)

// rank orders statuses: of two runs of one node the one of lower rank is listed, and of the same rank the newer. How a run
// ended does not matter for that: a node that was killed, started again and then left has left.
func (s Status) rank() int {
	if !s.present() {
		return 2
	}
	return slices.Index([]Status{Alive, Leaving}, s)
}

func (s Status) present() bool { return s == Alive || s == Leaving }

// Peer is a node as gossip shows it, this one included.
type Peer struct {
	cluster.Node
	Mode   cluster.Mode
	Status Status
	// Gossip is the host:port that its gossip comes from.
	Gossip string
	// Tags are those that it was configured with.
	Tags map[string]string
	// Duplicate marks a node that lives while a newer run with the same id does: it is in no topology.
	Duplicate bool
}

// picture is what the member list of serf comes to. It never changes.
type picture struct {
	topology *cluster.Topology
	peers    []Peer                      // the best of each id, and duplicates; sorted by id, duplicates after the one used
	live     map[netip.AddrPort]struct{} // where the gossip of present peers comes from
	present  int                         // peers but this node, clients too
	ignored  []ignored
	// misplaced is the reason why the first of those ignored is, by name, whose placement is not this node's; nil: there is none.
	misplaced error
}

// ignored is a member of the gossip that is not of the cluster, for a reason.
type ignored struct{ name, gossip, reason string }

// draw computes the picture from the member list, in whatever order that is. self is always present and trusted: it is what this
// node says, whatever others say of it.
func draw(self said, members []serf.Member) (picture, error) {
	p := picture{live: make(map[netip.AddrPort]struct{}, len(members))}
	for _, m := range members {
		addr, _ := netip.AddrFromSlice(m.Addr)
		gossip := netip.AddrPortFrom(addr.Unmap(), m.Port)
		status := statusOf(m.Status)
		if status == "" {
			continue
		}
		s := self
		if m.Name == self.name() {
			if !status.present() {
				status = Leaving
			}
		} else {
			var err error
			if s, err = read(m.Name, m.Tags, self); err != nil {
				if status.present() {
					p.ignored = append(p.ignored, ignored{plain(m.Name, 100), addressOf(m), err.Error()})
					p.mismatch(err)
				}
				continue
			}
			if status.present() {
				p.live[gossip] = struct{}{}
				p.present++
			}
		}
		p.peers = append(p.peers, Peer{Node: s.node, Mode: s.mode, Status: status, Gossip: addressOf(m), Tags: s.extra})
	}
	slices.SortFunc(p.peers, func(a, b Peer) int {
		return cmp.Or(strings.Compare(string(a.ID), string(b.ID)), cmp.Compare(a.Status.rank(), b.Status.rank()),
			cmp.Compare(b.Boot, a.Boot))
	})
	slices.SortFunc(p.ignored, func(a, b ignored) int { return strings.Compare(a.name, b.name) })
	var nodes []cluster.Node
	kept := p.peers[:0]
	for _, peer := range p.peers {
		if n := len(kept); n > 0 && kept[n-1].ID == peer.ID {
			if !peer.Status.present() {
				continue // a former run of a node that is listed already
			}
			peer.Duplicate = true
		} else if peer.Status.present() && peer.Mode == cluster.Member {
			nodes = append(nodes, peer.Node)
		}
		kept = append(kept, peer)
	}
	p.peers = kept
	var err error
	p.topology, err = cluster.NewTopology(nodes...)
	return p, err
}

// mismatch notes that a member is ignored for its placement. The least text is kept, so that the order of members does not matter.
func (p *picture) mismatch(err error) {
	var e *placementError
	if errors.As(err, &e) && (p.misplaced == nil || err.Error() < p.misplaced.Error()) {
		p.misplaced = err
	}
}

// used returns the peers that have their id, by it.
func (p *picture) used() map[cluster.NodeID]Peer {
	m := make(map[cluster.NodeID]Peer, len(p.peers))
	for _, peer := range p.peers {
		if peer.Status.present() && !peer.Duplicate {
			m[peer.ID] = peer
		}
	}
	return m
}

// duplicates returns pairs of present peers with one id: the one used, then the other.
func (p *picture) duplicates() [][2]Peer {
	var pairs [][2]Peer
	var used Peer
	for _, peer := range p.peers {
		if peer.Duplicate {
			pairs = append(pairs, [2]Peer{used, peer})
		} else {
			used = peer
		}
	}
	return pairs
}

// clone returns the peers for somebody who may change them.
func (p *picture) clone() []Peer {
	peers := slices.Clone(p.peers)
	for i := range peers {
		peers[i].Tags = maps.Clone(peers[i].Tags)
	}
	return peers
}

func statusOf(s serf.MemberStatus) Status {
	switch s {
	case serf.StatusAlive:
		return Alive
	case serf.StatusLeaving:
		return Leaving
	case serf.StatusLeft:
		return Left
	case serf.StatusFailed:
		return Failed
	}
	return ""
}

func addressOf(m serf.Member) string {
	return net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port)))
}
