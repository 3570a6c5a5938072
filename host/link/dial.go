package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

// protocol is the name that TLS negotiates, so that other protocols may share the port.
const protocol = "wasilo-link"

// dial connects, proves both sides and exchanges hellos. On an error nothing is left open.
func (c *outbound) dial() error {
	ctx, cancel := context.WithTimeout(c.ctx, c.link.cfg.DialTimeout)
	defer cancel()
	raw, err := c.link.cfg.Dial(ctx, "tcp", c.p.authority)
	if err != nil {
		return dialError(ctx, err)
	}
	stop := interruptOn(ctx, raw)
	defer stop()
	err = c.introduce(raw)
	if !stop() { // ctx ended, and with it whatever was under way
		err = dialError(ctx, ctx.Err())
	}
	if err != nil {
		c.close(err)
		_ = raw.Close()
		return err
	}
	_ = raw.SetDeadline(time.Time{})
	if err := c.p.rejoin(c); err != nil {
		c.close(err)
		return err
	}
	c.opened()
	return nil
}

// interruptOn ends what waits on a connection when ctx ends. stop reports false if that has begun.
func interruptOn(ctx context.Context, c net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
}

// dialError tells why an attempt was ended, rather than what that looked like.
func dialError(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return err
	case errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time: %w", err)
	default:
		return cause
	}
}

// introduce does the handshake of the side that dialled.
func (c *outbound) introduce(raw net.Conn) error {
	l := c.link
	s, conn, expires, err := l.prove(raw, c.p.id)
	if err != nil {
		return err
	}
	c.proven = c.p.id
	c.in = frameReader{src: conn, max: helloLimit}
	own := l.hello()
	theirs, err := introduce(conn, &c.in, &own)
	if err != nil {
		return err
	}
	f := l.accepts(c.p.id, theirs)
	if f == nil && theirs.boot < c.p.boot.Load() {
		f = &fault{reason: StaleBoot, text: "a newer run of the node is known"}
	}
	if f != nil {
		_, _ = conn.Write(appendRefusal(nil, f.reason, f.text))
		return f
	}
	if err := c.connected(s, conn, theirs, expires); err != nil {
		return err
	}
	if f := l.roster.admit(&c.wire); f != nil {
		_, _ = conn.Write(appendRefusal(nil, f.reason, f.text))
		return f
	}
	l.attach(&c.wire)
	return nil
}

// prove does the TLS handshake of the side that dials: the other side proves to be want.
func (l *Link) prove(raw net.Conn, want cluster.NodeID) (s *sock, conn *tls.Conn, expires time.Time, err error) {
	cfg := l.cfg.Credentials.Client(ca.ID{Cluster: l.cluster, Node: string(want)})
	cfg.NextProtos = []string{protocol}
	s = newSock(raw)
	conn = tls.Client(s, cfg)
	if err := conn.Handshake(); err != nil {
		return nil, nil, time.Time{}, handshakeError(err)
	}
	if _, expires, err = ca.PeerOf(conn.ConnectionState()); err != nil {
		return nil, nil, time.Time{}, &fault{reason: BadCertificate, err: err}
	}
	return s, conn, expires, nil
}

// introduce says hello and returns the other side's, or its refusal as the error.
func introduce(conn net.Conn, in *frameReader, own *hello) (*hello, error) {
	if _, err := conn.Write(appendHello(nil, own)); err != nil {
		return nil, handshakeError(err)
	}
	theirs, err := readFirst(in)
	if err != nil {
		return nil, handshakeError(err)
	}
	return theirs, nil
}

// accepts judges the hello of the node that was dialled, whose certificate was verified.
func (l *Link) accepts(want cluster.NodeID, h *hello) *fault {
	switch {
	case h.version < minVersion || h.version > maxVersion:
		return &fault{reason: UnknownVersion, text: fmt.Sprintf("it chose version %d of the protocol; this node speaks %d to %d",
			h.version, minVersion, maxVersion)}
	case h.cluster != l.cluster:
		return &fault{reason: WrongCluster, text: fmt.Sprintf("it says cluster %.100q; this is %q", h.cluster, l.cluster)}
	case h.node != want:
		return &fault{reason: WrongNode, text: fmt.Sprintf("it says node %.100q; its certificate is of %q", h.node, want)}
	}
	if err := h.check(); err != nil {
		return &fault{reason: Malformed, text: err.Error()}
	}
	return nil
}

// older reports whether the connection stands, and to a run before boot.
func (c *outbound) older(boot uint64) bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.state != connecting && c.peer.boot < boot
}

// readFirst reads the first frame: a hello, or the other end's refusal.
func readFirst(in *frameReader) (*hello, error) {
	for {
		body, err := in.buffered()
		if err != nil {
			return nil, sortError(err)
		}
		if body == nil {
			if err := in.fill(); err != nil {
				return nil, err
			}
			continue
		}
		r, number, items, err := frameHead(body)
		switch {
		case err != nil:
		case number == frameRefusal:
			refusal, err := readRefusal(&r, items)
			if err != nil {
				return nil, sortError(err)
			}
			return nil, refusal
		case number != frameHello:
			r.Fail("the first frame is a hello")
			err = r.Err()
		default:
			h, err := readHello(&r, items)
			if err != nil {
				return nil, sortError(err)
			}
			return h, nil
		}
		return nil, sortError(err)
	}
}

// handshakeError sorts what a handshake failed with.
func handshakeError(err error) error {
	var cert *ca.CertificateError
	var op *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &cert):
		f := &fault{reason: BadCertificate, err: err}
		switch cert.Reason {
		case ca.ErrWrongNode:
			f.reason = WrongNode
		case ca.ErrWrongCluster:
			f.reason = WrongCluster
		}
		return f
	case errors.As(err, &op) && op.Op == "remote error":
		return &Refusal{Reason: BadCertificate,
			Text: "the other node does not accept this node's certificate; its log says why (" + op.Err.Error() + ")"}
	case errors.As(err, &record):
		return &fault{reason: Malformed, text: "it does not speak TLS"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errLost
	case strings.HasPrefix(err.Error(), "tls: "): // these errors have no type; those of the network come as they are
		return &fault{reason: Malformed, err: err}
	}
	return err
}

// hello is how this node introduces itself.
func (l *Link) hello() hello {
	return hello{min: minVersion, max: maxVersion, cluster: l.cluster, node: l.cfg.Self.ID, boot: l.cfg.Self.Boot,
		authority: l.cfg.Self.Authority, mode: l.cfg.Mode, features: features, maxFrame: l.cfg.maxFrame(), maxInFlight: l.cfg.MaxInFlight}
}
