package core

import "github.com/wasilo/wasilo/abi"

// Senders is what a node knows, beyond its view, of the epochs under which those actors run that send to it: messages have shown it, from nodes
// that have heard more of the log. It belongs to one caller at a time. The zero value knows nothing.
type Senders struct {
	ahead map[sender]abi.Epoch
}

// sender is a partition of a kind: all its actors run under one epoch.
type sender struct {
	kind string
	part Partition
}

// maxAhead bounds what is known beyond the view: a few entries for as long as this node is a moment behind, and as much as that for a node that is
// cut off from all voters and not from the others.
const maxAhead = 4 * Partitions

// Refuses reports whether a message comes from an activation that has been replaced since: the view has a newer epoch of it, or a message under
// a newer one has come before. It takes note of an epoch that is news.
func (s *Senders) Refuses(v *View, caller Identity, epoch abi.Epoch) bool {
	who := sender{caller.Kind(), PartitionOf(caller)}
	known := v.Epoch(who.kind, who.part)
	ahead, noted := s.ahead[who]
	if known.Less(ahead) {
		known = ahead
	}
	if known.Less(epoch) && (noted || len(s.ahead) < maxAhead) {
		if s.ahead == nil {
			s.ahead = make(map[sender]abi.Epoch)
		}
		s.ahead[who] = epoch
	}
	return epoch.Less(known) && !planted(bugStaleSender)
}

// Settle forgets what a view knows by now.
func (s *Senders) Settle(v *View) {
	for who, epoch := range s.ahead {
		if !v.Epoch(who.kind, who.part).Less(epoch) {
			delete(s.ahead, who)
		}
	}
}

// Len returns of how many partitions it knows more than the view that it was last settled with.
func (s *Senders) Len() int { return len(s.ahead) }
