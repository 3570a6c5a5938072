package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestA2_1_APICanBeHadFromTheSystem(t *testing.T) {
	n := start(t)
	api, err := APIOf(n.sys)
	if err != nil || api == nil {
		t.Fatal(api, err)
	}
	if _, err := api.Request(t.Context(), id("counter/a"), Message{Method: "get"}); err != nil {
		t.Error(err)
	}
}

func TestA2_2_AskedAgainItIsTheSameExtension(t *testing.T) {
	n := start(t)
	a, b := must(APIOf(n.sys)), must(APIOf(n.sys))
	if a != b || a != n.API() {
		t.Error("different APIs")
	}
}

func TestA2_3_WithoutTheExtensionAskingFails(t *testing.T) {
	api, err := APIOf(NewSystem(SystemConfig{}))
	var ae *APIError
	if api != nil || !errors.As(err, &ae) || !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "cluster.Install") ||
		abi.CodeOf(err) != abi.ErrUnsupported {
		t.Errorf("%v, %v", api, err)
	}
}

func TestA3_1_MemberKindsReachTheLookup(t *testing.T) {
	n := start(t, func(c *Config) { c.Kinds = nil })
	if n.Runtime().IsKindRegistered("counter") {
		t.Error("registered before")
	}
	if err := n.Runtime().SetKinds([]Kind{{"counter"}, {"counter"}, {"bank"}}); err != nil {
		t.Fatal(err)
	}
	if !n.Runtime().IsKindRegistered("counter") || !n.Runtime().IsKindRegistered("bank") || n.Runtime().IsKindRegistered("chat") {
		t.Error("registered after")
	}
	n.ok("counter/a")
	var ie *IdentityError
	if err := n.Runtime().SetKinds([]Kind{{"chat"}, {"Bad"}}); !errors.As(err, &ie) {
		t.Errorf("a bad kind: %v", err)
	}
	if n.Runtime().IsKindRegistered("chat") || !n.Runtime().IsKindRegistered("bank") {
		t.Error("a refused set changed something")
	}
	// A kind may go while its actors live: they are discarded, and it is unknown from then on.
	if err := n.Runtime().SetKinds([]Kind{{"bank"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.request("counter/a"); !errors.Is(err, ErrKindNotRegistered) {
		t.Errorf("a withdrawn kind: %v", err)
	}
	if n.silo.find(id("counter/a")) != nil || n.Runtime().Leases() != 0 {
		t.Error("its actor lives on")
	}
}

// fakeTransport reaches other nodes.
type fakeTransport struct {
	target func(Node) (Target, error)
}

func (f *fakeTransport) Target(n Node) (Target, error) { return f.target(n) }

// targetFunc is a target made of a function.
type targetFunc func(*abi.Envelope) ([]byte, error)

func (f targetFunc) Deliver(_ context.Context, env *abi.Envelope) ([]byte, error) { return f(env) }
func (f targetFunc) Post(env *abi.Envelope, done func([]byte, error)) error {
	payload, err := f(env)
	if err == nil && done != nil {
		done(payload, nil)
	}
	return err
}

var peer = Node{ID: "n2", Authority: "127.0.0.1:7702"}

func TestA3_2_ClientKindsReachTheLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		n := start(t, func(c *Config) {
			c.Mode, c.Placement, c.Kinds = Client, nil, []Kind{{"counter"}}
			c.Topology = StaticTopology(self, peer)
			c.Transport = &fakeTransport{func(to Node) (Target, error) {
				if to != peer {
					t.Errorf("transport to %v", to)
				}
				return targetFunc(func(env *abi.Envelope) ([]byte, error) { sent++; return env.Payload, nil }), nil
			}}
			c.Retry = RetryPolicy{Attempts: 1}
		})
		if !n.Runtime().IsKindRegistered("counter") {
			t.Error("not registered")
		}
		// It may be named, though nobody hosts it yet; a kind that was never named may not.
		begin := time.Now()
		_, err := n.API().Request(t.Context(), id("counter/a"), Message{Method: "get", Timeout: 50 * time.Millisecond})
		if !errors.Is(err, ErrLookupFailed) || abi.CodeOf(err) != abi.ErrNotReady || !errors.Is(err, ErrTimeout) ||
			time.Since(begin) != 50*time.Millisecond {
			t.Errorf("nobody hosts it: %v", err)
		}
		if _, err := n.request("chat/a"); !errors.Is(err, ErrKindNotRegistered) {
			t.Errorf("not registered: %v", err)
		}
		if err := n.Runtime().SetPeerKinds("n2", []Kind{{"counter"}}); err != nil {
			t.Fatal(err)
		}
		n.ok("counter/a")
		ref, err := n.API().Get(t.Context(), id("counter/a"))
		if err != nil || ref.PID().Authority() != peer.Authority || sent != 1 {
			t.Errorf("%v, %v, sent %d", ref, err, sent)
		}
		if err := n.Runtime().SetPeerKinds("n1", nil); err == nil {
			t.Error("a peer may claim this node's id")
		}
		if err := n.Runtime().SetPeerKinds("n2", []Kind{{""}}); err == nil {
			t.Error("a peer may host a kind without a name")
		}
	})
}

