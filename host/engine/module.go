package engine

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/forge"
)

// Module is a compiled and described .wasm file. Its methods may be called from any goroutine.
type Module struct {
	eng     *Engine
	runtime wazero.Runtime
	cache   wazero.CompilationCache // nil: compiled without one
	code    wazero.CompiledModule
	forged  *forge.Module // without its bytes

	desc      *abi.Description
	sha       string
	size      int
	prepared  int    // bytes of what the forge made of the file
	codeBytes int64  // of native code
	minMemory uint64 // bytes that its memory starts with
	// startMemory is how many bytes an instance had after its start: stock Go grows there, and growing copies.
	startMemory atomic.Uint64
	imports     []Import
	exports     []Export

	template *template // nil in the plain tier
	mu       sync.Mutex
	idle     []*body  // as the template has them
	gauges   sync.Map // kind → *Gauge

	refs   atomic.Int64 // one for the module until it is closed, one an instance
	closed atomic.Bool
}

// Options are what one instance may differ in. Zero is the default.
type Options struct {
	Memory     uint64        // bytes of linear memory, up to Config.MaxMemory; 0 is Config.Memory
	Stack      int64         // bytes of stack, as the forge estimates them; 0 is [DefaultStack]
	Table      uint32        // entries of its tables together, up to [MaxTable]; 0 is [DefaultTable]
	Fuel       int64         // units that a turn may use, give or take some thousand; 0 is what its time allows
	HostCalls  int           // of a turn, those of WASI included; 0 is [DefaultHostCalls]
	MaxMessage int           // bytes of a payload; 0 is that of Config
	Turn       time.Duration // the limit that a turn's deadline comes from, for messages; 0 is what was left when it began
	LogBytes   int           // a second that the guest may write to the log, in the long run; 0 is [DefaultLogBytes]

	// State is what [Instance.Capture] made of an earlier instance; nil starts anew.
	State []byte
	// Epoch is that of the lease under which the instance runs. What it captures carries it, and a state of a later epoch is refused.
	Epoch abi.Epoch

	// Gauge is what instances of the same kind take, and learns what this one does. nil is one of the module's own.
	Gauge *Gauge

	Log *slog.Logger // takes what the guest writes to stdout and stderr; nil discards it
}

// Defaults of [Options].
const (
	DefaultStack     = 8 << 20   // a Go program recurses some 40,000 calls deep
	DefaultHostCalls = 1 << 20   // of a turn
	DefaultLogBytes  = 64 << 10  // a second
	DefaultTable     = 128 << 10 // entries of tables: a function of a Go program takes one, and cmd/vet has 6,572
)

// MaxTable is how many entries the tables of an instance can have together, whatever its limit: 8 bytes each, and wazero takes them anew in
// one piece when a table grows. Where the first touch of a page takes 15 µs these are 30 ms in which nothing stops the guest.
const MaxTable = 1 << 20

// Description returns what the module says of itself; it is shared and must not be changed.
func (m *Module) Description() *abi.Description { return m.desc }

// SHA256 returns the hash of the file, in hex.
func (m *Module) SHA256() string { return m.sha }

// Size returns the length of the file in bytes.
func (m *Module) Size() int { return m.size }

// Images reports whether instances are copies of a template: they start in microseconds and can be captured.
func (m *Module) Images() bool { return m.template != nil }

// PreparedSize returns the bytes of what the forge made of the file, which is what is compiled.
func (m *Module) PreparedSize() int { return m.prepared }

// Tier says how instances are made, image or plain, and why so, in words for people.
func (m *Module) Tier() (tier, reason string) { return m.forged.Tier.String(), m.forged.TierReason }

// Features names the parts of WebAssembly beyond its first version that the module uses, in a fixed order.
func (m *Module) Features() []string {
	if m.forged.Features == 0 {
		return nil
	}
	return strings.Split(m.forged.Features.String(), ", ")
}

// WeightsVersion numbers the table by which its code pays fuel.
func (m *Module) WeightsVersion() uint32 { return m.forged.WeightsVersion }

// MemoryPages returns how many pages of 64 KiB its memory has before its start, and at most on this engine; a module without memory has
// none.
func (m *Module) MemoryPages() (least, most uint32) {
	return m.forged.MemoryMin, min(m.forged.MemoryMax, uint32(m.eng.cfg.MaxMemory/pageSize))
}

// TemplateSHA256 returns the hash, in hex, of what instances are copies of; "" in the plain tier.
func (m *Module) TemplateSHA256() string {
	if m.template == nil {
		return ""
	}
	return hex.EncodeToString(m.template.hash[:])
}

