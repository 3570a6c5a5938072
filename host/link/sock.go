package link

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// sock stands between TLS and the network. After the handshake it collects what TLS writes, so that many records go out in one
// system call and, where the system can, without ever waiting: whoever has a frame may then write by itself, and only what the
// network does not take at once is left to the goroutine that may wait.
//
// Of send and flush one runs at a time: whoever holds outbox.busy.
type sock struct {
	net.Conn
	raw syscall.RawConn // nil: there is no way to write without waiting
	try func(fd uintptr) bool

	mu      sync.Mutex
	collect bool
	sending bool // the records come from send, not from TLS itself
	enc     []byte
	off     int   // of enc, what has been written
	tryErr  error // of try

	stray    atomic.Bool // TLS wrote something of its own
	received atomic.Uint64
	sent     atomic.Uint64
	waiting  atomic.Bool // flush is in a write
}

func newSock(c net.Conn) *sock {
	s := &sock{Conn: c}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	s.try = s.tryWrite
	return s
}

// start ends the handshake.
func (s *sock) start() {
	s.mu.Lock()
	s.collect = true
	s.mu.Unlock()
}

func (s *sock) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.received.Add(uint64(n))
	return n, err
}

// Write is called by TLS, for one record at a time.
func (s *sock) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.collect {
		n, err := s.Conn.Write(p)
		s.sent.Add(uint64(n))
		return n, err
	}
	s.enc = append(s.enc, p...)
	if !s.sending {
		s.stray.Store(true)
	}
	return len(p), nil
}

// begin and end frame the encryption of a batch.
func (s *sock) begin() { s.mark(true) }
func (s *sock) end()   { s.mark(false) }

func (s *sock) mark(sending bool) {
	s.mu.Lock()
	s.sending = sending
	s.mu.Unlock()
}

// tryFlush writes what the network takes at once and reports whether that was all.
func (s *sock) tryFlush() (bool, error) {
	if s.raw == nil {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tryErr = nil
	if s.off < len(s.enc) {
		if err := s.raw.Write(s.try); err != nil {
			return false, err
		}
	}
	if s.tryErr != nil || s.off < len(s.enc) {
		return false, s.tryErr
	}
	s.reset()
	return true, nil
}

func (s *sock) reset() {
	s.off = 0
	if s.enc = s.enc[:0]; cap(s.enc) > keepBuffer {
		s.enc = nil
	}
}

// flush writes everything, and waits for it. What it writes is taken out first, so that TLS is not held up.
func (s *sock) flush() error {
	s.mu.Lock()
	enc, off := s.enc, s.off
	s.enc, s.off = nil, 0
	s.mu.Unlock()
	s.waiting.Store(true)
	defer s.waiting.Store(false)
	for off < len(enc) {
		n, err := s.Conn.Write(enc[off:min(len(enc), off+writeStep)])
		s.sent.Add(uint64(n))
		if off += n; err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.enc == nil && cap(enc) <= keepBuffer {
		s.enc = enc[:0]
	}
	s.mu.Unlock()
	return nil
}

const (
	keepBuffer = 256 << 10 // a larger buffer is not kept
	writeStep  = 64 << 10  // of a write that waits: its progress is looked at
)
