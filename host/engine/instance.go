package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

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
	maxOutputs = 4        // payloads of the greatest size that the effects of one turn may take together: decoding takes time too
)

// Instance is a running guest. One goroutine at a time uses it.
type Instance struct {
	module *Module
	host   Host
	log    *slog.Logger
	*body         // nil while the instance is folded, and once it is closed
	folded []byte // its state, at rest
	gauge  *Gauge // nil: the module's

	memoryLimit uint64
	tableLimit  uint32
	stackBytes  int64
	fuel        int64 // units a turn; 0 is no limit but its time
	hostCalls   int   // a turn
	turnLimit   time.Duration
	maxMessage  int
	lastFuel    int64 // units that the last turn used
	epoch       abi.Epoch
	permitted   func() error    // of the host; nil: it has none
	ended       <-chan struct{} // closed when the host ends; nil: it does not

	state   atomic.Uint32
	phase   phase
	guard   guard
	console console
	args    [1]uint64

	inbox     uint32 // where the guest takes its events; valid while inboxSize is not 0
	inboxSize uint32
	written   uint32 // the most that was written into it

	// Of the running turn.
	outcome    abi.Result // of the last request, if it did not fit
	hasOutcome bool
	kept       map[uint32]abi.Result // taken from the host, but did not fit
	handles    []uint32              // scratch of wait
	sent       int                   // bytes of payloads that start has sent
}

