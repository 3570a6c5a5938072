// Package core decides what happens in the cluster layer, and does none of it.
//
// A [Machine] is told what happened ([Input]: a topology came, a request needs an actor, the silo reported a
// termination) and answers with what is to be done ([Effect]: activate under this lease, forget that PID, revoke). What is
// worth telling the world it only puts into a queue ([Event]). Package cluster is the one loop around it: it holds the lock,
// carries the effects out and empties the queue.
//
// # What it promises
//
//   - Nothing here opens a socket or a file, reads a clock, draws a random number, starts a goroutine or takes a lock. Time and
//     randomness are parameters, so the same inputs give the same effects and events in the same order, on every
//     platform; the package builds and behaves the same for GOOS=wasip1 GOARCH=wasm.
//   - A [Machine] belongs to one caller at a time. A [Topology] and a [View] never change once made and may be shared freely.
//   - Who owns an actor follows from data alone: the members, who hosts which kind, and who is blocked (see [View]). Two nodes
//     with the same data decide the same, whatever the order in which it reached them.
//   - Of one identity a node has at most one activation that has not ended, whatever the order in which requests,
//     terminations and ownership changes arrive (see [Ledger]).
//
// The hashes of this package are part of the protocol between nodes; golden tests freeze them.
package core
