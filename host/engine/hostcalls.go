package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/abi"
)

// Host is what a guest may ask of its host during a turn. The engine calls it on the goroutine of the turn, and what it
// passes belongs to the host: nothing aliases guest memory.
type Host interface {
	// Request sends a request and waits for its outcome, the deadline of the turn at the latest.
	Request(q *abi.Request) abi.Result
	// Start sends a request beside the turn; a code other than ErrNone means that it was refused. A handle is never 0.
	Start(q *abi.Request) (handle uint32, code abi.Code)
	// Wait waits until need of the handles have an outcome or d has passed, and returns how many have one. A negative d
	// is the time that the turn has left.
	Wait(handles []uint32, need int, d time.Duration) (done int, code abi.Code)
	// Take returns the outcome of a handle and forgets the handle; ready is false while there is none.
	Take(handle uint32) (res abi.Result, ready bool, code abi.Code)
	// Log writes a line to the node's log.
	Log(level slog.Level, msg string)
}

// Permitter is a [Host] that is asked at each refill, and each look at the clock in a host function, whether the turn may go on. It may wait,
// until the turn's end; an error ends the turn.
type Permitter interface{ Permitted() error }

// Bounded is a [Host] that may end before its guests' turns do, and they with it: at the next refill, or look at the clock.
type Bounded interface{ Context() context.Context }

const (
	maxWait     = 64 << 10 // handles of one `wait`
	requestCost = 5_000    // units of fuel for a request that is sent, or refused
	handleCost  = 50       // units of fuel for each of them, here and at the host
	randomStep  = 64 << 10 // bytes of `random` between looks at the clock
)

// hostFuncs are the host's functions by name. Each takes its parameters from the stack and leaves its result there.
var hostFuncs = map[string]func(i *Instance, stack []uint64){
	"request":  (*Instance).importRequest,
	"start":    (*Instance).importStart,
	"wait":     (*Instance).importWait,
	"take":     (*Instance).importTake,
	"kv_get":   (*Instance).importUnsupported,
	"kv_range": (*Instance).importUnsupported,
	"now":      (*Instance).importNow,
	"random":   (*Instance).importRandom,
	"log":      (*Instance).importLog,
}

