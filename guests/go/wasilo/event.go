package wasilo

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wasilo/wasilo/abi"
)

// Keys of the events that quick knows, and those of their self; see ABI.md.
const (
	keyTag     = 0
	keyMethod  = 1
	keyPayload = 2
	keyToken   = 4
	keyTimeout = 7
	keyFlags   = 8
	keyCaller  = 9
	keySelf    = 13

	selfKeyKind     = 0
	selfKeyIdentity = 1
	selfKeyEpoch    = 2
	selfKeyReason   = 3
)

// usualReasons are why nodes activate actors.
var usualReasons = []string{"call", "message", "wake", "get", ""}

// eventReader reads events. What it knows already it recognises without allocating: an actor mostly gets the same methods from the same
// callers.
type eventReader struct {
	kinds   []*Definition // that may be told
	methods []entry       // of the actor, once there is one
	self    abi.Self      // that was told last, in its usual form
	method  string
	caller  string // the key of id
	id      abi.Identity

	names strings.Builder // room for strings: see keep
}

// read reads b into ev, whose payload then aliases b, and whose self is valid until the next call.
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

// quick reads an event in the one form that nearly all have: known keys, each once, and plain heads. It reports false, having judged
// nothing, for any other, faulty ones included. What an event like the last one takes is one function on purpose, long numbers aside: in a
// module calls are what costs, and allocations.
func (r *eventReader) quick(b []byte, ev *abi.Event) bool {
	if len(b) == 0 || b[0]&^15 != 0xa0 {
		return false
	}
	var tag, token, timeout, flags uint64
	var method, payload, caller []byte
	var self *abi.Self
	var seen uint
	off := 1
	for n := int(b[0] & 15); n > 0; n-- {
		if len(b)-off < 2 {
			return false
		}
		key, major, v := b[off], b[off+1]>>5, uint64(b[off+1]&31)
		if off += 2; key > keySelf || seen&(1<<key) != 0 {
			return false
		}
		seen |= 1 << key
		if v >= 24 {
			if v, off = wide(b, off, v); off < 0 {
				return false
			}
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
			case key == keyCaller && major == 3 && v > 0: // an empty one is no caller, but a fault
				caller = body
			default:
				return false
			}
			continue
		}
		if major != 0 {
			if key != keySelf || major != 5 {
				return false
			}
			if off = r.quickSelf(b, off, v); off < 0 {
				return false
			}
			self = &r.self
			continue
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
	if off != len(b) || tag > 255 || flags > 1<<32-1 || timeout > 1<<32-1 ||
		string(method) != r.method && !r.newMethod(method) || caller != nil && string(caller) != r.caller && !r.newCaller(caller) {
		return false
	}
	*ev = abi.Event{Tag: abi.EventTag(tag), Method: r.method, Payload: payload, Token: token,
		Remaining: time.Duration(timeout) * time.Millisecond, Flags: abi.Flags(flags), Self: self}
	if caller != nil {
		ev.Caller = r.id
	}
	return true
}

// wide reads the number of a head whose low bits are info, 24 at least, from behind its first byte, b[off]. It returns where the number
// ends, or -1.
func wide(b []byte, off int, info uint64) (v uint64, end int) {
	width := 1 << (info & 3)
	if info > 27 || len(b)-off < width {
		return 0, -1
	}
	for _, d := range b[off : off+width] {
		v = v<<8 | uint64(d)
	}
	return v, off + width
}

// number reads an unsigned integer at b[off], and returns where it ends, or -1.
func number(b []byte, off int) (v uint64, end int) {
	if off >= len(b) || b[off]>>5 != 0 {
		return 0, -1
	}
	if v = uint64(b[off]); v < 24 {
		return v, off + 1
	}
	return wide(b, off+1, v)
}

// quickSelf is quick for the n pairs of a self that begin at b[off]: a kind that may be told, and a usual reason. It reads them into
// r.self, and returns where they end, or -1.
func (r *eventReader) quickSelf(b []byte, off int, n uint64) int {
	var kind, id, reason []byte
	var epoch abi.Epoch
	var seen uint
	for ; n > 0; n-- {
		if len(b)-off < 2 {
			return -1
		}
		key, major, v := b[off], b[off+1]>>5, uint64(b[off+1]&31)
		if off += 2; key > selfKeyReason || seen&(1<<key) != 0 {
			return -1
		}
		seen |= 1 << key
		if key == selfKeyEpoch {
			if major != 4 || v != 2 {
				return -1
			}
			if v, off = number(b, off); off < 0 || v > 1<<32-1 {
				return -1
			}
			epoch.Generation = uint32(v)
			if epoch.Index, off = number(b, off); off < 0 {
				return -1
			}
			continue
		}
		if v >= 24 {
			if v, off = wide(b, off, v); off < 0 {
				return -1
			}
		}
		if major != 3 || v > uint64(len(b)-off) {
			return -1
		}
		body := b[off : off+int(v)]
		off += int(v)
		switch key {
		case selfKeyKind:
			kind = body
		case selfKeyIdentity:
			id = body
		case selfKeyReason:
			reason = body
		}
	}
	for _, why := range usualReasons {
		if string(reason) == why {
			if !r.newSelf(kind, id) {
				return -1
			}
			r.self.Epoch, r.self.Reason = epoch, why
			return off
		}
	}
	return -1
}

// newSelf makes kind and id the identity of r.self, unless they are that already. It reports false if they are none, or the kind is not
// one that may be told.
func (r *eventReader) newSelf(kind, id []byte) bool {
	if i := r.self.Identity; !i.IsZero() && string(kind) == i.Kind() && string(id) == i.ID() {
		return true // it has slept
	}
	for _, k := range r.kinds {
		if string(kind) == k.Name() {
			i, err := abi.NewIdentity(k.Name(), r.keep(id))
			r.self.Identity = i
			return err == nil
		}
	}
	return false
}

// newMethod makes b the method of the last event. It reports false if it is no text.
func (r *eventReader) newMethod(b []byte) bool {
	if at := find(r.methods, b); at >= 0 {
		r.method = r.methods[at].desc.Name
		return true
	}
	if !utf8.Valid(b) {
		return false
	}
	r.method = r.keep(b)
	return true
}

// newCaller makes b the caller of the last event. It reports false if it is no identity.
func (r *eventReader) newCaller(b []byte) bool {
	key := r.keep(b)
	id, err := abi.ParseIdentity(key)
	if err != nil {
		return false
	}
	r.caller, r.id = key, id
	return true
}

// keep returns b as a string. It allocates only if no room was made for it, or all of it is used: what was allocated before the template's
// picture was taken costs an actor less.
func (r *eventReader) keep(b []byte) string {
	at := r.names.Len()
	if len(b) > r.names.Cap()-at {
		return string(b)
	}
	r.names.Write(b)
	return r.names.String()[at:]
}
