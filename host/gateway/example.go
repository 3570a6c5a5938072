package gateway

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/wasilo/wasilo/abi"
)

// ExampleJSON writes a value that s accepts, for help texts: the required fields of a record, nothing longer than
// needed. A schema that says nothing gives {}.
func ExampleJSON(s *abi.Schema) string { return string(appendExample(nil, s, "")) }

func appendExample(b []byte, s *abi.Schema, name string) []byte {
	if s == nil {
		return append(b, "{}"...)
	}
	switch s.Type {
	case abi.TypeBool:
		return append(b, "true"...)
	case abi.TypeInt, abi.TypeUint:
		return append(b, '1')
	case abi.TypeFloat:
		return append(b, "1.5"...)
	case abi.TypeText:
		if name == "" {
			name = "text"
		}
		return appendJSONText(b, name)
	case abi.TypeBytes:
		return append(b, `"AA"`...)
	case abi.TypeList:
		b = append(b, '[')
		if s.Elem != nil {
			b = appendExample(b, s.Elem, name)
		}
		return append(b, ']')
	case abi.TypeRecord:
		b = append(b, '{')
		n := 0
		for i := range s.Fields {
			f := &s.Fields[i]
			if f.Optional {
				continue
			}
			if n++; n > 1 {
				b = append(b, ',')
			}
			b = appendJSONText(b, f.Name)
			b = append(b, ':')
			b = appendExample(b, f.Schema, f.Name)
		}
		return append(b, '}')
	}
	return append(b, "{}"...)
}

// appendJSONText writes s as JSON, in characters that a terminal shows: names are what a module's author has chosen.
func appendJSONText(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

// Example is one call that a newcomer can type.
type Example struct {
	Target abi.Identity
	Method string
	JSON   string // parameters; "{}" may be left out
}

// PickExample chooses the call to show first: a method that changes something, of the kind counter when there is one.
// False: no kind lists a method.
func PickExample(kinds []KindInfo) (Example, bool) {
	best, score := Example{}, -1
	for i := range kinds {
		k := &kinds[i]
		for j := range k.Methods {
			m := &k.Methods[j]
			s := 0
			if k.Name == "counter" {
				s += 2
			}
			if !m.ReadOnly {
				s++
			}
			if s <= score {
				continue
			}
			target, err := abi.NewIdentity(k.Name, "alice")
			if err != nil {
				continue
			}
			best, score = Example{Target: target, Method: m.Name, JSON: m.Example}, s
		}
	}
	return best, score >= 0
}

// Path is where the call is posted.
func (e Example) Path() string { return CallPath(e.Target, e.Method) }

// Curl is the call as a line for a shell, to the node at base.
func (e Example) Curl(base string) string {
	return "curl -d " + ShellWord(e.JSON) + " " + ShellWord(base+e.Path())
}

// ShellWord writes s as a shell reads it back.
func ShellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:,@%+=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
