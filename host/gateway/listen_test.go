package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

func TestListenRefusesOtherAddresses(t *testing.T) {
	for addr, says := range map[string]string{
		":7700":          "every address",
		"0.0.0.0:7700":   "ssh -L",
		"[::]:7700":      "ssh -L",
		"192.0.2.1:7700": "not loopback",
		"127.0.0.1":      "HOST:PORT",
		"127.0.0.1:http": "HOST:PORT",
		"":               "HOST:PORT",
		"::1:7700":       "HOST:PORT",
		"127.0.0.1:-1":   "HOST:PORT",
		"[::1%lo]x:1":    "HOST:PORT",
	} {
		l, err := Listen(t.Context(), addr)
		if err == nil {
			l.Close()
			t.Errorf("%q is served", addr)
			continue
		}
		var le *ListenError
		if !errors.As(err, &le) || le.Addr != addr || abi.CodeOf(err) != abi.ErrInvalidArgument || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

func TestListenSaysThatThePortIsInUse(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	_, err = Listen(t.Context(), addr)
	if abi.CodeOf(err) != abi.ErrInternal || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "--http 127.0.0.1:0") {
		t.Errorf("%v", err)
	}
}

func TestListenOnLocalhost(t *testing.T) {
	l, err := Listen(t.Context(), "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
		t.Error(ip)
	}
}

func TestShutdownWaitsForRequests(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	g := New(Config{Node: &fakeNode{send: func(context.Context, *abi.Envelope) ([]byte, error) {
		close(started)
		<-finish
		return []byte{0x01}, nil
	}}})
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served, stopped, replied := make(chan error, 1), make(chan error, 1), make(chan string, 1)
	go func() { served <- g.Serve(l) }()
	go func() {
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		r, _ := http.NewRequest("POST", "http://"+l.Addr().String()+"/v1/actors/echo/a/m", nil)
		resp, err := tr.RoundTrip(r)
		if err != nil {
			replied <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		replied <- string(b)
	}()
	<-started
	go func() { stopped <- g.Shutdown(context.Background()) }()
	if err := <-served; err != nil { // while the request still runs
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("a client that comes after the end is let in")
	}
	close(finish)
	if got := <-replied; strings.TrimSpace(got) != "1" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestServeAfterShutdown(t *testing.T) {
	g := New(Config{Node: &fakeNode{}})
	if err := g.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Serve(l); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
}

// A listener that is no TCP socket, such as one of TLS, is closed as any is.
func TestShutdownClosesAnyListener(t *testing.T) {
	g := New(Config{Node: &fakeNode{}})
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(struct{ net.Listener }{l}) }()
	if a := exchange(t, "GET", "http://"+l.Addr().String()+"/livez", nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := g.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsOffWhatTakesTooLong(t *testing.T) {
	started := make(chan struct{})
	g := New(Config{Node: &fakeNode{send: func(ctx context.Context, _ *abi.Envelope) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}}})
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served, replied := make(chan error, 1), make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	go func() {
		r, _ := http.NewRequest("POST", "http://"+l.Addr().String()+"/v1/actors/echo/a/m", nil)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		replied <- err
	}()
	<-started
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := <-replied; err == nil {
		t.Error("a request that was cut off got an answer")
	}
}
