package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// serveImpatient serves pipes, with a moment for bodies. The clock is that of the bubble: only who waits for it uses it up.
func serveImpatient(t *testing.T, node *fakeNode) (dial func() net.Conn) {
	g := New(Config{Node: node})
	g.bodyTimeout = 20 * time.Millisecond
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- g.server.Serve(l) }()
	t.Cleanup(func() {
		_ = g.server.Close()
		<-served
	})
	return func() net.Conn {
		here, there := net.Pipe()
		l.conns <- there
		return here
	}
}

// pipes is a listener to whom connections are handed.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A sender that stalls is answered and let go, whether or not anybody wanted its body.
func TestASlowBodyHoldsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &fakeNode{method: func(kind, _ string) (*abi.Method, error) {
			if kind == "nope" {
				return nil, abi.NewError(abi.ErrUnknownKind, "no kind nope")
			}
			return nil, nil
		}}
		dial := serveImpatient(t, node)
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
			conn := dial()
			began := time.Now()
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
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("%.40s: the connection stays open: %v", c.request, err)
			}
			if took := time.Since(began); took > time.Second { // net/http itself lingers for half of that
				t.Errorf("%.40s: held for %v", c.request, took)
			}
			conn.Close()
		}
		if len(node.sent) > 0 {
			t.Errorf("%d messages reached the node", len(node.sent))
		}
	})
}

// The time of a body ends with the body: a long call keeps its connection.
func TestACallMayTakeLongerThanItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := serveImpatient(t, &fakeNode{send: func(ctx context.Context, _ *abi.Envelope) ([]byte, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Minute):
				return []byte{0x01}, nil
			}
		}})
		for _, request := range []string{
			"POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n{\"by\":1}",
			"POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"by\":1}\r\n0\r\n\r\n",
		} {
			conn := dial()
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
				t.Errorf("%.90s: %d %s %v", request, resp.StatusCode, body, err)
			}
			conn.Close()
		}
	})
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
