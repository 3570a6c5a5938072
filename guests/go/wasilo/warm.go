package wasilo

import (
	"time"

	"github.com/wasilo/wasilo/abi"
)

// What warm prepares, in bytes.
const (
	firstBuffer = 256 // what buffers for outputs and names begin with
	warmSize    = 128 // allocations up to this; with 256 a template has 0.8 MB more
)

// warm does what the first turn of an actor does beside its handler, for each kind, and forgets all of it but an actor of each kind that is
// new, with its handlers bound. A module's start runs once, and every actor begins where it ended: what is prepared here, by the runtime
// or by us, no actor has to prepare again. No code of the kind's own runs, so no turn is tried with a kind that wants to activate itself.
func (i *Instance) warm() {
	for n := 8; n <= warmSize; n += 8 { // without pointers and with them: the allocator has room at hand for each size then
		i.out, i.answered = make([]byte, n), make([]*pendingReply, n/8)
	}
	i.out, i.spare, i.effects, i.answered = make([]byte, 0, firstBuffer), make([]byte, 0, firstBuffer), make([]byte, 0, firstBuffer), nil
	ready := make([]*actor, len(i.kinds))
	for n, k := range i.kinds {
		ready[n] = k.create()
		ready[n].bind()
		if ready[n].hook != nil {
			continue
		}
		id, err := abi.NewIdentity(k.Name(), "warm")
		if err != nil {
			continue // Describe says what is wrong with the name
		}
		i.Turn(abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: "no.method", Payload: []byte{0xa0}, Token: 1, Remaining: time.Second,
			Self: &abi.Self{Identity: id, Reason: "call"}}))
		i.actor, i.known, i.self, i.turn = nil, false, abi.Self{}, 0
	}
	i.ev, i.in = abi.Event{}, eventReader{kinds: i.kinds}
	i.in.names.Grow(firstBuffer)
	i.ready = ready
}
