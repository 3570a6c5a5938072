package engine

import (
	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
)

// Rest makes an idle instance lighter: one whose state can be captured, and is small, gives its memory back and keeps what it has become
// since its template, some tens to hundreds of bytes. Its next turn costs some ten microseconds more. While a turn runs it does nothing.
func (i *Instance) Rest() {
	if !i.state.CompareAndSwap(stateIdle, stateRunning) {
		return
	}
	defer i.state.Store(stateIdle)
	if i.body == nil {
		return
	}
	i.handles, i.kept, i.console.limiter, i.console.volume = nil, nil, nil, nil
	if i.module.template != nil {
		state, err := i.capture(nil, foldFrom/slot.Page)
		if err == nil && len(state) <= foldMax {
			i.folded = append(make([]byte, 0, len(state)), state...)
			b := i.body
			i.module.give(b)
			i.body = nil
			i.countFolded(1)
			return
		}
	}
	i.turn = nil
	if i.turns > 0 {
		i.sample() // it keeps all that it has
	}
}

// Bounds of what is folded: packing the pages of more memory takes milliseconds, and so does unfolding a larger state.
const (
	foldFrom = 512 << 10 // bytes of pages that differ from the template
	foldMax  = 32 << 10  // bytes of state
)

// countFolded counts what the instance keeps at rest, or with -1 no more.
func (i *Instance) countFolded(by int64) {
	l := &i.module.eng.ledger
	l.folded.Add(by)
	l.add(&l.heap, by*(int64(cap(i.folded))+foldedBytes))
}

// unfold makes the instance again of what it kept. An error of code overloaded leaves it as it was. Its memory is never refused for the node's sake: it was there before, and the actor
// would be lost.
func (i *Instance) unfold() *abi.Error {
	b, err := i.module.take(i)
	if err != nil {
		return abi.NewError(abi.ErrOverloaded, "there is no memory for an actor at rest: "+err.Error())
	}
	i.takeStack()
	i.memory.free = true
	if err := i.restore(i.folded); err != nil {
		b.discard()
		i.body = nil
		if abi.CodeOf(err) == abi.ErrLimitExceeded { // it had this memory before
			return abi.NewError(abi.ErrOverloaded, "there is no memory for an actor at rest: "+err.Error())
		}
		return abi.NewError(abi.ErrInternal, err.Error())
	}
	i.memory.free = false
	i.countFolded(-1)
	i.folded = nil
	return nil
}

// Weight is how many bytes the instance takes of this process's memory, estimated.
func (i *Instance) Weight() int64 {
	switch {
	case i.body == nil:
		return int64(len(i.folded)) + foldedBytes
	case i.memory.slot != nil:
		return i.memory.slot.DirtyBytes() + bodyBytes + i.module.held()
	}
	return int64(len(i.memory.buf)) + i.module.heapBytes()
}

// foldedBytes is about what a folded instance takes beside its state, its activation included.
const foldedBytes = 3 << 10

// bodyBytes is about what an instance of the image tier takes of the Go heap, its activation included.
const bodyBytes = 6 << 10
