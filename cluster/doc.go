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
// [Transport] reaches other nodes. A silo that keeps what actors leave is a [Keeper] too, and one that can hand them over to
// another node a [Mover]. What happens is published to the [EventStream] and measured by [Metrics].
//
// # The way of a request
//
// [API.Send] looks the identity up in the PID cache, a wait-free read, and hands the envelope to the target it finds: no
// lock, no goroutine, no timer, no allocation of its own. Everything else happens only when that fails: a miss asks the core,
// which answers with the activation there is, with a lease for a new one, with the node that owns the actor, or with a refusal.
// A target that answers ownership_changed is forgotten and the identity resolved anew.
//
// # Several nodes
//
// Each node places actors by its own view of the members and of what they host. [API.Receive] takes what other nodes send: it
// delivers to activations of its own node or refuses, and never passes on. When views differ, and they do for a while after
// every change, a node that does not own the actor says so and names the owner that it knows. The sender tries there at
// once if that is a member in its own view too, at most twice in a row; then it backs off, so that views that name each other
// in a circle cost little until they settle. It remembers only what its own view confirms.
//
// What is tried again, and for how long:
//
//	ownership_changed, not_ready, no_quorum, blocked    nothing was done: with back-off until the deadline, if another node
//	and shutting_down of another node, unreachable      said so; as often as the retry policy has attempts, if it was this one
//	nobody hosts the kind, or all hosts are blocked     with back-off until the deadline
//	outcome_unknown                                     only if flagged abi.Idempotent; an idempotency key alone does not do,
//	                                                    since nothing remembers keys yet
//	everything else                                     not at all: the caller knows at once
//
// A back-off ends early when the view names another owner. Whoever runs out of time learns what stood in the way: the error's
// code is that of the last failure, unreachable for instance, as long as it is certain that nothing was done, else timeout; both
// match [ErrTimeout]. Who runs out of attempts gets timeout.
//
// [API.Post] does the same without a goroutine of the caller's: a message that cannot go anywhere waits with a courier of its
// actor's, in order, and so does one that another node has refused after it was posted.
//
// A node that leaves takes nothing more from others but what its own running turns wait for, while those turns still reach
// other nodes. A view is advice, never mutual exclusion: two nodes whose views differ may both have an activation of one
// actor until the views agree, when the one that is not the owner's is revoked.
//
// # Rules for those who implement its interfaces
//
// No lock is held while [PlacementActor], [Target], [Metrics] or [Telemetry] are called, so each may call back from within.
// The methods of [Observer], which is implemented here, may be called from any goroutine, also before Activate has
// returned. Reports about a lease that has ended are ignored.
package cluster
