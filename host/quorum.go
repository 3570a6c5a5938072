package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/link"
)

// quorum is a node's part in a cluster whose voters decide who owns what: every node has a resident, which keeps its session and follows the
// log, and a voter has a replica of the log besides.
type quorum struct {
	cfg  *Config
	log  *slog.Logger
	fail func(error) // ends the node

	port    *consensus.Port   // these three of a voter only
	machine *consensus.Log    //
	office  *consensus.Office //

	carrier  *carrier
	voter    *consensus.Voter
	resident *consensus.Resident
	opened   atomic.Bool // these two are set, once and for all

	ctx    context.Context // of everything here
	cancel context.CancelFunc
	work   sync.WaitGroup

	voterDown atomic.Pointer[string] // why its voter has stopped; nil: it has not

	closing  sync.Once
	mu       sync.Mutex
	kinds    []string
	draining bool
}

// Times of a node's coming to and going from the voters.
const (
	sessionTime = 5 * time.Second  // a start waits for a session
	moveTime    = 60 * time.Second // a node that leaves gives everything away, unless nothing moves
	closeTime   = 3 * time.Second  // for the log to show that a session was given up
	// standstill is how long nothing is under way before a node leaves with what it still has: a move that failed is tried again sooner.
	standstill = core.MoveAgain + 3*time.Second
)

// isVoter reports whether this node is to be a voter: it is on the list, was told so, or was one before.
func (c *Config) isVoter() bool {
	if c.Net.Voter || slices.ContainsFunc(c.Net.Voters, func(m cluster.Node) bool { return string(m.ID) == c.ID }) {
		return true
	}
	if c.DataDir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(c.DataDir, "raft"))
	return err == nil
}

// byQuorum reports whether the voters' log decides who owns what.
func (c *Config) byQuorum() bool {
	return c.Net.Link != "" && (c.Net.Quorum || c.Net.Voter || len(c.Net.Voters) > 0)
}

// newQuorum makes what the link's configuration needs of it.
func newQuorum(n *Node) *quorum {
	q := &quorum{cfg: &n.cfg, log: n.log, fail: n.fail}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.carrier = &carrier{node: n}
	if n.cfg.isVoter() {
		q.port = new(consensus.Port)
		q.machine = consensus.NewLog(n.cfg.Net.strategy(), n.log)
		if n.cfg.Net.session > 0 {
			q.machine.LetSessionsLast(n.cfg.Net.session)
		}
		q.office = consensus.NewOffice(q.machine, n.log)
	}
	return q
}

// services and streams are how other nodes reach this part.
func (q *quorum) services() map[string]link.Service {
	all := q.carrier.services()
	if q.port != nil {
		maps.Copy(all, q.port.Services())
		maps.Copy(all, q.office.Services())
		maps.Copy(all, q.voterServices(q.carrier.node))
	}
	return all
}

func (q *quorum) streams() map[string]link.StreamHandler {
	if q.port == nil {
		return nil
	}
	return q.port.Streams()
}

// open opens the voter, if the node is one, and begins to follow the log.
func (q *quorum) open(n *Node) (err error) {
	if q.port != nil {
		cfg := consensus.VoterConfig{Dir: q.cfg.DataDir, Cluster: q.cfg.Cluster, Self: n.net.self.ID, Authority: n.net.self.Authority,
			Voters: q.cfg.Net.Voters, AllowEven: q.cfg.Net.VotersEven, Machine: q.machine, Network: n.net.link, Port: q.port,
			Resolve: n.net.authority, Log: q.log}
		if q.cfg.Net.voter != nil {
			q.cfg.Net.voter(&cfg)
		}
		if q.voter, err = consensus.OpenVoter(cfg); err != nil {
			return voterFault(err)
		}
		q.work.Go(func() { q.office.Run(q.ctx, q.voter) })
		q.work.Go(q.watchVoter)
	}
	q.mu.Lock()
	kinds := q.kinds
	q.mu.Unlock()
	resident := consensus.NewResident(consensus.ResidentConfig{Self: n.net.self, Weight: uint32(q.cfg.Net.Weight), Kinds: kinds,
		Network: n.net.link, Office: q.office, Voters: n.voters, Runtime: n.runtime, Mover: q.carrier, SessionTime: q.cfg.Net.session, Fail: q.fail, Log: q.log})
	q.mu.Lock()
	q.resident = resident
	q.mu.Unlock()
	q.opened.Store(true)
	q.work.Go(func() { q.resident.Run(q.ctx) })
	q.work.Go(q.watchSuspend)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sayLocked() // what has changed meanwhile
	return nil
}

