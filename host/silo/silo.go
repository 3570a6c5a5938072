// Package silo keeps this node's activations: it admits them, finds them, passivates idle ones, makes room when there is
// none, and hands the mailbox of one that broke to its successor.
//
// What an actor of a kind that hibernates leaves when it goes is kept (package sleep does that), and its next activation goes on from it,
// if the node has not lost the actor since. So an actor is hot, warm (an idle one that has let go of what only makes a turn a little faster),
// asleep, or not there; policy.go has the rules.
//
// On its own it moves nothing to another node. What of a planned move is the silo's part is in surrender.go, the end of activations
// in good order, in moves.go, the states of those that sleep then, and in rouse.go, the end of that sleep for those with timers.
//
// It implements [cluster.PlacementActor]: the cluster decides that an actor lives here and under which lease, the silo
// makes it so and reports each step to the lease's observer. An activation is a [cluster.Target] itself, so a request
// on a cached identity goes from the PID cache straight to the mailbox and never through the silo's table.
package silo

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

// Kind is what the silo needs to run actors of a kind. It is pinned for the life of an activation: a new version of a
// module counts for activations that begin after it.
type Kind struct {
	Desc    *abi.KindDescription
	Version string        // sha256 of the module, or "native"
	Limits  actor.Limits  // of each activation
	Idle    time.Duration // without a message, then passivated
	// Hibernate is how long without a message until an actor is hibernated, if it declares such a state; 0: only after Idle, or when
	// there is need of room.
	Hibernate time.Duration
	Cost      int64 // bytes that an activation is expected to take
	// Typical is what activations of the kind were found to take; 0 before one was measured, and nil: Cost counts.
	Typical func() int64
	// Counted says that [Config].Room knows of an instance once it has started.
	Counted bool
	// Start makes an instance; see [actor.Config]. Quick says that it takes some microseconds.
	Start    func(h *actor.Host, state []byte) (actor.Instance, error)
	Quick    bool
	Counters *actor.Counters
}

// Config is what a silo needs; all fields but those that say otherwise are required.
type Config struct {
	// Kind finds a kind as it is now; the error is coded (unknown_kind, not_ready).
	Kind func(name string) (*Kind, error)
	// MaxActors bounds the activations; 0 is no bound. A full silo, by this or by Room, hibernates or passivates the idle actors
	// that are least worth, and refuses with overloaded where none has been idle for [minIdle].
	MaxActors int
	// Room says how many bytes of memory are left at this moment, those apart that the silo knows of alone ([Silo.Coming]), and how many
	// it may overdraw for what is on its way out and still holds its memory. It is asked at each activation. nil: there is no bound.
	Room func() (left, overdraft int64)
	// Sleepers keeps the state of hibernated actors. It is closed by whoever made it, after the silo. nil: state ends with its activation.
	Sleepers Sleepers
	// Pressure says how scarce memory is, from 0 to 1, each time that idle actors are looked for and at [Silo.Relieve]: from 0.65 on they
	// rest early, from 0.75 on some are hibernated before their time, from 0.95 on others are passivated too. nil: it is not scarce.
	Pressure func() float64
	// Woken is told how long each wake took, on the goroutine of the turn; nil: nobody is.
	Woken func(kind string, took time.Duration)
	// Witness is told of every activation's turns; nil: nobody is.
	Witness actor.Witness
	// Sweep is how often idle actors are looked for; 0 is 1 s.
	Sweep time.Duration
	Log   *slog.Logger // nil discards
}

const (
	shards  = 64
	minIdle = 100 * time.Millisecond
	// stubborn is how long a shutdown waits for turns that were to be cut off before it says so, again and again.
	stubborn = 10 * time.Second
)

// API is what the silo uses of the cluster: messages of its actors go out by it, and a backlog finds its actor's
// successor by it.
type API interface {
	actor.Outbox
	Get(ctx context.Context, id abi.Identity) (cluster.ActorRef, error)
}

