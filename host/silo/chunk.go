package silo

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

// A chunk of a move is what some sleeping actors have left:
//
//	"wsm", 1   what it is, and the version of this format; 2 if an actor in it has timers
//	8 bytes    xxhash64 of what follows, little endian
//	4 bytes    how many records there are, little endian
//	records    as package sleep writes them, with the epoch under which they were left
//
// What else may be kept of an actor one day, its reminders or what it answered under idempotency keys, is for another version: a node that
// does not know it must refuse it rather than lose it. So one that knows version 1 alone takes all but actors with timers.
const (
	chunkMagic = "wsm"
	chunkPlain = 1
	chunkTimed = 2
	chunkHead  = len(chunkMagic) + 1 + 8 + 4
)

// chunkOf is the version of chunk that a state needs.
func chunkOf(state []byte) byte {
	if here(state) && actor.Timed(state[headLen:]) {
		return chunkTimed
	}
	return chunkPlain
}

// chunkWriter cuts records into chunks.
type chunkWriter struct {
	most     int // bytes of a chunk, unless one record is more
	emit     func([]byte) error
	buf      []byte
	version  byte // that what is in buf needs
	records  uint32
	chunks   int
	manifest cluster.Manifest
}

func (w *chunkWriter) add(z *sleep.Sleeper) error {
	at := max(len(w.buf), chunkHead)
	if w.buf == nil {
		w.buf = make([]byte, chunkHead, chunkHead+min(max(w.most, 0), 64<<10))
	}
	buf, err := sleep.AppendRecord(w.buf[:at], z)
	if err != nil {
		return err
	}
	if w.records > 0 && len(buf) > w.most { // it begins the next
		record := append([]byte(nil), buf[at:]...)
		w.buf = buf[:at]
		if err := w.flush(); err != nil {
			return err
		}
		at = chunkHead
		buf = append(w.buf[:at], record...)
	}
	w.buf = buf
	w.version = max(w.version, chunkOf(z.State))
	w.records++
	tally(&w.manifest, z.Epoch, buf[at:])
	return nil
}

// flush emits what there is, if only a head.
func (w *chunkWriter) flush() error {
	if w.buf == nil {
		w.buf = make([]byte, chunkHead)
	}
	b := w.buf[:max(len(w.buf), chunkHead)]
	le := binary.LittleEndian
	copy(b, chunkMagic)
	b[len(chunkMagic)] = max(w.version, chunkPlain)
	le.PutUint32(b[12:], w.records)
	le.PutUint64(b[4:], xxhash.Sum64(b[12:]))
	w.records, w.version, w.buf = 0, 0, b[:chunkHead]
	w.chunks++
	return w.emit(b)
}

// end emits the last chunk. There is at least one, so that a move of nothing is known too.
func (w *chunkWriter) end() error {
	if w.records == 0 && w.chunks > 0 {
		return nil
	}
	return w.flush()
}

func tally(m *cluster.Manifest, epoch abi.Epoch, record []byte) {
	add(m, cluster.Manifest{Actors: 1, Bytes: uint64(len(record)), Sum: xxhash.Sum64(record), Newest: epoch})
}

// add adds what one manifest is about to another.
func add(m *cluster.Manifest, o cluster.Manifest) {
	m.Actors += o.Actors
	m.Bytes += o.Bytes
	m.Sum += o.Sum
	if m.Newest.Less(o.Newest) {
		m.Newest = o.Newest
	}
}

// readChunk verifies all of a chunk. The states are parts of it. The error wraps [cluster.ErrChunkVersion] or [cluster.ErrChunkDamaged].
func readChunk(b []byte) (zs []sleep.Sleeper, m cluster.Manifest, err error) {
	damaged := func(why string, at int) error {
		return fmt.Errorf("%w: %s, at byte %d of %d", cluster.ErrChunkDamaged, why, at, len(b))
	}
	if len(b) < len(chunkMagic)+1 || string(b[:len(chunkMagic)]) != chunkMagic {
		return nil, m, damaged("it does not begin as one", 0)
	}
	if v := b[len(chunkMagic)]; v < chunkPlain || v > chunkTimed {
		return nil, m, fmt.Errorf("%w: it has %d, this node reads up to %d; move the actors to a node that runs what sent it", cluster.ErrChunkVersion, v, chunkTimed)
	}
	le := binary.LittleEndian
	if len(b) < chunkHead || le.Uint64(b[4:]) != xxhash.Sum64(b[12:]) {
		return nil, m, damaged("its checksum is wrong", 4)
	}
	n := int(le.Uint32(b[12:]))
	zs = make([]sleep.Sleeper, 0, min(n, len(b)/sleep.MinRecord))
	for at := chunkHead; at < len(b); {
		z, size, err := sleep.ReadRecord(b[at:])
		if err != nil {
			return nil, m, damaged(err.Error(), at)
		}
		if !here(z.State) && (len(z.State) == 0 || z.State[0] != headGone) {
			return nil, m, damaged("the state of "+z.Identity.Key()+" has no beginning", at)
		}
		zs = append(zs, z)
		tally(&m, z.Epoch, b[at:at+size])
		at += size
	}
	if len(zs) != n {
		return nil, m, damaged(fmt.Sprintf("it has %d actors and says %d", len(zs), n), 12)
	}
	return zs, m, nil
}
