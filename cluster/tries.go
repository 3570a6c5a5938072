package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// tries is the retry loop of one request: resolve, use what was found, and again while the cluster is in motion.
//
// What fails on this node (its activations that have gone, starts that are not ready) is tried as often as the retry policy
// has attempts. What fails because of other nodes (they cannot be reached, leave, are not ready or own the actor no more, or
// nobody hosts it at present) is tried until the deadline: the topology will tell who is there, and waiting costs nobody
// anything. In between there is a back-off, which ends early when the view names another owner.
type tries struct {
	r       *Runtime
	env     *abi.Envelope // nil where an actor is only looked for
	q       query
	n       int           // attempts begun
	own     int           // of these, how many failed on this node
	course  core.Course   // through redirects and back-offs
	began   time.Duration // when the last one began to resolve
	owner   *Node         // whom the view named when it did; nil: nobody
	next    *Node         // whom a refusal named instead, to be tried at once
	last    error         // what the attempt before failed with
	doubt   bool          // one of them may have done something
	courier *courier      // that carries it, if there is one
}

func newTries(r *Runtime, env *abi.Envelope) *tries {
	// An actor that must exist is active, or has left something. One that is to be active need not be woken for it.
	existing := env.Flags&(abi.OnlyIfActive|abi.MustExist) != 0
	t := &tries{r: r, env: env, q: query{id: env.Target, reason: "call", existing: existing, kept: env.Flags&abi.OnlyIfActive == 0,
		finishing: !env.Caller.IsZero(), chain: env.Chain}}
	if env.Flags&abi.OneWay != 0 {
		t.q.reason = "message"
	} else {
		t.q.env = env
	}
	return t
}

// run resolves and calls use with what it found, until use succeeds (nil), something fails for good (that error, a
// [*ResolveError] or use's own), or the policy, the time or ctx is at its end (a *gaveUp).
func (t *tries) run(ctx context.Context, deadline time.Time, use func(*pidEntry) error) error {
	for {
		if err := t.over(ctx, deadline); err != nil {
			return err
		}
		t.n++
		t.began = t.r.now()
		e, err := t.find(ctx, deadline)
		if err == nil {
			if err = use(e); err == nil {
				return nil
			}
			if _, over := err.(*gaveUp); over || !t.r.sendAgain(err, t.env) {
				return err
			}
			err = t.refused(ctx, deadline, e, err)
		} else if errors.Is(err, errWaiting) {
			err = t.gaveUp(err)
		} else if passing(err) && !t.q.here {
			err = t.failed(ctx, deadline, err)
		}
		if err != nil {
			return err
		}
	}
}

// find returns where the next attempt goes.
func (t *tries) find(ctx context.Context, deadline time.Time) (*pidEntry, error) {
	if m := t.next; m != nil {
		t.next = nil
		return t.r.way(t.q.id, m)
	}
	t.owner, _ = t.r.View().OwnerOf(t.q.id)
	return t.r.lookup(ctx, &t.q, deadline, t.backoff())
}

// refused prepares the next attempt after the target of e refused: the entry is forgotten. There is no back-off where this
// node's own ledger knows better than any back-off when there is something new, after a redirect, and after the first
// refusal of a node that names no other, since the activation there may just have ended. A nil e is no refusal.
func (t *tries) refused(ctx context.Context, deadline time.Time, e *pidEntry, err error) error {
	if e == nil {
		return nil
	}
	t.r.cache.forget(e)
	t.last = err
	t.n = max(t.n, 1)
	if t.owner == nil { // the cached target's
		t.owner = e.route.Member
	}
	if e.route.Local() {
		if t.own++; t.r.cfg.Retry.Exhausted(t.own) {
			return t.gaveUp(errAttemptsUsedUp)
		}
		t.q.refused = e.route
		return nil
	}
	code := abi.CodeOf(err)
	if code == abi.ErrOutcomeUnknown {
		t.doubt = true
	}
	if t.next = t.redirected(e, err); t.next != nil {
		t.course.Follow()
		return nil
	}
	if code == abi.ErrOwnershipChanged && t.n == 1 {
		return nil
	}
	return t.pause(ctx, deadline)
}

