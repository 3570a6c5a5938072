// Package link carries messages between nodes: it is the cluster's Transport, over TCP and mutual TLS 1.3, always.
//
// # Connections
//
// A node that has messages for another dials it, and sends its requests over that one connection; the other answers on it. What
// the other has to ask goes over a connection of its own, so there is at most one each way and nothing to settle when both dial
// at once. A connection is made when the first message wants it ([Link.Target] only looks it up), or when the node is a member
// ([Link.SetMembers]), and made again, with back-off, when it was lost.
//
// Both sides prove who they are by certificates that name node and cluster (package ca), then introduce themselves: versions of
// the protocol, cluster, id, run, address, limits. Either may refuse, with a frame that says why. Gossip proposes where a node is;
// only what this package has verified is believed. [Link.Probe] stops there: it finds out which run of a node answers at an address,
// for two processes that were given one id.
//
// # Frames
//
// A frame is four bytes of length and a CBOR array: hello, refusal, request, one-way, reply, failure, cancel, kinds, ping, pong,
// goaway, ask, and those of relays (frame.go). Envelopes, errors and their limits are those of package abi; a deadline travels as the time that is left.
//
// Requests are pipelined. Whoever has a frame writes it, together with the frames of all who came meanwhile, and never waits for the
// network: what it does not take at once is left to the connection's writer (outbox.go). A request costs no goroutine and no
// timer. Messages to one node arrive in the order in which they were sent.
//
// What nodes ask each other beside the messages of actors, such as what the methods of a kind are, goes to named services
// ([Link.Ask]) over the same connections, in no order, each on a goroutine of the other node.
//
// What has a protocol of its own, as the voters' log has, opens a stream ([Link.Stream]): a connection of its own over the same
// listener, with the same proofs and hellos, whose bytes the link does not look at.
//
// # What is known of a message that failed
//
// An error of the other node comes back as it is. Otherwise the error is an [*Error]: `unreachable` (or `shutting_down`) if nothing
// was sent, whatever the reason, so that the message may go elsewhere; `outcome_unknown` if the connection was lost when some of it
// may have been; `timeout` and `canceled` if the caller's time or patience ended, which ends the wait and not the work.
//
// # Two nodes that cannot reach each other
//
// Gossip notices nothing when two members cannot connect and all others reach both. Messages between them then go through a third member, which
// says that it reaches the other: a detour (detour.go). The third passes on the envelope as it is (relay.go), over a connection that stands, and
// takes no detour itself, so that nothing goes further than that. Bounds, deadlines and errors are as ever, with these additions: `unreachable`
// names the pair and the members that do not reach the other either; a relay that goes away with a message is `outcome_unknown`; and what is
// passed on for others, all together, has a quarter of a connection's bounds, beyond which it is `overloaded`. Everything to a node takes one way at a time, and
// before a connection that stands again is used, the relay has to say that all it was given has arrived, so messages keep their order. Only what
// was under way on a way that broke, whose outcome is unknown, may arrive late, as it may after any connection that was lost.
//
// A node that refuses another, or is refused by it, is not reached behind its back. Streams are not relayed, and of questions only those to
// services in Config.Relayed.
//
// # Bounds
//
// A connection holds at most Config.MaxInFlight requests and Config.MaxBytes of them, calls that were given up included as long as
// their frames have to be written. A message beyond that is refused with `overloaded` at once, by the sender, or by the receiver if
// the sender does not keep to it. A message is bounded by Config.MaxMessage: a larger one fails before anything is sent, with
// `payload_too_large`; a peer that sends one is dropped before anything is allocated for it. While more than Config.MaxBytes of
// replies wait for a peer to read them, its requests are not read either; when they are twice that, further replies to what it had
// asked before become `outcome_unknown`.
//
// # Bad company
//
// A connection that is silent for four keepalives (pings are answered by the package itself), that begins a frame and does not
// end it, that does not read, or that speaks anything but this protocol, is dropped: a line in the log, at most one each ten
// seconds for a peer and reason, and an [Incident] for the block list. So is one that claims another's id or an older run of its
// own while a newer one is connected. Other connections do not notice. What is not known to be anybody (no certificate yet) has
// Config.DialTimeout and 16 KiB to become somebody, and less when there are many of its sort, first of all from its address (lobby.go).
//
// A member that lies can do this as a relay: read, change, hold back, lose, repeat and reorder the messages that go through it, and make up answers
// and failures, `unreachable` among them, so that they are sent again; say that it reaches who is gone, or what a node hosts that this one has
// never been connected to. It can do so only to a pair that cannot connect, and only while it is their relay. It cannot speak for another where
// that counts: the other end takes a relayed message for one that the relay was free to send itself, as any member is, and the name of
// who it is from for the relay's word ([RelayHandler]). Questions are another matter, since services go by who asks. They take the one that asks from
// its certificate, or are asked through nobody: hence Config.Relayed, which has those that answer everybody the same. What a node says itself of
// what it hosts always counts for more than what a relay has said, and a fence that does not come keeps no pair apart for long.
package link