// TemplateMemory returns the length of the memory that instances are copies of, and how many of its bytes are not zero. It reads all
// of it. Both are 0 in the plain tier and after Close.
func (m *Module) TemplateMemory() (size, nonzero int) {
	if m.template == nil || !m.acquire() {
		return 0, 0
	}
	defer m.release()
	image := m.template.pool.Image()
	return len(image), len(image) - bytes.Count(image, []byte{0})
}

// Imports lists what the module asks its host for, in its own order.
func (m *Module) Imports() []Import { return slices.Clone(m.imports) }

// Exports lists what the module offers, by name.
func (m *Module) Exports() []Export { return slices.Clone(m.exports) }

// Close gives up the module: nothing can be instantiated from it any more. What it holds is released when its last
// instance is closed too. Further calls do nothing.
func (m *Module) Close() error {
	if !m.closed.CompareAndSwap(false, true) {
		return nil
	}
	m.dropIdle()
	return m.release()
}

// acquire counts an instance, unless the module is closed.
func (m *Module) acquire() bool {
	for !m.closed.Load() {
		if n := m.refs.Load(); n == 0 {
			break
		} else if m.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// release drops one reference; the last one frees everything.
func (m *Module) release() error {
	if m.refs.Add(-1) > 0 {
		return nil
	}
	ctx := context.Background()
	m.eng.mu.Lock()
	delete(m.eng.modules, m)
	m.eng.mu.Unlock()
	m.dropIdle()
	err := m.runtime.Close(ctx)
	if m.template != nil && m.template.pool != nil {
		err = errors.Join(err, m.template.pool.Close())
	}
	if m.cache != nil {
		err = errors.Join(err, m.cache.Close(ctx))
	}
	m.eng.open.Add(-1)
	return err
}

// Instantiate starts an instance, which calls h during its turns. It runs the module's start function and _initialize,
// with every host function refused, and is bounded by ctx and Config.Describe. The error is an [*abi.Error]: trap,
// limit_exceeded, timeout or canceled (of ctx), or ownership_changed for a closed module: whoever asks anew finds its
// successor. Modules of the image tier are copied from their template, in microseconds; of the others a few start at once and the rest
// wait, as ctx lets them, and Config.Describe counts from the start.
func (m *Module) Instantiate(ctx context.Context, h Host, opt Options) (*Instance, error) {
	if h == nil {
		panic("engine: Instantiate without a host")
	}
	if opt.Memory > m.eng.cfg.MaxMemory {
		return nil, abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("guest memory of %d bytes; this engine allows %d", opt.Memory, m.eng.cfg.MaxMemory))
	}
	if !m.acquire() {
		return nil, abi.NewError(abi.ErrOwnershipChanged, "the module was replaced by another version; nothing was done")
	}
	var i *Instance
	var err error
	if m.template != nil {
		i, err = m.start(ctx, h, opt) // takes microseconds
	} else {
		select {
		case m.eng.starts <- struct{}{}:
		case <-ctx.Done():
			m.release()
			return nil, abi.NewError(abi.CodeOf(ctx.Err()), "the instance was given up before it could start: "+ctx.Err().Error())
		}
		i, err = m.start(ctx, h, opt)
		<-m.eng.starts
	}
	if err != nil {
		m.release()
		return nil, err
	}
	return i, nil
}

// leastOptions are those by which a module is started before it is known which kinds there are: the defaults, or what it declares.
func (m *Module) leastOptions() Options {
	return Options{Memory: max(m.eng.cfg.Memory, m.minMemory), Table: max(DefaultTable, uint32(m.forged.TableEntries))}
}

// startsWith returns the bytes of memory that an instance has at its first turn at least.
func (m *Module) startsWith() uint64 {
	if m.template == nil {
		return m.minMemory
	}
	return max(m.minMemory, uint64(len(m.template.pool.Image())))
}

// describe asks the module what it is.
func (m *Module) describe(ctx context.Context) (*abi.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, m.eng.cfg.Describe)
	defer cancel()
	m.acquire()
	i, err := m.start(ctx, nil, m.leastOptions())
	if err != nil {
		m.release()
		return nil, &LoadError{Stage: StageDescribe, Reason: "its start failed: " + abi.AsError(err).Message, Err: err}
	}
	defer i.Close()
	d, err := i.describe(ctx)
	if err != nil {
		return nil, &LoadError{Stage: StageDescribe, Reason: err.Error(), Err: err}
	}
	return d, nil
}
