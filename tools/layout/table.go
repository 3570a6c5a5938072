package layout

// Row is what one package, or one subtree, may import.
type Row struct {
	// Package is the path below the module, "." for the root. With "/..." at the end the row holds for all below too;
	// the longest row that fits counts.
	Package string

	// Ours lists what it may import of this module, in the same notation. "abi" brings abi/cbor along unless Light.
	Ours []string

	// Third maps what it may import of others, by path prefix, to the reason. Any: everything, of ours too.
	Third map[string]string
	Any   bool

	// Never maps path prefixes of the standard library that it must not import to the reason.
	Never map[string]string

	Light bool   // runs in guests: without abi/cbor
	Deep  bool   // holds for what it imports indirectly too, the standard library's own imports aside
	Pure  string // not "": the reason for having neither clock nor goroutine
}

// Reasons that rows share.
const (
	pure      = "the core decides by Step(event, now) alone, so that it can be simulated and replayed"
	noSockets = "sockets belong to the gateway and the link"
	inGuests  = "every guest links abi, and this would make each of them larger"
	forgePure = "the forge is pure functions of bytes"
)

// corePure is what would let time, chance or the machine into the core.
var corePure = map[string]string{
	"net": pure, "os": pure, "syscall": pure, "log": pure, "sync": pure, "crypto/rand": pure, "math/rand": pure, "hash/maphash": pure,
}

// Table is the house, from the command at the top to the ABI at the bottom.
var Table = []Row{
	{
		Package: "host/cmd/wasilo",
		Ours:    []string{"host/...", "serfwatch", "cluster/...", "abi"},
		Third: map[string]string{
			"github.com/spf13/cobra":     "commands, help and completion",
			"github.com/spf13/pflag":     "cobra's flags, to tell what was given from what is a default",
			"github.com/BurntSushi/toml": "the configuration file, with positions in its errors",
			"github.com/lmittmann/tint":  "slog for a terminal",
			"golang.org/x/term":          "whether the log goes to a terminal",
		},
	},
	{
		Package: "host",
		Ours:    []string{"host/...", "serfwatch", "cluster/...", "abi"},
		Third: map[string]string{
			"github.com/prometheus/client_golang": "the registry that the node's parts share",
			"golang.org/x/sys/unix":               "the clock that goes on while the machine is suspended",
		},
	},
	{
		Package: "host/telemetry",
		Ours:    []string{"cluster", "abi"},
		Third:   map[string]string{"github.com/prometheus/client_golang": "metrics for operators"},
	},
	{
		Package: "host/gateway",
		Ours:    []string{"cluster", "abi"},
		Third:   map[string]string{"golang.org/x/sys/unix": "whether somebody waits at a listener that is about to close"},
	},
	{Package: "host/gateway/client", Ours: []string{"host/gateway", "abi"}}, // paths, headers and JSON types of the API
	{
		Package: "host/silo",
		Ours:    []string{"cluster", "host/actor", "host/engine", "host/module", "host/silo/sleep", "host/store", "abi"},
		Third:   map[string]string{"github.com/cespare/xxhash/v2": "spreads activations over the shards of the table"},
		Never:   map[string]string{"net": noSockets},
	},
	{
		Package: "host/silo/sleep",
		Ours:    []string{"abi"},
		Third: map[string]string{
			"github.com/cespare/xxhash/v2": "checksums of records in memory and in the spill file",
			"golang.org/x/sys/unix":        "memory outside the Go heap, and the lock on the spill file",
		},
		Never: map[string]string{"net": noSockets},
	},
	{
		Package: "host/actor",
		Ours:    []string{"abi"},
		Never:   map[string]string{"net": noSockets},
	},
	{
		Package: "host/engine",
		Ours:    []string{"host/engine/slot", "host/engine/bomb", "host/forge", "abi"}, // bomb: in tests
		Third: map[string]string{
			"github.com/tetratelabs/wazero": "the WebAssembly runtime",
			"golang.org/x/time/rate":        "bounds what a guest may write to the log",
			"github.com/cespare/xxhash/v2":  "checks compiled code on disk, and states, before they are run",
			"github.com/klauspost/compress": "packs the states of sleeping actors",
		},
		Never: map[string]string{"net": noSockets},
	},
	{Package: "host/engine/bomb", Never: map[string]string{"net": "it writes bytes", "os": "it writes bytes"}},
	{
		Package: "host/engine/slot",
		Third:   map[string]string{"golang.org/x/sys/unix": "maps an image, and asks which of its pages were written"},
		Never:   map[string]string{"net": noSockets},
	},
	{
		Package: "host/forge",
		Ours:    []string{"abi"},
		Never:   map[string]string{"net": forgePure, "os": forgePure},
	},
	{
		Package: "host/module",
		Ours:    []string{"host/forge", "abi"},
		Third:   map[string]string{"github.com/fsnotify/fsnotify": "tells when to look at the actors directory"},
	},
	{
		Package: "host/turnlog",
		Ours:    []string{"abi"},
		Third:   map[string]string{"golang.org/x/sys/unix": "the monotonic clock, with the origin that processes share"},
		Never:   map[string]string{"net": noSockets},
	},
	{Package: "host/store", Ours: []string{"abi"}},
	{Package: "host/link", Ours: []string{"cluster", "host/link/ca", "abi"}},
	{Package: "host/link/ca"},
	{
		Package: "host/consensus",
		Ours:    []string{"cluster/core", "host/link", "abi"},
		Third: map[string]string{
			"github.com/hashicorp/raft":     "the voters' log",
			"github.com/hashicorp/raft-wal": "the voters' log on disk",
			"github.com/hashicorp/go-hclog": "the type of raft's logger, which is handed to slog",
			"golang.org/x/sys/unix":         "the lock on a voter's directory",
		},
	},
	{
		Package: "serfwatch",
		Ours:    []string{"cluster"},
		Third: map[string]string{
			"github.com/hashicorp/serf":       "membership",
			"github.com/hashicorp/memberlist": "the type of serf's own settings",
		},
	},
	{
		Package: "cluster",
		Ours:    []string{"cluster/core", "abi"},
		Third:   map[string]string{"github.com/cespare/xxhash/v2": "spreads identities over the shards of the PID cache"},
	},
	{
		Package: "cluster/core",
		Ours:    []string{"abi"},
		Third:   map[string]string{"github.com/cespare/xxhash/v2": "hashes identities, the same on every node"},
		Never:   corePure, Deep: true, Pure: pure,
	},
	{
		Package: "cluster/core/sim",
		Ours:    []string{"cluster/core", "abi"},
		Never:   without(corePure, "math/rand"), // seeded: a run is its seed
		Pure:    "a simulated cluster has one clock and one order, given by its seed",
	},
	{
		Package: "abi/cbor",
		Ours:    []string{"abi"},
		Third:   map[string]string{"github.com/fxamacker/cbor/v2": "hardened decoding of what guests and clients send"},
	},
	{
		Package: "abi",
		Never: map[string]string{
			"net": inGuests, "os": inGuests, "log": inGuests, "fmt": inGuests, "reflect": inGuests, "encoding": inGuests,
		},
		Light: true, Deep: true,
	},
	{Package: "guests/go/...", Ours: []string{"guests/go/...", "abi"}, Light: true},
	{Package: "guests/examples/...", Ours: []string{"guests/examples/...", "guests/go/...", "abi"}, Light: true},
	{Package: "tools/...", Any: true},
	{Package: "."}, // tests of the README at most
}

