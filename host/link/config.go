package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

// Handler takes the messages of other nodes.
type Handler interface {
	// Handle takes a message from a node whose id its certificate proves. (If that passes it on for another, see [RelayHandler].) It must not block: until it returns, nothing is read from
	// the connection, and no reply is written to it. The envelope has a deadline, may be kept and belongs to the handler.
	//
	// done is nil for a message that nobody awaits. Otherwise it is to be called once, from any goroutine, now or later; it never blocks,
	// and has encoded the payload when it returns. For an envelope flagged abi.OneWay it awaits no reply of the actor, only that
	// the message was accepted or why not.
	Handle(env *abi.Envelope, from cluster.NodeID, done func(payload []byte, err error))
}

// Config is what a [Link] is made from.
type Config struct {
	// Self is this node: its id, the authority (host:port) by which others reach its listener, and its run. Boot grows from one run of
	// a node to the next, as the time of its start does. ID and authority are required.
	Self cluster.Node
	// Mode is what the node is to the cluster.
	Mode cluster.Mode
	// Kinds are the kinds that it hosts; [Link.SetKinds] changes them.
	Kinds []string
	// Credentials prove who it is. Required; they name the cluster, and Self.ID.
	Credentials *ca.Credentials
	// Handler takes what others send; nil answers every request `unsupported`.
	Handler Handler
	// Services answer what other nodes ask by [Link.Ask], by the names they are asked under. A question for another is answered
	// `unsupported`.
	Services map[string]Service
	// Relayed names services that may be asked through a third node, where two cannot reach each other. What they answer must not depend on
	// who asks, since only the third proves who it is.
	Relayed []string
	// Streams take the streams that other nodes open by [Link.Stream], by the names they are opened under. Another is refused.
	Streams map[string]StreamHandler
	// MaxMessage bounds payloads, in bytes; 0 is abi.DefaultMaxMessage.
	MaxMessage int
	// MaxInFlight bounds the requests that await their replies on one connection, for each end; 0 is 16,384, at most 65,535. Beyond
	// it, and beyond MaxBytes, a message is refused at once with `overloaded`: a queue before the queue would only hide it.
	MaxInFlight int
	// MaxBytes bounds the bytes of those requests, and of what waits to be written; 0 is 64 MiB.
	MaxBytes int
	// Keepalive is how often a connection is looked at: nothing said for one brings a ping, nothing heard for four the end. 0 is a
	// second.
	Keepalive time.Duration
	// DialTimeout bounds a connection attempt, from the first packet to the hello; 0 is 3 s.
	DialTimeout time.Duration
	// MaxHandshakes bounds the connections from outside that have not said who they are; 0 is an eighth of the files that the process may
	// open, at least 16 and at most 256. Beyond it one of them is closed for another (lobby.go).
	MaxHandshakes int
	// Dial makes connections; nil is that of a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// OnKinds is told what a node hosts, when it is first known and when it changes. Calls come one after another, from a goroutine of
	// the link; changes in between may be left out.
	OnKinds func(node cluster.NodeID, kinds []string)
	// OnIncident is told of peers that were refused or dropped, and of those that refused this node. Calls come one after another,
	// from a goroutine of the link; when they come faster than they are taken some are left out.
	OnIncident func(Incident)
	// Log takes the log; nil is slog.Default().
	Log *slog.Logger
}

// Incident is something that a block list may want to know.
type Incident struct {
	Node    cluster.NodeID // whom the certificate proves, "" where there is none that is believed
	Dialled cluster.NodeID // whom this node meant to reach, "" for a connection from outside
	Remote  string         // the address
	Reason  Reason
	Theirs  bool // the peer refused this node, rather than the other way round
	Blame   bool // the reason is the peer's fault, as leaving, or a network that fell silent, is not
	Err     error
}

const (
	maxInFlightLimit = 1<<16 - 1
	defaultInFlight  = 16 << 10
	defaultBytes     = 64 << 20
	defaultKeepalive = time.Second
	defaultDial      = 3 * time.Second

	silentTicks  = 4  // keepalives without a byte: dropped
	lostTicks    = 2  // the same of a node that is no member: gossip has given it up
	stalledTicks = 30 // keepalives within one frame: dropped
	unreadTicks  = 10 // keepalives in which a write did not move: dropped
	drainTicks   = 3  // keepalives without anything in flight after a goaway: closed
	controlBurst = 1000
)

func (c Config) checked() (Config, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if _, err := cluster.NewTopology(c.Self); err != nil {
		fault("Self: %w", err)
	}
	if c.Credentials == nil {
		fault("Credentials are missing: those of ca.OpenDevelopment serve nodes of one machine")
	} else if id := c.Credentials.ID(); id.Node != string(c.Self.ID) {
		fault("the certificate is that of node %q, and this is node %q: issue one with `wasilo node cert %s`", id.Node, c.Self.ID, c.Self.ID)
	}
	if c.Mode != cluster.Member && c.Mode != cluster.Client {
		fault("Mode %d is neither Member nor Client", c.Mode)
	}
	if err := checkKinds(c.Kinds); err != nil {
		fault("Kinds: %w", err)
	}
	for name, s := range c.Services {
		if !abi.ValidMethod(name) || s == nil || name == reachService || name == fenceService {
			fault("Services: %.200q is no name of a service, or the link's own, or is nil", name)
		}
	}
	services := make(map[string]Service, len(c.Services)+1)
	maps.Copy(services, c.Services)
	c.Services = services
	for _, name := range c.Relayed {
		if c.Services[name] == nil {
			fault("Relayed: there is no service %.200q", name)
		}
	}
	for name, h := range c.Streams {
		if !abi.ValidMethod(name) || h == nil {
			fault("Streams: %.200q is no name of a stream, or is nil", name)
		}
	}
	c.Streams = maps.Clone(c.Streams)
	amount := func(name string, v *int, zero, most int) {
		if *v < 0 || *v > most {
			fault("%s %d is not within 0 and %d", name, *v, most)
		}
		if *v == 0 {
			*v = zero
		}
	}
	amount("MaxMessage", &c.MaxMessage, abi.DefaultMaxMessage, 1<<29)
	amount("MaxInFlight", &c.MaxInFlight, defaultInFlight, maxInFlightLimit)
	amount("MaxBytes", &c.MaxBytes, defaultBytes, 1<<31-1)
	amount("MaxHandshakes", &c.MaxHandshakes, defaultGuests(maxFiles()), 1<<16)
	c.MaxBytes = max(c.MaxBytes, c.MaxMessage+frameExtra)
	if c.Keepalive < 0 || c.DialTimeout < 0 {
		fault("Keepalive %s or DialTimeout %s is negative", c.Keepalive, c.DialTimeout)
	}
	if c.Keepalive == 0 {
		c.Keepalive = defaultKeepalive
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = defaultDial
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.OnKinds == nil {
		c.OnKinds = func(cluster.NodeID, []string) {}
	}
	if c.OnIncident == nil {
		c.OnIncident = func(Incident) {}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(faults...)
}

func checkKinds(kinds []string) error {
	if len(kinds) > maxKinds {
		return fmt.Errorf("%d kinds; the limit is %d", len(kinds), maxKinds)
	}
	for _, k := range kinds {
		if err := abi.CheckKind(k); err != nil {
			return err
		}
	}
	return nil
}

// maxFrame is the longest frame that this node reads.
func (c *Config) maxFrame() int { return c.MaxMessage + frameExtra }
