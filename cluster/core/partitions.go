package core

import (
	"encoding/binary"
	"math/bits"
)

// PartitionSet is a set of partitions. The zero value is empty; sets are compared by ==.
type PartitionSet [Partitions / 64]uint64

// Add puts p in.
func (s *PartitionSet) Add(p Partition) { s[p/64] |= 1 << (p % 64) }

// Has reports whether p is in.
func (s *PartitionSet) Has(p Partition) bool { return s[p/64]&(1<<(p%64)) != 0 }

// Len returns how many are in.
func (s *PartitionSet) Len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// first returns the lowest that is in, -1 if none is.
func (s *PartitionSet) first() int {
	for p := range s.All {
		return int(p)
	}
	return -1
}

// All calls yield for each in order until it returns false.
func (s *PartitionSet) All(yield func(Partition) bool) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			if !yield(Partition(i*64 + bits.TrailingZeros64(w))) {
				return
			}
		}
	}
}

// Moved returns the set as views tell it.
func (s *PartitionSet) Moved() *Moved {
	m := new(Moved)
	for p := range s.All {
		m[p] = true
	}
	return m
}

// append writes the set as 128 bytes, little-endian, trailing zeros left out.
func (s *PartitionSet) append(b []byte) []byte {
	at := len(b)
	for _, w := range s {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	for len(b) > at && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// read is the reverse of append; false for what append does not write.
func (s *PartitionSet) read(b []byte) bool {
	*s = PartitionSet{}
	if len(b) > Partitions/8 || len(b) > 0 && b[len(b)-1] == 0 {
		return false
	}
	for i, c := range b {
		s[i/8] |= uint64(c) << (i % 8 * 8)
	}
	return true
}
