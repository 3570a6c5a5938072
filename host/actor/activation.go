package actor

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Instance is what runs an actor's turns: a wasm guest, a native Go actor, or a test's own. One goroutine uses it at a
// time; Close never comes while Turn runs.
type Instance interface {
	// Turn runs one turn and fills out, which comes as an empty reply. It ends by deadline: nothing else ends it. An
	// error (trap, limit_exceeded or internal; any other counts as a trap) means that the instance is broken and must be
	// closed, but for overloaded, which says that the turn did not begin, for want of room, and that nothing has changed; a failure that the actor survives is an Output of kind OutError.
	Turn(ev *abi.Event, deadline time.Time, out *abi.Output) error
	Close() error
}

// Meter is an [Instance] that counts what its turns take.
type Meter interface {
	// Fuel returns what the last turn used, whatever came of it; never less than 0. It is called after each.
	Fuel() int64
}

// Outbox takes an actor's messages to other actors.
type Outbox interface {
	// Send delivers env and waits for the reply, until env.Deadline at the latest.
	Send(ctx context.Context, env *abi.Envelope) ([]byte, error)
	// Post delivers env without waiting. When it returns nil, done (which may be nil) is called exactly once.
	Post(env *abi.Envelope, done func(payload []byte, err error)) error
}

// Owner is told how an activation fares, on the goroutine of the turn, with no lock held.
type Owner interface {
	// Started is called when the instance stands, before its first turn.
	Started(a *Activation)
	// Ended is called once, when the instance is gone for good and the activation refuses messages.
	Ended(a *Activation, end End)
}

// Witness is told what a node's activations do, for those who check afterwards that no actor lived twice. Its methods come
// on the goroutine of the turn, and are no place to wait.
type Witness interface {
	// Enabled: the activation takes turns from now on. The number names it to the other two.
	Enabled(id abi.Identity, epoch abi.Epoch) (activation uint64)
	// Checked: a turn begins. at is when it was found that it may.
	Checked(at time.Time, id abi.Identity, epoch abi.Epoch, activation uint64)
	// Answered: what the turn brought about is about to leave. at is when it was found that it may, the last access to state over.
	Answered(at time.Time, id abi.Identity, epoch abi.Epoch, activation uint64)
}

// End says why an activation ended and what it leaves behind.
type End struct {
	Reason   string // "idle", "shutdown", "evicted", "hibernated", "trap", "start", "revoked"
	Err      error  // of a start that failed (Failed) or a turn that broke
	Failed   bool   // the instance never stood
	Told     bool   // with Failed: somebody who waited for a reply got Err
	Released bool   // by revocation: nobody here should start a successor
	Handed   bool   // it was surrendered: the actor goes on wherever the backlog finds it
	Backlog  Backlog
}

// Counters count what activations of one kind did. All fields may be read at any time.
type Counters struct {
	Turns, Inline, Traps, Limits, Deadlocks, MailboxFull, Expired, StartFailures atomic.Uint64
	// States kept; instances that could not be captured; instances made of what was kept; those that could not be.
	Hibernations, CaptureFailures, Wakes, WakeFailures atomic.Uint64
	Fuel                                               atomic.Uint64 // that turns of a [Meter] used
}

// Limits bound one activation. Every field must be positive.
type Limits struct {
	Mailbox     int           // messages waiting
	Turn        time.Duration // a turn, its waiting included
	Request     time.Duration // a request that names no time
	MaxMessage  int           // bytes of a payload
	MaxOutgoing int           // requests, calls and tells of one turn; calls outstanding
	MaxTimers   int
}

