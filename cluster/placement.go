package cluster

import (
	"context"
	"errors"
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
