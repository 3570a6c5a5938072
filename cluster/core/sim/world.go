package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// Options are what a run is made from.
type Options struct {
	Seed  uint64
	Trace io.Writer // gets a line for everything that happens; nil: none
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string        // "I1"
	At        time.Duration // true time
	Text      string        // what happened, with the events that led to it
}

// Result is what became of a run.
type Result struct {
	Seed      uint64
	Violation *Violation // nil: none
	Stats     Stats
	Hash      uint64 // of everything that happened, in order
}

// The kinds of actors, by what becomes of their state.
const (
	kindMem = "mem" // ends with the activation
	kindHib = "hib" // goes with planned moves
	kindRow = "row" // is in the store
)

var allKinds = []string{kindHib, kindMem, kindRow}

// actor is one of the identities that a run uses.
type actor struct {
	i    int
	id   core.Identity
	kind string
	part core.Partition
}

// event is something that happens at a time, in a process or, with p nil, in the world outside.
type event struct {
	at  time.Duration
	seq uint64
	p   *proc
	fn  func()
}

// world is one simulated cluster.
type world struct {
	seed   uint64
	shape  shape
	rng    *rand.Rand
	now    time.Duration // true time
	seq    uint64
	events []event // a heap
	nodes  []*node
	actors []*actor
	net    network
	voters voters
	store  store
	gossip gossip
	mon    monitor
	faults faults
	stats  Stats
	hash   uint64
	trace  io.Writer
	broken *Violation
	procs  int
	reqs   uint64
	images uint64
	quiet  bool // clients have stopped
}

// Run runs one seed to its end, or to the first violation.
func Run(o Options) Result {
	w := &world{seed: o.Seed, rng: rand.New(rand.NewPCG(o.Seed, 0x5eed)), trace: o.Trace, hash: 14695981039346656037}
	w.build()
	w.play()
	if w.broken != nil {
		w.note(nil, "VIOLATION of %s: %s", w.broken.Invariant, w.broken.Text)
	}
	w.stats.Seeds = 1
	return Result{Seed: o.Seed, Violation: w.broken, Stats: w.stats, Hash: w.hash}
}

// at makes something happen at a true time.
func (w *world) at(t time.Duration, p *proc, fn func()) {
	w.seq++
	w.events = append(w.events, event{max(t, w.now), w.seq, p, fn})
	i := len(w.events) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !w.events[i].before(&w.events[up]) {
			break
		}
		w.events[i], w.events[up] = w.events[up], w.events[i]
		i = up
	}
}

func (w *world) after(d time.Duration, fn func()) { w.at(w.now+d, nil, fn) }

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (w *world) pop() event {
	e := w.events[0]
	last := len(w.events) - 1
	w.events[0] = w.events[last]
	w.events[last] = event{}
	w.events = w.events[:last]
	for i := 0; ; {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < last && w.events[c].before(&w.events[least]) {
				least = c
			}
		}
		if least == i {
			return e
		}
		w.events[i], w.events[least] = w.events[least], w.events[i]
		i = least
	}
}

// run lets things happen until a true time, or the first violation.
func (w *world) run(until time.Duration) {
	for w.broken == nil && len(w.events) > 0 && w.events[0].at <= until {
		e := w.pop()
		w.now = e.at
		w.stats.Events++
		w.mix(uint64(e.at), e.seq)
		switch {
		case e.p == nil:
			e.fn()
		case e.p.dead:
		case e.p.paused:
			e.p.inbox = append(e.p.inbox, e.fn)
		default:
			w.mix(uint64(e.p.serial), 0)
			e.fn()
		}
	}
	if w.broken == nil {
		w.now = until
	}
}

// mix makes two numbers a part of the run's hash.
func (w *world) mix(a, b uint64) {
	for _, v := range [2]uint64{a, b} {
		w.hash = (w.hash ^ v) * 1099511628211
		w.hash ^= w.hash >> 29
	}
}

// note writes a line of the trace. What matters of it is in the hash by other ways.
func (w *world) note(p *proc, format string, args ...any) {
	if w.trace == nil {
		return
	}
	who := "-"
	if p != nil {
		who = fmt.Sprintf("%s#%d", p.n.id, p.boot)
	}
	fmt.Fprintf(w.trace, "%9.4f %-8s %s\n", w.now.Seconds(), who, fmt.Sprintf(format, args...))
}

// fail ends the run with a violation.
func (w *world) fail(invariant, format string, args ...any) {
	if w.broken == nil {
		w.broken = &Violation{Invariant: invariant, At: w.now, Text: fmt.Sprintf(format, args...)}
	}
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// between draws a duration evenly.
func (w *world) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }
