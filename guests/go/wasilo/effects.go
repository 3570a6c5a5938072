package wasilo

import (
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// What a handler asks for here takes effect when its turn has succeeded: all of it, in order, or nothing if the handler
// returns an error.

// Tell sends a message to another actor's method without waiting and without ever hearing of the outcome. Messages from
// one actor to another keep their order.
func Tell[In any](ctx *Context, to Identity, method string, in In, options ...CallOption) error {
	e := abi.Effect{Tag: abi.EffectTell}
	return address(ctx, &e, to, method, reflect.TypeFor[In](), unsafe.Pointer(&in), options)
}

// Then sends a request without waiting: this turn goes on and ends, other messages are handled meanwhile, and done runs
// in a turn of its own when the outcome is there, an error of code timeout at the latest. Whatever happened in between,
// done sees the actor's state as it is then. It is a closure in this instance's memory: if the actor is discarded before,
// nobody runs it.
func Then[Out, In any](ctx *Context, to Identity, method string, in In, done func(ctx *Context, out Out, err error), options ...CallOption) error {
	oc, err := codecOf[Out]()
	if err != nil {
		return err
	}
	inst := ctx.inst
	e := abi.Effect{Tag: abi.EffectCall, Handle: inst.nextHandle + 1}
	if err := address(ctx, &e, to, method, reflect.TypeFor[In](), unsafe.Pointer(&in), options); err != nil {
		return err
	}
	inst.nextHandle++
	if inst.completions == nil {
		inst.completions = make(map[uint64]func(*Context, *abi.Event))
	}
	inst.completions[e.Handle] = func(ctx *Context, ev *abi.Event) {
		var out Out
		if ev.Err != nil {
			done(ctx, out, ev.Err)
			return
		}
		err := decodeReply(ctx.inst, oc, ev.Payload, unsafe.Pointer(&out), to, method)
		done(ctx, out, err)
	}
	return nil
}

// address completes a tell or call and queues it.
func address(ctx *Context, e *abi.Effect, to Identity, method string, t reflect.Type, in unsafe.Pointer, options []CallOption) error {
	if err := ctx.mayAct("send " + method); err != nil {
		return err
	}
	if err := checkTarget(to, method); err != nil {
		return err
	}
	var err error
	if e.Payload, err = ctx.inst.encode(t, in); err != nil {
		return err
	}
	o := merge(options)
	e.Target, e.Method, e.Timeout, e.Flags, e.IdempotencyKey = to, method, o.timeout, o.flags, o.key
	ctx.inst.effect(e)
	return nil
}

// After sets a timer: its handler runs once, in a turn of its own, when d has passed, with in as its payload. The name
// is that of a handler of the kind (see [Timer]), optionally followed by a colon and whatever tells it from others of
// the same handler: "expire:alice". A timer of the same full name is replaced. Timers live as long as the activation.
func After[In any](ctx *Context, name string, d time.Duration, in In) error {
	return remind(ctx, name, d, 0, reflect.TypeFor[In](), unsafe.Pointer(&in))
}

// Every is [After] for a timer that runs every d until it is cancelled. Ticks that the actor is too busy for are
// skipped, not piled up.
func Every[In any](ctx *Context, name string, d time.Duration, in In) error {
	if d <= 0 {
		return abi.NewError(abi.ErrInvalidArgument, "a repeating timer needs an interval above 0")
	}
	return remind(ctx, name, d, d, reflect.TypeFor[In](), unsafe.Pointer(&in))
}

// After sets the timer; see the function [After].
func (h *TimerHandler[T, In]) After(ctx *Context, d time.Duration, in In) error {
	return After(ctx, h.name, d, in)
}

// Every sets the timer; see the function [Every].
func (h *TimerHandler[T, In]) Every(ctx *Context, d time.Duration, in In) error {
	return Every(ctx, h.name, d, in)
}

func remind(ctx *Context, name string, after, every time.Duration, t reflect.Type, in unsafe.Pointer) error {
	if err := ctx.mayAct("set timer " + name); err != nil {
		return err
	}
	base, _, _ := strings.Cut(name, ":")
	if len(name) > abi.MaxTimerNameLen {
		return abi.NewError(abi.ErrInvalidArgument, "a timer's name has 1 to 127 bytes")
	}
	if ctx.inst.actor.timer(base) == nil {
		return abi.NewError(abi.ErrInvalidArgument, "kind "+ctx.Self().Kind()+" has no handler for timer "+strconv.Quote(base))
	}
	payload, err := ctx.inst.encode(t, in)
	if err != nil {
		return err
	}
	ctx.inst.effect(&abi.Effect{Tag: abi.EffectRemind, Name: name, After: after, Every: every, Payload: payload})
	return nil
}

// Deferred is a reply that a handler took away to give later, in this turn or any other.
type Deferred[Out any] struct{ p *pendingReply }

type pendingReply struct {
	inst  *Instance
	token uint64 // 0: nobody waits
	done  bool
}

// Defer takes the reply of the running call away: what the handler returns is not sent, unless it is an error. The
// caller waits until [Deferred.Reply] or [Deferred.Fail], or its own deadline, after which an answer goes nowhere.
// Meanwhile the actor takes other messages. Out must be the result type of the method. In a read-only method, and
// in Activate, it fails the turn; where nobody waits for a reply it does nothing.
func Defer[Out any](ctx *Context) *Deferred[Out] {
	err := ctx.mayAct("defer the reply")
	if err == nil && ctx.inst.ev.Tag == abi.EventCall && !ctx.method {
		err = abi.NewError(abi.ErrUnsupported, "cannot defer the reply: a hook answers nobody")
	}
	if err != nil {
		ctx.failure = err
		return &Deferred[Out]{&pendingReply{inst: ctx.inst, done: true}}
	}
	if ctx.deferred == nil {
		ctx.deferred = &pendingReply{inst: ctx.inst, token: ctx.inst.ev.Token}
	}
	return &Deferred[Out]{ctx.deferred}
}

// Reply answers the call with out. It takes effect with the turn of ctx. An error says that out cannot travel, that
// the call was answered before, or that the turn may have no effects.
func (d *Deferred[Out]) Reply(ctx *Context, out Out) error {
	if err := d.p.open(ctx); err != nil {
		return err
	}
	payload, err := ctx.inst.encode(reflect.TypeFor[Out](), unsafe.Pointer(&out))
	if err != nil {
		return err
	}
	d.p.answer(&abi.Effect{Tag: abi.EffectReply, Token: d.p.token, Payload: payload})
	return nil
}

// Fail answers the call with err, as if the handler had returned it. Otherwise it is like [Deferred.Reply].
func (d *Deferred[Out]) Fail(ctx *Context, err error) error {
	if e := d.p.open(ctx); e != nil {
		return e
	}
	if err == nil {
		return abi.NewError(abi.ErrInvalidArgument, "a call cannot fail without an error")
	}
	d.p.answer(&abi.Effect{Tag: abi.EffectReply, Token: d.p.token, Err: wireError(err)})
	return nil
}

// open refuses a second answer.
func (p *pendingReply) open(ctx *Context) error {
	if err := ctx.mayAct("reply"); err != nil {
		return err
	}
	if p.done {
		return abi.NewError(abi.ErrInvalidArgument, "the call was answered before")
	}
	return nil
}

func (p *pendingReply) answer(e *abi.Effect) {
	p.done = true
	p.inst.answered = append(p.inst.answered, p)
	if p.token != 0 {
		p.inst.effect(e)
	}
}

// encode writes the value at p, of type t, into a buffer of the instance, valid until the next call of it.
func (i *Instance) encode(t reflect.Type, p unsafe.Pointer) ([]byte, error) {
	c, err := codecFor(t)
	if err != nil {
		return nil, abi.NewError(abi.ErrInvalidArgument, err.Error())
	}
	i.arg = encoder{b: i.arg.b[:0]}
	if c.enc(&i.arg, p); i.arg.err != nil {
		return nil, abi.NewError(abi.ErrInvalidArgument, i.arg.err.Error())
	}
	return i.arg.b, nil
}
