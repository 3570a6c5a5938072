package link

// Stats are a link's figures. Those that count grow for as long as the link lives.
type Stats struct {
	Outgoing int // connections that this node made and that stand
	Incoming int // connections that others made
	InFlight int // requests of this node that await replies
	Serving  int // requests of others that have not been answered
	Streams  int // open, of either direction

	Handshakes int // connections from others that have not said who they are yet

	Connected   uint64 // connections that this node made
	Reconnected uint64 // of these, to a node that it had been connected to
	Unreached   uint64 // attempts that failed
	Accepted    uint64 // connections from others that were admitted
	Refused     uint64 // connections from or to others that were not, for a fault of theirs
	Crowded     uint64 // of these, the ones that made room for others before they had said who they are
	Dropped     uint64 // connections ended for a fault of the other end
	Sent        uint64 // messages to other nodes
	Overloaded  uint64 // messages of others refused for want of room
	RelayedOut  uint64 // messages and questions of this node that went through another, since it does not reach who they were for
	RelayedIn   uint64 // those to this node that came so
	PassedOn    uint64 // those of others, to others, that went through this node
	BytesIn     uint64 // read from the network, encrypted
	BytesOut    uint64 // written to it
}

// totals is the part of the figures that connections which have ended leave behind. Link.mu guards it.
type totals struct {
	connected, reconnected, unreached, accepted, refused, dropped uint64
	sent, overloaded, in, out                                     uint64
}

// count adds a connection's figures.
func (t *totals) count(w *wire) {
	switch c := w.role.(type) {
	case *outbound:
		c.out.mu.Lock()
		t.sent += c.messages
		c.out.mu.Unlock()
	case *inbound:
		c.out.mu.Lock()
		t.overloaded += c.refused
		c.out.mu.Unlock()
	}
	if s := w.socket(); s != nil {
		t.in += s.received.Load()
		t.out += s.sent.Load()
	}
}

// admitted counts a connection from outside.
func (l *Link) admitted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.past.accepted++
}

// tally counts a peer that was refused, or dropped once it was connected.
func (l *Link) tally(connected, blame bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !blame:
	case connected:
		l.past.dropped++
	default:
		l.past.refused++
	}
}

// Stats returns the link's figures.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.past
	var s Stats
	for w := range l.alive {
		t.count(w)
		n, _ := w.role.underway()
		if w.dialled {
			s.InFlight += n
		} else {
			s.Serving += n
		}
	}
	for w := range l.standing {
		if w.dialled {
			s.Outgoing++
		} else {
			s.Incoming++
		}
	}
	s.Streams = len(l.streams)
	s.Handshakes, s.Crowded = l.lobby.counts()
	s.RelayedOut, s.RelayedIn, s.PassedOn = l.relayedOut.Load(), l.relayedIn.Load(), l.passedOn.Load()
	s.Connected, s.Reconnected, s.Unreached, s.Accepted = t.connected, t.reconnected, t.unreached, t.accepted
	s.Refused, s.Dropped, s.Sent, s.Overloaded, s.BytesIn, s.BytesOut = t.refused, t.dropped, t.sent, t.overloaded, t.in, t.out
	return s
}
