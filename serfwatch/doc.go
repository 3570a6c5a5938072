// Package serfwatch tells the cluster layer who the members are, by gossip: a [Watch] is a [cluster.TopologyStream] over
// hashicorp/serf, and the only place that imports it.
//
//	watch, err := serfwatch.New(serfwatch.Config{ID: "n1", Authority: "10.0.0.1:7701", Bind: "10.0.0.1:7946",
//		Join: []string{"10.0.0.2:7946"}, Keys: [][]byte{key}, Log: log})
//	cfg.Topology = watch          // of cluster.Install
//	err = watch.Start(ctx)        // listens, joins, and has the first snapshot; before the cluster's own start
//	select { case <-watch.Failed(): ... }
//	err = watch.Leave(ctx)        // tells the others; Close does not
//
// # What it promises
//
// A view of gossip is advice, never mutual exclusion: two sides of a partition each see a cluster, a healthy node can be
// marked failed at one that hears nothing, and a node that was given up is not told. What follows from a snapshot has to
// be made safe elsewhere: by the voters' log, and by links that prove who is at the other end.
//
// Events of serf are wake-ups only. The view is computed anew from the member list each time, so none can be missed, and a
// list that says the same is not published again. A member that is leaving still counts.
//
// # What a node says of itself
//
// In its tags, 512 bytes at most, checked before anything starts: a protocol version, the cluster's name, its id, the boot
// number of this run, its mode, where its link listens, and how it spreads actors, unless that is the default. Kinds are told over the links. What others say is checked field by
// field, and a member that says anything else is left out of the view with a warning that names its address. The cluster's name
// is also the label of every packet and stream, so that nodes of another cluster do not get as far as having tags.
//
// serf's name of a node is its id and its boot number: a node that is started again at once, on whatever ports, is another
// member to serf and cannot collide with its former self, which is found dead in time. While both are there the newer run has
// the id. The same rule settles two nodes that were configured with one id, with a warning that names both; the one that
// lost learns it from [Watch.Superseded].
//
// # Staying together
//
// serf looks for failed members every 2 s and forgets them after 15 min. What it has forgotten is found by the seeds ([Config]'s
// Join): as long as a seed's address is not that of a live member, or this node is alone, it is joined again and again, with
// back-off and jitter. No clock is compared with another node's, but for the boot numbers of one id.
//
// Should serf stop by itself, [Watch.Failed] is closed and subscriptions end with [ErrFailed]: a node that gossips no more has to
// be ended by whoever runs it.
package serfwatch
