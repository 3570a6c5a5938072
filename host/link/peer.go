package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// peer is another node at an authority, where messages for its actors go. It connects when the first comes, and again after the
// connection was lost; between two attempts that fail, messages are refused at once.
type peer struct {
	link      *Link
	id        cluster.NodeID
	authority string
	boot      atomic.Uint64 // the least that it may say; 0: any
	current   atomic.Pointer[outbound]
	detour    atomic.Pointer[detour] // how messages go while it cannot be reached; changed with mu held

	mu       sync.Mutex
	standing *outbound        // the last that stood, until all that was sent over it is answered for
	down     bool             // it cannot be reached, nothing is under way to it, and others may help
	looks    int              // for a relay, in a row
	tried    []cluster.NodeID // members that were asked and do not reach it
	owed     []*detour        // that have ended, and whose fences are not through
	unfenced int              // attempts in a row that ended for want of a fence
	keep     bool             // stay connected without messages
	failures int              // attempts in a row
	retryAt  time.Duration
	cause    *Error // of the last failure, since the last success
	again    *time.Timer
	met      bool // has been connected
}

var _ cluster.Target = (*peer)(nil)

// Deliver sends env and waits for the reply. The error is what the other node answered, an [*abi.Error], or an [*Error].
func (p *peer) Deliver(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, p.error(abi.CodeOf(err), "the caller stopped waiting before the message was sent", err)
	}
	k := p.link.getCall()
	k.env, k.request = env, true
	c, err := p.send(k, true)
	if err != nil {
		return nil, err
	}
	return p.wait(ctx, c, k)
}

// wait waits for the outcome of a call that went over c, which is a relay's if it is not this peer's.
func (p *peer) wait(ctx context.Context, c *outbound, k *call) ([]byte, error) {
	payload, err := c.wait(ctx, k)
	if err != nil && c.p != p {
		err = p.through(c.p, err)
	}
	return payload, err
}

// Post sends env without waiting for anything. done is called with the outcome by a goroutine that reads from the network, or
// watches deadlines. Without done nothing comes back, and nobody learns when the message is lost with its connection.
func (p *peer) Post(env *abi.Envelope, done func([]byte, error)) error {
	k := p.link.getPost(done)
	k.env, k.request = env, done != nil
	_, err := p.send(k, false)
	return err
}

// send hands an envelope to the connection. self: the caller may write by itself.
func (p *peer) send(k *call, self bool) (*outbound, error) {
	switch env := k.env; {
	case env.Target.IsZero():
		return nil, p.error(abi.ErrInvalidArgument, "the envelope has no target", nil)
	case !abi.ValidMethod(env.Method):
		return nil, p.error(abi.ErrInvalidArgument, fmt.Sprintf("%.200q is no method name", env.Method), nil)
	}
	return p.dispatch(k, k.env.Deadline, self)
}

// dispatch hands a call to the connection.
func (p *peer) dispatch(k *call, deadline time.Time, self bool) (*outbound, error) {
	now := time.Now()
	if deadline.IsZero() {
		deadline = now.Add(abi.DefaultRequest)
	}
	k.deadline = p.link.at(deadline)
	if size := k.payloadSize(); size > p.link.cfg.MaxMessage {
		return nil, p.tooLarge(size, p.link.cfg.MaxMessage)
	}
	if !deadline.After(now) {
		return nil, p.error(abi.ErrTimeout, "the time was up before the message was sent", context.DeadlineExceeded)
	}
	for {
		var c *outbound
		var claimed bool
		var under int
		var err error
		if d := p.detour.Load(); d != nil {
			c, claimed, under, err = p.detoured(d, k, now)
		} else if c, err = p.connection(); err == nil {
			claimed, under, err = c.send(k, now)
		}
		switch {
		case err == errRetired:
			p.forget(c)
			continue
		case err == errAside, err == errRejoined:
			continue
		case err != nil:
			return nil, err
		}
		switch {
		case claimed && self:
			c.push(under)
		case claimed:
			c.out.kick()
		}
		return c, nil
	}
}

