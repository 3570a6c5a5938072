package cluster

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// ErrMalformedPID is wrapped by every error about a text that is no PID or no address.
var ErrMalformedPID = errors.New("malformed PID")

// PIDError says which text is no PID or address, and why.
type PIDError struct {
	Input  string
	Reason error // why, in the terms of its part: authority or identity
}

func (e *PIDError) Error() string {
	input := e.Input
	if len(input) > 120 {
		input = input[:120] + "…"
	}
	return ErrMalformedPID.Error() + " " + strconv.QuoteToASCII(input) + ": " + e.Reason.Error()
}

// Unwrap makes errors.Is work with [ErrMalformedPID] and with the reason.
func (e *PIDError) Unwrap() []error { return []error{ErrMalformedPID, e.Reason} }

// WireCode makes a malformed PID an invalid_argument for callers.
func (e *PIDError) WireCode() abi.Code { return abi.ErrInvalidArgument }

var (
	errNoSeparator = errors.New("a PID is written host:port::kind/identity, an IPv6 host in brackets")
	errNoAddress   = errors.New("an address is written " + addressScheme + "host:port/kind/identity")
	errEscape      = errors.New("a % is followed by two hexadecimal digits")
	errIPv6        = errors.New("the host in brackets is no IPv6 address")
)

// PID is where an actor is: the authority of its node, and who it is. It is comparable.
type PID struct {
	authority string
	identity  Identity
}

// NewPID joins an authority (host:port) and an identity. The error is a [*PIDError].
func NewPID(authority string, id Identity) (PID, error) {
	if err := checkAuthority(authority); err != nil {
		return PID{}, &PIDError{Input: authority + "::" + id.String(), Reason: err}
	}
	if id.IsZero() {
		return PID{}, &PIDError{Input: authority + "::", Reason: errNoSeparator}
	}
	return PID{authority: authority, identity: id}, nil
}

// ParsePID reads host:port::kind/identity. The first "::" separates, after the closing bracket of an IPv6 host; the identity
// may hold further ones. The error is a [*PIDError].
func ParsePID(s string) (PID, error) {
	from := 0
	if strings.HasPrefix(s, "[") {
		if from = strings.IndexByte(s, ']'); from < 0 {
			return PID{}, &PIDError{Input: s, Reason: errNoSeparator}
		}
	}
	i := strings.Index(s[from:], "::")
	if i < 0 {
		return PID{}, &PIDError{Input: s, Reason: errNoSeparator}
	}
	authority, path := s[:from+i], s[from+i+2:]
	if err := checkAuthority(authority); err != nil {
		return PID{}, &PIDError{Input: s, Reason: err}
	}
	id, err := ParseIdentity(path)
	if err != nil {
		return PID{}, &PIDError{Input: s, Reason: err}
	}
	return PID{authority: authority, identity: id}, nil
}

func checkAuthority(s string) error {
	if err := core.CheckAuthority(s); err != nil {
		return err
	}
	if s[0] == '[' {
		if _, err := netip.ParseAddrPort(s); err != nil {
			return errIPv6
		}
	}
	return nil
}

// Authority returns host:port of the node.
func (p PID) Authority() string { return p.authority }

// Identity returns the actor.
func (p PID) Identity() Identity { return p.identity }

// IsZero reports whether p is no PID at all.
func (p PID) IsZero() bool { return p.authority == "" }

// String returns host:port::kind/identity, and "" for the zero value.
func (p PID) String() string {
	if p.IsZero() {
		return ""
	}
	return p.authority + "::" + p.identity.Key()
}

// addressScheme begins every canonical address.
const addressScheme = "wasilo.tcp://cluster@"

// Address returns the canonical address, wasilo.tcp://cluster@host:port/kind/identity. In the identity everything
// is percent-escaped that a URI's path may not hold as it is, and '%' itself; a slash stays one. Equal PIDs have equal
// addresses and different ones different addresses.
func (p PID) Address() string {
	if p.IsZero() {
		return ""
	}
	var b strings.Builder
	b.Grow(len(addressScheme) + len(p.authority) + len(p.identity.Kind()) + len(p.identity.ID()) + 8)
	b.WriteString(addressScheme)
	b.WriteString(strings.ReplaceAll(p.authority, "%", "%25")) // the zone of an IPv6 host (RFC 6874)
	b.WriteByte('/')
	b.WriteString(p.identity.Kind())
	b.WriteByte('/')
	escapeTo(&b, p.identity.ID())
	return b.String()
}

// ParseAddress reads what [PID.Address] wrote. The error is a [*PIDError].
func ParseAddress(s string) (PID, error) {
	rest, ok := strings.CutPrefix(s, addressScheme)
	authority, path, ok2 := strings.Cut(rest, "/")
	kind, id, ok3 := strings.Cut(path, "/")
	if !ok || !ok2 || !ok3 {
		return PID{}, &PIDError{Input: s, Reason: errNoAddress}
	}
	authority, err := unescape(authority)
	if err == nil {
		err = checkAuthority(authority)
	}
	if err == nil {
		id, err = unescape(id)
	}
	if err != nil {
		return PID{}, &PIDError{Input: s, Reason: err}
	}
	identity, err := NewIdentity(kind, id)
	if err != nil {
		return PID{}, &PIDError{Input: s, Reason: err}
	}
	return PID{authority: authority, identity: identity}, nil
}

func escapeTo(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}

// plain reports whether c may stand in a path: pchar of RFC 3986, and the slash.
func plain(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("-._~!$&'()*+,;=:@/", c) >= 0
}

func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errEscape
		}
		v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", errEscape
		}
		b = append(b, byte(v))
		i += 2
	}
	return string(b), nil
}
