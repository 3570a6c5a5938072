package abi

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Bounds of an identity, fixed for the life of a cluster: the partition of an actor is a hash of its key.
const (
	MaxKindLen     = 63  // bytes of [a-z][a-z0-9_-]*
	MaxIdentityLen = 255 // bytes of UTF-8 without control characters
)

// Why an identity was refused. Each is wrapped in an [IdentityError].
var (
	ErrEmptyKind       = errors.New("the kind is empty")
	ErrEmptyIdentity   = errors.New("the identity is empty")
	ErrInvalidKind     = errors.New("a kind is 1 to 63 of a-z, 0-9, '_' and '-', a letter first")
	ErrInvalidIdentity = errors.New("an identity is 1 to 255 bytes of UTF-8 without control characters")
	ErrNoSlash         = errors.New("an actor is written KIND/IDENTITY")
)

// IdentityError says which input is no identity, and why.
type IdentityError struct {
	Input  string // as given: not fit for printing, which Error sees to
	Reason error  // one of the errors above
}

func (e *IdentityError) Error() string {
	return "identity " + quote(e.Input) + ": " + e.Reason.Error()
}

func (e *IdentityError) Unwrap() error { return e.Reason }

// WireCode makes a refused identity an invalid_argument for callers.
func (e *IdentityError) WireCode() Code { return ErrInvalidArgument }

// Identity names one virtual actor: a kind and an identity within it. It is comparable, so it serves as a map key; two
// are equal when kind and identity are. The zero value is no actor at all (see [Identity.IsZero]).
type Identity struct {
	kind string
	id   string
}

// NewIdentity checks both parts and joins them. The error is an [*IdentityError].
func NewIdentity(kind, id string) (Identity, error) {
	if err := checkKind(kind); err != nil {
		return Identity{}, &IdentityError{Input: kind + "/" + id, Reason: err}
	}
	if err := checkID(id); err != nil {
		return Identity{}, &IdentityError{Input: kind + "/" + id, Reason: err}
	}
	return Identity{kind: kind, id: id}, nil
}

// ParseIdentity reads KIND/IDENTITY, split at the first slash: an identity may hold further ones.
func ParseIdentity(key string) (Identity, error) {
	kind, id, ok := strings.Cut(key, "/")
	if !ok {
		return Identity{}, &IdentityError{Input: key, Reason: ErrNoSlash}
	}
	return NewIdentity(kind, id)
}

// Kind returns the kind.
func (i Identity) Kind() string { return i.kind }

// ID returns the identity within the kind.
func (i Identity) ID() string { return i.id }

// Key returns "kind/identity", the same for the same actor everywhere and always.
func (i Identity) Key() string { return i.kind + "/" + i.id }

// String is [Identity.Key], and "" for the zero value.
func (i Identity) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Key()
}

// IsZero reports whether i names no actor; as a caller that means a client from outside.
func (i Identity) IsZero() bool { return i.kind == "" }

// CheckKind reports whether kind is a valid kind name: nil, [ErrEmptyKind] or [ErrInvalidKind] in an [*IdentityError].
func CheckKind(kind string) error {
	if err := checkKind(kind); err != nil {
		return &IdentityError{Input: kind, Reason: err}
	}
	return nil
}

func checkKind(kind string) error {
	if kind == "" {
		return ErrEmptyKind
	}
	if len(kind) > MaxKindLen || kind[0] < 'a' || kind[0] > 'z' {
		return ErrInvalidKind
	}
	for i := 1; i < len(kind); i++ {
		c := kind[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return ErrInvalidKind
		}
	}
	return nil
}

func checkID(id string) error {
	if id == "" {
		return ErrEmptyIdentity
	}
	if len(id) > MaxIdentityLen {
		return ErrInvalidIdentity
	}
	ascii := true
	for i := 0; i < len(id); i++ {
		c := id[i]
		if c < 0x20 || c == 0x7f {
			return ErrInvalidIdentity
		}
		if c >= utf8.RuneSelf {
			ascii = false
		}
	}
	if ascii {
		return nil
	}
	if !utf8.ValidString(id) {
		return ErrInvalidIdentity
	}
	for _, r := range id {
		if r >= 0x80 && r < 0xa0 { // C1 controls
			return ErrInvalidIdentity
		}
	}
	return nil
}

// Epoch orders the owners of a partition: (generation, raft index of the assignment). A later owner has a larger one.
// A node without voters counts its own activations in Index, with generation 0.
type Epoch struct {
	Generation uint32
	Index      uint64
}

// Less reports whether e is older than o.
func (e Epoch) Less(o Epoch) bool {
	if e.Generation != o.Generation {
		return e.Generation < o.Generation
	}
	return e.Index < o.Index
}

// quote makes any input fit for one line of an error message: printable ASCII in quotes, at most 80 bytes of it.
func quote(s string) string {
	const most, hex = 80, "0123456789abcdef"
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		if i == most {
			return string(b) + `"…`
		}
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c >= 0x7f:
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
