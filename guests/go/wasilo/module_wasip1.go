package wasilo

import (
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

func module() *Instance {
	if served == nil {
		panic("wasilo: the module serves nothing: call wasilo.Serve from an init function of package main")
	}
	return served
}

//go:wasmexport wasilo_describe
func describe() uint64 {
	described = module().Describe()
	return give(described)
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

// described keeps a description alive until the host has read it.
var described []byte

// give returns where b is. Who gives it keeps it alive.
func give(b []byte) uint64 {
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
