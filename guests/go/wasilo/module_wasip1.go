package wasilo

import (
	"time"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// A module is one instance: these two are its only state outside of it.
var (
	served *Instance
	inbox  []byte
)

// Serve says which kinds this module serves. Call it once, from an init function of package main, whose main function is
// never run and stays empty. Nothing may be asked of the node before the first turn.
func Serve(kinds ...*Definition) {
	if served != nil {
		panic("wasilo: Serve is called once, with all kinds")
	}
	served = NewInstance(imports{}, kinds...)
	served.warm()
}

// warm does what the first turn of an actor does beside its handler, for each kind, and forgets it. A module's start runs once, and every
// actor begins where it ended: what the runtime prepares here, no actor has to prepare again. No code of the kind's own runs, so a kind
// that wants to activate itself is left out.
func (i *Instance) warm() {
	i.out, i.spare, i.effects = make([]byte, 0, firstBuffer), make([]byte, 0, firstBuffer), make([]byte, 0, firstBuffer)
	for _, k := range i.kinds {
		a := k.create()
		if _, hooked := a.state.(Activator); hooked {
			continue
		}
		for m := range a.methods {
			a.methods[m].bound = a.methods[m].bind(a.state)
		}
		id, err := abi.NewIdentity(k.Name(), "warm")
		if err != nil {
			continue // Describe says what is wrong with the name
		}
		i.Turn(abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: "no.method", Payload: []byte{0xa0}, Token: 1, Remaining: time.Second,
			Self: &abi.Self{Identity: id, Reason: "call"}}))
		i.actor, i.known, i.self, i.turn = nil, false, abi.Self{}, 0
	}
}

// firstBuffer is what the buffers for outputs begin with, in bytes.
const firstBuffer = 256

func module() *Instance {
	if served == nil {
		panic("wasilo: the module serves nothing: call wasilo.Serve from an init function of package main")
	}
	return served
}

//go:wasmexport wasilo_describe
func describe() uint64 {
	return give(module().Describe())
}

// inboxAt returns where the next event of n bytes may be written; 0 gives the memory back.
//
//go:wasmexport wasilo_inbox
func inboxAt(n uint32) uint32 {
	if n == 0 {
		inbox = nil
		return 0
	}
	if int(n) > len(inbox) {
		inbox = make([]byte, max(4096, int(n)))
	}
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(inbox))))
}

//go:wasmexport wasilo_turn
func turnOf(n uint32) uint64 {
	if int(n) > len(inbox) {
		panic("wasilo: the host's event is longer than its inbox")
	}
	return give(module().Turn(inbox[:n]))
}

// output keeps what the host reads next alive.
var output []byte

func give(b []byte) uint64 {
	output = b
	return abi.Pack(uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), uint32(len(b)))
}

// imports is the node, as a module reaches it.
type imports struct{}

var _ Host = imports{}

//go:wasmimport wasilo_1 request
func hostRequest(req unsafe.Pointer, n uint32, dst unsafe.Pointer, room uint32) int64

//go:wasmimport wasilo_1 start
func hostStart(req unsafe.Pointer, n uint32) int64

//go:wasmimport wasilo_1 wait
func hostWait(handles unsafe.Pointer, n uint32, need uint32, ms int64) int64

//go:wasmimport wasilo_1 take
func hostTake(handle uint32, dst unsafe.Pointer, room uint32) int64

//go:wasmimport wasilo_1 now
func hostNow() int64

//go:wasmimport wasilo_1 random
func hostRandom(dst unsafe.Pointer, n uint32) int64

//go:wasmimport wasilo_1 log
func hostLog(level int32, msg unsafe.Pointer, n uint32)

func at(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func (imports) Request(req, dst []byte) int64 {
	return hostRequest(at(req), uint32(len(req)), at(dst), uint32(len(dst)))
}

func (imports) Start(req []byte) int64 { return hostStart(at(req), uint32(len(req))) }

func (imports) Wait(handles []byte, need int, ms int64) int64 {
	return hostWait(at(handles), uint32(len(handles)/4), uint32(need), ms)
}

func (imports) Take(handle uint32, dst []byte) int64 {
	return hostTake(handle, at(dst), uint32(len(dst)))
}

func (imports) Now() int64 { return hostNow() }

func (imports) Random(dst []byte) int64 { return hostRandom(at(dst), uint32(len(dst))) }

func (imports) Log(level int32, msg string) {
	hostLog(level, unsafe.Pointer(unsafe.StringData(msg)), uint32(len(msg)))
}
