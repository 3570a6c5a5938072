package wasilotest

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// host answers the imports of one actor.
type host struct {
	n    *Node
	a    *activation
	turn *turn // nil outside of one

	next    uint32
	started map[uint32]*outcome
	kept    []byte // an outcome that did not fit
}

// outcome is the result of a request, once it is there.
type outcome struct {
	done bool
	res  abi.Result
}

var _ wasilo.Host = (*host)(nil)

func (h *host) begin() {
	h.started, h.next, h.kept = make(map[uint32]*outcome), 0, nil
}

// park gives way until ready, or until the test ends (false).
func (h *host) park(ready func() bool) bool {
	for t := h.turn; !ready(); {
		t.ready = ready
		if h.n.ending || !t.yield(struct{}{}) {
			return false
		}
	}
	return true
}

func (h *host) post(req []byte) (*outcome, abi.Code) {
	var q abi.Request
	if h.turn == nil {
		return nil, abi.ErrUnsupported
	}
	if err := abi.DecodeRequest(req, &q); err != nil || q.Flags&abi.OneWay != 0 {
		return nil, abi.ErrInvalidArgument
	}
	timeout := q.Timeout
	if timeout <= 0 {
		timeout = abi.DefaultRequest
	}
	m := h.turn.m
	deadline := h.n.now.Add(timeout)
	for _, d := range []time.Time{h.turn.ended, m.deadline} {
		if !d.IsZero() && d.Before(deadline) {
			deadline = d
		}
	}
	o := &outcome{}
	h.n.send(&message{tag: abi.EventCall, to: q.Target, method: q.Method, payload: slices.Clone(q.Payload), flags: q.Flags,
		key: q.IdempotencyKey, caller: h.a.id, chain: append(slices.Clone(m.chain), h.a.id), deadline: deadline,
		outcome: func(r abi.Result) { o.done, o.res = true, r }})
	return o, abi.ErrNone
}

func (h *host) Request(req, dst []byte) int64 {
	h.kept = nil
	o, code := h.post(req)
	if code != abi.ErrNone {
		return -int64(code)
	}
	if !h.park(func() bool { return o.done }) {
		return -int64(abi.ErrCanceled)
	}
	res := abi.AppendResult(nil, o.res)
	if len(res) > len(dst) {
		h.kept = res
		return int64(len(res))
	}
	return int64(copy(dst, res))
}

func (h *host) Start(req []byte) int64 {
	o, code := h.post(req)
	if code != abi.ErrNone {
		return -int64(code)
	}
	h.next++
	h.started[h.next] = o
	return int64(h.next)
}

func (h *host) Wait(handles []byte, need int, ms int64) int64 {
	var all []*outcome
	for ; len(handles) >= 4; handles = handles[4:] {
		o := h.started[binary.LittleEndian.Uint32(handles)]
		if o == nil {
			return -int64(abi.ErrInvalidArgument)
		}
		all = append(all, o)
	}
	if need > len(all) {
		return -int64(abi.ErrInvalidArgument)
	}
	until := h.turn.ended
	if ms >= 0 {
		until = h.n.now.Add(time.Duration(ms) * time.Millisecond)
	}
	h.n.clock.set(until, func() {}) // so that time gets there
	done := 0
	if !h.park(func() bool {
		done = 0
		for _, o := range all {
			if o.done {
				done++
			}
		}
		return done >= need || !h.n.now.Before(until)
	}) {
		return -int64(abi.ErrCanceled)
	}
	return int64(done)
}

func (h *host) Take(handle uint32, dst []byte) int64 {
	res := h.kept
	if handle != 0 {
		o := h.started[handle]
		switch {
		case o == nil:
			return -int64(abi.ErrInvalidArgument)
		case !o.done:
			return -abi.PendingCode
		}
		res = abi.AppendResult(nil, o.res)
	}
	if res == nil {
		return -int64(abi.ErrInvalidArgument)
	}
	if len(res) > len(dst) {
		return int64(len(res))
	}
	if handle == 0 {
		h.kept = nil
	} else {
		delete(h.started, handle)
	}
	return int64(copy(dst, res))
}

func (h *host) Now() int64 { return h.n.now.UnixNano() }

func (h *host) Random(dst []byte) int64 {
	for i := range dst {
		dst[i] = byte(h.n.rng.Uint32())
	}
	return 0
}

func (h *host) Log(level int32, msg string) { h.n.log(level, h.a.id, msg) }