// voterFault tells an operator's mistake from what a disk has done.
func voterFault(err error) error {
	if errors.Is(err, consensus.ErrRefused) {
		return &configError{err}
	}
	return err
}

// watchVoter sees to a voter that has failed. Where its disk has, the node goes on without a vote, for its actors know nothing of that disk, and
// says so; what contradicts the others ends it.
func (q *quorum) watchVoter() {
	select {
	case err := <-q.voter.Failed():
		if errors.Is(err, consensus.ErrDisk) {
			text := err.Error()
			q.voterDown.Store(&text)
			q.log.Error("this node goes on without a vote, and follows the log by way of other voters", "err", err)
			return
		}
		if err != nil {
			q.fail(voterFault(fmt.Errorf("the voter of this node has failed: %w", err)))
		}
	case err := <-q.machine.Poisoned():
		q.fail(fmt.Errorf("the voters' log has an entry of a newer version of wasilo: %w; update this node", err))
	case <-q.ctx.Done():
	}
}

// watchSuspend ends the session after the machine was suspended: the clock by which its time is counted stood still meanwhile.
func (q *quorum) watchSuspend() {
	t := time.NewTicker(core.SuspendLook)
	defer t.Stop()
	began := time.Now()
	running := func() time.Duration { return time.Since(began) }
	var suspends core.Suspends
	for {
		if d := suspends.Look(aheadBy(uptime, running)); d != 0 {
			q.log.Warn("the machine was suspended: this node's session with the voters counts as ended", "for", d)
			q.resident.Suspended(q.ctx)
		}
		select {
		case <-t.C:
		case <-q.ctx.Done():
			return
		}
	}
}

// aheadBy returns by how much one clock is ahead of another. It reads them again when that took long: a process that had to wait for a processor
// between the two would find a difference that is none, and end its session for it.
func aheadBy(one, other func() time.Duration) time.Duration {
	for {
		before := other()
		at := one()
		if after := other(); after-before <= core.SuspendMost/10 {
			return at - after
		}
	}
}

// host says what the node hosts from now on.
func (q *quorum) host(kinds []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kinds = kinds
	q.sayLocked()
}

// sayLocked has the voters know what the node hosts as of now. q.mu is held until the resident has it, so that of two changes the later counts.
func (q *quorum) sayLocked() {
	if q.resident != nil {
		q.resident.SetHosts(q.kinds, uint32(q.cfg.Net.Weight), q.draining)
	}
}

// settle waits a while for the node's session.
func (q *quorum) settle(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, sessionTime)
	defer cancel()
	err := q.resident.Await(bounded, func(s consensus.Standing) bool { return s.Session != 0 && s.Index > 0 })
	if err != nil && ctx.Err() == nil {
		q.log.Warn("the node has no session with the voters yet; its gateway answers no_quorum until it has one", "voters", q.names())
		return nil
	}
	return ctx.Err()
}

// names are the voters of the configuration.
func (q *quorum) names() (ids []string) {
	for _, m := range q.cfg.Net.Voters {
		ids = append(ids, string(m.ID))
	}
	return ids
}

// ready returns why the node cannot run actors at present, or nil.
func (q *quorum) ready() error {
	if !q.opened.Load() {
		return errors.New("the node has not begun to follow the voters' log")
	}
	s, _ := q.resident.Standing()
	switch {
	case slices.Contains(s.Blocked, q.resident.Self()):
		return abi.NewError(abi.ErrBlocked, "an operator has blocked this node: `wasilo members unblock "+q.cfg.ID+"` lets it host actors again")
	case s.Session == 0:
		return abi.NewError(abi.ErrNoQuorum, "the node has no session with the voters, so it runs no actors: a majority of them ("+
			strings.Join(q.names(), ", ")+") has to be up and in reach; `wasilo voters list` shows who answers")
	case !time.Now().Before(s.Until):
		return abi.NewError(abi.ErrNoQuorum, "the node's session with the voters has run out, so its actors stand still: it cannot reach who leads them, "+
			"or too few of them are up; `wasilo voters list` shows who answers")
	case s.Draining:
		return errDrained
	}
	return nil
}

