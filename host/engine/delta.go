package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
)

// A delta is what an instance is beyond its template:
//
//	"wsl", 1      what it is, and the version of this format
//	16 bytes      the first half of the template's hash
//	8 bytes       xxhash64 of what follows, little endian
//	flags         a byte: bit 0, the rest is one zstd frame
//	numbers       unsigned LEB128: the epoch's generation and index; the guest's monotonic clock; pointer and length of its inbox; pages of
//	              64 KiB of memory
//	globals       of each mutable one, in order of index: two numbers, its halves xored with the template's
//	pages         of each page of 4 KiB that differs from the template's, in order: how many lie between it and the last one, then runs
//	              that cover it: the length of a run of zeros, the length of a run of bytes, the bytes; all xored with the template
//
// A small actor's is 40 to 100 bytes.
const (
	deltaMagic  = "wsl\x01"
	deltaHead   = len(deltaMagic) + deltaHash + 8
	deltaHash   = 16
	flagZstd    = 1
	compressMin = 512 // bytes of pages from which on compressing pays
)

// Why a delta is not woken; see [StateError].
var (
	// ErrDamaged is the error of a state whose bytes are not those that were captured.
	ErrDamaged = errors.New("the state is damaged")
	// ErrForeign is the error of a state of another module, another version of it, or another build of the forge.
	ErrForeign = errors.New("the state is of another module or version")
	// ErrStale is the error of a state that is newer than the lease under which it is to go on.
	ErrStale = errors.New("the state is newer than the lease")
)

// delta is a decoded one.
type delta struct {
	epoch            abi.Epoch
	clock            int64
	inbox, inboxSize uint32
	pages            uint32 // of 64 KiB
	globals          []value
	rest             []byte // the pages, valid
}

// Capture appends the state of the instance to dst, as [Options].State takes it: in this process, or another that runs the same module on
// the same version of wasilo. The instance goes on as it was. It fails with unsupported outside of the image tier, and while a turn runs.
func (i *Instance) Capture(dst []byte) ([]byte, error) {
	if i.module.template == nil {
		return nil, abi.NewError(abi.ErrUnsupported, "the module's memory cannot be captured: "+i.module.forged.TierReason)
	}
	if !i.state.CompareAndSwap(stateIdle, stateRunning) {
		return nil, i.refused("to be captured")
	}
	defer i.state.Store(stateIdle)
	if i.body == nil {
		return append(dst, i.folded...), nil
	}
	if i.mem.Size() > bulkMemory { // packing takes memory of that order: few do it at once, and in nobody else's way
		i.module.eng.bulk <- struct{}{}
		defer func() { <-i.module.eng.bulk }()
	}
	return i.capture(dst, -1)
}

// bulkMemory is the memory, in bytes, from which on an instance is captured in turn with others; stock Go starts with less.
const bulkMemory = 8 << 20

// errLarge is the error of a capture that would hold more pages than were asked for.
var errLarge = errors.New("the state is too large")

// capture is Capture of an instance that has its memory, and runs nothing. A state of more than most pages is given up, unless that is
// negative.
func (i *Instance) capture(dst []byte, most int) ([]byte, error) {
	i.cleanInbox()
	t := i.module.template
	room := rooms.Get().(*[]byte)
	body := binary.AppendUvarint((*room)[:0], uint64(i.epoch.Generation))
	defer func() {
		if cap(body) <= roomsMost {
			*room = body
			rooms.Put(room)
		}
	}()
	body = binary.AppendUvarint(body, i.epoch.Index)
	body = binary.AppendUvarint(body, uint64(i.env.nanotime()))
	body = binary.AppendUvarint(body, uint64(i.inbox))
	body = binary.AppendUvarint(body, uint64(i.inboxSize))
	body = binary.AppendUvarint(body, uint64(i.mem.Size()/pageSize))
	i.guard.arm(i.guard.deadline)
	values, err := i.read(make([]value, 0, 16))
	if err != nil {
		return nil, abi.NewError(abi.ErrInternal, "capturing: "+err.Error())
	}
	for k, v := range values {
		body = binary.AppendUvarint(body, v.lo^t.globals[k].lo)
		body = binary.AppendUvarint(body, v.hi^t.globals[k].hi)
	}
	pages := len(body)
	b := i.body
	b.captured, b.known = b.captured[:0], false
	image := t.pool.Image()
	next, over := uint64(0), false
	err = i.memory.slot.Dirty(func(at uint32, page []byte) bool {
		if over = most == 0; over {
			return false
		}
		most--
		offset, was := uint64(at), zeroPage[:]
		if offset < uint64(len(image)) {
			was = image[offset : offset+slot.Page]
		}
		body = binary.AppendUvarint(body, offset/slot.Page-next)
		next = offset/slot.Page + 1
		body = appendRuns(body, page, was)
		b.captured = append(b.captured, at)
		return true
	})
	if over && err == nil {
		err = errLarge
	}
	if err != nil {
		return nil, abi.NewError(abi.ErrInternal, "capturing: "+err.Error())
	}
	b.known = true
	dst = append(dst, deltaMagic...)
	dst = append(dst, t.hash[:deltaHash]...)
	sum := len(dst)
	dst = append(dst, make([]byte, 8+1)...)
	flags := len(dst) - 1
	if len(body)-pages >= compressMin {
		encoder := i.module.eng.encoder
		if len(body) > bulkMemory {
			encoder = i.module.eng.bulkEncoder
		}
		dst = encoder.EncodeAll(body, dst)
	}
	if packed := len(dst) - flags - 1; packed > 0 && packed < len(body) {
		dst[flags] = flagZstd
	} else {
		dst = append(dst[:flags+1], body...)
	}
	binary.LittleEndian.PutUint64(dst[sum:], xxhash.Sum64(dst[sum+8:]))
	return dst, nil
}

