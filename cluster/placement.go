package cluster

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// Target is where an actor takes messages: an activation on this node, or the way to another node. The envelope always
// has a deadline; the target must not change it and may keep it beyond the call. Errors are coded (see package abi);
// ownership_changed means that the actor is not there any more. It and the other codes of core.Reroutes promise that nothing
// was done, since the message is sent again then: an implementation lets no actor answer them. The way to another node answers
// unreachable if nothing was sent, and outcome_unknown if something may have been.
type Target interface {
	// Deliver hands env over and waits for the reply, at the latest until env.Deadline or the end of ctx. A one-way envelope
	// returns once it is accepted.
	Deliver(ctx context.Context, env *abi.Envelope) ([]byte, error)
	// Post hands env over without waiting: it never blocks. When it returns nil, done (which may be nil) is called exactly once,
	// from any goroutine; for a one-way envelope once it is accepted. The way to another node is always given a done, and keeps
	// messages in the order in which they were posted.
	Post(env *abi.Envelope, done func(payload []byte, err error)) error
}

// PlacementActor makes this node's activations come and go: the silo. Its methods are called from any goroutine, with no
// lock held.
type PlacementActor interface {
	// Activate admits an actor under a lease and returns where it takes messages. It never blocks: the instance starts
	// with its first turn. Later progress goes to req.Observer; an error returned here goes to nobody else.
	Activate(req ActivationRequest) (Target, error)
	// Revoke discards the activation of exactly this lease after the turn that runs; the observer is told Terminated. A lease
	// that it does not have is nothing to it.
	Revoke(lease Lease)
	// Drain ends every activation in good order, and from its beginning refuses new ones. It returns when none is left, or
	// ctx's error if the time did not suffice. Every end has been told to its observer before.
	Drain(ctx context.Context) error
}

// ActivationRequest asks for an activation.
type ActivationRequest struct {
	Lease  Lease
	Props  Props
	Reason string // what brought it about: "call", "message" or "get"
	// Permit is to be asked whether the activation may run; nil: it always may, until it is revoked.
	Permit   Permit
	Observer Observer
}

// Observer is told how the activation of a lease fares. Its methods never block, may be called from any goroutine, and
// ignore what concerns a lease that has ended. Each activation ends with exactly one of Failed and Terminated.
type Observer interface {
	// Started says that the instance stands.
	Started(Lease)
	// Releasing says that the activation takes no more messages and will end. It is optional: told, whoever resolves the
	// identity waits for its end at once; untold, only after the target has refused a message.
	Releasing(Lease)
	// Failed says that the instance could not be started and is gone.
	Failed(Lease, error)
	// Terminated says that the instance is gone, and why.
	Terminated(lease Lease, reason string)
}

// Keeper is what a [PlacementActor], or a [PartitionBridge] to one, implements if it keeps the state of actors beyond their
// activation. Its methods are called from any goroutine, with no lock held, and never block for long.
type Keeper interface {
	// Keeps reports whether an actor of this node left something: one that must exist does.
	Keeps(id Identity) bool
	// Forget says that this node has lost actors, so that what it keeps of them is out of date. The same actors may be this node's
	// own again by the time it is called: only what they left under leases of epochs up to loss.Epoch is meant. The revocations
	// that the same event brings about may come before or after.
	Forget(loss Loss)
}

// Partitions is how many partitions the actors of a kind are hashed to.
const Partitions = core.Partitions

// PartitionOf returns the partition of an actor: what a node owns, and loses, is told by these.
func PartitionOf(id Identity) uint16 { return uint16(core.PartitionOf(id)) }

// Loss is what a node does not own any more.
type Loss struct {
	Kind       string      // "": every kind
	Partitions *core.Moved // true for those lost; nil: every one. It must not be changed
	Epoch      abi.Epoch   // of the last lease under which something of it can have been kept
	// Planned says that it was given to another node in good order, with what was to travel: nothing is lost by it.
	Planned bool
}

// PartitionSet says of each partition whether it is meant.
type PartitionSet = core.Moved

// Part is some of the actors there are: those of some kinds in some partitions. The zero value is all.
type Part struct {
	Kinds      []string      // nil: every one
	Partitions *PartitionSet // nil: every one. It must not be changed
}

// Has reports whether an actor belongs to the part.
func (p *Part) Has(id Identity) bool {
	return p.HasKind(id.Kind()) && (p.Partitions == nil || p.Partitions[PartitionOf(id)])
}

// HasKind reports whether the part has some of a kind.
func (p *Part) HasKind(kind string) bool { return p.Kinds == nil || slices.Contains(p.Kinds, kind) }

