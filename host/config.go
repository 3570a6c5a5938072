package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/host/gateway"
)

// Config says what a node is. The zero value is a node without gateway, modules or disk: native actors alone.
type Config struct {
	ID        string // names the node; "" is "node"
	Cluster   string // names the cluster; "" is "wasilo"
	HTTP      string // host:port of the gateway, loopback only, port 0 is any; "" is no gateway
	Net       Net    // how to be one of several nodes
	ActorsDir string // of .wasm files, read flat; "" is none
	DataDir   string // for what the node keeps; "" keeps nothing on disk
	CacheDir  string // for compiled modules, which nodes of one user may share; "" is cache in DataDir
	Watch     bool   // follow ActorsDir while running
	Limits    Limits
	Kinds     map[string]KindLimits // what differs for a kind, by its name
	Native    []NativeKind
	Version   string       // of the binary, for people
	Log       *slog.Logger // nil discards

	// Witness is told of every turn of every actor, for those who check that none lives twice; see host/turnlog. nil: nobody is.
	Witness actor.Witness

	// HeapLimit is told a few times a second what the Go heap of the process may take, garbage included, for all to stay within the
	// memory; debug.SetMemoryLimit is meant. It must not block. nil: the heap is left alone, and garbage comes on top of Limits.MaxBytes.
	HeapLimit func(bytes int64)

	// loading is called before each module is loaded, for tests, which hold it up; nil is nothing.
	loading func(context.Context)
}

// Limits bound the node and each of its actors. Zero is the default beside each.
type Limits struct {
	MaxMessage int           // bytes of a payload: abi.DefaultMaxMessage
	Mailbox    int           // messages waiting at an actor: abi.DefaultMailbox
	Turn       time.Duration // one turn, its waiting included: abi.DefaultTurn
	Request    time.Duration // a request that names no time: abi.DefaultRequest
	Idle       time.Duration // without a message, then passivated: abi.DefaultIdle
	Hibernate  time.Duration // without a message, then hibernated, if the kind is: 30 s; [Never]: only once it would be passivated
	Memory     uint64        // bytes of linear memory of a guest, up to 4 GiB, which is [engine.MaxMemory]: abi.DefaultMemory
	Table      int           // entries of a guest's tables together, up to [engine.MaxTable]: 128 Ki
	Stack      int64         // bytes of a guest's stack, as estimated: 8 MiB
	Fuel       int64         // units that a turn may use: none but what its time allows
	HostCalls  int           // calls of host functions in a turn: 1 Mi
	Outgoing   int           // requests, calls and tells of a turn: abi.DefaultMaxOutgoing
	LogBytes   int           // that a guest may write to the log in a second, in the long run: 64 KiB
	MaxActors  int           // activations on the node: 100,000
	MaxConns   int           // connections of clients to the gateway: [gateway.DefaultMaxConns]
	MaxSleep   int64         // bytes of MaxBytes that hibernated actors may take; beyond it they move to DataDir, if there is one: a third
	MaxBytes   int64         // bytes of memory that actors, their modules and their kept states may take together: [DefaultMaxBytes]
}

// KindLimits are a kind's own; zero is what the node has.
type KindLimits struct {
	Mailbox int
	Turn    time.Duration
	Idle    time.Duration
	Memory  uint64

	Hibernate time.Duration

	MaxMessage int // at most the node's
	Table      int
	Stack      int64
	Fuel       int64 // [Unlimited]: none, whatever the node has
	HostCalls  int
	Outgoing   int
	LogBytes   int
}

// Unlimited is a number without a bound.
const Unlimited = -1

// Never is a time that does not come.
const Never time.Duration = -1

// NativeKind is a kind whose actors are Go code of this process: trusted, and not sandboxed.
type NativeKind struct {
	Desc abi.KindDescription
	// New returns the instance of one activation. The host is for its turns alone.
	New func(h *actor.Host) (actor.Instance, error)
	// Wake returns one that goes on where an instance of New's or its own was captured, if Desc declares the state image and instances
	// are an [actor.Sleeper]; else it is not needed.
	Wake func(h *actor.Host, state []byte) (actor.Instance, error)
}

const (
	defaultMaxActors = 100_000
	defaultHibernate = 30 * time.Second
	minTurn          = time.Millisecond
	minMemory        = 64 << 10
	maxMemory        = 4 << 30 // as it is set

	minStack, maxStack       = 64 << 10, 64 << 20
	minFuel, maxFuel         = 10_000, 1 << 50
	maxCount                 = 1 << 30 // of host calls, and of messages of a turn
	minLogBytes, maxLogBytes = 1 << 10, 1 << 30
)

