package cluster

import (
	"fmt"
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

// HandleHeard says how far this node has heard of the log, of which it has been told all that matters by [Runtime.HandleAssigned].
func (r *Runtime) HandleHeard(generation uint32, index uint64) {
	r.accuse(r.settle(abi.Epoch{Generation: generation, Index: index}))
}

// senders guards what messages have shown of their senders' epochs beyond the view, which is mostly nothing.
type senders struct {
	mu    sync.Mutex
	known core.Senders
	any   atomic.Bool // known has something
}

// judge is [core.Senders.Judge], without the lock where the view is all that is known and the message confirms it.
func (r *Runtime) judge(caller Identity, epoch abi.Epoch, from NodeID) core.Verdict {
	s := &r.senders
	if !s.any.Load() && r.View().Epoch(caller.Kind(), core.PartitionOf(caller)) == epoch {
		return core.Current
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The view is read under the lock: it must not be older than what settle has heard.
	verdict := s.known.Judge(r.View(), caller, epoch, from)
	s.any.Store(s.known.Len() > 0)
	return verdict
}

// settle forgets what the view knows, or refutes, by now.
func (r *Runtime) settle(upTo abi.Epoch) []core.Claim {
	s := &r.senders
	if !s.any.Load() && upTo == (abi.Epoch{}) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	invented := s.known.Settle(r.View(), upTo)
	s.any.Store(s.known.Len() > 0)
	return invented
}

// accuse tells the log of epochs that nodes made up.
func (r *Runtime) accuse(invented []core.Claim) {
	for _, c := range invented {
		if n := r.invented.Add(1); seldom(n) {
			r.log.Error("a node has sent a message under an epoch that the voters have never given: it, or what relayed the message, lies or is broken; "+
				"if it stays so, keep it out with `wasilo members block`, and look into it", "node", c.From, "kind", c.Kind, "partition", c.Partition,
				"epoch", written(c.Epoch), "times", n)
		}
	}
}

// stale refuses a message of an actor that has been given to another session since, by the log or by what has come from there: what a paused
// node sends late. It refuses epochs that are made up as well.
func (r *Runtime) stale(env *abi.Envelope, from NodeID) error {
	if !r.cfg.Quorum || env.Caller.IsZero() {
		return nil
	}
	switch r.judge(env.Caller, env.SenderEpoch, from) {
	case core.Replaced:
		return abi.NewError(abi.ErrDenied, "the message comes from an activation of "+env.Caller.Key()+
			" that has been replaced since: its node has lost the actor; nothing was done")
	case core.Invented:
		r.accuse([]core.Claim{{Kind: env.Caller.Kind(), Partition: core.PartitionOf(env.Caller), Epoch: env.SenderEpoch, From: from}})
		return abi.NewError(abi.ErrDenied, "the message says to come from an activation of "+env.Caller.Key()+" under epoch "+written(env.SenderEpoch)+
			", which the voters have never given; nothing was done")
	case core.FarAhead:
		return abi.NewError(abi.ErrNotReady, "the message comes from an activation of "+env.Caller.Key()+" under epoch "+written(env.SenderEpoch)+
			", of which this node has not heard by far: it catches up with the voters, or the epoch is made up; nothing was done")
	}
	return nil
}

func written(e abi.Epoch) string { return fmt.Sprintf("%d.%d", e.Generation, e.Index) }
