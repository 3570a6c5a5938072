package cluster

import (
	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// Identity names a virtual actor: kind and identity. It is comparable; its key is "kind/identity".
type Identity = abi.Identity

// IdentityError says which input is no identity, and why: [ErrEmptyKind], [ErrEmptyIdentity] or another reason of package abi.
type IdentityError = abi.IdentityError

// Why an identity was refused.
var (
	ErrEmptyKind     = abi.ErrEmptyKind
	ErrEmptyIdentity = abi.ErrEmptyIdentity
)

// NewIdentity checks both parts and joins them. The error is an [*IdentityError].
func NewIdentity(kind, id string) (Identity, error) { return abi.NewIdentity(kind, id) }

// ParseIdentity reads KIND/IDENTITY, split at the first slash. The error is an [*IdentityError].
func ParseIdentity(key string) (Identity, error) { return abi.ParseIdentity(key) }

// What package core defines and users of this package meet.
type (
	// NodeID names a node.
	NodeID = core.NodeID
	// Node is a member of the cluster: id and authority (host:port).
	Node = core.Member
	// Topology is a snapshot of the members.
	Topology = core.Topology
	// View says who owns what.
	View = core.View
	// Lease is the right of one activation to run.
	Lease = core.Lease
	// Strategy spreads partitions over nodes.
	Strategy = core.Strategy
	// RetryPolicy bounds retries.
	RetryPolicy = core.RetryPolicy
	// Mode is what a node is to its cluster.
	Mode = core.Mode
	// Event is something that happened in the cluster.
	Event = core.Event
	// EventType says what an event tells.
	EventType = core.EventType
)

// The modes of a node.
const (
	Member = core.MemberMode // hosts actors and calls them
	Client = core.ClientMode // only calls
)

// MaxWeight bounds a node's weight.
const MaxWeight = core.MaxWeight

// StrategyNamed finds a placement strategy by its name; "" is the default.
func StrategyNamed(name string) (Strategy, bool) { return core.StrategyNamed(name) }

// StrategyNames are the names of the placement strategies, the default first.
func StrategyNames() (names []string) {
	for _, s := range core.Strategies() {
		names = append(names, s.Name())
	}
	return names
}

// NewTopology makes a snapshot of members, in whatever order they come.
func NewTopology(members ...Node) (*Topology, error) { return core.NewTopology(members...) }

// Kind is a kind of actor that a node registers.
type Kind struct {
	Name string
}

// Props are the properties of an actor that is to be activated.
type Props struct {
	Kind string
}
