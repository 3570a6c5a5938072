package host

import (
	"math"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/host/engine/slot"
	"github.com/wasilo/wasilo/host/telemetry"
)

// budget keeps what the node's actors take together within limits.max_bytes.
//
// What is taken is known in two ways. The engine, the silo and the store of sleepers count, at once but in part by estimate. Four times
// a second, and whenever much has come to it since, the process is asked what it has: the Go heap that lives, and the pages beside it.
// Where that is more than was counted the difference counts too, from then on; where it is less, what was granted and not used yet is not
// granted again. So nothing is let in on the strength of an estimate alone for longer than a quarter of a second.
//
// From this come how much guests may grow before the next look, what is left for activations, the pressure by which idle actors give up
// theirs, and what the Go heap may take, garbage included.
type budget struct {
	n       *Node
	max     int64
	ceiling int64
	base    measure // of the process before the node had anything
	now     atomic.Pointer[assessment]

	ask      chan struct{}
	quit     chan struct{}
	stopping sync.Once
	work     sync.WaitGroup

	// Of who looks.
	refused   uint64 // times that growth was, at the last look
	group     group
	grouped   time.Time // when that was looked at
	relieved  time.Time // when the silo was asked to
	collected time.Time // when a collection was
	told      bool      // that memory is scarce
	eased     time.Time // since when it is not any more, if told
}

// Times of the budget.
const (
	lookEvery    = 250 * time.Millisecond
	lookPause    = 10 * time.Millisecond
	groupEvery   = time.Second // to read its statistics takes the kernel a while
	collectEvery = 10 * time.Second
	easyFor      = 5 * time.Second // then the log says that memory is not scarce any more
)

// The pressures from which on something is given up, in order of what it costs somebody. Those that the silo applies are in its policy.go:
// from 0.65 on idle actors rest early, from 0.75 on they are hibernated, from 0.95 on passivated.
const (
	trimFrom    = 0.60 // what is kept for instances to come is given back
	spillFrom   = 0.70 // sleeping actors move to disk, the more the scarcer memory is
	scarceFrom  = 0.75 // the log says so, and garbage is collected that may be all there is
	spillAtOnce = 64 << 20
)

// DefaultMaxBytes is the default of [Limits].MaxBytes: three quarters of what the machine or its cgroup has.
func DefaultMaxBytes() int64 { return int64(min(machineMemory(), math.MaxInt64)) / 4 * 3 }

// reserve is the part of the budget that is left to guests that have hardly grown, and what may be missing while actors are on their way out.
func reserve(most int64) int64 { return most / 16 }

// replicaBytes bounds what the copies of a module's image take.
func replicaBytes(most int64) int64 { return min(max(most/32, 1<<20), slot.DefaultReplicaBytes) }

// ceiling returns how many bytes the process may take, garbage and all: the budget, an eighth or 64 MiB more for what no actor is to blame for,
// but not quite all that there is.
func ceiling(most int64, memory uint64) int64 {
	return min(most+max(most/8, 64<<20), int64(min(memory, math.MaxInt64))/20*19)
}

// counted is what the node's parts count of themselves.
type counted struct {
	engine.Memory
	held     int64 // Mapped and Heap, at the beginning
	sleepers int64
	coming   int64 // bytes of activations that nothing else counts
}

// measure is what the process has.
type measure struct {
	goLive   int64 // bytes of the Go heap that were found to live, and stacks
	goMapped int64 // that the Go runtime has of the system
	resident int64 // memory that is backed by no file, by the kernel's count; 0: not known
}

// outside is what there is beside the Go runtime's memory, templates apart.
func (m measure) outside() int64 {
	if m.resident == 0 {
		return 0
	}
	return max(m.resident-m.goMapped, 0)
}

// group is the cgroup that has least left; without one all is 0.
type group struct{ limit, free int64 }

