package core

// bug is a fault that builds with the tag "planted" can put into the core.
type bug uint8

// The planted bugs. Each breaks one rule of who may run an actor (docs/guarantees.md); the simulator must find every one.
const (
	bugNone             bug = iota
	bugRenewEnded           // a renewal revives a session that has ended
	bugExpireRenewed        // a session expires although it was renewed meanwhile
	bugEpochKept            // a release hands over under the old epoch
	bugReleaseLate          // a release that comes late takes what was assigned anew
	bugGenerationKept       // recovery keeps the generation
	bugDeadlineReceipt      // the deadline counts from the reply, not from the sending
	bugExpireEarly          // the leader expires after less than the session's time
	bugNoWaitAtTakeover     // a new leader counts from renewals that it has not applied
	bugServeAtMove          // the target serves from the plan on, without waiting for the release
	bugReleaseRunning       // the source releases while its turns still run
	bugCheckNoDeadline      // checks do not look at the deadline
	bugResumeEnded          // a node goes on after its session has ended
	bugImageOnAbort         // what was staged for a move that was aborted is woken all the same
	bugFenceLate            // the store's fence is claimed with the first write, not at the activation
	bugCacheKept            // the PID cache keeps what a new view does not confirm
	bugStaleSender          // messages of activations that have been replaced are taken
	bugSuspendKept          // a node goes on with its session after its machine was suspended
	bugEnd
)

// ClaimsBeforeActivation reports whether the store's fence of a partition is claimed before the first activation in it, so that nothing
// that an earlier owner has under way can be committed after a state was loaded. It is true.
func ClaimsBeforeActivation() bool { return !planted(bugFenceLate) }
