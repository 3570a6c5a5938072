//go:build nextversion

package core

// EntryVersion, with the tag "nextversion", is that of a wasilo to come: tools/chaos upgrades a cluster to it, node by node. What it writes
// differs in the number alone, which is what a node of today must not be given.
const EntryVersion = 2
