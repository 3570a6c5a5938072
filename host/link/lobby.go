package link

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// lobby holds the connections from outside that have not said who they are: TCP alone, in the TLS handshake, or before the hello. Each has
// Config.DialTimeout for that, and costs a descriptor and some computing. It is never full: at its bound one that is in it has to go. So whoever
// opens connections and says nothing keeps out nobody who introduces himself at once.
//
// Who goes is the one that is in it for the longest, of the origin that has most in it: whoever fills the lobby makes room by his own, and
// not by those of others. An origin is an address, or of IPv6 the network of 64 bits that one host chooses its addresses from. None has more than
// half of all; nodes of one machine or behind one translator are one origin.
type lobby struct {
	most int // Config.MaxHandshakes

	mu      sync.Mutex
	guests  []guest // the first came first
	of      map[origin]int
	crowded uint64 // those who had to go
}

type guest struct {
	c    *inbound
	raw  net.Conn
	from origin
}

// origin is the zero value for what is no IP address.
type origin netip.Prefix

// The default of Config.MaxHandshakes, and the least: a process that may open few files has others that need them.
const (
	maxGuests = 256
	minGuests = 16
)

func defaultGuests(files uint64) int {
	if files == 0 { // not known
		return maxGuests
	}
	return int(min(max(files/8, minGuests), maxGuests))
}

func originOf(a net.Addr) origin {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return origin{}
	}
	ip, bits := at.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // no address has fewer
	return origin(p)
}

// enter lets a connection in, and ends the one that has to go for it.
func (b *lobby) enter(c *inbound, raw net.Conn) {
	g := guest{c, raw, originOf(raw.RemoteAddr())}
	b.mu.Lock()
	if b.of == nil {
		b.of = make(map[origin]int)
	}
	out, full := b.room(g.from)
	b.guests = append(b.guests, g)
	b.of[g.from]++
	b.mu.Unlock()
	if full {
		out.c.close(&fault{reason: Flood, text: "there are too many connections that say nothing, and this is the oldest of those from its address"})
		_ = out.raw.Close() // ends its handshake, and gives its descriptor back
	}
}

// room makes room for one more of an origin, and returns who has to go.
func (b *lobby) room(from origin) (out guest, full bool) {
	switch {
	case b.of[from] >= max(b.most/2, 1):
	case len(b.guests) >= b.most:
		for _, g := range b.guests { // in order, for who came first to decide between equals
			if b.of[g.from] > b.of[from] {
				from = g.from
			}
		}
	default:
		return guest{}, false
	}
	i := slices.IndexFunc(b.guests, func(g guest) bool { return g.from == from }) // there is one: whoever is in has more than none
	out = b.guests[i]
	b.remove(i)
	b.crowded++
	return out, true
}

func (b *lobby) remove(i int) {
	from := b.guests[i].from
	if b.of[from]--; b.of[from] == 0 {
		delete(b.of, from)
	}
	b.guests = slices.Delete(b.guests, i, i+1)
}

// leave takes a connection out, if it is in.
func (b *lobby) leave(c *inbound) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(b.guests, func(g guest) bool { return g.c == c }); i >= 0 {
		b.remove(i)
	}
}

// counts returns how many are in, and how many had to go.
func (b *lobby) counts() (in int, crowded uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.guests), b.crowded
}
