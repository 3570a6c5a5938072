package link

import (
	"sync"

	"github.com/wasilo/wasilo/cluster"
)

// notices carries what happened to the callbacks, on a goroutine of its own: none of them holds up a connection, or is called
// with a lock held.
type notices struct {
	wake chan struct{}

	mu        sync.Mutex
	kinds     []cluster.NodeID // whose kinds changed, each once
	incidents []Incident
	left      int // incidents that found no room
}

const maxNotices = 256

func (n *notices) init() { n.wake = make(chan struct{}, 1) }

func (n *notices) tell() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *notices) kindsChanged(node cluster.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.kinds {
		if other == node {
			return
		}
	}
	n.kinds = append(n.kinds, node)
	n.tell()
}

func (n *notices) incident(i Incident) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.incidents) >= maxNotices {
		n.left++
		return
	}
	n.incidents = append(n.incidents, i)
	n.tell()
}

// run delivers until the link stops.
func (n *notices) run(l *Link) {
	for {
		select {
		case <-n.wake:
		case <-l.stop:
			return
		}
		n.mu.Lock()
		kinds, incidents, left := n.kinds, n.incidents, n.left
		n.kinds, n.incidents, n.left = nil, nil, 0
		n.mu.Unlock()
		for _, node := range kinds {
			if list, ok := l.roster.kindsOf(node); ok {
				l.cfg.OnKinds(node, list)
			}
		}
		for _, i := range incidents {
			l.cfg.OnIncident(i)
		}
		if left > 0 {
			l.log.warn("incidents came faster than they were taken", "", "left_out", left)
		}
	}
}