// Config is what an activation needs; all fields are required unless they say otherwise.
type Config struct {
	Identity abi.Identity
	Epoch    abi.Epoch
	Desc     *abi.KindDescription
	Reason   string // why it is activated, told to the guest
	// Start makes the instance, on a goroutine of the activation's: a fresh one, or with state, which it may keep, one that goes on
	// where an earlier one was captured. The error ownership_changed says that there is a newer version to start in its place:
	// nobody is told, and what waits goes to a successor. Overloaded says that it was not tried, for want of room or of hope; it is not
	// counted as a failure. state_unusable says that no instance can be made of that state.
	Start func(h *Host, state []byte) (Instance, error)
	// Quick says that Start takes some microseconds: whoever calls first may wait for it on its own goroutine.
	Quick  bool
	Keeper Keeper // of the state between activations; nil: it ends with each
	// Wall is what the wall clock shows at a time of this process's own, for what is kept. It may take no notice of being set. nil: just what it shows.
	Wall     func(time.Time) time.Time
	Permit   Permit // nil: the activation may run until it is revoked
	Outbox   Outbox
	Owner    Owner
	Witness  Witness // nil: nobody is told
	Waits    *Waits
	Limits   Limits
	Counters *Counters
	// Context bounds starts and outgoing requests; it ends when the node gives up waiting for turns.
	Context context.Context
	// Spawn starts a goroutine that the node waits for.
	Spawn func(func())
	Log   *slog.Logger // nil discards
}

type state uint8

const (
	open    state = iota // takes messages
	closing              // takes messages for whoever comes after, runs its last turn
	ended                // refuses
)

// Activation is one activation of an actor. Its methods may be called from any goroutine.
type Activation struct {
	cfg  Config
	run  func() // a.drain, bound once
	host Host

	born     time.Time
	lastUsed atomic.Int64 // when the last message started, in nanoseconds since born
	turns    atomic.Uint32

	mu       sync.Mutex
	state    state
	running  bool // some goroutine owns the fields below
	revoked  bool
	stopFor  string // the reason, once Stop or Surrender was called
	handing  handing
	queue    mailbox
	deferred map[uint64]*deferral // calls that a turn left unanswered, by token
	calls    map[uint64]*pending  // effects `call` outstanding, by handle
	timers   map[string]*timer
	alarms   atomic.Pointer[alarms] // of all that has a time of its own; nil: nothing had
	resting  bool                   // the runner does nothing but [Activation.Rest]
	stall    *stall                 // what the runner waits in before a turn, nil otherwise

	// Owned by whoever set running.
	inst      Instance
	meter     Meter // inst, if it is one
	nextToken uint64
	lastTimer uint64 // guarded by mu
	told      bool   // self was delivered
	woken     bool   // the instance goes on from a state that was kept
	witnessed uint64 // what the witness calls it
	rested    bool   // since the last turn
	ev        abi.Event
	out       abi.Output
}

// New returns an activation that takes messages at once. now is the time that idleness is counted from.
func New(cfg Config, now time.Time) *Activation {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Activation{cfg: cfg, born: now}
	a.run = a.drain
	a.host.a = a
	return a
}

// Identity names the actor.
func (a *Activation) Identity() abi.Identity { return a.cfg.Identity }

// Epoch is that of the lease under which the actor runs.
func (a *Activation) Epoch() abi.Epoch { return a.cfg.Epoch }

// LastUsed returns when the last message started. Like the time that [New] was given it has a monotonic part: how long ago that is does not
// change when the wall clock is set.
func (a *Activation) LastUsed() time.Time { return a.born.Add(time.Duration(a.lastUsed.Load())) }

// Status is a glimpse of an activation for listings.
type Status struct {
	Busy     bool
	Queued   int
	Deferred int
	Calls    int
	Timers   int
	Closing  bool
	Warm     bool // idle and at rest
	Sleeps   bool // idle, and its state can be kept
	Resting  bool // busy with [Activation.Rest], and idle again at once unless a message comes
}

// Status returns a glimpse of the activation.
func (a *Activation) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := Status{Busy: a.running, Queued: a.queue.len(), Deferred: len(a.deferred), Calls: len(a.calls),
		Timers: len(a.timers), Closing: a.state != open || a.stopFor != "", Resting: a.resting}
	if !a.running {
		st.Warm, st.Sleeps = a.rested, a.sleeper() != nil
	}
	return st
}

// gone is what an activation that has ended answers; whoever resolves again finds its successor.
var gone = abi.NewError(abi.ErrOwnershipChanged, "the activation has ended")

// Idle reports whether [Activation.Passivate] would end the activation: there is no turn, no message, nothing it waits for
// and no timer.
func (a *Activation) Idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.idle()
}

