package silo

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// AskNode puts a question about waits to another node, whose [Silo.AnswerWaits] answers it.
type AskNode func(ctx context.Context, node cluster.NodeID, question []byte) ([]byte, error)

// Chase lets the silo look for rings of waits over several nodes, until it is closed; self is the id of its own node. Call it once,
// before the first activation.
//
// It is edge chasing after Chandy, Misra and Haas (Distributed Deadlock Detection, 1983), for the AND model: whoever waits for several
// waits for all of them. Where an actor that waits is sent a message, this node looks after a while whether the message still
// stands, follows the actor's waits to the edge of the node, and asks the nodes beyond it, and those beyond them. If a way comes
// back to the sender of the message, that is a ring: the message is taken out of the mailbox and answered `deadlock`. The
// node that asks goes on by itself, rather than have others pass the question on, so that what it costs is bounded in one
// place and an answer is never late for anybody else. A ring may be seen from several of its nodes at once, and several of its
// calls be refused. That each ring is seen by one of them at least is argued at [actor.Walk].
//
// Whoever is refused was in a ring. A ring is found in pieces, of which each was true when it was told; together they may be none,
// since meanwhile one wait can have ended before another began. So each piece is asked for once more when all are known. An edge has
// an id that no other ever has: one that stood when it was told and stands when it is asked for again stood in between. All
// of them therefore stood at the moment between the two rounds, in which they were a ring, and so did the message that is
// refused, for it is in the mailbox at both ends. A ring does not come undone by itself; what can end it after that moment is a wait
// that is given up, as by its deadline, or another of its calls that is refused.
//
// What remains is what one node cannot know of another. While an actor lives on two nodes, their waits are taken for one
// actor's. And an actor that has begun a request, given it up, and asks the same of the same again, may be taken to wait for
// what the first one brings about, if that one is still unanswered and its reply was deferred.
func (s *Silo) Chase(self cluster.NodeID, ask AskNode) {
	c := &chaser{silo: s, self: self, ask: ask, delay: chaseDelay}
	noticed := s.waits.Suspects()
	s.work.Go(func() { c.run(noticed) })
}

// chaser is the goroutine that looks for rings.
type chaser struct {
	silo  *Silo
	self  cluster.NodeID
	ask   AskNode
	delay time.Duration
}

const (
	// chaseDelay is the least time for which an actor stands before its waits are looked at, and about half of the most. It is drawn
	// anew each time between this and half as much again, so that nodes of one ring do not all look at once.
	chaseDelay = 10 * time.Millisecond
	chaseAsk   = 250 * time.Millisecond // for one question
	chaseTime  = time.Second            // for one hunt
	// chasePause is the most between two looks at an actor of whose waits not everything could be seen: each is after twice the time. They
	// go on while the message stands, for nobody else would find the ring once the nodes answer again.
	chasePause = time.Second
	maxPending = 4 * 1024 // suspects to be looked at
)

// suspect is an actor to be looked at.
type suspect struct {
	id    abi.Identity
	due   time.Time
	tries int
}

func (c *chaser) run(noticed <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var pending []suspect
	for {
		if len(pending) == 0 {
			select {
			case <-noticed:
			case <-c.silo.quit:
				return
			}
		}
		timer.Reset(c.delay + time.Duration(rand.Int64N(int64(c.delay)/2+1)))
		select {
		case <-timer.C:
		case <-c.silo.quit:
			return
		}
		now := time.Now()
		var due, later []suspect
		for _, s := range pending {
			if s.due.After(now) {
				later = append(later, s)
			} else {
				due = append(due, s)
			}
		}
		later = append(later, c.look(due)...)
		for _, id := range c.silo.waits.TakeSuspects() {
			later = append(later, suspect{id: id, due: now})
		}
		pending = later[max(0, len(later)-maxPending):]
	}
}

