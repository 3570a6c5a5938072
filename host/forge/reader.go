package forge

import (
	"fmt"
	"unicode/utf8"
)

// reader reads the primitives of the binary format up to the end of b, which may lie within the file: offsets are the
// file's. The first failure sticks; what is read after it is zero.
type reader struct {
	b        []byte
	off      int
	section  string
	function int
	err      *Error
}

func (r *reader) failAt(at int, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: at, Section: r.section, Function: r.function, Reason: fmt.Sprintf(format, args...)}
		r.off = len(r.b)
	}
}

func (r *reader) left() int { return len(r.b) - r.off }

func (r *reader) byte() byte {
	if r.off >= len(r.b) {
		r.failAt(r.off, "the input ends early")
		return 0
	}
	r.off++
	return r.b[r.off-1]
}

// bytes reads n bytes, which are not copied.
func (r *reader) bytes(n int) []byte {
	if n > r.left() {
		r.failAt(r.off, "%d bytes are declared, only %d are left", n, r.left())
		return nil
	}
	r.off += n
	return r.b[r.off-n : r.off : r.off]
}

// u32 reads an unsigned LEB128 number of at most 5 bytes.
func (r *reader) u32() uint32 {
	if r.off < len(r.b) && r.b[r.off] < 0x80 { // nearly always
		r.off++
		return uint32(r.b[r.off-1])
	}
	at := r.off
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			r.overlong(at, c, 32)
			return 0
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	return 0
}

func (r *reader) overlong(at int, last byte, size int) {
	if last >= 0x80 {
		r.failAt(at, "a number takes more bytes than %d bits need (integer representation too long)", size)
	} else {
		r.failAt(at, "a number has more than %d bits (integer too large)", size)
	}
}

// signed reads a signed LEB128 number of 32, 33 or 64 bits.
func (r *reader) signed(size int) int64 {
	at := r.off
	most := (size + 6) / 7
	var v int64
	for i := range most {
		c := r.byte()
		if i == most-1 {
			used := size - 7*i // bits of the last byte; the others repeat the sign
			sign := byte(0x7f<<(used-1)) & 0x7f
			if c >= 0x80 || c&sign != 0 && c&sign != sign {
				r.overlong(at, c, size)
				return 0
			}
		}
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if used := 7 * (i + 1); c&0x40 != 0 && used < 64 {
				v |= -1 << used
			}
			return v
		}
	}
	return 0
}

// count reads how many things follow, each of which takes at least a byte, and holds it against a limit.
func (r *reader) count(what string, most int) int {
	at := r.off
	n := uint64(r.u32())
	switch {
	case r.err != nil:
	case n > uint64(r.left()):
		r.failAt(at, "%d %s are declared, only %d bytes are left", n, what, r.left())
	case n > uint64(most):
		r.failAt(at, "%d %s, at most %d are accepted", n, what, most)
	default:
		return int(n)
	}
	return 0
}

// name reads a string and holds it to UTF-8.
func (r *reader) name() string {
	n := r.u32()
	at := r.off
	if uint64(n) > uint64(r.left()) {
		r.failAt(at, "a name of %d bytes, only %d are left", n, r.left())
		return ""
	}
	b := r.bytes(int(n))
	if !utf8.Valid(b) {
		r.failAt(at, "a name is not UTF-8 (malformed UTF-8 encoding)")
		return ""
	}
	return string(b)
}

func (r *reader) valType() valType {
	at := r.off
	t := valType(r.byte())
	if r.err == nil && !t.valid() {
		r.failAt(at, "%s", t.refusal())
	}
	return t
}

func (r *reader) refType() valType {
	at := r.off
	t := valType(r.byte())
	if r.err == nil && !t.reference() {
		if t.valid() {
			r.failAt(at, "%s is not a reference type", t)
		} else {
			r.failAt(at, "malformed reference type: %s", t.refusal())
		}
	}
	return t
}

// limits are a minimum and, if bounded, a maximum.
type limits struct {
	min, max uint32
	bounded  bool
}

func (r *reader) limits(what string) (l limits) {
	at := r.off
	flags := r.byte()
	switch {
	case flags <= 1:
	case flags <= 3:
		r.failAt(at, "a shared %s (the threads proposal) is not part of WebAssembly 2.0 (malformed limits flags)", what)
	case flags <= 7:
		r.failAt(at, "a 64-bit %s (the memory64 proposal) is not part of WebAssembly 2.0 (malformed limits flags)", what)
	default:
		r.failAt(at, "limits with flags 0x%02x are not part of WebAssembly 2.0 (malformed limits flags)", flags)
	}
	l.min = r.u32()
	if flags&1 != 0 {
		l.bounded = true
		l.max = r.u32()
		if r.err == nil && l.max < l.min {
			r.failAt(at, "the minimum of a %s, %d, is above its maximum, %d (size minimum must not be greater than maximum)",
				what, l.min, l.max)
		}
	}
	return l
}

// Writing.

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte { return append(appendU32(b, uint32(len(s))), s...) }

// appendSection appends a section, unless it is empty.
func appendSection(b []byte, id byte, body []byte) []byte {
	if len(body) == 0 {
		return b
	}
	return append(appendU32(append(b, id), uint32(len(body))), body...)
}