func TestA3_3_UnregisteredKindsAreNotResolved(t *testing.T) {
	n := start(t)
	_, err := n.API().Get(t.Context(), id("nosuch/a"))
	var re *ResolveError
	if !errors.As(err, &re) || re.Identity != id("nosuch/a") || !errors.Is(err, ErrKindNotRegistered) ||
		!errors.Is(err, abi.ErrUnknownKind) || abi.CodeOf(err) != abi.ErrUnknownKind {
		t.Error(err)
	}
	if !strings.Contains(err.Error(), `"nosuch"`) || !strings.Contains(err.Error(), "bank, counter") {
		t.Error(err)
	}
	if n.silo.activations() != 0 {
		t.Error("something was activated")
	}
	none := start(t, func(c *Config) { c.Kinds = nil })
	if _, err := none.API().Get(t.Context(), id("nosuch/a")); err == nil || !strings.Contains(err.Error(), "deploy") {
		t.Error(err)
	}
}

func TestA4_1_GetResolvesToPIDAndReference(t *testing.T) {
	n := start(t)
	for range 2 { // from the core, then from the cache
		ref, err := n.API().Get(t.Context(), id("counter/a b"))
		if err != nil || ref.PID().String() != "127.0.0.1:7701::counter/a b" ||
			ref.Address() != "wasilo.tcp://cluster@127.0.0.1:7701/counter/a%20b" || ref.String() != ref.Address() ||
			ref.Identity() != id("counter/a b") {
			t.Fatalf("%v %v, %v", ref.PID(), ref, err)
		}
		if reply, err := ref.Request(t.Context(), Message{Method: "get", Payload: []byte("x")}); err != nil || string(reply) != "x" {
			t.Errorf("through the reference: %q, %v", reply, err)
		}
	}
	if got := n.silo.activations(); got != 1 {
		t.Errorf("%d activations", got)
	}
	if r := n.silo.requests[0]; r.Reason != "get" {
		t.Errorf("reason %q", r.Reason)
	}

	ref, err := n.API().Ref("127.0.0.1:7701::counter/z")
	if err != nil || ref.Identity() != id("counter/z") {
		t.Error(ref, err)
	}
	var re *ResolveError
	if _, err := n.API().Ref("127.0.0.1:7701:counter/z"); !errors.Is(err, ErrMalformedPID) || !errors.As(err, &re) {
		t.Errorf("malformed: %v", err)
	}
	if _, err := n.API().Ref("127.0.0.1:9999::counter/z"); !errors.Is(err, ErrNotResolvable) || !errors.As(err, &re) {
		t.Errorf("no member: %v", err)
	}
}

