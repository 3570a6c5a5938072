// Package turnlog writes down when a node's activations began to take turns, which checks let turns run, and when what
// they brought about left, so that the logs of all nodes of one machine can be laid beside each other afterwards: did an
// actor run under two epochs at once?
//
// It is for tests of the cluster (tools/chaos) and for whoever hunts such a fault, not for operation: every turn costs
// two system calls. A record is one line of JSON and one write(2), so that a process that is killed has lost none that it
// had written. Times are those of CLOCK_MONOTONIC, which all processes of a machine share, network namespaces or not.
//
// A [Log] may be used from many goroutines at once. It is what host/actor calls a Witness.
package turnlog
