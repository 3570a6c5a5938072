package serfwatch

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/wasilo/wasilo/cluster"
)

// Config is what a [Watch] is made from. It is checked once, by [New].
type Config struct {
	// ID is the node's name, the same over all its runs. Required.
	ID cluster.NodeID
	// Boot tells this run from the node's others: a later one has a greater number. 0 is a fresh [NewBoot].
	Boot uint64
	// Cluster is the cluster's name, of the form of a node's; "" is "wasilo". Nodes of another name are refused.
	Cluster string
	// Mode is cluster.Member (the zero value) or cluster.Client. Clients are listed by [Watch.Peers] and are in nobody's topology.
	Mode cluster.Mode
	// Authority is the host:port by which other nodes reach this one's link. Required of members; a client's may be "".
	Authority string
	// Bind is where gossip listens, for TCP and UDP alike: host:port, the host an IP address or a name of this machine; "" is
	// 127.0.0.1:7946. An empty host is every interface; port 0 is any free one, see [Watch.Addr].
	Bind string
	// Advertise is the host:port by which other nodes reach Bind; "" is Bind itself or, where that is every interface,
	// the host of Authority. Without a port it has Bind's.
	Advertise string
	// Join are addresses of other nodes' gossip, host:port; a port left out is 7946. This node's own may be among them. Empty: the
	// node waits to be joined.
	Join []string
	// Profile is the pace of the gossip; "" is [LAN].
	Profile Profile
	// Patience is added to the time in which others have to answer before they count as dead, and in which a seed has to; 0 adds nothing.
	Patience time.Duration
	// Keys encrypt the gossip, 32 bytes each: the first for what is sent, all for what is received. Empty: it is not encrypted.
	Keys [][]byte
	// Voters says that the voters' log decides who owns an actor, not each node by what it sees. It is the same on all nodes, as Placement is.
	Voters bool
	// Placement names the strategy by which this node spreads actors; "" is the default, rendezvous. All nodes of a cluster need the same:
	// one with another is left out, and [Watch.Misplaced] names it.
	Placement string
	// Weight is this node's share of actors, relative to the others', 1 to cluster.MaxWeight; 0 is 1. Only members have one, and only
	// with the placement "weighted".
	Weight int
	// Tags are told to the other nodes along with what the node has to say of itself, for [Watch.Peers]. They share its 512 bytes.
	Tags map[string]string
	// Log takes the log; nil is slog.Default().
	Log *slog.Logger
	// Transport carries the gossip in the place of sockets, and then knows its own address; nil: sockets on Bind. The Watch shuts
	// it down.
	Transport memberlist.Transport
}

// DefaultPort is the port of gossip where none is named, DefaultBind where it listens.
const (
	DefaultPort = 7946
	DefaultBind = "127.0.0.1:7946"
)

// NewBoot returns a boot number for a run that starts now: greater than those of runs started a millisecond or more before by
// the same clock, and different from all others but for one in a million of the same millisecond.
func NewBoot() uint64 { return uint64(time.Now().UnixMilli())<<20 | rand.Uint64N(1<<20) }

