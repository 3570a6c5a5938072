package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// metaStore keeps raft-wal's state, and mends what raft-wal 0.4.0 leaves out.
//
// When the end of a log is cut off, as the log of a leader that was cut off itself is, the segment that held it counts as sealed from then
// on, and has no index, without which it cannot be read once the log is opened again. So the index is written before such a state is
// committed: behind everything else in the segment's file, where it can overwrite nothing.
//
// And when a segment is full, it is sealed in its file first and in the state a little later. A log that was left in between takes no entry
// any more when it is opened again. So the next segment is begun then.
type metaStore struct {
	metadb.BoltMetaDB
	dir    string
	starts map[uint64]uint64 // of the indices written, by segment: raft-wal does not know of them until it reads its state again
}

var _ types.MetaStore = (*metaStore)(nil)

// CommitState implements [types.MetaStore].
func (m *metaStore) CommitState(s types.PersistentState) error {
	segments, err := m.seal(s.Segments)
	if err != nil {
		return err
	}
	s.Segments = segments
	return m.BoltMetaDB.CommitState(s)
}

// Load implements [types.MetaStore]. A log that was left without an index is mended.
func (m *metaStore) Load(dir string) (types.PersistentState, error) {
	s, err := m.BoltMetaDB.Load(dir)
	if err != nil {
		return s, err
	}
	if s.Segments, err = m.seal(s.Segments); err != nil || len(s.Segments) == 0 {
		return s, err
	}
	tail := &s.Segments[len(s.Segments)-1]
	if !tail.SealTime.IsZero() {
		return s, nil
	}
	last, index, err := sealedAt(dir, *tail)
	if err != nil || index == 0 {
		return s, err
	}
	now := time.Now()
	tail.SealTime, tail.MaxIndex, tail.IndexStart = now, last, index
	s.Segments = append(s.Segments, types.SegmentInfo{ID: s.NextSegmentID, BaseIndex: last + 1, MinIndex: last + 1, Codec: tail.Codec,
		CreateTime: now, SizeLimit: tail.SizeLimit})
	s.NextSegmentID++
	return s, m.BoltMetaDB.CommitState(s)
}

// sealedAt returns the last entry of a segment that is sealed in its file, and where the file's index is; 0 if it is not sealed.
func sealedAt(dir string, info types.SegmentInfo) (last, index uint64, err error) {
	w, err := segment.NewFiler(dir, walfs.New()).RecoverTail(info)
	switch {
	case errors.Is(err, os.ErrNotExist): // it was about to be made
		return 0, 0, nil
	case err != nil:
		return 0, 0, err
	}
	defer w.Close()
	sealed, index, err := w.Sealed()
	if err != nil || !sealed {
		return 0, 0, err
	}
	return w.LastIndex(), index, nil
}

func (m *metaStore) seal(all []types.SegmentInfo) ([]types.SegmentInfo, error) {
	all = slices.Clone(all)
	for i := range all {
		s := &all[i]
		if s.SealTime.IsZero() || s.IndexStart != 0 || s.MaxIndex < s.BaseIndex {
			continue
		}
		start, ok := m.starts[s.ID]
		if !ok {
			var err error
			path := filepath.Join(m.dir, segment.FileName(*s))
			if start, err = writeIndex(path, int(s.MaxIndex-s.BaseIndex)+1); err != nil {
				return nil, fmt.Errorf("the index of %s: %w", path, err)
			}
			if m.starts == nil {
				m.starts = make(map[uint64]uint64)
			}
			m.starts[s.ID] = start
		}
		s.IndexStart = start
	}
	return all, nil
}

// The format of segments, as raft-wal documents it: a header, then frames of a head and a payload, padded to eight bytes. The head is a type,
// three bytes of nothing, and the payload's length, which a commit frame, having no payload, uses for a checksum.
const (
	segmentHead = 32
	frameHead   = 8
)

// writeIndex appends the offsets of the first n entries to a segment's file, four bytes each, little endian, and returns where they begin.
func writeIndex(path string, n int) (start uint64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	index := make([]byte, 0, 4*n)
	var head [frameHead]byte
	for at := int64(segmentHead); len(index) < 4*n; {
		if _, err := f.ReadAt(head[:], at); err != nil {
			return 0, fmt.Errorf("entry %d of %d is not in it: %w", len(index)/4+1, n, err)
		}
		size := int64(0)
		switch head[0] {
		case segment.FrameEntry:
			index = binary.LittleEndian.AppendUint32(index, uint32(at))
			size = int64(binary.LittleEndian.Uint32(head[4:]))
		case segment.FrameIndex:
			size = int64(binary.LittleEndian.Uint32(head[4:]))
		case segment.FrameCommit:
		default:
			return 0, fmt.Errorf("entry %d of %d is not in it: byte %d begins no frame", len(index)/4+1, n, at)
		}
		at += frameHead + (size+frameHead-1)/frameHead*frameHead
	}
	start = uint64(info.Size()+frameHead-1) / frameHead * frameHead
	if _, err := f.WriteAt(index, int64(start)); err != nil {
		return 0, err
	}
	return start, f.Sync()
}