// Silo is a node's activations. Its methods may be called from any goroutine.
type Silo struct {
	cfg    Config
	began  time.Time
	api    API
	waits  *actor.Waits
	shards [shards]shard

	count        atomic.Int64
	bytes        atomic.Int64
	coming       atomic.Int64 // of bytes: Room does not know of them (yet)
	leaving      atomic.Int64 // of count: passivated, the last turn is not over
	leavingBytes atomic.Int64
	relief       chan struct{} // asks for a look under pressure; has room for one
	evictions    atomic.Uint64
	hand         atomic.Uint32 // the shard that eviction looks at next
	restHand     atomic.Uint32
	states       states
	expiring     atomic.Bool // some goroutine gives up what sleeps for too long
	moves        moves
	forwarding   struct{ begun, done atomic.Int64 } // of activations that have ended by a surrender: their messages are posted anew

	ctx     context.Context // of outgoing requests
	cancel  context.CancelFunc
	closing sync.Once
	work    sync.WaitGroup // whatever runs for the silo and its activations
	workers *workers       // of the activations
	starts  sync.Map       // kind → *starts
	quit    chan struct{}

	mu       sync.Mutex // guards the change of draining, and of count beside it, and shutting
	shutting bool       // no work is begun any more but that of activations
	draining atomic.Bool
	empty    chan struct{} // closed when draining and the last activation has ended
}

type shard struct {
	mu      sync.Mutex
	entries map[abi.Identity]*entry
	ending  map[*entry]struct{} // not in entries any more, and not gone yet
	wheel   wheel
	orphans map[abi.Identity]orphan // of activations that broke, until their successor comes
}

// orphan is the backlog that an activation has left.
type orphan struct {
	of      *entry
	backlog actor.Backlog
}

// entry is one activation and what the silo must know to end it. It owns the activation's callbacks.
type entry struct {
	silo     *Silo
	act      *actor.Activation
	kind     *Kind
	lease    cluster.Lease
	part     uint16 // the actor's partition
	observer cluster.Observer
	since    time.Time
	cost     int64         // counted in bytes
	coming   atomic.Bool   // and in coming
	leaving  atomic.Int64  // what it is counted as leaving with; 0: it is not
	gone     chan struct{} // closed when nothing of it is left

	plain   atomic.Bool                   // its state cannot be captured, ever
	awake   atomic.Pointer[time.Time]     // until when it is left alone since its state could not be kept; nil: it is not
	attempt atomic.Pointer[chan struct{}] // closed once it goes on that was to end; nil: nobody waits
	refusal atomic.Pointer[error]         // why that failed last

	// Of whoever runs the activation.
	taken    *sleep.Sleeper // what it is woken from
	waking   time.Time      // since when; zero: it is not
	refusals int            // times that its state could not be kept

	// Guarded by the shard's lock.
	spoke   spoke
	ended   bool
	uses    uses // when counted, at that many turns
	turns   uint32
	counted time.Time
}

var (
	_ cluster.PlacementActor = (*Silo)(nil)
	_ cluster.Mover          = (*Silo)(nil)
	_ cluster.Target         = (*actor.Activation)(nil)
	_ actor.Owner            = (*entry)(nil)
)

// New returns a silo; [Silo.Open] must come before the first activation.
func New(cfg Config) *Silo {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Sweep <= 0 {
		cfg.Sweep = time.Second
	}
	s := &Silo{cfg: cfg, waits: actor.NewWaits(), quit: make(chan struct{}), empty: make(chan struct{}), relief: make(chan struct{}, 1),
		began: time.Now()}
	s.workers = newWorkers(&s.work)
	s.states.store = cfg.Sleepers
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for i := range s.shards {
		s.shards[i].entries = make(map[abi.Identity]*entry)
		s.shards[i].ending = make(map[*entry]struct{})
		s.shards[i].orphans = make(map[abi.Identity]orphan)
	}
	return s
}

// Open gives the silo its way to other actors and starts looking for idle ones. [Silo.Close] ends it.
func (s *Silo) Open(api API) {
	s.api = api
	s.work.Go(s.sweep)
}

