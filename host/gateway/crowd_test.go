package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// hang bounds what must come, on a machine of any speed.
const hang = time.Minute

// crowded is a gateway of few places.
type crowded struct {
	*Gateway
	t       *testing.T
	connect func() (net.Conn, error)
	log     *countingLog
}

// bubbleCrowd is serveCrowd over pipes, whose clock is that of a bubble.
func bubbleCrowd(t *testing.T, places int, node *fakeNode) *crowded {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	g := serveCrowdOn(t, l, places, node)
	g.connect = func() (net.Conn, error) {
		here, there := net.Pipe()
		l.conns <- there
		synctest.Wait() // until it is in
		return here, nil
	}
	return g
}

// serveCrowd serves a socket.
func serveCrowd(t *testing.T, places int, node *fakeNode) *crowded {
	t.Helper()
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := serveCrowdOn(t, l, places, node)
	g.crowd.minRest = time.Hour
	g.connect = func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
	return g
}

func serveCrowdOn(t *testing.T, l net.Listener, places int, node *fakeNode) *crowded {
	t.Helper()
	log := &countingLog{}
	g := New(Config{Node: node, MaxConns: places, Log: slog.New(slog.NewTextHandler(log, nil)),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "figures\n") })})
	g.linger = time.Millisecond
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	t.Cleanup(func() {
		if err := g.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		for began := time.Now(); g.Conns().Open != 0; time.Sleep(time.Millisecond) { // net/http closes those that are busy behind Shutdown
			if time.Since(began) > hang {
				t.Fatalf("%d connections are left", g.Conns().Open)
			}
		}
	})
	return &crowded{Gateway: g, t: t, log: log}
}

// countingLog counts lines.
type countingLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *countingLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *countingLog) with(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// caller is a client that keeps its connection.
type caller struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (g *crowded) dial() *caller {
	g.t.Helper()
	conn, err := g.connect()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(hang))
	return &caller{g.t, conn, bufio.NewReader(conn)}
}

func (c *caller) send(request string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, request); err != nil {
		c.t.Error(err)
	}
}

const (
	getLive = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
	call    = "POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n{\"by\":1}"
)

// answer reads a response, and whether the connection ends behind it.
func (c *caller) answer() (a answer, last bool) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Error(err)
		return answer{header: http.Header{}}, true
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Error(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}, resp.Close
}

func (c *caller) expect(request string, status int) {
	c.t.Helper()
	c.send(request)
	if a, _ := c.answer(); a.status != status {
		c.t.Errorf("%d %s", a.status, a.body)
	}
}

// ended waits until the other end has hung up.
func (c *caller) ended() {
	c.t.Helper()
	if _, err := c.in.ReadByte(); err == nil || isTimeout(err) {
		c.t.Errorf("the connection was not ended: %v", err)
	}
}

