package consensus

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/hashicorp/raft"
)

// screen is raft's transport, less the requests at which raft would panic. Whoever sends one holds a certificate of the cluster, so it is broken
// rather than strange; the process of the voter that is asked must outlive it. Entries are judged where they are stored.
type screen struct {
	*raft.NetworkTransport
	log    *slog.Logger
	passed chan raft.RPC
	closed chan struct{}
	once   sync.Once
	work   sync.WaitGroup
}

func newScreen(trans *raft.NetworkTransport, log *slog.Logger) *screen {
	s := &screen{NetworkTransport: trans, log: log, passed: make(chan raft.RPC), closed: make(chan struct{})}
	s.work.Go(s.sift)
	return s
}

var (
	_ raft.Transport   = (*screen)(nil)
	_ raft.WithPreVote = (*screen)(nil)
	_ raft.WithClose   = (*screen)(nil)
)

// Consumer delivers the requests that are left.
func (s *screen) Consumer() <-chan raft.RPC { return s.passed }

// Close closes the transport, too. Further calls only wait.
func (s *screen) Close() error {
	var err error
	s.once.Do(func() {
		err = s.NetworkTransport.Close()
		close(s.closed)
	})
	s.work.Wait()
	return err
}

func (s *screen) sift() {
	for {
		select {
		case rpc := <-s.NetworkTransport.Consumer():
			if err := unreadable(rpc.Command); err != nil {
				s.log.Warn("a request of another voter was refused", "why", err)
				rpc.Respond(nil, err) // what follows it on its stream is not read, which ends the stream
				continue
			}
			select {
			case s.passed <- rpc:
			case <-s.closed:
				rpc.Respond(nil, raft.ErrTransportShutdown)
				return
			}
		case <-s.closed:
			return
		}
	}
}

// unreadable says what is wrong with a request.
func unreadable(command any) error {
	m, ok := command.(*raft.InstallSnapshotRequest)
	if !ok {
		return nil
	}
	if m.SnapshotVersion != raft.SnapshotVersionMax {
		return fmt.Errorf("the snapshot of entry %d is of version %d, and this voter reads %d", m.LastLogIndex, m.SnapshotVersion, raft.SnapshotVersionMax)
	}
	if m.Size < 0 {
		return fmt.Errorf("the snapshot of entry %d has %d bytes", m.LastLogIndex, m.Size)
	}
	if err := checkConfiguration(m.Configuration); err != nil {
		return fmt.Errorf("the snapshot of entry %d has %w", m.LastLogIndex, err)
	}
	return nil
}