// limits sets what the instance may use.
func (i *Instance) limits(opt Options) {
	cfg := &i.module.eng.cfg
	i.memoryLimit, i.stackBytes = or(opt.Memory, cfg.Memory), or(opt.Stack, DefaultStack)
	i.tableLimit = min(or(opt.Table, DefaultTable), MaxTable)
	i.fuel, i.hostCalls = opt.Fuel, or(opt.HostCalls, DefaultHostCalls)
	i.maxMessage, i.turnLimit = or(opt.MaxMessage, cfg.MaxMessage), opt.Turn
	i.console.bytes = or(opt.LogBytes, DefaultLogBytes)
	i.epoch, i.gauge = opt.Epoch, opt.Gauge
	if i.log = opt.Log; i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	i.console.init(i)
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// takeStack gives the guest its stack, and the right to grow its tables.
func (i *Instance) takeStack() {
	i.body.stack.Set(uint64(i.stackBytes))
	i.takeTables()
}

func (i *Instance) takeTables() {
	if t := i.body.tables; t != nil {
		t.Set(uint64(i.tableLimit))
	}
}

// tablesFull reports whether a table was refused growth in this turn.
func (i *Instance) tablesFull() bool { return i.body.tables != nil && i.body.tables.Get()>>32 != 0 }

// start makes an instance. The caller holds a reference to the module, which the instance takes over on success.
func (m *Module) start(ctx context.Context, h Host, opt Options) (*Instance, error) {
	i := &Instance{module: m, host: h}
	if p, ok := h.(Permitter); ok {
		i.permitted = p.Permitted
	}
	if b, ok := h.(Bounded); ok {
		i.ended = b.Context().Done()
	}
	i.limits(opt)
	if least := m.startsWith(); least > i.memoryLimit {
		return nil, abi.NewError(abi.ErrLimitExceeded, "the guest starts with "+byteSize(least)+" of memory; its limit is "+
			byteSize(i.memoryLimit)+" (limits.memory, or that of the kind)")
	}
	if least := m.forged.TableEntries; least > int(i.tableLimit) {
		return nil, abi.NewError(abi.ErrLimitExceeded, fmt.Sprintf("the guest starts with %d entries of tables; its limit is %d (limits.table, or that of the kind)",
			least, i.tableLimit))
	}
	if err := ctx.Err(); err != nil {
		return nil, abi.NewError(abi.CodeOf(err), "the start was given up: "+err.Error())
	}
	if m.template != nil {
		return i.copyTemplate(opt)
	}
	if opt.State != nil {
		return nil, abi.NewError(abi.ErrUnsupported, "the module keeps state that cannot be restored: "+m.forged.TierReason)
	}
	return i.startPlain(ctx)
}

// copyTemplate makes the instance a copy of the module's template, and brings it to the state that opt has.
func (i *Instance) copyTemplate(opt Options) (*Instance, error) {
	m := i.module
	b, err := m.take(i)
	if err != nil {
		return nil, abi.AsError(err)
	}
	i.takeStack()
	i.inbox, i.inboxSize = m.template.inbox, m.template.inboxSize
	if opt.State != nil {
		if err := i.restore(opt.State); err != nil {
			b.discard()
			return nil, err
		}
	}
	return i, nil
}

// startPlain instantiates the module in the ordinary way and runs its start functions.
func (i *Instance) startPlain(ctx context.Context) (*Instance, error) {
	m := i.module
	b := m.newBody(nil)
	b.memory.expect = m.startMemory.Load()
	b.attach(i)
	err := i.run(ctx, "its start", func() error {
		if err := b.instantiate(); err != nil {
			return err
		}
		i.takeStack()
		return b.initialize()
	})
	if err != nil {
		b.discard()
		return nil, err
	}
	m.startMemory.Store(uint64(b.mem.Size()))
	return i, nil
}

// run calls f, which calls into the guest, within Config.Describe and ctx.
func (i *Instance) run(ctx context.Context, what string, f func() error) error {
	deadline := time.Now().Add(i.module.eng.cfg.Describe)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	i.guard.arm(deadline)
	stop := context.AfterFunc(ctx, func() {
		if err := canceledBy(ctx); err != nil {
			i.guard.kill(err)
		}
	})
	defer stop()
	err := f()
	if err == nil {
		// Host functions fail once the time is up, and the guest may come to its end before it looks at its fuel: what it has become then
		// is not what it becomes elsewhere.
		err = i.guard.check()
	}
	if err != nil {
		return i.failure(what, err)
	}
	return nil
}

// describe asks a fresh instance for its description.
func (i *Instance) describe(ctx context.Context) (*abi.Description, error) {
	i.phase = phaseDescribe
	i.env.fix()
	err := i.run(ctx, abi.ExportDescribe, func() error {
		return i.mod.ExportedFunction(abi.ExportDescribe).CallWithStack(&i.guard, i.args[:])
	})
	if err != nil {
		return nil, err
	}
	ptr, n := abi.Unpack(i.args[0])
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

// Turn runs one turn: it gives ev to the guest and fills out, whatever that held before. It ends by deadline, or within about a tenth
// of a millisecond of it. An error, always an [*abi.Error] of code trap, limit_exceeded or internal, means that the instance is broken and
// must be closed; one of code overloaded means that the turn did not begin, for want of memory. A message that is too large, either way, is
// an Output of kind OutError.
func (i *Instance) Turn(ev *abi.Event, deadline time.Time, out *abi.Output) error {
	if !i.state.CompareAndSwap(stateIdle, stateRunning) {
		return i.refused("a turn")
	}
	after := stateBroken // by a panic too
	defer func() { i.state.Store(after) }()
	if err := i.runTurn(ev, deadline, out); err != nil {
		if i.body == nil && i.folded != nil { // it did not begin
			after = stateIdle
		}
		return err
	}
	after = stateIdle
	return nil
}

// refused says why the instance cannot do what.
func (i *Instance) refused(what string) *abi.Error {
	why := map[uint32]string{stateRunning: "a turn is running", stateBroken: "its last turn broke it", stateClosed: "it is closed"}
	return abi.NewError(abi.ErrInternal, "the instance refuses "+what+": "+why[i.state.Load()])
}

func (i *Instance) runTurn(ev *abi.Event, deadline time.Time, out *abi.Output) *abi.Error {
	i.lastFuel = 0
	bound := ev.SizeBound()
	if bound > i.maxMessage+abi.MaxEnvelopeExtra {
		tooLarge(out, "an event of "+strconv.Itoa(bound)+" bytes", i.maxMessage)
		return nil
	}
	if i.body == nil {
		if fail := i.unfold(); fail != nil {
			return fail
		}
	}
	i.known = false
	i.guard.arm(deadline)
	i.console.begin()
	i.memory.refused = notRefused
	i.takeTables()
	i.phase = phaseTurn
	if err := i.guard.check(); err != nil {
		return i.failure("the turn", err)
	}
	fail := i.exchange(ev, uint32(bound), out)
	i.lastFuel = i.guard.spent()
	if fail != nil {
		i.console.end()
	}
	i.outcome, i.hasOutcome, i.sent = abi.Result{}, false, 0
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
	i.written = max(i.written, uint32(len(event)))
	i.args[0] = uint64(len(event))
	i.phase = phaseTurn
	if err := i.turn.CallWithStack(&i.guard, i.args[:]); err != nil {
		return i.failure("the turn", err)
	}
	ptr, n := abi.Unpack(i.args[0])
	if fail := i.takeOutput(ptr, n, out); fail != nil {
		return fail
	}
	if i.inboxSize > abi.InboxKeep {
		if fail := i.provideInbox(0); fail != nil {
			return fail
		}
	}
	i.turned()
	return nil
}

// provideInbox asks the guest for an inbox of n bytes; 0 gives the present one back. It happens seldom, so its function
// is not kept: that would be 12 KB an instance.
func (i *Instance) provideInbox(n uint32) *abi.Error {
	i.args[0] = uint64(n)
	i.phase = phaseInbox
	i.inbox, i.inboxSize, i.written = 0, 0, 0
	if err := i.mod.ExportedFunction(abi.ExportInbox).CallWithStack(&i.guard, i.args[:]); err != nil {
		return i.failure(abi.ExportInbox, err)
	}
	if n == 0 {
		return nil
	}
	ptr := uint32(i.args[0])
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
		if most := max(maxOutputs*i.maxMessage, maxOutputs<<20); int(n) > most {
			return abi.NewError(abi.ErrLimitExceeded, "effects of "+strconv.Itoa(int(n))+" bytes in one turn; at most "+strconv.Itoa(most)+
				" are accepted")
		}
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
	*out = abi.Output{Kind: abi.OutError, Err: abi.NewError(abi.ErrPayloadTooLarge, what+"; the limit is "+strconv.Itoa(limit)+
		" (limits.max_message, or that of the kind)")}
}

// outside is the error of an export that returned a range that is none.
func (i *Instance) outside(name string, ptr, n uint32) *abi.Error {
	return abi.NewError(abi.ErrTrap, fmt.Sprintf("%s returned the range %#x+%d, which is outside of the guest's memory of %s",
		name, ptr, n, byteSize(uint64(i.mem.Size()))))
}

// Fuel is how many units of fuel the last turn used, host calls included. Units of two versions of the forge's weights must not be
// compared.
func (i *Instance) Fuel() int64 { return i.lastFuel }

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
				return i.discard(s == stateIdle)
			}
		}
	}
}

// discard lets go of what the instance held, in case somebody keeps it. Whoever was let down by a guest that took much memory does not
// wait until the kernel has it back, which takes some ten milliseconds for 64 MiB.
func (i *Instance) discard(whole bool) error {
	i.console.end()
	if i.folded != nil {
		i.countFolded(-1)
	}
	i.kept, i.folded = nil, nil
	m, b := i.module, i.body
	i.body = nil
	switch {
	case b == nil:
	case whole && m.template != nil:
		i.body = b // it has to leave the guest's globals as they were
		m.give(b)
		i.body = nil
	case b.mem != nil && b.mem.Size() > reapFrom:
		m.eng.reaping.Go(func() {
			b.discard()
			_ = m.release() // the error is of files of the cache, and of a module that is closed
		})
		return nil
	default:
		b.discard()
	}
	return m.release()
}

// reapFrom is the memory, in bytes, from which on an instance that broke is discarded by a goroutine of its own.
const reapFrom = 4 << 20
