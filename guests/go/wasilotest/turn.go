package wasilotest

import (
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// message is what waits for an actor's turn.
type message struct {
	tag      abi.EventTag
	to       abi.Identity
	of       *activation // completions and timers are of one activation only
	method   string
	payload  []byte
	flags    abi.Flags
	key      string
	caller   abi.Identity
	chain    []abi.Identity // whose turns cannot end before the answer
	deadline time.Time      // zero: none
	outcome  func(abi.Result)
	err      *abi.Error
	handle   uint64
	name     string
	gen      int
	reason   string
}

// answer gives a call its outcome, the first time.
func (m *message) answer(r abi.Result) {
	if m.outcome != nil {
		outcome := m.outcome
		m.outcome = nil
		outcome(r)
	}
}

// activation is one actor.
type activation struct {
	id       abi.Identity
	epoch    abi.Epoch
	inst     *wasilo.Instance
	host     *host
	told     bool
	asleep   bool
	busy     bool // in a turn, or waiting within one
	gone     bool
	token    uint64
	reason   string
	deferred map[uint64]*message
	calls    map[uint64]*message
	timers   map[string]*timer
	gen      int
}

type timer struct {
	gen     int
	every   time.Duration
	payload []byte
}

// turn is a turn under way. It runs as a coroutine, which gives way while it waits.
type turn struct {
	a      *activation
	m      *message
	token  uint64
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	ready  func() bool // while parked
	output []byte
	panic  string    // what a handler panicked with
	ended  time.Time // the deadline
}

// send puts a message into its target's mailbox, as far as the rules let it.
func (n *Node) send(m *message) {
	fault := Deliver
	if n.rules != nil && !m.caller.IsZero() {
		fault = n.rules(Message{From: m.caller, To: m.to, Method: m.method, OneWay: m.tag == abi.EventMessage})
	}
	refuse := func(code abi.Code, why string) { m.answer(abi.Result{Err: abi.NewError(code, why)}) }
	if m.tag == abi.EventCall {
		n.open = append(n.open, m)
		outcome := m.outcome
		m.outcome = func(r abi.Result) {
			n.open = slices.DeleteFunc(n.open, func(o *message) bool { return o == m })
			outcome(r)
		}
		n.clock.set(m.deadline, func() {
			refuse(abi.ErrTimeout, "the deadline passed before the reply; the outcome is unknown")
		})
	}
	kind := n.kinds[m.to.Kind()]
	switch {
	case kind == nil:
		refuse(abi.ErrUnknownKind, "no module serves kind "+m.to.Kind())
		return
	case fault == Refuse:
		refuse(abi.ErrMailboxFull, "refused by the test's rules")
		return
	case fault == Lose:
		return
	}
	desc := kind.Describe()
	if _, ok := desc.Method(m.method); !ok {
		refuse(abi.ErrUnknownMethod, "kind "+m.to.Kind()+" has no method "+m.method)
		return
	}
	if m.flags&(abi.OnlyIfActive|abi.MustExist) != 0 && !n.Active(m.to) && (n.actors[m.to] == nil || m.flags&abi.OnlyIfActive != 0) {
		refuse(abi.ErrNotActive, m.to.Key()+" is not active")
		return
	}
	if cycle := n.cycle(m); cycle != "" {
		refuse(abi.ErrDeadlock, cycle)
		return
	}
	if fault == LoseReply && m.tag == abi.EventCall {
		lost := *m
		lost.outcome = func(abi.Result) {}
		n.queue = append(n.queue, &lost)
		return
	}
	n.queue = append(n.queue, m)
}

// cycle returns the circle that m would close, "" if none: its target is in its chain, or waits for a member of it.
func (n *Node) cycle(m *message) string {
	if m.tag != abi.EventCall || len(m.chain) == 0 {
		return ""
	}
	if i := slices.Index(m.chain, m.to); i >= 0 {
		return arrows(append(slices.Clone(m.chain[i:]), m.to))
	}
	from := map[abi.Identity]abi.Identity{m.to: {}}
	for todo := []abi.Identity{m.to}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		if slices.Contains(m.chain, at) {
			path := []abi.Identity{m.to}
			for id := at; !id.IsZero(); id = from[id] {
				path = append(path, id)
			}
			slices.Reverse(path)
			return arrows(path)
		}
		for _, o := range n.open {
			if _, seen := from[o.to]; o != m && !seen && slices.Contains(o.chain, at) {
				from[o.to] = at
				todo = append(todo, o.to)
			}
		}
	}
	return ""
}

