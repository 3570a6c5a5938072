// Package abi is the contract between a wasilo node and its guests: identities, events and effects with their
// hand-written CBOR codec, error codes, limits, and every name and signature of ABI v1. ABI.md in this folder is the
// same contract in prose, abi.cddl in CDDL, testdata/vectors.json in golden bytes that the host and every SDK read.
//
// The package is light on purpose: every Go guest links it, so it uses no reflection, no third-party module and no
// part of the standard library that would pull a network or a full formatter into a guest.
//
// Nothing here keeps state; everything may be used from several goroutines at once, a [Reader] by one at a time.
package abi
