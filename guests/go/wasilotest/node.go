package wasilotest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// Node is a node of its own for one test. It and what it hands out belong to the test's goroutine.
type Node struct {
	t      testing.TB
	kinds  map[string]*wasilo.Definition
	actors map[abi.Identity]*activation
	queue  []*message // sent, not handled yet, in the order of sending
	parked []*turn    // turns that wait for something
	open   []*message // calls without an outcome yet
	clock  clock
	now    time.Time
	epoch  uint64
	rng    *rand.Rand // feeds the actors
	order  *rand.Rand // nil: in order
	rules  func(Message) Fault
	logs   []string
	ending bool
}

// New returns a node that serves kinds. It ends with the test.
func New(t testing.TB, kinds ...*wasilo.Definition) *Node {
	t.Helper()
	n := &Node{
		t: t, kinds: make(map[string]*wasilo.Definition), actors: make(map[abi.Identity]*activation),
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), rng: rand.New(rand.NewPCG(1, 2)),
	}
	d := abi.Description{Major: abi.Major, Minor: abi.Minor}
	for _, k := range kinds {
		n.kinds[k.Name()] = k
		d.Kinds = append(d.Kinds, k.Describe())
	}
	// A real node would refuse the module at deploy; better to learn of it here.
	if _, err := abi.DecodeDescription(abi.AppendDescription(nil, &d)); err != nil {
		t.Fatalf("wasilotest: a node would not load these kinds: %v", err)
	}
	t.Cleanup(n.end)
	return n
}

// end lets turns that still wait run out, their requests failing.
func (n *Node) end() {
	n.ending = true
	for _, p := range n.parked {
		p.stop()
	}
}

// Shuffle makes the order in which waiting messages and turns get on random by the seed. Messages to one actor keep
// their order.
func (n *Node) Shuffle(seed uint64) { n.order = rand.New(rand.NewPCG(seed, 0)) }

// Message is a message between actors as rules see it.
type Message struct {
	From, To abi.Identity // From is zero for messages from the test
	Method   string
	OneWay   bool
}

// Fault is what becomes of a message.
type Fault int

// The faults.
const (
	Deliver   Fault = iota
	Refuse          // nothing is done; a caller learns so at once (mailbox_full)
	Lose            // nothing is done; a caller times out
	LoseReply       // it is handled, and its caller times out
)

// Interfere has rules decide what becomes of each message between actors; nil delivers them all.
func (n *Node) Interfere(rules func(Message) Fault) { n.rules = rules }

// Now returns the virtual time, at first the start of 2026.
func (n *Node) Now() time.Time { return n.now }

// Logs returns what the actors have logged, a line each: "INFO counter/a: message key=value".
func (n *Node) Logs() []string { return slices.Clone(n.logs) }

// Active reports whether the actor is active.
func (n *Node) Active(id abi.Identity) bool { return n.actors[id] != nil && !n.actors[id].asleep }

// Run lets everything happen that needs no time to pass.
func (n *Node) Run() {
	for n.step() {
	}
}

// Advance lets d pass, with all that happens meanwhile.
func (n *Node) Advance(d time.Duration) {
	until := n.now.Add(d)
	for n.Run(); n.clock.due(until); n.Run() {
		n.tick()
	}
	n.now = until
}

// Passivate gives the actor its last turn, if its kind wants one, and ends the activation, whatever it still waits for.
// It fails the test if the actor is in a turn.
func (n *Node) Passivate(id abi.Identity, reason string) {
	n.t.Helper()
	n.Run()
	a := n.actors[id]
	if a == nil || a.asleep {
		return
	}
	if a.busy {
		n.t.Fatalf("wasilotest: %s cannot be passivated: it is in a turn", id)
	}
	if k := n.kinds[id.Kind()].Describe(); k.Handles(abi.EventPassivate) {
		n.begin(a, &message{tag: abi.EventPassivate, to: id, reason: reason})
		n.Run()
	}
	n.drop(a, abi.NewError(abi.ErrTrap, "the actor ended ("+reason+") before it gave its deferred reply"))
}

// Hibernate puts the actor to sleep as a node does when nobody uses it: no hook runs, and its next message finds it as it was. It
// fails the test if the actor's kind does not hibernate, or if it is in a turn, owes a reply, waits for one or has a timer: then no node
// would do so.
func (n *Node) Hibernate(id abi.Identity) {
	n.t.Helper()
	n.Run()
	a := n.actors[id]
	switch {
	case a == nil:
	case n.kinds[id.Kind()].Describe().State != abi.State{Keep: abi.KeepImage, Level: abi.LevelHibernating}:
		n.t.Fatalf("wasilotest: kind %s does not hibernate", id.Kind())
	case a.busy || len(a.deferred)+len(a.calls)+len(a.timers) > 0:
		n.t.Fatalf("wasilotest: %s is not idle: it is in a turn, owes %d replies, waits for %d, has %d timers", id, len(a.deferred),
			len(a.calls), len(a.timers))
	default:
		a.asleep = true
	}
}

// Crash ends the activation without a last turn.
func (n *Node) Crash(id abi.Identity) {
	n.t.Helper()
	if a := n.actors[id]; a != nil {
		if a.busy {
			n.t.Fatalf("wasilotest: %s cannot crash here: it is in a turn", id)
		}
		n.drop(a, abi.NewError(abi.ErrTrap, "the actor crashed"))
	}
}

// drop ends an activation; its callers get err.
func (n *Node) drop(a *activation, err *abi.Error) {
	if n.actors[a.id] == a {
		delete(n.actors, a.id)
	}
	a.gone = true
	for _, token := range sortedKeys(a.deferred) {
		a.deferred[token].answer(abi.Result{Err: err})
	}
	n.queue = slices.DeleteFunc(n.queue, func(m *message) bool { return m.of == a })
}

// step resumes one turn or begins one; false: nothing can happen now.
func (n *Node) step() bool {
	var can []func()
	for i, p := range n.parked {
		if p.ready() {
			can = append(can, func() {
				n.parked = slices.Delete(n.parked, i, i+1)
				n.resume(p)
			})
		}
	}
	seen := map[abi.Identity]bool{}
	for i, m := range n.queue {
		if seen[m.to] || n.actors[m.to] != nil && n.actors[m.to].busy {
			continue
		}
		seen[m.to] = true
		can = append(can, func() {
			n.queue = slices.Delete(n.queue, i, i+1)
			n.handle(m)
		})
	}
	if len(can) == 0 {
		return false
	}
	pick := 0
	if n.order != nil {
		pick = n.order.IntN(len(can))
	}
	can[pick]()
	return true
}

// tick lets time pass until the next thing is due.
func (n *Node) tick() {
	at, do := n.clock.pop()
	if at.After(n.now) {
		n.now = at
	}
	do()
}

// wait lets things happen, and time pass, until done.
func (n *Node) wait(done func() bool) {
	n.t.Helper()
	for !done() {
		if n.step() {
			continue
		}
		if n.clock.empty() {
			n.t.Fatalf("wasilotest: nothing can happen any more, and the outcome is not there")
		}
		n.tick()
	}
}

func (n *Node) log(level int32, id abi.Identity, msg string) {
	n.t.Helper()
	names := [...]string{"DEBUG", "INFO", "WARN", "ERROR"}
	line := fmt.Sprintf("%s %s: %s", names[min(max(level, 0), 3)], id, msg)
	n.logs = append(n.logs, line)
	n.t.Log(line)
}