func (s *Silo) shard(id abi.Identity) *shard {
	return &s.shards[(xxhash.Sum64String(id.ID())^uint64(len(id.Kind())))%shards]
}

// Activate admits an actor under a lease. It never blocks: the instance starts with the first turn, and the lease's
// observer hears of it. An actor that is here already under the same lease is returned as it is.
func (s *Silo) Activate(req cluster.ActivationRequest) (cluster.Target, error) {
	id := req.Lease.Identity
	kind, err := s.cfg.Kind(id.Kind())
	if err != nil {
		return nil, err
	}
	if err := s.mayStart(kind, id); err != nil {
		if old := s.under(req.Lease); old != nil {
			return old, nil
		}
		return nil, err
	}
	cost := kind.cost()
	if err := s.admit(cost); err != nil {
		return nil, err
	}
	now := time.Now()
	e := &entry{silo: s, kind: kind, lease: req.Lease, part: cluster.PartitionOf(id), observer: req.Observer, since: now, gone: make(chan struct{}), counted: now, cost: cost}
	e.coming.Store(true)
	c := actor.Config{
		Identity: id, Epoch: req.Lease.Epoch, Desc: kind.Desc, Reason: req.Reason, Quick: kind.Quick, Outbox: s.api, Owner: e, Witness: s.cfg.Witness,
		Start:  func(h *actor.Host, state []byte) (actor.Instance, error) { return s.start(kind, h, state) },
		Permit: req.Permit, Waits: s.waits, Limits: kind.Limits, Counters: kind.Counters, Context: s.ctx, Spawn: s.workers.run, Log: s.cfg.Log,
	}
	if s.states.store != nil && kind.keeps() {
		c.Keeper, c.Wall = e, s.steady
	}
	e.act = actor.New(c, now)

	sh := s.shard(id)
	sh.mu.Lock()
	if old := sh.entries[id]; old != nil {
		sh.mu.Unlock()
		s.retire(cost, cost)
		if old.lease.Same(req.Lease) {
			return old.act, nil
		}
		return nil, abi.NewError(abi.ErrOwnershipChanged, "an earlier activation of "+id.Key()+" has not ended yet")
	}
	sh.entries[id] = e
	sh.wheel.put(e, looks(kind.first(), s.cfg.Sweep))
	left := sh.orphans[id]
	delete(sh.orphans, id)
	e.act.Adopt(left.backlog)
	sh.mu.Unlock()
	if s.draining.Load() { // since it was admitted: the drain may have looked at the table before
		e.act.Stop("shutdown")
	}
	return e.act, nil
}

// under finds the activation of a lease.
func (s *Silo) under(lease cluster.Lease) *actor.Activation {
	sh := s.shard(lease.Identity)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[lease.Identity]; e != nil && e.lease.Same(lease) {
		return e.act
	}
	return nil
}

// Revoke ends the activation of a lease after the turn that runs; whoever waits is answered ownership_changed.
func (s *Silo) Revoke(lease cluster.Lease) {
	if act := s.under(lease); act != nil {
		act.Revoke()
	}
}

// Drain ends every activation gracefully: what waits has its turns, then comes the last turn. When ctx ends first, the
// rest is revoked, and guests are ended in the midst of their turns. It returns when all have ended; if that took revoking, with how many
// those were, and ctx's error.
func (s *Silo) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining.Swap(true) && s.count.Load() == 0 {
		close(s.empty)
	}
	s.mu.Unlock()
	s.each(func(e *entry) { e.act.Stop("shutdown") })
	select {
	case <-s.empty: // whatever ctx says
		return nil
	default:
	}
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	var rest []*actor.Activation
	s.each(func(e *entry) { rest = append(rest, e.act) })
	for _, act := range rest { // which ends others that wait for it
		act.Revoke()
	}
	s.cancel() // which guests look at
	s.awaitTurns()
	return fmt.Errorf("actors that were cut off before they had finished: %d: %w", len(rest), ctx.Err())
}