// look hunts for rings through the suspects, and returns those that are to be looked at again.
func (c *chaser) look(suspects []suspect) (again []suspect) {
	h := newHunt(c.self)
	walk := c.silo.waits.NewWalk(c.silo.here, maxLeaps)
	for _, s := range suspects {
		if e := c.silo.entry(s.id); e != nil {
			if calls := e.act.Queued(); len(calls) > 0 {
				h.suspects[s.id] = calls
				walk.From(s.id)
			}
		}
	}
	if len(h.suspects) == 0 {
		return nil
	}
	h.learn(c.self, nil, &answer{steps: walk.Steps, cut: walk.Cut})
	ctx, cancel := context.WithTimeout(c.silo.ctx, chaseTime)
	defer cancel()
	for hop := 0; hop < maxHops && len(h.open) > 0 && ctx.Err() == nil; hop++ {
		c.round(ctx, h)
	}
	h.cut = h.cut || len(h.open) > 0
	for _, s := range suspects {
		if h.suspects[s.id] == nil {
			continue
		}
		r := h.find(s.id)
		switch {
		case r != nil && !r.first() && s.tries == 0: // if the first one does not look, this one will
		case r != nil && c.stands(ctx, r):
			if e := c.silo.entry(s.id); e != nil && e.act.Deadlocked(r.edge, r.cycle()) {
				c.silo.cfg.Log.Debug("a deadlock over several nodes", "actor", s.id, "cycle", r.cycle())
			}
			s.tries = 0 // others may stand there
		case r == nil && !h.cut:
			continue
		}
		s.tries++
		s.due = time.Now().Add(min(c.delay<<min(s.tries-1, 20), chasePause))
		again = append(again, s)
	}
	return again
}

// round asks what is to be asked next, all nodes at once.
func (c *chaser) round(ctx context.Context, h *hunt) {
	ctx, cancel := context.WithTimeout(ctx, chaseAsk)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for node, asked := range h.next() {
		wg.Go(func() {
			q := &question{}
			for _, s := range asked {
				q.reach = append(q.reach, s.Wait)
			}
			told, err := c.reach(ctx, node, q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				h.cut = true
				return
			}
			h.learn(node, asked, told)
		})
	}
	wg.Wait()
}

func (c *chaser) reach(ctx context.Context, node cluster.NodeID, q *question) (*answer, error) {
	if node == c.self {
		return c.silo.reach(q), nil
	}
	b, err := c.ask(ctx, node, appendQuestion(nil, q))
	if err != nil {
		return nil, err
	}
	return readAnswer(b, len(q.reach))
}

// stands asks once more whether all that makes a ring is so.
func (c *chaser) stands(ctx context.Context, r *ring) bool {
	ctx, cancel := context.WithTimeout(ctx, chaseAsk)
	defer cancel()
	by := r.holds()
	yes := make(chan bool, len(by))
	for node, holds := range by {
		go func() { yes <- c.hold(ctx, node, &question{hold: holds}) }()
	}
	all := true
	for range by {
		all = <-yes && all
	}
	return all
}

func (c *chaser) hold(ctx context.Context, node cluster.NodeID, q *question) bool {
	if node == c.self {
		return c.silo.holds(q)
	}
	b, err := c.ask(ctx, node, appendQuestion(nil, q))
	if err != nil {
		return false
	}
	all, err := readHolds(b)
	return err == nil && all
}

// maxAnswer bounds an answer in bytes, well below what the smallest limit of messages in use lets through.
const maxAnswer = 128 << 10

// AnswerWaits answers a question of another node's silo. It does not block. An error is a malformed question's.
func (s *Silo) AnswerWaits(payload []byte) ([]byte, error) {
	q, err := readQuestion(payload)
	if err != nil {
		return nil, err
	}
	if q.reach == nil {
		return abi.AppendBool(nil, s.holds(q)), nil
	}
	a := s.reach(q)
	b := appendAnswer(nil, a)
	for len(b) > maxAnswer {
		a.steps, a.cut = a.steps[:len(a.steps)/2], true
		b = appendAnswer(b[:0], a)
	}
	return b, nil
}

func (s *Silo) reach(q *question) *answer {
	walk := s.waits.NewWalk(s.here, maxSteps)
	a := &answer{}
	for _, w := range q.reach {
		a.anchors = append(a.anchors, walk.Arrived(w))
	}
	a.steps, a.cut = walk.Steps, walk.Cut
	return a
}

func (s *Silo) holds(q *question) bool {
	for _, h := range q.hold {
		if !s.waits.Holds(h.from, h.edge) {
			return false
		}
	}
	return true
}

// entry finds the activation of an actor; nil: it has none here.
func (s *Silo) entry(id abi.Identity) *entry {
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.entries[id]
}

func (s *Silo) here(id abi.Identity) bool { return s.entry(id) != nil }
