package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// Network is how a voter reaches others: a *link.Link is one.
type Network interface {
	Ask(ctx context.Context, node core.Member, service string, payload []byte) ([]byte, error)
	Stream(ctx context.Context, node core.Member, name string) (net.Conn, error)
}

// layer is the streams between voters, as raft's transport wants them. A stream begins with who is meant and who speaks; the other end
// answers that it is the one, or what is wrong, and the rest is raft's: requests in one direction, answers in the other.
type layer struct {
	self      RaftID
	authority string
	net       Network
	resolve   func(core.NodeID) (string, bool)
	log       *slog.Logger

	ctx    context.Context // ended by Close
	cancel context.CancelFunc

	fallback func(RaftID) (string, bool) // the authority that the configuration names
	serve    func(*conn, RaftID)         // takes what a voter asks over a stream that it opened, until that is closed

	mu   sync.Mutex
	open map[*conn]struct{}
}

var (
	_ raft.StreamLayer           = (*layer)(nil)
	_ raft.ServerAddressProvider = (*layer)(nil)
)

func newLayer(self RaftID, cfg *VoterConfig) *layer {
	l := &layer{self: self, authority: cfg.Authority, net: cfg.Network, resolve: cfg.Resolve, log: cfg.Log,
		open: make(map[*conn]struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// ServerAddr says where a voter is now; an error has raft take the address of the configuration.
func (l *layer) ServerAddr(server raft.ServerID) (raft.ServerAddress, error) {
	id, err := ParseRaftID(string(server))
	if err != nil {
		return "", err
	}
	authority, ok := l.where(id)
	if !ok {
		return "", errUnresolved
	}
	return id.address(authority), nil
}

var errUnresolved = errors.New("it is not known where the node is")

// where says where a voter's node is: where it is seen now, or where it was when it became one.
func (l *layer) where(id RaftID) (string, bool) {
	if id.Node == l.self.Node {
		return l.authority, true
	}
	if authority, ok := l.resolve(id.Node); ok {
		return authority, true
	}
	return l.fallback(id)
}

// The beginning of a stream: format, the raft id that is meant, the one that speaks, each with its length; and the answer: 0, or 1
// and why not, with its length.
const (
	streamFormat = 1
	refusalTime  = time.Second
)

func preamble(to, from RaftID) []byte {
	b := []byte{streamFormat}
	for _, id := range []RaftID{to, from} {
		s := id.String()
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// Dial opens a stream to a voter.
func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	to, authority, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	raw, err := l.net.Stream(ctx, core.Member{ID: to.Node, Authority: authority}, raftStream)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	err = knock(raw, to, l.self)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	c, err := l.enter(raw)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// knock asks for the voter that is meant.
func knock(c net.Conn, to, from RaftID) error {
	if _, err := c.Write(preamble(to, from)); err != nil {
		return err
	}
	var head [1]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return fmt.Errorf("the stream was closed before its answer: %w", err)
	}
	if head[0] == 0 {
		return nil
	}
	text, err := readShort(c)
	if err != nil {
		return err
	}
	return fmt.Errorf("node %s refused the stream: %.255q", to.Node, text)
}

func sayNo(c net.Conn, text string) {
	text = text[:min(len(text), 255)]
	_, _ = c.Write(append([]byte{1, byte(len(text))}, text...))
}

func readShort(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	b := make([]byte, n[0])
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// take answers whoever opened a stream and, if it is this voter that was meant, hands it to raft until it is closed.
func (l *layer) take(raw net.Conn, from core.NodeID) {
	_ = raw.SetDeadline(time.Now().Add(refusalTime))
	speaker, err := l.welcome(raw, from)
	if err != nil {
		l.log.Warn("a stream between voters was refused", "node", from, "why", err)
		sayNo(raw, err.Error())
		return
	}
	if _, err := raw.Write([]byte{0}); err != nil {
		return
	}
	_ = raw.SetDeadline(time.Time{})
	c, err := l.enter(raw)
	if err != nil {
		return
	}
	defer c.Close()
	l.serve(c, speaker)
}

// welcome returns which voter of the node it is that speaks.
func (l *layer) welcome(raw io.Reader, from core.NodeID) (RaftID, error) {
	var format [1]byte
	if _, err := io.ReadFull(raw, format[:]); err != nil {
		return RaftID{}, fmt.Errorf("it did not say whom it means: %w", err)
	}
	if format[0] != streamFormat {
		return RaftID{}, fmt.Errorf("it speaks format %d of the voters' streams; node %s speaks %d", format[0], l.self.Node, streamFormat)
	}
	to, err := readShort(raw)
	if err != nil {
		return RaftID{}, fmt.Errorf("it did not say whom it means: %w", err)
	}
	speaker, err := readShort(raw)
	if err != nil {
		return RaftID{}, fmt.Errorf("it did not say who it is: %w", err)
	}
	id, err := ParseRaftID(speaker)
	switch {
	case err != nil:
		return RaftID{}, fmt.Errorf("it is no voter: %w", err)
	case id.Node != from:
		return RaftID{}, fmt.Errorf("it says that it is voter %s, and its certificate is of node %s", id, from)
	case to != l.self.String():
		return RaftID{}, fmt.Errorf("voter %.100q is not here, this is %s: the node lost its disk, and the old voter has to be removed; or the voters were recovered, and yours is a log of before", to, l.self)
	}
	return id, nil
}

// Accept waits until the layer is closed: the streams that others open go to serve.
func (l *layer) Accept() (net.Conn, error) {
	<-l.ctx.Done()
	return nil, net.ErrClosed
}

// Close ends all streams.
func (l *layer) Close() error {
	l.cancel()
	l.mu.Lock()
	var open []*conn
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
	return nil
}

// Addr is what raft tells others of this voter.
func (l *layer) Addr() net.Addr { return raftAddr(l.self.address(l.authority)) }

type raftAddr string

func (raftAddr) Network() string  { return "link" }
func (a raftAddr) String() string { return string(a) }

func (l *layer) enter(raw net.Conn) (*conn, error) {
	c := &conn{Conn: raw, layer: l, done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	l.open[c] = struct{}{}
	return c, nil
}

// conn is a stream in raft's hands.
type conn struct {
	net.Conn
	layer *layer
	once  sync.Once
	done  chan struct{}
}

// Read takes the end of a stream for the end of what was to be said: raft's messages know their own ends.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		err = io.EOF
	}
	return n, err
}

func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		err = c.Conn.Close()
		c.layer.mu.Lock()
		delete(c.layer.open, c)
		c.layer.mu.Unlock()
		close(c.done)
	})
	return err
}
