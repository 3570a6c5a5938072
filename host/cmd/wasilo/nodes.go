package main

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"

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

	maxBytes, maxSleep int64 // its share; 0: the default
}

// planNodes says what n nodes are called and where they listen: the first at the addresses of c, the others at ports above,
// each with a directory of its own below data.
func planNodes(c *settings, n int, data string) ([]nodePlan, error) {
	switch {
	case c.host.Net.Cert != "":
		return nil, usagef("--nodes makes nodes for the development authority, and --cert is of one node: leave out --ca, --cert and --key")
	case c.host.Net.Mode == cluster.Client:
		return nil, usagef("--nodes makes members: leave out --mode client")
	}
	plans := make([]nodePlan, n)
	share := func(all int64) int64 { return max(all/int64(n), min(all, 1<<20)) }
	maxBytes := c.host.Limits.MaxBytes
	if maxBytes == 0 {
		maxBytes = host.DefaultMaxBytes()
	}
	for i := range plans {
		id := "n" + strconv.Itoa(i+1)
		p := nodePlan{id: id, data: filepath.Join(data, id), cache: filepath.Join(data, "cache"), // compiled once for all
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
	return plans, nil
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
