package cbor

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/wasilo/wasilo/abi"
)

// str reads a string and returns its value, which aliases the input or s.tmp and is valid until the next call.
func (s *scanner) str() ([]byte, *SyntaxError) {
	start := s.i + 1
	ascii := true
	for i := start; i < len(s.js); {
		if i+8 <= len(s.js) && allPlain(binary.LittleEndian.Uint64(s.js[i:])) {
			i += 8
			continue
		}
		switch c := s.js[i]; {
		case c == '"':
			v := s.js[start:i]
			if !ascii && !utf8.Valid(v) {
				return nil, s.notUTF8(start, v)
			}
			s.i = i + 1
			return v, nil
		case c == '\\':
			return s.unescape(start, i)
		case c < 0x20:
			return nil, s.fail(i, "a control character in a string; escape it")
		case c >= utf8.RuneSelf:
			ascii = false
		}
		i++
	}
	return nil, s.fail(s.i, "the string does not end")
}

// allPlain reports whether none of eight bytes is a quote, a backslash, a control character or beyond ASCII. It may err
// on the side of false.
func allPlain(x uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, backslash := x^(ones*'"'), x^(ones*'\\')
	return (x|(x-ones*0x20)|(quote-ones)|(backslash-ones))&highs == 0
}

func (s *scanner) notUTF8(start int, v []byte) *SyntaxError {
	at := 0
	for at < len(v) {
		r, n := utf8.DecodeRune(v[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return s.fail(start+at, "text is not UTF-8")
}

// unescape reads the string that starts at start and has its first backslash at i.
func (s *scanner) unescape(start, i int) ([]byte, *SyntaxError) {
	from := start // of what is not copied yet
	s.tmp = s.tmp[:0]
	for i < len(s.js) {
		switch c := s.js[i]; {
		case c == '"':
			if v := s.js[from:i]; !utf8.Valid(v) {
				return nil, s.notUTF8(from, v)
			}
			s.tmp = append(s.tmp, s.js[from:i]...)
			s.i = i + 1
			return s.tmp, nil
		case c < 0x20:
			return nil, s.fail(i, "a control character in a string; escape it")
		case c != '\\':
			i++
			continue
		}
		if v := s.js[from:i]; !utf8.Valid(v) {
			return nil, s.notUTF8(from, v)
		}
		s.tmp = append(s.tmp, s.js[from:i]...)
		if i+1 == len(s.js) {
			break
		}
		switch c := s.js[i+1]; c {
		case '"', '\\', '/':
			s.tmp = append(s.tmp, c)
		case 'b':
			s.tmp = append(s.tmp, '\b')
		case 'f':
			s.tmp = append(s.tmp, '\f')
		case 'n':
			s.tmp = append(s.tmp, '\n')
		case 'r':
			s.tmp = append(s.tmp, '\r')
		case 't':
			s.tmp = append(s.tmp, '\t')
		case 'u':
			r, ok := s.hex4(i + 2)
			if !ok {
				return nil, s.fail(i, `\u takes four hexadecimal digits`)
			}
			if utf16.IsSurrogate(r) {
				low, ok := s.hex4(i + 8)
				if !ok || s.js[i+6] != '\\' || s.js[i+7] != 'u' {
					low = 0
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return nil, s.fail(i, "a lone surrogate is no character")
				}
				i += 6
			}
			s.tmp = utf8.AppendRune(s.tmp, r)
			i += 4
		default:
			return nil, s.fail(i, "no such escape")
		}
		i += 2
		from = i
	}
	return nil, s.fail(s.i, "the string does not end")
}

func (s *scanner) hex4(i int) (rune, bool) {
	if i+4 > len(s.js) {
		return 0, false
	}
	var r rune
	for _, c := range s.js[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// base64 reads a string of base64url, padded or not, as bytes.
func (s *scanner) base64() *SyntaxError {
	at := s.i
	v, err := s.str()
	if err != nil {
		return err
	}
	raw := bytes.TrimRight(v, "=")
	if pad := len(v) - len(raw); pad > 0 && (pad > 2 || len(v)%4 != 0) {
		return s.fail(at, "base64url with the wrong padding; it may be left out")
	}
	out := appendHead(s.out, majorBytes, uint64(len(raw)*3/4))
	out, bad := base64.RawURLEncoding.Strict().AppendDecode(out, raw)
	// The decoder skips line ends; here they are characters like any other that does not belong.
	if bad != nil || bytes.ContainsAny(raw, "\r\n") {
		if i := bytes.IndexFunc(raw, notBase64URL); i >= 0 {
			r, _ := utf8.DecodeRune(raw[i:])
			return s.fail(at, "base64url expected, in which "+strconv.QuoteRuneToASCII(r)+
				" has no meaning; + is written - and / is written _")
		}
		return s.fail(at, "base64url that ends in the middle of a byte")
	}
	s.out = out
	return nil
}

func notBase64URL(r rune) bool {
	return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// number reads a number as a value of typ: any, int, uint or float.
func (s *scanner) number(typ abi.SchemaType) *SyntaxError {
	at := s.i
	n, err := s.literal()
	if err != nil {
		return err
	}
	asInt := n.integral && n.fits && (!n.neg || n.abs <= 1<<63)
	switch {
	case typ == abi.TypeFloat, typ == abi.TypeAny && !asInt && !n.plain:
		f, ok := n.float()
		if !ok {
			return s.fail(at, n.show()+" is too large for a float of 64 bits")
		}
		s.out = abi.AppendFloat(s.out, f)
		return nil
	case !n.integral:
		return s.fail(at, taken(typ)+" expected, not "+n.show())
	case typ == abi.TypeUint && n.neg && n.abs != 0:
		return s.fail(at, taken(typ)+" expected, not "+n.show())
	case !asInt, typ == abi.TypeInt && !n.neg && n.abs > math.MaxInt64:
		return s.fail(at, n.show()+" does not fit an integer of 64 bits")
	case n.neg && n.abs != 0:
		s.out = appendHead(s.out, majorNint, n.abs-1)
	default:
		s.out = appendHead(s.out, majorUint, n.abs)
	}
	return nil
}

// literal is a number as it is written.
type literal struct {
	text     []byte
	neg      bool
	plain    bool   // neither fraction nor exponent
	integral bool   // the value is an integer
	fits     bool   // and below 2^64, without its sign
	abs      uint64 // then: this
}

// show cuts the number to what fits an error.
func (n *literal) show() string {
	if len(n.text) > maxShown {
		return string(n.text[:maxShown]) + "…"
	}
	return string(n.text)
}

// literal reads a number by the grammar of RFC 8259.
func (s *scanner) literal() (literal, *SyntaxError) {
	n := literal{plain: true, integral: true, fits: true}
	start := s.i
	if s.js[s.i] == '-' {
		n.neg = true
		s.i++
	}
	whole := s.digits()
	switch {
	case len(whole) == 0:
		return n, s.unexpected("a digit")
	case whole[0] == '0' && len(whole) > 1:
		return n, s.fail(start, "a number with a leading zero")
	}
	var fraction []byte
	exponent := int64(0)
	if s.i < len(s.js) && s.js[s.i] == '.' {
		n.plain = false
		s.i++
		if fraction = s.digits(); len(fraction) == 0 {
			return n, s.unexpected("a digit")
		}
	}
	if s.i < len(s.js) && s.js[s.i]|0x20 == 'e' {
		n.plain = false
		s.i++
		negative := false
		if s.i < len(s.js) && (s.js[s.i] == '-' || s.js[s.i] == '+') {
			negative = s.js[s.i] == '-'
			s.i++
		}
		digits := s.digits()
		if len(digits) == 0 {
			return n, s.unexpected("a digit")
		}
		for _, c := range digits {
			if exponent < 1<<40 { // beyond the length of any input
				exponent = exponent*10 + int64(c-'0')
			}
		}
		if negative {
			exponent = -exponent
		}
	}
	n.text = s.js[start:s.i]
	if n.plain {
		n.abs, n.fits = accumulate(0, whole)
	} else {
		n.value(whole, fraction, exponent)
	}
	return n, nil
}

func (s *scanner) digits() []byte {
	start := s.i
	for s.i < len(s.js) && s.js[s.i]-'0' <= 9 {
		s.i++
	}
	return s.js[start:s.i]
}

// value works out exactly, without floats, whether whole.fraction × 10^exponent is an integer, and which.
func (n *literal) value(whole, fraction []byte, exponent int64) {
	n.abs, n.integral, n.fits = 0, true, true
	// Zeros at the end of the digits go to the exponent.
	exponent -= int64(len(fraction))
	digits := len(whole) + len(fraction)
	if fraction = bytes.TrimRight(fraction, "0"); len(fraction) == 0 {
		whole = bytes.TrimRight(whole, "0")
	}
	exponent += int64(digits - len(whole) - len(fraction))
	if len(whole) == 0 && len(fraction) == 0 {
		return
	}
	if n.integral = exponent >= 0; !n.integral {
		return
	}
	if n.abs, n.fits = accumulate(0, whole); n.fits {
		n.abs, n.fits = accumulate(n.abs, fraction)
	}
	for ; exponent > 0 && n.fits; exponent-- { // abs is not 0: this ends within 20 rounds
		n.abs, n.fits = accumulate(n.abs, []byte("0"))
	}
}

// accumulate appends decimal digits to v; ok is false when that passes 64 bits.
func accumulate(v uint64, digits []byte) (uint64, bool) {
	for _, c := range digits {
		hi, lo := bits.Mul64(v, 10)
		sum, carry := bits.Add64(lo, uint64(c-'0'), 0)
		if hi|carry != 0 {
			return 0, false
		}
		v = sum
	}
	return v, true
}

// float returns the nearest float of 64 bits; ok is false when that is infinite.
func (n *literal) float() (f float64, ok bool) {
	if n.integral && n.fits && n.abs <= 1<<53 {
		if f = float64(n.abs); n.neg {
			f = -f // and 0 to -0
		}
		return f, true
	}
	f, err := strconv.ParseFloat(string(n.text), 64)
	return f, err == nil
}
