package sleep

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wasilo/wasilo/abi"
)

// MaxState bounds a sleeper's state, in bytes.
const MaxState = 128 << 20

// A record is header, key ("kind/identity") and state, little-endian and unaligned:
//
//	 0  4  low half of xxhash64 of the rest of header and key
//	 4  8  xxhash64 of the state
//	12  4  bytes of state
//	16  4  epoch: generation
//	20  8  epoch: index
//	28  4  when it fell asleep, seconds since 1970; 0: not known
//	32  1  uses
//	33  1  bytes of kind
//	34  2  bytes of key
//
// The header has a checksum of its own, so that a chunk can be walked and a key verified without reading states; it covers
// that of the state, so that a state is never another's.
const (
	// MinRecord is how many bytes a record has at least.
	MinRecord = headLen + 3

	headLen = 36
	maxKey  = abi.MaxKindLen + 1 + abi.MaxIdentityLen
)

type head struct {
	stateSum uint64
	state    uint32 // bytes
	epoch    abi.Epoch
	slept    uint32
	uses     uint8
	kind     uint8  // bytes
	key      uint16 // bytes
}

func newHead(z *Sleeper, key []byte) head {
	return head{
		stateSum: xxhash.Sum64(z.State), state: uint32(len(z.State)), epoch: z.Epoch, slept: seconds(z.Slept), uses: z.Uses,
		kind: uint8(len(z.Identity.Kind())), key: uint16(len(key)),
	}
}

// len is the record's length in bytes.
func (h *head) len() int { return headLen + int(h.key) + int(h.state) }

// put writes the record to dst, which has the room.
func (h *head) put(dst, key, state []byte) {
	le := binary.LittleEndian
	le.PutUint64(dst[4:], h.stateSum)
	le.PutUint32(dst[12:], h.state)
	le.PutUint32(dst[16:], h.epoch.Generation)
	le.PutUint64(dst[20:], h.epoch.Index)
	le.PutUint32(dst[28:], h.slept)
	dst[32], dst[33] = h.uses, h.kind
	le.PutUint16(dst[34:], h.key)
	n := headLen + copy(dst[headLen:], key)
	le.PutUint32(dst, uint32(xxhash.Sum64(dst[4:n])))
	copy(dst[n:], state)
}

// parseHead reads and verifies header and key of a record. It says nothing about the state, which may be cut off.
func parseHead(b []byte) (h head, key []byte, err error) {
	if len(b) < headLen {
		return head{}, nil, errShort
	}
	le := binary.LittleEndian
	h = head{
		stateSum: le.Uint64(b[4:]), state: le.Uint32(b[12:]),
		epoch: abi.Epoch{Generation: le.Uint32(b[16:]), Index: le.Uint64(b[20:])},
		slept: le.Uint32(b[28:]), uses: b[32], kind: b[33], key: le.Uint16(b[34:]),
	}
	if h.key > maxKey || h.kind == 0 || int(h.kind)+1 >= int(h.key) || h.state > MaxState {
		return head{}, nil, errHead
	}
	n := headLen + int(h.key)
	if len(b) < n {
		return head{}, nil, errShort
	}
	key = b[headLen:n]
	if le.Uint32(b) != uint32(xxhash.Sum64(b[4:n])) || key[h.kind] != '/' {
		return head{}, nil, errHead
	}
	return h, key, nil
}

// sleeper verifies the state of a record and returns the whole, with the state copied where it must not be shared.
func (h *head) sleeper(id abi.Identity, rec []byte, clone bool) (Sleeper, error) {
	if len(rec) < h.len() {
		return Sleeper{}, errShort
	}
	state := rec[headLen+int(h.key) : h.len() : h.len()]
	if clone { // before it is verified: what is returned is what was verified
		state = append(make([]byte, 0, len(state)), state...)
	}
	if xxhash.Sum64(state) != h.stateSum {
		return Sleeper{}, errChecksum
	}
	return Sleeper{Identity: id, Epoch: h.epoch, Uses: h.uses, Slept: timeOf(h.slept), State: state}, nil
}

// identity is that of a key, which a checksum has verified; the error is for one that was never written by this package.
func (h *head) identity(key []byte) (abi.Identity, error) {
	return abi.NewIdentity(string(key[:h.kind]), string(key[h.kind+1:]))
}

// seconds clips a time to what a record holds.
func seconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(min(max(t.Unix(), 1), 1<<32-1))
}

func timeOf(s uint32) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0)
}

// AppendRecord appends a sleeper to dst as it lies in a store: a header and its key under one checksum, its state under another. The
// error is that of [Store.Put] for a sleeper that can be none.
func AppendRecord(dst []byte, z *Sleeper) ([]byte, error) {
	if z.Identity.IsZero() {
		return dst, ErrInvalid
	}
	if len(z.State) > MaxState {
		return dst, fmt.Errorf("%s sleeps with %d bytes: %w", z.Identity, len(z.State), ErrTooLarge)
	}
	var kb keyBuf
	key := kb.of(z.Identity)
	h := newHead(z, key)
	at := len(dst)
	dst = slices.Grow(dst, h.len())[:at+h.len()]
	h.put(dst[at:], key, z.State)
	return dst, nil
}

// ReadRecord reads and verifies the record at the beginning of b, and returns how long it is. The state is part of b.
func ReadRecord(b []byte) (z Sleeper, n int, err error) {
	h, key, err := parseHead(b)
	if err != nil {
		return Sleeper{}, 0, err
	}
	id, err := h.identity(key)
	if err != nil {
		return Sleeper{}, 0, err
	}
	z, err = h.sleeper(id, b, false)
	return z, h.len(), err
}
