package engine

import (
	"sync"
	"sync/atomic"
)

// ledger counts what the instances of an engine hold, as it changes: a guest that grows is noticed at that moment and not when
// somebody looks.
//
// Growth is exact and counted in full, touched or not: what a guest was granted it may fill without asking again. The pages that it
// writes within the image of its template nobody tells of, and to ask the kernel takes microseconds; so they are estimated by what
// others of its kind were found to have, and measured now and then (see [Gauge]).
type ledger struct {
	mapped atomic.Int64 // bytes of pages of instances' own, in mappings
	heap   atomic.Int64 // bytes of the Go heap: memories that lie there, states at rest, what wazero keeps
	grown  atomic.Int64 // of both: what guests grew beyond their templates
	live   atomic.Int64 // instances that have their memory
	folded atomic.Int64 // instances at rest that have none
	idle   atomic.Int64 // bodies that wait for an instance

	limit   atomic.Int64  // of mapped and heap together, for growth; 0: none
	reserve atomic.Int64  // beyond limit, for those that grow little
	refused atomic.Uint64 // growth that was
	growing sync.Mutex    // one grows at a time, or each would be refused for what the other is not granted

	mark  atomic.Int64 // from which on alarm is called, once
	alarm atomic.Pointer[func()]
}

// modest is how much an instance may have grown, this time included, to be let into the reserve: the node's memory being spent by few
// must not end all the others at their next allocation.
const modest = 1 << 20

// held is what counts for the limit.
func (l *ledger) held() int64 { return l.mapped.Load() + l.heap.Load() }

// add counts n bytes more, or less, whoever has allowed that.
func (l *ledger) add(where *atomic.Int64, n int64) {
	if n == 0 {
		return
	}
	where.Add(n)
	if n > 0 {
		l.look()
	}
}

// look calls the alarm if what is held has passed the mark.
func (l *ledger) look() {
	mark := l.mark.Load()
	if mark <= 0 || l.held() < mark || !l.mark.CompareAndSwap(mark, 0) {
		return
	}
	l.call()
}

func (l *ledger) call() {
	if f := l.alarm.Load(); f != nil {
		(*f)()
	}
}

// grow counts n bytes that an instance asks for that has grown by as much already, if they fit.
func (l *ledger) grow(where *atomic.Int64, n, already int64) bool {
	if !l.fits(where, n, already) {
		l.call()
		return false
	}
	l.grown.Add(n)
	l.look()
	return true
}

func (l *ledger) fits(where *atomic.Int64, n, already int64) bool {
	l.growing.Lock()
	defer l.growing.Unlock()
	if limit := l.limit.Load(); limit > 0 {
		if already+n <= modest {
			limit += l.reserve.Load()
		}
		if l.held()+n > limit {
			return false
		}
	}
	where.Add(n)
	return true
}

// Memory is what an engine takes of its process's memory, in bytes.
type Memory struct {
	Mapped    int64  // pages of instances' own, outside of the Go heap: estimated, but for what they grew
	Heap      int64  // of the Go heap: memories that lie there, what wazero keeps for an instance, instances at rest
	Grown     int64  // of Mapped and Heap: what guests asked for beyond what they started with
	Templates int64  // images that instances are copies of, with the replicas
	Code      int64  // native code of modules
	Live      int64  // instances with a memory
	Folded    int64  // instances at rest, without one
	Idle      int64  // memories kept for instances to come
	Refused   uint64 // times that growth was refused for want of memory
}

// Memory looks at every module, and at no instance.
func (e *Engine) Memory() Memory {
	l := &e.ledger
	m := Memory{Mapped: l.mapped.Load(), Heap: l.heap.Load(), Grown: l.grown.Load(), Live: l.live.Load(), Folded: l.folded.Load(),
		Idle: l.idle.Load(), Refused: l.refused.Load()}
	e.each(func(mod *Module) {
		m.Code += mod.codeBytes
		if t := mod.template; t != nil {
			m.Templates += t.pool.Stats().WrittenBytes
		}
	})
	return m
}

// Held is what instances take, of mappings and of the Go heap together, as of this moment. It takes some nanoseconds.
func (e *Engine) Held() int64 { return e.ledger.held() }

// Limit bounds [Engine.Held] for guests that grow: beyond it memory.grow is refused, and beyond reserve more even to those
// that have hardly grown. 0 is no limit. The alarm is due again, once Held has passed mark.
func (e *Engine) Limit(limit, reserve, mark int64) {
	e.ledger.limit.Store(limit)
	e.ledger.reserve.Store(reserve)
	e.ledger.mark.Store(mark)
	e.ledger.look()
}

// Alarm sets what is called when Held passes the mark of [Engine.Limit], once for each, and when growth was refused. It is called on the
// goroutine of a turn, and must not block.
func (e *Engine) Alarm(f func()) { e.ledger.alarm.Store(&f) }

// Trim gives back what is kept for instances to come, and returns about how many bytes that was.
func (e *Engine) Trim() int64 {
	before := e.ledger.held()
	if e.ledger.idle.Load() > 0 {
		e.each((*Module).dropIdle)
	}
	freed := before - e.ledger.held()
	e.each(func(m *Module) {
		if m.template != nil {
			m.template.pool.Trim()
		}
	})
	return max(freed, 0)
}

// each calls f with every module that is loaded. None is released meanwhile: that begins with its removal.
func (e *Engine) each(f func(*Module)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for m := range e.modules {
		f(m)
	}
}
