package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasilo/wasilo/abi"
)

// phase is what an instance is doing, for host functions to know.
type phase uint8

const (
	phaseStart phase = iota
	phaseDescribe
	phaseInbox
	phaseTurn
)

func (p phase) String() string {
	return [...]string{"it starts", "it is described", "it provides its inbox", "a turn runs"}[p]
}

// The states of an instance, which keep Turn and Close apart.
const (
	stateIdle uint32 = iota
	stateRunning
	stateBroken
	stateClosed
)

const (
	inboxStep  = 4 << 10  // inboxes are asked for in multiples of this, so that most messages need no further one
	maxEffects = 16 << 10 // of one turn; the activation's own limits are far below
)

// Instance is a running guest. One goroutine at a time uses it.
type Instance struct {
	module     *Module
	host       Host
	log        *slog.Logger
	maxMessage int

	state    atomic.Uint32
	phase    phase
	guard    guard
	memory   memory
	console  console
	canceled error // why the start was given up

	mod   api.Module
	mem   api.Memory
	turn  api.Function
	stack [1]uint64

	inbox     uint32 // where the guest takes its events; valid while inboxSize is not 0
	inboxSize uint32

	// Of the running turn.
	outcome    abi.Result // of the last request, if it did not fit
	hasOutcome bool
	kept       map[uint32]abi.Result // taken from the host, but did not fit
	handles    []uint32              // scratch of wait
}

// start makes an instance and runs its start functions. The caller holds a reference to the module, which the instance
// takes over on success.
func (m *Module) start(ctx context.Context, h Host, opt Options) (i *Instance, err error) {
	if opt.Memory == 0 {
		opt.Memory = m.eng.cfg.Memory
	}
	if m.minMemory > opt.Memory {
		return nil, abi.NewError(abi.ErrLimitExceeded, "the guest starts with "+byteSize(m.minMemory)+" of memory; its limit is "+
			byteSize(opt.Memory))
	}
	if err := ctx.Err(); err != nil {
		return nil, abi.NewError(abi.CodeOf(err), "the start was given up: "+err.Error())
	}
	i = &Instance{module: m, host: h, log: opt.Log, maxMessage: m.eng.cfg.MaxMessage}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	i.guard = guard{inst: i, done: make(chan struct{})}
	i.memory.limit, i.memory.expect = opt.Memory, m.startMemory.Load()
	i.console.init(i)

	deadline := time.Now().Add(m.eng.cfg.Describe)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	i.guard.arm(deadline)
	stop := context.AfterFunc(ctx, i.guard.expire)
	err = i.instantiate()
	live := stop()
	if !i.guard.disarm() || !live || err != nil {
		i.canceled = canceledBy(ctx)
		failed := i.failure("its start", err)
		i.discard()
		return nil, failed
	}
	m.startMemory.Store(uint64(i.mem.Size()))
	return i, nil
}

// instantiate builds the instance and runs its start function and _initialize. wazero panics on some modules.
func (i *Instance) instantiate() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("instantiating failed: %v", p)
		}
	}()
	cfg := moduleConfig.WithStdout(&i.console.stdout).WithStderr(&i.console.stderr).WithNanosleep(i.guard.sleep)
	ctx := experimental.WithMemoryAllocator(&i.guard, &i.memory)
	if i.mod, err = i.module.runtime.InstantiateModule(ctx, i.module.code, cfg); err != nil {
		return err
	}
	if init := i.mod.ExportedFunction(abi.ExportInitialize); init != nil {
		if err := init.CallWithStack(&i.guard, nil); err != nil {
			return err
		}
	}
	i.mem = i.mod.ExportedMemory(abi.ExportMemory)
	return nil
}

// describe asks a fresh instance for its description.
func (i *Instance) describe(ctx context.Context) (*abi.Description, error) {
	deadline, _ := ctx.Deadline()
	i.guard.arm(deadline)
	stop := context.AfterFunc(ctx, i.guard.expire)
	i.phase = phaseDescribe
	err := i.mod.ExportedFunction(abi.ExportDescribe).CallWithStack(&i.guard, i.stack[:])
	live := stop()
	if !i.guard.disarm() || !live || err != nil {
		i.canceled = canceledBy(ctx)
		return nil, i.failure(abi.ExportDescribe, err)
	}
	ptr, n := abi.Unpack(i.stack[0])
	b, ok := i.mem.Read(ptr, n)
	if !ok {
		return nil, i.outside(abi.ExportDescribe, ptr, n)
	}
	d, err := abi.DecodeDescription(b)
	if err != nil {
		return nil, fmt.Errorf("%s returned no description: %w", abi.ExportDescribe, err)
	}
	return d, nil
}

// Turn runs one turn: it gives ev to the guest and fills out, whatever that held before. It ends by deadline, as far as
// the guest lets wazero look (see the package comment). An error, always an [*abi.Error] of code trap, limit_exceeded or
// internal, means that the instance is broken and must be closed; a message that is too large, either way, is an Output
// of kind OutError.
func (i *Instance) Turn(ev *abi.Event, deadline time.Time, out *abi.Output) error {
	if !i.state.CompareAndSwap(stateIdle, stateRunning) {
		return i.refused("a turn")
	}
	if err := i.runTurn(ev, deadline, out); err != nil {
		i.state.Store(stateBroken)
		return err
	}
	i.state.Store(stateIdle)
	return nil
}

// refused says why the instance cannot do what.
func (i *Instance) refused(what string) *abi.Error {
	why := map[uint32]string{stateRunning: "a turn is running", stateBroken: "its last turn broke it", stateClosed: "it is closed"}
	return abi.NewError(abi.ErrInternal, "the instance refuses "+what+": "+why[i.state.Load()])
}

