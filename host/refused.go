package host

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link"
)

// A process that is killed leaves a machine that refuses connections to its port, at once and to everybody. Gossip needs seconds to
// be as sure, since it cannot tell a dead node from a slow one; a refusal can: nobody listens there. So a member whose link has refused
// for [refusedTime] is put on the block list, and its actors are placed elsewhere, until it is connected again, is there in
// a new run, or gossip has noticed too. A member that merely does not answer is left to gossip, and one that another member reaches is not gone:
// it is a firewall that refuses.

const (
	refusedTime = 500 * time.Millisecond // some attempts of a link that lost its connection
	refusedLook = 100 * time.Millisecond
)

// refusals is which members refuse connections, and since when. It belongs to one goroutine.
type refusals struct {
	since   map[cluster.Node]time.Time
	blocked map[cluster.NodeID]cluster.Node
}

func newRefusals() *refusals {
	return &refusals{since: make(map[cluster.Node]time.Time), blocked: make(map[cluster.NodeID]cluster.Node)}
}

// look takes what is known at a moment, and returns the members to put on the block list and those to take off it.
func (r *refusals) look(members []cluster.Node, peers []link.Peer, now time.Time) (block, unblock []cluster.NodeID) {
	refusing := make(map[cluster.NodeID]string) // by authority
	connected := make(map[cluster.NodeID]bool)
	for _, p := range peers {
		var e *link.Error
		if connected[p.ID] = p.Outgoing > 0 || p.Incoming > 0 || p.Relay != ""; connected[p.ID] {
			continue
		}
		if errors.As(p.Failure, &e) && errors.Is(e, syscall.ECONNREFUSED) {
			refusing[p.ID] = e.Authority
		}
	}
	present := make(map[cluster.Node]bool, len(members))
	for _, m := range members {
		if r.blocked[m.ID] == m && !connected[m.ID] { // however its silence sounds by now
			present[m] = true
			continue
		}
		if refusing[m.ID] != m.Authority {
			continue
		}
		present[m] = true
		switch since, known := r.since[m]; {
		case !known:
			r.since[m] = now
		case now.Sub(since) >= refusedTime && r.blocked[m.ID] != m:
			r.blocked[m.ID] = m
			block = append(block, m.ID)
		}
	}
	for m := range r.since {
		if present[m] {
			continue
		}
		delete(r.since, m)
		if r.blocked[m.ID] == m {
			delete(r.blocked, m.ID)
			unblock = append(unblock, m.ID)
		}
	}
	return block, unblock
}

// disown says that a member which look wanted blocked was so already.
func (r *refusals) disown(id cluster.NodeID) { delete(r.blocked, id) }

// watchRefusals keeps members that refuse connections on the block list.
func (n *network) watchRefusals() {
	r := newRefusals()
	t := time.NewTicker(refusedLook)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-n.ctx.Done():
			return
		}
		top := n.runtime.View().Topology()
		if top == nil {
			continue
		}
		block, unblock := r.look(top.Members(), n.link.Peers(), time.Now())
		for _, id := range unblock {
			n.unblock(id)
		}
		for _, id := range block {
			if slices.Contains(n.runtime.Blocked(), id) { // for another reason, which is to outlast this one
				r.disown(id)
				continue
			}
			n.log.Warn("a member refuses connections, its process must have ended: its actors are placed elsewhere", "node", id)
			n.runtime.HandleBlockedNode(id)
		}
	}
}
