package silo

import (
	"context"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// Transport returns t, with what this node's actors ask of others on the way entered in the silo's picture of who waits for
// whom: two actors on two nodes that ask each other at once are told of the deadlock.
func (s *Silo) Transport(t cluster.Transport) cluster.Transport { return transport{s, t} }

type transport struct {
	silo *Silo
	next cluster.Transport
}

// Target implements [cluster.Transport].
func (t transport) Target(node cluster.Node) (cluster.Target, error) {
	target, err := t.next.Target(node)
	if err != nil {
		return nil, err
	}
	return away{t.silo, string(node.ID), target}, nil
}

// away is a target on another node.
type away struct {
	silo *Silo
	node string
	next cluster.Target
}

// waits reports whether actors wait for the reply to env.
func waits(env *abi.Envelope) bool { return len(env.Chain) > 0 && env.Flags&abi.OneWay == 0 }

// Waiting is for cluster.Config: a request of this node's actors, or one that came for them, is entered in the picture while it waits for an
// earlier activation to end, or for a move. The turn that this waits for may be one that waits for the request.
func (s *Silo) Waiting(env *abi.Envelope) (over func(), err error) {
	if !waits(env) {
		return func() {}, nil
	}
	return s.waits.Held(env)
}

// Deliver implements [cluster.Target].
func (a away) Deliver(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	if waits(env) {
		defer a.silo.waits.Leaving(env, a.node)()
	}
	return a.next.Deliver(ctx, env)
}

// Post implements [cluster.Target].
func (a away) Post(env *abi.Envelope, done func([]byte, error)) error {
	if done == nil || !waits(env) {
		return a.next.Post(env, done)
	}
	over := a.silo.waits.Leaving(env, a.node)
	err := a.next.Post(env, func(payload []byte, err error) {
		over()
		done(payload, err)
	})
	if err != nil {
		over()
	}
	return err
}
