package core

import (
	"maps"
	"math"
	"slices"
	"time"
)

// The times of sessions; DESIGN's "Who may run an actor". Clock rates of nodes are assumed to be within 5 % of each other, which is what
// ExpireAfter adds to SessionTime.
const (
	// SessionTime is how long after a renewal was sent the node may run actors.
	SessionTime = 3 * time.Second
	// RenewEvery is how often it renews.
	RenewEvery = 500 * time.Millisecond
	// ExpireAfter is how long after it applied a renewal the leader ends the session.
	ExpireAfter = SessionTime + SessionTime/20
)

// Chair is what the leader of the voters does beside replicating the log: it ends sessions that are not renewed, and plans who is to own
// what. Every voter has one, to know when it applied which renewal; only the leader's proposes anything.
//
// It is pure: now is any monotonic time of this process, and what it returns is for the caller to propose.
type Chair struct {
	table   *Table
	planner Planner
	heard   map[SessionID]heard
	leading bool
	barred  bool          // the barrier of this leadership is not committed yet
	from    time.Duration // when a leader may begin to judge others' silence
	reborn  time.Duration // when the generation was last raised
	gen     uint32
	expire  time.Duration // after so long a silence a session is ended
	looked  time.Duration // when it was last called
	stood   time.Duration // for how long in all it stood still, with its process: then it heard nobody, and nobody was silent
}

// longestGap is how much of the time between two calls counts as silence.
const longestGap = RenewEvery

// heard is when this voter applied the newest renewal of a session.
type heard struct {
	renewal uint64
	at      time.Duration // without the times in which it stood still
	asked   time.Duration // when an expiry was last proposed, 0: never
}

// NewChair returns the chair of a voter whose table has just been replayed, or is empty.
func NewChair(table *Table, strategy Strategy, now time.Duration) *Chair {
	if strategy == nil {
		strategy = Rendezvous{}
	}
	c := &Chair{table: table, planner: Planner{strategy: strategy}, heard: make(map[SessionID]heard), reborn: now, gen: table.generation, expire: ExpireAfter,
		looked: now}
	c.Restored(table, now)
	return c
}

// LetSessionsLast has sessions last for so long in the place of [SessionTime], which the voters and all nodes have to agree on: for tests, on
// machines that stand still now and then.
func (c *Chair) LetSessionsLast(session time.Duration) { c.expire = session + session/20 }

// Restored says that the table was replaced by a snapshot's. What was renewed before counts as renewed now: that can only be too late.
func (c *Chair) Restored(table *Table, now time.Duration) {
	c.table = table
	clear(c.heard)
	at := c.awake(now)
	for _, s := range table.sessions {
		c.heard[s.ID] = heard{renewal: s.Renewed, at: at}
	}
	c.generation(now)
}

// Applied says that the table has applied an entry.
func (c *Chair) Applied(now time.Duration) {
	at := c.awake(now)
	for _, id := range c.table.Touched() {
		if s := c.table.sessions[id]; s != nil {
			c.heard[id] = heard{renewal: s.Renewed, at: at}
		}
	}
	if len(c.heard) > len(c.table.sessions) {
		maps.DeleteFunc(c.heard, func(id SessionID, _ heard) bool { return c.table.sessions[id] == nil })
	}
	c.generation(now)
}

func (c *Chair) generation(now time.Duration) {
	if c.table.generation != c.gen {
		c.gen, c.reborn = c.table.generation, now
	}
}

// awake returns the time without that in which this process stood still.
func (c *Chair) awake(now time.Duration) time.Duration {
	c.stood += max(0, now-c.looked-longestGap)
	c.looked = now
	return now - c.stood
}

// Led says that this voter has become the leader. It is to commit a barrier, and tell [Chair.Barrier].
func (c *Chair) Led(now time.Duration) {
	c.leading, c.barred, c.from = true, true, now
	c.planner.reset(now)
	if planted(bugNoWaitAtTakeover) {
		c.barred = false
		for id, h := range c.heard {
			h.at = math.MinInt64 / 2
			c.heard[id] = h
		}
	}
}

// Barrier says that everything of earlier leaders has been applied. From two renewal intervals later on silence counts: while there was no
// leader nobody could renew.
func (c *Chair) Barrier(now time.Duration) {
	if c.leading {
		c.barred, c.from = false, now+2*RenewEvery
	}
}

// Deposed says that it is the leader no more.
func (c *Chair) Deposed() { c.leading = false }

// Leading reports whether this chair proposes.
func (c *Chair) Leading() bool { return c.leading && !c.barred }

// Tick returns what is to be proposed now, as one entry; nothing while an earlier proposal of it is under way (busy). It is called
// whenever something was applied, and every 50 ms or so, by followers too: what is much longer counts as a time in which the process stood still.
func (c *Chair) Tick(now time.Duration, busy bool) []Command {
	awake := c.awake(now)
	if !c.leading || c.barred || busy {
		return nil
	}
	if ended := c.expired(now, awake); len(ended) > 0 {
		return ended
	}
	// After a recovery some node may still believe in a session of the generation before, for as long as one lasts.
	if c.table.generation > 1 && now-c.reborn < c.expire {
		return nil
	}
	return c.planner.Plan(c.table, now)
}

// expired returns the expiry of sessions that were silent for too long.
func (c *Chair) expired(now, awake time.Duration) (all []Command) {
	if now < c.from && !planted(bugNoWaitAtTakeover) {
		return nil
	}
	limit := c.expire
	if planted(bugExpireEarly) {
		limit = SessionTime - RenewEvery
	}
	for _, id := range slices.Sorted(maps.Keys(c.heard)) {
		h := c.heard[id]
		if awake-h.at < limit || h.asked != 0 && now-h.asked < RenewEvery {
			continue
		}
		h.asked = now
		c.heard[id] = h
		all = append(all, Command{Type: ExpireSession, Session: id, Index: h.renewal})
	}
	return all
}
