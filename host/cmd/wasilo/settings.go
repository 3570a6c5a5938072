package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/serfwatch"
)

// settings is everything that configures a node.
type settings struct {
	host      host.Config
	logLevel  slog.Level
	logFormat string // text or json
	leash     bool   // end when stdin does
	turnLog   string // file; "": none
}

// actorsDir is where the node takes modules from: a client hosts nothing, whatever directory a shared file names.
func (c *settings) actorsDir() string {
	if c.host.Net.Mode == cluster.Client {
		return ""
	}
	return c.host.ActorsDir
}

// setting is one knob of a node, whichever way it is turned: by --NAME, by WASILO_NAME, or by key in wasilo.toml.
type setting struct {
	key   string // in the file
	name  string // of the flag; of the variable when written with '_', in capitals, after WASILO_
	usage string
	path  bool // in the file it is relative to the file's directory
	is    bool // it is true or false; the flag alone is true
	list  bool // the flag may be repeated, the file may have a list; set gets all of it, with commas
	set   func(c *settings, value string) error
}

func (s *setting) variable() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// Widest values that make sense; the host may know better.
const (
	leastTime  = time.Millisecond
	mostTime   = 8760 * time.Hour // a year; sums of times stay far from their type's end
	mostMemory = 4 << 30
	mostBytes  = 1 << 50
	mostCount  = 1 << 30
	leastFuel  = 10_000 // a microsecond or two
	mostFuel   = 1 << 50
)

