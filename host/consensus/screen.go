package consensus

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// screen is raft's transport, less the requests that nobody sound sends ([standing.judge]). Whoever sends one holds a certificate of the cluster, so
// it is broken rather than strange; the voter that is asked must outlive it, with its log as it was.
//
// What others ask comes over a transport of its own for every stream: raft's has no word for who sent a request, and that the certificate says.
type screen struct {
	*raft.NetworkTransport // by which this voter asks others; nothing comes in by it
	log                    *slog.Logger
	timeout                time.Duration // of a request
	standing               func() standing
	passed                 chan raft.RPC
	closed                 chan struct{}
	once                   sync.Once
	work                   sync.WaitGroup

	mu        sync.Mutex
	ended     bool
	heartbeat func(raft.RPC)
	told      map[core.NodeID]*told
}

func newScreen(trans *raft.NetworkTransport, timeout time.Duration, log *slog.Logger, standing func() standing) *screen {
	return &screen{NetworkTransport: trans, timeout: timeout, log: log, standing: standing, passed: make(chan raft.RPC), closed: make(chan struct{}),
		told: make(map[core.NodeID]*told)}
}

var (
	_ raft.Transport   = (*screen)(nil)
	_ raft.WithPreVote = (*screen)(nil)
	_ raft.WithClose   = (*screen)(nil)
)

// Consumer delivers the requests that are left.
func (s *screen) Consumer() <-chan raft.RPC { return s.passed }

// SetHeartbeatHandler sets what takes heartbeats, which do not wait for the disk, from whichever stream.
func (s *screen) SetHeartbeatHandler(f func(raft.RPC)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heartbeat = f
}

// Close closes the transport, too. Further calls only wait.
func (s *screen) Close() error {
	var err error
	s.once.Do(func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		close(s.closed)
		err = s.NetworkTransport.Close()
	})
	s.work.Wait()
	return err
}

// serve takes what a voter asks over a stream, until that is closed.
func (s *screen) serve(c *conn, from RaftID) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()
	in := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: &single{conn: c, closed: make(chan struct{})},
		Logger: newLogger(s.log.With("from", from.String()), "transport")})
	defer in.Close()
	in.SetHeartbeatHandler(func(rpc raft.RPC) {
		s.mu.Lock()
		take := s.heartbeat
		s.mu.Unlock()
		if s.sound(rpc, from) && take != nil {
			take(rpc)
		}
	})
	for {
		select {
		case rpc := <-in.Consumer():
			if !s.sound(rpc, from) {
				continue
			}
			if m, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
				rpc.Reader = s.pace(rpc.Reader, c, m.Size)
			}
			select {
			case s.passed <- rpc:
			case <-s.closed:
				return
			case <-c.done:
				return
			}
		case <-s.closed:
			return
		case <-c.done:
			return
		}
	}
}

// sound answers a request that is refused. After a snapshot, what follows on the stream is not read, which ends the stream.
func (s *screen) sound(rpc raft.RPC, from RaftID) bool {
	err := s.standing().judge(from, rpc.Command)
	if err == nil {
		return true
	}
	s.tell(from, err)
	rpc.Respond(nil, err)
	return false
}

// paced is a snapshot that comes in. Raft does nothing else meanwhile, so it has to come.
type paced struct {
	io.Reader
	conn  *conn
	end   time.Time // when whoever sends it will have given up
	stall time.Duration
}

func (s *screen) pace(r io.Reader, c *conn, size int64) io.Reader {
	times := max(1, size/int64(s.TimeoutScale)) // as the sender reckons
	return &paced{r, c, time.Now().Add(time.Duration(times) * s.timeout), s.timeout + stallTime}
}

// stallTime is how much longer than a request a snapshot may stand still.
const stallTime = 10 * time.Second

func (p *paced) Read(b []byte) (int, error) {
	at := time.Now().Add(p.stall)
	if p.end.Before(at) {
		at = p.end
	}
	_ = p.conn.SetReadDeadline(at)
	n, err := p.Reader.Read(b)
	if errors.Is(err, io.EOF) { // raft reads up to the end in any case
		_ = p.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// told is what was said of a node's requests lately.
type told struct {
	since        time.Time
	lines, spare int
}

// Of one node, so many refusals are in the log within a time; of more there is a number.
const (
	toldLines = 10
	toldTime  = 10 * time.Second
)

// tell logs a refusal. Who is refused asks again, ten times a second and more.
func (s *screen) tell(from RaftID, err error) {
	spared, say := s.count(from.Node)
	if !say {
		return
	}
	args := []any{"from", from.String(), "why", err}
	if spared > 0 {
		args = append(args, "not_logged_before", spared)
	}
	s.log.Warn("a request of another voter was refused", args...)
}

// count reports whether another refusal of a node is to be logged, and how many were not.
func (s *screen) count(node core.NodeID) (spared int, say bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	t := s.told[node]
	if t == nil {
		t = &told{since: now}
		s.told[node] = t
	}
	if now.Sub(t.since) >= toldTime {
		spared = t.spare
		*t = told{since: now}
	}
	if t.lines++; t.lines > toldLines {
		t.spare++
		return 0, false
	}
	return spared, true
}

// single is a stream as the only one that a transport ever accepts.
type single struct {
	conn   *conn
	once   sync.Once
	closed chan struct{}

	mu    sync.Mutex
	given bool
}

var _ raft.StreamLayer = (*single)(nil)

func (l *single) Accept() (net.Conn, error) {
	l.mu.Lock()
	given := l.given
	l.given = true
	l.mu.Unlock()
	if !given {
		return l.conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *single) Addr() net.Addr { return l.conn.layer.Addr() }

// Dial is of another transport.
func (l *single) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) { return nil, net.ErrClosed }