// provideImports puts every function of the ABI's import namespace into a runtime.
func provideImports(ctx context.Context, rt wazero.Runtime) error {
	b := rt.NewHostModuleBuilder(abi.ImportModule)
	for _, s := range abi.Imports() {
		f, ok := hostFuncs[s.Name]
		if !ok {
			return fmt.Errorf("the import %s is not implemented", s.Name)
		}
		b.NewFunctionBuilder().WithGoModuleFunction(duringTurn(s.Name, f), valueTypes(s.Params), valueTypes(s.Results)).
			Export(s.Name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

func valueTypes(vs []abi.ValType) []api.ValueType {
	out := make([]api.ValueType, len(vs))
	for i, v := range vs {
		out[i] = api.ValueType(v)
	}
	return out
}

// duringTurn refuses f outside of a turn: what a guest does while it starts or describes itself must not depend on, nor
// reach, anything outside.
func duringTurn(name string, f func(*Instance, []uint64)) api.GoModuleFunc {
	return func(ctx context.Context, _ api.Module, stack []uint64) {
		i := instanceOf(ctx)
		if i.phase != phaseTurn {
			panic(&breach{"the guest calls " + abi.ImportModule + "." + name + " while " + i.phase.String() +
				"; host functions can be called in turns only"})
		}
		i.guard.hostCall(hostCallCost)
		f(i, stack)
	}
}

// view returns n bytes of guest memory at ptr, for the import to read or write. It is valid until the guest runs again.
func (i *Instance) view(name string, ptr, n uint32) []byte {
	if n == 0 {
		return nil // languages pass any pointer with an empty range
	}
	i.guard.charge(int(n) / 8)
	b, ok := i.mem.Read(ptr, n)
	if !ok {
		panic(&breach{fmt.Sprintf("%s.%s is given the range %#x+%d, which is outside of the guest's memory of %s",
			abi.ImportModule, name, ptr, n, byteSize(uint64(i.mem.Size())))})
	}
	return b
}

// refuse is the result of an import that did nothing.
func refuse(c abi.Code) uint64 { return uint64(-int64(c)) }

// request decodes the request in a range of guest memory and copies it out.
func (i *Instance) request(name string, ptr, n uint32) (*abi.Request, abi.Code) {
	i.guard.charge(requestCost)
	b := i.view(name, ptr, n)
	if len(b) > i.maxMessage+abi.MaxEnvelopeExtra {
		return nil, abi.ErrPayloadTooLarge
	}
	q := &abi.Request{}
	if abi.DecodeRequest(b, q) != nil {
		return nil, abi.ErrInvalidArgument
	}
	if len(q.Payload) > i.maxMessage {
		return nil, abi.ErrPayloadTooLarge
	}
	// The request may outlive this call: when it times out, its message can still be in somebody's mailbox.
	q.Payload = append(make([]byte, 0, len(q.Payload)), q.Payload...)
	return q, abi.ErrNone
}

// request(ptr, len, dst, cap) -> length of the outcome, or a negative code
func (i *Instance) importRequest(stack []uint64) {
	dst := i.view("request", uint32(stack[2]), uint32(stack[3]))
	i.outcome, i.hasOutcome = abi.Result{}, false
	q, code := i.request("request", uint32(stack[0]), uint32(stack[1]))
	if code != abi.ErrNone {
		stack[0] = refuse(code)
		return
	}
	res := i.host.Request(q)
	i.guard.must()
	n, fits := put(dst, res)
	if !fits {
		i.outcome, i.hasOutcome = res, true
	}
	stack[0] = n
}

// start(ptr, len) -> handle, or a negative code
func (i *Instance) importStart(stack []uint64) {
	q, code := i.request("start", uint32(stack[0]), uint32(stack[1]))
	if code == abi.ErrNone && uint64(i.sent)+uint64(len(q.Payload)) > i.memoryLimit {
		code = abi.ErrLimitExceeded // what it sends beside its turn lies in the host's memory, not in its own
	}
	if code != abi.ErrNone {
		stack[0] = refuse(code)
		return
	}
	i.sent += len(q.Payload)
	handle, code := i.host.Start(q)
	if code != abi.ErrNone {
		stack[0] = refuse(code)
		return
	}
	stack[0] = uint64(handle)
}

// wait(handles, n, need, ms) -> how many of the handles have an outcome, or a negative code
func (i *Instance) importWait(stack []uint64) {
	n, need, ms := uint32(stack[1]), uint32(stack[2]), int64(stack[3])
	if n > maxWait || need > n {
		stack[0] = refuse(abi.ErrInvalidArgument)
		return
	}
	i.guard.charge(int(n) * handleCost)
	b := i.view("wait", uint32(stack[0]), 4*n)
	i.handles = i.handles[:0]
	kept := 0
	for ; len(b) > 0; b = b[4:] {
		h := binary.LittleEndian.Uint32(b)
		if _, ok := i.kept[h]; ok {
			kept++ // the host has forgotten it already
		} else {
			i.handles = append(i.handles, h)
		}
	}
	d := time.Duration(-1)
	if ms >= 0 {
		d = time.Duration(min(ms, int64(time.Hour/time.Millisecond))) * time.Millisecond
	}
	if len(i.handles) == 0 {
		stack[0] = uint64(kept)
		return
	}
	done, code := i.host.Wait(i.handles, max(int(need)-kept, 0), d)
	i.guard.must()
	if code != abi.ErrNone {
		stack[0] = refuse(code)
		return
	}
	stack[0] = uint64(done + kept)
}

// take(handle, dst, cap) -> length of the outcome, which is consumed if it fits, or a negative code. Handle 0 is the
// outcome of the last request, if that did not fit.
func (i *Instance) importTake(stack []uint64) {
	handle := uint32(stack[0])
	dst := i.view("take", uint32(stack[1]), uint32(stack[2]))
	if handle == 0 {
		if !i.hasOutcome {
			stack[0] = refuse(abi.ErrInvalidArgument)
			return
		}
		n, fits := put(dst, i.outcome)
		if fits {
			i.outcome, i.hasOutcome = abi.Result{}, false
		}
		stack[0] = n
		return
	}
	res, ready := i.kept[handle]
	if !ready {
		var code abi.Code
		if res, ready, code = i.host.Take(handle); code != abi.ErrNone {
			stack[0] = refuse(code)
			return
		}
		if !ready {
			stack[0] = refuse(abi.PendingCode)
			return
		}
	}
	n, fits := put(dst, res)
	switch {
	case fits:
		delete(i.kept, handle)
	case i.kept == nil:
		i.kept = map[uint32]abi.Result{handle: res}
	default:
		i.kept[handle] = res
	}
	stack[0] = n
}

// put writes an outcome into dst if it fits, and returns its length.
func put(dst []byte, res abi.Result) (n uint64, fits bool) {
	if res.Err == nil {
		if 1+len(res.Payload) > len(dst) {
			return uint64(1 + len(res.Payload)), false
		}
		dst[0] = abi.OutReply
		copy(dst[1:], res.Payload)
		return uint64(1 + len(res.Payload)), true
	}
	b := abi.AppendResult(make([]byte, 0, abi.ResultSize(res)), res)
	if len(b) > len(dst) {
		return uint64(len(b)), false
	}
	copy(dst, b)
	return uint64(len(b)), true
}

func (i *Instance) importUnsupported(stack []uint64) { stack[0] = refuse(abi.ErrUnsupported) }

// now() -> nanoseconds since 1970
func (i *Instance) importNow(stack []uint64) { stack[0] = uint64(time.Now().UnixNano()) }

// random(ptr, len) -> 0
func (i *Instance) importRandom(stack []uint64) {
	b := i.view("random", uint32(stack[0]), uint32(stack[1]))
	for len(b) > 0 {
		i.guard.must()
		n := min(len(b), randomStep)
		rand.Read(b[:n]) // never fails
		b = b[n:]
	}
	stack[0] = 0
}

// log(level, ptr, len)
func (i *Instance) importLog(stack []uint64) {
	i.console.log(logLevel(uint32(stack[0])), i.view("log", uint32(stack[1]), uint32(stack[2])))
}