// MoveID names a planned move of a part from one node to another, in the whole cluster and for all time.
type MoveID uint64

// Manifest says what was handed over. Equal manifests (==) are of the same actors with the same states, however they were cut in chunks.
type Manifest struct {
	Actors uint64
	Bytes  uint64 // of records
	Sum    uint64 // of the records' hashes, so that their order does not matter
	// Newest is the latest epoch under which any of it was left. What an assignment hands over has to run under a later one.
	Newest abi.Epoch
}

// What a [Mover] refuses.
var (
	// ErrMoveUnknown: nothing was staged under the move, or it has been accepted or rejected.
	ErrMoveUnknown = errors.New("nothing is staged under this move")
	// ErrChunkDamaged: the chunk is not what was exported.
	ErrChunkDamaged = errors.New("the chunk of a move is damaged")
	// ErrChunkVersion: the chunk is of a format that this node does not know.
	ErrChunkVersion = errors.New("the chunk of a move is of another version")
	// ErrMoveEpoch: what was staged was left under a later epoch than the one it is to be accepted under.
	ErrMoveEpoch = errors.New("what is staged is newer than the assignment")
	// ErrChunkForeign: the chunk has an actor that is none of the move's part, or was in the move before.
	ErrChunkForeign = errors.New("the chunk of a move has an actor that it should not have")
)

// Mover is what a [PlacementActor], or a [PartitionBridge] to one, implements if it can hand actors over to another node in good order.
// Its methods are called from any goroutine, with no lock held.
//
// On the node that gives a part away, in this order: Surrender, with nothing of the part let through to the silo from before its
// beginning, but for requests whose call chain has an actor of this node; Export; and once the part is another's, [Keeper].Forget, as for any
// loss. Until then the part is this node's, and whenever the move is given up it goes on from what is kept, with nothing to undo.
//
// On the node that takes it: Import of each chunk, Staged, and then either Reject, or Accept once the part is this node's and before
// the first of its actors is activated.
type Mover interface {
	// Surrender ends every activation of the part in good order. A running turn is finished, and so are the requests for which it
	// waits, replies that were deferred and calls under way. Messages that wait are given back: to who waits with ownership_changed, and
	// the others, one-way messages above all, by being posted anew, in order. What hibernates is captured as if it went to sleep,
	// however short it idled; what does not is passivated, and its state ends, as volatile state does. Timers go with
	// the state or, without one, end.
	//
	// It returns nil when there is no activation left, the ends having been told to their observers. Otherwise the error is ctx's, joined
	// with that of an actor that could not be captured if there was one: then what has ended has ended, and goes on from what it left
	// with its next message, and the rest goes on as if nothing had been. A node that loses the part meanwhile revokes what is left of
	// it, as ever, and this returns nil.
	Surrender(ctx context.Context, part Part) error
	// Export hands what is kept of the part to emit, in chunks of at most chunk bytes, but for an actor that alone is larger: it has
	// a chunk of its own. Emit must not keep the bytes; its error, and ctx's, ends it. What is exported stays here until Forget. Volatile
	// state is left out. The error is ownership_changed if the node has lost some of it meanwhile.
	Export(ctx context.Context, part Part, chunk int, emit func([]byte) error) (Manifest, error)
	// Import stages a chunk under a move, in the budget of what sleeps. The actors cannot be woken from it. An error means that nothing
	// of the chunk was staged, and wraps [ErrChunkDamaged], [ErrChunkVersion] or [ErrChunkForeign], or is overloaded, for want of room.
	Import(move MoveID, part Part, chunk []byte) error
	// Staged returns what was imported under a move, to be compared with what Export returned, and how many of its actors, by kind, were left
	// by another version of the module than this node has at present: these are given up when they are to wake, unless that version
	// has come by then.
	Staged(move MoveID) (m Manifest, foreign map[string]int)
	// Accept makes what was staged under a move this node's own, under the epoch that the part's assignment to it has; it ends the move's
	// staging. States of which it turns out that they are lost are told to who asks for the actor first. It fails with
	// [ErrMoveUnknown], with [ErrMoveEpoch], which leaves all staged as it is, and with ownership_changed if the node has lost some of it by now: that is dropped.
	Accept(move MoveID, epoch abi.Epoch) error
	// Reject drops what was staged under a move, if anything was.
	Reject(move MoveID)
}

// PartitionBridge carries the decisions about partitions to a [PlacementActor], which it either is or reaches.
type PartitionBridge interface {
	// Name tells bridges apart: "local".
	Name() string
	PlacementActor
}

