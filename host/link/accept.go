package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

// Serve takes connections from ln until [Link.Shutdown], and closes ln. It returns nil after a shutdown.
func (l *Link) Serve(ln net.Listener) error {
	if !l.listening(ln) {
		_ = ln.Close()
		return nil
	}
	delay := time.Duration(0)
	for {
		raw, err := ln.Accept()
		switch {
		case err == nil:
			delay = 0
			l.accept(raw)
			continue
		case l.closing.Load():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("the link's listener was closed: %w", err)
		}
		// Such as too many open files: it passes, or somebody reads the log.
		l.log.warn("no connection can be taken for now", "", "err", err)
		delay = min(max(2*delay, acceptFirst), acceptMost)
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-l.ctx.Done():
			t.Stop()
		}
	}
}

const acceptFirst, acceptMost = 5 * time.Millisecond, time.Second

// accept starts the life of a connection from outside.
func (l *Link) accept(raw net.Conn) {
	c := newInbound(l, raw.RemoteAddr().String())
	l.lobby.enter(c, raw)
	if !l.enter(&c.wire, func() { c.life(raw) }) {
		l.lobby.leave(c)
		_ = raw.Close()
	}
}

// life is a connection from its handshake to its end.
func (c *inbound) life(raw net.Conn) {
	l := c.link
	err := c.introduce(raw)
	l.lobby.leave(c)
	connected := err == nil
	if connected {
		l.admitted()
		err = c.run()
	} else {
		_ = raw.Close()
	}
	c.close(err)
	c.cancel()
	l.leave(&c.wire)
	l.report(&c.wire, err, connected)
}

// introduce does the handshake of the side that is dialled.
func (c *inbound) introduce(raw net.Conn) error {
	l := c.link
	_ = raw.SetDeadline(time.Now().Add(l.cfg.DialTimeout))
	stop := interruptOn(l.ctx, raw)
	defer stop()
	select {
	case <-c.done: // the lobby had no room for it, and the deadline above would let it stay
		return c.err
	default:
	}
	cfg := l.cfg.Credentials.Server()
	cfg.NextProtos = []string{protocol}
	s := newSock(raw)
	conn := tls.Server(s, cfg)
	err := conn.Handshake()
	if err != nil {
		return c.slow(handshakeError(err))
	}
	id, expires, err := ca.PeerOf(conn.ConnectionState())
	if err != nil {
		return &fault{reason: BadCertificate, err: err}
	}
	c.in = frameReader{src: conn, max: helloLimit}
	theirs, err := readFirst(&c.in)
	if err == nil {
		if f := c.admit(id, theirs); f != nil {
			err = f
		}
	}
	l.lobby.leave(c)
	if err == nil && theirs.probe {
		return c.slow(c.probed(conn, theirs))
	}
	if err == nil && theirs.stream != "" {
		c.proven, c.from = theirs.node, theirs.node
		return c.streamed(raw, conn, theirs, expires, stop)
	}
	if err == nil {
		c.proven, c.from = theirs.node, theirs.node
		err = c.connected(s, conn, theirs, expires)
	}
	if err == nil {
		if f := l.roster.admit(&c.wire); f != nil {
			err = f
		}
	}
	if err != nil {
		var f *fault
		if errors.As(err, &f) {
			_, _ = conn.Write(appendRefusal(nil, f.reason, f.text))
		}
		return c.slow(err)
	}
	own := l.hello()
	own.version = min(theirs.max, maxVersion)
	if _, err := conn.Write(appendHello(nil, &own)); err != nil {
		return c.slow(err)
	}
	if !stop() {
		return errShutdown
	}
	_ = raw.SetDeadline(time.Time{})
	l.attach(&c.wire)
	return nil
}

// slow makes a fault of the end of a handshake's time.
func (c *inbound) slow(err error) error {
	var late net.Error
	select {
	case <-c.done: // it was closed here, and that is why
		return c.err
	default:
	}
	switch {
	case c.link.ctx.Err() != nil:
		return errShutdown
	case errors.As(err, &late) && late.Timeout():
		return &fault{reason: Stalled, text: "it did not introduce itself within " + c.link.cfg.DialTimeout.String()}
	}
	return err
}

// admit judges the hello of a node that dialled, whose certificate is that of id.
func (c *inbound) admit(id ca.ID, h *hello) *fault {
	l := c.link
	switch {
	case h.max < minVersion || h.min > maxVersion:
		return &fault{reason: UnknownVersion, text: fmt.Sprintf("it speaks versions %d to %d of the protocol; node %s speaks %d to %d",
			h.min, h.max, l.cfg.Self.ID, minVersion, maxVersion)}
	case id.Cluster != l.cluster:
		return &fault{reason: WrongCluster, text: fmt.Sprintf("its certificate is of cluster %q; node %s is of %q",
			id.Cluster, l.cfg.Self.ID, l.cluster)}
	case h.cluster != l.cluster:
		return &fault{reason: WrongCluster, text: fmt.Sprintf("it says cluster %.100q; node %s is of %q",
			h.cluster, l.cfg.Self.ID, l.cluster)}
	case h.node != cluster.NodeID(id.Node):
		return &fault{reason: WrongNode, text: fmt.Sprintf("it says node %.100q; its certificate is of %q", h.node, id.Node)}
	case h.node == l.cfg.Self.ID && !h.probe:
		return &fault{reason: SameNode, text: fmt.Sprintf("node %s has this id itself: two nodes with one id, or a node that dials itself",
			h.node)}
	case l.draining.Load() && h.stream == "": // who leaves may have a voice in the voters' log until it is gone
		return &fault{reason: Leaving, text: fmt.Sprintf("node %s is shutting down", l.cfg.Self.ID)}
	}
	if err := h.check(); err != nil {
		return &fault{reason: Malformed, text: err.Error()}
	}
	return nil
}
