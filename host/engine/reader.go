package engine

import (
	"fmt"
	"strings"
)

// reader reads the primitives of the binary format; the first failure sticks.
type reader struct {
	b   []byte
	off int
	err string
}

func (r *reader) fail(format string, args ...any) {
	if r.err == "" {
		r.err = fmt.Sprintf(format, args...)
	}
}

func (r *reader) byte() byte {
	if r.off >= len(r.b) {
		r.fail("the input ends early")
		return 0
	}
	r.off++
	return r.b[r.off-1]
}

func (r *reader) skip(n int) {
	if n > len(r.b)-r.off {
		r.fail("the input ends early")
		return
	}
	r.off += n
}

// u32 reads an unsigned LEB128 number.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.fail("a number of more than 32 bits")
	return 0
}

// leb skips a LEB128 number of at most n bytes.
func (r *reader) leb(n int) {
	for ; n > 0; n-- {
		if r.byte() < 0x80 {
			return
		}
	}
	r.fail("a number with too many bytes")
}

// count reads a number of things of which each takes at least a byte.
func (r *reader) count() int {
	n := r.u32()
	if r.err == "" && uint64(n) > uint64(len(r.b)-r.off) {
		r.fail("%d entries, but only %d bytes are left", n, len(r.b)-r.off)
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	n := r.count()
	r.off += n
	return strings.ToValidUTF8(string(r.b[r.off-n:r.off]), "\uFFFD")
}

func (r *reader) limits() (least, most uint32, bounded bool) {
	bounded = r.byte()&1 != 0
	least = r.u32()
	if bounded {
		most = r.u32()
	}
	return least, most, bounded
}

// funcType reads an entry of the type section.
func (r *reader) funcType() {
	if form := r.byte(); form != 0x60 {
		r.fail("a type of form 0x%02x is not part of WebAssembly 2.0", form)
	}
	for range 2 { // parameters, results
		n := r.count()
		if n > maxParams {
			r.fail("a function type with %d parameters or results, at most %d are accepted", n, maxParams)
		}
		r.skip(n)
	}
}

// element reads an entry of the element section.
func (r *reader) element() {
	flags := r.u32()
	if flags > 7 {
		r.fail("an element segment of an unknown form")
		return
	}
	if flags&1 == 0 { // active
		if flags&2 != 0 {
			r.u32()
		}
		r.constant()
	}
	if flags&3 != 0 {
		r.skip(1) // kind or type
	}
	for n := r.count(); n > 0 && r.err == ""; n-- {
		if flags&4 != 0 {
			r.constant()
		} else {
			r.u32()
		}
	}
}

// data reads an entry of the data section.
func (r *reader) data() {
	flags := r.u32()
	if flags == 2 {
		r.u32()
	}
	if flags != 1 {
		r.constant()
	}
	r.skip(r.count())
}

// constant skips a constant expression.
func (r *reader) constant() {
	for r.err == "" {
		switch op := r.byte(); op {
		case 0x0b: // end
			return
		case 0x23, 0x41, 0xd2: // global.get, i32.const, ref.func
			r.leb(5)
		case 0x42: // i64.const
			r.leb(10)
		case 0x43:
			r.skip(4)
		case 0x44:
			r.skip(8)
		case 0xd0: // ref.null
			r.skip(1)
		case 0xfd: // v128.const
			r.leb(5)
			r.skip(16)
		default:
			r.fail("instruction 0x%02x in a constant", op)
		}
	}
}

// custom looks into the one custom section that wazero reads. It is held to the letter, since wazero, where a subsection
// is longer than what stands in it, goes on reading in the middle.
func (r *reader) custom(size uint32) {
	if r.name() != "name" {
		return
	}
	if size > maxNames {
		r.fail("%d bytes of names, at most %d are accepted: strip them", size, maxNames)
	}
	for r.err == "" && r.off < len(r.b) {
		id := r.byte()
		n := r.count()
		sub := reader{b: r.b[:r.off+n], off: r.off}
		r.off += n
		switch id {
		case 0: // of the module
			sub.name()
		case 1: // of functions
			sub.nameMap()
		case 2: // of locals, by function
			for n := sub.count(); n > 0 && sub.err == ""; n-- {
				sub.u32()
				sub.nameMap()
			}
		default:
			continue
		}
		if sub.err == "" && sub.off != len(sub.b) {
			sub.fail("bytes follow the names")
		}
		if sub.err != "" {
			r.off = sub.off
			r.fail("names: %s", sub.err)
		}
	}
}

func (r *reader) nameMap() {
	for n := r.count(); n > 0 && r.err == ""; n-- {
		r.u32()
		r.name()
	}
}