func TestA4_2_UnresolvableFailsWithoutPID(t *testing.T) {
	n := start(t, func(c *Config) {
		c.Topology = StaticTopology(self, peer) // and no transport
	})
	if err := n.Runtime().SetPeerKinds("n2", []Kind{{"chat"}}); err != nil {
		t.Fatal(err)
	}
	ref, err := n.API().Get(t.Context(), id("chat/x"))
	if ref != (ActorRef{}) || !errors.Is(err, ErrNotResolvable) || !strings.Contains(err.Error(), "n2") {
		t.Errorf("no transport: %v, %v", ref, err)
	}
	ref, err = n.API().Get(t.Context(), Identity{})
	if ref != (ActorRef{}) || !errors.Is(err, abi.ErrInvalidArgument) {
		t.Errorf("nobody: %v, %v", ref, err)
	}
	n.silo.onActivate = func(ActivationRequest) error { return abi.NewError(abi.ErrOverloaded, "full") }
	ref, err = n.API().Get(t.Context(), id("counter/a"))
	if ref != (ActorRef{}) || !errors.Is(err, ErrLookupFailed) || !errors.Is(err, abi.ErrOverloaded) {
		t.Errorf("the silo refuses: %v, %v", ref, err)
	}
}

func TestA4_3_BeforeTheStartResolutionFailsClearly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silo := &fakeSilo{}
		sys := NewSystem(SystemConfig{})
		x := must(Install(sys, config(silo)))
		defer sys.Shutdown(context.Background())
		begin := time.Now()
		_, err := x.API().Get(t.Context(), id("counter/a"))
		if !errors.Is(err, ErrClusterNotStarted) || abi.CodeOf(err) != abi.ErrNotReady {
			t.Errorf("Get: %v", err)
		}
		if _, err := x.API().Request(t.Context(), id("counter/a"), Message{Method: "get"}); !errors.Is(err, ErrClusterNotStarted) ||
			!errors.Is(err, ErrResolutionFailed) {
			t.Errorf("Request: %v", err)
		}
		if _, err := x.API().RequestFuture(t.Context(), id("counter/a"), Message{Method: "get"}); !errors.Is(err, ErrClusterNotStarted) {
			t.Errorf("RequestFuture: %v", err)
		}
		if err := x.API().Post(env("counter/a"), nil); !errors.Is(err, ErrClusterNotStarted) {
			t.Errorf("Post: %v", err)
		}
		if _, err := x.API().Ref("127.0.0.1:7701::counter/z"); !errors.Is(err, ErrClusterNotStarted) {
			t.Errorf("Ref: %v", err)
		}
		if time.Since(begin) > 0 || silo.activations() != 0 {
			t.Error("it was tried again and again")
		}
	})
}

func TestA5_1_RequestResolvesAndSends(t *testing.T) {
	n := start(t)
	var got *abi.Envelope
	n.silo.onDeliver = func(_ *activation, env *abi.Envelope) ([]byte, error) { got = env; return []byte("reply"), nil }
	m := Message{Method: "add", Payload: []byte("p"), Timeout: time.Minute, Flags: abi.Idempotent, IdempotencyKey: "key",
		TraceParent: "tp", TraceState: "ts"}
	reply, err := n.API().Request(t.Context(), id("counter/a"), m)
	if err != nil || string(reply) != "reply" {
		t.Fatal(reply, err)
	}
	if got.Target != id("counter/a") || got.Method != "add" || string(got.Payload) != "p" || got.Flags != abi.Idempotent ||
		got.IdempotencyKey != "key" || got.TraceParent != "tp" || got.TraceState != "ts" || !got.Caller.IsZero() {
		t.Errorf("%+v", got)
	}
	if r := n.silo.requests[0]; r.Reason != "call" || r.Props.Kind != "counter" || r.Lease.Identity != id("counter/a") {
		t.Errorf("%+v", r)
	}
	var re *RequestError
	for _, bad := range []struct {
		id Identity
		m  Message
	}{{Identity{}, Message{Method: "x"}}, {id("counter/a"), Message{}}, {id("counter/a"), Message{Method: "a b"}},
		{id("counter/a"), Message{Method: "x", Timeout: -1}},
		{id("counter/a"), Message{Method: "x", IdempotencyKey: strings.Repeat("k", 256)}}} {
		if _, err := n.API().Request(t.Context(), bad.id, bad.m); !errors.As(err, &re) || abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Errorf("%+v: %v", bad, err)
		}
		if _, err := n.API().RequestFuture(t.Context(), bad.id, bad.m); abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := n.API().Send(t.Context(), &abi.Envelope{Method: "x"}); abi.CodeOf(err) != abi.ErrInvalidArgument {
		t.Errorf("an envelope to nobody: %v", err)
	}
	if err := n.API().Post(&abi.Envelope{Method: "x"}, nil); abi.CodeOf(err) != abi.ErrInvalidArgument {
		t.Errorf("a post to nobody: %v", err)
	}
}

