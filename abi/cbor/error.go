package cbor

import (
	"strconv"
	"strings"

	"github.com/wasilo/wasilo/abi"
)

// SyntaxError says what in an input cannot be converted, and where.
type SyntaxError struct {
	Input  string // what was read: "JSON" or "CBOR"
	Path   string // of the value in question, the root being $: "$.items[3].by"
	Offset int    // in bytes from the start of the input
	Reason string // what was expected or breached there

	code abi.Code
	err  error
}

// Error reads: invalid JSON at $.items[3].by, byte 41: an integer expected, not a string.
func (e *SyntaxError) Error() string {
	s := "invalid " + e.Input
	if e.code == abi.ErrUnsupported {
		s = e.Input + " without a JSON form"
	}
	return s + " at " + e.Path + ", byte " + strconv.Itoa(e.Offset) + ": " + e.Reason
}

// WireCode is invalid_argument for input that is wrong, and unsupported for CBOR that [ToJSON] cannot show.
func (e *SyntaxError) WireCode() abi.Code {
	if e.code == abi.ErrNone {
		return abi.ErrInvalidArgument
	}
	return e.code
}

// Unwrap returns the cause, if there is one beside what Reason says.
func (e *SyntaxError) Unwrap() error { return e.err }

// within puts a step in front of the path. Paths are built while an error travels outwards, so that conversions that
// succeed pay nothing for them.
func (e *SyntaxError) within(step string) *SyntaxError {
	e.Path = step + e.Path
	return e
}

func (e *SyntaxError) inItem(i int) *SyntaxError { return e.within("[" + strconv.Itoa(i) + "]") }

func (e *SyntaxError) inKey(key []byte) *SyntaxError { return e.within(keyStep(key)) }

// finish makes the path start at the root.
func (e *SyntaxError) finish() error {
	if e == nil {
		return nil
	}
	e.Path = "$" + e.Path
	return e
}

// keyStep is .name for a plain name and ["name"] for any other.
func keyStep(key []byte) string {
	plain := len(key) > 0 && len(key) <= maxShown
	for i, c := range key {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			plain = false
			break
		}
	}
	if plain {
		return "." + string(key)
	}
	return "[" + show(key) + "]"
}

// maxShown is how many bytes of an input an error shows.
const maxShown = 40

// show quotes some input for one line of an error.
func show(b []byte) string {
	if len(b) <= maxShown {
		return strconv.QuoteToASCII(string(b))
	}
	return strconv.QuoteToASCII(string(b[:maxShown])) + "…"
}

// unknownField says what a record has in place of a field that it lacks.
func unknownField(fields []abi.Field, key string) string {
	if len(fields) == 0 {
		return "no such field; there are none"
	}
	if near := nearest(fields, key); near != "" {
		return "no such field; did you mean " + strconv.QuoteToASCII(near) + "?"
	}
	const most = 12
	names := make([]string, 0, most)
	for _, f := range fields {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, strconv.QuoteToASCII(f.Name))
	}
	return "no such field; there are " + strings.Join(names, ", ")
}

// nearest returns the field that key is most likely a slip for: at most a third of it is wrong. "" if there is none.
func nearest(fields []abi.Field, key string) string {
	const longest = 64
	if len(key) > longest {
		return ""
	}
	best, least := "", len(key)/3+1
	for _, f := range fields {
		if len(f.Name) > longest {
			continue
		}
		if d := distance(strings.ToLower(f.Name), strings.ToLower(key)); d <= least && (best == "" || d < least) {
			best, least = f.Name, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
