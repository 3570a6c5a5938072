package wasilo

import (
	"time"
	"unicode/utf8"

	"github.com/wasilo/wasilo/abi"
)

// Keys of the events that quick knows; see ABI.md.
const (
	keyTag     = 0
	keyMethod  = 1
	keyPayload = 2
	keyToken   = 4
	keyTimeout = 7
	keyFlags   = 8
	keyCaller  = 9
)

// eventReader reads events. What it read last it recognises without allocating: an actor mostly gets the same methods
// from the same callers.
type eventReader struct {
	method string
	caller string // the key of id
	id     abi.Identity
}

// read reads b into ev, whose payload then aliases b.
func (r *eventReader) read(b []byte, ev *abi.Event) error {
	if r.quick(b, ev) {
		return nil
	}
	if err := abi.DecodeEvent(b, ev); err != nil {
		return err
	}
	r.method, r.caller, r.id = ev.Method, ev.Caller.String(), ev.Caller
	return nil
}

// quick reads an event in the one form that nearly all have: known keys, each once, plain heads, no self, the caller of
// last time or none. It reports false, having judged nothing, for any other, faulty ones included. It is one function
// on purpose: in a module calls are what costs.
func (r *eventReader) quick(b []byte, ev *abi.Event) bool {
	if len(b) == 0 || b[0]&^15 != 0xa0 {
		return false
	}
	var tag, token, timeout, flags uint64
	var method, payload, caller []byte
	var seen uint
	off := 1
	for n := int(b[0] & 15); n > 0; n-- {
		if len(b)-off < 2 {
			return false
		}
		key, major, v := b[off], b[off+1]>>5, uint64(b[off+1]&31)
		if off += 2; key > keyCaller || seen&(1<<key) != 0 {
			return false
		}
		seen |= 1 << key
		if v >= 24 {
			width := 1 << (v & 3)
			if v > 27 || len(b)-off < width {
				return false
			}
			v = 0
			for _, d := range b[off : off+width] {
				v = v<<8 | uint64(d)
			}
			off += width
		}
		if key == keyMethod || key == keyPayload || key == keyCaller {
			if v > uint64(len(b)-off) {
				return false
			}
			body := b[off : off+int(v) : off+int(v)]
			off += int(v)
			switch {
			case key == keyMethod && major == 3:
				method = body
			case key == keyPayload && major == 2:
				payload = body
			case key == keyCaller && major == 3 && v > 0 && string(body) == r.caller: // an empty one is no caller, but a fault
				caller = body
			default:
				return false
			}
			continue
		}
		if major != 0 {
			return false
		}
		switch key {
		case keyTag:
			tag = v
		case keyToken:
			token = v
		case keyTimeout:
			timeout = v
		case keyFlags:
			flags = v
		default:
			return false
		}
	}
	if off != len(b) || tag > 255 || flags > 1<<32-1 || timeout > 1<<32-1 {
		return false
	}
	if string(method) != r.method {
		if !utf8.Valid(method) {
			return false
		}
		r.method = string(method)
	}
	*ev = abi.Event{Tag: abi.EventTag(tag), Method: r.method, Payload: payload, Token: token,
		Remaining: time.Duration(timeout) * time.Millisecond, Flags: abi.Flags(flags)}
	if caller != nil {
		ev.Caller = r.id
	}
	return true
}