func arrows(ids []abi.Identity) string {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = id.Key()
	}
	return strings.Join(keys, "→")
}

// handle begins the turn of a message, activating its actor if need be.
func (n *Node) handle(m *message) {
	if !m.deadline.IsZero() && !m.deadline.After(n.now) {
		return // its caller was told
	}
	a := n.actors[m.to]
	if a == nil {
		n.epoch++
		a = &activation{id: m.to, epoch: abi.Epoch{Index: n.epoch}, reason: m.tag.String(),
			deferred: make(map[uint64]*message), calls: make(map[uint64]*message), timers: make(map[string]*timer)}
		a.host = &host{n: n, a: a}
		a.inst = wasilo.NewInstance(a.host, n.kinds[m.to.Kind()])
		n.actors[m.to] = a
	}
	if a.asleep {
		n.epoch++
		a.asleep, a.told, a.epoch, a.reason = false, false, abi.Epoch{Index: n.epoch}, "wake"
	}
	if m.tag == abi.EventTimer {
		t := a.timers[m.name]
		if t == nil || t.gen != m.gen {
			return // replaced or cancelled while it waited
		}
		if t.every == 0 {
			delete(a.timers, m.name)
		} else {
			n.arm(a, m.name, t, n.now.Add(t.every))
		}
	}
	n.begin(a, m)
}

func (n *Node) begin(a *activation, m *message) {
	ev := abi.Event{Tag: m.tag, Method: m.method, Payload: m.payload, Handle: m.handle, Err: m.err, Timer: m.name,
		Flags: m.flags, Caller: m.caller, IdempotencyKey: m.key, Reason: m.reason, Remaining: abi.DefaultTurn}
	t := &turn{a: a, m: m, ended: n.now.Add(abi.DefaultTurn)}
	if m.tag == abi.EventCall {
		a.token++
		ev.Token, t.token = a.token, a.token
	}
	if ev.Payload == nil && m.err == nil && m.tag != abi.EventPassivate {
		ev.Payload = []byte{}
	}
	if !a.told {
		a.told = true
		ev.Self = &abi.Self{Identity: a.id, Epoch: a.epoch, Reason: a.reason}
	}
	if left := m.deadline.Sub(n.now); !m.deadline.IsZero() && left < ev.Remaining {
		ev.Remaining = left
	}
	event := abi.AppendEvent(nil, &ev)
	a.busy, a.host.turn = true, t
	a.host.begin()
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			if p := recover(); p != nil {
				t.panic = fmt.Sprint("panic: ", p)
				n.log(3, a.id, t.panic+"\n"+string(debug.Stack()))
			}
		}()
		t.yield = yield
		t.output = slices.Clone(a.inst.Turn(event))
	})
	n.resume(t)
}

// resume runs a turn until it ends or waits.
func (n *Node) resume(t *turn) {
	if _, waits := t.next(); waits {
		n.parked = append(n.parked, t)
		return
	}
	a := t.a
	a.busy, a.host.turn = false, nil
	if broke := n.finish(t); broke != nil {
		t.m.answer(abi.Result{Err: broke})
		n.drop(a, broke)
	}
}

// finish applies the output of a turn. An error says that the actor must go.
func (n *Node) finish(t *turn) *abi.Error {
	a, m := t.a, t.m
	if t.panic != "" {
		return abi.NewError(abi.ErrTrap, t.panic)
	}
	var out abi.Output
	if err := abi.DecodeOutput(t.output, &out); err != nil {
		return abi.NewError(abi.ErrTrap, "malformed output: "+err.Error())
	}
	switch out.Kind {
	case abi.OutReply:
		m.answer(abi.Result{Payload: out.Payload})
		return nil
	case abi.OutError:
		if m.tag != abi.EventCall {
			n.log(2, a.id, "an error where nobody waits: "+out.Err.Error())
		}
		m.answer(abi.Result{Err: actorError(out.Err)})
		return nil
	}
	return n.apply(t, out.Effects)
}

