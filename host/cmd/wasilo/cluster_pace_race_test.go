//go:build race

package main

// identities is less than without the race detector, which makes all of it slower.
const identities = 200
