package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
)

// DefaultURL is where `wasilo dev` serves.
const DefaultURL = "http://127.0.0.1:7700"

// maxReply bounds what is read of any answer.
const maxReply = 256 << 20

// grace is how much longer than the call's own time the client waits, so that the node's answer says what happened.
const grace = 2 * time.Second

// Config says which node to call.
type Config struct {
	URL       string            // of the node, "http://127.0.0.1:7700"; "": [DefaultURL]
	Transport http.RoundTripper // nil: one of its own
	UserAgent string            // "": "wasilo"
}

// Client calls one node.
type Client struct {
	base  string
	agent string
	http  *http.Client
}

// New checks cfg; it does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.URL == "" {
		cfg.URL = DefaultURL
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !validPort(u.Port()) || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return nil, abi.NewError(abi.ErrInvalidArgument, "node URL "+strconv.Quote(cfg.URL)+
			": it is written http://HOST:PORT, such as "+DefaultURL)
	}
	c := &Client{base: u.Scheme + "://" + u.Host, agent: cfg.UserAgent}
	if c.agent == "" {
		c.agent = "wasilo"
	}
	transport := cfg.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 64 // one host is all there is
		t.DialContext = (&net.Dialer{Timeout: dialTime}).DialContext
		transport = t
	}
	c.http = &http.Client{
		Transport: transport,
		// A redirect would turn a POST into a GET, or carry a message to a stranger.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// validPort accepts none too, which is the scheme's own.
func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// URL returns where the node is, without a slash at the end.
func (c *Client) URL() string { return c.base }

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CallOptions qualify a call. The zero value is a plain one with the node's default time.
type CallOptions struct {
	Timeout        time.Duration // 0: what ctx leaves, else the node's default, as long as the node shows that it lives
	IdempotencyKey string
	TraceParent    string // W3C trace context
	TraceState     string
	// Flags: OnlyIfActive, MustExist and OneWay mean something here. A one-way call returns no reply, and nil as soon
	// as the actor's mailbox took the message.
	Flags abi.Flags
}

// CallJSON calls a method with JSON parameters (nil: none) and returns its reply as JSON.
func (c *Client) CallJSON(ctx context.Context, target abi.Identity, method string, params []byte,
	opt CallOptions) ([]byte, error) {
	return c.call(ctx, target, method, gateway.TypeJSON, params, opt)
}

// CallCBOR calls a method with CBOR parameters (nil: none) and returns its reply as CBOR.
func (c *Client) CallCBOR(ctx context.Context, target abi.Identity, method string, params []byte,
	opt CallOptions) ([]byte, error) {
	return c.call(ctx, target, method, gateway.TypeCBOR, params, opt)
}

// Call calls a method with params (nil: none) marshalled by encoding/json, and unmarshals the reply into result unless
// that is nil.
func (c *Client) Call(ctx context.Context, target abi.Identity, method string, params, result any, opt CallOptions) error {
	var body []byte
	if params != nil {
		var err error
		if body, err = json.Marshal(params); err != nil {
			return abi.NewError(abi.ErrInvalidArgument, "the parameters: "+err.Error())
		}
	}
	reply, err := c.CallJSON(ctx, target, method, body, opt)
	if err != nil || result == nil || opt.Flags&abi.OneWay != 0 {
		return err
	}
	if err := json.Unmarshal(reply, result); err != nil {
		return abi.NewError(abi.ErrInternal, "the reply does not fit: "+err.Error())
	}
	return nil
}

func (c *Client) call(ctx context.Context, target abi.Identity, method, mediaType string, params []byte,
	opt CallOptions) ([]byte, error) {
	if target.IsZero() || !abi.ValidMethod(method) {
		return nil, abi.NewError(abi.ErrInvalidArgument, "a call needs an actor, and a method of 1 to "+
			strconv.Itoa(abi.MaxMethodLen)+" of A-Z, a-z, 0-9, '_', '.' and '-'")
	}
	for _, s := range [...]string{opt.IdempotencyKey, opt.TraceParent, opt.TraceState} {
		if strings.ContainsFunc(s, unicode.IsControl) {
			return nil, abi.NewError(abi.ErrInvalidArgument, "a header cannot hold "+strconv.QuoteToASCII(s))
		}
	}
	if len(params) == 0 {
		params = emptyParams[mediaType]
	}
	h := http.Header{"Accept": {mediaType}, "Content-Type": {mediaType}}
	timeout := opt.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); timeout <= 0 || left < timeout {
			timeout = max(left, time.Millisecond)
		}
	}
	if timeout > 0 {
		ms := (timeout + time.Millisecond - 1) / time.Millisecond
		h.Set(gateway.HeaderTimeout, strconv.FormatInt(int64(ms), 10))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout+grace)
		defer cancel()
	} else {
		var end func()
		ctx, end = c.watched(ctx)
		defer end()
	}
	switch {
	case opt.Flags&abi.OnlyIfActive != 0:
		h.Set(gateway.HeaderIf, "active")
	case opt.Flags&abi.MustExist != 0:
		h.Set(gateway.HeaderIf, "exists")
	}
	if opt.Flags&abi.OneWay != 0 {
		h.Set(gateway.HeaderOneWay, "true")
	}
	for name, value := range map[string]string{
		gateway.HeaderIdempotency: opt.IdempotencyKey, "Traceparent": opt.TraceParent, "Tracestate": opt.TraceState,
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	return c.do(ctx, http.MethodPost, gateway.CallPath(target, method), h, params)
}

