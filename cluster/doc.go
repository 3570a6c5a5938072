// Package cluster makes every kind/identity an actor that can be called: it finds the node that owns the actor, has it
// activated there under a lease, remembers where it is, and tries again when it moves.
//
// A program installs the layer into its [System] with one line and uses it through the [API]:
//
//	sys := cluster.NewSystem(cluster.SystemConfig{})
//	_, err := cluster.Install(sys, config) // config names this node, the topology and the placement
//	err = sys.Start(ctx)
//	api, err := cluster.APIOf(sys)
//	reply, err := api.Request(ctx, id, cluster.Message{Method: "add", Payload: payload})
//	err = sys.Shutdown(ctx)
//
// Without the Install line nothing of it exists.
//
// # The parts
//
// Package cluster/core decides; [Runtime] is the loop around it. The [TopologyStream] says who the members are, a
// [PartitionBridge] hands activation requests to the [PlacementActor] (the silo), whose activations are [Target]s, and the
// [Transport] reaches other nodes. What happens is published to the [EventStream] and measured by [Metrics].
//
// # The way of a request
//
// [API.Send] looks the identity up in the PID cache, a wait-free read, and hands the envelope to the target it finds: no
// lock, no goroutine, no timer, no allocation of its own. Everything else happens only when that fails: a miss asks the core,
// which answers with the activation there is, with a lease for a new one, with the node that owns the actor, or with a refusal.
// A target that answers ownership_changed is forgotten and the identity resolved anew.
//
// # Rules for those who implement its interfaces
//
// No lock is held while [PlacementActor], [Target], [Metrics] or [Telemetry] are called, so each may call back from within.
// The methods of [Observer], which is implemented here, may be called from any goroutine, also before Activate has
// returned. Reports about a lease that has ended are ignored.
package cluster
