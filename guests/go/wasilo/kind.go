package wasilo

import (
	"context"
	"strings"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// None is the input of a method that takes nothing, and the result of one that only succeeds. It travels as {}.
type None struct{}

// Definition is a kind of actor: its name, its methods, and how its actors are made. It is built once by [Kind], then
// never changes, and may be shared.
type Definition struct {
	desc    abi.KindDescription
	state   func() any // a new *T
	methods []entry    // sorted by name
	timers  []entry    // sorted by name
}

// entry is one entry point of a kind. bind makes what one activation needs to run it; it gets the actor's *T.
type entry struct {
	desc abi.Method
	bind func(state any) turnFunc
}

// turnFunc decodes the input, runs the handler, and encodes its result, unless out is nil.
type turnFunc func(c *Context, in []byte, out *encoder) error

// Name returns the kind's name.
func (d *Definition) Name() string { return d.desc.Name }

// Doc sets the kind's description, shown by `wasilo kinds` and `wasilo inspect`, and returns d.
func (d *Definition) Doc(text string) *Definition {
	d.desc.Doc = text
	return d
}

// Hibernates says that idleness costs an actor of the kind no state, and returns d: the node keeps the memory of one that it
// passivates, and the next message finds the actor as it was, as if it had been there all the time. No hook runs for that, neither
// Passivate nor Activate. What ends the actor otherwise still does, with its state: a panic, the loss of its node, and so far another
// version of the module, or the node's leaving.
func (d *Definition) Hibernates() *Definition {
	d.desc.State = abi.State{Keep: abi.KeepImage, Level: abi.LevelHibernating}
	return d
}

// Describe returns what the module says of this kind to a host.
func (d *Definition) Describe() abi.KindDescription { return d.desc }

// Option is a part of a kind whose state is a T: a [Handler] or a [TimerHandler].
type Option[T any] interface{ apply(b *builder[T]) }

// builder collects what the options of a kind say. The type parameter is what keeps handlers of one state together.
type builder[T any] struct{ *Definition }

// Activator is implemented by states that prepare themselves: Activate runs before the first event, as part of its turn,
// with all that a turn may do. If it fails, so does that event, and the next one starts with a new state. What it asks
// for leaves with the first turn that may have effects: not with a read-only one.
type Activator interface{ Activate(ctx *Context) error }

// Passivator is implemented by states that want a last turn before the instance goes; [Context.Reason] says why it goes.
// It is no place to save anything: a node that crashes gives no last turn, and neither does one that hibernates the actor
// (see [Definition.Hibernates]).
type Passivator interface{ Passivate(ctx *Context) error }

// Kind defines a kind of actor from its name and handlers. The state of each actor is a T of its own, zero at
// activation. It panics on what only a change of the program can mend: an invalid or repeated name, a type that cannot
// travel, a hook of the wrong signature.
func Kind[T any](name string, options ...Option[T]) *Definition {
	d := &Definition{desc: abi.KindDescription{Name: name}, state: func() any { return new(T) }}
	d.desc.Events = []abi.EventTag{abi.EventCall, abi.EventMessage, abi.EventCompletion}
	if err := abi.CheckKind(name); err != nil {
		d.fail(err.Error())
	}
	for _, o := range options {
		o.apply(&builder[T]{d})
	}
	if len(d.timers) > 0 {
		d.desc.Events = append(d.desc.Events, abi.EventTimer)
	}
	if d.checkHooks((*T)(nil)) {
		d.desc.Events = append(d.desc.Events, abi.EventPassivate)
	}
	for _, m := range d.methods {
		d.desc.Methods = append(d.desc.Methods, m.desc)
	}
	return d
}

func (d *Definition) fail(reason string) { panic("wasilo: kind " + d.desc.Name + ": " + reason) }

// checkHooks refuses what is meant for a hook and is none, since it would silently never run, and reports whether there
// is one for passivation.
func (d *Definition) checkHooks(state any) (passivates bool) {
	switch state.(type) {
	case interface{ Activate() }, interface{ Activate() error }, interface{ Activate(*Context) },
		interface{ Activate(context.Context) }, interface{ Activate(context.Context) error }:
		d.fail("the hook is Activate(*wasilo.Context) error")
	}
	switch state.(type) {
	case interface{ Passivate() }, interface{ Passivate() error }, interface{ Passivate(*Context) },
		interface{ Passivate(context.Context) }, interface{ Passivate(context.Context) error }:
		d.fail("the hook is Passivate(*wasilo.Context) error")
	}
	_, passivates = state.(Passivator)
	return passivates
}

// insert adds m to a list sorted by name; false: the name is taken.
func insert(list []entry, m entry) ([]entry, bool) {
	at := 0
	for at < len(list) && list[at].desc.Name < m.desc.Name {
		at++
	}
	if at < len(list) && list[at].desc.Name == m.desc.Name {
		return list, false
	}
	list = append(list, entry{})
	copy(list[at+1:], list[at:])
	list[at] = m
	return list, true
}

// actor is the state of one activation with its handlers.
type actor struct {
	kind    *Definition
	state   any
	hook    Activator // the state, nil if it has no such hook
	methods []handler
	timers  []handler
}

// handler is an entry bound to the state at its first use.
type handler struct {
	*entry
	state any
	bound turnFunc
}

func (d *Definition) create() *actor {
	a := &actor{kind: d, state: d.state(), methods: make([]handler, len(d.methods)), timers: make([]handler, len(d.timers))}
	a.hook, _ = a.state.(Activator)
	for i := range d.methods {
		a.methods[i] = handler{entry: &d.methods[i], state: a.state}
	}
	for i := range d.timers {
		a.timers[i] = handler{entry: &d.timers[i], state: a.state}
	}
	return a
}

// bind binds the handlers of all methods, for an actor whose first message is still to come.
func (a *actor) bind() {
	for i := range a.methods {
		h := &a.methods[i]
		h.bound = h.bind(h.state)
	}
}

func (a *actor) activate(c *Context) error {
	if a.hook != nil {
		return a.hook.Activate(c)
	}
	return nil
}

func (a *actor) passivate(c *Context) error {
	if hook, ok := a.state.(Passivator); ok {
		return hook.Passivate(c)
	}
	return nil
}

// method finds a handler by name, nil if there is none.
func (a *actor) method(name string) *handler {
	if at := find(a.kind.methods, name); at >= 0 {
		return &a.methods[at]
	}
	return nil
}

// timer is method for timers.
func (a *actor) timer(name string) *handler {
	if at := find(a.kind.timers, name); at >= 0 {
		return &a.timers[at]
	}
	return nil
}

// find finds an entry by name, -1 if there is none.
func find[S string | []byte](list []entry, name S) int {
	lo, hi := 0, len(list)
	for lo < hi {
		mid := (lo + hi) / 2
		switch at := list[mid].desc.Name; {
		case at == string(name):
			return mid
		case at < string(name):
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return -1
}

func (h *handler) run(c *Context, in []byte, out *encoder) error {
	if h.bound == nil {
		h.bound = h.bind(h.state)
	}
	return h.bound(c, in, out)
}

// Handler is a method of a kind, and the typed way to call it from other actors (see [Handler.Call]). Keep it in a variable
// for that. Handlers of the same kind that use one another this way can make Go complain of an initialization cycle;
// the functions, which take names, cannot.
type Handler[T, In, Out any] struct {
	name, kind string
	doc        string
	readOnly   bool
	fn         func(*T, *Context, In) (Out, error)
}

// Method makes fn a method of the kind. Names are 1 to 127 of A-Z, a-z, 0-9, '_', '.' and '-'. doc is shown to people.
//
// fn runs as a turn: alone, to its end. When it returns an error the caller gets that, and the messages and timers it
// asked for are dropped, all of them; what it changed in its state stays changed. When it panics the actor is discarded.
func Method[T, In, Out any](name string, fn func(*T, *Context, In) (Out, error), doc ...string) *Handler[T, In, Out] {
	return &Handler[T, In, Out]{name: name, fn: fn, doc: strings.Join(doc, "\n")}
}

// ReadOnly is [Method] for one that only looks: whoever runs it may rely on that. It may request, but not tell, set
// timers, or defer its reply.
func ReadOnly[T, In, Out any](name string, fn func(*T, *Context, In) (Out, error), doc ...string) *Handler[T, In, Out] {
	h := Method(name, fn, doc...)
	h.readOnly = true
	return h
}

func (h *Handler[T, In, Out]) apply(b *builder[T]) {
	d := b.Definition
	if h.kind != "" && h.kind != d.Name() {
		d.fail("method " + h.name + " belongs to kind " + h.kind)
	}
	h.kind = d.Name()
	in, out := mustCodec[In](d, "method "+h.name), mustCodec[Out](d, "method "+h.name)
	d.addMethod(entry{
		desc: abi.Method{Name: h.name, Doc: h.doc, ReadOnly: h.readOnly, Params: in.schema, Result: out.schema},
		bind: func(state any) turnFunc {
			t := state.(*T)
			// One input and one result serve every turn: nothing is allocated for them. The handler gets a copy.
			var arg In
			var res Out
			return func(c *Context, payload []byte, e *encoder) error {
				var noIn In
				var noOut Out
				err := c.inst.dec.run(in, payload, unsafe.Pointer(&arg))
				given := arg
				arg = noIn
				if err != nil {
					return err
				}
				res, err = h.fn(t, c, given)
				if err == nil && e != nil && c.deferred == nil {
					if out.enc(e, unsafe.Pointer(&res)); e.err != nil {
						err = abi.NewActorError("unencodable_result", "the result of method "+h.name+": "+e.err.Error())
					}
				}
				res = noOut
				return err
			}
		},
	})
}

func (d *Definition) addMethod(m entry) {
	if !abi.ValidMethod(m.desc.Name) {
		d.fail("method " + m.desc.Name + ": a method name is 1 to 127 of A-Z, a-z, 0-9, '_', '.' and '-'")
	}
	var ok bool
	if d.methods, ok = insert(d.methods, m); !ok {
		d.fail("method " + m.desc.Name + " is given twice")
	}
}

func mustCodec[T any](d *Definition, where string) *codec {
	c, err := codecOf[T]()
	if err != nil {
		d.fail(where + ": " + err.Error())
	}
	return c
}

// TimerHandler runs when a timer of its name is due, and sets such timers: see [TimerHandler.After].
type TimerHandler[T, In any] struct {
	name string
	fn   func(*T, *Context, In) error
}

// Timer makes fn the handler of the timers of a name, which [After] and [Every] set. In is their payload.
func Timer[T, In any](name string, fn func(*T, *Context, In) error) *TimerHandler[T, In] {
	return &TimerHandler[T, In]{name: name, fn: fn}
}

func (h *TimerHandler[T, In]) apply(b *builder[T]) {
	in := mustCodec[In](b.Definition, "timer "+h.name)
	b.addTimer(entry{
		desc: abi.Method{Name: h.name},
		bind: func(state any) turnFunc {
			t := state.(*T)
			return func(c *Context, payload []byte, _ *encoder) error {
				var arg In
				if err := c.inst.dec.run(in, payload, unsafe.Pointer(&arg)); err != nil {
					return err
				}
				return h.fn(t, c, arg)
			}
		},
	})
}

func (d *Definition) addTimer(m entry) {
	if name := m.desc.Name; name == "" || len(name) > abi.MaxTimerNameLen || strings.Contains(name, ":") {
		d.fail("timer " + name + ": a timer's name has 1 to 127 bytes and no colon")
	}
	var ok bool
	if d.timers, ok = insert(d.timers, m); !ok {
		d.fail("timer " + m.desc.Name + " is given twice")
	}
}
