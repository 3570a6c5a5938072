package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/abi"
)

// slice is how many units of fuel a guest runs on before it looks at its host again: some 50 to 100 microseconds. That bounds how long
// a guest goes on after its end, and how long the garbage collector and other goroutines wait for it.
const slice = 100_000

// Why a guest is ended at a refill or in a host function.
var (
	errDeadline  = errors.New("the deadline has passed")
	errStack     = errors.New("the stack is spent")
	errFuel      = errors.New("the fuel of the turn is spent")
	errHostCalls = errors.New("too many host calls")
)

// guard is the context of every call into one instance. It knows until when the guest may run, and leads host functions
// to the instance. Nothing ever interrupts a guest from outside: it looks here itself, through its fuel.
type guard struct {
	inst     *Instance
	deadline time.Time
	limit    time.Duration // from arming to the deadline, for messages
	killed   atomic.Pointer[error]
	used     int64 // units of fuel in this turn, up to the last refill
	given    int64 // units, at that refill
	calls    int   // of host functions in this turn
}

var _ context.Context = (*guard)(nil)

// arm sets the bounds of the calls that follow.
func (g *guard) arm(deadline time.Time) {
	g.deadline, g.limit = deadline, time.Until(deadline)
	g.used, g.calls = 0, 0
	g.feed()
}

// feed gives the guest its next slice, or what the turn has left.
func (g *guard) feed() {
	g.given = slice
	if limit := g.inst.fuel; limit > 0 {
		g.given = min(slice, max(0, limit-g.used))
	}
	if f := g.inst.body.fuel; f != nil {
		f.Set(uint64(g.given))
	}
}

// spent returns the units of fuel that were used since arming.
func (g *guard) spent() int64 {
	if f := g.inst.body.fuel; f != nil {
		return g.used + g.given - int64(f.Get())
	}
	return 0
}

// kill ends the guest at its next look, for the reason given.
func (g *guard) kill(err error) { g.killed.CompareAndSwap(nil, &err) }

// check returns why the guest may not go on, or nil.
func (g *guard) check() error {
	if e := g.killed.Load(); e != nil {
		return *e
	}
	if !time.Now().Before(g.deadline) {
		return errDeadline
	}
	return nil
}

// must ends the turn from within a host function if its time is over.
func (g *guard) must() {
	if err := g.check(); err != nil {
		panic(err)
	}
}

// refill is called by guests that have used up their fuel, or their stack.
func refill(ctx context.Context, _ api.Module, _ []uint64) {
	i := instanceOf(ctx)
	g, b := &i.guard, i.body
	if int64(b.stack.Get()) < 0 {
		panic(errStack)
	}
	g.used = g.spent()
	g.feed()
	if i.fuel > 0 && g.used >= i.fuel {
		panic(errFuel)
	}
	g.must()
	runtime.Gosched()
}

// charge takes the cost of a host function off the guest's fuel.
func (g *guard) charge(units int) {
	if f := g.inst.body.fuel; f != nil {
		f.Set(uint64(int64(f.Get()) - int64(units)))
	}
}

// wasiCall counts a call of a WASI function, if it is a turn's.
func (g *guard) wasiCall() {
	if g.inst.phase == phaseTurn {
		g.hostCall()
	}
}

// hostCall counts a call of a host function.
func (g *guard) hostCall() {
	if g.calls++; g.calls > g.inst.hostCalls {
		panic(errHostCalls)
	}
	g.charge(hostCallCost)
}

// hostCallCost is what a host function costs in fuel, beside its bytes: about 0.3 microseconds.
const hostCallCost = 500

// Deadline never ends a wazero call: wazero does not look at it.
func (g *guard) Deadline() (time.Time, bool) { return g.deadline, true }

// Done is nil: nobody waits for a guard.
func (g *guard) Done() <-chan struct{} { return nil }

// Err is always nil.
func (g *guard) Err() error { return nil }

// Value knows nothing.
func (g *guard) Value(any) any { return nil }

// instanceOf finds the instance that runs under ctx.
func instanceOf(ctx context.Context) *Instance { return ctx.(*guard).inst }

// sleep serves nanosleep: it ends with the turn.
func (g *guard) sleep(ns int64) {
	if ns <= 0 {
		return
	}
	for end := time.Now().Add(time.Duration(ns)); ; {
		g.must()
		left := min(time.Until(end), time.Until(g.deadline), sleepStep)
		if left <= 0 {
			g.must()
			return
		}
		time.Sleep(left)
	}
}

// sleepStep is how long a sleeping guest may go without looking whether it was killed.
const sleepStep = 10 * time.Millisecond

// limitError is the error for a guest that its guard has ended, nil for any other.
func (i *Instance) limitError(what string, err error) *abi.Error {
	switch {
	case errors.Is(err, errDeadline):
		return abi.NewError(abi.ErrLimitExceeded, what+" exceeded its limit of "+duration(i.guard.limit)+i.setBy("turn"))
	case errors.Is(err, errFuel):
		return abi.NewError(abi.ErrLimitExceeded, fmt.Sprintf("%s used more than its %d units of fuel%s", what, i.fuel, i.setBy("fuel")))
	case errors.Is(err, errStack):
		return abi.NewError(abi.ErrLimitExceeded, what+" used more than its "+byteSize(uint64(i.stackBytes))+" of stack"+i.setBy("stack"))
	case errors.Is(err, errHostCalls):
		return abi.NewError(abi.ErrLimitExceeded, fmt.Sprintf("%s made more than %d host calls%s", what, i.hostCalls, i.setBy("host_calls")))
	}
	if k := i.guard.killed.Load(); k != nil && errors.Is(err, *k) {
		return abi.NewError(abi.CodeOf(*k), what+" was given up: "+(*k).Error())
	}
	return nil
}

// setBy says where a limit of turns is set; those of a start are not.
func (i *Instance) setBy(key string) string {
	if i.phase < phaseInbox {
		return ""
	}
	return " (limits." + key + ", or that of the kind)"
}
