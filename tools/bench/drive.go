package main

import (
	"context"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
)

// load is what a node calls: actors, each with a caller of its own that makes one call after another.
type load struct {
	Every  time.Duration
	Actors []string
	// Lost are actors whose node is going to be lost. Eager are such actors, too, whose callers wait for a second only, and then
	// ask anew.
	Lost, Eager []string
}

// met is what one caller met since the mark.
type met struct {
	Actor  string
	Calls  int
	Failed map[string]int // by code
	Anew   time.Time      // when another activation than the one before answered first; zero: none did
	Moves  int            // how often one did
	Gap    time.Duration  // the longest time between two answers
}

// driver calls the actors of a load through one node.
type driver struct {
	node    *host.Node
	every   time.Duration
	callers []*caller
	lost    []*caller // of these, those whose actors' node is lost
	stop    context.CancelFunc
	work    sync.WaitGroup
}

type caller struct {
	id   abi.Identity
	time time.Duration // of a call

	mu   sync.Mutex
	last time.Time // of an answer
	who  uint64    // the activation that gave it; 0: there was none
	met  met
}

const (
	callTime  = abi.DefaultRequest // as a call of a client that names no time has
	eagerTime = time.Second
)

func drive(n *host.Node, l *load) *driver {
	ctx, cancel := context.WithCancel(context.Background())
	d := &driver{node: n, every: l.Every, stop: cancel}
	add := func(name string, limit time.Duration) *caller {
		id, err := abi.NewIdentity(namedKind, name)
		if err != nil {
			panic(err) // it was one before
		}
		c := &caller{id: id, time: limit, last: time.Now(), met: met{Actor: name}}
		d.callers = append(d.callers, c)
		return c
	}
	for _, name := range l.Actors {
		add(name, callTime)
	}
	for _, name := range l.Lost {
		d.lost = append(d.lost, add(name, callTime))
	}
	for _, name := range l.Eager {
		d.lost = append(d.lost, add(name, eagerTime))
	}
	for i, c := range d.callers {
		first := d.every * time.Duration(i) / time.Duration(len(d.callers)) // spread over the time
		d.work.Go(func() { d.call(ctx, c, time.Now().Add(first)) })
	}
	return d
}

// call makes the calls of one caller, the first at a time.
func (d *driver) call(ctx context.Context, c *caller, next time.Time) {
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		payload, err := d.node.Send(ctx, &abi.Envelope{Target: c.id, Method: "ask", Deadline: time.Now().Add(c.time)})
		if ctx.Err() != nil {
			return
		}
		c.take(payload, err, time.Now())
		next = next.Add(d.every)
		if late := time.Since(next); late > 0 {
			next = next.Add(late)
		}
		timer.Reset(time.Until(next))
	}
}

func (c *caller) take(payload []byte, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &c.met
	m.Calls++
	if err != nil {
		if m.Failed == nil {
			m.Failed = make(map[string]int)
		}
		m.Failed[abi.CodeOf(err).String()]++
		return
	}
	m.Gap = max(m.Gap, now.Sub(c.last))
	who := activationOf(payload)
	if c.who != 0 && who != c.who {
		m.Moves++
		if m.Anew.IsZero() {
			m.Anew = now
		}
	}
	c.last, c.who = now, who
}

// mark forgets what was met so far.
func (d *driver) mark() {
	for _, c := range d.callers {
		c.mu.Lock()
		c.met = met{Actor: c.met.Actor}
		c.mu.Unlock()
	}
}

// missing counts the callers of lost actors that have not been answered anew.
func (d *driver) missing() (n int) {
	for _, c := range d.lost {
		c.mu.Lock()
		if c.met.Anew.IsZero() {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// end stops the calls and returns what they met.
func (d *driver) end() []met {
	d.stop()
	d.work.Wait()
	all := make([]met, 0, len(d.callers))
	for _, c := range d.callers {
		all = append(all, c.met)
	}
	return all
}
