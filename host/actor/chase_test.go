package actor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// picture is waits told by hand.
type picture struct {
	w    *world
	here map[abi.Identity]bool
}

func newPicture(t *testing.T, here string) *picture {
	p := &picture{w: newWorld(t), here: map[abi.Identity]bool{}}
	for _, name := range strings.Fields(here) {
		p.here[p.w.id(name)] = true
	}
	return p
}

// env is a message of caller to target on behalf of the chain.
func (p *picture) env(chain, caller, target string) *abi.Envelope {
	e := &abi.Envelope{Caller: p.w.id(caller), Target: p.w.id(target)}
	for _, name := range strings.Fields(chain) {
		e.Chain = append(e.Chain, p.w.id(name))
	}
	return e
}

func (p *picture) queued(t *testing.T, chain, caller, target string) *edge {
	e, cycle := p.w.waits.add(p.env(chain, caller, target), p.w.id(target))
	if cycle != nil {
		t.Fatalf("a cycle: %v", cycle)
	}
	t.Cleanup(e.drop)
	return e
}

func (p *picture) left(t *testing.T, chain, caller, target, node string) (over func()) {
	over = p.w.waits.Leaving(p.env(chain, caller, target), node)
	t.Cleanup(over)
	return over
}

func (p *picture) walk() *Walk {
	return p.w.waits.NewWalk(func(id abi.Identity) bool { return p.here[id] }, 100)
}

func (k *Walk) text() string {
	var steps []string
	for _, s := range k.Steps {
		to := s.Target.ID()
		if s.Node != "" {
			to += "@" + s.Node
		}
		steps = append(steps, s.From.ID()+">"+to)
	}
	slices.Sort(steps)
	return strings.Join(steps, " ")
}

func TestAWalkGoesAlongTheNodesOwnWaits(t *testing.T) {
	p := newPicture(t, "a b c d")
	p.queued(t, "a", "a", "b")
	p.left(t, "a b", "b", "x", "n2")       // b's message: b ran it while it was not in a's turn
	p.left(t, "c d", "d", "y", "n3")       // d ran inside c's turn
	p.queued(t, "a", "a", "c")             // a waits for two
	p.queued(t, "x a", "x", "d")           // came from x's node, and tells of a what its own node knows better
	p.left(t, "a x d", "d", "z", "n4")     // so does this: a's request went by x
	p.left(t, "elsewhere", "x", "w", "n5") // nobody's here
	p.queued(t, "elsewhere", "elsewhere", "a")
	k := p.walk()
	k.From(p.w.id("a"))
	if got := k.text(); got != "a>b a>c a>x@n2 b>x@n2 c>y@n3" {
		t.Errorf("%s", got)
	}
	k = p.walk()
	k.From(p.w.id("d"))
	if got := k.text(); got != "d>y@n3 d>z@n4" {
		t.Errorf("%s", got)
	}
	k = p.walk()
	k.From(p.w.id("elsewhere"))
	if got := k.text(); got != "" {
		t.Errorf("%s", got)
	}
	k = p.w.waits.NewWalk(func(id abi.Identity) bool { return p.here[id] }, 2)
	if k.From(p.w.id("a")); len(k.Steps) != 2 || !k.Cut {
		t.Errorf("%s, cut %v", k.text(), k.Cut)
	}
}

func TestAWalkFromAMessage(t *testing.T) {
	p := newPicture(t, "b c")
	e := p.queued(t, "x a", "a", "b")
	p.left(t, "x a b", "b", "y", "n3")
	p.left(t, "a", "b", "z", "n4") // on behalf of a, to which b owes a reply
	p.queued(t, "q", "b", "c")     // of another
	wait := Wait{Caller: p.w.id("a"), Waiter: p.w.id("a"), Target: p.w.id("b")}
	k := p.walk()
	if edge := k.Arrived(wait); edge != e.id || edge == 0 {
		t.Errorf("the edge %d, want %d", edge, e.id)
	}
	if got := k.text(); got != "a>z@n4 b>y@n3" {
		t.Errorf("%s", got)
	}
	if !p.w.waits.Holds(p.w.id("x"), e.id) || p.w.waits.Holds(p.w.id("y"), e.id) {
		t.Error("who waits by the message")
	}
	e.drop()
	k = p.walk()
	if edge := k.Arrived(wait); edge != 0 || len(k.Steps) != 0 {
		t.Errorf("a message that was answered: %d, %s", edge, k.text())
	}
	again := p.queued(t, "x a", "a", "b")
	if again.id == e.id || p.w.waits.Holds(p.w.id("a"), e.id) {
		t.Error("a wait that began again is taken for the one that ended")
	}
}

