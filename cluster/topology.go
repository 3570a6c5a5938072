package cluster

import (
	"context"
	"errors"
	"sync"
)

// TopologyStream says who the members of the cluster are.
type TopologyStream interface {
	// Subscribe begins to follow the members. ctx bounds the call, not the subscription.
	Subscribe(ctx context.Context) (TopologyStreamHandle, error)
}

// TopologyStreamHandle is one subscription, used by one goroutine at a time but for Close.
type TopologyStreamHandle interface {
	// Next returns the newest snapshot, waiting for one that has not been returned before; snapshots in between may be left
	// out. An error other than ctx's is the end of the subscription: the runtime keeps the last snapshot, and
	// subscribes anew.
	Next(ctx context.Context) (*Topology, error)
	// Close ends the subscription and a Next that waits. It may be called more than once.
	Close() error
}

// ErrStreamEnded is what a [TopologyStreamHandle] may return from Next when there is nothing more to say about its end.
var ErrStreamEnded = errors.New("the topology stream has ended")

// StaticTopology is a stream of one snapshot that never changes: the members given. Subscribing fails if they make no topology.
func StaticTopology(members ...Node) TopologyStream { return staticTopology(members) }

type staticTopology []Node

func (s staticTopology) Subscribe(context.Context) (TopologyStreamHandle, error) {
	t, err := NewTopology(s...)
	if err != nil {
		return nil, err
	}
	return &staticHandle{next: t, closed: make(chan struct{})}, nil
}

type staticHandle struct {
	next   *Topology // nil once returned
	closed chan struct{}
	once   sync.Once
}

func (h *staticHandle) Next(ctx context.Context) (*Topology, error) {
	if t := h.next; t != nil {
		h.next = nil
		return t, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.closed:
		return nil, ErrStreamEnded
	}
}

func (h *staticHandle) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}
