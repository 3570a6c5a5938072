package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// received sends a message to a node as another one would, and waits for the outcome.
func (n *node) received(env *abi.Envelope) ([]byte, error) {
	type outcome struct {
		payload []byte
		err     error
	}
	ch := make(chan outcome, 2)
	n.API().Receive(env, "n9", func(payload []byte, err error) { ch <- outcome{payload, err} })
	o := <-ch
	if len(ch) > 0 {
		n.t.Error("done was called twice")
	}
	return o.payload, o.err
}

// at returns an envelope for an actor of a kind that a view places on a node.
func at(v *View, kind string, node NodeID) *abi.Envelope { return env(owned(v, kind, node).Key()) }

func TestReceivedMessagesGoToThisNodesActivations(t *testing.T) {
	w := newWorld(t, 2)
	n := w.node(1)
	e := at(n.Runtime().View(), "counter", "n1")
	for range 3 { // a miss, then the cache
		if reply, err := n.received(env(e.Target.Key())); err != nil || string(reply) != "hello" {
			t.Fatalf("%q, %v", reply, err)
		}
	}
	a := n.silo.find(e.Target)
	if n.silo.activations() != 1 || a.calls.Load() != 3 {
		t.Errorf("%d activations, %d calls", n.silo.activations(), a.calls.Load())
	}
	one := at(n.Runtime().View(), "counter", "n1")
	one.Flags = abi.OneWay
	if _, err := n.received(one); err != nil {
		t.Errorf("one-way: %v", err)
	}
	n.API().Receive(at(n.Runtime().View(), "counter", "n1"), "n9", nil) // nobody to tell
	if a.calls.Load() != 5 {
		t.Errorf("%d calls", a.calls.Load())
	}
	for _, c := range w.nodes { // nothing was passed on
		if w.crossed(1, 2)+w.crossed(2, 1) != 0 {
			t.Errorf("%s sent something", c.self.ID)
		}
	}
}

func TestReceivedMessagesForOthersAreRedirected(t *testing.T) {
	w := newWorld(t, 2)
	n := w.node(1)
	theirs := at(n.Runtime().View(), "counter", "n2")
	n.ok(theirs.Target.Key()) // the way to the other node is cached, and of no use to a stranger's message
	for _, flags := range []abi.Flags{0, abi.OneWay, abi.OnlyIfActive} {
		e := env(theirs.Target.Key())
		e.Flags = flags
		_, err := n.received(e)
		if owner, ok := redirect(err); !ok || owner != "n2" || abi.CodeOf(err) != abi.ErrOwnershipChanged {
			t.Errorf("flags %v: %v, to %q", flags, err, owner)
		}
	}
	if n.silo.activations() != 0 || w.crossed(1, 2) != 1 {
		t.Errorf("%d activations, %d sent on", n.silo.activations(), w.crossed(1, 2))
	}
	n.API().Receive(env(theirs.Target.Key()), "n9", nil)
	if log := n.log.String(); !strings.Contains(log, "a message was lost") || !strings.Contains(log, "from=n9") {
		t.Errorf("the log says %s", log)
	}
}

func TestReceivedMessagesAreRefusedInCodes(t *testing.T) {
	w := newWorld(t, 2)
	n := w.node(1)
	want := func(what string, e *abi.Envelope, code abi.Code) {
		t.Helper()
		if _, err := n.received(e); abi.CodeOf(err) != code {
			t.Errorf("%s: %v", what, err)
		} else if _, named := redirect(err); named {
			t.Errorf("%s: it names an owner: %v", what, err)
		}
	}
	mine := func() *abi.Envelope { return at(n.Runtime().View(), "counter", "n1") }
	// Whether there is such a kind at all is for the sender to know.
	want("a kind that is not hosted here", env("chat/x"), abi.ErrOwnershipChanged)
	want("no target", &abi.Envelope{Method: "get"}, abi.ErrInvalidArgument)
	e := mine()
	e.Flags = abi.OnlyIfActive
	want("not active", e, abi.ErrNotActive)
	for _, code := range []abi.Code{abi.ErrOverloaded, abi.ErrNotReady, abi.ErrActivationFailed} {
		n.silo.onActivate = func(ActivationRequest) error { return abi.NewError(code, "no") }
		want("an activation that fails", mine(), code)
	}
	n.silo.onActivate = nil
	n.silo.onDeliver = func(*activation, *abi.Envelope) ([]byte, error) { return nil, abi.NewActorError("broke", "no money") }
	var answer *abi.Error
	if _, err := n.received(mine()); !errors.As(err, &answer) || answer.App != "broke" {
		t.Errorf("the actor's own error: %v", err)
	}
	n.Runtime().HandleBlockedNode("n1")
	n.Runtime().HandleBlockedNode("n2")
	want("all are blocked", env("counter/x"), abi.ErrBlocked)
	n.Runtime().HandleUnblockedNode("n1")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	want("leaving", env("counter/x"), abi.ErrShuttingDown)
	n.API().Receive(env("counter/x"), "n9", nil)
}