func TestWhoIsSuspected(t *testing.T) {
	p := newPicture(t, "a b c")
	w := p.w.waits
	p.left(t, "a", "a", "x", "n2")
	p.queued(t, "b", "b", "a")
	if ids := w.TakeSuspects(); len(ids) != 0 {
		t.Errorf("%v, and nobody looks", ids)
	}
	noticed := w.Suspects()
	p.queued(t, "c", "c", "b") // b waits for a, and a for another node
	p.queued(t, "y", "y", "b")
	p.queued(t, "y", "y", "z") // z waits for nobody
	<-noticed
	if ids := w.TakeSuspects(); len(ids) != 1 || ids[0] != p.w.id("b") {
		t.Errorf("%v, want b", ids)
	}
	select {
	case <-noticed:
		t.Error("there is nothing new")
	default:
	}
	if w.away != 1 {
		t.Errorf("%d messages are away, want 1", w.away)
	}
}

// Nothing is suspected where no message went to another node, so a node alone does not look.
func TestWaitsOfOneNodeAreNotSuspected(t *testing.T) {
	p := newPicture(t, "a b c")
	p.w.waits.Suspects()
	p.left(t, "a", "a", "x", "n2")()
	p.queued(t, "a", "a", "b")
	p.queued(t, "c", "c", "a")
	if ids := p.w.waits.TakeSuspects(); len(ids) != 0 {
		t.Errorf("%v", ids)
	}
}

func TestACallThatIsToldOfADeadlock(t *testing.T) {
	w := newWorld(t)
	gate, inside := make(chan struct{}), make(chan struct{})
	var order []string
	w.define("a", func(h *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "block" {
			close(inside)
			<-gate
		}
		order = append(order, string(ev.Payload))
		return reply(out, "")
	})
	blocked := w.ask("a", "block")
	<-inside
	type told struct {
		name string
		err  error
	}
	ended := make(chan told, 10)
	for _, name := range strings.Split("bcdefghijk", "") { // more than the mailbox's first ring
		env := w.env("a", "m", name, time.Minute)
		env.Caller, env.Chain = w.id(name), []abi.Identity{w.id(name)}
		if err := w.Post(env, func(_ []byte, err error) { ended <- told{name, err} }); err != nil {
			t.Fatal(err)
		}
	}
	a := w.at(w.id("a"))
	calls := a.Queued()
	if len(calls) != 10 || calls[3].Caller != w.id("e") || calls[3].Waiter != w.id("e") || calls[3].Target != w.id("a") {
		t.Fatalf("%+v", calls)
	}
	for _, i := range []int{3, 9, 0} {
		if !a.Deadlocked(calls[i].Edge, []abi.Identity{w.id("a"), calls[i].Caller, w.id("a")}) {
			t.Errorf("call %d was not there", i)
		}
		if a.Deadlocked(calls[i].Edge, nil) {
			t.Errorf("call %d was told twice", i)
		}
		got := <-ended
		wantCode(t, got.err, abi.ErrDeadlock)
		if name := calls[i].Caller.ID(); got.name != name || !strings.Contains(got.err.Error(), "k/a→k/"+name+"→k/a") {
			t.Errorf("%+v", got)
		}
	}
	if n := w.count.Deadlocks.Load(); n != 3 {
		t.Errorf("%d deadlocks are counted", n)
	}
	close(gate)
	<-blocked
	for range 7 {
		if got := <-ended; got.err != nil {
			t.Errorf("%+v", got)
		}
	}
	if got := strings.Join(order, ""); got != "cdfghij" {
		t.Errorf("the order of the others: %s", got)
	}
}
