package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestIdentityIsOnePathSegment(t *testing.T) {
	node := &fakeNode{}
	s := serve(t, node, nil)
	for _, id := range []string{
		"alice", "a/b", "/", "//", ".", "..", "../..", "a b", "+", "%", "%2F", "é", "日本語", "a?b#c", "x;y,z", `"^|`, "~-_.!$&'()*=:@",
		strings.Repeat("é", 127),
	} {
		target, err := abi.NewIdentity("echo", id)
		if err != nil {
			t.Fatal(err)
		}
		a := exchange(t, "POST", s.URL+CallPath(target, ".."), []byte(`{}`))
		if a.status != 200 {
			t.Errorf("%q: %d %s", id, a.status, a.body)
			continue
		}
		if env := node.last(t); env.Target != target || env.Method != ".." {
			t.Errorf("%q arrived as %q, method %q", id, env.Target.ID(), env.Method)
		}
	}
}

// What no Go client sends: raw non-ASCII beside an escaped slash, dot segments, double slashes, as a terminal may.
func TestIdentityAsTyped(t *testing.T) {
	node := &fakeNode{}
	s := serve(t, node, nil)
	for _, c := range []struct{ path, id string }{
		{"/v1/actors/echo/é%2Fb/m", "é/b"},
		{"/v1/actors/echo/../m", ".."},
		{"/v1/actors/echo/./m", "."},
		{"/v1/actors/echo/%e6%97%a5/m", "日"},
		{`/v1/actors/echo/"quoted"/m`, `"quoted"`},
		{"/v1/actors/echo/a+b/m", "a+b"},
	} {
		status, _ := raw(t, s.Listener.Addr().String(), "POST "+c.path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
		if status != 200 {
			t.Errorf("%s: %d", c.path, status)
			continue
		}
		if got := node.last(t).Target.ID(); got != c.id {
			t.Errorf("%s arrived as %q", c.path, got)
		}
	}
}

func raw(t *testing.T, addr, request string) (status int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestBadPaths(t *testing.T) {
	s := serve(t, &fakeNode{}, nil)
	for _, c := range []struct {
		path   string
		status int
		says   string
	}{
		{"/v1/actors/echo//m", 400, "identity is empty"},
		{"/v1/actors//a/m", 400, "kind is empty"},
		{"/v1/actors/Echo/a/m", 400, "kind is 1 to 63"},
		{"/v1/actors/echo/%00/m", 400, "control characters"},
		{"/v1/actors/echo/%FF/m", 400, "UTF-8"},
		{"/v1/actors/echo/%C2%9B/m", 400, "control characters"},
		{"/v1/actors/echo/" + strings.Repeat("a", 256) + "/m", 400, "255 bytes"},
		{"/v1/actors/echo/a/m%20m", 400, "method name"},
		{"/v1/actors/echo/a/" + strings.Repeat("m", 128), 400, "method name"},
		{"/v1/actors/echo/a/b/m", 404, "%2F"},
		{"/v1/actors/echo/a", 404, "{method}"},
		{"/v1/actors/echo/a/", 404, "{method}"},
		{"/v1/actors/", 404, "{method}"},
		{"/v1/actors/echo/a/m/", 404, "%2F"},
		{"/v2/actors/echo/a/m", 404, "no such page"},
		{"//v1/actors/echo/a/m", 404, "no such page"},
	} {
		a := exchange(t, "POST", s.URL+c.path, nil)
		p := a.problem(t)
		if p.Status != c.status || !strings.Contains(p.Detail, c.says) || p.Retryable {
			t.Errorf("%.60s: %s", c.path, a.body)
		}
	}
}

func TestMethodNotAllowed(t *testing.T) {
	s := serve(t, &fakeNode{}, nil)
	for path, allow := range map[string]string{"/v1/actors/echo/a/m": "POST", "/v1/kinds": "GET, HEAD", "/livez": "GET, HEAD"} {
		a := exchange(t, "PUT", s.URL+path, nil)
		if p := a.problem(t); p.Status != 405 || p.Code != "invalid_argument" || a.header.Get("Allow") != allow {
			t.Errorf("%s: %s, Allow %q", path, a.body, a.header.Get("Allow"))
		}
	}
}

func TestContentNegotiation(t *testing.T) {
	node := &fakeNode{}
	s := serve(t, node, nil)
	js, cb := `{"by":1}`, "\xa1\x62by\x01"
	for _, c := range []struct {
		name, contentType, accept, body string
		status                          int
		replyType, reply                string
	}{
		{"nothing said", "", "", js, 200, TypeJSON, js},
		{"json", TypeJSON, TypeJSON, js, 200, TypeJSON, js},
		{"json with charset", "Application/JSON; charset=UTF-8", "", js, 200, TypeJSON, js},
		{"cbor in, cbor out", TypeCBOR, "", cb, 200, TypeCBOR, cb},
		{"cbor in, anything out", TypeCBOR, "*/*", cb, 200, TypeCBOR, cb},
		{"cbor in, json out", TypeCBOR, TypeJSON, cb, 200, TypeJSON, js},
		{"json in, cbor out", TypeJSON, TypeCBOR, js, 200, TypeCBOR, cb},
		{"better q", TypeJSON, "application/json;q=0.5, application/cbor;q=0.9", js, 200, TypeCBOR, cb},
		{"specific beats range", TypeJSON, "*/*, application/json;q=0.1", js, 200, TypeCBOR, cb},
		{"range", TypeJSON, "text/html, application/*;q=0.2", js, 200, TypeJSON, js},
		{"excluded", TypeJSON, "application/json;q=0, */*;q=0.1", js, 200, TypeCBOR, cb},
		{"neither", TypeJSON, "text/html", js, 406, "", ""},
		{"both excluded", TypeJSON, "*/*;q=0", js, 406, "", ""},
		{"text", "text/plain", "", js, 415, "", ""},
		{"curl -d says form", "application/x-www-form-urlencoded", "", js, 200, TypeJSON, js},
		{"latin", "application/json; charset=latin1", "", js, 415, "", ""},
		{"empty json", TypeJSON, "", "", 200, TypeJSON, `{}`},
		{"empty cbor", TypeCBOR, "", "", 200, TypeCBOR, "\xa0"},
		{"broken json", TypeJSON, "", `{"by":`, 400, "", ""},
		{"broken cbor", TypeCBOR, "", "\xa1\x62", 400, "", ""},
		{"two cbor items", TypeCBOR, "", "\x01\x01", 400, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h []string
			if c.contentType != "" {
				h = append(h, "Content-Type", c.contentType)
			}
			if c.accept != "" {
				h = append(h, "Accept", c.accept)
			}
			a := exchange(t, "POST", s.URL+"/v1/actors/counter/a/add", []byte(c.body), h...)
			if a.status != c.status {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if c.status != 200 {
				if p := a.problem(t); p.Code != "invalid_argument" || p.Retryable {
					t.Errorf("%s", a.body)
				}
				return
			}
			if got := a.header.Get("Content-Type"); got != c.replyType || strings.TrimSpace(a.body) != c.reply {
				t.Errorf("%s %q, want %s %q", got, a.body, c.replyType, c.reply)
			}
		})
	}
	if a := exchange(t, "POST", s.URL+"/v1/actors/c/a/m", []byte(js), "Content-Encoding", "gzip"); a.status != 415 {
		t.Errorf("gzip: %d %s", a.status, a.body)
	}
}

func TestEveryCodeBecomesAProblem(t *testing.T) {
	var answer error
	s := serve(t, &fakeNode{send: func(context.Context, *abi.Envelope) ([]byte, error) { return nil, answer }}, nil)
	for _, info := range abi.Codes()[1:] {
		answer = fmt.Errorf("on the way: %w", &abi.Error{Code: info.Code, App: "broke", Message: "why\x1b", Details: []byte{0x01}})
		a := exchange(t, "POST", s.URL+"/v1/actors/echo/a/m", nil)
		p := a.problem(t)
		retry := ""
		if info.Retryable {
			retry = "1"
		}
		if p.Status != info.Status || p.Code != info.Name || p.Title != info.Title || p.Retryable != info.Retryable ||
			p.ActorCode != "broke" || string(p.Details) != "1" || p.Instance != "/v1/actors/echo/a/m" ||
			!strings.Contains(p.Detail, "on the way") || a.header.Get("Retry-After") != retry {
			t.Errorf("%s: Retry-After %q, %s", info.Name, a.header.Get("Retry-After"), a.body)
		}
	}
	answer = &abi.Error{Code: abi.ErrActor, Details: []byte{0xff}} // details that are no CBOR
	if p := exchange(t, "POST", s.URL+"/v1/actors/echo/a/m", nil).problem(t); p.Code != "actor_error" || p.Details != nil {
		t.Errorf("%+v", p)
	}
}

// What clients see while a node is lost, goes or has no room: whether to try again, how soon, and whether here.
func TestProblemsBetweenNodes(t *testing.T) {
	var answer error
	node := &fakeNode{send: func(context.Context, *abi.Envelope) ([]byte, error) { return nil, answer }}
	s := serve(t, node, nil)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	for _, c := range []struct {
		code      abi.Code
		status    int
		retry     bool
		elsewhere bool // the connection is closed
	}{
		{abi.ErrUnreachable, 503, true, false},
		{abi.ErrOverloaded, 503, true, false},
		{abi.ErrOwnershipChanged, 503, true, false},
		{abi.ErrNotReady, 503, true, false},
		{abi.ErrMailboxFull, 429, true, false},
		{abi.ErrShuttingDown, 503, true, true},
		{abi.ErrOutcomeUnknown, 503, false, false},
		{abi.ErrTimeout, 504, false, false},
	} {
		answer = abi.NewError(c.code, "node n2 at 127.0.0.1:7711: why")
		for _, oneWay := range []string{"false", "true"} {
			r, err := http.NewRequest("POST", s.URL+"/v1/actors/counter/a/add", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(HeaderOneWay, oneWay)
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			p := answered(t, resp, body)
			_, again := resp.Header["Retry-After"]
			if p.Status != c.status || p.Code != c.code.String() || p.Retryable != c.retry || again != c.retry || resp.Close != c.elsewhere ||
				!strings.Contains(p.Detail, "n2") {
				t.Errorf("%s, one way %s: %d, close %v, %v %s", c.code, oneWay, resp.StatusCode, resp.Close, resp.Header, body)
			}
		}
	}
}

func answered(t *testing.T, resp *http.Response, body []byte) Problem {
	t.Helper()
	return answer{resp.StatusCode, resp.Header, string(body)}.problem(t)
}

func TestMethodIsCheckedBeforeTheBodyIsRead(t *testing.T) {
	node := &fakeNode{method: func(kind, method string) (*abi.Method, error) {
		return nil, abi.NewError(abi.ErrUnknownKind, "no kind "+kind)
	}}
	s := serve(t, node, nil)
	p := exchange(t, "POST", s.URL+"/v1/actors/nope/a/m", []byte("not json")).problem(t)
	if p.Status != 404 || p.Code != "unknown_kind" || p.Detail != "no kind nope" {
		t.Errorf("%+v", p)
	}
}

func TestBadReplies(t *testing.T) {
	var reply []byte
	s := serve(t, &fakeNode{send: func(context.Context, *abi.Envelope) ([]byte, error) { return reply, nil }}, nil)
	reply = []byte{0xff}
	for _, accept := range []string{TypeJSON, TypeCBOR} {
		if p := exchange(t, "POST", s.URL+"/v1/actors/echo/a/m", nil, "Accept", accept).problem(t); p.Code != "trap" {
			t.Errorf("%s: %+v", accept, p)
		}
	}
	reply = nil
	if a := exchange(t, "POST", s.URL+"/v1/actors/echo/a/m", nil); strings.TrimSpace(a.body) != "null" {
		t.Errorf("an empty reply: %q", a.body)
	}
	if a := exchange(t, "POST", s.URL+"/v1/actors/echo/a/m", nil, "Accept", TypeCBOR); a.body != "\xf6" {
		t.Errorf("an empty reply: %q", a.body)
	}
}

func TestHeadersOfACall(t *testing.T) {
	node := &fakeNode{method: func(_, method string) (*abi.Method, error) {
		return &abi.Method{Name: method, ReadOnly: method == "get"}, nil
	}}
	s := serve(t, node, func(c *Config) { c.DefaultTimeout, c.MaxTimeout = 20*time.Second, time.Minute })
	url := s.URL + "/v1/actors/echo/a/m"
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

	for value, want := range map[string]time.Duration{"": 20 * time.Second, "1500ms": 1500 * time.Millisecond, "2500": 2500 * time.Millisecond,
		"2h": time.Minute, "9223372036854775807": time.Minute} {
		var h []string
		if value != "" {
			h = []string{HeaderTimeout, value}
		}
		before := time.Now()
		if a := exchange(t, "POST", url, nil, h...); a.status != 200 {
			t.Fatalf("timeout %q: %s", value, a.body)
		}
		if d := node.last(t).Deadline; d.Before(before.Add(want)) || d.After(time.Now().Add(want)) {
			t.Errorf("timeout %q: %v left, want %v", value, d.Sub(before), want)
		}
	}

	a := exchange(t, "POST", url, nil, HeaderIf, "active", HeaderIdempotency, "key-1", "Traceparent", parent,
		"Tracestate", "a=1", "Tracestate", "b@c=2")
	env := node.last(t)
	if a.status != 200 || env.Flags != abi.OnlyIfActive || env.IdempotencyKey != "key-1" || env.TraceParent != parent ||
		env.TraceState != "a=1,b@c=2" || !env.Caller.IsZero() {
		t.Errorf("%d, %+v", a.status, env)
	}
	exchange(t, "POST", url, nil, HeaderIf, "exists", "Traceparent", strings.ToUpper(parent), "Tracestate", "a=1")
	if env := node.last(t); env.Flags != abi.MustExist || env.TraceParent != "" || env.TraceState != "" {
		t.Errorf("%+v", env)
	}
	exchange(t, "POST", s.URL+"/v1/actors/echo/a/get", nil)
	if env := node.last(t); env.Flags != abi.Idempotent {
		t.Errorf("a read-only method: flags %b", env.Flags)
	}
	if a := exchange(t, "POST", url, nil, HeaderOneWay, "true"); a.status != 202 || a.body != "" || node.last(t).Flags != abi.OneWay {
		t.Errorf("one way: %d %q, %+v", a.status, a.body, node.last(t))
	}

	for _, h := range [][]string{
		{HeaderTimeout, "soon"}, {HeaderTimeout, "0"}, {HeaderTimeout, "-1s"}, {HeaderTimeout, "1s", HeaderTimeout, "2s"},
		{HeaderIf, "maybe"}, {HeaderOneWay, "yes"}, {HeaderIdempotency, strings.Repeat("k", 256)}, {HeaderIdempotency, "\xff"},
	} {
		if p := exchange(t, "POST", url, nil, h...).problem(t); p.Status != 400 || !strings.Contains(p.Detail, h[0]) {
			t.Errorf("%q: %+v", h, p)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	node := &fakeNode{}
	s := serve(t, node, func(c *Config) { c.MaxMessage = 100 })
	url := s.URL + "/v1/actors/echo/a/m"
	fits := append([]byte{0x58, 98}, make([]byte, 98)...) // a byte string of 100 bytes of CBOR
	if a := exchange(t, "POST", url, fits, "Content-Type", TypeCBOR); a.status != 200 {
		t.Errorf("a message of just the limit: %s", a.body)
	}
	over := append([]byte{0x58, 99}, make([]byte, 99)...)
	for name, c := range map[string]struct {
		contentType string
		body        []byte
	}{
		"cbor":              {TypeCBOR, over},
		"json":              {TypeJSON, []byte(`"` + strings.Repeat("x", 100) + `"`)}, // only as CBOR it is over
		"json on its way":   {TypeJSON, []byte(`"` + strings.Repeat("x", 300) + `"`)},
		"json, white space": {TypeJSON, bytes.Repeat([]byte(" "), 300)},
	} {
		if p := exchange(t, "POST", url, c.body, "Content-Type", c.contentType).problem(t); p.Status != 413 || p.Code != "payload_too_large" {
			t.Errorf("%s: %+v", name, p)
		}
		// The same without a length ahead.
		r, err := http.NewRequest("POST", url, io.MultiReader(bytes.NewReader(c.body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.contentType)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("%s, chunked: %d", name, resp.StatusCode)
		}
	}
	r, _ := http.NewRequest("POST", url, io.MultiReader(strings.NewReader(`{"a":`), strings.NewReader(`1}`)))
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || strings.TrimSpace(string(b)) != `{"a":1}` {
		t.Errorf("chunked: %d %s", resp.StatusCode, b)
	}
}

func TestAClientThatLeavesEndsTheWait(t *testing.T) {
	started, ended := make(chan struct{}), make(chan error, 1)
	s := serve(t, &fakeNode{send: func(ctx context.Context, _ *abi.Envelope) ([]byte, error) {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}, nil)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	<-started
	conn.Close()
	if err := <-ended; err != context.Canceled {
		t.Error(err)
	}
}

func TestAPanicIsAProblem(t *testing.T) {
	s := serve(t, &fakeNode{send: func(context.Context, *abi.Envelope) ([]byte, error) { panic("boom") }}, nil)
	if p := exchange(t, "POST", s.URL+"/v1/actors/echo/a/m", nil).problem(t); p.Status != 500 || strings.Contains(p.Detail, "boom") {
		t.Errorf("%+v", p)
	}
}

// slowBody is {} after a while.
type slowBody struct {
	io.Reader
	after time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	time.Sleep(b.after)
	b.after = 0
	return b.Reader.Read(p)
}

// What finding the method takes is of the caller's time; what the body takes is not.
func TestTheTimeOfACallIsGivenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &fakeNode{method: func(string, string) (*abi.Method, error) {
			time.Sleep(7 * time.Second)
			return nil, nil
		}}
		r := httptest.NewRequestWithContext(t.Context(), "POST", "http://localhost/v1/actors/echo/a/m", &slowBody{strings.NewReader("{}"), 5 * time.Second})
		r.Header.Set(HeaderTimeout, "10s")
		w, began := httptest.NewRecorder(), time.Now()
		New(Config{Node: node}).ServeHTTP(w, r)
		if left := node.last(t).Deadline.Sub(began) - 12*time.Second; w.Code != 200 || left != 3*time.Second {
			t.Errorf("%d %s, %v left for the actor", w.Code, w.Body, left)
		}
	})
}