// Before the node has started its topology is not to be believed.
func TestReceivedBeforeTheStart(t *testing.T) {
	cfg := config(&fakeSilo{})
	sys := NewSystem(SystemConfig{})
	x := must(Install(sys, cfg))
	var got error
	x.API().Receive(env("counter/a"), "n2", func(_ []byte, err error) { got = err })
	if abi.CodeOf(got) != abi.ErrNotReady {
		t.Error(got)
	}
	if err := sys.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// What comes while the actor is between two activations waits for the next one, in order; and is redirected if that
// one is another node's.
func TestReceivedMessagesWaitForTheNextActivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		n := w.node(1)
		who := owned(n.Runtime().View(), "counter", "n1")
		var got []byte
		n.silo.onDeliver = func(_ *activation, e *abi.Envelope) ([]byte, error) {
			got = append(got, e.Payload[0])
			return e.Payload, nil
		}
		outcome := make(chan error, 16)
		send := func(i byte) {
			e := &abi.Envelope{Target: who, Method: "get", Payload: []byte{i}}
			n.API().Receive(e, "n2", func(_ []byte, err error) { outcome <- err })
		}
		send(0)
		old := n.silo.find(who)
		old.gone.Store(true)
		old.req.Observer.Releasing(old.req.Lease)
		for i := range byte(4) {
			send(i + 1)
		}
		synctest.Wait()
		if len(outcome) != 1 {
			t.Fatalf("%d outcomes while the activation has not ended", len(outcome))
		}
		old.end("idle")
		for range 5 {
			if err := <-outcome; err != nil {
				t.Error(err)
			}
		}
		if string(got) != "\x00\x01\x02\x03\x04" {
			t.Errorf("delivered in the order %v", got)
		}

		n.silo.keep = true
		n.sees(member(2)) // this node is no member any more: the actor lives elsewhere
		old = n.silo.find(who)
		send(5)
		if owner, ok := redirect(<-outcome); !ok || owner != "n2" {
			t.Errorf("redirected to %q", owner)
		}
		n.sees(member(1), member(2)) // and is again, while the revoked activation lives on
		send(6)
		synctest.Wait()
		if len(outcome) != 0 {
			t.Fatal("an outcome while the revoked activation lives")
		}
		n.sees(member(2))
		if owner, ok := redirect(<-outcome); !ok || owner != "n2" {
			t.Errorf("redirected to %q", owner)
		}
		old.end("revoked")

		// One whose time is up hears so.
		n.sees(member(1), member(2))
		send(7)
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		n.silo.find(who).req.Observer.Releasing(n.silo.find(who).req.Lease)
		begin := time.Now()
		send(8)
		if err := <-outcome; !errors.Is(err, ErrTimeout) || time.Since(begin) != abi.DefaultRequest {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		n.silo.find(who).end("idle")
	})
}

// The details of a refusal are a part of the protocol.
func TestRedirectsOnTheWire(t *testing.T) {
	if got := hex.EncodeToString(elsewhere(id("counter/a"), "n1", "n2").Details); got != "a1656f776e6572626e32" {
		t.Errorf("details %s", got)
	}
	moved := func(details string) error {
		e := abi.NewError(abi.ErrOwnershipChanged, "moved")
		e.Details = must(hex.DecodeString(details))
		return e
	}
	for what, c := range map[string]struct {
		err  error
		want NodeID
	}{
		"as written":                   {elsewhere(id("counter/a"), "n1", "n2"), "n2"},
		"with a key of a later one":    {moved("a2616101656f776e6572626e32"), "n2"},
		"wrapped":                      {&ResolveError{Err: elsewhere(id("counter/a"), "n1", "n3")}, "n3"},
		"no details":                   {abi.NewError(abi.ErrOwnershipChanged, "moved"), ""},
		"another code":                 {&abi.Error{Code: abi.ErrActor, Details: appendRedirect(nil, "n2")}, ""},
		"no owner":                     {moved("a0"), ""},
		"an owner that is no node":     {moved("a1656f776e6572622f2f"), ""},
		"an owner that is a number":    {moved("a1656f776e657201"), ""},
		"more bytes":                   {moved("a1656f776e6572626e3200"), ""},
		"cut":                          {moved("a1656f776e657262"), ""},
		"an empty string":              {moved(""), ""},
		"nothing that is of this code": {errors.New("moved"), ""},
	} {
		if got, ok := redirect(c.err); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v", what, got, ok)
		}
	}
}

func FuzzRedirect(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendRedirect(nil, "n2"))
	f.Add(must(hex.DecodeString("a2616101656f776e6572626e32")))
	f.Add(must(hex.DecodeString("a1656f776e65727b7fffffffffffffff")))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		owner, ok := readRedirect(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
		if ok != (core.CheckNodeID(owner) == nil) {
			t.Fatalf("%q, %v", owner, ok)
		}
		if ok {
			if again, ok := readRedirect(appendRedirect(nil, owner)); !ok || again != owner {
				t.Fatalf("%q reads as %q", owner, again)
			}
		}
	})
}