// usable is what of the group's memory somebody may count on who could free some garbage: the last twentieth nobody should.
func (g group) usable(garbage int64) int64 { return max(g.free+garbage-g.limit/20, 0) }

// assessment is the state of the budget at one look.
type assessment struct {
	counted
	max  int64
	used int64
	// Of used, what nobody counted: in the Go heap, and beside it.
	strayHeap, strayPages int64
	others                int64   // what others in the cgroup have left less of than the budget has
	pressure              float64 // 0 to 1
	heapLimit             int64   // what the Go heap may take
}

// assess says what is used of most bytes, how scarce they are, and what is left to the Go heap under a ceiling. base is what the process had
// before there were actors.
func assess(most, ceiling int64, c counted, base, m measure, g group) *assessment {
	a := &assessment{counted: c, max: most}
	heap, pages := c.Heap+c.coming, c.Mapped+c.Code
	if sleepersInHeap {
		heap += c.sleepers
	} else {
		pages += c.sleepers
	}
	a.strayHeap = max(m.goLive-base.goLive-heap, 0)
	a.strayPages = max(m.outside()-base.outside()-pages, 0)
	a.used = heap + pages + c.Templates + a.strayHeap + a.strayPages
	a.heapLimit = ceiling - c.Templates - max(pages+a.strayPages, m.outside())
	if g.limit > 0 {
		garbage := max(m.goMapped-m.goLive, 0)
		a.others = max(most-max(a.used, 0)-g.usable(garbage), 0)
		a.heapLimit = min(a.heapLimit, m.goMapped+g.usable(0))
	}
	a.heapLimit = max(a.heapLimit, most/8, base.goLive+32<<20)
	a.pressure = min(1, max(0, float64(a.used+a.others)/float64(most-reserve(most))))
	return a
}

// left returns what is left at the look, the reserve apart; below 0 it is missing.
func (a *assessment) left() int64 { return a.max - reserve(a.max) - a.used - a.others }

// counts are for /metrics. The parts add up to what is used.
func (a *assessment) counts() *telemetry.MemoryCounts {
	return &telemetry.MemoryCounts{Budget: a.max, Pressure: a.pressure, Refused: a.Refused, Parts: map[string]int64{"pages": a.Mapped,
		"heap": a.Heap + a.coming, "templates": a.Templates, "code": a.Code, "sleepers": a.sleepers, "uncounted": a.strayHeap + a.strayPages}}
}

// spillTo returns how many bytes of memory the sleepers may have under pressure, who have now, and most without any.
func spillTo(now, most int64, pressure float64) int64 {
	if pressure <= spillFrom {
		return most
	}
	return max(int64(float64(most)*max(0, 1-pressure)/(1-spillFrom)), now-spillAtOnce)
}

// newBudget looks at the process as it is before the node has anything.
func newBudget(n *Node) *budget {
	memory, known := MachineMemory()
	if !known {
		memory = math.MaxUint64
	}
	most := n.cfg.Limits.MaxBytes
	return &budget{n: n, max: most, ceiling: ceiling(most, memory), base: measureProcess(), ask: make(chan struct{}, 1), quit: make(chan struct{})}
}

// start begins to look, until stop.
func (b *budget) start() {
	if b.n.engine != nil {
		b.n.engine.Alarm(b.look)
	}
	b.refresh(time.Now())
	b.work.Go(b.run)
}

// stop ends what start began, if anything. Further calls do nothing.
func (b *budget) stop() {
	b.stopping.Do(func() { close(b.quit) })
	b.work.Wait()
}

// look has the budget looked at soon. It never blocks.
func (b *budget) look() {
	select {
	case b.ask <- struct{}{}:
	default:
	}
}

func (b *budget) run() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	pause := time.NewTimer(0) // a guest that asks again and again for what is refused gets no more looks by that
	defer pause.Stop()
	for {
		select {
		case <-b.quit:
			return
		case <-pause.C:
			select {
			case <-b.quit:
				return
			case <-b.ask:
			case <-tick.C:
			}
			b.refresh(time.Now())
			pause.Reset(lookPause)
		}
	}
}

