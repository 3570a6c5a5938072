package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// Config is what the extension is installed from.
type Config struct {
	// Self is this node: its id, and the authority (host:port) that its PIDs begin with. Required.
	Self Node
	// Cluster is the cluster's name, for logs and checks; "" is the System's, without that "wasilo".
	Cluster string
	// Mode is [Member] (the zero value) for a node that hosts actors, [Client] for one that only calls.
	Mode Mode
	// Kinds are the kinds registered from the start; [Runtime.SetKinds] changes them.
	Kinds []Kind
	// Topology says who the members are. Required; [StaticTopology] for a fixed set.
	Topology TopologyStream
	// Placement is the silo. Required of members, ignored for clients.
	Placement PlacementActor
	// Bridge builds the partition bridge; nil is [LocalBridge].
	Bridge PartitionBridgeFactory
	// Strategy spreads partitions over nodes; nil is rendezvous hashing. All nodes of a cluster need the same.
	Strategy Strategy
	// Quorum: who owns what is what the voters' log says (see [Runtime.HandleAssigned]), and an activation runs only while this node's
	// session with them lasts. Without it each node decides by its own view of the members.
	Quorum bool
	// Transport reaches other nodes; nil for a cluster of one: an actor of another node is not resolvable then.
	Transport Transport
	// ReadOnly reports whether a method changes nothing, so that a call of it may be sent again when its outcome is unknown, flagged
	// abi.Idempotent or not; nil knows of none. It is asked only then, by any goroutine, and must not block.
	ReadOnly func(kind, method string) bool
	// Coming says why a kind that nobody hosts may be hosted in a moment, such as modules that are being loaded; nil, or "" for an answer:
	// it will not. A request for it waits, as for a kind whose hosts are lost. It is asked for unknown kinds only, by any goroutine, and
	// must not block.
	Coming func(kind string) string
	// Waiting is told of a request that waits for an earlier activation of its target to end, and over is called when it does not any more.
	// An error, such as the deadlock that the wait would be, is the request's. It is called by any goroutine and must not block; nil: nobody is told.
	Waiting func(env *abi.Envelope) (over func(), err error)
	// Retry says how fast a request is tried again, and how often, where this node is what fails; what fails because of other nodes
	// is tried until the request's deadline. Its zero fields read as those of core.DefaultRetry.
	Retry RetryPolicy
	// Resubscribe bounds how fast a topology stream that ended is subscribed to again; it is tried for ever, so Attempts is
	// ignored. Zero fields read as those of core.DefaultRetry, but for Max: 10 s.
	Resubscribe RetryPolicy
	// DefaultTimeout bounds requests that name no time of their own; 0 is abi.DefaultRequest.
	DefaultTimeout time.Duration
	// Metrics takes the figures; nil drops them, which spares requests the clock.
	Metrics Metrics
	// Telemetry exports the events; nil exports none.
	Telemetry Telemetry
	// Status keeps the readiness; nil keeps it in the System's memory.
	Status StatusStore
	// Log takes the log; nil is the System's.
	Log *slog.Logger
	// Disabled leaves the system without a cluster: Install does nothing and returns nil.
	Disabled bool
}

// checked returns the configuration with defaults filled in, or every fault it has.
func (c Config) checked() (Config, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := core.CheckNodeID(c.Self.ID); err != nil {
		fault("Self.ID %q: %w", c.Self.ID, err)
	}
	if err := checkAuthority(c.Self.Authority); err != nil {
		fault("Self.Authority %q: %w", c.Self.Authority, err)
	}
	if c.Cluster == "" {
		c.Cluster = "wasilo"
	}
	if err := core.CheckNodeID(NodeID(c.Cluster)); err != nil {
		fault("Cluster %q: a cluster's name follows the rules of a node's: %w", c.Cluster, err)
	}
	switch {
	case c.Mode != Member && c.Mode != Client:
		fault("Mode %d is neither Member nor Client", c.Mode)
	case c.Mode == Member && c.Placement == nil:
		fault("Placement is missing: a member needs a silo to host actors; use Mode Client for a node that only calls")
	case c.Mode == Client:
		c.Placement = noPlacement{}
	}
	if c.Topology == nil {
		fault("Topology is missing: give cluster.StaticTopology(self) for a cluster of one")
	}
	if c.Bridge == nil {
		c.Bridge = LocalBridge
	}
	if err := c.Retry.Check(); err != nil {
		fault("Retry: %w", err)
	}
	if err := c.Resubscribe.Check(); err != nil {
		fault("Resubscribe: %w", err)
	}
	c.Retry = c.Retry.Filled()
	if c.Resubscribe.Max == 0 {
		c.Resubscribe.Max = max(10*time.Second, c.Resubscribe.Initial)
	}
	c.Resubscribe = c.Resubscribe.Filled()
	if c.DefaultTimeout < 0 {
		fault("DefaultTimeout %s is negative", c.DefaultTimeout)
	}
	if c.DefaultTimeout == 0 {
		c.DefaultTimeout = abi.DefaultRequest
	}
	if _, err := kindNames(c.Kinds); err != nil {
		fault("Kinds: %w", err)
	}
	return c, errors.Join(faults...)
}

// kindNames checks kinds and returns their names.
func kindNames(kinds []Kind) ([]string, error) {
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		if err := abi.CheckKind(k.Name); err != nil {
			return nil, err
		}
		names = append(names, k.Name)
	}
	return names, nil
}