// checked returns the configuration with defaults filled in, or every fault it has.
func (c Config) checked() (Config, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := checkName(c.ID); err != nil {
		fault("ID %q: %w", c.ID, err)
	}
	if c.Cluster == "" {
		c.Cluster = "wasilo"
	}
	if err := checkName(cluster.NodeID(c.Cluster)); err != nil {
		fault("Cluster %q: a cluster's name follows the rules of a node's: %w", c.Cluster, err)
	}
	if c.Mode != cluster.Member && c.Mode != cluster.Client {
		fault("Mode %d is neither Member nor Client", c.Mode)
	}
	if err := checkReachable(c.Authority); err != nil && (c.Mode != cluster.Client || c.Authority != "") {
		fault("Authority %q: %w", c.Authority, err)
	}
	if _, ok := cluster.StrategyNamed(c.Placement); !ok {
		fault("Placement %q is none: %s", c.Placement, strings.Join(cluster.StrategyNames(), ", "))
	}
	switch {
	case c.Weight < 0 || c.Weight > cluster.MaxWeight:
		fault("Weight %d: a weight is 1 to %d", c.Weight, cluster.MaxWeight)
	case c.Weight > 1 && (c.Placement != weighted || c.Mode == cluster.Client):
		fault("Weight %d: only members have weights, and only with the placement %s", c.Weight, weighted)
	}
	if c.Boot == 0 {
		c.Boot = NewBoot()
	}
	if c.Bind == "" {
		c.Bind = DefaultBind
	}
	if _, _, err := splitAddress(c.Bind, DefaultPort); err != nil {
		fault("Bind: %w", err)
	}
	if c.Advertise != "" {
		if host, _, err := splitAddress(c.Advertise, 0); err != nil {
			fault("Advertise: %w", err)
		} else if unspecified(host) {
			fault("Advertise %q: other nodes cannot reach every interface; name one", c.Advertise)
		}
	}
	c.Join = slices.Clone(c.Join)
	for i, seed := range c.Join {
		host, port, err := splitAddress(seed, DefaultPort)
		switch {
		case err != nil:
			fault("Join: %w", err)
		case host == "" || port == 0:
			fault("Join %q: it names no host, or port 0", seed)
		}
		c.Join[i] = net.JoinHostPort(host, strconv.Itoa(port))
	}
	slices.Sort(c.Join)
	c.Join = slices.Compact(c.Join)
	if c.Profile == "" {
		c.Profile = LAN
	}
	if _, err := c.Profile.pace(); err != nil {
		fault("Profile: %w", err)
	}
	if c.Patience < 0 {
		fault("Patience %v is negative", c.Patience)
	}
	for i, key := range c.Keys {
		if len(key) != 32 {
			fault("Keys[%d] has %d bytes; a gossip key has 32", i, len(key))
		}
	}
	c.Tags = maps.Clone(c.Tags)
	if err := checkExtra(c.Tags); err != nil {
		fault("Tags: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if len(faults) == 0 {
		if err := checkSize(c.said().tags()); err != nil {
			fault("%w; shorten ID, Cluster, Authority or Tags", err)
		}
	}
	return c, errors.Join(faults...)
}

// said is what the node says of itself.
func (c Config) said() said {
	s := said{cluster: c.Cluster, mode: c.Mode, extra: c.Tags, placement: c.Placement, voters: c.Voters,
		node: cluster.Node{ID: c.ID, Authority: c.Authority, Boot: c.Boot}}
	if s.placement == rendezvous {
		s.placement = ""
	}
	if c.Weight > 1 {
		s.node.Weight = uint16(c.Weight)
	}
	return s
}

// checkName returns nil if id is the name of a node.
func checkName(id cluster.NodeID) error {
	return errors.Unwrap(checkNode(cluster.Node{ID: id, Authority: "localhost:0"}))
}

// checkNode returns nil if a topology can have the node.
func checkNode(n cluster.Node) error {
	_, err := cluster.NewTopology(n)
	return err
}

// checkReachable returns nil if an authority is one that other nodes can dial.
func checkReachable(authority string) error {
	if err := checkNode(cluster.Node{ID: "n", Authority: authority}); err != nil {
		return errors.Unwrap(err)
	}
	host, port, err := net.SplitHostPort(authority)
	switch {
	case err != nil:
		return err
	case port == "0":
		return errors.New("other nodes cannot dial port 0; give the port that the link listens on")
	case unspecified(host):
		return errors.New("other nodes cannot reach every interface; give an address of this machine")
	}
	return nil
}

// unspecified reports whether a host means every interface.
func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// splitAddress splits host:port, host or [host], with port in the place of one left out.
func splitAddress(s string, port int) (string, int, error) {
	host, portText := s, ""
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		host = ip.String()
	} else if strings.Contains(s, ":") {
		if host, portText, err = net.SplitHostPort(s); err != nil {
			return "", 0, fmt.Errorf("%q is no host:port: %w", s, err)
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() != "" {
		return "", 0, fmt.Errorf("%q: gossip has no room for the zone of an address", s)
	} else if err != nil && strings.ContainsFunc(host, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`/\:[]%"'`, r)
	}) {
		return "", 0, fmt.Errorf("%q is no host:port", s)
	}
	if portText != "" {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil {
			return "", 0, fmt.Errorf("%q: the port is 0 to 65535", s)
		}
		port = int(n)
	}
	return host, port, nil
}