func (a *Activation) idle() bool {
	return a.state == open && !a.running && a.queue.n == 0 && len(a.deferred)+len(a.calls)+len(a.timers) == 0
}

// Passivate ends the activation if it is idle, and reports whether it will. The last turn runs on a goroutine of its own.
func (a *Activation) Passivate(reason string) bool { return a.Leave(reason, false, time.Time{}) }

// Stop ends the activation once the messages that wait have had their turns, deferred replies were given and calls have
// their outcome, all of which their deadlines bound. Timers are given up. From here on no message is left to a successor,
// since there will be none: one that comes during the last turn, or is left behind by a turn that breaks, gets a new
// instance in the old one's place. Whoever stops an activation sees to it that no new messages come, or it may never end;
// [Activation.Revoke] hurries it.
func (a *Activation) Stop(reason string) {
	a.mu.Lock()
	if a.state == ended || a.stopFor != "" && a.handing == handsNothing {
		a.mu.Unlock()
		return
	}
	a.stopFor, a.handing = reason, handsNothing
	if a.running {
		a.mu.Unlock()
		return
	}
	a.running = true
	a.mu.Unlock()
	a.cfg.Spawn(a.run)
}

// Revoke ends the activation after the turn that runs, without a last turn: the node has lost the actor. Whoever waits
// is answered ownership_changed.
func (a *Activation) Revoke() {
	a.mu.Lock()
	if a.state == ended || a.revoked {
		a.mu.Unlock()
		return
	}
	a.revoked = true
	if a.stall != nil {
		a.stall.end()
	}
	if a.running {
		a.mu.Unlock()
		return
	}
	a.running = true
	a.mu.Unlock()
	a.cfg.Spawn(a.run)
}

// passivate runs the last turn and ends the activation; false is that of [Activation.end]. The caller owns running, and
// state is closing.
func (a *Activation) passivate(reason string) bool {
	a.mu.Lock()
	revoked := a.revoked
	a.mu.Unlock()
	var broke error
	if a.inst != nil && !revoked && a.cfg.Desc.Handles(abi.EventPassivate) {
		a.ev = abi.Event{Tag: abi.EventPassivate, Reason: reason}
		broke = a.exec(nil, time.Now())
		if broke == nil {
			broke = a.finishEvent(0)
		}
		if broke != nil {
			a.countBroken(broke)
			a.cfg.Log.Warn("the last turn failed", "actor", a.cfg.Identity, "err", broke)
		}
	}
	return a.end(End{Reason: reason, Err: broke})
}

// end closes the instance, refuses messages from here on, and tells the owner. The caller owns running and keeps it. It
// returns false if the activation goes on without an instance, for messages that wait and have nowhere else to go.
func (a *Activation) end(e End) bool {
	a.closeInstance()
	a.ev, a.out = abi.Event{}, abi.Output{}
	a.mu.Lock()
	if a.revoked {
		e.Reason, e.Released = "revoked", true
	}
	e.Handed = a.handing != handsNothing
	// Completions and timers are of this instance alone.
	rest := slices.DeleteFunc(a.queue.take(), func(m message) bool { return m.own != nil })
	deferred, calls, timers := a.deferred, a.calls, a.timers
	a.deferred, a.calls, a.timers = nil, nil, nil
	goesOn := len(rest) > 0 && a.stopFor != "" && !e.Handed && !a.revoked && !e.Failed
	if goesOn {
		a.state, a.told, a.rested = open, false, false
		for _, m := range rest {
			a.queue.push(m)
		}
	} else {
		a.state = ended
	}
	a.mu.Unlock()

	for _, t := range timers {
		t.alarm.stop()
	}
	for _, c := range calls {
		c.expiry.stop()
		c.giveUp()
	}
	for _, d := range deferred {
		d.expiry.stop()
		d.fail(withoutReply(e))
	}
	if goesOn {
		return false
	}
	lost := 0
	for i := range rest {
		m := &rest[i]
		_, stands := m.to.(*waiter)
		switch {
		case (e.Released || e.Handed && !e.Failed) && stands: // and looks for the actor by itself
			m.fail(gone)
		case e.Failed && !replaced(e.Err):
			m.fail(startError(e.Err))
			e.Told = e.Told || m.to != nil
		default:
			e.Backlog.msgs = append(e.Backlog.msgs, *m)
			continue
		}
		if m.to == nil {
			lost++
		}
	}
	if lost > 0 {
		a.cfg.Log.Warn("one-way messages were lost with their actor's activation", "actor", a.cfg.Identity, "messages", lost,
			"reason", e.Reason, "err", e.Err)
	}
	a.cfg.Owner.Ended(a, e)
	return true
}

