// Package actor runs one activation of a virtual actor: its mailbox, its turns one at a time, its deadlines, and what
// becomes of it when a turn fails.
//
// An [Activation] is a mailbox first and an instance second: it takes messages from the moment it exists, and its
// instance starts before the first turn, on a goroutine of the activation's own unless that is quick. So nobody who sends is ever held by a
// start beyond its deadline, and messages keep their order across it.
//
// # Where a turn runs
//
// A message that finds the actor started and idle, from a caller with enough time left for a whole turn, runs on the
// caller's own goroutine: a hop to another goroutine costs more than a call into a guest. Everything else waits in the
// bounded mailbox, which a runner goroutine drains; it lives only while there is something to drain. Cancelling a
// request ends the wait for it, never the turn.
//
// # Rest and sleep
//
// An instance that is a [Sleeper] can be made lighter while its actor is idle, and captured when it is to go: the state goes to the
// activation's [Keeper], and the next activation's instance goes on from it. For the guest nothing ends by that, so there is no last
// turn. A state that cannot be kept leaves the activation as it was, and one that cannot be woken goes back to the keeper.
//
// # What a turn may do
//
// During a turn the guest talks to its [Host], on the turn's goroutine: requests that block, parallel ones, logs. After
// it, the effects it returned are checked, then applied, all or none. A turn that breaks (trap, deadline, limit, breach
// of the contract) discards the instance and ends the activation; what waits in the mailbox moves to its successor.
// Only an activation that is to stop has none: it goes on with a new instance in the old one's place, so that a node
// can leave without losing what it has accepted.
//
// # Deadlocks
//
// A request carries the chain of actors whose turns cannot end before it is answered. A target that is in the chain is
// refused at once. For chains that meet crosswise, [Waits] keeps an edge from every actor of a chain to the actor in
// whose mailbox its message waits; a message that would close a cycle is refused. No timer is involved. An edge ends
// with the wait it stands for, be it answered or abandoned: otherwise an innocent call would be refused later.
//
// Each node has a picture of its own. A ring over two nodes mostly shows in one of them, since chains travel with the messages. One
// over several shows in none: there [Walk] tells what the actors of a node wait for, whoever asks follows that from node to
// node, and [Activation.Deadlocked] refuses a message that was taken already. The silo does so.
package actor
