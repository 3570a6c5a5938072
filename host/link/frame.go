package link

import (
	"encoding/binary"
	"errors"
	"io"
	"strconv"

	"github.com/wasilo/wasilo/abi"
)

// A frame is its length in four bytes, big endian, and a CBOR array whose first item is one of these numbers. Append, never
// reorder, never reuse.
const (
	frameHello   = 1  // map; the first frame either way
	frameRefusal = 2  // reason, text: the last frame, from whoever closes the connection for a fault of the other
	frameRequest = 3  // id, envelope: answered by a reply or a failure of the same id
	frameOneWay  = 4  // envelope: never answered
	frameReply   = 5  // id, payload
	frameFailure = 6  // id, error map
	frameCancel  = 7  // id: nobody waits for the reply any more
	frameKinds   = 8  // version, whether it is the last part, array of kinds
	framePing    = 9  // number
	framePong    = 10 // the ping's number
	frameGoaway  = 11 // reason: no more requests, either from the sender (who dialled) or to it (who was dialled)
	frameAsk     = 12 // id, milliseconds left, service, payload: answered as a request is. Only to who has featureAsk

	// Only to who has featureRelay. Both are answered as a request is; a service of no name means that the body is an envelope.
	frameRelay     = 13 // id, node that it is for, its least run, milliseconds left, service, body
	frameRelayed   = 14 // id, node that it is from, its run, milliseconds left, service, body: it is not passed on again
	frameUnrelayed = 15 // id, error map: the answer to a frameRelay that the relay itself failed to pass on
)

const (
	lengthSize = 4
	// frameExtra is what a frame holds beside a payload, at the most: an envelope or an error, and the head of the frame.
	frameExtra = abi.MaxEnvelopeExtra + 64
	// helloLimit bounds what is read of somebody who has not been admitted.
	helloLimit = 16 << 10
	// readSize is what the buffer of a reader begins with and returns to. A TLS record has 16 KiB.
	readSize = 32 << 10
)

// openFrame appends the head of a frame of so many items, its number counted. The caller appends the items and seals the frame.
func openFrame(b []byte, items int, number uint64) []byte {
	return abi.AppendUint(abi.AppendArray(append(b, 0, 0, 0, 0), items), number)
}

// sealFrame fills in the length of the frame that starts at b[at].
func sealFrame(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-lengthSize))
	return b
}

// appendNumber appends a frame of one number, or of none.
func appendNumber(b []byte, frame uint64, numbers ...uint64) []byte {
	at := len(b)
	b = openFrame(b, 1+len(numbers), frame)
	for _, n := range numbers {
		b = abi.AppendUint(b, n)
	}
	return sealFrame(b, at)
}

// frameHead reads the array head and the number of a frame, and how many items follow.
func frameHead(body []byte) (r abi.Reader, frame uint64, items int, err error) {
	r = abi.NewReader(body)
	n := r.Array()
	frame = r.Uint()
	if n < 1 {
		r.Fail("a frame is an array that begins with its number")
	}
	return r, frame, n - 1, r.Err()
}

// frameReader cuts a stream into frames. It is used by one goroutine.
type frameReader struct {
	src        io.Reader
	max        int // bytes of a frame
	buf        []byte
	start, end int // of what has been read and not been returned
	small      int // fills in a row that did not need a larger buffer
}

// oversizedError is a frame whose length exceeds what was agreed on.
type oversizedError struct{ size, limit int }

func (e *oversizedError) Error() string {
	return "a frame of " + strconv.Itoa(e.size) + " bytes; the limit is " + strconv.Itoa(e.limit)
}

var errEmptyFrame = errors.New("a frame of no bytes")

// buffered returns the next frame's body if all of it has been read, else nil. It is valid until the next fill.
func (f *frameReader) buffered() ([]byte, error) {
	n, ok, err := f.length()
	if !ok || err != nil || f.end-f.start < lengthSize+n {
		return nil, err
	}
	at := f.start + lengthSize
	f.start = at + n
	return f.buf[at:f.start:f.start], nil
}

// length returns the length of the next frame, if it has been read: nothing is allocated for one that is too long.
func (f *frameReader) length() (n int, ok bool, err error) {
	if f.end-f.start < lengthSize {
		return 0, false, nil
	}
	v := binary.BigEndian.Uint32(f.buf[f.start:])
	switch {
	case v == 0:
		return 0, false, errEmptyFrame
	case int64(v) > int64(f.max):
		return 0, false, &oversizedError{int(v), f.max}
	}
	return int(v), true, nil
}

// partial reports whether a frame has begun that is not complete. It holds after buffered has returned nil.
func (f *frameReader) partial() bool { return f.end > f.start }

// fill reads once. The buffer grows with what has come, never with what was announced, and shrinks again when a while has
// brought only what fits the first size.
func (f *frameReader) fill() error {
	held := f.end - f.start
	if f.start > 0 {
		copy(f.buf, f.buf[f.start:f.end])
		f.start, f.end = 0, held
	}
	switch {
	case f.end < len(f.buf):
		if f.small++; held == 0 && len(f.buf) > readSize && f.small > 64 {
			f.buf = make([]byte, readSize)
		}
	case f.buf == nil:
		f.buf = make([]byte, readSize)
	default: // full, and of one frame, whose length has been read therefore
		n, _, err := f.length()
		if err != nil {
			return err
		}
		f.small = 0
		f.buf = append(make([]byte, 0, min(2*len(f.buf), lengthSize+n)), f.buf...)
		f.buf = f.buf[:cap(f.buf)]
	}
	n, err := f.src.Read(f.buf[f.end:])
	f.end += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
