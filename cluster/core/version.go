//go:build !nextversion

package core

// EntryVersion is the newest version of entries and snapshots that this package reads. What it writes is the newest that every node with a
// session reads; see [Table.Speaks].
const EntryVersion = 1