// nodeSettings returns the table of a node's settings, in the order of the help.
func nodeSettings() []setting {
	return []setting{
		{key: "http", name: "http",
			usage: "`ADDR` of the HTTP gateway; port 0 takes a free one (default " + defaultHTTP + ")",
			set:   func(c *settings, v string) (err error) { c.host.HTTP, err = notEmpty(v); return err }},
		{key: "actors", name: "actors", path: true,
			usage: "`DIR` of .wasm files, read flat and followed (default ./actors)",
			set:   func(c *settings, v string) (err error) { c.host.ActorsDir, err = notEmpty(v); return err }},
		{key: "data", name: "data", path: true,
			usage: "`DIR` for what the node keeps (default ./wasilo-data; for dev in the user's cache)",
			set:   func(c *settings, v string) (err error) { c.host.DataDir, err = notEmpty(v); return err }},
		{key: "cache", name: "cache", path: true,
			usage: "`DIR` for compiled modules, which nodes may share (default cache in the directory of data)",
			set:   func(c *settings, v string) (err error) { c.host.CacheDir, err = notEmpty(v); return err }},
		{key: "id", name: "id",
			usage: "`NAME` of the node in its cluster (default node; for dev dev)",
			set:   func(c *settings, v string) error { c.host.ID = v; return checkName(v) }},
		{key: "cluster", name: "cluster",
			usage: "`NAME` of the cluster (default wasilo)",
			set:   func(c *settings, v string) error { c.host.Cluster = v; return checkName(v) }},
		{key: "link", name: "link",
			usage: "`ADDR` at which other nodes send messages; port 0 takes a free one (default " + defaultLink + ")",
			set:   func(c *settings, v string) (err error) { c.host.Net.Link, err = parseAddr(v); return err }},
		{key: "gossip", name: "gossip",
			usage: "`ADDR` of the gossip, TCP and UDP; port 0 takes a free one (default " + defaultGossip + ")",
			set:   func(c *settings, v string) (err error) { c.host.Net.Gossip, err = parseAddr(v); return err }},
		{key: "join", name: "join", list: true,
			usage: "`ADDR` of the gossip of another node; repeat it for more (default: wait to be joined)",
			set:   func(c *settings, v string) (err error) { c.host.Net.Join, err = parseSeeds(v); return err }},
		{key: "advertise", name: "advertise",
			usage: "`HOST` by which others reach this node (default: that of --link and --gossip)",
			set:   func(c *settings, v string) (err error) { c.host.Net.Advertise, err = notEmpty(v); return err }},
		{key: "profile", name: "profile",
			usage: "`PACE` of the gossip: " + choices(serfwatch.Profiles()) + " (default lan)",
			set:   func(c *settings, v string) (err error) { c.host.Net.Profile, err = parseProfile(v); return err }},
		{key: "mode", name: "mode",
			usage: "`MODE`: member, or client, which hosts nothing and calls everything (default member)",
			set:   func(c *settings, v string) (err error) { c.host.Net.Mode, err = parseMode(v); return err }},
		{key: "placement", name: "placement",
			usage: "`STRATEGY` that spreads actors, the same on all nodes: " + choices(cluster.StrategyNames()) + " (default rendezvous)",
			set:   func(c *settings, v string) (err error) { c.host.Net.Placement, err = parsePlacement(v); return err }},
		{key: "weight", name: "weight",
			usage: "`N`, this node's share of actors with the placement weighted, relative to the others' (default 1)",
			set: func(c *settings, v string) (err error) {
				c.host.Net.Weight, err = parseCount(v, 1, cluster.MaxWeight)
				return err
			}},
		{key: "voters", name: "voters", list: true,
			usage: "`ID=ADDR`, the link of a node that is to keep the log of who owns what; three or five, the same on each of them, with commas between (default: no voters)",
			set:   func(c *settings, v string) (err error) { c.host.Net.Voters, err = consensus.ParseVoters(v); return err }},
		{key: "voters_even", name: "voters-even", is: true,
			usage: "allow an even number of voters",
			set:   func(c *settings, v string) (err error) { c.host.Net.VotersEven, err = parseBool(v); return err }},
		{key: "voter", name: "voter", is: true,
			usage: "be ready to become a voter, by wasilo voters add",
			set:   func(c *settings, v string) (err error) { c.host.Net.Voter, err = parseBool(v); return err }},
		{key: "quorum", name: "quorum", is: true,
			usage: "join a cluster that has voters, without being one",
			set:   func(c *settings, v string) (err error) { c.host.Net.Quorum, err = parseBool(v); return err }},
		{key: "ca", name: "ca", path: true,
			usage: "`FILE` with the authority whose nodes are believed (default: the user's own, for loopback alone)",
			set:   func(c *settings, v string) (err error) { c.host.Net.CA, err = notEmpty(v); return err }},
		{key: "cert", name: "cert", path: true,
			usage: "`FILE` with this node's certificate by that authority",
			set:   func(c *settings, v string) (err error) { c.host.Net.Cert, err = notEmpty(v); return err }},
		{key: "key", name: "key", path: true,
			usage: "`FILE` with the certificate's key",
			set:   func(c *settings, v string) (err error) { c.host.Net.Key, err = notEmpty(v); return err }},
		{key: "gossip_key", name: "gossip-key", path: true,
			usage: "`FILE` with the key that encrypts the gossip (default: not encrypted, on loopback)",
			set:   func(c *settings, v string) (err error) { c.host.Net.GossipKey, err = notEmpty(v); return err }},
		{key: "log.level", name: "log-level",
			usage: "`LEVEL` of the log: debug, info, warn or error (default info)",
			set:   func(c *settings, v string) (err error) { c.logLevel, err = parseLevel(v); return err }},
		{key: "log.format", name: "log-format",
			usage: "`FORMAT` of the log: text or json (default text)",
			set:   func(c *settings, v string) (err error) { c.logFormat, err = parseLogFormat(v); return err }},
		{key: "log.turns", name: "turn-log", path: true,
			usage: "`FILE` to which every turn is appended, to diagnose actors that live twice; slow (default: none)",
			set:   func(c *settings, v string) (err error) { c.turnLog, err = notEmpty(v); return err }},
		{key: "limits.max_message", name: "max-message",
			usage: "`SIZE` of a message at most (default " + sizeText(abi.DefaultMaxMessage) + ")",
			set:   func(c *settings, v string) (err error) { c.host.Limits.MaxMessage, err = parseMessage(v); return err }},
		{key: "limits.mailbox", name: "mailbox",
			usage: "`N` messages may wait at an actor" + defaultsTo(abi.DefaultMailbox),
			set: func(c *settings, v string) (err error) {
				c.host.Limits.Mailbox, err = parseCount(v, 1, mostCount)
				return err
			}},
		{key: "limits.turn", name: "turn",
			usage: "`TIME` that one turn may take" + defaultsTo(abi.DefaultTurn),
			set: func(c *settings, v string) (err error) {
				c.host.Limits.Turn, err = parseDuration(v, leastTime)
				return err
			}},
		{key: "limits.request", name: "request",
			usage: "`TIME` of a request that names none" + defaultsTo(abi.DefaultRequest),
			set: func(c *settings, v string) (err error) {
				c.host.Limits.Request, err = parseDuration(v, leastTime)
				return err
			}},
		{key: "limits.idle", name: "idle",
			usage: "`TIME` without a message, then an actor is passivated" + defaultsTo(abi.DefaultIdle),
			set: func(c *settings, v string) (err error) {
				c.host.Limits.Idle, err = parseDuration(v, leastTime)
				return err
			}},
		{key: "limits.hibernate", name: "hibernate",
			usage: "`TIME` without a message, then an actor of a kind that hibernates is hibernated, or never (default 30s)",
			set: func(c *settings, v string) (err error) {
				c.host.Limits.Hibernate, err = parseHibernate(v)
				return err
			}},
		{key: "limits.memory", name: "memory",
			usage: "`SIZE` of an actor's memory at most (default " + sizeText(abi.DefaultMemory) + ")",
			set: func(c *settings, v string) error {
				n, err := parseSize(v, 64<<10, mostMemory)
				c.host.Limits.Memory = uint64(n)
				return err
			}},
		{key: "limits.table", name: "table",
			usage: "`N` entries that the tables of an actor may have" + defaultsTo(engine.DefaultTable),
			set:   func(c *settings, v string) (err error) { c.host.Limits.Table, err = parseTable(v); return err }},
		{key: "limits.stack", name: "stack",
			usage: "`SIZE` of an actor's stack at most, estimated (default " + sizeText(engine.DefaultStack) + ")",
			set:   func(c *settings, v string) (err error) { c.host.Limits.Stack, err = parseStack(v); return err }},
		{key: "limits.fuel", name: "fuel",
			usage: "`UNITS` of fuel that one turn may use, or none (default none: its time bounds it)",
			set:   func(c *settings, v string) (err error) { c.host.Limits.Fuel, err = parseFuel(v); return err }},
		{key: "limits.host_calls", name: "host-calls",
			usage: "`N` calls of host functions that one turn may make" + defaultsTo(engine.DefaultHostCalls),
			set: func(c *settings, v string) (err error) {
				c.host.Limits.HostCalls, err = parseCount(v, 1, mostCount)
				return err
			}},
		{key: "limits.outgoing", name: "outgoing",
			usage: "`N` messages to others that one turn may send" + defaultsTo(abi.DefaultMaxOutgoing),
			set: func(c *settings, v string) (err error) {
				c.host.Limits.Outgoing, err = parseCount(v, 1, mostCount)
				return err
			}},
		{key: "limits.log_bytes", name: "log-bytes",
			usage: "`SIZE` that an actor may write to the log in a second (default " + sizeText(engine.DefaultLogBytes) + ")",
			set:   func(c *settings, v string) (err error) { c.host.Limits.LogBytes, err = parseLogBytes(v); return err }},
		{key: "limits.max_actors", name: "max-actors",
			usage: "`N` actors may be active on the node (default 100000)",
			set: func(c *settings, v string) (err error) {
				c.host.Limits.MaxActors, err = parseCount(v, 1, mostCount)
				return err
			}},
		{key: "limits.max_conns", name: "max-conns",
			usage: "`N` connections that clients may have to the gateway (default half of the files that the process may open, at most 16384)",
			set: func(c *settings, v string) (err error) {
				c.host.Limits.MaxConns, err = parseCount(v, 1, mostCount)
				return err
			}},
		{key: "limits.max_sleep", name: "max-sleep",
			usage: "`SIZE` of memory that hibernated actors may take of --max-bytes, more goes to the directory of data (default a third)",
			set: func(c *settings, v string) (err error) {
				c.host.Limits.MaxSleep, err = parseSize(v, 1<<20, mostBytes)
				return err
			}},
		{key: "limits.max_bytes", name: "max-bytes",
			usage: "`SIZE` of memory that actors, modules and kept states may take together (default three quarters of the memory)",
			set: func(c *settings, v string) (err error) {
				c.host.Limits.MaxBytes, err = parseSize(v, 1<<20, mostBytes)
				return err
			}},
	}
}

