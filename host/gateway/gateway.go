package gateway

import (
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Config says how to serve a node.
type Config struct {
	Node Node
	// Operator answers /v1/voters, /v1/drain and /v1/members/{id}/block; nil: there are none.
	Operator Operator
	// Metrics answers /metrics; nil: there is none.
	Metrics http.Handler
	// MaxMessage bounds a payload in bytes of CBOR; JSON may take twice as much on its way. 0: [abi.DefaultMaxMessage].
	MaxMessage int
	// DefaultTimeout is for calls that name none. 0: [abi.DefaultRequest].
	DefaultTimeout time.Duration
	// MaxTimeout bounds the time that a call names; more is cut to it. 0: [DefaultMaxTimeout].
	MaxTimeout time.Duration
	// MaxConns bounds the connections that are open; what becomes of more is told in crowd.go. 0: [DefaultMaxConns].
	MaxConns int
	// Log takes panics and defects, and at debug every request. nil: nothing is logged.
	Log *slog.Logger
	// Version of the node, for the index page. May be empty.
	Version string
}

// DefaultMaxTimeout bounds how long a call may wait when the configuration does not say.
const DefaultMaxTimeout = 5 * time.Minute

// Gateway serves one node over HTTP. It is an [http.Handler]; [Gateway.Serve] runs it with the right bounds.
type Gateway struct {
	node           Node
	operator       Operator
	metrics        http.Handler
	maxMessage     int
	defaultTimeout time.Duration
	maxTimeout     time.Duration
	log            *slog.Logger
	version        string
	bodyTimeout    time.Duration
	linger         time.Duration
	server         *http.Server
	crowd          *crowd // who is connected

	mu      sync.Mutex
	doors   []*door       // of each Serve
	leaving atomic.Bool   // set under mu: every answer is now the last one of its connection
	conns   atomic.Int64  // open connections
	empty   chan struct{} // holds an item when, leaving, the last connection was closed
}

var _ http.Handler = (*Gateway)(nil)

// New returns a gateway for cfg.Node, which must be set.
func New(cfg Config) *Gateway {
	g := &Gateway{
		node: cfg.Node, operator: cfg.Operator, metrics: cfg.Metrics, maxMessage: cfg.MaxMessage, defaultTimeout: cfg.DefaultTimeout,
		maxTimeout: cfg.MaxTimeout, log: cfg.Log, version: cfg.Version,
		bodyTimeout: bodyTimeout, linger: linger, empty: make(chan struct{}, 1),
	}
	if g.node == nil {
		panic("gateway: Config.Node is nil")
	}
	if g.maxMessage <= 0 {
		g.maxMessage = abi.DefaultMaxMessage
	}
	if g.defaultTimeout <= 0 {
		g.defaultTimeout = abi.DefaultRequest
	}
	if g.maxTimeout <= 0 {
		g.maxTimeout = DefaultMaxTimeout
	}
	g.maxTimeout = max(g.maxTimeout, g.defaultTimeout)
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = DefaultMaxConns()
	}
	if files := maxFiles(); files > 0 && uint64(cfg.MaxConns)+porchPlaces > files {
		g.log.Warn("limits.max_conns is more than the files that the process may open (ulimit -n), and keeps none for the node itself",
			"max_conns", cfg.MaxConns, "files", files)
	}
	g.crowd = &crowd{max: cfg.MaxConns, minRest: minRest, log: g.log, freed: make(chan struct{}, 1)}
	g.server = g.newServer()
	return g
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.log.Enabled(r.Context(), slog.LevelDebug) {
		if _, err := g.serve(w, r); err != nil {
			g.writeProblem(w, r, err)
		}
		return
	}
	began := time.Now()
	status, err := g.serve(w, r)
	code := abi.CodeOf(err)
	if err != nil {
		status = g.writeProblem(w, r, err)
	}
	g.log.LogAttrs(r.Context(), slog.LevelDebug, "request",
		slog.String("method", r.Method), slog.String("path", cutText(rawPath(r.URL), 512)), slog.Int("status", status),
		slog.String("code", code.String()), slog.Duration("took", time.Since(began)))
}