// redirected returns the member that a refusal names, if it is worth a try.
func (t *tries) redirected(e *pidEntry, err error) *Node {
	owner, ok := redirect(err)
	if !ok || !t.course.MayFollow(owner, e.route.Member.ID, t.r.cfg.Self.ID) {
		return nil
	}
	top := t.r.View().Topology()
	if top == nil {
		return nil
	}
	m, ok := top.Member(owner)
	if !ok || slices.Contains(t.r.Blocked(), owner) {
		return nil
	}
	return &m
}

// failed waits before the next attempt after a resolve that failed, or says why there is none.
func (t *tries) failed(ctx context.Context, deadline time.Time, err error) error {
	t.last = err
	if !ofOthers(err) {
		if t.own++; t.r.cfg.Retry.Exhausted(t.own) {
			return t.gaveUp(errAttemptsUsedUp)
		}
	}
	return t.pause(ctx, deadline)
}

// pause waits for the back-off, for the view to name another owner, or for the end of ctx or the time: then the error is a
// *gaveUp.
func (t *tries) pause(ctx context.Context, deadline time.Time) error {
	if c := t.courier; c != nil {
		t.r.mu.Lock()
		c.cause = t.last
		t.r.mu.Unlock()
	}
	d := t.course.Pause(t.r.cfg.Retry, t.n, abi.CodeOf(t.last), random())
	timer := time.NewTimer(min(d, time.Until(deadline)))
	defer timer.Stop()
	for {
		view, changed := t.r.viewChange()
		if owner, _ := view.OwnerOf(t.q.id); owner != t.owner && (owner == nil || t.owner == nil || *owner != *t.owner) {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil // run looks at the time
		case <-ctx.Done():
			return t.gaveUp(ctx.Err())
		}
	}
}

// over reports that there is no time for another attempt.
func (t *tries) over(ctx context.Context, deadline time.Time) error {
	if err := ctx.Err(); err != nil {
		return t.gaveUp(err)
	}
	if !time.Now().Before(deadline) {
		return t.gaveUp(context.DeadlineExceeded)
	}
	return nil
}

// backoff returns how long to wait after the present attempt.
func (t *tries) backoff() time.Duration { return t.course.Backoff(t.r.cfg.Retry, t.n, random()) }

// sendAgain reports whether what failed with err is to be sent again: nothing was done, and it is not, or not now, the one to
// ask; or it may have been done, and the caller has said that twice is no harm.
func (r *Runtime) sendAgain(err error, env *abi.Envelope) bool {
	return moved(err) || abi.CodeOf(err) == abi.ErrOutcomeUnknown && r.repeatable(env)
}

// repeatable reports whether it is no harm if a message has its effect twice.
func (r *Runtime) repeatable(env *abi.Envelope) bool {
	return env.Flags&abi.Idempotent != 0 || r.cfg.ReadOnly != nil && r.cfg.ReadOnly(env.Target.Kind(), env.Method)
}

// moved reports whether a target's error means that nothing was done and that it is not, or not now, the one to ask.
func moved(err error) bool {
	code := abi.CodeOf(err)
	return core.Reroutes(code) || code == abi.ErrShuttingDown // of its node; this one's is found out by resolving
}

// passing reports whether a failed resolve may succeed in a moment.
func passing(err error) bool {
	var re *ResolveError
	if !errors.As(err, &re) || re.Reason == ErrClusterNotStarted {
		return false
	}
	if re.Reason == abi.ErrNoQuorum { // this node's own session: whoever asked may ask a node that has one
		return false
	}
	return core.Reroutes(re.Code)
}

// ofOthers reports whether a failed resolve is the matter of other nodes.
func ofOthers(err error) bool {
	var re *ResolveError
	return errors.As(err, &re) && re.others
}
