package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Machine is the state that the log is about. It is called by one goroutine at a time, and must not call the voter.
type Machine interface {
	// Apply takes an entry and answers it. It is deterministic: state and answer follow from the entries and their indices alone. An
	// entry that cannot be read is answered so, for it is in the log of every voter; a panic would take all of them down.
	Apply(index uint64, entry []byte) []byte
	// Snapshot returns the present state, or nil if that is not to be kept. It is called between Applies, and must not change what it has
	// returned.
	Snapshot() []byte
	// Restore replaces the state by that of a snapshot. index is that of the last entry in it.
	Restore(index uint64, snapshot []byte) error
}

// checker is a [Machine] that can tell whether a snapshot of another voter can be restored. Without that a voter takes what it is sent, and finds
// out when it starts the next time.
type checker interface {
	// CheckSnapshot says why a state cannot be restored. It changes nothing, and may be called at any time.
	CheckSnapshot(snapshot []byte) error
}

// replica is the Machine as raft sees it.
type replica struct {
	machine    Machine
	index      uint64                       // of the last entry applied
	configured atomic.Uint64                // index of the last configuration applied, 0 if there was none since the start
	change     func([]byte) ([]byte, error) // of a snapshot that is taken; nil for none
}

var (
	_ raft.FSM                = (*replica)(nil)
	_ raft.ConfigurationStore = (*replica)(nil)
)

// StoreConfiguration is told of each configuration that is committed: raft itself does not say which entry it is.
func (m *replica) StoreConfiguration(index uint64, _ raft.Configuration) {
	m.index = index
	m.configured.Store(index)
}

func (m *replica) Apply(l *raft.Log) any {
	m.index = l.Index
	return m.machine.Apply(l.Index, l.Data)
}

func (m *replica) Snapshot() (raft.FSMSnapshot, error) {
	state := m.machine.Snapshot()
	if state == nil {
		return nil, errors.New("the state machine gives none")
	}
	if m.change != nil {
		var err error
		if state, err = m.change(state); err != nil {
			return nil, err
		}
	}
	return snapshot(appendSnapshot(nil, m.index, state)), nil
}

func (m *replica) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	index, state, err := readSnapshot(b)
	if err != nil {
		return err
	}
	if err := m.machine.Restore(index, state); err != nil {
		return fmt.Errorf("the state machine does not take the snapshot of index %d: %w", index, err)
	}
	m.index = index
	return nil
}

// A snapshot is a head and the machine's state.
const (
	snapshotMagic = "wsnap\x00\x00"
	snapshotHead  = len(snapshotMagic) + 1 + 8 // magic, format, index
)

func appendSnapshot(b []byte, index uint64, state []byte) []byte {
	b = append(append(b, snapshotMagic...), formatVersion)
	return append(binary.BigEndian.AppendUint64(b, index), state...)
}

func readSnapshot(b []byte) (index uint64, state []byte, err error) {
	if len(b) < snapshotHead || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return 0, nil, fmt.Errorf("it is no snapshot of a voters' log")
	}
	if v := b[len(snapshotMagic)]; v != formatVersion {
		return 0, nil, fmt.Errorf("the snapshot is of format %d; this wasilo knows %d", v, formatVersion)
	}
	return binary.BigEndian.Uint64(b[snapshotHead-8:]), b[snapshotHead:], nil
}

// snapshot is one that was taken.
type snapshot []byte

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

func (s snapshot) Release() {}
