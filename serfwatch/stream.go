package serfwatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/wasilo/wasilo/cluster"
)

// How a subscription ends, and the Watch with it; beside cluster.ErrStreamEnded for one that was closed on its own.
var (
	// ErrClosed says that the Watch was closed, or has left.
	ErrClosed = fmt.Errorf("the serf watch is closed: %w", cluster.ErrStreamEnded)
	// ErrFailed says that serf has stopped by itself. The last snapshot will not be followed by another.
	ErrFailed = errors.New("serf has shut down by itself: this node gossips no more and must be restarted")
)

// board shows the newest topology to whoever waits for it.
type board struct {
	mu      sync.Mutex
	newest  *cluster.Topology // nil before the first
	changed chan struct{}     // closed and replaced when newest or err changes
	err     error             // the end
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

// publish shows t, unless it says what the newest does.
func (b *board) publish(t *cluster.Topology) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil || b.newest != nil && same(b.newest, t) {
		return
	}
	b.newest = t
	b.wakeLocked()
}

// end makes everybody's next wait return err. The first end counts; it reports whether this is it.
func (b *board) end(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return false
	}
	b.err = err
	b.wakeLocked()
	return true
}

func (b *board) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) look() (*cluster.Topology, <-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newest, b.changed, b.err
}

func same(a, b *cluster.Topology) bool {
	return a == b || a.Hash() == b.Hash() && slices.Equal(a.Members(), b.Members())
}

// handle is one subscription.
type handle struct {
	board  *board
	last   *cluster.Topology // returned by Next
	closed chan struct{}
	once   sync.Once
}

var (
	_ cluster.TopologyStream       = (*Watch)(nil)
	_ cluster.TopologyStreamHandle = (*handle)(nil)
)

// Subscribe begins to follow the members. It may be called any number of times, before Start too: the first snapshot
// then waits for it. The error is [ErrClosed] or [ErrFailed] after the end, else there is none.
func (w *Watch) Subscribe(context.Context) (cluster.TopologyStreamHandle, error) {
	if _, _, err := w.board.look(); err != nil {
		return nil, err
	}
	return &handle{board: w.board, closed: make(chan struct{})}, nil
}

// Next returns the newest snapshot once it differs from the one returned last.
func (h *handle) Next(ctx context.Context) (*cluster.Topology, error) {
	for {
		select { // a closed subscription has nothing more to say, whatever there is to tell
		case <-h.closed:
			return nil, cluster.ErrStreamEnded
		default:
		}
		newest, changed, err := h.board.look()
		if err != nil {
			return nil, err
		}
		if newest != nil && (h.last == nil || !same(h.last, newest)) {
			h.last = newest
			return newest, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-h.closed:
		case <-changed:
		}
	}
}

// Close ends the subscription.
func (h *handle) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}
