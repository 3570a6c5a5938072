package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
)

// SystemConfig is what a [System] is made from.
type SystemConfig struct {
	Name string       // the cluster's name where [Config.Cluster] gives none
	Log  *slog.Logger // nil discards
}

// System is the frame that a node's parts live in: it is made, extensions are installed into it, it starts, and it shuts down.
// Its methods may be called from any goroutine.
type System struct {
	name   string
	log    *slog.Logger
	status MemoryStatus // for installs that bring no store

	extension atomic.Pointer[Extension]

	life    sync.Mutex // held while an extension is being installed, so that neither start nor end comes in between
	started bool
	stopped bool

	mu    sync.Mutex
	store StatusStore // of the last install
}

// Why a system refuses.
var (
	ErrSystemStarted = errors.New("the system has been started already")
	ErrSystemStopped = errors.New("the system has been shut down")
	// ErrInstalledTwice: a system has one cluster extension.
	ErrInstalledTwice = errors.New("the cluster extension is installed already")
)

// NewSystem returns a system without extensions.
func NewSystem(cfg SystemConfig) *System {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &System{name: cfg.Name, log: cfg.Log}
}

// Start starts what is installed. It returns once requests can be made, or with the reason why not, a [*BootstrapError], after
// which nothing runs. ctx bounds the start, not the system's life.
func (s *System) Start(ctx context.Context) error {
	s.life.Lock()
	stopped, started := s.stopped, s.started
	s.started = true
	x := s.extension.Load()
	s.life.Unlock()
	switch {
	case stopped:
		return ErrSystemStopped
	case started:
		return ErrSystemStarted
	case x == nil:
		return nil
	}
	if err := x.start(ctx); err != nil {
		s.life.Lock()
		s.stopped = true
		s.life.Unlock()
		return err
	}
	return nil
}

// Shutdown ends what is installed in good order (see [Runtime.BeginShutdown]) and returns when it has ended. ctx bounds how
// long activations may take to finish; what is left then is discarded, and the error says how much it was. Further calls wait
// for the first. A Start that is still waiting for the topology is given up.
func (s *System) Shutdown(ctx context.Context) error {
	s.life.Lock()
	s.stopped = true
	x := s.extension.Load()
	s.life.Unlock()
	if x == nil {
		return nil
	}
	<-x.runtime.BeginShutdown(ctx)
	return x.Err()
}

// Status returns the readiness recorded by the store of the last install: unknown before the first.
func (s *System) Status() (Status, error) {
	s.mu.Lock()
	store := s.store
	s.mu.Unlock()
	if store == nil {
		return Status{}, nil
	}
	return store.Load()
}

// APIOf returns the cluster API of a system, the same one each time. Without the extension the error is an [*APIError].
func APIOf(sys *System) (*API, error) {
	if x := sys.extension.Load(); x != nil {
		return x.api, nil
	}
	return nil, &APIError{Reason: ErrNotInstalled}
}