// awaitTurns waits for the turns that still run. Guests end at their next look; native ones bound themselves, and who
// does not is named.
func (s *Silo) awaitTurns() {
	late := time.NewTicker(stubborn)
	defer late.Stop()
	for {
		select {
		case <-s.empty:
			return
		case <-late.C:
			var who []string
			s.each(func(e *entry) {
				if len(who) < 10 {
					who = append(who, e.act.Identity().Key())
				}
			})
			s.cfg.Log.Warn("the shutdown waits for turns that do not end; a native actor heeds the deadline of its turn",
				"activations", s.count.Load(), "among_them", who)
		}
	}
}

// Close ends whatever still runs and waits for it. Further calls do no more than wait for the first.
func (s *Silo) Close() { s.closing.Do(s.shut) }

func (s *Silo) shut() {
	s.mu.Lock()
	s.shutting = true
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Drain(ctx) // the error only says that it was in a hurry
	s.cancel()
	close(s.quit)
	s.work.Wait()
	s.moves.end()
	s.workers.end()
}

func (s *Silo) each(f func(*entry)) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		all := make([]*entry, 0, len(sh.entries))
		for _, e := range sh.entries {
			all = append(all, e)
		}
		sh.mu.Unlock()
		for _, e := range all {
			f(e)
		}
	}
}

// Started passes on that the instance stands.
func (e *entry) Started(*actor.Activation) {
	if e.kind.Counted {
		e.silo.coming.Add(-e.arrived())
	}
	if !e.waking.IsZero() {
		e.woke()
	}
	e.observer.Started(e.lease)
}

// Ended takes the activation out of the table, tells the lease's observer, and sees to what waited in the mailbox.
func (e *entry) Ended(a *actor.Activation, end actor.End) {
	s, id := e.silo, a.Identity()
	if end.Failed && end.Told && abi.CodeOf(end.Err) == abi.ErrStateUnusable && s.states.store != nil {
		e.giveUp() // before the lease ends and anybody can come for it
	}
	draining := s.draining.Load()
	successor := end.Backlog.Len() > 0 && !draining && !end.Handed
	forward := end.Backlog.Len() > 0 && !draining && end.Handed
	if forward { // a surrender is not over before this is
		s.forwarding.begun.Add(1)
		defer s.forwarding.done.Add(1)
	}

	sh := s.shard(id)
	sh.mu.Lock()
	if sh.entries[id] == e {
		delete(sh.entries, id)
	}
	e.ended = true
	sh.ending[e] = struct{}{}
	sh.wheel.remove(e)
	if successor { // before the lease ends: whoever resolves next brings the successor, and must find this
		sh.orphans[id] = orphan{e, end.Backlog}
	}
	sh.mu.Unlock()

	if end.Failed {
		e.observer.Failed(e.lease, end.Err)
	} else {
		e.observer.Terminated(e.lease, end.Reason)
	}
	switch {
	case successor:
		s.work.Go(func() { s.succeed(e) })
	case forward:
		end.Backlog.Forward(s.api)
	case end.Backlog.Len() > 0:
		s.refuse(id, end.Backlog, abi.NewError(abi.ErrShuttingDown, "the node is shutting down"))
	}
	s.retired(e)
	sh.mu.Lock()
	delete(sh.ending, e)
	sh.mu.Unlock()
	close(e.gone)
}

// arrived returns what of the activation was in coming, once.
func (e *entry) arrived() int64 {
	if e.coming.CompareAndSwap(true, false) {
		return e.cost
	}
	return 0
}

