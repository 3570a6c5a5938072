package sim

import (
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// cached is an entry of a process's PID cache: where an actor's messages went. When it goes is for core to say (core.Route); package cluster
// and this one only do as they are told.
type cached struct {
	route core.Route
	to    *activation // nil: another node's
}

// remember enters the answer to a resolve.
func (p *proc) remember(a *actor, e *core.Effect) *cached {
	n := &cached{route: core.Route{Member: e.Member, Partition: a.part}}
	if e.Handle != nil {
		n.to = e.Handle.(*activation)
		n.route.Epoch, n.route.Serial = e.Lease.Epoch, e.Lease.Serial
	}
	if !e.Held {
		p.cache[a.i] = n
	}
	return n
}

// forget drops exactly this entry.
func (p *proc) forget(a *actor, e *cached) {
	if e != nil && p.cache[a.i] == e {
		p.cache[a.i] = nil
	}
}

// recache does to the cache what the machine wants done.
func (p *proc) recache(e *core.Effect) {
	if e.Type == core.Recheck {
		p.settle(abi.Epoch{})
	}
	for i, entry := range p.cache {
		a := p.w.actors[i]
		if entry == nil {
			continue
		}
		drop := false
		switch e.Type {
		case core.Invalidate:
			drop = a.id == e.Lease.Identity && entry.route.Epoch == e.Lease.Epoch
		case core.Recheck:
			drop = e.Moved != nil && e.Moved[a.part] && !p.machine.View().Keeps(a.kind, entry.route)
		case core.Withhold:
			drop = e.Part.Withholds(a.kind, entry.route)
		}
		if drop {
			p.w.stats.Invalidated++
			p.cache[i] = nil
		}
	}
}

// hit is the way of a request that finds its actor in the cache, as cluster.API's Send and Receive have it. It reports whether it does.
func (c *call) hit() bool {
	p, w := c.p, c.p.w
	e := p.cache[c.actor.i]
	switch {
	case e == nil || c.here && e.to == nil:
		return false
	case !w.shape.available && e.to == nil && len(c.chain) == 0 && p.local() >= p.until: // cut off, probably: nobody would know what became of it
		return false
	}
	w.stats.Hits++
	w.mon.hit(c, e)
	c.entry, c.owner = e, e.route.Member.ID
	c.tries++
	w.stats.Tries++
	if w.chance(0.05) { // much may happen between the look and the use
		try := c.tries
		w.stats.HeldEntries++
		p.after(w.between(0, 20*time.Millisecond), func() {
			if !c.ended && c.tries == try {
				c.use(e)
			}
		})
		return true
	}
	c.use(e)
	return true
}

// use sends to where an entry says.
func (c *call) use(e *cached) {
	if e.to != nil {
		c.local(e.to)
		return
	}
	c.remote(e.route.Member.ID)
}