// connection returns the present connection, or begins to make one. The error says why there is none for now.
func (p *peer) connection() (*outbound, error) {
	if c := p.current.Load(); c != nil {
		return c, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.current.Load(); c != nil {
		return c, nil
	}
	if wait := p.retryAt - p.link.now(); p.cause != nil && wait > 0 {
		e := *p.cause
		if e.Text != "" {
			e.Text += "; "
		}
		e.Text += "the next attempt is in " + wait.Round(time.Millisecond).String() + ", nothing was sent"
		if e.Self != "" {
			e.Relays = slices.Clone(p.tried)
		}
		return nil, &e
	}
	return p.connectLocked()
}

func (p *peer) connectLocked() (*outbound, error) {
	c := newOutbound(p)
	c.aside = p.detour.Load() != nil
	if !p.link.enter(&c.wire, func() { p.life(c) }) {
		return nil, p.error(abi.ErrShuttingDown, "this node's link is shutting down", nil)
	}
	p.current.Store(c)
	return c, nil
}

// life is a connection from its first packet to its end.
func (p *peer) life(c *outbound) {
	l := p.link
	err := c.dial()
	connected := err == nil
	began := l.now()
	p.tally(connected)
	if connected {
		err = c.run()
	}
	c.cancel(nil)
	c.close(err)
	p.forget(c)
	l.leave(&c.wire)
	l.report(&c.wire, err, connected)
	unsent := p.lost(err, connected, l.now()-began)
	c.fail(func() error { e := *unsent; return &e })
	p.fell(c, relayable(err))
}

// fell notes that a connection has come to its end, and all that was to go over it. From then on others may help.
func (p *peer) fell(c *outbound, relayable bool) {
	p.mu.Lock()
	later := p.standing != nil && p.standing != c // another stands by now
	if !later {
		p.standing, p.down = nil, relayable && p.keep
	}
	seek := p.down
	if d := p.detour.Load(); d != nil && !later && !relayable {
		p.endLocked(d, "the node itself refuses this one")
	}
	p.mu.Unlock()
	if seek {
		p.link.wakeScout()
	}
}

func (p *peer) tally(connected bool) {
	p.mu.Lock()
	again := p.met
	if connected {
		p.met, p.cause = true, nil
	}
	p.mu.Unlock()
	l := p.link
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !connected:
		l.past.unreached++
	case again:
		l.past.reconnected++
		fallthrough
	default:
		l.past.connected++
	}
}

// lost notes how a connection ended, and returns the error of messages that were not sent.
func (p *peer) lost(err error, connected bool, up time.Duration) *Error {
	e := p.error(abi.ErrUnreachable, "it cannot be reached", err)
	if relayable(err) {
		e.Self, e.Text = p.link.cfg.Self.ID, ""
	}
	if connected {
		e.Text = "the connection was lost before the message was sent"
	}
	var refusal *Refusal
	refused := errors.As(err, &refusal) && refusal.Reason != Leaving
	if errors.Is(err, errShutdown) || refusal != nil && refusal.Reason == Leaving {
		e.Code = abi.ErrShuttingDown
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !errors.Is(err, errFinished) && !errors.Is(err, errLeft) { // else it was retired, and why is noted already
		if p.failures++; connected && up >= provenAfter {
			p.failures = 0
		}
		p.cause = e
		p.retryAt = p.link.now() + backoff(p.failures, refused, rand.Float64())
	}
	p.keepLocked()
	return e
}

// leaving notes that the node said that it shuts down.
func (p *peer) leaving() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cause = p.error(abi.ErrShuttingDown, "the node is shutting down", nil)
	p.failures = max(p.failures, leavingFailures)
	p.retryAt = p.link.now() + backoff(p.failures, false, rand.Float64())
	p.keepLocked()
}

// leavingFailures is how many failures it counts as when a node says that it leaves: it will not be back at once.
const leavingFailures = 5

// keepLocked arranges for another attempt if the peer is to be kept connected. p.mu is held.
func (p *peer) keepLocked() {
	if !p.keep || p.link.closing.Load() {
		return
	}
	d := max(p.retryAt-p.link.now(), time.Duration(rand.Float64()*float64(backoffFirst)))
	if p.again == nil {
		p.again = time.AfterFunc(d, p.reconnect)
		return
	}
	p.again.Reset(d)
}

// reconnect makes a connection that no message asks for.
func (p *peer) reconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keep && p.current.Load() == nil {
		_, _ = p.connectLocked() // the only error is that of a shutdown
	}
}

// setKeep says whether to stay connected.
func (p *peer) setKeep(keep bool) {
	p.mu.Lock()
	p.keep = keep
	if !keep && p.again != nil {
		p.again.Stop()
	}
	if !keep {
		p.down, p.tried, p.owed = false, nil, nil
		if d := p.detour.Load(); d != nil {
			d.close()
			p.detour.Store(nil)
		}
	}
	if keep && p.current.Load() == nil {
		p.keepLocked()
	}
	p.mu.Unlock()
	if c := p.current.Load(); !keep && c != nil {
		c.retire(Reconnect)
	}
}

// kept reports whether the node is a member.
func (p *peer) kept() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keep
}

// forget makes the next message ask for another connection.
func (p *peer) forget(c *outbound) { p.current.CompareAndSwap(c, nil) }

// expect notes the run of the node that gossip knows. A connection to an older run is to a process that is gone.
func (p *peer) expect(boot uint64) {
	if boot == 0 || p.boot.Swap(boot) == boot {
		return
	}
	p.mu.Lock()
	p.failures, p.retryAt = 0, 0 // it has just started
	p.mu.Unlock()
	if c := p.current.Load(); c != nil && c.older(boot) {
		c.close(&fault{reason: StaleBoot, text: "the node has started anew"})
	}
}

func (p *peer) error(code abi.Code, text string, err error) *Error {
	return &Error{Node: p.id, Authority: p.authority, Code: code, Text: text, Err: err}
}

func (p *peer) tooLarge(size, limit int) *Error {
	return p.error(abi.ErrPayloadTooLarge, "nothing was sent", tooLarge(size, limit))
}

func tooLarge(size, limit int) *abi.Error {
	return abi.NewError(abi.ErrPayloadTooLarge, fmt.Sprintf("a payload of %d bytes; the limit is %d", size, limit))
}
