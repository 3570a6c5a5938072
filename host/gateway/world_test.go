package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode answers what a test tells it to, and keeps what it was sent.
type fakeNode struct {
	send    func(ctx context.Context, env *abi.Envelope) ([]byte, error)
	method  func(kind, method string) (*abi.Method, error)
	kinds   []KindInfo
	files   []FileInfo
	members []MemberInfo
	actors  func(ActorQuery) ActorPage
	ready   Readiness

	mu   sync.Mutex
	sent []abi.Envelope
}

func (n *fakeNode) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	n.mu.Lock()
	n.sent = append(n.sent, *env)
	n.mu.Unlock()
	if n.send == nil {
		return env.Payload, nil
	}
	return n.send(ctx, env)
}

func (n *fakeNode) last(t *testing.T) abi.Envelope {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.sent) == 0 {
		t.Fatal("the node was sent nothing")
	}
	return n.sent[len(n.sent)-1]
}

func (n *fakeNode) Method(_ context.Context, kind, method string, _ time.Time) (*abi.Method, error) {
	if n.method == nil {
		return nil, nil
	}
	return n.method(kind, method)
}

func (n *fakeNode) Kinds() []KindInfo     { return n.kinds }
func (n *fakeNode) Files() []FileInfo     { return n.files }
func (n *fakeNode) Ready() Readiness      { return n.ready }
func (n *fakeNode) Members() []MemberInfo { return n.members }
func (n *fakeNode) Actors(q ActorQuery) ActorPage {
	return n.actors(q)
}

// serve runs a gateway for node on a real socket.
func serve(t *testing.T, node *fakeNode, change func(*Config)) *httptest.Server {
	t.Helper()
	cfg := Config{Node: node, Log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&cfg)
	}
	s := httptest.NewUnstartedServer(nil)
	s.Config = New(cfg).server
	s.Start()
	t.Cleanup(s.Close)
	return s
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Helper()
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t *testing.T) Problem {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != TypeProblem {
		t.Fatalf("status %d with content type %q, not a problem: %s", a.status, got, a.body)
	}
	var p Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if p.Status != a.status || p.Title == "" || p.Type != problemType+p.Code {
		t.Errorf("an inconsistent problem with status %d: %s", a.status, a.body)
	}
	return p
}

// exchange sends one request; header is name, value, …
func exchange(t *testing.T, method, url string, body []byte, header ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func record(name string, fields ...abi.Field) *abi.Method {
	return &abi.Method{Name: name, Params: &abi.Schema{Type: abi.TypeRecord, Fields: fields}}
}