// kindSetting is one knob of a table [kinds.NAME].
type kindSetting struct {
	key string
	set func(k *host.KindLimits, value string) error
}

func kindSettings() []kindSetting {
	return []kindSetting{
		{"mailbox", func(k *host.KindLimits, v string) (err error) {
			k.Mailbox, err = parseCount(v, 1, mostCount)
			return err
		}},
		{"turn", func(k *host.KindLimits, v string) (err error) { k.Turn, err = parseDuration(v, leastTime); return err }},
		{"idle", func(k *host.KindLimits, v string) (err error) { k.Idle, err = parseDuration(v, leastTime); return err }},
		{"hibernate", func(k *host.KindLimits, v string) (err error) { k.Hibernate, err = parseHibernate(v); return err }},
		{"memory", func(k *host.KindLimits, v string) error {
			n, err := parseSize(v, 64<<10, mostMemory)
			k.Memory = uint64(n)
			return err
		}},
		{"table", func(k *host.KindLimits, v string) (err error) { k.Table, err = parseTable(v); return err }},
		{"stack", func(k *host.KindLimits, v string) (err error) { k.Stack, err = parseStack(v); return err }},
		{"fuel", func(k *host.KindLimits, v string) (err error) {
			if k.Fuel, err = parseFuel(v); k.Fuel == 0 {
				k.Fuel = host.Unlimited // whatever the node has
			}
			return err
		}},
		{"max_message", func(k *host.KindLimits, v string) (err error) { k.MaxMessage, err = parseMessage(v); return err }},
		{"host_calls", func(k *host.KindLimits, v string) (err error) {
			k.HostCalls, err = parseCount(v, 1, mostCount)
			return err
		}},
		{"outgoing", func(k *host.KindLimits, v string) (err error) {
			k.Outgoing, err = parseCount(v, 1, mostCount)
			return err
		}},
		{"log_bytes", func(k *host.KindLimits, v string) (err error) { k.LogBytes, err = parseLogBytes(v); return err }},
	}
}

func defaultsTo(v any) string {
	if d, ok := v.(time.Duration); ok {
		v = timeText(d)
	}
	return fmt.Sprintf(" (default %v)", v)
}

func checkName(v string) error {
	if abi.CheckKind(v) != nil {
		return fmt.Errorf("%q is no name: 1 to 63 of a-z, 0-9, '_' and '-', a letter first", v)
	}
	return nil
}
