package abi

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// CBOR (RFC 8949) major types.
const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
	majorOther = 7
)

func appendHead(b []byte, major byte, v uint64) []byte {
	major <<= 5
	switch {
	case v < 24:
		return append(b, major|byte(v))
	case v <= math.MaxUint8:
		return append(b, major|24, byte(v))
	case v <= math.MaxUint16:
		return append(b, major|25, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return append(b, major|26, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return append(b, major|27, byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// AppendUint appends an unsigned integer in its shortest form, as all of these do.
func AppendUint(b []byte, v uint64) []byte { return appendHead(b, majorUint, v) }

// AppendInt appends a signed integer.
func AppendInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendHead(b, majorNint, uint64(^v))
	}
	return appendHead(b, majorUint, uint64(v))
}

// AppendBytes appends a byte string.
func AppendBytes(b, v []byte) []byte { return append(appendHead(b, majorBytes, uint64(len(v))), v...) }

// AppendText appends a text string; the caller vouches for UTF-8.
func AppendText(b []byte, v string) []byte {
	return append(appendHead(b, majorText, uint64(len(v))), v...)
}

// AppendArray appends the head of an array of n items.
func AppendArray(b []byte, n int) []byte { return appendHead(b, majorArray, uint64(n)) }

// AppendMap appends the head of a map of n pairs.
func AppendMap(b []byte, n int) []byte { return appendHead(b, majorMap, uint64(n)) }

// AppendBool appends true or false.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xf5)
	}
	return append(b, 0xf4)
}

// AppendNull appends null.
func AppendNull(b []byte) []byte { return append(b, 0xf6) }

// AppendFloat appends a float64 in full width: the shortest form is not worth its time here.
func AppendFloat(b []byte, v float64) []byte {
	u := math.Float64bits(v)
	return append(b, 0xfb, byte(u>>56), byte(u>>48), byte(u>>40), byte(u>>32), byte(u>>24), byte(u>>16), byte(u>>8), byte(u))
}

// DecodeError says what is wrong with encoded bytes, and where.
type DecodeError struct {
	Offset int    // of the first byte that cannot be read
	Reason string // what was expected or breached there
}

func (e *DecodeError) Error() string {
	return "malformed CBOR at byte " + strconv.Itoa(e.Offset) + ": " + e.Reason
}

// WireCode makes malformed input an invalid_argument.
func (e *DecodeError) WireCode() Code { return ErrInvalidArgument }

// Reader reads CBOR items one after another from a buffer it does not own; byte strings it returns alias the buffer.
// The first failure sticks: later reads return zero values, and [Reader.Err] tells. Indefinite lengths are refused, and
// counts are checked against the bytes left, so a loop over a count that was read is bounded by the input.
type Reader struct {
	buf []byte
	off int
	err *DecodeError
}

// NewReader returns a reader at the start of b.
func NewReader(b []byte) Reader { return Reader{buf: b} }

// Err returns the first failure, a [*DecodeError], or nil.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Offset returns how many bytes have been read.
func (r *Reader) Offset() int { return r.off }

// Len returns how many bytes are left.
func (r *Reader) Len() int { return len(r.buf) - r.off }

// Rest returns the bytes not read yet, none after a failure: for a decoder that recognises what comes most, skips it by
// [Reader.Advance], and leaves everything else to the methods below.
func (r *Reader) Rest() []byte {
	if r.err != nil {
		return nil
	}
	return r.buf[r.off:]
}

// Advance skips n bytes, which must be whole items or heads of what [Reader.Rest] returned.
func (r *Reader) Advance(n int) { r.off += n }

// Fail records a failure of the caller's own at the present offset, unless one stands already.
func (r *Reader) Fail(reason string) {
	if r.err == nil {
		r.err = &DecodeError{Offset: r.off, Reason: reason}
	}
}

// End fails unless everything was read.
func (r *Reader) End() {
	if r.err == nil && r.off != len(r.buf) {
		r.Fail(strconv.Itoa(len(r.buf)-r.off) + " bytes follow the end of the item")
	}
}

func (r *Reader) head() (major byte, v uint64, info byte) {
	if r.err != nil {
		return 0, 0, 0
	}
	if r.off >= len(r.buf) {
		r.Fail("the input ends where an item should start")
		return 0, 0, 0
	}
	c := r.buf[r.off]
	major, info = c>>5, c&31
	switch {
	case info < 24:
		r.off++
		return major, uint64(info), info
	case info > 27:
		if info == 31 {
			r.Fail("indefinite lengths are not accepted")
		} else {
			r.Fail("a reserved length")
		}
		return 0, 0, 0
	}
	n := 1 << (info - 24)
	if len(r.buf)-r.off-1 < n {
		r.Fail("the input ends inside an item's head")
		return 0, 0, 0
	}
	for _, d := range r.buf[r.off+1 : r.off+1+n] {
		v = v<<8 | uint64(d)
	}
	r.off += 1 + n
	return major, v, info
}

// want reads a head and insists on its major type; on failure the offset stays at the item.
func (r *Reader) want(major byte, what string) (uint64, bool) {
	at := r.off
	m, v, _ := r.head()
	if r.err != nil {
		return 0, false
	}
	if m != major {
		r.off = at
		r.Fail(what + " expected, not " + majorName(r.buf[at]))
		return 0, false
	}
	return v, true
}

func majorName(c byte) string {
	switch c >> 5 {
	case majorUint:
		return "an integer"
	case majorNint:
		return "a negative integer"
	case majorBytes:
		return "bytes"
	case majorText:
		return "text"
	case majorArray:
		return "an array"
	case majorMap:
		return "a map"
	case majorTag:
		return "a tag"
	}
	switch c {
	case 0xf4, 0xf5:
		return "a boolean"
	case 0xf6:
		return "null"
	case 0xf9, 0xfa, 0xfb:
		return "a float"
	}
	return "a simple value"
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 {
	v, _ := r.want(majorUint, "an unsigned integer")
	return v
}

// Uint32 reads an unsigned integer that fits 32 bits.
func (r *Reader) Uint32() uint32 {
	at := r.off
	v := r.Uint()
	if v > math.MaxUint32 {
		r.off = at
		r.Fail("an integer below 2^32 expected")
		return 0
	}
	return uint32(v)
}

// Int reads a signed integer that fits 64 bits.
func (r *Reader) Int() int64 {
	at := r.off
	major, v, _ := r.head()
	if r.err != nil {
		return 0
	}
	if major > majorNint || v > math.MaxInt64 {
		r.off = at
		if major > majorNint {
			r.Fail("an integer expected, not " + majorName(r.buf[at]))
		} else {
			r.Fail("an integer of 64 bits expected")
		}
		return 0
	}
	if major == majorNint {
		return ^int64(v)
	}
	return int64(v)
}

// Bytes reads a byte string; the result aliases the buffer and is never nil when the read succeeds.
func (r *Reader) Bytes() []byte {
	n, ok := r.want(majorBytes, "bytes")
	if !ok {
		return nil
	}
	return r.raw(n)
}

// Text reads a text string, checked to be UTF-8.
func (r *Reader) Text() string {
	b := r.TextBytes()
	return string(b)
}

// TextBytes reads a text string without copying it.
func (r *Reader) TextBytes() []byte {
	at := r.off
	n, ok := r.want(majorText, "text")
	if !ok {
		return nil
	}
	b := r.raw(n)
	if !utf8.Valid(b) {
		r.off = at
		r.Fail("text is not UTF-8")
		return nil
	}
	return b
}

func (r *Reader) raw(n uint64) []byte {
	if n > uint64(len(r.buf)-r.off) {
		r.Fail("a length of " + strconv.FormatUint(n, 10) + " is longer than the input")
		return nil
	}
	b := r.buf[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return b
}

// Array reads the head of an array.
func (r *Reader) Array() int {
	n, ok := r.want(majorArray, "an array")
	if !ok {
		return 0
	}
	if n > uint64(r.Len()) {
		r.Fail("an array of " + strconv.FormatUint(n, 10) + " items is longer than the input")
		return 0
	}
	return int(n)
}

// Map reads the head of a map and returns its number of pairs.
func (r *Reader) Map() int {
	n, ok := r.want(majorMap, "a map")
	if !ok {
		return 0
	}
	if n > uint64(r.Len())/2 {
		r.Fail("a map of " + strconv.FormatUint(n, 10) + " pairs is longer than the input")
		return 0
	}
	return int(n)
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if r.err == nil && r.off < len(r.buf) {
		switch r.buf[r.off] {
		case 0xf4:
			r.off++
			return false
		case 0xf5:
			r.off++
			return true
		}
		r.Fail("a boolean expected, not " + majorName(r.buf[r.off]))
	}
	r.head() // an empty input fails in its own words
	return false
}

// Float reads a float of any width, or an integer as one.
func (r *Reader) Float() float64 {
	at := r.off
	major, v, info := r.head()
	if r.err != nil {
		return 0
	}
	switch {
	case major == majorUint:
		return float64(v)
	case major == majorNint:
		return -1 - float64(v)
	case major == majorOther && info == 25:
		return half(uint16(v))
	case major == majorOther && info == 26:
		return float64(math.Float32frombits(uint32(v)))
	case major == majorOther && info == 27:
		return math.Float64frombits(v)
	}
	r.off = at
	r.Fail("a number expected, not " + majorName(r.buf[at]))
	return 0
}

// half widens an IEEE 754 binary16, after RFC 8949 appendix D.
func half(h uint16) float64 {
	exp, mant := int(h>>10&0x1f), float64(h&0x3ff)
	var v float64
	switch exp {
	case 0:
		v = math.Ldexp(mant, -24)
	case 31:
		if v = math.Inf(1); mant != 0 {
			v = math.NaN()
		}
	default:
		v = math.Ldexp(mant+1024, exp-25)
	}
	if h&0x8000 != 0 {
		v = -v
	}
	return v
}

// Null reads null if it is next and reports whether it was; otherwise nothing is read.
func (r *Reader) Null() bool {
	if r.err == nil && r.off < len(r.buf) && r.buf[r.off] == 0xf6 {
		r.off++
		return true
	}
	return false
}

// Peek returns the first byte of the next item, and false at the end or after a failure.
func (r *Reader) Peek() (byte, bool) {
	if r.err != nil || r.off >= len(r.buf) {
		return 0, false
	}
	return r.buf[r.off], true
}

// Item reads one item of any type and returns its bytes, which alias the buffer. At most [MaxDepth] arrays, maps and
// tags may stand inside one another. Duplicate map keys and the meaning of tags are not looked at.
func (r *Reader) Item() []byte {
	at := r.off
	r.skip(0)
	if r.err != nil {
		return nil
	}
	return r.buf[at:r.off:r.off]
}

// Skip reads one item of any type and drops it.
func (r *Reader) Skip() { r.skip(0) }

// skip reads one item that stands inside depth others.
func (r *Reader) skip(depth int) {
	at := r.off
	major, v, info := r.head()
	if r.err != nil {
		return
	}
	if depth == MaxDepth && major >= majorArray && major <= majorTag {
		r.off = at
		r.Fail("nested deeper than " + strconv.Itoa(MaxDepth))
		return
	}
	switch major {
	case majorBytes:
		r.raw(v)
	case majorText:
		if b := r.raw(v); !utf8.Valid(b) {
			r.off = at
			r.Fail("text is not UTF-8")
		}
	case majorArray, majorMap:
		if major == majorMap && v <= math.MaxInt64 {
			v *= 2
		}
		if v > uint64(r.Len()) {
			r.off = at
			r.Fail("a count is longer than the input")
			return
		}
		for ; v > 0 && r.err == nil; v-- {
			r.skip(depth + 1)
		}
	case majorTag:
		r.skip(depth + 1)
	case majorOther:
		if info == 24 && v < 32 {
			r.off = at
			r.Fail("a simple value below 32 in two bytes")
		}
	}
}
