package cluster

import (
	"context"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// API calls actors. It is tied to the extension that it came from; its methods may be called from any goroutine.
type API struct {
	r       *Runtime
	context *Context
}

// Message is what [API.Request] sends.
type Message struct {
	Method         string
	Payload        []byte        // CBOR, opaque here
	Timeout        time.Duration // 0: the deadline of the context, or the default
	Flags          abi.Flags
	IdempotencyKey string
	TraceParent    string // W3C trace context
	TraceState     string
}

// Get resolves an identity: an actor that is not active anywhere is activated (its instance starts with its first turn).
// The error is a [*ResolveError].
func (a *API) Get(ctx context.Context, id Identity) (ActorRef, error) {
	if id.IsZero() {
		return ActorRef{}, &ResolveError{Reason: abi.ErrInvalidArgument, Code: abi.ErrInvalidArgument}
	}
	if e := a.r.cache.get(id); e != nil && !a.r.shutting.Load() {
		return a.ref(e), nil
	}
	start := a.r.now()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = a.context.deadline(start)
	}
	t := &tries{r: a.r, q: query{id: id, reason: "get"}}
	var found *pidEntry
	err := t.run(ctx, deadline, func(e *pidEntry) error {
		found = e
		return nil
	})
	if err != nil {
		return ActorRef{}, t.resolveError(err)
	}
	t.record(RetrySucceeded)
	if a.r.metrics != nil {
		a.r.metrics.RecordResolveLatency(id, a.r.now()-start)
	}
	return a.ref(found), nil
}

func (a *API) ref(e *pidEntry) ActorRef {
	return ActorRef{pid: PID{authority: e.route.Member.Authority, identity: e.id}, api: a}
}

// Ref makes a reference from the text of a PID, without resolving the actor. A text that is no PID fails with
// [ErrMalformedPID], one whose node is no member of the cluster with [ErrNotResolvable]; the error is a [*ResolveError].
func (a *API) Ref(pid string) (ActorRef, error) {
	p, err := ParsePID(pid)
	if err != nil {
		return ActorRef{}, &ResolveError{Reason: ErrMalformedPID, Err: err, Code: abi.ErrInvalidArgument}
	}
	t := a.r.View().Topology()
	if t == nil {
		return ActorRef{}, &ResolveError{Identity: p.identity, Reason: ErrClusterNotStarted, Code: abi.ErrNotReady}
	}
	for _, m := range t.Members() {
		if m.Authority == p.authority {
			return ActorRef{pid: p, api: a}, nil
		}
	}
	return ActorRef{}, &ResolveError{Identity: p.identity, Reason: ErrNotResolvable, Code: abi.ErrNotReady,
		Err: abi.NewError(abi.ErrNotReady, "no member of the cluster is at "+p.authority)}
}

// Request sends a message to an actor and waits for the reply. It ends at the earliest of m.Timeout, ctx's deadline and,
// without both, the default time-out. The error is a [*RequestError]: its Reason tells a resolution that failed, in which
// case nothing was sent, from a time-out and from an error that the actor's side answered, which errors.As finds
// as an [*abi.Error].
func (a *API) Request(ctx context.Context, id Identity, m Message) ([]byte, error) {
	env, err := a.envelope(id, m)
	if err != nil {
		return nil, err
	}
	payload, err := a.Send(ctx, env)
	if err != nil {
		return nil, wrapped(env, err)
	}
	return payload, nil
}

// envelope checks a message and makes an envelope of it.
func (a *API) envelope(id Identity, m Message) (*abi.Envelope, error) {
	fault := ""
	switch {
	case id.IsZero():
		fault = "the identity is empty"
	case !abi.ValidMethod(m.Method):
		fault = "a method name is 1 to 127 of A-Z, a-z, 0-9, '_', '.' and '-'"
	case m.Timeout < 0:
		fault = "the time-out is negative"
	case len(m.IdempotencyKey) > abi.MaxIdempotencyLen:
		fault = "the idempotency key is too long"
	}
	if fault != "" {
		return nil, &RequestError{Identity: id, Method: m.Method, Reason: ErrSendFailed, Err: abi.NewError(abi.ErrInvalidArgument, fault)}
	}
	env := &abi.Envelope{Target: id, Method: m.Method, Payload: m.Payload, Flags: m.Flags, IdempotencyKey: m.IdempotencyKey,
		TraceParent: m.TraceParent, TraceState: m.TraceState}
	if m.Timeout > 0 {
		env.Deadline = time.Now().Add(m.Timeout)
	}
	return env, nil
}

// wrapped makes a [*RequestError] of what Send returned.
func wrapped(env *abi.Envelope, err error) error {
	if _, ok := err.(*RequestError); ok {
		return err
	}
	return &RequestError{Identity: env.Target, Method: env.Method, Reason: abi.CodeOf(err), Attempts: 1, Err: err}
}

// Send delivers an envelope and waits for the reply; a one-way envelope only until it is accepted. It ends at the earlier
// of env.Deadline and ctx's deadline, without both at the default time-out, and sets env.Deadline to that. The envelope must
// not be changed or used again afterwards: whoever queued it may still hold it.
//
// What the actor's side answered is returned as it came, an [*abi.Error]; a failure to get that far is a [*RequestError].
// A message is sent again only where the error says that nothing was done, or where it is flagged abi.Idempotent and its outcome
// is unknown; the package's comment has the rules.
func (a *API) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	r := a.r
	if d, ok := ctx.Deadline(); ok && (env.Deadline.IsZero() || d.Before(env.Deadline)) {
		env.Deadline = d
	}
	var start time.Duration
	if r.metrics != nil {
		start = r.now()
	}
	if env.Deadline.IsZero() {
		if r.metrics == nil {
			start = r.now()
		}
		env.Deadline = a.context.deadline(start)
	}
	e := r.cache.get(env.Target)
	if e == nil || r.isCarried(e.hash) || r.cutOff(e, env) {
		return a.context.send(ctx, env, start, nil, nil)
	}
	payload, err := e.target.Deliver(ctx, env)
	if err != nil {
		return a.failed(ctx, env, start, e, err)
	}
	if r.metrics != nil {
		r.metrics.RecordRequestLatency(env.Target, r.now()-start)
	}
	return payload, nil
}

// failed sorts the error of a cached target: ask anew, or tell the caller.
func (a *API) failed(ctx context.Context, env *abi.Envelope, start time.Duration, e *pidEntry, err error) ([]byte, error) {
	if a.r.sendAgain(err, env) {
		return a.context.send(ctx, env, start, e, err)
	}
	if answer, ok := err.(*abi.Error); ok {
		return nil, answer
	}
	t := tries{r: a.r, n: 1}
	return nil, t.requestError(env, err)
}
