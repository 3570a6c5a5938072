package cluster

import "context"

// ActorRef is a resolved actor. It stays usable when the actor moves: requests through it resolve anew, only its PID tells
// where the actor was when the reference was made.
type ActorRef struct {
	pid PID
	api *API
}

// Identity returns the actor.
func (r ActorRef) Identity() Identity { return r.pid.identity }

// PID returns where the actor was.
func (r ActorRef) PID() PID { return r.pid }

// Address returns the canonical address, wasilo.tcp://cluster@host:port/kind/identity.
func (r ActorRef) Address() string { return r.pid.Address() }

// String returns the canonical address.
func (r ActorRef) String() string { return r.Address() }

// Request is [API.Request] to the actor.
func (r ActorRef) Request(ctx context.Context, m Message) ([]byte, error) {
	return r.api.Request(ctx, r.pid.identity, m)
}
