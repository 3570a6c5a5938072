package engine

import (
	"context"
	"sync/atomic"
	"time"
)

// guard is the context of every call into one instance: it ends at the deadline of the turn, and it leads host functions
// to the instance. One guard, its timer and its channel serve all turns, so a turn allocates none of them.
//
// wazero closes the instance when its context ends, from a goroutine of its own. So once the guard has fired, the
// instance is lost, even if the guest was quick enough to return.
type guard struct {
	inst     *Instance
	deadline time.Time
	limit    time.Duration // from arming to the deadline, for messages
	timer    *time.Timer
	done     chan struct{}
	fired    atomic.Bool
}

// instanceKey is the key under which a guard yields its instance through contexts that wrap it.
type instanceKey struct{}

var _ context.Context = (*guard)(nil)

// arm sets the deadline of the calls that follow.
func (g *guard) arm(deadline time.Time) {
	g.deadline, g.limit = deadline, time.Until(deadline)
	switch {
	case g.limit <= 0:
		g.expire()
	case g.timer == nil:
		g.timer = time.AfterFunc(g.limit, g.expire)
	default:
		g.timer.Reset(g.limit)
	}
}

// disarm reports whether the deadline did not come, so that the instance can be used again. If it is just coming, it has come.
func (g *guard) disarm() bool {
	if g.timer != nil && g.timer.Stop() && !g.fired.Load() {
		return true
	}
	g.expire() // the timer may be on its way here: whoever asks next finds what this call says
	return false
}

func (g *guard) expire() {
	if g.fired.CompareAndSwap(false, true) {
		close(g.done)
	}
}

func (g *guard) Deadline() (time.Time, bool) { return g.deadline, true }

func (g *guard) Done() <-chan struct{} { return g.done }

func (g *guard) Err() error {
	if g.fired.Load() {
		return context.DeadlineExceeded
	}
	return nil
}

func (g *guard) Value(key any) any {
	if _, ok := key.(instanceKey); ok {
		return g.inst
	}
	return nil
}

// instanceOf finds the instance that runs under ctx.
func instanceOf(ctx context.Context) *Instance {
	if g, ok := ctx.(*guard); ok {
		return g.inst
	}
	return ctx.Value(instanceKey{}).(*Instance) // the start function runs under a context that wraps the guard
}

// sleep serves nanosleep: it ends with the guard.
func (g *guard) sleep(ns int64) {
	if ns <= 0 {
		return
	}
	t := time.NewTimer(time.Duration(ns))
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.done:
	}
}