// closeInstance closes the instance, if there is one. A native one may panic in it.
func (a *Activation) closeInstance() {
	if a.inst == nil {
		return
	}
	defer func() {
		a.inst, a.meter = nil, nil
		if p := recover(); p != nil {
			a.cfg.Log.Error("an instance panicked while it was closed", "actor", a.cfg.Identity, "panic", p,
				"stack", string(debug.Stack()))
		}
	}()
	if err := a.inst.Close(); err != nil {
		a.cfg.Log.Error("closing an instance", "actor", a.cfg.Identity, "err", err)
	}
}

// withoutReply is what callers get whose turn left the reply for later, when there is no later. Their turn ran, so the
// code must not be a retryable one.
func withoutReply(e End) *abi.Error {
	code, why := abi.ErrInternal, e.Reason
	if e.Released {
		code = abi.ErrOutcomeUnknown
	}
	if e.Err != nil {
		code, why = abi.ErrTrap, abi.AsError(e.Err).Error()
	}
	return abi.NewError(code, "the actor's activation ended before it gave its deferred reply ("+why+"); the outcome is unknown")
}

// replaced reports whether a start failed because there is a newer version to start.
func replaced(err error) bool { return abi.CodeOf(err) == abi.ErrOwnershipChanged }

// Untried reports whether a start that ended with err tells nothing of what was to be started: there is a newer version, or no
// start was tried.
func Untried(err error) bool { return replaced(err) || abi.CodeOf(err) == abi.ErrOverloaded }

// startError is what those get who wait for an instance that could not be started. None of the codes by which a cluster
// looks for another place survives, ownership_changed apart: it would start the same thing again at once.
func startError(err error) error {
	out := *abi.AsError(err)
	switch out.Code {
	case abi.ErrInternal, abi.ErrTrap, abi.ErrLimitExceeded, abi.ErrTimeout, abi.ErrCanceled,
		abi.ErrNotReady, abi.ErrNoQuorum, abi.ErrBlocked, abi.ErrShuttingDown, abi.ErrUnreachable, abi.ErrOutcomeUnknown, abi.ErrNone:
		out.Code = abi.ErrActivationFailed
	}
	return &out
}

// Backlog is what waited in the mailbox of an activation that ended.
type Backlog struct{ msgs []message }

// Len returns how many messages wait.
func (b Backlog) Len() int { return len(b.msgs) }

// Fail answers every message with err, and returns how many were one-way ones, which nobody hears of.
func (b Backlog) Fail(err error) (oneWay int) {
	for i := range b.msgs {
		if b.msgs[i].to == nil {
			oneWay++
		}
		b.msgs[i].fail(err)
	}
	return oneWay
}

// Forward sends every message anew, in order, for a successor that lives elsewhere.
func (b Backlog) Forward(out Outbox) {
	for i := range b.msgs {
		m := b.msgs[i]
		m.edge.drop()
		var done func([]byte, error)
		if m.to != nil {
			done = m.to.complete
		}
		if err := out.Post(m.env, done); err != nil {
			m.fail(err)
		}
	}
}

// Adopt puts a predecessor's backlog at the head of a new activation's mailbox and starts draining it. It must come
// before the activation is shown to anybody.
func (a *Activation) Adopt(b Backlog) {
	if b.Len() == 0 {
		return
	}
	a.mu.Lock()
	for i := range b.msgs {
		a.queue.push(b.msgs[i])
	}
	a.running = true
	a.mu.Unlock()
	a.cfg.Spawn(a.run)
}
