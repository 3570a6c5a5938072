//go:build !race

package main

// identities is how many actors the life of a cluster has.
const identities = 1000
