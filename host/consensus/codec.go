package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// checkedCodec writes entries as raft-wal does, with a checksum behind each: raft-wal looks at the last batch only, and only when it
// is opened.
type checkedCodec struct{ wal.BinaryCodec }

var _ wal.Codec = (*checkedCodec)(nil)

// checkedCodecID is in every segment. Never reuse it for another format.
const checkedCodecID = wal.FirstExternalCodecID + 0x3a5

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (*checkedCodec) ID() uint64 { return checkedCodecID }

func (c *checkedCodec) Encode(l *raft.Log, w io.Writer) error {
	var b bytes.Buffer
	if err := c.BinaryCodec.Encode(l, &b); err != nil {
		return err
	}
	_, err := w.Write(binary.BigEndian.AppendUint32(b.Bytes(), crc32.Checksum(b.Bytes(), castagnoli)))
	return err
}

var errChecksum = errors.New("an entry's checksum is wrong")

func (c *checkedCodec) Decode(b []byte, l *raft.Log) error {
	n := len(b) - crc32.Size
	if n < 0 || crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return errChecksum
	}
	return c.BinaryCodec.Decode(b[:n], l)
}

// checkEntry says what is wrong with an entry that another voter sent. raft would panic at it later.
func checkEntry(l *raft.Log) (err error) {
	switch l.Type {
	case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		return nil
	case raft.LogConfiguration:
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("entry %d is a configuration that cannot be read: %v", l.Index, p)
			}
		}()
		if len(raft.DecodeConfiguration(l.Data).Servers) == 0 {
			return fmt.Errorf("entry %d is a configuration of nobody", l.Index)
		}
		return nil
	}
	return fmt.Errorf("entry %d is of type %d, which is unknown", l.Index, l.Type)
}