// emptyParams is the empty map. A call always has a body, see do.
var emptyParams = map[string][]byte{gateway.TypeJSON: []byte("{}"), gateway.TypeCBOR: {0xa0}}

// Kinds lists what the node serves, and its module files.
func (c *Client) Kinds(ctx context.Context) (*gateway.KindList, error) {
	var list gateway.KindList
	return &list, c.get(ctx, "/v1/kinds", &list)
}

// Members lists the nodes of the cluster as the node that is asked sees them.
func (c *Client) Members(ctx context.Context) (*gateway.MemberList, error) {
	var list gateway.MemberList
	return &list, c.get(ctx, "/v1/members", &list)
}

// Voters lists the voters, as far as the node that is asked can ask them.
func (c *Client) Voters(ctx context.Context) (*gateway.VoterList, error) {
	var list gateway.VoterList
	return &list, c.get(ctx, "/v1/voters", &list)
}

// AddVoter makes a node a voter, and RemoveVoter takes the vote of a node, or of one of its raft ids, away. even allows an even number
// of voters.
func (c *Client) AddVoter(ctx context.Context, node string, even bool) (*gateway.VoterChange, error) {
	return c.changeVoters(ctx, http.MethodPut, node, even)
}

// RemoveVoter is the reverse of [Client.AddVoter].
func (c *Client) RemoveVoter(ctx context.Context, which string, even bool) (*gateway.VoterChange, error) {
	return c.changeVoters(ctx, http.MethodDelete, which, even)
}

func (c *Client) changeVoters(ctx context.Context, verb, which string, even bool) (*gateway.VoterChange, error) {
	path := gateway.VoterPath(which)
	if even {
		path += "?even=true"
	}
	var done gateway.VoterChange
	return &done, c.ask(ctx, verb, path, &done)
}

// Drain has the node give its actors away, or with undo take some again. It returns at once; [Client.Drained] says how far it is.
func (c *Client) Drain(ctx context.Context, undo bool) (*gateway.DrainInfo, error) {
	verb := http.MethodPut
	if undo {
		verb = http.MethodDelete
	}
	var info gateway.DrainInfo
	return &info, c.ask(ctx, verb, "/v1/drain", &info)
}

// Drained says how far a drain is.
func (c *Client) Drained(ctx context.Context) (*gateway.DrainInfo, error) {
	var info gateway.DrainInfo
	return &info, c.get(ctx, "/v1/drain", &info)
}

// Block keeps a node from hosting actors, or with undo not any more, for the whole cluster.
func (c *Client) Block(ctx context.Context, node string, undo bool) (*gateway.BlockInfo, error) {
	verb := http.MethodPut
	if undo {
		verb = http.MethodDelete
	}
	var info gateway.BlockInfo
	return &info, c.ask(ctx, verb, gateway.BlockPath(node), &info)
}