// serve answers a request, or returns the error to answer with; then nothing was written yet.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) (status int, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			g.log.Error("panic while answering a request", "panic", p, "stack", string(debug.Stack()))
			err = abi.NewError(abi.ErrInternal, "a defect of the node; its log says more")
		}
	}()
	if g.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	path := rawPath(r.URL)
	if err := g.takePlace(w, r, path); err != nil {
		return 0, err
	}
	g.expectBody(w, r)
	if err := checkOrigin(r); err != nil {
		return 0, err
	}
	if rest, ok := strings.CutPrefix(path, actorsPath+"/"); ok {
		if r.Method != http.MethodPost {
			return 0, methodNotAllowed(r.Method, "POST")
		}
		return g.call(w, r, rest)
	}
	if status, ok, err := g.operate(w, r, path); ok {
		return status, err
	}
	var page func(http.ResponseWriter, *http.Request) (int, error)
	switch path {
	case "/":
		page = g.index
	case "/livez":
		page = g.livez
	case "/readyz":
		page = g.readyz
	case "/metrics":
		page = g.serveMetrics
	case "/v1/kinds":
		page = g.kinds
	case membersPath:
		page = g.members
	case actorsPath:
		page = g.actors
	default:
		return 0, noPage()
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return 0, methodNotAllowed(r.Method, "GET, HEAD")
	}
	return page(w, r)
}

func noPage() error {
	return &statusError{status: http.StatusNotFound, err: abi.NewError(abi.ErrUnsupported,
		"this node has no such page; GET / lists what there is")}
}

func methodNotAllowed(method, allow string) error {
	return &statusError{status: http.StatusMethodNotAllowed, allow: allow, err: abi.NewError(abi.ErrInvalidArgument,
		strconv.QuoteToASCII(cutText(method, 20))+" is not allowed here; use "+allow)}
}

// checkOrigin refuses what a web page from elsewhere makes a browser on this machine send.
func checkOrigin(r *http.Request) error {
	if !loopbackHost(r.Host) {
		return abi.NewError(abi.ErrDenied, "the Host header "+strconv.QuoteToASCII(cutText(r.Host, 80))+
			" does not name this machine's loopback; ask for http://localhost or http://127.0.0.1")
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil // without CORS a page cannot read the answer
	}
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
			return abi.NewError(abi.ErrDenied, "a page of another site may not call actors")
		}
		return nil
	}
	for _, o := range origins {
		u, err := url.Parse(o)
		if err != nil || !loopbackHost(u.Host) {
			return abi.NewError(abi.ErrDenied, "a page of "+strconv.QuoteToASCII(cutText(o, 80))+
				" may not call actors: only pages of this machine may")
		}
	}
	return nil
}

// loopbackHost reports whether host, with or without a port, is localhost or a loopback address.
func loopbackHost(host string) bool {
	name := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		if _, err := strconv.ParseUint(host[i+1:], 10, 16); err != nil {
			return false
		}
		name = host[:i]
	}
	switch name {
	case "localhost", "127.0.0.1", "[::1]":
		return true
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		if name, ok = strings.CutSuffix(inner, "]"); !ok {
			return false
		}
	} else if strings.IndexByte(name, ':') >= 0 { // ::1:80 is another address than that of [::1]:80
		return false
	}
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}

// Header values are shared by all responses: net/http only reads them.
var (
	jsonHeader    = []string{TypeJSON}
	cborHeader    = []string{TypeCBOR}
	textHeader    = []string{"text/plain; charset=utf-8"}
	problemHeader = []string{TypeProblem}
	noSniff       = []string{"nosniff"}
	noStore       = []string{"no-store"}
)

func writeBody(w http.ResponseWriter, status int, contentType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["X-Content-Type-Options"] = noSniff
	h["Cache-Control"] = noStore
	if len(body) > 1024 { // net/http counts shorter ones by itself
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is no error of ours
}
