package link

import (
	"net"
	"slices"
	"sync"
	"time"
)

// lobby holds the connections from outside that have not said who they are. It is never full: at its bound the one that is in it
// for the longest has to go. So whoever opens connections and says nothing keeps out nobody who introduces himself at once.
type lobby struct {
	mu     sync.Mutex
	guests []guest // the first came first
}

type guest struct {
	c   *inbound
	raw net.Conn
}

// maxGuests bounds the connections in the lobby.
const maxGuests = 256

// enter lets a connection in.
func (b *lobby) enter(c *inbound, raw net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.guests) == maxGuests {
		first := b.guests[0]
		b.guests = slices.Delete(b.guests, 0, 1)
		first.c.close(&fault{reason: Flood, text: "there are too many connections that say nothing, and this is the oldest"})
		_ = first.raw.SetDeadline(time.Unix(1, 0)) // ends its handshake
	}
	b.guests = append(b.guests, guest{c, raw})
}

// leave takes a connection out, if it is in.
func (b *lobby) leave(c *inbound) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.guests = slices.DeleteFunc(b.guests, func(g guest) bool { return g.c == c })
}