// refresh looks, tells who must know, and has memory given back where it is scarce.
func (b *budget) refresh(now time.Time) {
	n, c := b.n, b.count()
	if now.Sub(b.grouped) >= groupEvery {
		b.grouped, b.group = now, groupOf(os.DirFS("/"))
	}
	a := assess(b.max, b.ceiling, c, b.base, measureProcess(), b.group)
	if c.Refused > b.refused { // somebody was told that there is none
		b.refused, a.pressure = c.Refused, 1
	}
	b.now.Store(a)
	if n.engine != nil {
		n.engine.Limit(max(c.held+a.left(), 1), reserve(b.max), max(c.held, 0)+max(b.max/32, 1<<20))
	}
	if n.cfg.HeapLimit != nil {
		n.cfg.HeapLimit(a.heapLimit)
	}
	b.tell(a, now)
	if a.pressure >= trimFrom {
		b.relieve(a, now)
	}
}

// relieve has memory given back that nobody needs at once.
func (b *budget) relieve(a *assessment, now time.Time) {
	n := b.n
	if n.engine != nil {
		n.engine.Trim()
	}
	if to := spillTo(a.sleepers, n.cfg.Limits.MaxSleep, a.pressure); a.sleepers > to {
		n.sleepers.Spill(to)
	}
	if now.Sub(b.relieved) >= lookEvery {
		b.relieved = now
		n.silo.Relieve()
	}
	if a.pressure >= scarceFrom && a.strayHeap > b.max/16 && now.Sub(b.collected) >= collectEvery {
		// It may be what lived at the last collection and does not any more, and nothing is made that would bring on the next.
		b.collected = now
		runtime.GC()
		b.look()
	}
}

// count adds up what the node's parts count.
func (b *budget) count() counted {
	c := counted{sleepers: b.n.sleepers.Bytes(), coming: b.n.silo.Coming()}
	if e := b.n.engine; e != nil {
		c.held, c.Memory = e.Held(), e.Memory()
	}
	return c
}

// room returns what is left at this moment for activations, and what may be missing while others are on their way out.
func (b *budget) room() (left, overdraft int64) {
	a := b.now.Load()
	if a == nil {
		return math.MaxInt64 / 2, 0
	}
	left = a.left() + a.coming // which the silo takes off itself, as it is now
	if e := b.n.engine; e != nil {
		left -= e.Held() - a.held
	}
	return left, reserve(b.max)
}

// pressure returns that of the last look.
func (b *budget) pressure() float64 {
	if a := b.now.Load(); a != nil {
		return a.pressure
	}
	return 0
}

// tell logs when memory becomes scarce, and when it has not been for a while.
func (b *budget) tell(a *assessment, now time.Time) {
	scarce := a.pressure >= scarceFrom
	switch {
	case scarce && !b.told:
		b.told = true
		b.n.log.Warn("memory is scarce: idle actors give theirs up, and new ones may be refused; raise limits.max_bytes, or add nodes",
			"used", mib(a.used), "of", mib(a.max), "pages", mib(a.Mapped), "heap", mib(a.Heap+a.coming), "templates", mib(a.Templates),
			"code", mib(a.Code), "sleepers", mib(a.sleepers), "uncounted", mib(a.strayHeap+a.strayPages), "others", mib(a.others),
			"growth_refused", a.Refused)
	case scarce:
		b.eased = time.Time{}
	case !b.told:
	case b.eased.IsZero():
		b.eased = now
	case now.Sub(b.eased) >= easyFor:
		b.told, b.eased = false, time.Time{}
		b.n.log.Info("memory is no longer scarce", "used", mib(a.used), "of", mib(a.max))
	}
}

func mib(n int64) string { return strconv.FormatInt(n>>20, 10) + " MiB" }