// ActorsQuery asks for a page of actors that are active or sleep.
type ActorsQuery struct {
	Kind  string // "": all
	State string // [gateway.ActorsActive] or [gateway.ActorSleeping]; "": both
	After string // the Next of the page before; "": the first page
	Limit int    // 0: the node's default; at most [gateway.MaxPage]
}

// Actors lists one page of actors in order of their key. The list's Next is empty on the last page.
func (c *Client) Actors(ctx context.Context, q ActorsQuery) (*gateway.ActorList, error) {
	args := url.Values{}
	if q.Kind != "" {
		args.Set("kind", q.Kind)
	}
	if q.State != "" {
		args.Set("state", q.State)
	}
	if q.After != "" {
		args.Set("after", q.After)
	}
	if q.Limit != 0 {
		args.Set("limit", strconv.Itoa(q.Limit))
	}
	path := "/v1/actors"
	if len(args) > 0 {
		path += "?" + args.Encode()
	}
	var list gateway.ActorList
	return &list, c.get(ctx, path, &list)
}

// Ready returns the node's checks when it is ready, else a not_ready error that says what it waits for.
func (c *Client) Ready(ctx context.Context) (*gateway.Health, error) {
	var health gateway.Health
	return &health, c.get(ctx, "/readyz?verbose", &health)
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	return c.ask(ctx, http.MethodGet, path, into)
}

// ask is a request without a body, of [askTime] at most.
func (c *Client) ask(ctx context.Context, verb, path string, into any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askTime, errSilent)
	defer cancel()
	body, err := c.do(ctx, verb, path, http.Header{"Accept": {gateway.TypeJSON}}, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return abi.NewError(abi.ErrInternal, c.base+path+" answered what this client cannot read: "+err.Error())
	}
	return nil
}

func (c *Client) do(ctx context.Context, verb, path string, h http.Header, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, verb, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, abi.NewError(abi.ErrInvalidArgument, err.Error())
	}
	// net/http sends a request with an Idempotency-Key again when a kept connection breaks under it. Whether a call may
	// run twice is for the caller to say, so the body cannot be had a second time.
	r.GetBody = nil
	h.Set("User-Agent", c.agent)
	r.Header = h
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	if len(reply) > maxReply {
		return nil, abi.NewError(abi.ErrPayloadTooLarge, "the answer is over "+strconv.Itoa(maxReply)+" bytes")
	}
	if resp.StatusCode/100 == 2 {
		return reply, nil
	}
	return nil, c.problem(resp, reply)
}

// problem reads the error that a node answered; anything else did not come from a node.
func (c *Client) problem(resp *http.Response, body []byte) error {
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && t == gateway.TypeProblem {
		var p gateway.Problem
		if json.Unmarshal(body, &p) == nil && p.Code != "" {
			return p.AsError()
		}
	}
	text := strings.TrimSpace(string(body[:min(len(body), 200)]))
	return abi.NewError(abi.ErrInternal, c.base+" answered "+resp.Status+" "+strconv.Quote(text)+", not as a wasilo node does")
}

// transportError gives a failed exchange its code.
func (c *Client) transportError(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errSilent):
		return abi.NewError(abi.ErrTimeout, "the node at "+c.base+" accepts connections and does not answer; the outcome is unknown")
	case errors.Is(ctx.Err(), context.Canceled):
		return abi.NewError(abi.ErrCanceled, "given up before "+c.base+" answered; the outcome is unknown")
	case ctx.Err() != nil:
		return abi.NewError(abi.ErrTimeout, "no answer from "+c.base+" in time; the outcome is unknown")
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return abi.NewError(abi.ErrNotReady, "no node answers at "+c.base+" ("+op.Err.Error()+
			"); start one with `wasilo dev`, or name another with --node URL")
	}
	return abi.NewError(abi.ErrInternal, "the connection to "+c.base+" broke, the outcome is unknown: "+err.Error())
}
