package gateway

import (
	"net/http"
	"strings"

	"github.com/wasilo/wasilo/abi"
)

// traceContext returns the trace headers of a request as they may be passed on. By the W3C recommendation a malformed
// or repeated traceparent is dropped together with tracestate, a malformed tracestate alone.
func traceContext(h http.Header) (parent, state string) {
	ps := h["Traceparent"]
	if len(ps) != 1 || !validTraceparent(ps[0]) {
		return "", ""
	}
	switch ss := h["Tracestate"]; len(ss) {
	case 0:
		return ps[0], ""
	case 1:
		state = ss[0]
	default:
		state = strings.Join(ss, ",")
	}
	if !validTracestate(state) {
		return ps[0], ""
	}
	return ps[0], fitTracestate(state)
}

// validTraceparent checks version-traceid-parentid-flags. Versions after 00 may append fields; ff is none.
func validTraceparent(s string) bool {
	const n = 55
	if len(s) < n || len(s) > abi.MaxTraceLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, traceID, parentID := s[:2], s[3:35], s[36:52]
	if !lowerHex(version) || version == "ff" || !lowerHex(s[53:n]) ||
		!lowerHex(traceID) || allZero(traceID) || !lowerHex(parentID) || allZero(parentID) {
		return false
	}
	if len(s) == n {
		return true
	}
	if version == "00" || s[n] != '-' {
		return false
	}
	for i := n; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func lowerHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func allZero(s string) bool { return strings.Trim(s, "0") == "" }

// validTracestate checks a list of at most 32 key=value members, empty ones allowed, no key twice.
func validTracestate(s string) bool {
	var seen [32]string
	n := 0
	for rest, more := s, s != ""; more; {
		var member string
		member, rest, more = strings.Cut(rest, ",")
		member = strings.Trim(member, " \t")
		if member == "" {
			continue
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || n == len(seen) || !validStateKey(key) || !validStateValue(value) {
			return false
		}
		for _, k := range seen[:n] {
			if k == key {
				return false
			}
		}
		seen[n] = key
		n++
	}
	return true
}

// validStateKey accepts simple and multi-tenant (tenant@system) keys.
func validStateKey(k string) bool {
	if k == "" || len(k) > 256 {
		return false
	}
	tenant, system, multi := strings.Cut(k, "@")
	if multi && (len(tenant) > 241 || tenant == "" || system == "" || len(system) > 14 || system[0] < 'a' || system[0] > 'z') {
		return false
	}
	if !multi && (k[0] < 'a' || k[0] > 'z') {
		return false
	}
	if c := tenant[0]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
		return false
	}
	for _, part := range [2]string{tenant, system} {
		for i := 0; i < len(part); i++ {
			switch c := part[i]; {
			case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-', c == '*', c == '/':
			default:
				return false
			}
		}
	}
	return true
}

func validStateValue(v string) bool {
	if v == "" || len(v) > 256 {
		return false
	}
	for i := 0; i < len(v); i++ {
		if c := v[i]; c < 0x20 || c > 0x7e || c == ',' || c == '=' {
			return false
		}
	}
	return v[len(v)-1] != ' '
}

// fitTracestate drops members from the end until the list fits an envelope: the newest stand first.
func fitTracestate(s string) string {
	for len(s) > abi.MaxTraceLen {
		i := strings.LastIndexByte(s, ',')
		if i < 0 {
			return ""
		}
		s = s[:i]
	}
	return s
}