// Exclusive is a dependency that few rows may import, in test files too. The tools are free: they measure and build, and
// nobody imports them.
type Exclusive struct {
	Import string   // path prefix
	Only   []string // packages
	Why    string
}

// Exclusives are the dependencies with one room each.
var Exclusives = []Exclusive{
	{"github.com/tetratelabs/wazero", []string{"host/engine"}, "the runtime can be replaced in one place"},
	{"github.com/hashicorp/serf", []string{"serfwatch"}, "serf is advice about topology and nothing else"},
	{"github.com/hashicorp/memberlist", []string{"serfwatch"}, "it is a part of serf"},
	{"github.com/hashicorp/raft", []string{"host/consensus"}, "there is one log"},
	{"github.com/hashicorp/raft-wal", []string{"host/consensus"}, "there is one log"},
	{"github.com/fxamacker/cbor", []string{"abi/cbor"}, "its modes are hardened in one place"},
	{"github.com/prometheus", []string{"host/telemetry", "host"}, "metrics leave the node in one place"},
	{"github.com/spf13", []string{"host/cmd/wasilo"}, "the node is a library without a command line"},
	{"github.com/BurntSushi/toml", []string{"host/cmd/wasilo"}, "the node is configured by a struct"},
	{"github.com/lmittmann/tint", []string{"host/cmd/wasilo"}, "the node logs to the slog.Logger it is given"},
	{"github.com/fsnotify/fsnotify", []string{"host/module"}, "one package follows files"},
}

// TestLibraries are what test files may import beside their own row.
var TestLibraries = map[string]string{
	"go.uber.org/goleak":                "no goroutine outlives its test",
	"pgregory.net/rapid":                "properties instead of examples",
	"github.com/cockroachdb/datadriven": "scenarios that people read",
	"github.com/rogpeppe/go-internal":   "the command line as typed (testscript), and its archives",
	"golang.org/x/sync":                 "groups of goroutines that fail together",
}

// without is m without one key.
func without(m map[string]string, key string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		if k != key {
			out[k] = v
		}
	}
	return out
}