// withDefaults checks c and fills in what is zero. The error names the field, and joins all that is wrong.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.ID, c.Cluster = or(c.ID, "node"), or(c.Cluster, "wasilo")
	for _, f := range []struct{ name, v string }{{"id", c.ID}, {"cluster", c.Cluster}} {
		if abi.CheckKind(f.v) != nil {
			bad("%s %q: 1 to 63 of a-z, 0-9, '_' and '-', a letter first", f.name, f.v)
		}
	}
	c.Net.check(bad)
	if c.Net.Link != "" && c.DataDir == "" && c.isVoter() {
		bad("a voter keeps a log: give data")
	}
	if c.Net.Link != "" && c.Net.Mode == cluster.Client && (c.ActorsDir != "" || len(c.Native) > 0) {
		bad("mode client: a client hosts nothing: leave the actors out, or make the node a member")
	}
	l := &c.Limits
	for _, f := range []struct {
		name string
		v    int64
	}{{"max_message", int64(l.MaxMessage)}, {"mailbox", int64(l.Mailbox)}, {"turn", int64(l.Turn)},
		{"request", int64(l.Request)}, {"idle", int64(l.Idle)}, {"max_actors", int64(l.MaxActors)}, {"max_conns", int64(l.MaxConns)}, {"max_bytes", l.MaxBytes}, {"max_sleep", l.MaxSleep}} {
		if f.v < 0 {
			bad("limits.%s must not be negative", f.name)
		}
	}
	l.MaxMessage, l.Mailbox = or(l.MaxMessage, abi.DefaultMaxMessage), or(l.Mailbox, abi.DefaultMailbox)
	l.Turn, l.Request, l.Idle = or(l.Turn, abi.DefaultTurn), or(l.Request, abi.DefaultRequest), or(l.Idle, abi.DefaultIdle)
	l.Hibernate = or(l.Hibernate, defaultHibernate)
	l.Memory, l.MaxActors = addressable(or(l.Memory, abi.DefaultMemory)), or(l.MaxActors, defaultMaxActors)
	l.MaxConns = or(l.MaxConns, gateway.DefaultMaxConns())
	l.MaxBytes = or(l.MaxBytes, DefaultMaxBytes())
	l.MaxSleep = min(or(l.MaxSleep, l.MaxBytes/3), l.MaxBytes)
	if l.Hibernate < 0 && l.Hibernate != Never {
		bad("limits.hibernate must not be negative")
	}
	if l.MaxMessage > 1<<30 {
		bad("limits.max_message must be at most 1GiB")
	}
	l.Table, l.Stack = or(l.Table, engine.DefaultTable), or(l.Stack, engine.DefaultStack)
	l.HostCalls, l.Outgoing = or(l.HostCalls, engine.DefaultHostCalls), or(l.Outgoing, abi.DefaultMaxOutgoing)
	l.LogBytes = or(l.LogBytes, engine.DefaultLogBytes)
	kind := func(where string, k KindLimits) {
		if k.Turn < minTurn {
			bad("%s.turn must be at least %v", where, minTurn)
		}
		if k.Memory < minMemory || k.Memory > maxMemory {
			bad("%s.memory must be from 64KiB to 4GiB", where)
		}
		if k.Table < 1 || k.Table > engine.MaxTable {
			bad("%s.table must be from 1 to %d entries", where, engine.MaxTable)
		}
		if k.Stack < minStack || k.Stack > maxStack {
			bad("%s.stack must be from 64KiB to 64MiB", where)
		}
		if k.Fuel != 0 && (k.Fuel < minFuel || k.Fuel > maxFuel) {
			bad("%s.fuel must be 0, for none, or from %d to %d units", where, int64(minFuel), int64(maxFuel))
		}
		if k.HostCalls < 1 || k.HostCalls > maxCount {
			bad("%s.host_calls must be from 1 to %d", where, maxCount)
		}
		if k.Outgoing < 1 || k.Outgoing > maxCount {
			bad("%s.outgoing must be from 1 to %d", where, maxCount)
		}
		if k.LogBytes < minLogBytes || k.LogBytes > maxLogBytes {
			bad("%s.log_bytes must be from 1KiB to 1GiB", where)
		}
	}
	kind("limits", c.kindLimits(""))
	for _, name := range slices.Sorted(maps.Keys(c.Kinds)) {
		k := c.Kinds[name]
		if err := abi.CheckKind(name); err != nil {
			bad("kinds.%s: %v", name, err)
		}
		if k.Mailbox < 0 || k.Idle < 0 || k.MaxMessage < 0 {
			bad("kinds.%s: a limit must not be negative", name)
		}
		if k.Hibernate < 0 && k.Hibernate != Never {
			bad("kinds.%s.hibernate must not be negative", name)
		}
		if k.MaxMessage > l.MaxMessage {
			bad("kinds.%s.max_message is %d, more than limits.max_message, %d: what comes by HTTP or from other nodes is bounded by that",
				name, k.MaxMessage, l.MaxMessage)
		}
		kind("kinds."+name, c.kindLimits(name))
	}
	seen := map[string]bool{}
	c.Native = slices.Clone(c.Native)
	for i := range c.Native {
		n := &c.Native[i]
		switch {
		case abi.CheckKind(n.Desc.Name) != nil:
			bad("native kind: %v", abi.CheckKind(n.Desc.Name))
		case n.New == nil || len(n.Desc.Events) == 0:
			bad("native kind %s: New and at least one event are required", n.Desc.Name)
		case seen[n.Desc.Name]:
			bad("native kind %s is given twice", n.Desc.Name)
		}
		seen[n.Desc.Name] = true
		// Sorted, as descriptions have them, and the caller's own left alone.
		n.Desc.Methods = slices.Clone(n.Desc.Methods)
		slices.SortFunc(n.Desc.Methods, func(a, b abi.Method) int { return strings.Compare(a.Name, b.Name) })
		for j, m := range n.Desc.Methods {
			if !abi.ValidMethod(m.Name) {
				bad("native kind %s: the method %q: a name is 1 to %d of A-Z, a-z, 0-9, '_', '.' and '-'", n.Desc.Name, m.Name, abi.MaxMethodLen)
			} else if j > 0 && n.Desc.Methods[j-1].Name == m.Name {
				bad("native kind %s has the method %s twice", n.Desc.Name, m.Name)
			}
		}
	}
	return c, errors.Join(errs...)
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// hibernate returns after what time actors of a kind are hibernated, 0 for never.
func (c *Config) hibernate(kind string) time.Duration {
	return max(0, or(c.Kinds[kind].Hibernate, c.Limits.Hibernate))
}

