package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node answers every call with what send says.
type node struct {
	send  func(ctx context.Context, env *abi.Envelope) ([]byte, error)
	ready gateway.Readiness
}

func (n *node) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) { return n.send(ctx, env) }
func (n *node) Method(context.Context, string, string, time.Time) (*abi.Method, error) {
	return nil, nil
}
func (n *node) Kinds() []gateway.KindInfo { return []gateway.KindInfo{{Name: "echo"}} }
func (n *node) Files() []gateway.FileInfo {
	return []gateway.FileInfo{{Path: "echo.wasm", State: gateway.FileLoaded}}
}
func (n *node) Ready() gateway.Readiness { return n.ready }
func (n *node) Members() []gateway.MemberInfo {
	return []gateway.MemberInfo{{ID: "n1", Self: true, State: gateway.MemberAlive, Mode: "member", Linked: true, Kinds: []string{"echo"}},
		{ID: "n2", State: gateway.MemberFailed, Mode: "client", Problem: "it does not answer"}}
}
func (n *node) Actors(q gateway.ActorQuery) gateway.ActorPage {
	asked := gateway.ActorInfo{Kind: "echo", ID: fmt.Sprintf("%s,%d,%s", q.Kind, q.Limit, q.After)}
	return gateway.ActorPage{Actors: []gateway.ActorInfo{asked}, More: q.After.IsZero()}
}

