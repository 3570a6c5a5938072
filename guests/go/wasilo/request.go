package wasilo

import (
	"encoding/binary"
	"reflect"
	"strconv"
	"time"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// CallOption qualifies a request or message; several add up.
type CallOption struct {
	timeout time.Duration
	flags   abi.Flags
	key     string
}

// Timeout bounds the wait for the reply, in milliseconds rounded up. A request never outlasts the turn that waits for
// it; without this option the node's default applies.
func Timeout(d time.Duration) CallOption { return CallOption{timeout: d} }

// OnlyIfActive asks not to activate the target: if it is not active the request fails with code not_active.
func OnlyIfActive() CallOption { return CallOption{flags: abi.OnlyIfActive} }

// MustExist asks not to create the target: if it has no stored state the request fails with code not_active.
func MustExist() CallOption { return CallOption{flags: abi.MustExist} }

// IdempotencyKey names a request, in at most 255 bytes: whoever repeats it repeats the key, so that the target, which sees
// it as [Context.IdempotencyKey], can tell.
func IdempotencyKey(key string) CallOption { return CallOption{key: key} }

// Idempotent says that the target can take the request twice: the node may send it again when its outcome is unknown.
func Idempotent() CallOption { return CallOption{flags: abi.Idempotent} }

func merge(options []CallOption) (all CallOption) {
	for _, o := range options {
		if o.timeout != 0 {
			all.timeout = o.timeout
		}
		if o.key != "" {
			all.key = o.key
		}
		all.flags |= o.flags
	}
	return all
}

// Call asks another actor and waits for its reply; this turn, and with it this actor, waits too. An error is an
// [*Error]: what the other actor answered, or the node's, such as deadlock if the other one waits for this actor
// already. Where several actors call each other in circles, [Then] is the way.
func Call[Out, In any](ctx *Context, to Identity, method string, in In, options ...CallOption) (Out, error) {
	var out Out
	err := call(ctx, to, method, reflect.TypeFor[In](), unsafe.Pointer(&in), reflect.TypeFor[Out](), unsafe.Pointer(&out), options)
	return out, err
}

func call(ctx *Context, to Identity, method string, t reflect.Type, in unsafe.Pointer, ot reflect.Type, out unsafe.Pointer, options []CallOption) error {
	oc, err := codecFor(ot)
	if err != nil {
		return err
	}
	req, err := encodeRequest(ctx, to, method, t, in, options)
	if err != nil {
		return err
	}
	inst := ctx.inst
	n := inst.host.Request(req, inst.room())
	if n > int64(len(inst.res)) {
		inst.res = make([]byte, n)
		n = inst.host.Take(0, inst.res)
	}
	return inst.outcome(n, oc, out, to, method)
}

// encodeRequest checks and encodes a request into a buffer of the instance.
func encodeRequest(ctx *Context, to Identity, method string, t reflect.Type, in unsafe.Pointer, options []CallOption) ([]byte, error) {
	if !ctx.live {
		return nil, abi.NewError(abi.ErrUnsupported, "cannot call "+method+": the turn is over")
	}
	if err := checkTarget(to, method); err != nil {
		return nil, err
	}
	payload, err := ctx.inst.encode(t, in)
	if err != nil {
		return nil, err
	}
	ctx.stamp()
	o := merge(options)
	q := abi.Request{Target: to, Method: method, Payload: payload, Timeout: o.timeout, Flags: o.flags, IdempotencyKey: o.key}
	ctx.inst.req = abi.AppendRequest(ctx.inst.req[:0], &q)
	return ctx.inst.req, nil
}

func checkTarget(to Identity, method string) error {
	if to.IsZero() {
		return abi.NewError(abi.ErrInvalidArgument, "cannot send "+method+": no valid actor is named")
	}
	if !abi.ValidMethod(method) {
		return abi.NewError(abi.ErrInvalidArgument, "cannot send to "+to.String()+": "+strconv.Quote(method)+" is no method name")
	}
	return nil
}

// room returns the buffer for outcomes.
func (i *Instance) room() []byte {
	if len(i.res) == 0 {
		i.res = make([]byte, 1024)
	}
	return i.res
}

// outcome reads the n bytes of an outcome in the buffer, or n's error code.
func (i *Instance) outcome(n int64, oc *codec, out unsafe.Pointer, to Identity, method string) error {
	if n < 0 {
		return refused(n, "calling "+method+" of "+to.String())
	}
	if n > int64(len(i.res)) {
		return abi.NewError(abi.ErrInternal, "the host's outcome grew while it was read")
	}
	res, err := abi.DecodeResult(i.res[:n])
	if err != nil {
		return abi.NewError(abi.ErrInternal, "the host's outcome: "+err.Error())
	}
	if res.Err != nil {
		return res.Err
	}
	return decodeReply(i, oc, res.Payload, out, to, method)
}

// decodeReply reads a reply. That it is not what was expected is no fault of whoever called this actor.
func decodeReply(i *Instance, oc *codec, payload []byte, out unsafe.Pointer, to Identity, method string) error {
	if err := i.dec.run(oc, payload, out); err != nil {
		return abi.NewActorError("unreadable_reply", "the reply of "+to.String()+" to "+method+": "+err.(*Error).Message)
	}
	return nil
}

// Future is a request on its way, made by [Start]. It belongs to the turn that started it; if that ends first, nobody
// reads its outcome.
type Future[Out any] struct {
	ctx    *Context
	turn   uint64
	handle uint32
	to     Identity
	method string
	done   bool
	out    Out
	err    error
}

// Pending is a [Future] of any type.
type Pending interface {
	// check takes the outcome if it is there.
	check() (done bool)
	// number is the handle to wait for.
	number() uint32
}

// Start sends a request and returns at once: several run side by side, and the turn waits for the slowest only. What
// keeps it from being sent, [Future.Await] returns.
func Start[Out, In any](ctx *Context, to Identity, method string, in In, options ...CallOption) *Future[Out] {
	f := &Future[Out]{ctx: ctx, turn: ctx.inst.turn, to: to, method: method}
	req, err := encodeRequest(ctx, to, method, reflect.TypeFor[In](), unsafe.Pointer(&in), options)
	if err != nil {
		f.done, f.err = true, err
		return f
	}
	h := ctx.inst.host.Start(req)
	if h <= 0 {
		f.done, f.err = true, refused(h, "calling "+method+" of "+to.String())
		return f
	}
	f.handle = uint32(h)
	return f
}

// Await waits for the reply, which it returns however often it is asked. It returns an error of code timeout if the
// turn's time ends first.
func (f *Future[Out]) Await() (Out, error) {
	if err := WaitAll(f.ctx, f); err != nil {
		var zero Out
		return zero, err
	}
	return f.out, f.err
}

// Ready reports whether Await would return at once.
func (f *Future[Out]) Ready() bool { return f.check() }

func (f *Future[Out]) number() uint32 { return f.handle }

func (f *Future[Out]) check() bool {
	if f.done {
		return true
	}
	inst := f.ctx.inst
	if !f.ctx.live || inst.turn != f.turn {
		f.done, f.err = true, abi.NewError(abi.ErrInvalidArgument, "the request to "+f.to.String()+" belongs to a turn that is over")
		return true
	}
	n := inst.host.Take(f.handle, inst.room())
	if n == -abi.PendingCode {
		return false
	}
	if n > int64(len(inst.res)) {
		inst.res = make([]byte, n)
		n = inst.host.Take(f.handle, inst.res)
	}
	f.done = true
	oc, err := codecOf[Out]()
	if err == nil {
		err = inst.outcome(n, oc, unsafe.Pointer(&f.out), f.to, f.method)
	}
	f.err = err
	return true
}

// WaitAll waits until all futures have their outcome. The error, of code timeout, says that the turn's time ended first;
// what became of each request its Await tells.
func WaitAll(ctx *Context, futures ...Pending) error {
	_, err := wait(ctx, futures, true)
	return err
}

// WaitAny waits until one of the futures has its outcome and returns its index, the lowest if there are several.
func WaitAny(ctx *Context, futures ...Pending) (int, error) { return wait(ctx, futures, false) }

func wait(ctx *Context, futures []Pending, all bool) (first int, err error) {
	if len(futures) == 0 && !all {
		return -1, abi.NewError(abi.ErrInvalidArgument, "there is no reply to wait for")
	}
	var open []byte
	first = -1
	for i, f := range futures {
		if !f.check() {
			open = binary.LittleEndian.AppendUint32(open, f.number())
		} else if first < 0 {
			first = i
		}
	}
	need := 1
	if all {
		need = len(open) / 4
	}
	if len(open) == 0 || !all && first >= 0 {
		return first, nil
	}
	if n := ctx.inst.host.Wait(open, need, -1); n < 0 {
		return -1, refused(n, "waiting for replies")
	}
	first, missing := -1, 0
	for i, f := range futures {
		if !f.check() {
			missing++
		} else if first < 0 {
			first = i
		}
	}
	if all && missing > 0 || first < 0 {
		return -1, abi.NewError(abi.ErrTimeout, "the turn's time ended before "+strconv.Itoa(missing)+" of "+strconv.Itoa(len(futures))+" replies")
	}
	return first, nil
}

// Call asks the actor id of this handler's kind; see the function [Call]. Nothing but types and names is used here: the
// kind may be served by another module on another node.
func (h *Handler[T, In, Out]) Call(ctx *Context, id string, in In, options ...CallOption) (Out, error) {
	to, err := h.target(id)
	if err != nil {
		var zero Out
		return zero, err
	}
	return Call[Out](ctx, to, h.name, in, options...)
}

// Start is [Handler.Call] without waiting; see the function [Start].
func (h *Handler[T, In, Out]) Start(ctx *Context, id string, in In, options ...CallOption) *Future[Out] {
	to, err := h.target(id)
	if err != nil {
		return &Future[Out]{ctx: ctx, method: h.name, done: true, err: err}
	}
	return Start[Out](ctx, to, h.name, in, options...)
}

// Tell sends without a reply; see the function [Tell].
func (h *Handler[T, In, Out]) Tell(ctx *Context, id string, in In, options ...CallOption) error {
	to, err := h.target(id)
	if err != nil {
		return err
	}
	return Tell(ctx, to, h.name, in, options...)
}

// Then sends and runs done with the outcome in a later turn; see the function [Then].
func (h *Handler[T, In, Out]) Then(ctx *Context, id string, in In, done func(*Context, Out, error), options ...CallOption) error {
	to, err := h.target(id)
	if err != nil {
		return err
	}
	return Then(ctx, to, h.name, in, done, options...)
}

func (h *Handler[T, In, Out]) target(id string) (Identity, error) {
	if h.kind == "" {
		return Identity{}, abi.NewError(abi.ErrUnknownKind, "method "+h.name+" belongs to no kind: name it in wasilo.Kind")
	}
	to, err := abi.NewIdentity(h.kind, id)
	if err != nil {
		return Identity{}, abi.NewError(abi.ErrInvalidArgument, err.Error())
	}
	return to, nil
}