// rooms keeps the rooms in which states are put together before they are packed, of up to roomsMost bytes.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

const roomsMost = 64 << 10

// cleanInbox zeroes what was written into the inbox: it is no state of the guest's.
func (i *Instance) cleanInbox() {
	if i.written > 0 {
		if b, ok := i.mem.Read(i.inbox, min(i.written, i.inboxSize)); ok {
			clear(b)
		}
		i.written = 0
	}
}

// restore makes a fresh copy of the template what state says.
func (i *Instance) restore(state []byte) error {
	d, err := i.module.decodeDelta(state)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return i.tooMuch("more than " + byteSize(i.module.eng.cfg.MaxMemory))
	} else if err != nil {
		return &StateError{err}
	}
	if i.epoch.Less(d.epoch) {
		return &StateError{fmt.Errorf("%w: epoch %d.%d, the lease has %d.%d", ErrStale, d.epoch.Generation, d.epoch.Index,
			i.epoch.Generation, i.epoch.Index)}
	}
	if have, want := i.mem.Size()/pageSize, d.pages; want > have {
		if _, ok := i.mem.Grow(want - have); !ok && i.memory.refused == nodeLimit {
			return abi.NewError(abi.ErrOverloaded, "the actor has "+byteSize(uint64(want)*pageSize)+" of memory to wake with, and all actors of "+
				"the node together have what limits.max_bytes lets them have")
		} else if !ok {
			return i.tooMuch(byteSize(uint64(want) * pageSize))
		}
	}
	memory, ok := i.mem.Read(0, i.mem.Size())
	if !ok {
		return abi.NewError(abi.ErrInternal, "the guest's memory cannot be read")
	}
	written := int64(d.apply(memory)) * slot.Page
	i.memory.rebase(max(i.memory.base, written-i.memory.grown))
	i.guard.arm(i.guard.deadline)
	if err := i.write(d.globals); err != nil {
		return abi.NewError(abi.ErrInternal, "waking: "+err.Error())
	}
	i.inbox, i.inboxSize = d.inbox, d.inboxSize
	i.env.ahead = max(0, d.clock-monotonic())
	return nil
}

// tooMuch is the error of a state that has more memory than its limit here: it is as good as before, and may wake elsewhere.
func (i *Instance) tooMuch(memory string) *abi.Error {
	return abi.NewError(abi.ErrLimitExceeded, "the state has "+memory+" of memory; its limit is "+byteSize(i.memoryLimit)+
		" (limits.memory, or that of the kind)")
}

// StateError is the error of a start whose state is refused: it wraps [ErrDamaged], [ErrForeign] or [ErrStale]. Nothing was done.
type StateError struct{ Err error }

func (e *StateError) Error() string {
	return "the actor's kept state cannot be woken: " + e.Err.Error()
}

func (e *StateError) Unwrap() error { return e.Err }

// WireCode says that sending again would not help.
func (e *StateError) WireCode() abi.Code { return abi.ErrStateUnusable }