func (i *Instance) runTurn(ev *abi.Event, deadline time.Time, out *abi.Output) *abi.Error {
	bound := ev.SizeBound()
	if bound > i.maxMessage+abi.MaxEnvelopeExtra {
		tooLarge(out, "an event of "+strconv.Itoa(bound)+" bytes", i.maxMessage)
		return nil
	}
	i.guard.arm(deadline)
	i.console.begin()
	i.memory.refused = false
	fail := i.exchange(ev, uint32(bound), out)
	if !i.guard.disarm() && fail == nil {
		fail = i.failure("the turn", nil)
	}
	if fail != nil {
		i.console.end()
	}
	i.outcome, i.hasOutcome = abi.Result{}, false
	clear(i.kept)
	return fail
}

// exchange writes the event, calls the guest and copies its output.
func (i *Instance) exchange(ev *abi.Event, bound uint32, out *abi.Output) *abi.Error {
	if bound > i.inboxSize {
		if fail := i.provideInbox((bound + inboxStep - 1) / inboxStep * inboxStep); fail != nil {
			return fail
		}
	}
	room, ok := i.mem.Read(i.inbox, i.inboxSize)
	if !ok {
		return i.outside(abi.ExportInbox, i.inbox, i.inboxSize)
	}
	event := abi.AppendEvent(room[:0], ev)
	if len(event) > int(bound) {
		return abi.NewError(abi.ErrInternal, "an event is larger than its bound of "+strconv.Itoa(int(bound))+" bytes")
	}
	if i.turn == nil {
		i.turn = i.mod.ExportedFunction(abi.ExportTurn)
	}
	i.stack[0] = uint64(len(event))
	i.phase = phaseTurn
	if err := i.turn.CallWithStack(&i.guard, i.stack[:]); err != nil {
		return i.failure("the turn", err)
	}
	ptr, n := abi.Unpack(i.stack[0])
	if fail := i.takeOutput(ptr, n, out); fail != nil {
		return fail
	}
	if i.inboxSize > abi.InboxKeep {
		return i.provideInbox(0)
	}
	return nil
}

// provideInbox asks the guest for an inbox of n bytes; 0 gives the present one back. It happens seldom, so its function
// is not kept: that would be 12 KB an instance.
func (i *Instance) provideInbox(n uint32) *abi.Error {
	i.stack[0] = uint64(n)
	i.phase = phaseInbox
	i.inbox, i.inboxSize = 0, 0
	if err := i.mod.ExportedFunction(abi.ExportInbox).CallWithStack(&i.guard, i.stack[:]); err != nil {
		return i.failure(abi.ExportInbox, err)
	}
	if n == 0 {
		return nil
	}
	ptr := uint32(i.stack[0])
	if ptr == 0 {
		return i.failure(abi.ExportInbox, &breach{abi.ExportInbox + "(" + strconv.Itoa(int(n)) + ") returned 0: the guest has no memory for it"})
	}
	if _, ok := i.mem.Read(ptr, n); !ok {
		return i.outside(abi.ExportInbox, ptr, n)
	}
	i.inbox, i.inboxSize = ptr, n
	return nil
}

// takeOutput copies a turn's output out of guest memory.
func (i *Instance) takeOutput(ptr, n uint32, out *abi.Output) *abi.Error {
	b, ok := i.mem.Read(ptr, n)
	if !ok {
		return i.outside(abi.ExportTurn, ptr, n)
	}
	if n > 0 && b[0] == abi.OutEffects {
		r := abi.NewReader(b[1:])
		if count := r.Array(); count > maxEffects {
			return abi.NewError(abi.ErrLimitExceeded, strconv.Itoa(count)+" effects of one turn; at most "+strconv.Itoa(maxEffects)+
				" are accepted")
		}
	}
	if n > 0 && b[0] != abi.OutEffects && int(n)-1 > i.maxMessage {
		tooLarge(out, "a reply of "+strconv.Itoa(int(n)-1)+" bytes", i.maxMessage)
		return nil
	}
	if err := abi.DecodeOutput(b, out); err != nil {
		return abi.NewError(abi.ErrTrap, abi.ExportTurn+" returned a malformed output: "+err.Error())
	}
	return nil
}

// tooLarge makes out the error that a message over the limit becomes.
func tooLarge(out *abi.Output, what string, limit int) {
	*out = abi.Output{Kind: abi.OutError, Err: abi.NewError(abi.ErrPayloadTooLarge, what+"; the limit is "+strconv.Itoa(limit))}
}

// outside is the error of an export that returned a range that is none.
func (i *Instance) outside(name string, ptr, n uint32) *abi.Error {
	return abi.NewError(abi.ErrTrap, fmt.Sprintf("%s returned the range %#x+%d, which is outside of the guest's memory of %s",
		name, ptr, n, byteSize(uint64(i.mem.Size()))))
}

// Close ends the instance and releases its memory. It fails while a turn runs, and does nothing the second time.
func (i *Instance) Close() error {
	for {
		switch s := i.state.Load(); s {
		case stateClosed:
			return nil
		case stateRunning:
			return errors.New("engine: an instance cannot be closed while its turn runs")
		default:
			if i.state.CompareAndSwap(s, stateClosed) {
				i.discard()
				return i.module.release()
			}
		}
	}
}

// discard closes the guest and drops what it held, in case somebody keeps the instance.
func (i *Instance) discard() {
	i.console.end()
	if i.mod != nil {
		i.mod.Close(context.Background()) // there is nothing to flush: it has no files
	}
	i.mod, i.mem, i.turn, i.kept = nil, nil, nil, nil
	i.memory.Free()
}