// An actor's own error comes back as it is by Send, and within a RequestError by Request.
func TestA5_1_TheActorsErrorIsTheCallers(t *testing.T) {
	n := start(t)
	own := abi.NewActorError("insufficient_funds", "5 are missing")
	n.silo.onDeliver = func(*activation, *abi.Envelope) ([]byte, error) { return nil, own }
	for range 2 {
		if _, err := n.API().Send(t.Context(), env("bank/a")); err != error(own) {
			t.Errorf("Send: %v", err)
		}
		_, err := n.request("bank/a")
		var re *RequestError
		var ae *abi.Error
		if !errors.As(err, &re) || !errors.As(err, &ae) || ae != own || !errors.Is(err, abi.ErrActor) || errors.Is(err, ErrTimeout) {
			t.Errorf("Request: %v", err)
		}
		if e := abi.AsError(err); e.Code != abi.ErrActor || e.App != "insufficient_funds" {
			t.Errorf("as it travels: %+v", e)
		}
	}
	n.silo.onDeliver = func(*activation, *abi.Envelope) ([]byte, error) { return nil, errors.New("wire cut") }
	if _, err := n.API().Send(t.Context(), env("bank/a")); !errors.Is(err, ErrSendFailed) || abi.CodeOf(err) != abi.ErrInternal {
		t.Errorf("an error without a code: %v", err)
	}
	if n.silo.activations() != 1 {
		t.Error("an actor's error made the cluster resolve anew")
	}
}

func TestA5_2_NothingIsSentIfResolutionFails(t *testing.T) {
	n := start(t)
	sent := 0
	n.silo.onDeliver = func(*activation, *abi.Envelope) ([]byte, error) { sent++; return nil, nil }
	n.silo.onActivate = func(ActivationRequest) error { return abi.NewError(abi.ErrActivationFailed, "no memory") }
	_, err := n.request("counter/a")
	var re *RequestError
	var resolve *ResolveError
	if !errors.As(err, &re) || !errors.As(err, &resolve) || !errors.Is(err, ErrResolutionFailed) ||
		abi.CodeOf(err) != abi.ErrActivationFailed || sent != 0 {
		t.Errorf("%v, sent %d", err, sent)
	}
	if _, err := n.request("nosuch/a"); !errors.Is(err, ErrResolutionFailed) || abi.CodeOf(err) != abi.ErrUnknownKind || sent != 0 {
		t.Errorf("%v, sent %d", err, sent)
	}
}

// waiting is a target's side of a request that is never answered in time.
func waiting(ctx context.Context, env *abi.Envelope) error {
	t := time.NewTimer(time.Until(env.Deadline))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return abi.NewError(abi.ErrTimeout, "no answer in time")
	}
}

func TestA5_3_TimeoutAndContextDeadlineEndTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		n.silo.onDeliver = func(a *activation, env *abi.Envelope) ([]byte, error) {
			return nil, waiting(context.Background(), env)
		}
		api := n.API()
		for _, c := range []struct {
			name         string
			timeout, ctx time.Duration
			want         time.Duration
		}{
			{"its own", 3 * time.Second, 0, 3 * time.Second},
			{"the context's", 0, 4 * time.Second, 4 * time.Second},
			{"the earlier, its own", 3 * time.Second, 4 * time.Second, 3 * time.Second},
			{"the earlier, the context's", 5 * time.Second, 4 * time.Second, 4 * time.Second},
			{"the default", 0, 0, abi.DefaultRequest},
		} {
			for _, how := range []string{"request", "future"} {
				ctx, cancel := context.WithCancel(t.Context())
				if c.ctx > 0 {
					ctx, cancel = context.WithTimeout(t.Context(), c.ctx)
				}
				m := Message{Method: "get", Timeout: c.timeout}
				begin := time.Now()
				var err error
				if how == "request" {
					_, err = api.Request(ctx, id("counter/a"), m)
				} else {
					_, err = must(api.RequestFuture(ctx, id("counter/a"), m)).Wait(t.Context())
				}
				if took := time.Since(begin); took != c.want || !errors.Is(err, ErrTimeout) || abi.CodeOf(err) != abi.ErrTimeout {
					t.Errorf("%s by %s: %v after %s, want a time-out after %s", c.name, how, err, took, c.want)
				}
				cancel()
			}
		}
		if n.silo.activations() != 1 {
			t.Error("a time-out made the cluster resolve anew")
		}
		// A request that is late before it begins neither activates nor sends.
		late := env("counter/late")
		late.Deadline = time.Now().Add(-time.Second)
		if _, err := api.Send(t.Context(), late); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("late: %v", err)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := api.Send(canceled, env("counter/late")); !errors.Is(err, abi.ErrCanceled) || !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		if n.silo.find(id("counter/late")) != nil {
			t.Error("it was activated")
		}
	})
}

func TestA5_4_RequestFutureGivesAHandleToWaitOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t)
		release := make(chan struct{})
		n.silo.onDeliver = func(_ *activation, env *abi.Envelope) ([]byte, error) {
			<-release
			return env.Payload, nil
		}
		f, err := n.API().RequestFuture(t.Context(), id("counter/a"), Message{Method: "get", Payload: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-f.Done():
			t.Fatal("done before the reply")
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting a second: %v", err)
		}
		close(release)
		for range 2 {
			if reply, err := f.Wait(t.Context()); err != nil || string(reply) != "x" {
				t.Errorf("%q, %v", reply, err)
			}
		}
		if reply, err := f.Wait(ctx); err != nil || string(reply) != "x" {
			t.Errorf("an outcome that is there, under a context that is over: %q, %v", reply, err)
		}
		<-f.Done()

		if _, err := n.API().RequestFuture(t.Context(), id("nosuch/a"), Message{Method: "get"}); !errors.Is(err, ErrResolutionFailed) ||
			!errors.Is(err, abi.ErrUnknownKind) {
			t.Errorf("an unknown kind: %v", err)
		}
		// Cancelling ends the wait.
		n.silo.onActivate = func(req ActivationRequest) error { return abi.NewError(abi.ErrNotReady, "compiling") }
		f, err = n.API().RequestFuture(t.Context(), id("counter/b"), Message{Method: "get"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f.Cancel()
		if _, err := f.Wait(t.Context()); !errors.Is(err, abi.ErrCanceled) || !errors.Is(err, abi.ErrNotReady) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// The full environment keeps the core's decisions and only adds to them: what the API answers is what the core says.
func TestA6_2_TheClusterKeepsTheCoresDecisions(t *testing.T) {
	n := start(t, func(c *Config) {
		c.Topology = StaticTopology(self, peer)
		c.Transport = &fakeTransport{func(Node) (Target, error) {
			return targetFunc(func(env *abi.Envelope) ([]byte, error) { return env.Payload, nil }), nil
		}}
	})
	if err := n.Runtime().SetPeerKinds("n2", []Kind{{"counter"}}); err != nil {
		t.Fatal(err)
	}
	here := 0
	for i := range 100 {
		who := id("counter/" + string(rune('0'+i%10)) + string(rune('a'+i/10)))
		owner, _ := n.Runtime().View().OwnerOf(who)
		ref, err := n.API().Get(t.Context(), who)
		if err != nil || ref.PID().Authority() != owner.Authority {
			t.Fatalf("%s: the core says %s, the API %s, %v", who, owner.Authority, ref.PID(), err)
		}
		if lease, ok := n.Runtime().Lease(who); ok != (owner.ID == "n1") || ok && lease.Owner != "n1" {
			t.Fatalf("%s: owner %s, lease %v %v", who, owner.ID, lease, ok)
		}
		if owner.ID == "n1" {
			here++
		}
	}
	if here == 0 || here == 100 || n.silo.activations() != here {
		t.Errorf("%d of 100 here, %d activated", here, n.silo.activations())
	}
}
