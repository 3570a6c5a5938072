package silo

import (
	"slices"
	"time"
)

const (
	// maxLeaving is how many the sweep sends off before it waits for its next round.
	maxLeaving = 1024
	// busyAgain is when one is looked at again that is not idle though nobody used it: it has a timer, or waits for something.
	busyAgain = 5 * time.Second
)

// sweep looks after idle actors until the silo closes.
func (s *Silo) sweep() {
	tick := time.NewTicker(s.cfg.Sweep)
	defer tick.Stop()
	var due []*entry
	for n := 1; ; n++ {
		select {
		case <-s.quit:
			return
		case <-s.relief:
			n--
			s.relieve(time.Now())
		case now := <-tick.C:
			for i := range s.shards {
				due = s.turnWheel(&s.shards[i], due[:0], now)
			}
			clear(due)
			s.relieve(now)
			s.rouse()
			if n%wheelSlots == 0 && s.states.store != nil {
				s.startExpiry(now)
			}
		}
	}
}

// turnWheel looks at the activations of a shard that are due.
func (s *Silo) turnWheel(sh *shard, due []*entry, now time.Time) []*entry {
	sh.mu.Lock()
	due = sh.wheel.due(due)
	sh.mu.Unlock()
	if len(due) == 0 {
		return due
	}
	again := make([]int, len(due))
	for i, e := range due {
		again[i] = looks(s.look(e, now), s.cfg.Sweep)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for i, e := range due {
		if !e.ended {
			e.uses = e.usesAt(now)
			e.turns, e.counted = e.act.Turns(), now
			sh.wheel.put(e, again[i])
		}
	}
	return due
}

// look does what is due with one activation, and says when to look again.
func (s *Silo) look(e *entry, now time.Time) (again time.Duration) {
	used := e.act.LastUsed()
	idle := now.Sub(used)
	if do, again := e.kind.terms(true).next(idle, false); do == stay {
		if do, soon := e.kind.terms(false).next(idle, false); do == stay {
			return min(again, soon)
		}
	}
	st := e.act.Status()
	if st.Closing {
		return busyAgain
	}
	if st.Busy || st.Queued+st.Deferred+st.Calls+st.Timers > 0 {
		return min(busyAgain, max(idle, s.cfg.Sweep))
	}
	can := st.Sleeps && e.canSleep(now)
	t := e.kind.terms(can)
	if st.Sleeps && e.kind.stays() && !can && e.leftAlone(now) {
		t.end = 0 // its state is not given up because it could not be kept just now
	}
	do, again := t.next(idle, st.Warm)
	switch do {
	case rest:
		e.act.Rest()
		_, again = t.next(idle, true)
	case hibernate, passivate:
		if s.leaving.Load() >= maxLeaving {
			return s.cfg.Sweep
		}
		s.send(e, "idle", do == hibernate, used)
		again = busyAgain
	}
	return again
}

// usesAt returns how often the activation was used lately. The shard's lock is held.
func (e *entry) usesAt(now time.Time) uses {
	return e.uses.after(now.Sub(e.counted), e.act.Turns()-e.turns)
}

// Relieve has the silo look at the pressure at once, rather than at its next look.
func (s *Silo) Relieve() {
	select {
	case s.relief <- struct{}{}:
	default:
	}
}

// maxRest is how many actors are sent to rest early at a time.
const maxRest = 4096

// restEarly has those rest that were used lately and are idle now: a hot actor takes many times the memory of one at rest. The others
// rest already, or will be found by the wheel.
func (s *Silo) restEarly(now time.Time) {
	n := 0
	for range shards {
		sh := &s.shards[s.restHand.Add(1)%shards]
		var hot []*entry
		sh.mu.Lock()
		for _, e := range sh.entries {
			if idle := now.Sub(e.act.LastUsed()); idle >= minIdle && idle <= restAfter+2*s.cfg.Sweep && e.act.Idle() {
				hot = append(hot, e)
			}
		}
		sh.mu.Unlock()
		for _, e := range hot {
			if e.act.Rest() {
				n++
			}
		}
		if n >= maxRest {
			return
		}
	}
}

// relieve sends off as many as the pressure asks for.
func (s *Silo) relieve(now time.Time) {
	if s.cfg.Pressure == nil {
		return
	}
	p := s.cfg.Pressure()
	if p >= restFrom {
		s.restEarly(now)
	}
	_, batch := s.room()
	n := min(share(s.count.Load()-s.leaving.Load(), p), maxLeaving-s.leaving.Load())
	for round := 0; n > 0 && round < 2*shards/lookShards; round++ {
		if batch > 0 && s.leavingBytes.Load() > batch { // capturing the state of one takes memory for a while
			return
		}
		found := s.sample(now, func(e *entry, idle time.Duration) bool {
			return idle >= shortened(e.kind.Idle, p)
		}, true)
		for _, c := range found[:(len(found)+1)/2] { // of a sample the rest is better than the worst of the next
			if (c.sleeps || p >= hard) && s.send(c.e, "evicted", c.sleeps, c.used) {
				s.evictions.Add(1)
				n--
			}
			if n == 0 {
				break
			}
		}
	}
}

// candidate is an activation that may go.
type candidate struct {
	e      *entry
	sleeps bool
	used   time.Time
	uses   uses
	worth  float64
}

// sample looks at a few shards with something idle in them, and at a few activations of each, and returns what may go, the least worth
// first. byBytes: what they take counts.
func (s *Silo) sample(now time.Time, may func(e *entry, idle time.Duration) bool, byBytes bool) (found []candidate) {
	with := 0
	for range shards {
		sh := &s.shards[s.hand.Add(1)%shards]
		idle, looked := 0, 0
		sh.mu.Lock()
		for _, e := range sh.entries { // begins anywhere
			if used := e.act.LastUsed(); e.leaving.Load() == 0 && may(e, now.Sub(used)) && e.act.Idle() {
				found = append(found, candidate{e: e, used: used, uses: e.usesAt(now)})
				idle++
			}
			if looked++; idle == lookIdle || looked == lookEntries {
				break
			}
		}
		sh.mu.Unlock()
		if idle > 0 {
			with++
		}
		if with == lookShards {
			break
		}
	}
	found = slices.DeleteFunc(found, func(c candidate) bool {
		return c.e.kind.stays() && c.e.leftAlone(now)
	})
	for i := range found {
		c := &found[i]
		st := c.e.act.Status() // by now it may be busy, and idle again before it is sent
		c.sleeps = c.e.canSleep(now) && (st.Sleeps || st.Busy)
		bytes := int64(0)
		if byBytes {
			bytes = c.e.cost
			if w, ok := c.e.act.Weight(); ok {
				bytes = w
			}
		}
		c.worth = worth(now.Sub(c.used), c.uses, bytes, !c.sleeps)
	}
	slices.SortFunc(found, func(a, b candidate) int {
		switch {
		case a.worth < b.worth:
			return -1
		case a.worth > b.worth:
			return 1
		}
		return a.used.Compare(b.used)
	})
	return found
}
