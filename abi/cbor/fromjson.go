package cbor

import (
	"bytes"
	"strconv"

	"github.com/wasilo/wasilo/abi"
)

// FromJSON turns one JSON text into CBOR as s asks for; nil asks for nothing. The error is a [*SyntaxError].
func FromJSON(js []byte, s *abi.Schema) ([]byte, error) {
	out, err := AppendFromJSON(make([]byte, 0, len(js)+16), js, s)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// AppendFromJSON is [FromJSON] into a buffer of the caller's; after an error the buffer is returned as it came. CBOR is
// rarely longer than its JSON, but a list of one-digit numbers that the schema calls floats grows to 4.5 times: whoever
// limits messages looks at both sizes.
func AppendFromJSON(dst, js []byte, s *abi.Schema) ([]byte, error) {
	sc := scanner{js: js, out: dst}
	if err := sc.document(s); err != nil {
		return dst, err.finish()
	}
	return sc.out, nil
}

// scanner reads JSON and writes CBOR as it goes. A read that fails returns the error with the path below its own value.
type scanner struct {
	js  []byte
	i   int
	out []byte
	tmp []byte // the last string that had escapes
}

func (s *scanner) fail(at int, reason string) *SyntaxError {
	return &SyntaxError{Input: "JSON", Offset: at, Reason: reason}
}

// unexpected reports what stands at s.i instead of what should.
func (s *scanner) unexpected(what string) *SyntaxError {
	if s.i >= len(s.js) {
		return s.fail(s.i, what+" expected, but the input ends")
	}
	switch c := s.js[s.i]; {
	case c == '\'':
		return s.fail(s.i, what+` expected, not '; JSON quotes with "`)
	case c < 0x20 || c >= 0x7f:
		return s.fail(s.i, what+" expected, not the byte 0x"+strconv.FormatUint(uint64(c), 16))
	default:
		return s.fail(s.i, what+" expected, not "+string(rune(c)))
	}
}

// peek skips white space and returns the byte at s.i, 0 at the end.
func (s *scanner) peek() byte {
	for ; s.i < len(s.js); s.i++ {
		switch c := s.js[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) document(want *abi.Schema) *SyntaxError {
	if bytes.HasPrefix(s.js, []byte("\xef\xbb\xbf")) {
		return s.fail(0, "a byte order mark stands in front of the value")
	}
	if s.peek(); s.i == len(s.js) {
		return s.fail(s.i, "there is no value; write {} for no parameters, or null")
	}
	if err := s.value(want, 0); err != nil {
		return err
	}
	if s.peek(); s.i < len(s.js) {
		return s.fail(s.i, "something follows the end of the value")
	}
	return nil
}

// value reads one value that stands inside depth arrays and objects.
func (s *scanner) value(want *abi.Schema, depth int) *SyntaxError {
	c := s.peek()
	at, typ := s.i, abi.TypeAny
	if want != nil {
		typ = want.Type
	}
	switch c {
	case '{':
		switch typ {
		case abi.TypeAny:
			return s.object(nil, depth)
		case abi.TypeMap:
			return s.object(want.Elem, depth)
		case abi.TypeRecord:
			return s.record(want.Fields, depth)
		}
	case '[':
		switch typ {
		case abi.TypeAny:
			return s.array(nil, depth)
		case abi.TypeList:
			return s.array(want.Elem, depth)
		}
	case '"':
		switch typ {
		case abi.TypeAny, abi.TypeText:
			v, err := s.str()
			if err == nil {
				s.out = append(appendHead(s.out, majorText, uint64(len(v))), v...)
			}
			return err
		case abi.TypeBytes:
			return s.base64()
		}
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		switch typ {
		case abi.TypeAny, abi.TypeInt, abi.TypeUint, abi.TypeFloat:
			return s.number(typ)
		}
	case 't', 'f':
		word := "false"
		if c == 't' {
			word = "true"
		}
		if err := s.word(word); err != nil {
			return err
		}
		if typ == abi.TypeAny || typ == abi.TypeBool {
			s.out = abi.AppendBool(s.out, c == 't')
			return nil
		}
	case 'n':
		if err := s.word("null"); err != nil {
			return err
		}
		if typ == abi.TypeAny || want.Nullable {
			s.out = abi.AppendNull(s.out)
			return nil
		}
	default:
		return s.unexpected("a value")
	}
	return s.fail(at, taken(typ)+" expected, not "+found(c))
}

// taken names the JSON that a type of a schema takes.
func taken(t abi.SchemaType) string {
	switch t {
	case abi.TypeBool:
		return "true or false"
	case abi.TypeInt:
		return "an integer"
	case abi.TypeUint:
		return "an integer from 0 on"
	case abi.TypeFloat:
		return "a number"
	case abi.TypeText:
		return "a string"
	case abi.TypeBytes:
		return "a base64url string"
	case abi.TypeList:
		return "an array"
	case abi.TypeMap, abi.TypeRecord:
		return "an object"
	}
	return "a value of a type that this node knows" // a schema made by hand
}

// found names the value that starts with c.
func found(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't':
		return "true"
	case 'f':
		return "false"
	case 'n':
		return "null"
	}
	return "a number"
}

func (s *scanner) word(w string) *SyntaxError {
	if end := s.i + len(w); end > len(s.js) || string(s.js[s.i:end]) != w {
		return s.fail(s.i, "a value expected; did you mean "+w+"?")
	}
	s.i += len(w)
	return nil
}

// open writes the head of an array or map whose length is not known yet and returns where it stands.
func (s *scanner) open(major byte, depth int) (int, *SyntaxError) {
	if depth >= abi.MaxDepth {
		return 0, s.fail(s.i, "nested deeper than "+strconv.Itoa(abi.MaxDepth))
	}
	s.i++ // the bracket
	s.out = append(s.out, major<<5)
	return len(s.out) - 1, nil
}

// close sets the count of the head at at. A count above 23 needs room: what follows moves by a few bytes.
func (s *scanner) close(at, n int) {
	if n < 24 {
		s.out[at] |= byte(n)
		return
	}
	var head [9]byte
	h := appendHead(head[:0], s.out[at]>>5, uint64(n))
	s.out = append(s.out, h[1:]...)
	copy(s.out[at+len(h):], s.out[at+1:])
	copy(s.out[at:], h)
}

func (s *scanner) array(elem *abi.Schema, depth int) *SyntaxError {
	at, err := s.open(majorArray, depth)
	if err != nil {
		return err
	}
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for n := 0; ; {
		if err := s.value(elem, depth+1); err != nil {
			return err.inItem(n)
		}
		n++
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			s.close(at, n)
			return nil
		default:
			return s.unexpected("a comma or ]")
		}
	}
}

// object reads an object of any names.
func (s *scanner) object(elem *abi.Schema, depth int) *SyntaxError {
	at, err := s.open(majorMap, depth)
	if err != nil {
		return err
	}
	if s.peek() == '}' {
		s.i++
		return nil
	}
	var names nameSet
	for n := 0; ; {
		keyAt, key, err := s.name()
		if err != nil {
			return err
		}
		s.out = append(appendHead(s.out, majorText, uint64(len(key))), key...)
		start, end := len(s.out)-len(key), len(s.out)
		if !names.add(s.out, start, end) {
			return s.fail(keyAt, "the name stands twice").inKey(key)
		}
		if err := s.value(elem, depth+1); err != nil {
			return err.inKey(s.out[start:end])
		}
		n++
		done, err := s.next()
		if err != nil {
			return err
		}
		if done {
			s.close(at, n)
			return nil
		}
	}
}

// record reads an object of just these fields.
func (s *scanner) record(fields []abi.Field, depth int) *SyntaxError {
	objectAt := s.i
	at, err := s.open(majorMap, depth)
	if err != nil {
		return err
	}
	var room [abi.MaxFieldsPerRecord / 64]uint64
	seen := room[:]
	if len(fields) > abi.MaxFieldsPerRecord { // a native kind's; a module's description has no more
		seen = make([]uint64, (len(fields)+63)/64)
	}
	n, last := 0, -1
	done := s.peek() == '}'
	if done {
		s.i++
	}
	for !done {
		keyAt, key, err := s.name()
		if err != nil {
			return err
		}
		i := findField(fields, key, last+1)
		switch {
		case i < 0:
			return s.fail(keyAt, unknownField(fields, string(key))).inKey(key)
		case seen[i/64]&(1<<(i%64)) != 0:
			return s.fail(keyAt, "the name stands twice").inKey(key)
		}
		seen[i/64] |= 1 << (i % 64)
		last = i
		f := &fields[i]
		if s.peek() == 'n' && f.Optional && f.Schema != nil && f.Schema.Type != abi.TypeAny && !f.Schema.Nullable {
			// null cannot be the field's value, so it says that there is none.
			if err := s.word("null"); err != nil {
				return err.inKey([]byte(f.Name))
			}
		} else {
			s.out = abi.AppendText(s.out, f.Name)
			if err := s.value(f.Schema, depth+1); err != nil {
				return err.inKey([]byte(f.Name))
			}
			n++
		}
		if done, err = s.next(); err != nil {
			return err
		}
	}
	for i := range fields {
		if !fields[i].Optional && seen[i/64]&(1<<(i%64)) == 0 {
			return s.fail(objectAt, "the field is missing").inKey([]byte(fields[i].Name))
		}
	}
	s.close(at, n)
	return nil
}

// findField returns the field of a name, -1 if there is none. Fields mostly come in their order: the search starts at
// next.
func findField(fields []abi.Field, name []byte, next int) int {
	if next < len(fields) && fields[next].Name == string(name) {
		return next
	}
	for i := range fields {
		if fields[i].Name == string(name) {
			return i
		}
	}
	return -1
}

// name reads a member's name and the colon after it. The name is valid until the next string is read.
func (s *scanner) name() (at int, name []byte, err *SyntaxError) {
	if s.peek() != '"' {
		return 0, nil, s.unexpected("a name in quotes")
	}
	at = s.i
	if name, err = s.str(); err != nil {
		return 0, nil, err
	}
	if s.peek() != ':' {
		return 0, nil, s.unexpected("a colon").inKey(name)
	}
	s.i++
	return at, name, nil
}

// next reads what follows a member: a comma, or the brace that ends the object.
func (s *scanner) next() (done bool, err *SyntaxError) {
	switch s.peek() {
	case ',':
		s.i++
		return false, nil
	case '}':
		s.i++
		return true, nil
	}
	return false, s.unexpected("a comma or }")
}
