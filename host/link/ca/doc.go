// Package ca gives nodes certificates and decides whom to believe.
//
// A cluster has one certificate authority. Every node has a certificate of it that names the node in a URI,
// spiffe://<cluster>/node/<id>, and nothing else in a certificate counts: no host name, no address. Two nodes that connect
// check each other's chain and name by mutual TLS 1.3; gossip may propose any address for a node, TLS disposes.
//
// There are two ways to an authority. On one machine nobody should have to make one: [OpenDevelopment] makes an authority
// for the user when the first node starts, and every node of that user finds the same one. For anything else, [Init] makes
// a directory with an authority, [Authority.WriteNode] a pair of files for a node, and [OpenFiles] reads them on the node, which
// needs no key of the authority.
//
// Either way a node holds [Credentials], from which both sides of a connection get their tls.Config. Credentials look after
// themselves: those of an authority at hand issue a new certificate before the old one ends, those of files read the files
// again when they have changed. All of it is Ed25519 and standard library.
//
// What is secret is written with mode 0600, whole or not at all, and refused when others may read it.
package ca
