package host

import (
	"errors"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
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
	n := start(t, Config{ActorsDir: actorsDir(t, "probe.wasm"), Native: []NativeKind{nativeKind("native", forward)},
		Limits: Limits{Turn: 2 * hang, Request: 2 * hang}}) // a limit would be told otherwise than as a deadlock, and later
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
	_, err := callFor(n, "native/n", "probe-p.call", `{"to":"native/n","method":"m","params":5}`, hang)
	wantCode(t, err, abi.ErrDeadlock, "native/n→probe/p→native/n")
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
