package link

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// Probe finds out whether a node lives at an address, and which run of it: it connects, has both sides prove who they are, asks
// for the other's hello and hangs up. want may be this node's own id: that is how a run of a node learns of another one. Nothing
// else follows: no connection comes to stand, neither side drops one, and [Link.Peers] does not know of it.
//
// The peer is what the other side said: ID, Authority, Boot and Mode. An error is an [*Error]: `shutting_down` for a node that
// proved to be want and is about to leave, or if this link is shut down; `unreachable` for one that is not want, speaks something
// else, or does not answer within Config.DialTimeout; `timeout` and `canceled` if ctx ended first.
func (l *Link) Probe(ctx context.Context, authority string, want cluster.NodeID) (Peer, error) {
	fail := func(code abi.Code, text string, err error) (Peer, error) {
		return Peer{}, &Error{Node: want, Authority: authority, Code: code, Text: text, Err: err}
	}
	if _, err := cluster.NewTopology(cluster.Node{ID: want, Authority: authority}); err != nil {
		return fail(abi.ErrInvalidArgument, "there is no such node", err)
	}
	if l.closing.Load() {
		return fail(abi.ErrShuttingDown, "this node's link is shutting down", nil)
	}
	attempt, cancel := context.WithTimeout(ctx, l.cfg.DialTimeout)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	h, err := l.probe(attempt, authority, want)
	var refusal *Refusal
	switch {
	case err == nil:
		return Peer{ID: h.node, Authority: h.authority, Boot: h.boot, Mode: h.mode}, nil
	case ctx.Err() != nil:
		return fail(abi.CodeOf(ctx.Err()), "the caller stopped waiting", err)
	case l.ctx.Err() != nil:
		return fail(abi.ErrShuttingDown, "this node's link is shutting down", nil)
	case errors.As(err, &refusal) && refusal.Reason == Leaving:
		return fail(abi.ErrShuttingDown, "the node is shutting down", nil)
	}
	return fail(abi.ErrUnreachable, "it did not prove that it is there", err)
}

// probe does all of it until ctx ends.
func (l *Link) probe(ctx context.Context, authority string, want cluster.NodeID) (*hello, error) {
	raw, err := l.cfg.Dial(ctx, "tcp", authority)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	defer raw.Close()
	stop := interruptOn(ctx, raw)
	defer stop()
	_, conn, _, err := l.prove(raw, want)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	own := l.hello()
	own.probe = true
	in := frameReader{src: conn, max: helloLimit}
	h, err := introduce(conn, &in, &own)
	if err != nil {
		return nil, dialError(ctx, err)
	}
	if f := l.accepts(want, h); f != nil {
		return nil, f
	}
	return h, nil
}

// errProbed is how a connection ends that was a probe.
var errProbed = errors.New("it only wanted to know who is here")

// probed answers a probe.
func (c *inbound) probed(conn net.Conn, theirs *hello) error {
	l := c.link
	if theirs.node == l.cfg.Self.ID {
		l.log.warn("another run of this node asked whether this one is there", "", "remote", c.remote,
			"its_boot", fmt.Sprintf("%016x", theirs.boot), "its_link", printable(theirs.authority))
	}
	own := l.hello()
	own.version = min(theirs.max, maxVersion)
	if _, err := conn.Write(appendHello(nil, &own)); err != nil {
		return err
	}
	return errProbed
}
