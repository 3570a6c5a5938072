package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// serveImpatient is serve with a moment for bodies.
func serveImpatient(t *testing.T, node *fakeNode) *httptest.Server {
	g := New(Config{Node: node})
	g.bodyTimeout = 20 * time.Millisecond
	s := httptest.NewUnstartedServer(nil)
	s.Config = g.server
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// A sender that stalls is answered and let go, whether or not anybody wanted its body.
func TestASlowBodyHoldsNoConnection(t *testing.T) {
	node := &fakeNode{method: func(kind, _ string) (*abi.Method, error) {
		if kind == "nope" {
			return nil, abi.NewError(abi.ErrUnknownKind, "no kind nope")
		}
		return nil, nil
	}}
	s := serveImpatient(t, node)
	for _, c := range []struct {
		request string
		status  int
	}{
		{"POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"by\"", 408},
		{"POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"by\"", 408},
		{"POST /v1/actors/nope/a/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"by\"", 404},
		{"POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\n{\"by\"", 403},
		{"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"by\"", 200},
	} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil { // only against a hang
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, c.request); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%.40s: %v", c.request, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != c.status {
			t.Errorf("%.40s: %d %s %v", c.request, resp.StatusCode, body, err)
		}
		if c.status == 408 && !strings.Contains(string(body), "within 20ms") {
			t.Errorf("%s", body)
		}
		if _, err := r.ReadByte(); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			t.Errorf("%.40s: the connection stays open: %v", c.request, err)
		}
	}
	if len(node.sent) > 0 {
		t.Errorf("%d messages reached the node", len(node.sent))
	}
}

// The time of a body ends with the body: a long call keeps its connection.
func TestACallMayTakeLongerThanItsBody(t *testing.T) {
	s := serveImpatient(t, &fakeNode{send: func(ctx context.Context, _ *abi.Envelope) ([]byte, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
			return []byte{0x01}, nil
		}
	}})
	url := s.URL + "/v1/actors/echo/a/m"
	if a := exchange(t, "POST", url, []byte(`{"by":1}`)); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	r, err := http.NewRequest("POST", url, io.MultiReader(strings.NewReader(`{"by":1}`)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("chunked: %d", resp.StatusCode)
	}
}

// A client that calls over and over on one connection learns of the shutdown by an answer, never by a broken connection.
func TestShutdownIsAnnouncedByAnAnswer(t *testing.T) {
	called := make(chan struct{}, 1)
	g := New(Config{Node: &fakeNode{send: func(context.Context, *abi.Envelope) ([]byte, error) {
		select {
		case called <- struct{}{}:
		default:
		}
		return []byte{0x01}, nil
	}}})
	g.linger = time.Minute // the connection is closed long before
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served, calls := make(chan error, 1), make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	go func() {
		calls <- func() error {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for {
				if _, err := io.WriteString(conn, "POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"); err != nil {
					return err
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					return err
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Close {
					return err
				}
			}
		}()
	}()
	<-called
	if err := g.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-calls; err != nil {
		t.Errorf("a call was not answered: %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A connection that nobody uses holds a shutdown up for no longer than the linger.
func TestShutdownDoesNotWaitForIdleConnections(t *testing.T) {
	g := New(Config{Node: &fakeNode{}})
	g.linger = time.Millisecond
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close() // the connection is kept
	if err := g.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