// PartitionBridgeFactory builds a bridge to p while the extension is installed into sys.
type PartitionBridgeFactory func(sys *System, p PlacementActor) (PartitionBridge, error)

// LocalBridge is the [PartitionBridgeFactory] used when none is configured: it hands everything straight to p.
func LocalBridge(_ *System, p PlacementActor) (PartitionBridge, error) {
	return localBridge{p}, nil
}

type localBridge struct{ PlacementActor }

func (localBridge) Name() string { return "local" }

// Keeps implements [Keeper].
func (b localBridge) Keeps(id Identity) bool {
	k, ok := b.PlacementActor.(Keeper)
	return ok && k.Keeps(id)
}

// Forget implements [Keeper].
func (b localBridge) Forget(loss Loss) {
	if k, ok := b.PlacementActor.(Keeper); ok {
		k.Forget(loss)
	}
}

// errNoMover is what a bridge answers for a silo that cannot hand actors over.
var errNoMover = abi.NewError(abi.ErrUnsupported, "this node's placement cannot move actors to other nodes")

// Surrender implements [Mover].
func (b localBridge) Surrender(ctx context.Context, part Part) error {
	if m, ok := b.PlacementActor.(Mover); ok {
		return m.Surrender(ctx, part)
	}
	return errNoMover
}

// Export implements [Mover].
func (b localBridge) Export(ctx context.Context, part Part, chunk int, emit func([]byte) error) (Manifest, error) {
	if m, ok := b.PlacementActor.(Mover); ok {
		return m.Export(ctx, part, chunk, emit)
	}
	return Manifest{}, errNoMover
}

// Import implements [Mover].
func (b localBridge) Import(move MoveID, part Part, chunk []byte) error {
	if m, ok := b.PlacementActor.(Mover); ok {
		return m.Import(move, part, chunk)
	}
	return errNoMover
}

// Staged implements [Mover].
func (b localBridge) Staged(move MoveID) (Manifest, map[string]int) {
	if m, ok := b.PlacementActor.(Mover); ok {
		return m.Staged(move)
	}
	return Manifest{}, nil
}

// Accept implements [Mover].
func (b localBridge) Accept(move MoveID, epoch abi.Epoch) error {
	if m, ok := b.PlacementActor.(Mover); ok {
		return m.Accept(move, epoch)
	}
	return errNoMover
}

// Reject implements [Mover].
func (b localBridge) Reject(move MoveID) {
	if m, ok := b.PlacementActor.(Mover); ok {
		m.Reject(move)
	}
}

// noPlacement is what a client node has in the place of a silo.
type noPlacement struct{}

func (noPlacement) Activate(ActivationRequest) (Target, error) {
	return nil, abi.NewError(abi.ErrUnsupported, "this node is a client: it hosts no actors")
}
func (noPlacement) Revoke(Lease)                {}
func (noPlacement) Drain(context.Context) error { return nil }

// ErrBridgeRegistered is returned for a second bridge of one name.
var ErrBridgeRegistered = errors.New("a partition bridge of this name is registered already")

// PartitionBridges is the registry of a runtime's bridges. The first one registered is primary until another is chosen.
// It may be used from any goroutine.
type PartitionBridges struct {
	mu      sync.RWMutex
	bridges []PartitionBridge
	primary int
}

// Register adds a bridge.
func (r *PartitionBridges) Register(b PartitionBridge) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b == nil || b.Name() == "" {
		return errors.New("a partition bridge needs a name")
	}
	if r.find(b.Name()) >= 0 {
		return errors.Join(ErrBridgeRegistered, errors.New(strconv.Quote(b.Name())))
	}
	r.bridges = append(r.bridges, b)
	return nil
}

// SetPrimary makes the bridge of that name the one that later activations go through. Activations already made keep theirs.
func (r *PartitionBridges) SetPrimary(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.find(name)
	if i < 0 {
		return errors.New("no partition bridge is called " + strconv.Quote(name))
	}
	r.primary = i
	return nil
}

// Primary returns the bridge that activations go through.
func (r *PartitionBridges) Primary() PartitionBridge {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bridges[r.primary]
}

// All returns every bridge in order of registration.
func (r *PartitionBridges) All() []PartitionBridge {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return append([]PartitionBridge(nil), r.bridges...)
}

func (r *PartitionBridges) find(name string) int {
	for i, b := range r.bridges {
		if b.Name() == name {
			return i
		}
	}
	return -1
}

// Transport reaches other nodes: the link layer. A cluster of one needs none.
type Transport interface {
	// Target returns where messages for actors of a node go. It never blocks: connecting is the first message's matter.
	Target(node Node) (Target, error)
}