// decodeDelta checks a delta to its last byte. One that the engine has no memory for is told by zstd.ErrDecoderSizeExceeded, or by its pages.
func (m *Module) decodeDelta(b []byte) (*delta, error) {
	t := m.template
	if len(b) <= deltaHead || !bytes.HasPrefix(b, []byte(deltaMagic)) {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	if sum := binary.LittleEndian.Uint64(b[deltaHead-8:]); sum != xxhash.Sum64(b[deltaHead:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	if !bytes.Equal(b[len(deltaMagic):len(deltaMagic)+deltaHash], t.hash[:deltaHash]) {
		return nil, fmt.Errorf("%w: it is of template %x, this module's is %x", ErrForeign, b[len(deltaMagic):len(deltaMagic)+deltaHash],
			t.hash[:deltaHash])
	}
	flags, rest := b[deltaHead], b[deltaHead+1:]
	switch flags {
	case 0:
	case flagZstd:
		var err error
		if rest, err = m.eng.decoder.DecodeAll(rest, nil); errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return nil, err
		} else if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	default:
		return nil, fmt.Errorf("%w: unknown flags %#x", ErrDamaged, flags)
	}
	return m.parseDelta(rest)
}

// parseDelta reads what a delta holds. Numbers beyond their range, pages out of order or beyond the memory, and bytes too many or too few
// are refused.
func (m *Module) parseDelta(b []byte) (*delta, error) {
	r := deltaReader{b: b}
	d := &delta{globals: make([]value, len(m.template.globals))}
	d.epoch = abi.Epoch{Generation: uint32(r.number(1<<32 - 1)), Index: r.number(1<<64 - 1)}
	d.clock = int64(r.number(1<<63 - 1))
	d.inbox, d.inboxSize = uint32(r.number(1<<32-1)), uint32(r.number(1<<32-1))
	d.pages = uint32(r.number(MaxMemory / pageSize)) // of any node, whatever this one allows
	for k := range d.globals {
		d.globals[k] = value{r.number(1<<64-1) ^ m.template.globals[k].lo, r.number(1<<64-1) ^ m.template.globals[k].hi}
	}
	if int(d.pages)*pageSize < len(m.template.pool.Image()) {
		r.fail("less memory than its template has")
	}
	if uint64(d.inbox)+uint64(d.inboxSize) > uint64(d.pages)*pageSize {
		r.fail("an inbox outside of the memory")
	}
	d.rest = r.b
	for next, last := uint64(0), uint64(d.pages)*pageSize/slot.Page; len(r.b) > 0 && r.err == nil; next++ {
		if next += r.number(last); next >= last {
			r.fail("a page beyond the memory")
		}
		r.runs(nil)
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, r.err)
	}
	return d, nil
}

// apply writes the pages into a copy of the template, and returns how many.
func (d *delta) apply(memory []byte) (pages int) {
	r := deltaReader{b: d.rest}
	for next := uint64(0); len(r.b) > 0; next++ {
		next += r.number(1 << 32)
		r.runs(memory[next*slot.Page:][:slot.Page])
		pages++
	}
	return pages
}

// deltaReader reads numbers and runs; the first failure sticks.
type deltaReader struct {
	b   []byte
	err error
}

func (r *deltaReader) fail(why string) {
	if r.err == nil {
		r.err = errors.New(why)
	}
	r.b = nil
}

// number reads a number of at most limit.
func (r *deltaReader) number(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.fail("a number that is cut off or out of range")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// runs reads a page's runs and mixes them into page, unless that is nil.
func (r *deltaReader) runs(page []byte) {
	for at := uint64(0); at < slot.Page && r.err == nil; {
		at += r.number(slot.Page - at)
		if at == slot.Page {
			return
		}
		n := r.number(slot.Page - at)
		if r.err == nil && (n == 0 || n > uint64(len(r.b))) {
			r.fail("a run of no bytes, or of more than there are")
		}
		if r.err != nil {
			return
		}
		if page != nil {
			xor(page[at:at+n], r.b[:n])
		}
		r.b = r.b[n:]
		at += n
	}
}

const (
	runGap   = 4   // equal bytes that end a run: a new run costs two bytes
	runBlock = 128 // bytes that are compared at once
)

// zeroPage is what a page beyond the image is compared with.
var zeroPage [slot.Page]byte

// appendRuns appends the runs by which a page differs from what it was.
func appendRuns(b, page, was []byte) []byte {
	at := 0             // covered by runs so far
	from, end := -1, -1 // of the run that is open, up to the last byte that differs
	for block := 0; block < len(page); block += runBlock {
		if bytes.Equal(page[block:block+runBlock], was[block:block+runBlock]) {
			continue
		}
		for k := block; k < block+runBlock; k++ {
			if page[k] == was[k] {
				continue
			}
			if from >= 0 && k-end >= runGap {
				b, at = appendRun(b, page, was, at, from, end), end
				from = -1
			}
			if from < 0 {
				from = k
			}
			end = k + 1
		}
	}
	if from >= 0 {
		b, at = appendRun(b, page, was, at, from, end), end
	}
	if at < len(page) {
		b = binary.AppendUvarint(b, uint64(len(page)-at))
	}
	return b
}

// appendRun appends what lies between at and from as zeros, and the bytes up to end.
func appendRun(b, page, was []byte, at, from, end int) []byte {
	b = binary.AppendUvarint(b, uint64(from-at))
	b = binary.AppendUvarint(b, uint64(end-from))
	b = append(b, page[from:end]...)
	xor(b[len(b)-(end-from):], was[from:end])
	return b
}

// xor mixes src into dst, which is as long.
func xor(dst, src []byte) {
	n := len(dst) &^ 7
	for k := 0; k < n; k += 8 {
		binary.LittleEndian.PutUint64(dst[k:], binary.LittleEndian.Uint64(dst[k:])^binary.LittleEndian.Uint64(src[k:]))
	}
	for k := n; k < len(dst); k++ {
		dst[k] ^= src[k]
	}
}

// newEncoder returns what packs deltas, a few at once.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(1<<20),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
}

// newDecoder returns what unpacks those of memories of at most so many bytes.
func newDecoder(memory uint64) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(memory+memory/64+16<<20), zstd.WithDecoderLowmem(true))
}
