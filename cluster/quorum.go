package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// What the voters' log says of this node, and of who owns what; see core.Tenant, whose effects these methods carry out. They do nothing
// without [Config.Quorum].

// HandleAssigned brings the log's assignments, and which session is this node's own, 0 for none: then its activations end.
func (r *Runtime) HandleAssigned(a *core.Assignments, session core.SessionID) {
	r.step(&core.Input{Type: core.Assigned, Assignments: a, Session: session})
}

// HandleSession says until when this node's session lasts. From then on no turn begins or ends until it is told anew; the zero time is
// at once.
func (r *Runtime) HandleSession(until time.Time) {
	d := time.Duration(0)
	if !until.IsZero() {
		d = until.Sub(r.base)
	}
	r.mu.Lock()
	r.gate.open(d)
	out := r.applyLocked(r.machine.Step(&core.Input{Type: core.Renewed, Until: d}, r.now()))
	r.mu.Unlock()
	r.run(out)
}

// HandleHold keeps new messages for the actors of a part, which is about to move, until [Runtime.HandleUnhold]. Those of turns that its
// actors wait for pass.
func (r *Runtime) HandleHold(p core.Part) {
	r.step(&core.Input{Type: core.Hold, Part: p})
}

// HandleSeal says that the activations of a part that is held have ended. If it returns true, nothing of the part begins here until
// [Runtime.HandleUnhold]; otherwise one is left, or was just about to be made.
func (r *Runtime) HandleSeal(p core.Part) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	effects := r.machine.Step(&core.Input{Type: core.Seal, Part: p}, r.now())
	return len(effects) > 0 && effects[0].Type == core.Sealed
}

// HandleUnhold lets what was held for a move go where it goes by now.
func (r *Runtime) HandleUnhold(m core.MoveID) {
	r.step(&core.Input{Type: core.Unhold, Part: core.Part{Move: m}})
}

// cutOff reports whether what a client sends to another node's actor had better be refused: this node's session has run out, so that it is
// probably cut off, and nobody would ever know what became of the message. What an actor sends has passed its permit.
func (r *Runtime) cutOff(e *pidEntry, env *abi.Envelope) bool {
	return r.cfg.Quorum && !e.route.Local() && env.Caller.IsZero() && r.gate.shut()
}

// senders guards what messages have shown of their senders' epochs beyond the view, which is mostly nothing.
type senders struct {
	mu    sync.Mutex
	known core.Senders
	any   atomic.Bool // known has something
}

// refuses is [core.Senders.Refuses], without the lock where the view is all that is known and the message confirms it.
func (s *senders) refuses(v *View, caller Identity, epoch abi.Epoch) bool {
	if !s.any.Load() && v.Epoch(caller.Kind(), core.PartitionOf(caller)) == epoch {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := s.known.Refuses(v, caller, epoch)
	s.any.Store(s.known.Len() > 0)
	return refused
}

func (s *senders) settle(v *View) {
	if !s.any.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known.Settle(v)
	s.any.Store(s.known.Len() > 0)
}

// stale refuses a message of an actor that has been given to another session since, by the log or by what has come from there: what a paused
// node sends late.
func (r *Runtime) stale(env *abi.Envelope) error {
	if !r.cfg.Quorum || env.Caller.IsZero() || !r.senders.refuses(r.View(), env.Caller, env.SenderEpoch) {
		return nil
	}
	return abi.NewError(abi.ErrDenied, "the message comes from an activation of "+env.Caller.Key()+
		" that has been replaced since: its node has lost the actor; nothing was done")
}
