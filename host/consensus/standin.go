package consensus

import (
	"math"

	"github.com/hashicorp/raft"
)

// What raft 1.8.0 asks of a log that begins behind a snapshot, it does not find there, and takes for a contradiction:
//
//   - The leader goes on after entry N, the last of the snapshot; this voter has the snapshot and N+1, and no entry N. raft compares N with its last
//     entry and then with the log, not with the snapshot, and refuses. The leader goes back until it has nothing older, sends the
//     snapshot again, and so on until there is a newer one, which may take an hour.
//   - A snapshot replaces a log that had gone on beyond it, in another term. The log is emptied, but raft goes on to believe in its last entry,
//     looks for those that it takes for doubles, and refuses, too.
//
// (hashicorp/raft issues 205 and 697 tell of relatives of these.) So the log stands in with the term of what it does not have. A leader must
// know what it lacks, or it would send it; the type of what stands in is one that no voter stores.
const standInType raft.LogType = math.MaxUint8

// extent is what raft, which has no way to ask, believes of the log.
type extent struct {
	index, term uint64 // of the newest snapshot's last entry
	last        uint64 // entry that was stored
}

// standIn fills l in for an entry that the log does not have, and that raft would compare with another voter's.
func (d *disk) standIn(index uint64, l *raft.Log) bool {
	r := d.raft.Load()
	if r == nil || r.State() == raft.Leader {
		return false
	}
	d.mu.Lock()
	e := d.extent
	d.mu.Unlock()
	switch last, err := d.cache.LastIndex(); {
	case err != nil || index == 0:
		return false
	case index == e.index: // agreed upon, so the term is right
		*l = raft.Log{Index: index, Term: e.term, Type: standInType}
		return true
	case index > e.index && index > last && index <= e.last: // gone; term 0 is nobody's, so that it counts as contradicted
		*l = raft.Log{Index: index, Type: standInType}
		return true
	}
	return false
}

// snapshotted notes a snapshot that is on disk.
func (d *disk) snapshotted(index, term uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if index >= d.extent.index {
		d.extent.index, d.extent.term = index, term
	}
}