// succeed brings the successor of an activation that left a backlog. That may have ended as well by now: what it has left is the matter of
// its own successor, and would come too late if it were sent anew.
func (s *Silo) succeed(e *entry) {
	id := e.lease.Identity
	ctx, cancel := context.WithTimeout(s.ctx, abi.DefaultRequest)
	defer cancel()
	_, err := s.api.Get(ctx, id)
	sh := s.shard(id)
	sh.mu.Lock()
	left := sh.orphans[id]
	if left.of == e {
		delete(sh.orphans, id)
	}
	sh.mu.Unlock()
	switch {
	case left.of != e: // the successor has it
	case err != nil:
		s.refuse(id, left.backlog, abi.AsError(err))
	default: // it lives on another node
		left.backlog.Forward(s.api)
	}
}

// refuse answers a backlog that finds no successor.
func (s *Silo) refuse(id abi.Identity, b actor.Backlog, err error) {
	if lost := b.Fail(err); lost > 0 {
		s.cfg.Log.Warn("one-way messages were lost with their actor's activation", "actor", id, "messages", lost, "err", err)
	}
}

// send hibernates or passivates an activation that is idle, and counts it as leaving until it is gone or stays after all. A state that is to
// stay is kept, whatever the caller saw a moment before: the activation may have been busy then, or just not to be kept. One that was used
// since used stays; the zero time is for whoever does not mind.
func (s *Silo) send(e *entry, reason string, asleep bool, used time.Time) bool {
	if e.leaving.Load() != 0 {
		return false
	}
	asleep = asleep || e.kind.stays() && e.canEverSleep()
	bytes := e.cost
	if w, ok := e.act.Weight(); ok && e.kind.Counted {
		bytes = w
	}
	bytes = max(bytes, 1)
	if !e.leaving.CompareAndSwap(0, bytes) {
		return false
	}
	s.leaving.Add(1)
	s.leavingBytes.Add(bytes)
	lost := !asleep && !e.plain.Load() && e.kind.stays() && e.act.Status().Sleeps // it is of an older version of its module
	if e.act.Leave(reason, asleep, used) {
		if lost {
			s.states.count[dropReplaced].Add(1)
		}
		return true
	}
	s.left(e)
	return false
}

// left ends the counting of an activation as leaving, if it is counted.
func (s *Silo) left(e *entry) {
	if bytes := e.leaving.Swap(0); bytes != 0 {
		s.leaving.Add(-1)
		s.leavingBytes.Add(-bytes)
	}
}

// restTime is about how long an activation takes to go to rest.
const restTime = 100 * time.Microsecond

// soonIdle reports whether an activation that could not be sent off a moment ago only went to rest, or has done so by now, or somebody else is
// just sending it off.
func soonIdle(st actor.Status) bool {
	return st.Resting || !st.Busy && !st.Closing && st.Queued+st.Deferred+st.Calls+st.Timers == 0
}

// PassivateIdle passivates every actor that is idle now, whenever it was last used, and returns when those and the ones that
// were going already are gone, or ctx ends. Those whose state stays are hibernated; one that cannot be just now is left as it is.
func (s *Silo) PassivateIdle(ctx context.Context) error {
	type departure struct {
		e      *entry
		failed <-chan struct{}
	}
	var going []departure
	now := time.Now()
	s.each(func(e *entry) {
		if e.kind.stays() && e.leftAlone(now) {
			return
		}
		failed := e.failing()
		sent := s.send(e, "evicted", e.kind.stays() && e.canSleep(now), time.Time{})
		for !sent && soonIdle(e.act.Status()) && ctx.Err() == nil {
			time.Sleep(restTime)
			sent = s.send(e, "evicted", e.kind.stays() && e.canSleep(now), time.Time{})
		}
		if sent || e.act.Status().Closing {
			going = append(going, departure{e, failed})
		}
	})
	for i := range s.shards { // after that, so that none is missed that has just left the table
		sh := &s.shards[i]
		sh.mu.Lock()
		for e := range sh.ending {
			going = append(going, departure{e: e})
		}
		sh.mu.Unlock()
	}
	for _, d := range going {
		for leaves := true; leaves; {
			select {
			case <-d.e.gone:
				leaves = false
			case <-d.failed: // perhaps of an attempt before this one
				d.failed = d.e.failing()
				leaves = d.e.act.Status().Closing
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}
