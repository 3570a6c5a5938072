package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
)

// How many units of fuel a guest runs on before it looks at its host again. That bounds how long it goes on after its end, and how long
// the garbage collector waits for it, for it cannot be interrupted in between.
//
// A unit takes a nanosecond at most, but the first touch of a page of memory takes the kernel two microseconds, and seven to fifteen on
// some virtual machines; a store costs one unit. So it is the pages that a guest could touch within a slice that bound its length, by
// the memory that it has or by the slice: what they take is what the collector waits for at worst, once. Near its end a guest with more than a
// little memory gets as much as it could use up before that, at the worst rate.
const (
	slice      = 100_000  // of some 10 to 50 microseconds where no page is touched anew
	shortSlice = 32_768   // where the memory has more pages than should be touched within one
	leastSlice = 1_024    // and where pages take long, no more of them than a few milliseconds' worth
	fewPages   = 4 << 20  // bytes of memory up to which all that can be touched takes no time worth a thought
	somePages  = 32 << 20 // bytes up to which all of it may be touched within a slice, far from the end
	longTouch  = 40 * time.Millisecond
	lateTouch  = 3 * time.Millisecond
	worstUnit  = 8 * time.Microsecond
	yieldEvery = 50 * time.Microsecond // between looks for other goroutines
)

// pace is how long slices may be on a machine: with shortSlice, somePages and leastSlice, if no more than longTouch, or lateTouch for the
// last, is taken by touching that.
type pace struct {
	short int64
	least int64
	some  uint32
	worst time.Duration // for a unit, where several guests touch pages at once
}

// thisPace is that of this machine, of which it is measured once what a touch takes.
var thisPace = sync.OnceValue(func() pace { return paceFor(slot.Touch()) })

// paceFor is where the first touch of a page takes so long.
func paceFor(touch time.Duration) pace {
	touch = min(max(touch, time.Microsecond), 50*time.Microsecond)
	pages := int64(longTouch / touch)
	return pace{short: min(shortSlice, pages), least: min(leastSlice, int64(lateTouch/touch)), some: uint32(min(somePages, pages*slot.Page)),
		worst: max(worstUnit, 2*touch)}
}

// Why a guest is ended at a refill or in a host function.
var (
	errDeadline  = errors.New("the deadline has passed")
	errEnded     = errors.New("the node gives up what runs")
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
	slice    int64     // units that the guest was given last
	yielded  time.Time // when other goroutines last had their way
	used     int64     // units of fuel in this turn, up to the last refill
	calls    int       // of host functions in this turn
}

var _ context.Context = (*guard)(nil)

// arm sets the bounds of the calls that follow.
func (g *guard) arm(deadline time.Time) {
	now := time.Now()
	g.deadline, g.limit, g.yielded = deadline, deadline.Sub(now), now
	g.used, g.calls, g.slice = 0, 0, 0
	if f := g.inst.body.fuel; f != nil {
		f.Set(0)
		g.give(now)
	}
}

// give lets the guest run on for a slice.
func (g *guard) give(now time.Time) {
	b := g.inst.body
	memory := uint32(0)
	if b.mem != nil {
		memory = b.mem.Size()
	}
	if debt := -int64(b.fuel.Get()); debt > slice { // it is about to get much memory, for which it owes already
		memory = math.MaxUint32
	}
	n := SliceOf(memory)
	if memory > fewPages {
		p := thisPace()
		n = min(max(int64(g.deadline.Sub(now)/p.worst), p.least), n)
	}
	if limit := g.inst.fuel; limit > 0 {
		n = min(n, max(limit-g.used, 0))
	}
	g.slice = n
	b.fuel.Set(uint64(n))
}

// SliceOf is how many units a guest runs on at most with so many bytes of memory, far from the end of its turn: for tools that measure
// what metering costs.
func SliceOf(memory uint32) int64 {
	if p := thisPace(); memory > p.some {
		return p.short
	}
	return slice
}

// spent returns the units of fuel that were used since arming.
func (g *guard) spent() int64 {
	if f := g.inst.body.fuel; f != nil {
		return g.used + g.slice - int64(f.Get())
	}
	return 0
}

// kill ends the guest at its next look, for the reason given.
func (g *guard) kill(err error) { g.killed.CompareAndSwap(nil, &err) }

// check returns why the guest may not go on, or nil. It lets other goroutines have their way in between: a host function is interrupted
// after ten milliseconds only, and where many guests do that each would come back long after its end.
func (g *guard) check() error {
	_, err := g.look()
	return err
}

// look is check, and returns the time.
func (g *guard) look() (now time.Time, err error) {
	if e := g.killed.Load(); e != nil {
		return now, *e
	}
	select {
	case <-g.inst.ended:
		return now, errEnded
	default:
	}
	if now = time.Now(); now.Sub(g.yielded) >= yieldEvery {
		runtime.Gosched()
		now = time.Now()
		g.yielded = now
	}
	if p := g.inst.permitted; p != nil {
		if err := p(); err != nil {
			return now, err
		}
		now = time.Now() // it may have waited
	}
	if !now.Before(g.deadline) {
		return now, errDeadline
	}
	return now, nil
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
	now, err := g.look()
	if i.fuel > 0 && g.used >= i.fuel {
		err = errFuel
	}
	if err != nil {
		g.slice = 0
		b.fuel.Set(0) // all that was used is in g.used
		panic(err)
	}
	g.give(now)
}

// yield lets other goroutines have their way, from within a host function.
func (g *guard) yield() {
	runtime.Gosched()
	g.must()
}

// charge takes the cost of a host function off the guest's fuel.
func (g *guard) charge(units int) {
	if f := g.inst.body.fuel; f != nil {
		f.Set(uint64(int64(f.Get()) - int64(units)))
	}
}

// hostCall counts a call of a host function. A start is bounded by its time alone: it may wait for a clock that stands.
func (g *guard) hostCall(cost int) {
	if g.calls++; g.calls > g.inst.hostCalls && g.inst.phase == phaseTurn {
		panic(errHostCalls)
	}
	g.charge(cost)
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
		limit := i.guard.limit
		if i.phase >= phaseInbox && i.turnLimit > 0 { // some of it had passed when the guard was armed
			limit = i.turnLimit
		}
		return abi.NewError(abi.ErrLimitExceeded, what+" exceeded its limit of "+duration(limit)+i.setBy("turn"))
	case errors.Is(err, errEnded):
		return abi.NewError(abi.ErrInternal, what+" was cut off: "+errEnded.Error())
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
