package cbor

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"

	"github.com/wasilo/wasilo/abi"
)

// maxBignum bounds the bytes of a bignum: its decimal digits cost more than linear time.
const maxBignum = 1024

// ToJSON shows one CBOR item as JSON. The error is a [*SyntaxError] whose code is unsupported: the actor has answered,
// only not in JSON. The schema is that of the method's result. A reply is shown as it is, whether it keeps to its
// schema or not, and no type of ABI v1 needs it to choose a form, so that nil gives the same.
func ToJSON(cb []byte, s *abi.Schema) ([]byte, error) {
	out, err := AppendToJSON(make([]byte, 0, len(cb)+len(cb)/2+16), cb, s)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// AppendToJSON is [ToJSON] into a buffer of the caller's; after an error the buffer is returned as it came.
func AppendToJSON(dst, cb []byte, _ *abi.Schema) ([]byte, error) {
	if len(cb) == 0 {
		return append(dst, "null"...), nil
	}
	p := printer{cb: cb, out: dst}
	err := p.value(0)
	if err == nil && p.i != len(cb) {
		err = p.fail(p.i, strconv.Itoa(len(cb)-p.i)+" bytes follow the end of the item")
	}
	if err != nil {
		return dst, err.finish()
	}
	return p.out, nil
}

// printer reads CBOR and writes JSON as it goes.
type printer struct {
	cb  []byte
	i   int
	out []byte
}

func (p *printer) fail(at int, reason string) *SyntaxError {
	return &SyntaxError{Input: "CBOR", Offset: at, Reason: reason, code: abi.ErrUnsupported}
}

// head reads an item's head: its major type, the five bits beside it, and its argument.
func (p *printer) head() (major, info byte, v uint64, err *SyntaxError) {
	if p.i >= len(p.cb) {
		return 0, 0, 0, p.fail(p.i, "the input ends where an item should start")
	}
	c := p.cb[p.i]
	major, info = c>>5, c&31
	if info < 24 {
		p.i++
		return major, info, uint64(info), nil
	}
	if info > 27 {
		if info == 31 {
			return 0, 0, 0, p.fail(p.i, "indefinite lengths are not accepted")
		}
		return 0, 0, 0, p.fail(p.i, "a reserved length")
	}
	arg := p.cb[p.i+1:]
	n := 1 << (info - 24)
	if len(arg) < n {
		return 0, 0, 0, p.fail(p.i, "the input ends inside an item's head")
	}
	switch n {
	case 1:
		v = uint64(arg[0])
	case 2:
		v = uint64(binary.BigEndian.Uint16(arg))
	case 4:
		v = uint64(binary.BigEndian.Uint32(arg))
	case 8:
		v = binary.BigEndian.Uint64(arg)
	}
	p.i += 1 + n
	return major, info, v, nil
}

// raw reads the n bytes of the string whose head is at at.
func (p *printer) raw(at int, n uint64) ([]byte, *SyntaxError) {
	if n > uint64(len(p.cb)-p.i) {
		return nil, p.fail(at, "a length of "+strconv.FormatUint(n, 10)+" is longer than the input")
	}
	b := p.cb[p.i : p.i+int(n)]
	p.i += int(n)
	return b, nil
}

// value shows one item that stands inside depth arrays, maps and tags.
func (p *printer) value(depth int) *SyntaxError {
	at := p.i
	major, info, v, err := p.head()
	if err != nil {
		return err
	}
	switch major {
	case majorUint:
		p.out = strconv.AppendUint(p.out, v, 10)
		return nil
	case majorNint:
		p.negative(v)
		return nil
	case majorBytes:
		b, err := p.raw(at, v)
		if err != nil {
			return err
		}
		p.out = append(p.out, '"')
		p.out = base64.RawURLEncoding.AppendEncode(p.out, b)
		p.out = append(p.out, '"')
		return nil
	case majorText:
		return p.text(at, v)
	case majorOther:
		return p.simple(at, info, v)
	}
	if depth >= abi.MaxDepth {
		return p.fail(at, "nested deeper than "+strconv.Itoa(abi.MaxDepth))
	}
	switch major {
	case majorArray:
		return p.array(at, v, depth)
	case majorMap:
		return p.object(at, v, depth)
	}
	return p.tagged(at, v)
}

// negative writes -1-v, which may need 65 bits.
func (p *printer) negative(v uint64) {
	if v == math.MaxUint64 {
		p.out = append(p.out, "-18446744073709551616"...)
		return
	}
	p.out = append(p.out, '-')
	p.out = strconv.AppendUint(p.out, v+1, 10)
}

func (p *printer) text(at int, n uint64) *SyntaxError {
	b, err := p.raw(at, n)
	if err != nil {
		return err
	}
	ok := false
	if p.out, ok = appendString(p.out, b); !ok {
		return p.fail(at, "text is not UTF-8")
	}
	return nil
}

func (p *printer) simple(at int, info byte, v uint64) *SyntaxError {
	var f float64
	width := 32
	switch info {
	case 20:
		p.out = append(p.out, "false"...)
		return nil
	case 21:
		p.out = append(p.out, "true"...)
		return nil
	case 22, 23: // undefined too, as RFC 8949 section 6.1 has it
		p.out = append(p.out, "null"...)
		return nil
	case 25:
		r := abi.NewReader(p.cb[at:p.i])
		f = r.Float()
	case 26:
		f = float64(math.Float32frombits(uint32(v)))
	case 27:
		f, width = math.Float64frombits(v), 64
	default:
		return p.fail(at, "the simple value "+strconv.FormatUint(v, 10))
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return p.fail(at, "the float "+strconv.FormatFloat(f, 'g', -1, 64)+" is no number of JSON")
	}
	p.out = appendFloat(p.out, f, width)
	return nil
}

// appendFloat writes f. What is integral and below 2^63 is written out exactly; anything else has the fewest digits that
// tell it from its neighbours among floats of its width, and from 2^63 on (ECMAScript: 1e21) an exponent, since digits
// alone would read as an integer that does not fit.
func appendFloat(b []byte, f float64, width int) []byte {
	abs := math.Abs(f)
	switch {
	case abs < 1<<63 && f == math.Trunc(f):
		if f == 0 && math.Signbit(f) {
			return append(b, "-0"...)
		}
		return strconv.AppendInt(b, int64(f), 10)
	case abs >= 1e-6 && abs < 1<<63:
		return strconv.AppendFloat(b, f, 'f', -1, width)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, width)
	if n := len(b); b[n-4] == 'e' && b[n-2] == '0' { // e-09 is written e-9
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}

func (p *printer) array(at int, n uint64, depth int) *SyntaxError {
	if n > uint64(len(p.cb)-p.i) {
		return p.fail(at, "an array of "+strconv.FormatUint(n, 10)+" items is longer than the input")
	}
	p.out = append(p.out, '[')
	for i := range int(n) {
		if i > 0 {
			p.out = append(p.out, ',')
		}
		if err := p.value(depth + 1); err != nil {
			return err.inItem(i)
		}
	}
	p.out = append(p.out, ']')
	return nil
}

func (p *printer) object(at int, n uint64, depth int) *SyntaxError {
	if n > uint64(len(p.cb)-p.i)/2 {
		return p.fail(at, "a map of "+strconv.FormatUint(n, 10)+" pairs is longer than the input")
	}
	p.out = append(p.out, '{')
	var names nameSet
	for i := range int(n) {
		if i > 0 {
			p.out = append(p.out, ',')
		}
		keyAt, start := p.i, len(p.out)
		key, err := p.key()
		if err != nil {
			return err
		}
		if !names.add(p.out, start, len(p.out)) {
			return p.fail(keyAt, "the key stands twice").inKey(key)
		}
		p.out = append(p.out, ':')
		if err := p.value(depth + 1); err != nil {
			return err.inKey(key)
		}
	}
	p.out = append(p.out, '}')
	return nil
}

// key shows a map key as a member's name and returns it without its quotes.
func (p *printer) key() ([]byte, *SyntaxError) {
	at, start := p.i, len(p.out)
	major, _, v, err := p.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case majorText:
		content := p.i
		if err := p.text(at, v); err != nil {
			return nil, err
		}
		return p.cb[content:p.i], nil
	case majorUint, majorNint:
		p.out = append(p.out, '"')
		if major == majorUint {
			p.out = strconv.AppendUint(p.out, v, 10)
		} else {
			p.negative(v)
		}
		p.out = append(p.out, '"')
		return p.out[start+1 : len(p.out)-1], nil
	}
	return nil, p.fail(at, "a map key that is neither text nor an integer")
}

// tagged shows the item in a tag whose head has been read and stands at at.
func (p *printer) tagged(at int, tag uint64) *SyntaxError {
	content := p.i
	major, info, v, err := p.head()
	if err != nil {
		return err
	}
	switch tag {
	case 0:
		if major == majorText {
			return p.text(content, v)
		}
		return p.fail(at, "tag 0, a time, without text")
	case 1:
		switch {
		case major == majorUint:
			p.out = strconv.AppendUint(p.out, v, 10)
		case major == majorNint:
			p.negative(v)
		case major == majorOther && info >= 25:
			return p.simple(content, info, v)
		default:
			return p.fail(at, "tag 1, a time, without a number")
		}
		return nil
	case 2, 3:
		if major != majorBytes {
			return p.fail(at, "a bignum without bytes")
		}
		b, err := p.raw(content, v)
		if err != nil {
			return err
		}
		if len(b) > maxBignum {
			return p.fail(at, "a bignum of more than "+strconv.Itoa(maxBignum)+" bytes")
		}
		n := new(big.Int).SetBytes(b)
		if tag == 3 {
			n.Not(n) // -1-n
		}
		p.out = n.Append(p.out, 10)
		return nil
	}
	return p.fail(at, "the tag "+strconv.FormatUint(tag, 10))
}

// appendString writes b as a string; ok is false when it is not UTF-8.
func appendString(out, b []byte) (_ []byte, ok bool) {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	ascii, from := true, 0
	for i := 0; i < len(b); {
		if i+8 <= len(b) && allPlain(binary.LittleEndian.Uint64(b[i:])) {
			i += 8
			continue
		}
		c := b[i]
		i++
		if c >= utf8.RuneSelf {
			ascii = false
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		out = append(out, b[from:i-1]...)
		from = i
		switch c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\n':
			out = append(out, `\n`...)
		case '\r':
			out = append(out, `\r`...)
		case '\t':
			out = append(out, `\t`...)
		default:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	out = append(out, b[from:]...)
	return append(out, '"'), ascii || utf8.Valid(b)
}
