package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/serfwatch"
)

const (
	mostNodes = 9  // of dev --nodes
	portStep  = 10 // between the ports of one node and those of the next
)

// nodePlan is how one of several nodes for development differs from the others.
type nodePlan struct {
	id, http, link, gossip, data, cache string

	maxBytes, maxSleep int64  // its share; 0: the default
	quorum             bool   // the cluster has voters
	voters             string // for --voters; "": it is none
}

// planNodes says what n nodes are called and where they listen: the first at the addresses of c, the others at ports above,
// each with a directory of its own below data.
func planNodes(c *settings, n int, data string) ([]nodePlan, error) {
	switch {
	case c.host.Net.Cert != "":
		return nil, usagef("--nodes makes nodes for the development authority, and --cert is of one node: leave out --ca, --cert and --key")
	case c.host.Net.Mode == cluster.Client:
		return nil, usagef("--nodes makes members: leave out --mode client")
	case len(c.host.Net.Voters) > 0 || c.host.Net.Voter:
		return nil, usagef("--nodes says itself which nodes are voters: leave out --voters and --voter, and give --quorum")
	}
	quorum := c.host.Net.Quorum
	plans := make([]nodePlan, n)
	share := func(all int64) int64 { return max(all/int64(n), min(all, 1<<20)) }
	maxBytes := c.host.Limits.MaxBytes
	if maxBytes == 0 {
		maxBytes = host.DefaultMaxBytes()
	}
	for i := range plans {
		id := "n" + strconv.Itoa(i+1)
		p := nodePlan{id: id, data: dataOf(data, id, n, quorum), cache: filepath.Join(data, "cache"), // compiled once for all
			maxBytes: share(maxBytes), maxSleep: share(c.host.Limits.MaxSleep)}
		for _, a := range []struct {
			name, base string
			to         *string
		}{{"http", c.host.HTTP, &p.http}, {"link", c.host.Net.Link, &p.link}, {"gossip", c.host.Net.Gossip, &p.gossip}} {
			var err error
			if *a.to, err = shiftPort(a.base, i*portStep); err != nil {
				return nil, usagef("--%s: %w", a.name, err)
			}
		}
		plans[i] = p
	}
	if quorum {
		return plans, nameVoters(plans)
	}
	return plans, nil
}

// dataOf is the directory of one of n nodes. A log of three voters is none of five.
func dataOf(data, id string, n int, quorum bool) string {
	if quorum {
		data = filepath.Join(data, "quorum-"+strconv.Itoa(n))
	}
	return filepath.Join(data, id)
}

// mostVoters of a fleet: five bear the loss of two.
const mostVoters = 5

// nameVoters makes the first nodes voters, an odd number of them. All have to know where the others' links are, and whom to join, before any
// of them runs, since the log begins when all voters are there; so ports that are to be any are chosen here.
func nameVoters(plans []nodePlan) error {
	n := min(len(plans), mostVoters)
	n -= 1 - n%2
	var free freePorts
	defer free.release()
	var list []string
	for i := range plans {
		p := &plans[i]
		for _, addr := range []*string{&p.link, &p.gossip} {
			var err error
			if *addr, err = free.take(*addr); err != nil {
				return err
			}
		}
		if i < n {
			list = append(list, p.id+"="+p.link)
		}
	}
	for i := range plans {
		if plans[i].quorum = true; i < n {
			plans[i].voters = strings.Join(list, ",")
		}
	}
	return nil
}

// freePorts are ports that are free, chosen before somebody listens there.
type freePorts struct{ held []io.Closer }

// The ports chosen are below those that systems hand out to whoever asks for any (from 32768 on, or 49152): one of these might be another
// program's before the node listens.
const (
	leastFree = 20_000
	mostFree  = 30_000
)

// take is addr with a port in place of 0 that is free for TCP and UDP, and that a further take does not choose.
func (f *freePorts) take(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "0" {
		return addr, err
	}
	for range 1000 {
		free := net.JoinHostPort(host, strconv.Itoa(leastFree+rand.IntN(mostFree-leastFree)))
		var l net.Listener
		if l, err = net.Listen("tcp", free); err != nil {
			continue
		}
		var p net.PacketConn
		if p, err = net.ListenPacket("udp", free); err != nil {
			l.Close()
			continue
		}
		f.held = append(f.held, l, p)
		return free, nil
	}
	return "", fmt.Errorf("no free port: %w", err)
}

// release lets others listen there.
func (f *freePorts) release() {
	for _, h := range f.held {
		h.Close()
	}
	f.held = nil
}

// shiftPort adds to the port of addr, unless that is 0, which is any.
func shiftPort(addr string, by int) (string, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf(`%q: an address is HOST:PORT, such as "127.0.0.1:0"`, addr)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port != 0 && port+uint64(by) > 1<<16-1 {
		return "", fmt.Errorf("%s: the ports of all nodes must be 1 to 65535, or 0 for free ones", addr)
	}
	if port != 0 {
		port += uint64(by)
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10)), nil
}

// args is the command line that runs a node of the plan, on a leash. It joins the gossip of first, unless it is the first
// itself. Flags that were given are passed on, what stands in the environment and the file comes by itself.
func (p nodePlan) args(c *settings, flags *pflag.FlagSet, first string) []string {
	profile := c.host.Net.Profile
	if profile == "" {
		profile = serfwatch.Fast
	}
	args := []string{"serve", "--" + leashFlag, "--id", p.id, "--http", p.http, "--link", p.link, "--gossip", p.gossip,
		"--data", p.data, "--cache", p.cache, "--actors", c.host.ActorsDir, "--profile", string(profile)}
	if p.maxBytes > 0 {
		args = append(args, "--max-bytes", strconv.FormatInt(p.maxBytes, 10))
	}
	if p.maxSleep > 0 {
		args = append(args, "--max-sleep", strconv.FormatInt(p.maxSleep, 10))
	}
	if p.voters != "" {
		args = append(args, "--voters", p.voters)
	}
	joins := slices.Clone(c.host.Net.Join)
	if first != "" {
		joins = append(joins, first)
	}
	for _, j := range joins {
		args = append(args, "--join", j)
	}
	given := append(args[:len(args):len(args)], "--nodes")
	flags.Visit(func(f *pflag.Flag) {
		if flag := "--" + f.Name; !slices.Contains(given, flag) && f.Name != "join" {
			args = append(args, flag+"="+f.Value.String())
		}
	})
	return args
}
