package host

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/serfwatch"
)

// Net joins nodes into a cluster. The zero value is a cluster of this node alone.
type Net struct {
	// Link is the host:port at which other nodes reach this one, port 0 is any; "" is no cluster, whatever the other fields say.
	Link string
	// Gossip is the host:port of the gossip, TCP and UDP; "" is 127.0.0.1:7946, port 0 is any.
	Gossip string
	// Advertise is the host by which other nodes reach Link and Gossip; "" is the one that those name.
	Advertise string
	// Join are the host:port of the gossip of other nodes; without any the node waits to be joined.
	Join []string
	// Profile is the pace of the gossip; "" is serfwatch.LAN.
	Profile serfwatch.Profile
	// Mode: a cluster.Client hosts nothing, and calls everything.
	Mode cluster.Mode
	// Placement names the strategy that spreads actors over the nodes, the same on all; "" is rendezvous.
	Placement string
	// Weight is the share of actors that this node is to have with the placement weighted, relative to the others', 1 to
	// cluster.MaxWeight; 0 is 1.
	Weight int
	// Voters are the nodes that keep the log of who owns what, three or five, the same list on each of them: it counts when the log begins, and
	// not any more then. With them, with Voter or with Quorum, an actor runs on a node only while the voters say so; without them each
	// node decides by what it sees, and on both sides of a cut network there may be one of an actor.
	Voters []cluster.Node
	// VotersEven allows an even number of them.
	VotersEven bool
	// Voter makes this node ready to be added to a log that exists.
	Voter bool
	// Quorum joins a cluster that has voters, without being one.
	Quorum bool
	// CA, Cert and Key are files: the authority whose nodes are believed, this node's certificate by it, the certificate's key.
	// Without all three it is the user's development authority, which serves loopback addresses only.
	CA, Cert, Key string
	// GossipKey is a file with a key of 32 bytes in base64, or several, a line each: the first encrypts, all decrypt. "" is
	// gossip in the clear, on loopback only.
	GossipKey string

	skew time.Duration // for tests: by how much this node's clock is off
	// patience is for tests, on machines that stand still now and then: so much longer than usual others have to answer before it is decided
	// without them, or as if they were dead.
	patience time.Duration
	// session is how long a session with the voters lasts, for tests, the same on all nodes; 0 is core.SessionTime.
	session time.Duration
	// dial makes the link's connections, for tests; nil is the usual way.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// voter changes the voter's configuration, for tests; nil changes nothing.
	voter func(*consensus.VoterConfig)
}

// howToSecure is what to do for a cluster that spans machines.
const howToSecure = "make an authority and a gossip key (`wasilo ca init DIR`), certify each node (`wasilo node cert ID --ca DIR`), " +
	"and start it with --ca, --cert, --key and --gossip-key"

// check tells bad what is wrong. What the packages below check by themselves is left to them.
func (c *Net) check(bad func(format string, args ...any)) {
	files := 0
	for _, f := range []string{c.CA, c.Cert, c.Key} {
		if f != "" {
			files++
		}
	}
	if files == 1 || files == 2 {
		bad("ca, cert and key go together: give all three or none; %s", howToSecure)
	}
	if c.Mode != cluster.Member && c.Mode != cluster.Client {
		bad("mode %d is neither member nor client", c.Mode)
	}
	if _, ok := cluster.StrategyNamed(c.Placement); !ok {
		bad("placement %q is none: %s", c.Placement, strings.Join(cluster.StrategyNames(), ", "))
	}
	switch {
	case c.Weight < 0 || c.Weight > cluster.MaxWeight:
		bad("weight %d: a weight is 1 to %d", c.Weight, cluster.MaxWeight)
	case c.Weight > 1 && c.Placement != "weighted":
		bad("weight %d counts for nothing without --placement weighted, on all nodes", c.Weight)
	case c.Weight > 1 && c.Mode == cluster.Client:
		bad("weight %d: a client hosts nothing, so it has no weight", c.Weight)
	}
	if c.Advertise != "" && strings.ContainsAny(c.Advertise, ":/") && !isIP(c.Advertise) {
		bad("advertise %q: a host name or an IP address, without a port", c.Advertise)
	}
	if c.Link == "" {
		if c.Quorum || c.Voter || len(c.Voters) > 0 {
			bad("voters are for a node with a link: give link")
		}
		if len(c.Join) > 0 || c.Mode == cluster.Client {
			bad("a node that joins others needs a link: give link")
		}
		return
	}
	if c.Advertise != "" && loopbackHost(c.Link) && !loopbackHost(c.Advertise) {
		bad("advertise %s: others would be told of an address where nobody listens, for the link is on loopback (%s)", c.Advertise, c.Link)
	}
	for _, seed := range c.Join {
		if host, _, err := net.SplitHostPort(seed); err == nil && host == "" {
			bad("join %q names no host", seed)
		}
	}
	switch gossip := or(c.Gossip, serfwatch.DefaultBind); {
	case loopbackHost(gossip):
	case files == 0:
		bad("gossip %s is not loopback, and the development authority proves a node to its own machine only: %s", gossip, howToSecure)
	case c.GossipKey == "":
		bad("gossip %s is not loopback, and without a gossip key anybody could name members: %s", gossip, howToSecure)
	}
	if !loopbackHost(c.Link) && c.GossipKey == "" {
		bad("link %s is not loopback: a cluster that spans machines needs a gossip key: %s", c.Link, howToSecure)
	}
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// loopbackHost reports whether host:port names this machine alone. A name other than localhost is not known to.
func loopbackHost(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// errGossipKeys is wrapped by what [readGossipKeys] returns of a file that can be read.
var errGossipKeys = errors.New("a gossip key is 32 bytes in base64, one a line: `wasilo ca init` makes one")

// readGossipKeys reads the file of [Net.GossipKey].
func readGossipKeys(name string) ([][]byte, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	} else if exposed(info.Mode()) {
		return nil, fmt.Errorf("gossip key: others may read %s (mode %#o): chmod 600 %s", name, info.Mode().Perm(), name)
	}
	const most = 64 << 10
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	var keys [][]byte
	for i, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, errGossipKeys)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has none: %w", name, errGossipKeys)
	}
	return keys, nil
}

// exposed reports whether more than the owner, and a group that a secret was mounted for, may read a file.
func exposed(mode fs.FileMode) bool { return mode.Perm()&^0o740 != 0 && runtime.GOOS != "windows" }

// strategy returns the placement that the configuration names.
func (c *Net) strategy() cluster.Strategy {
	s, _ := cluster.StrategyNamed(c.Placement)
	return s
}
