package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// testClusterClient: a node without modules calls whatever the others host, which here is not the same on each.
func testClusterClient(t *testing.T, home string) {
	r := newRealm(t, home)
	both := r.modules("examples.wasm", "echo.wasm")
	r.start("n1", "--actors", both)
	others := []*member{r.launch("n2"), r.launch("n3", "--actors", both)}
	desk := r.launch("desk", "--mode", "client", "--actors", "there/is/none")
	for _, m := range append(others, desk) {
		r.ready(m)
	}
	r.agree()

	// Kinds and schemas are those of the nodes that host them.
	for _, c := range []struct{ actor, method, params, want string }{
		{"counter/a", "add", `{"by":9007199254740993}`, `{"value":9007199254740993}`},
		{"counter/a", "get", ``, `{"value":9007199254740993}`},
		{"bank/a", "deposit", `{"amount":100}`, `{"balance":100}`},
		{"bank/a", "transfer", `{"to":"b","amount":30}`, `{"balance":70}`},
		{"chat/a", "join", `{"member":"m"}`, `{}`},
		{"chat/a", "post", `{"from":"m","text":"hello"}`, `{}`},
		{"chat/a", "history", ``, `{"messages":[{"from":"m","text":"hello"}]}`},
		{"ratelimit/a", "take", `{"n":4}`, `{"allowed":true,"remaining":6}`},
		{"echo/a", "echo", `{"n":[1,2.5,null,"é"]}`, `{"n":[1,2.5,null,"é"]}`},
	} {
		if got := desk.must(c.actor, c.method, c.params); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.actor, c.method, c.params, got, c.want)
		}
	}
	for _, c := range []struct {
		actor, method, params string
		code                  abi.Code
		text                  string
	}{
		{"counter/a", "add", `{"bye":1}`, abi.ErrInvalidArgument, "bye"},
		{"counter/a", "add", `{"by":"1"}`, abi.ErrInvalidArgument, "by"},
		{"counter/a", "gut", ``, abi.ErrUnknownMethod, "add, get"},
		{"count/a", "get", ``, abi.ErrUnknownKind, "bank, chat, counter, echo, ratelimit"},
		{"bank/b", "withdraw", `{"amount":31}`, abi.ErrActor, "1 less"},
		{"echo/a", "fail", ``, abi.ErrActor, "asked to fail"},
		{"echo/a", "echo", `"` + strings.Repeat("x", abi.DefaultMaxMessage) + `"`, abi.ErrPayloadTooLarge, ""},
	} {
		_, err := desk.call(c.actor, c.method, c.params)
		if abi.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s %s: %v, want %v with %q", c.actor, c.method, err, c.code, c.text)
		}
	}

	// A kind is placed among those that host it, whoever calls.
	names := make([]string, 200)
	for i, name := range counters(len(names)) {
		names[i] = strings.Replace(name, "counter/", "echo/", 1)
	}
	each(names, func(i int, name string) {
		via := []*member{desk, r.up["n1"], r.up["n2"], r.up["n3"]}[i%4]
		if got, err := via.call(name, "echo", `1`); err != nil || got != "1" {
			t.Errorf("%s through %s: %s, %v", name, via.ID, got, err)
		}
	})
	a, b := len(r.up["n1"].hosted("echo")), len(r.up["n3"].hosted("echo"))
	if n := len(r.homes("echo")); n != len(names)+1 || a+b != n || min(a, b) < len(names)/3 {
		t.Errorf("%d actors of a kind that n1 and n3 host: %d and %d on those", n, a, b)
	}
	if hosted := append(desk.hosted(""), r.up["n2"].hosted("echo")...); len(hosted) > 0 {
		t.Errorf("nodes that host nothing, or not this kind, have %q", hosted)
	}
	list, err := desk.http.Kinds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list.Kinds {
		want := []string{"n1", "n2", "n3"}
		if k.Name == "echo" {
			want = []string{"n1", "n3"}
		}
		if !slices.Equal(k.Nodes, want) || len(k.Methods) == 0 {
			t.Errorf("the client lists %+v", k)
		}
	}

	// The last hosts of a kind go. Whoever calls waits for another, as long as it has time.
	for _, id := range []string{"n1", "n3"} {
		r.stop(r.up[id])
	}
	r.agree()
	r.until("a call for a kind that nobody hosts at present is refused", func() (bool, any) {
		_, err := desk.callFor("echo/a", "echo", `1`, 200*time.Millisecond)
		if code := abi.CodeOf(err); !code.Retryable() && code != abi.ErrTimeout { // that is the client's, when it got no answer in time
			t.Errorf("a kind that nobody hosts at present: %v", err)
		}
		return abi.CodeOf(err).Retryable(), err
	})
	waiting := make(chan error, 1)
	go func() {
		_, err := desk.callFor("echo/a", "echo", `1`, hangs)
		waiting <- err
	}()
	r.seed = r.up["n2"].Gossip
	r.start("n5", "--actors", both)
	if err := <-waiting; err != nil {
		t.Errorf("a call for a kind that is hosted again: %v", err)
	}
	r.agree()
	// So do kinds whose module is put beside the others, or taken away, while the nodes run.
	if err := os.Rename(filepath.Join(r.modules("hostcalls.wasm"), "hostcalls.wasm"), filepath.Join(both, "hostcalls.wasm")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		r.until("the client hears of a kind's coming and going", func() (bool, any) {
			hosts := desk.hosts()
			return strings.Contains(hosts, "hostcalls on [n5]") == want, hosts
		})
		_ = os.Remove(filepath.Join(both, "hostcalls.wasm"))
	}
	r.stop(desk)
	r.agree()
}
