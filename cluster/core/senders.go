package core

import "github.com/wasilo/wasilo/abi"

// Senders is what a node knows, beyond its view, of the epochs under which those actors run that send to it: messages have shown it, from nodes
// that have heard more of the log. It believes them until it has heard as much. It belongs to one caller at a time. The zero value knows nothing.
type Senders struct {
	ahead map[sender]shown
	heard abi.Epoch // how far this node has heard of the log
}

// sender is a partition of a kind: all its actors run under one epoch.
type sender struct {
	kind string
	part Partition
}

// shown is the epoch of a sender, and which node has shown it.
type shown struct {
	epoch abi.Epoch
	by    NodeID
}

const (
	// maxAhead bounds what is known beyond the view: a few entries for as long as this node is a moment behind, and as much as that for a node that is
	// cut off from all voters and not from the others.
	maxAhead = 4 * Partitions
	// maxLag is by how many entries of the log this node may be behind a message. It hears of the log every half second, in which there are some
	// tens; what is further ahead has to wait, and so does who makes it up: what is false this far ahead is found out soon.
	maxLag = 1000
)

// Verdict says what to do with a message, by the epoch of its sender.
type Verdict uint8

// The verdicts.
const (
	// Current: take it.
	Current Verdict = iota
	// Replaced: another activation has taken its sender's place since. Refuse it for good.
	Replaced
	// Invented: the log has never given its sender that epoch. Refuse it for good.
	Invented
	// FarAhead: its sender knows of so much more of the log than this node that it may as well be made up. Refuse it until this node knows more.
	FarAhead
)

// Judge says whether a message comes from an activation that has been replaced since: the view has a newer epoch of it, or a message under
// a newer one has come before. It takes note of an epoch that is news, and of the node that it came from.
func (s *Senders) Judge(v *View, caller Identity, epoch abi.Epoch, from NodeID) Verdict {
	if a := v.Assigned(); a != nil {
		s.hear(abi.Epoch{Generation: a.Generation, Index: a.Index})
	}
	who := sender{caller.Kind(), PartitionOf(caller)}
	known := v.Epoch(who.kind, who.part)
	newest := known
	ahead, noted := s.ahead[who]
	if newest.Less(ahead.epoch) {
		newest = ahead.epoch
	}
	switch {
	case epoch.Less(newest):
		if planted(bugStaleSender) {
			return Current
		}
		return Replaced
	case epoch == newest:
		return Current
	case !s.heard.Less(epoch):
		if known == (abi.Epoch{}) { // nobody hosts the kind any more, and what was is forgotten
			return Current
		}
		return Invented
	case epoch.Generation != s.heard.Generation || epoch.Index-s.heard.Index > maxLag:
		return FarAhead
	case noted || len(s.ahead) < maxAhead:
		if s.ahead == nil {
			s.ahead = make(map[sender]shown)
		}
		s.ahead[who] = shown{epoch, from}
	}
	return Current
}

// Claim is an epoch of a sender that a message has shown.
type Claim struct {
	Kind      string
	Partition Partition
	Epoch     abi.Epoch
	From      NodeID // the node that sent the message
}

// Settle forgets what a view knows by now, and what cannot be so since this node has heard of the log up to upTo and the view does not show it: that is
// what it returns. The view must be no older than upTo.
func (s *Senders) Settle(v *View, upTo abi.Epoch) (invented []Claim) {
	s.hear(upTo)
	for who, c := range s.ahead {
		known := v.Epoch(who.kind, who.part)
		switch {
		case !known.Less(c.epoch):
			delete(s.ahead, who)
		case !s.heard.Less(c.epoch):
			delete(s.ahead, who)
			if known != (abi.Epoch{}) {
				invented = append(invented, Claim{who.kind, who.part, c.epoch, c.by})
			}
		}
	}
	return invented
}

func (s *Senders) hear(upTo abi.Epoch) {
	if s.heard.Less(upTo) {
		s.heard = upTo
	}
}

// Len returns of how many partitions it knows more than the view that it was last settled with.
func (s *Senders) Len() int { return len(s.ahead) }
