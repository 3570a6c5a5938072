package gateway

import (
	"context"
	"strconv"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Node is what the gateway needs of the node behind it. All of it is called from many goroutines at once.
type Node interface {
	// Send delivers one message and waits for the reply, at most until env.Deadline or the end of ctx. A one-way
	// message is over when it is accepted. The payload of env is the node's from here on. Errors carry a code.
	Send(ctx context.Context, env *abi.Envelope) ([]byte, error)
	// Method finds what a kind says of a method. A nil method without an error belongs to a kind that lists none and
	// decides by itself. Another node may have to be asked: that ends by the deadline, or with ctx. Errors carry unknown_kind,
	// unknown_method, or a code that says whether to try again.
	Method(ctx context.Context, kind, method string, deadline time.Time) (*abi.Method, error)
	// Kinds lists what the node serves, sorted by name.
	Kinds() []KindInfo
	// Files lists the module files that the node knows of, sorted by path.
	Files() []FileInfo
	// Actors lists actors that are active or sleep, in order of their key.
	Actors(q ActorQuery) ActorPage
	// Members lists the nodes of the cluster as this node sees them, sorted by id, this one among them.
	Members() []MemberInfo
	// Ready reports whether the node can serve, and what it is waiting for.
	Ready() Readiness
}

// States of a [MemberInfo].
const (
	MemberAlive   = "alive"
	MemberLeaving = "leaving"
	MemberLeft    = "left"
	MemberFailed  = "failed"
)

// MemberInfo is one node of the cluster as another one sees it.
type MemberInfo struct {
	ID     string `json:"id"`
	Self   bool   `json:"self,omitempty"` // the node that answers
	State  string `json:"state"`          // as gossip has it
	Mode   string `json:"mode"`           // member or client
	Boot   string `json:"boot,omitempty"` // tells runs of the node apart, hex
	Link   string `json:"link,omitempty"` // host:port
	Gossip string `json:"gossip,omitempty"`
	HTTP   string `json:"http,omitempty"` // host:port of its gateway
	// Linked says that messages can go to it at once: its certificate is verified and a connection stands.
	Linked bool `json:"linked"`
	// Relay is the node through which messages to it go, since the two do not reach each other; "" while none is needed, or none found.
	Relay string `json:"relay,omitempty"`
	// Kinds are those it hosts, as it said; nil while it has said nothing.
	Kinds []string `json:"kinds"`
	// Voter says that it has a vote in a cluster with voters, and Leads that it leads them, as far as the node that answers knows.
	Voter bool `json:"voter,omitempty"`
	Leads bool `json:"leads,omitempty"`
	// Blocked says that it is kept from hosting actors: an operator said so, or it refuses connections.
	Blocked bool `json:"blocked,omitempty"`
	// Draining says that it gives its actors away, or has given them away, and takes none: an operator said so, or it leaves. Without voters
	// only the node itself knows.
	Draining bool `json:"draining,omitempty"`
	// Problem says what stands between the nodes, "" for nothing.
	Problem string `json:"problem,omitempty"`
}

// KindInfo is one kind as clients see it. [DescribeKind] fills it from a description.
type KindInfo struct {
	Name    string       `json:"name"`
	Doc     string       `json:"doc,omitempty"`
	File    string       `json:"file,omitempty"`    // of the module; none for a native kind
	Version string       `json:"version,omitempty"` // sha256 of the module, hex
	Tier    string       `json:"tier,omitempty"`    // of the module: how its instances are made, image or plain
	Nodes   []string     `json:"nodes,omitempty"`   // ids of those that host it, sorted
	State   StateInfo    `json:"state"`
	Events  []string     `json:"events"`
	Methods []MethodInfo `json:"methods"`
	// Limits are those of its actors on the node that answers; nil: it does not host the kind.
	Limits *LimitsInfo `json:"limits,omitempty"`
	// Backoff says that the node which answers starts no actors of the kind at present, since it failed to; nil: it does.
	Backoff *BackoffInfo `json:"backoff,omitempty"`
}

// LimitsInfo says what bounds each actor of a kind. Sizes are in bytes, what is per turn says so; a native kind has neither memory nor
// what comes after it.
type LimitsInfo struct {
	Mailbox     int    `json:"mailbox"`      // messages that wait
	TurnMS      int64  `json:"turn_ms"`      // a turn
	IdleMS      int64  `json:"idle_ms"`      // without a message, then passivated
	HibernateMS int64  `json:"hibernate_ms"` // without a message, then hibernated, if the kind is; 0: only once it would be passivated
	MaxMessage  int    `json:"max_message"`
	Outgoing    int    `json:"outgoing"` // messages to others in a turn
	Memory      uint64 `json:"memory,omitempty"`
	Table       int    `json:"table,omitempty"` // entries
	Stack       int64  `json:"stack,omitempty"`
	HostCalls   int    `json:"host_calls,omitempty"` // in a turn
	Fuel        int64  `json:"fuel,omitempty"`       // units in a turn; 0: as many as its time allows
	LogBytes    int    `json:"log_bytes,omitempty"`  // a second
}

// BackoffInfo says which starts are held back after earlier ones failed, and until when.
type BackoffInfo struct {
	Actor    string `json:"actor,omitempty"`  // only its starts, as kind/id; "": those of the whole kind
	Actors   int    `json:"actors,omitempty"` // how many are held back like that one, itself included
	Failures int    `json:"failures"`         // in a row
	WaitMS   int64  `json:"wait_ms"`          // until one is tried; 0: the next one that is asked for is
	Trying   bool   `json:"trying,omitempty"` // one is under way
	Error    string `json:"error"`            // of the last failure
}

// String says it in a sentence that the name of the kind begins.
func (b *BackoffInfo) String() string {
	s := "backs off"
	switch {
	case b.Actors > 1:
		s += " for " + strconv.Itoa(b.Actors) + " actors, among them " + b.Actor
	case b.Actor != "":
		s += " for " + b.Actor
	}
	s += " after " + strconv.Itoa(b.Failures) + " failed starts, "
	switch wait := time.Duration(b.WaitMS) * time.Millisecond; {
	case b.Trying:
		s += "one is tried just now"
	case wait <= 0:
		s += "the next one is tried"
	case wait < time.Second:
		s += "next try in " + wait.String()
	default:
		s += "next try in " + wait.Round(100*time.Millisecond).String()
	}
	return s + ": " + b.Error
}

// StateInfo is what a kind declares of its state.
type StateInfo struct {
	Keep    string `json:"keep"`
	Level   string `json:"level"`
	Version uint32 `json:"version,omitempty"`
}

// MethodInfo is one method as clients see it.
type MethodInfo struct {
	Name     string `json:"name"`
	Doc      string `json:"doc,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Params   string `json:"params"`  // for people: {by: int, note?: text}
	Result   string `json:"result"`  // likewise
	Example  string `json:"example"` // JSON that the method takes
}

// States of a [FileInfo].
const (
	FileLoaded = "loaded"          // what is on disk serves
	FileFailed = "failed"          // nothing of it serves
	FileKept   = "superseded-kept" // what is on disk was refused; the version before it still serves
	// FileLoading: what is on disk is being loaded, and nothing of the file serves meanwhile.
	FileLoading = "loading"
)

// FileInfo is one module file as operators see it.
type FileInfo struct {
	Path   string   `json:"path"`
	SHA256 string   `json:"sha256,omitempty"`
	Kinds  []string `json:"kinds,omitempty"`
	State  string   `json:"state"`
	Error  string   `json:"error,omitempty"`
	// LoadingSince is when what is on disk was noticed, zero if it is not being loaded. What serves goes on serving meanwhile.
	LoadingSince time.Time `json:"loading_since,omitzero"`
}

// ActorQuery asks for one page of the actors of this node.
type ActorQuery struct {
	Kind  string       // "": all kinds
	State string       // [ActorsActive] or [ActorSleeping]; "": both
	After abi.Identity // only actors whose key is greater; the zero identity: from the start
	Limit int          // at least 1
}

// ActorPage is the answer to an [ActorQuery].
type ActorPage struct {
	Actors []ActorInfo // in order of the key
	More   bool        // further ones follow the last of these
}

// States of an [ActorInfo].
const (
	ActorIdle     = "idle"
	ActorWarm     = "warm"    // idle, with less in hand
	ActorRunning  = "running" // a turn
	ActorClosing  = "closing"
	ActorSleeping = "sleeping" // hibernated: its state is kept, and it is not active
)

// ActorsActive is the [ActorQuery.State] of all but [ActorSleeping].
const ActorsActive = "active"

// ActorInfo is one actor as operators see it.
type ActorInfo struct {
	Kind    string    `json:"kind"`
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Version string    `json:"version,omitempty"` // sha256 of its module, hex; none while it sleeps
	Since   time.Time `json:"since,omitzero"`    // activated then; none while it sleeps
	Last    time.Time `json:"last,omitzero"`     // last used then
	Waiting int       `json:"waiting"`           // messages in its mailbox
	Calls   int       `json:"calls"`             // to others, not answered yet
	Timers  int       `json:"timers"`
	Size    int       `json:"size,omitempty"` // bytes of the state of one that sleeps
}

// Readiness is whether a node can serve, and why not.
type Readiness struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks,omitempty"`
}

// Check is one condition of readiness.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// DescribeKind turns what a module says of a kind into what clients are shown. File and version may be empty.
func DescribeKind(d *abi.KindDescription, file, version string) KindInfo {
	k := KindInfo{
		Name: d.Name, Doc: d.Doc, File: file, Version: version,
		State:   StateInfo{Keep: string(d.State.Keep), Level: string(d.State.Level), Version: d.State.Version},
		Events:  make([]string, 0, len(d.Events)),
		Methods: make([]MethodInfo, 0, len(d.Methods)),
	}
	if k.State.Keep == "" {
		k.State.Keep = string(abi.KeepNone)
	}
	if k.State.Level == "" {
		k.State.Level = string(abi.LevelVolatile)
	}
	for _, e := range d.Events {
		k.Events = append(k.Events, e.String())
	}
	for i := range d.Methods {
		m := &d.Methods[i]
		k.Methods = append(k.Methods, MethodInfo{
			Name: m.Name, Doc: m.Doc, ReadOnly: m.ReadOnly,
			Params: m.Params.String(), Result: m.Result.String(), Example: ExampleJSON(m.Params),
		})
	}
	return k
}