// kindLimits returns what counts for a kind: its own, else the node's. Fuel and Hibernate are 0 for none and never.
func (c *Config) kindLimits(kind string) KindLimits {
	k, l := c.Kinds[kind], &c.Limits
	fuel := or(k.Fuel, l.Fuel)
	if fuel == Unlimited {
		fuel = 0
	}
	return KindLimits{Mailbox: or(k.Mailbox, l.Mailbox), Turn: or(k.Turn, l.Turn), Idle: or(k.Idle, l.Idle), Memory: addressable(or(k.Memory, l.Memory)),
		Hibernate: c.hibernate(kind), MaxMessage: or(k.MaxMessage, l.MaxMessage), Table: or(k.Table, l.Table), Stack: or(k.Stack, l.Stack),
		Fuel: fuel, HostCalls: or(k.HostCalls, l.HostCalls), Outgoing: or(k.Outgoing, l.Outgoing), LogBytes: or(k.LogBytes, l.LogBytes)}
}

// ofActivation are the limits that an activation keeps by itself.
func (k KindLimits) ofActivation(request time.Duration) actor.Limits {
	return actor.Limits{Mailbox: k.Mailbox, Turn: k.Turn, Request: request, MaxMessage: k.MaxMessage, MaxOutgoing: k.Outgoing,
		MaxTimers: abi.DefaultMaxTimers}
}

// ofInstance are those that the engine keeps.
func (k KindLimits) ofInstance() engine.Options {
	return engine.Options{Memory: k.Memory, Table: uint32(k.Table), Stack: k.Stack, Fuel: k.Fuel, HostCalls: k.HostCalls, Turn: k.Turn,
		MaxMessage: k.MaxMessage, LogBytes: k.LogBytes}
}

// maxMemory is the most that an activation of any kind may have.
func (c *Config) maxMemory() uint64 {
	most := c.Limits.Memory
	for _, k := range c.Kinds {
		most = max(most, addressable(k.Memory))
	}
	return most
}

// addressable is what a guest gets of a limit up to 4 GiB; one beyond that is left to be refused.
func addressable(memory uint64) uint64 {
	if memory > engine.MaxMemory && memory <= maxMemory {
		return engine.MaxMemory
	}
	return memory
}
