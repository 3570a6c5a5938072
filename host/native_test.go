package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/abi/cbor"
	"github.com/wasilo/wasilo/host/actor"
)

// forward is a native actor that passes a call on, as the probe's method "call" does.
func forward(h *actor.Host, ev *abi.Event, out *abi.Output) error {
	to, method, ok := strings.Cut(ev.Method, ".")
	if !ok {
		return replyWith(out, ev.Payload)
	}
	kind, name, _ := strings.Cut(to, "-")
	id, err := abi.NewIdentity(kind, name)
	if err != nil {
		return err
	}
	r := h.Request(&abi.Request{Target: id, Method: method, Payload: ev.Payload})
	if r.Err != nil {
		out.Kind, out.Err = abi.OutError, r.Err
		return nil
	}
	return replyWith(out, r.Payload)
}

func TestNativeAndWasmActorsCallEachOther(t *testing.T) {
	n := start(t, Config{ActorsDir: actorsDir(t, "probe.wasm"), Native: []NativeKind{nativeKind("native", forward)}})
	if got := mustCall(t, n, "native/n", "probe-p.echo", `{"x":1}`); got != `{"x":1}` {
		t.Errorf("native → wasm: %s", got)
	}
	if got := mustCall(t, n, "probe/p", "call", `{"to":"native/n","method":"m","params":[1,"two"]}`); got != `[1,"two"]` {
		t.Errorf("wasm → native: %s", got)
	}
	if got := mustCall(t, n, "native/n", "probe-p.call", `{"to":"native/other","method":"m","params":5}`); got != "5" {
		t.Errorf("native → wasm → native: %s", got)
	}
	self := mustCall(t, n, "native/n", "probe-p.self", "")
	if c := field[string](t, self, "caller"); c != "native/n" {
		t.Errorf("the caller is %q", c)
	}
	began := time.Now()
	_, err := callFor(n, "native/n", "probe-p.call", `{"to":"native/n","method":"m","params":5}`, time.Minute)
	wantCode(t, err, abi.ErrDeadlock, "native/n→probe/p→native/n")
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("it took %v", d)
	}
	_, err = call(n, "native/n", "probe-p.fail", `{"code":"too_blue","message":"m"}`)
	wantCode(t, err, abi.ErrActor, "too_blue")
}

// What a native actor does wrong is its caller's to hear, and nobody else's.
func TestNativeActorsThatFail(t *testing.T) {
	bad := nativeKind("bad", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error {
		switch ev.Method {
		case "panic":
			panic("oh no")
		case "error":
			return errors.New("db down")
		case "moved":
			return abi.NewError(abi.ErrOwnershipChanged, "it did something before")
		}
		return replyWith(out, ev.Payload)
	})
	turns := 0
	count := nativeKind("count", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error {
		turns++
		return abi.NewError(abi.ErrOwnershipChanged, "it did something before")
	})
	unborn := bad
	unborn.Desc.Name = "unborn"
	starts := 0
	unborn.New = func(*actor.Host) (actor.Instance, error) {
		starts++
		return nil, abi.NewError(abi.ErrNotReady, "no connection")
	}
	n := start(t, Config{Native: []NativeKind{bad, count, unborn}})
	for method, words := range map[string]string{"panic": "oh no", "error": "db down", "moved": "did something"} {
		_, err := call(n, "bad/a", method, "1")
		wantCode(t, err, abi.ErrTrap, words)
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q", err)
		}
		mustCall(t, n, "bad/a", "m", "1")
	}
	// A turn that ran is never run again, whatever it says.
	_, err := call(n, "count/a", "m", "1")
	wantCode(t, err, abi.ErrTrap)
	if turns != 1 {
		t.Errorf("%d turns of one call", turns)
	}
	// And a start that failed is not tried again at once.
	_, err = call(n, "unborn/a", "m", "1")
	wantCode(t, err, abi.ErrActivationFailed, "no connection")
	if starts != 1 {
		t.Errorf("%d starts of one call", starts)
	}
}

// Methods may be listed in any order.
func TestNativeMethodsInAnyOrder(t *testing.T) {
	kind := nativeKind("k", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error { return replyWith(out, ev.Payload) })
	methods := []abi.Method{{Name: "z"}, {Name: "a"}, {Name: "m", ReadOnly: true}}
	kind.Desc.Methods = methods
	n := start(t, Config{Native: []NativeKind{kind}})
	for _, m := range []string{"a", "m", "z"} {
		mustCall(t, n, "k/x", m, "1")
	}
	_, err := call(n, "k/x", "b", "1")
	wantCode(t, err, abi.ErrUnknownMethod, "b")
	if methods[0].Name != "z" {
		t.Error("the configuration's own was sorted")
	}
	kind.Desc.Methods = []abi.Method{{Name: "a"}, {Name: "b c"}, {Name: "a"}}
	if _, err := New(Config{Native: []NativeKind{kind}}); err == nil || !strings.Contains(err.Error(), `"b c"`) || !strings.Contains(err.Error(), "a twice") {
		t.Errorf("%v", err)
	}
}

// greeter is an actor in Go: it counts whom it greets.
type greeter struct{ greeted int }

func (g *greeter) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	var in struct {
		Name string `cbor:"name"`
	}
	if err := cbor.Unmarshal(ev.Payload, &in); err != nil {
		out.Kind, out.Err = abi.OutError, abi.NewError(abi.ErrInvalidArgument, err.Error())
		return nil
	}
	g.greeted++
	reply, err := cbor.Marshal(fmt.Sprintf("Hello %s, you are number %d", in.Name, g.greeted))
	out.Kind, out.Payload = abi.OutReply, reply
	return err
}

func (g *greeter) Close() error { return nil }

// A node with an actor written in Go, and a program that calls it without a network.
func ExampleNew() {
	node, err := New(Config{Native: []NativeKind{{
		Desc: abi.KindDescription{
			Name:    "greeter",
			Events:  []abi.EventTag{abi.EventCall},
			Methods: []abi.Method{{Name: "greet"}},
		},
		New: func(*actor.Host) (actor.Instance, error) { return &greeter{}, nil },
	}}})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := node.Start(ctx); err != nil {
		panic(err)
	}
	defer node.Shutdown(ctx)

	id, _ := abi.NewIdentity("greeter", "lobby")
	for _, name := range []string{"Ada", "Grace"} {
		in, _ := cbor.Marshal(map[string]string{"name": name})
		reply, err := node.Send(ctx, &abi.Envelope{Target: id, Method: "greet", Payload: in})
		if err != nil {
			panic(err)
		}
		var text string
		if err := cbor.Unmarshal(reply, &text); err != nil {
			panic(err)
		}
		fmt.Println(text)
	}
	// Output:
	// Hello Ada, you are number 1
	// Hello Grace, you are number 2
}