func isTimeout(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// Who comes when all places are taken is answered, told to come back, and hung up on; those inside are served as before. A place that
// comes free is taken again.
func TestMoreConnectionsThanThereArePlaces(t *testing.T) {
	g := serveCrowd(t, 3, &fakeNode{})
	inside := []*caller{g.dial(), g.dial(), g.dial()}
	for _, c := range inside {
		c.expect(call, 200)
	}
	outside := make([]*caller, porchPlaces)
	for i := range outside {
		outside[i] = g.dial()
	}
	for i, c := range outside {
		request := call
		if i%2 == 1 { // the answer does not wait for the body
			request = "POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
		}
		c.send(request)
		a, last := c.answer()
		if p := a.problem(t); a.status != 503 || p.Code != "overloaded" || !p.Retryable || a.header.Get("Retry-After") == "" || !last ||
			p.Instance != "/v1/actors/echo/a/m" || !strings.Contains(p.Detail, "limits.max_conns") {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
	}
	for i, c := range outside {
		if i%2 == 0 {
			c.ended()
		}
		c.conn.Close()
	}
	for range 3 {
		for _, c := range inside {
			c.expect(call, 200)
		}
	}
	if c := g.Conns(); c.Refused != porchPlaces || c.Displaced != 0 || c.Max != 3 {
		t.Errorf("%+v", c)
	}
	if n := g.log.with("clients are refused"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	inside[1].conn.Close()
	g.until(func(c ConnCounts) bool { return c.Open == 2 })
	late := g.dial()
	late.expect(call, 200)
	late.expect(call, 200)
	inside[0].expect(call, 200)
}

// until waits for what the gateway counts, which it is told of by connections that end.
func (g *crowded) until(is func(ConnCounts) bool) {
	g.t.Helper()
	deadline := time.After(hang)
	for !is(g.Conns()) {
		select {
		case <-g.crowd.freed: // nobody else waits for it: no newcomer does
		case <-deadline:
			g.t.Fatalf("%+v", g.Conns())
		}
	}
}

// What operators look at is answered without a place, and the connection closed behind it.
func TestOperatorsNeedNoPlace(t *testing.T) {
	g := serveCrowd(t, 1, &fakeNode{ready: Readiness{Ready: true}})
	g.dial().expect(call, 200)
	for path, status := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200, "/v1/members": 503, "/": 503} {
		c := g.dial()
		c.send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if a, last := c.answer(); a.status != status || !last {
			t.Errorf("%s: %d %s, the last one: %v", path, a.status, a.body, last)
		}
		c.ended()
	}
	if c := g.Conns(); c.Refused != 2 {
		t.Errorf("%+v", c)
	}
}

// The connection that has rested longest goes for another, those that never said anything before those that were served. One that has rested
// for a moment alone does not, nor one under a request.
func TestWhoRestsLongestMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finish := make(chan struct{})
		g := bubbleCrowd(t, 4, &fakeNode{send: func(_ context.Context, env *abi.Envelope) ([]byte, error) {
			if env.Method == "slow" {
				<-finish
			}
			return env.Payload, nil
		}})
		busy := g.dial()
		busy.send("POST /v1/actors/echo/a/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nWasilo-Timeout: 30s\r\n\r\n")
		first, second := g.dial(), g.dial()
		first.expect(call, 200)
		second.expect(call, 200)
		time.Sleep(minRest / 2)
		first.expect(call, 200)
		silent := g.dial()

		time.Sleep(minRest - 1)
		g.dial() // says nothing, and takes no place from anybody
		third := g.dial()
		third.expect(call, 200) // in the place of the second, which alone has rested long enough
		second.ended()
		early := g.dial()
		early.send(call)
		if a, last := early.answer(); a.status != 503 || !last {
			t.Errorf("%d %s", a.status, a.body)
		}

		time.Sleep(time.Nanosecond)
		fourth := g.dial()
		fourth.expect(call, 200)
		silent.ended() // though the first has rested for as long
		fourth.expect(call, 200)
		time.Sleep(minRest)
		first.expect(call, 200)
		if c := g.Conns(); c != (ConnCounts{Open: 5, Max: 4, Refused: 1, Displaced: 2}) {
			t.Errorf("%+v", c)
		}
		close(finish)
		if a, _ := busy.answer(); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

// A request that begins to come when its connection is given up is not done: nobody would hear of it.
func TestAConnectionThatWasGivenUpIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &crowd{max: 1, freed: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
		here, there := net.Pipe()
		defer here.Close()
		late := &held{Conn: there, release: make(chan struct{})}
		c := w.enter(late)
		heard := make(chan int, 1)
		go func() {
			n, err := c.Read(make([]byte, 100))
			if err == nil {
				n = -1
			}
			heard <- n
		}()
		if _, err := io.WriteString(here, call[:10]); err != nil { // it is read, and not yet known to be
			t.Fatal(err)
		}
		synctest.Wait()
		_, other := net.Pipe()
		if next := w.enter(other).(*client); !w.place(next) || next.inPorch.Load() {
			t.Error("it gets no place")
		}
		close(late.release)
		if n := <-heard; n != 0 {
			t.Errorf("%d bytes were heard", n)
		}
	})
}

// held holds up what was read.
type held struct {
	net.Conn
	release chan struct{}
}

func (h *held) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	<-h.release
	return n, err
}

// Who says nothing without a place holds up the next for a moment, and keeps nobody out for longer; at last it is hung up on.
func TestSilenceWithoutAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := bubbleCrowd(t, 1, &fakeNode{send: func(ctx context.Context, env *abi.Envelope) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		inside := g.dial()
		inside.send("POST /v1/actors/echo/a/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nWasilo-Timeout: 1m\r\n\r\n")
		began := time.Now()
		var silent []*caller
		for range 2 * porchPlaces {
			silent = append(silent, g.dial())
		}
		next := g.dial() // in the queue until the first of the second half have had their moment
		next.send(call)
		if a, _ := next.answer(); a.status != 503 {
			t.Errorf("%d %s", a.status, a.body)
		}
		if waited := time.Since(began); waited != 2*porchLeast {
			t.Errorf("it waited for %v", waited)
		}
		for _, c := range silent[:porchPlaces+1] {
			c.ended()
		}
		synctest.Wait()
		if open := g.Conns().Open; open != 1+porchPlaces-1 { // the one inside, and the silent without the one that the last took the place of
			t.Errorf("%d connections are open", open)
		}
		for _, c := range silent[porchPlaces+1:] {
			c.ended()
		}
		if took := time.Since(began); took < porchTime || took > porchTime+2*porchLeast {
			t.Errorf("they were hung up on after %v", took)
		}
		synctest.Wait()
		if c := g.Conns(); c.Refused != 2*porchPlaces+1 || c.Open != 1 {
			t.Errorf("%+v", c)
		}
		if n := g.log.with("clients are refused"); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
		time.Sleep(crowdQuiet)
		g.dial().expect(call, 503)
		if n := g.log.with("refused=64"); n != 0 {
			t.Error("the first line comes with the first")
		}
		if n := g.log.with("refused=65"); n != 1 {
			t.Errorf("%q", g.log.lines)
		}
	})
}

func TestDefaultConns(t *testing.T) {
	for files, want := range map[uint64]int{0: 1, 3: 1, 64: 16, 127: 31, 128: 32, 256: 96, 1024: 480, 32 << 10: 16352, 1 << 20: 16384, 1<<64 - 1: 16384} {
		if n := defaultConns(files); n != want {
			t.Errorf("%d files: %d connections, want %d", files, n, want)
		}
	}
	if n := DefaultMaxConns(); n < 1 || n > mostConns {
		t.Error(n)
	}
}
