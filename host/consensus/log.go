package consensus

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// Log is a voter's copy of the table, as the [Machine] that raft applies entries to, with what the other nodes are told of it. Its methods
// may be called from any goroutine.
type Log struct {
	base time.Time
	log  *slog.Logger

	mu       sync.Mutex
	table    *core.Table
	chair    *core.Chair
	recent   []record // the newest entries that change more than renewals, oldest first
	bytes    int      // of recent
	since    uint64   // an index from which on recent has all of them
	paged    paged
	changed  chan struct{} // closed at the next entry; nil while nobody waits
	applied  chan struct{} // wakes whoever leads; has room for one
	poisoned chan error    // has room for one
	fatal    error         // what it was told; the table stays as it is then, for what it lacks may change all that follows
}

// record is an entry that followers are sent.
type record struct {
	index uint64
	entry []byte
}

// paged is a snapshot that followers take page by page.
type paged struct {
	index      uint64
	generation uint32
	bytes      []byte
}

// What of the log is kept for followers; who is farther behind takes a snapshot.
const (
	keepRecords = 4096
	keepBytes   = 8 << 20
)

var _ Machine = (*Log)(nil)

// NewLog returns the copy of a voter that has not replayed anything.
func NewLog(strategy core.Strategy, log *slog.Logger) *Log {
	l := &Log{base: time.Now(), log: log, table: core.NewTable(), applied: make(chan struct{}, 1), poisoned: make(chan error, 1)}
	l.chair = core.NewChair(l.table, strategy, 0)
	return l
}

// LetSessionsLast is core.Chair's, for tests, to be called before anything is applied.
func (l *Log) LetSessionsLast(session time.Duration) { l.chair.LetSessionsLast(session) }

func (l *Log) now() time.Duration { return time.Since(l.base) }

// Poisoned tells of an entry that this node cannot apply, since a newer version wrote it. The node must end: its table is not that of
// the others any more.
func (l *Log) Poisoned() <-chan error { return l.poisoned }

// broken returns what [Log.Poisoned] tells, or nil.
func (l *Log) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

// Apply implements [Machine]. What cannot be read is answered so to whoever proposed it. What comes after an entry of a newer version is not
// applied, nor answered.
func (l *Log) Apply(index uint64, entry []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal != nil {
		return nil
	}
	results, err := l.table.Apply(index, entry)
	if err != nil {
		l.log.Error("an entry of the log cannot be applied", "index", index, "err", err)
		if errors.Is(err, core.ErrEntryVersion) {
			l.fatal = err
			l.poisoned <- err // the only one
		}
		results = []core.Result{{Void: err.Error()}}
	}
	l.chair.Applied(l.now())
	if err == nil {
		if told, err := core.Followed(entry, results); err != nil {
			l.log.Error("an entry of the log cannot be told to followers", "index", index, "err", err)
		} else if told != nil {
			l.keep(record{index, told})
		}
	}
	l.tell()
	return core.AppendResults(nil, results)
}

func (l *Log) keep(r record) {
	l.recent = append(l.recent, r)
	l.bytes += len(r.entry)
	drop := 0
	for len(l.recent)-drop > 1 && (len(l.recent)-drop > keepRecords || l.bytes > keepBytes) {
		l.bytes -= len(l.recent[drop].entry)
		drop++
	}
	if drop > 0 {
		l.since = l.recent[drop-1].index
		l.recent = append(l.recent[:0], l.recent[drop:]...)
	}
}

// tell wakes who waits for an entry. l.mu is held.
func (l *Log) tell() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	select {
	case l.applied <- struct{}{}:
	default:
	}
}

// Snapshot implements [Machine].
func (l *Log) Snapshot() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal != nil {
		return nil
	}
	return l.table.AppendSnapshot(nil)
}

// Restore implements [Machine].
func (l *Log) Restore(_ uint64, snapshot []byte) error {
	table, err := core.ReadSnapshot(snapshot)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.table, l.recent, l.bytes, l.since, l.paged = table, nil, 0, table.Index(), paged{}
	l.chair.Restored(table, l.now())
	l.tell()
	return nil
}

// CheckSnapshot says why [Log.Restore] would not take a snapshot.
func (l *Log) CheckSnapshot(snapshot []byte) error {
	_, err := core.ReadSnapshot(snapshot)
	return err
}

var _ checker = (*Log)(nil)

// read answers a follower: what comes after an index of a generation, a page of a snapshot, or, with a channel, nothing yet.
func (l *Log) read(q question) (answer, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := answer{generation: l.table.Generation(), index: l.table.Index()}
	if l.fatal != nil { // whoever went on from here would never hear of the entry that is missing, which the table's index counts
		a.index = 0
		return a, make(chan struct{})
	}
	// A follower never goes back: one that is ahead of this voter waits until it has caught up.
	if q.generation < a.generation || q.generation == a.generation && q.after < l.since {
		l.page(q, &a)
		return a, nil
	}
	size := 0
	for _, r := range l.recent {
		if r.index <= q.after || q.generation > a.generation {
			continue
		}
		if size += len(r.entry); size > pageBytes && len(a.records) > 0 {
			return a, nil
		}
		a.records = append(a.records, r)
	}
	if len(a.records) > 0 {
		return a, nil
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return a, l.changed
}

// page cuts a snapshot to pages. The last one serves all followers that need one, while the entries since are there.
func (l *Log) page(q question, a *answer) {
	if l.paged.bytes == nil || l.paged.index < l.since || l.paged.generation != l.table.Generation() {
		l.paged = paged{l.table.Index(), l.table.Generation(), l.table.AppendSnapshot(nil)}
	}
	if q.snapshot != l.paged.index || q.offset > uint64(len(l.paged.bytes)) {
		q.offset = 0
	}
	b := l.paged.bytes[q.offset:]
	a.snapshot, a.offset, a.page = l.paged.index, q.offset, b[:min(len(b), pageBytes)]
	a.more = len(b) > pageBytes
}

// allowed returns why a node may not propose a command, or "". A node speaks for its own sessions; what concerns others is the leader's.
func (l *Log) allowed(from core.NodeID, c *core.Command) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := c.Session
	switch c.Type {
	case core.OpenSession:
		if c.Node != from {
			return "node " + string(from) + " asks for a session of node " + string(c.Node)
		}
		return ""
	case core.BlockNode, core.UnblockNode: // an operator's, by whichever node
		return ""
	case core.RenewSession, core.CloseSession, core.UpdateSession, core.Release:
	case core.AbortMove, core.SettleMove:
		m, ok := l.table.Move(c.Move)
		if !ok {
			return "" // it has gone: the command is void
		}
		if id = m.To; c.Type == core.AbortMove {
			if s, ok := l.table.Session(m.From); ok && s.Node == from {
				return ""
			}
		}
	default:
		return "the command " + c.Type.String() + " is the leader's"
	}
	switch s, ok := l.table.Session(id); {
	case ok && s.Node != from:
		return "node " + string(from) + " speaks for a session of node " + string(s.Node)
	case !ok && !l.table.Opened(id): // it may be another's by the time that this is in the log
		return "node " + string(from) + " speaks for a session that there was never"
	}
	return ""
}