// sessionText says how the node stands.
func (q *quorum) sessionText() string {
	s, _ := q.resident.Standing()
	text := fmt.Sprintf("session %d with the voters lasts for another %v; %d partitions are owned, %d moves are under way; the log is at %d of generation %d",
		s.Session, time.Until(s.Until).Round(100*time.Millisecond), s.Owned, s.Moving, s.Index, s.Generation)
	if s.Leader != "" {
		text += "; node " + string(s.Leader) + " leads"
	}
	return text
}

// drain gives the node's actors to others, in good order, until it has none, ctx ends, or nothing moves any more.
func (q *quorum) drain(ctx context.Context) error {
	if q.voter != nil {
		if err := q.voter.Transfer(ctx); err != nil {
			q.log.Warn("the leadership of the voters was not given away; they will elect another", "err", err)
		}
	}
	q.setDraining(true)
	return awaitMoves(ctx, q.resident, q.cfg.Net.patience)
}

// awaitMoves returns once nothing is with a node that drains nor on its way to it, or with the reason why that is not to be waited for.
func awaitMoves(ctx context.Context, node interface {
	Standing() (consensus.Standing, <-chan struct{})
}, patience time.Duration) error {
	course := march{owned: -1, moved: time.Now()}
	for {
		s, changed := node.Standing()
		now := time.Now()
		switch {
		case s.Owned == 0 && s.Moving == 0 || s.Session == 0:
			return nil
		case !s.Takers && s.Moving == 0:
			return fmt.Errorf("%d partitions stay with this node: no other node hosts their kinds", s.Owned)
		case !now.Before(s.Until):
			return fmt.Errorf("%d partitions stay with this node, for it cannot reach the voters", s.Owned)
		}
		left := course.left(s, now) + patience
		switch {
		case left > 0:
		case s.Moving > 0:
			return fmt.Errorf("%d partitions are still with this node: of %d moves that are under way none has succeeded for %v", s.Owned, s.Moving,
				now.Sub(course.fell).Round(time.Second))
		default:
			return fmt.Errorf("%d partitions stay with this node: no other node has taken any for %v", s.Owned, now.Sub(course.fell).Round(time.Second))
		}
		timer := time.NewTimer(left)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%d partitions are still with this node, and %d moves are under way: %w", s.Owned, s.Moving, ctx.Err())
		}
		timer.Stop()
	}
}

// march is how the moves of a drain fare.
type march struct {
	owned int       // partitions, at the last look
	fell  time.Time // when that changed
	moved time.Time // when a move was under way last
}

// left returns how long to wait for the moves from now on, unless something changes: a move may take its whole time, for it waits for calls and
// turns that are under way; when there is none, the next one begins soon or never.
func (m *march) left(s consensus.Standing, now time.Time) time.Duration {
	if s.Owned != m.owned {
		m.owned, m.fell = s.Owned, now
	}
	if s.Moving > 0 {
		m.moved = now
	}
	return min(m.fell.Add(core.MoveTimeout).Sub(now), m.moved.Add(standstill).Sub(now))
}

// undrain takes a drain back.
func (q *quorum) undrain() { q.setDraining(false) }

func (q *quorum) setDraining(is bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.draining = is
	q.sayLocked()
}

// leave gives the session up: nothing of it runs here any more.
func (q *quorum) leave(ctx context.Context) {
	if q.resident == nil {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	if err := q.resident.Close(bounded, true); err != nil {
		q.log.Warn("it is not known whether the voters know that this node has gone; they will find out in some seconds", "err", err)
	}
}

// close ends everything at once. Only the first call has an error to tell.
func (q *quorum) close() error {
	q.cancel()
	q.work.Wait()
	var err error
	q.closing.Do(func() {
		if q.voter != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err = q.voter.Close(ctx)
		}
	})
	return err
}

// voters says where voters may be found: those of the configuration, wherever they are now, and the members that say that they are.
func (n *Node) voters() (all []core.Member) {
	for _, m := range n.cfg.Net.Voters {
		if authority, ok := n.net.authority(m.ID); ok {
			m.Authority = authority
		}
		all = append(all, m)
	}
	for _, m := range n.net.voting() {
		if !slices.ContainsFunc(all, func(o core.Member) bool { return o.ID == m.ID }) {
			all = append(all, m)
		}
	}
	return all
}