func (n *Node) apply(t *turn, effects []abi.Effect) *abi.Error {
	a, m := t.a, t.m
	desc := n.kinds[a.id.Kind()].Describe()
	method, ok := desc.Method(m.method)
	readOnly := ok && method.ReadOnly && m.tag == abi.EventCall
	answered := m.tag != abi.EventCall
	for _, e := range effects {
		mine := e.Tag == abi.EffectReply && e.Token == t.token
		if readOnly && !mine {
			return abi.NewError(abi.ErrTrap, "a read-only turn may only answer its own call")
		}
		answered = answered || mine
	}
	if !answered {
		token := t.token
		a.deferred[token] = m
		outcome := m.outcome
		m.outcome = func(r abi.Result) {
			delete(a.deferred, token)
			if outcome != nil {
				outcome(r)
			}
		}
	}
	for _, e := range effects {
		switch e.Tag {
		case abi.EffectReply:
			r := abi.Result{Payload: e.Payload}
			if e.Err != nil {
				r = abi.Result{Err: actorError(e.Err)}
			}
			if e.Token == t.token {
				m.answer(r)
			} else if d := a.deferred[e.Token]; d != nil {
				d.answer(r)
			}
		case abi.EffectTell:
			n.send(&message{tag: abi.EventMessage, to: e.Target, method: e.Method, payload: e.Payload, flags: e.Flags | abi.OneWay,
				key: e.IdempotencyKey, caller: a.id})
		case abi.EffectCall:
			n.callEffect(a, m, e, answered)
		case abi.EffectRemind:
			a.gen++
			tm := &timer{gen: a.gen, every: e.Every, payload: e.Payload}
			a.timers[e.Name] = tm
			n.arm(a, e.Name, tm, n.now.Add(e.After))
		case abi.EffectCancel:
			delete(a.timers, e.Name)
		}
	}
	return nil
}

func (n *Node) callEffect(a *activation, m *message, e abi.Effect, answered bool) {
	timeout := e.Timeout
	if timeout <= 0 {
		timeout = abi.DefaultRequest
	}
	out := &message{tag: abi.EventCall, to: e.Target, method: e.Method, payload: e.Payload, flags: e.Flags,
		key: e.IdempotencyKey, caller: a.id, deadline: n.now.Add(timeout)}
	if !answered {
		out.chain = m.chain
	}
	out.outcome = func(r abi.Result) {
		delete(a.calls, e.Handle)
		if !a.gone {
			n.queue = append(n.queue, &message{tag: abi.EventCompletion, to: a.id, of: a, method: e.Method, handle: e.Handle,
				payload: r.Payload, err: r.Err})
		}
	}
	a.calls[e.Handle] = out
	n.send(out)
}

// arm sets the alarm of a timer.
func (n *Node) arm(a *activation, name string, t *timer, at time.Time) {
	n.clock.set(at, func() {
		if !a.gone && a.timers[name] == t {
			n.queue = append(n.queue, &message{tag: abi.EventTimer, to: a.id, of: a, name: name, gen: t.gen, payload: t.payload})
		}
	})
}

// actorError is an error as a node passes it on: a guest may use a few codes, any other is its own error.
func actorError(e *abi.Error) *abi.Error {
	switch e.Code {
	case abi.ErrActor, abi.ErrUnknownMethod, abi.ErrInvalidArgument, abi.ErrUnsupported, abi.ErrDenied, abi.ErrPayloadTooLarge,
		abi.ErrDeadlock, abi.ErrTimeout:
		return e
	}
	out := *e
	if out.App == "" {
		out.App = e.Code.String()
	}
	out.Code = abi.ErrActor
	return &out
}
