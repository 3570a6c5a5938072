// Package consensus is the quorum log and every node's part in it. A voter has a [Voter], a [Log], which is the state machine of package
// cluster/core with what followers are told of it, and an [Office], which puts into the log what nodes ask for and, while it leads, what
// core.Chair decides. Every node, voters too, has a [Resident]: it follows the log by asking voters, keeps the node's session, and has actors moved
// as the log says. What is decided is decided in cluster/core; here are the goroutines, the wire and the disk around it.
//
// The voters' side of the quorum log is this: three or five nodes that keep one small replicated log, from which every
// node of the cluster takes which session owns what (package cluster/core has the state machine; to this package it is a [Machine]
// of opaque entries). The log is hashicorp/raft's, on disk that of raft-wal, and between voters it goes over streams of the link. No
// other package knows any of the three.
//
// # Who is a voter
//
// A voter is a node with a disk: its raft id is NODE#NONCE, and the nonce is drawn when DIR/raft is made, and again by [Recover]. A node that lost its disk
// comes back with another raft id, which no configuration names, and so it cannot vote twice in a term that it has forgotten. It says
// so ([NotVoter]) and waits until an operator has removed the old id and added the new one. The first bytes of every stream between
// voters name the raft id that is meant, and an end that has another one refuses.
//
// # How a log begins
//
// The operator names the voters once, on each of them, the same list (VoterConfig.Voters). Each answers the others by a service of
// the link with its raft id and its list; when all have answered, with one list and no log, the voter with the smallest id writes the
// first entry, and the others get it from there. So one node decides, and two lists that contradict each other end in an error that
// quotes both. From then on the log says who votes; the list is compared with it, and a difference is warned about, no more. Voters
// come and go by [Voter.Add] and [Voter.Remove], one at a time.
//
// # What is promised of an entry
//
// [Voter.Propose] returns the machine's answer once the entry is on the disks of a majority and applied here. [ErrNotLeader] means
// that the entry is not in the log and never will be; after [ErrOutcomeUnknown] it may be, now or later. Entries are applied in the
// order of their indices, each once for each life of a machine, from one goroutine at a time.
//
// # Disks that fail
//
// A voter whose disk refuses a write has promised nothing by that write, and can promise nothing more: it stops, alone, and says on
// [Voter.Failed] which path is full or broken. What was never written is never acknowledged. A log or a snapshot that does not read
// as it was written is refused when the voter is opened, with the file's name; entries carry checksums of their own, because raft-wal
// checks the last batch only.
//
// # Trust
//
// Every node with a certificate of the cluster may open a stream to a voter, and raft believes what comes over it: between nodes of
// one cluster there is no protection against one that lies about the log. A configuration that cannot be read, and an entry of an
// unknown kind, are refused all the same before they are stored.
package consensus