func dial(t *testing.T, h http.Handler) *client.Client {
	t.Helper()
	s := httptest.NewServer(h)
	c, err := client.New(client.Config{URL: s.URL + "/"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c
}

func identity(t *testing.T, key string) abi.Identity {
	t.Helper()
	id, err := abi.ParseIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestCall(t *testing.T) {
	var got abi.Envelope
	n := &node{send: func(_ context.Context, env *abi.Envelope) ([]byte, error) { got = *env; return env.Payload, nil }}
	c := dial(t, gateway.New(gateway.Config{Node: n}))
	alice := identity(t, "echo/al/ice")

	js, err := c.CallJSON(t.Context(), alice, "m", []byte(`{"n":1}`), client.CallOptions{})
	if err != nil || strings.TrimSpace(string(js)) != `{"n":1}` || got.Target != alice || got.Method != "m" {
		t.Errorf("%s %v, %+v", js, err, got)
	}
	if js, err = c.CallJSON(t.Context(), alice, "m", nil, client.CallOptions{}); err != nil || strings.TrimSpace(string(js)) != `{}` {
		t.Errorf("no parameters: %s %v", js, err)
	}
	cb, err := c.CallCBOR(t.Context(), alice, "m", []byte{0x81, 0x01}, client.CallOptions{})
	if err != nil || string(cb) != "\x81\x01" {
		t.Errorf("%x %v", cb, err)
	}
	if cb, err = c.CallCBOR(t.Context(), alice, "m", nil, client.CallOptions{}); err != nil || string(cb) != "\xa0" {
		t.Errorf("no parameters: %x %v", cb, err)
	}
	var out struct{ N int }
	if err := c.Call(t.Context(), alice, "m", map[string]int{"n": 7}, &out, client.CallOptions{}); err != nil || out.N != 7 {
		t.Errorf("%+v %v", out, err)
	}
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	before := time.Now()
	err = c.Call(t.Context(), alice, "m", nil, nil, client.CallOptions{Timeout: 3 * time.Minute, IdempotencyKey: "k",
		TraceParent: parent, TraceState: "a=1", Flags: abi.OneWay | abi.OnlyIfActive})
	if err != nil || got.Flags != abi.OneWay|abi.OnlyIfActive || got.IdempotencyKey != "k" ||
		got.TraceParent != parent || got.TraceState != "a=1" {
		t.Errorf("%v, %+v", err, got)
	}
	if d := got.Deadline; d.Before(before.Add(3*time.Minute)) || d.After(time.Now().Add(3*time.Minute)) {
		t.Errorf("deadline in %v", d.Sub(before))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.CallJSON(ctx, alice, "m", nil, client.CallOptions{Timeout: time.Hour}); err != nil || time.Until(got.Deadline) > time.Minute {
		t.Errorf("the deadline of ctx does not count: %v, %v", err, time.Until(got.Deadline))
	}
}

func TestErrorsKeepWhatTheNodeSaid(t *testing.T) {
	var answer error
	c := dial(t, gateway.New(gateway.Config{Node: &node{send: func(context.Context, *abi.Envelope) ([]byte, error) { return nil, answer }}}))
	for _, info := range abi.Codes()[1:] {
		answer = &abi.Error{Code: info.Code, App: "own_code", Message: "why", Details: []byte{0x81, 0x01}}
		_, err := c.CallJSON(t.Context(), identity(t, "echo/a"), "m", nil, client.CallOptions{})
		var e *abi.Error
		if !errors.As(err, &e) || e.Code != info.Code || e.App != "own_code" || e.Message != "why" || string(e.Details) != "\x81\x01" {
			t.Errorf("%s: %#v", info.Name, err)
		}
	}
}

func TestLists(t *testing.T) {
	n := &node{ready: gateway.Readiness{Ready: true, Checks: []gateway.Check{{Name: "http", OK: true}}}}
	c := dial(t, gateway.New(gateway.Config{Node: n}))
	kinds, err := c.Kinds(t.Context())
	if err != nil || len(kinds.Kinds) != 1 || kinds.Kinds[0].Name != "echo" || len(kinds.Files) != 1 {
		t.Errorf("%+v %v", kinds, err)
	}
	page, err := c.Actors(t.Context(), client.ActorsQuery{})
	if err != nil || page.Actors[0].ID != ",100," || page.Next == "" {
		t.Fatalf("%+v %v", page, err)
	}
	page, err = c.Actors(t.Context(), client.ActorsQuery{Kind: "echo", Limit: 5, After: page.Next})
	if err != nil || page.Actors[0].ID != "echo,5,echo/,100," || page.Next != "" {
		t.Errorf("%+v %v", page, err)
	}
	members, err := c.Members(t.Context())
	if err != nil || len(members.Members) != 2 || !reflect.DeepEqual(members.Members, n.Members()) {
		t.Errorf("%+v %v", members, err)
	}
	if h, err := c.Ready(t.Context()); err != nil || !h.Ready || len(h.Checks) != 1 {
		t.Errorf("%+v %v", h, err)
	}
	n.ready = gateway.Readiness{Checks: []gateway.Check{{Name: "modules", Detail: "compiling"}}}
	if _, err := c.Ready(t.Context()); !errors.Is(err, abi.ErrNotReady) || !strings.Contains(err.Error(), "modules: compiling") {
		t.Errorf("%v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	// The address that a client of another listener has: it is taken, so nobody else gets it meanwhile, and nothing listens there.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	url := "http://" + taken.LocalAddr().String()
	c, err := client.New(client.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CallJSON(t.Context(), identity(t, "echo/a"), "m", nil, client.CallOptions{})
	if code := abi.CodeOf(err); code != abi.ErrNotReady || !strings.Contains(err.Error(), url) || !strings.Contains(err.Error(), "wasilo dev") {
		t.Errorf("%v", err)
	}
}

func TestOutcomesThatAreUnknown(t *testing.T) {
	arrived := make(chan struct{}, 1)
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http watches the connection from the end of the body on
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	a := identity(t, "echo/a")
	c := dial(t, hang)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err := c.CallJSON(ctx, a, "m", nil, client.CallOptions{}); !errors.Is(err, abi.ErrCanceled) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.CallJSON(ctx, a, "m", nil, client.CallOptions{}); !errors.Is(err, abi.ErrTimeout) {
		t.Errorf("%v", err)
	}

	var calls atomic.Int32
	c = dial(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) > 1 {
			panic(http.ErrAbortHandler) // the kept connection breaks
		}
	}))
	opt := client.CallOptions{IdempotencyKey: "k"}
	if _, err := c.CallJSON(t.Context(), a, "m", nil, opt); err != nil {
		t.Error(err)
	}
	if _, err := c.CallJSON(t.Context(), a, "m", nil, opt); !errors.Is(err, abi.ErrInternal) || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("%v", err)
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("%d calls arrived: one was sent again", n)
	}
}

func TestStrangersAnswer(t *testing.T) {
	c := dial(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		fmt.Fprint(w, "<html>")
	}))
	_, err := c.CallJSON(t.Context(), identity(t, "echo/a"), "m", nil, client.CallOptions{})
	if !errors.Is(err, abi.ErrInternal) || !strings.Contains(err.Error(), "302") {
		t.Errorf("%v", err)
	}
	if _, err := c.Kinds(t.Context()); !errors.Is(err, abi.ErrInternal) || !strings.Contains(err.Error(), "cannot read") {
		t.Errorf("%v", err)
	}
}

func TestBadInput(t *testing.T) {
	for _, url := range []string{"127.0.0.1:7700", "ftp://localhost", "http://", "http://localhost/path", "http://localhost?q", ":",
		"http://localhost:99999", "http://localhost:0", "http://:7700", "http://me:secret@localhost"} {
		_, err := client.New(client.Config{URL: url})
		if !errors.Is(err, abi.ErrInvalidArgument) || !strings.Contains(err.Error(), "http://HOST:PORT") {
			t.Errorf("%q: %v", url, err)
		}
	}
	c, err := client.New(client.Config{})
	if err != nil || c.URL() != client.DefaultURL {
		t.Fatal(err)
	}
	a := identity(t, "echo/a")
	for _, f := range []func() error{
		func() error { return c.Call(t.Context(), abi.Identity{}, "m", nil, nil, client.CallOptions{}) },
		func() error { return c.Call(t.Context(), a, "", nil, nil, client.CallOptions{}) },
		func() error { return c.Call(t.Context(), a, "m", make(chan int), nil, client.CallOptions{}) },
		func() error { return c.Call(t.Context(), a, "m", nil, nil, client.CallOptions{IdempotencyKey: "a\nb"}) },
	} {
		if err := f(); !errors.Is(err, abi.ErrInvalidArgument) {
			t.Errorf("%v", err)
		}
	}
}
