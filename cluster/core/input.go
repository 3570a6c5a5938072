package core

import (
	"time"

	"github.com/wasilo/wasilo/abi"
)

// InputType says what happened.
type InputType uint8

// The inputs of a [Machine]. Which fields they use is said beside each.
const (
	// Start lets resolves through. Before it they are refused with [RefusedNotStarted].
	Start InputType = 1 + iota
	// TopologyChanged brings a snapshot (Topology). One with the hash of the last changes nothing.
	TopologyChanged
	// StreamEnded says that no snapshots come for the time being (Reason); the last one stays in force.
	StreamEnded
	// Resubscribed says that they come again.
	Resubscribed
	// SetKinds says which kinds a node has (Node, Kinds), all of them each time. For this node they are registered too, and
	// in client mode registered only.
	SetKinds
	// Block puts a node on the block list, Unblock takes it off (Node).
	Block
	Unblock
	// Resolve asks where an actor's messages go (Identity, Existing, Finishing, Refused). Exactly one effect answers it, from
	// [Use] to [Refuse].
	Resolve
	// Activated says that the activation request of [Activate] returned well (Lease, Handle).
	Activated
	// Failed says that it did not, or that the instance could not start later (Lease, Code, Reason).
	Failed
	// Started, Releasing and Terminated report an activation's progress (Lease; Terminated: Reason).
	Started
	Releasing
	Terminated
	// Lapse says that this node may have been taken for dead: it stood still for so long that the others can have given its actors
	// to somebody else. Every lease is revoked.
	Lapse
	// Assigned brings what the voters' log says, and which session is this node's own (Assignments, Session). With [Config.Quorum] that
	// decides who owns what.
	Assigned
	// Renewed says until when this node's session lasts (Until), in the time that Step counts.
	Renewed
	// Hold stops new messages for the actors of some partitions, which are about to move; Unhold lets them go where they go now (Part).
	// Messages that a turn of these very actors waits for pass, for such a turn has to end first.
	Hold
	Unhold
	// Seal says that what was held has ended here (Part): from now on nothing of it begins, for whatever reason, until Unhold. It is
	// answered by [Sealed], or by nothing while an activation is left, or about to be made: then it is to be said again.
	Seal
	// Shutdown begins a graceful shutdown: no new leases from here on.
	Shutdown
	// ReleaseAll releases what the shutdown left in the ledger, after the silo has drained.
	ReleaseAll
)

// Input is one thing that happened.
type Input struct {
	Type     InputType
	Topology *Topology
	Node     NodeID
	Kinds    []string // kept by the machine, which sorts them
	Identity Identity
	Existing bool // only an actor that is active
	// Finishing: for an actor of this node whose turn runs. During a shutdown it may still reach other nodes.
	Finishing bool
	Refused   abi.Epoch  // of a lease whose target has just refused the caller as gone; zero: none has
	Chain     []Identity // of a resolve: who waits for it
	// RefusedSerial is the serial of that lease.
	RefusedSerial uint64
	Lease         Lease
	Handle        any // how the adapter finds the activation; never nil; the machine only gives it back
	Code          abi.Code
	Reason        string

	Assignments *Assignments
	Session     SessionID
	Until       time.Duration
	Part        Part
}

// EffectType says what is to be done.
type EffectType uint8

// The effects of a [Machine]. The first five answer a [Resolve].
const (
	// Use: send to the activation behind Handle, and remember it in the PID cache, unless Held is set.
	Use EffectType = 1 + iota
	// Activate: request an activation under Lease on this node (Member), then tell [Activated] or [Failed].
	Activate
	// Forward: the actor's messages go to another node (Member).
	Forward
	// Wait: ask again when [Wake] names the identity. With Refused set also after a back-off: the ledger does not know yet
	// why the lease's target refused.
	Wait
	// Refuse: it cannot be resolved now (Refusal).
	Refuse

	// Admit: enter Handle into the PID cache, unless Held is set; answers Activated. Without it the activation is not to be used.
	Admit
	// Invalidate: drop the identity's PID if it is of the lease's epoch (Lease).
	Invalidate
	// Recheck: there is a new view. Drop every PID that it does not keep; they are among the partitions of Moved.
	Recheck
	// Withhold: drop every PID that the part is to have nobody find for now (Part; see [Part.Withholds]).
	Withhold
	// Revoke: tell the silo to discard the activation behind Handle (Lease).
	Revoke
	// Wake: whoever waits for the identity asks again (Identity).
	Wake
	// Sealed answers Seal.
	Sealed
	// Empty: shutting down, and no lease is left.
	Empty
	// Forget: this node has lost partitions (Moved) of a kind (Kind), or all it had (no Kind). What their actors left here under leases
	// up to Epoch is out of date from now on, whoever owns them later.
	Forget
)

// Effect is one thing to be done.
type Effect struct {
	Type     EffectType
	Refusal  Refusal
	Refused  bool
	Held     bool // it is about to move, or nobody hosts its kind any more: others have to ask for their way
	Identity Identity
	Lease    Lease
	Handle   any
	Member   *Member
	Moved    *Moved
	Part     *Part
	Kind     string
	Epoch    abi.Epoch
}

// Refusal says why a resolve was refused.
type Refusal uint8

// The refusals.
const (
	RefusedNotStarted   Refusal = 1 + iota
	RefusedShuttingDown         // this node is leaving
	RefusedUnknownKind          // the kind is neither registered here nor hosted anywhere
	RefusedNoMember             // nobody hosts it at present
	RefusedBlocked              // everybody who hosts it is blocked
	RefusedNotActive            // only an active one was wanted
	RefusedNoQuorum             // this node's session with the voters has run out
	RefusedUnowned              // the log names no owner at present
)

// Code returns what the refusal is on the wire.
func (r Refusal) Code() abi.Code {
	switch r {
	case RefusedNotStarted, RefusedNoMember, RefusedUnowned:
		return abi.ErrNotReady
	case RefusedNoQuorum:
		return abi.ErrNoQuorum
	case RefusedShuttingDown:
		return abi.ErrShuttingDown
	case RefusedUnknownKind:
		return abi.ErrUnknownKind
	case RefusedBlocked:
		return abi.ErrBlocked
	case RefusedNotActive:
		return abi.ErrNotActive
	}
	return abi.ErrInternal
}

// Passing reports whether asking again in a moment may succeed.
func (r Refusal) Passing() bool {
	return r == RefusedNoMember || r == RefusedBlocked || r == RefusedUnowned
}
