package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// ListenError says why an address cannot be served, and what to do.
type ListenError struct {
	Addr   string
	Code   abi.Code // invalid_argument: the address itself is wrong or not allowed; internal: this machine refuses it now
	Reason string
	Err    error // may be nil
}

func (e *ListenError) Error() string { return "cannot serve HTTP on " + e.Addr + ": " + e.Reason }

// Unwrap returns what the system said.
func (e *ListenError) Unwrap() error { return e.Err }

// WireCode tells a wrong configuration from a busy machine.
func (e *ListenError) WireCode() abi.Code { return e.Code }

// Listen opens addr (host:port; port 0 takes a free one), which must be a loopback address: nobody authenticates yet.
// A name is resolved once, and what it resolves to is both checked and bound. The error is a [*ListenError].
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return nil, &ListenError{Addr: addr, Code: abi.ErrInvalidArgument, Err: err,
			Reason: `an address is HOST:PORT, such as "127.0.0.1:7700" or "[::1]:0"`}
	}
	ip, err := loopbackIP(ctx, host)
	if err != nil {
		return nil, &ListenError{Addr: addr, Code: abi.ErrInvalidArgument, Err: err, Reason: err.Error()}
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // loopback has one path, and the filter of a door is for plain TCP
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(ip.String(), port))
	if err != nil {
		return nil, &ListenError{Addr: addr, Code: abi.ErrInternal, Err: err, Reason: listenReason(err)}
	}
	return l, nil
}

const onlyLoopback = " is not loopback, and this version has neither a CA nor tokens to tell who calls: " +
	"serve 127.0.0.1 and reach it from elsewhere through `ssh -L`"

func loopbackIP(ctx context.Context, host string) (net.IP, error) {
	if host == "" {
		return nil, errors.New("an empty host means every address of this machine, which" + onlyLoopback)
	}
	if ip := net.ParseIP(host); ip != nil {
		if !ip.IsLoopback() {
			return nil, errors.New(ip.String() + onlyLoopback)
		}
		return ip, nil
	}
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if !a.IP.IsLoopback() {
			return nil, errors.New(host + " (" + a.IP.String() + ")" + onlyLoopback)
		}
	}
	for _, a := range addrs {
		if a.IP.To4() != nil {
			return a.IP, nil
		}
	}
	if len(addrs) == 0 {
		return nil, errors.New(host + " has no address")
	}
	return addrs[0].IP, nil
}

func listenReason(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the port is in use, perhaps by another node; stop that one, or take a free port with --http 127.0.0.1:0"
	case errors.Is(err, os.ErrPermission):
		return "not permitted; ports below 1024 need privileges, take a higher one"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// Bounds of a connection. A body has a shorter one of its own (bodyTimeout); the whole of a request is bounded by the
// longest call plus what a slow peer may take to send and to read.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	slowPeer      = time.Minute
	maxHeader     = 32 << 10
)

// linger is how long a gateway that shuts down still answers, each time closing the connection behind it. Clients with
// kept connections thus learn of the end by an answer; one that is closed under a request leaves them in doubt.
const linger = 250 * time.Millisecond

func (g *Gateway) newServer() *http.Server {
	return &http.Server{
		Handler:           g,
		ReadHeaderTimeout: headerTimeout,
		// Longer than any call: net/http ends the context of a request whose connection passes its read deadline.
		ReadTimeout:    g.maxTimeout + slowPeer,
		WriteTimeout:   g.maxTimeout + 2*slowPeer,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
		ConnState:      g.count,
		ConnContext:    connContext,
	}
}

// count keeps the number of open connections, and tells the crowd which of them rest and which have ended.
func (g *Gateway) count(conn net.Conn, state http.ConnState) {
	c, _ := conn.(*client) // nil: it did not come through a door
	switch state {
	case http.StateNew:
		g.conns.Add(1)
	case http.StateActive:
		if c != nil && c.resting.Load() { // what came was read along with what was before
			g.crowd.wake(c)
		}
	case http.StateIdle:
		if c != nil {
			g.crowd.rest(c)
		}
	case http.StateClosed, http.StateHijacked:
		if c != nil {
			g.crowd.leave(c)
		}
		if g.conns.Add(-1) == 0 && g.leaving.Load() {
			select {
			case g.empty <- struct{}{}:
			default:
			}
		}
	}
}

// Serve answers requests from l until [Gateway.Shutdown], and closes l. It returns nil after a shutdown.
func (g *Gateway) Serve(l net.Listener) error {
	d := newDoor(l, g.crowd)
	g.mu.Lock()
	late := g.leaving.Load()
	g.doors = append(g.doors, d)
	g.mu.Unlock()
	if late {
		_ = d.Close()
		return nil
	}
	err := g.server.Serve(d)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) && g.leaving.Load() {
		return nil
	}
	return err
}

// Shutdown first closes the listeners, so that whoever comes is refused, and can go to another node, instead of being cut
// off. It answers a moment longer on the connections there are, closing each behind its answer, then waits for the requests
// under way. When ctx ends first it cuts them off and returns the error of ctx.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	g.leaving.Store(true)
	doors := g.doors
	g.mu.Unlock()
	g.farewell(ctx, doors)
	err := g.server.Shutdown(ctx)
	if err != nil {
		_ = g.server.Close()
	}
	return err
}

// farewell closes the doors, and gives open connections time to be closed by an answer.
func (g *Gateway) farewell(ctx context.Context, doors []*door) {
	last := time.NewTimer(g.linger)
	defer last.Stop()
	for _, d := range doors {
		d.shut()
	}
	for _, d := range doors {
		select {
		case <-d.gone:
		case <-last.C:
			return
		case <-ctx.Done():
			return
		}
	}
	for g.conns.Load() > 0 {
		select {
		case <-g.empty: // or was, before the last one came through a door
		case <-last.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
