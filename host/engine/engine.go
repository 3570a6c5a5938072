// Package engine runs guests: it turns a .wasm file into a [Module], a module into any number of [Instance]s, and runs
// their turns. It is the only package that knows wazero.
//
// [Engine.Load] has the forge validate and rewrite a file, compiles what comes out (with a cache on disk), makes its template, runs the
// guest's wasilo_describe once with every host function refused, and checks what it says. Whatever the file is, Load returns a
// [LoadError] that says what to do; it is slow (a stock Go guest compiles for seconds the first time) and belongs on no request's path.
//
// [Module.Instantiate] makes an instance with a memory of its own: a copy of the template, where the module allows that (the image
// tier of the forge), in some ten microseconds whatever the guest does in its start. [Instance.Turn] writes an event into the guest's
// memory, calls it, and copies its output out. An instance is used by one goroutine at a time, and what it asks of its host it asks on
// that goroutine. A turn that traps, overruns its bounds or breaks the ABI ends that instance and nothing else.
//
// [Instance.Capture] says what an instance has become since its template: a delta of some tens of bytes for a small actor, which goes on
// as [Options].State, in this process or another.
//
// # How guests are stopped
//
// Nothing interrupts a guest from outside. Its code carries fuel, and comes to its host when a slice of that is spent, which is every
// 50 to 100 microseconds: there the host looks at the deadline, and lets the garbage collector and other goroutines have their way.
//
// # Who keeps what alive
//
// A module is counted: it lives until it and all its instances are closed, so a newer version of a file can take over
// while the old one's instances finish. Closing an instance whose turn runs would take the whole process down, so
// [Instance.Close] refuses.
package engine

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"golang.org/x/time/rate"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
	"github.com/wasilo/wasilo/host/forge"
)

// pageSize is that of WebAssembly.
const pageSize = 64 << 10

// MaxMemory is the most that an instance may have, in bytes: a page less than 32 bits can address. wazero counts the bytes of a memory in 32
// bits, where 4 GiB are none.
const MaxMemory = 1<<32 - pageSize

// DefaultDescribe bounds the start of an instance and the describing of a module.
const DefaultDescribe = 5 * time.Second

// Config is what an engine needs. The zero value is usable: no cache on disk, the defaults of the ABI.
type Config struct {
	// CacheDir keeps compiled modules between runs of the process; "" compiles anew each time. It is created when
	// missing. A directory that cannot be written or whose content is damaged costs a warning, never a failure.
	// Whoever can write to it can run native code in this process.
	CacheDir string
	// Memory is how many bytes of linear memory a guest may have if [Options] does not say; 0 is abi.DefaultMemory.
	Memory uint64
	// MaxMemory is the most that [Options] may say, up to [MaxMemory]; a module that starts with more is refused. 0 is Memory.
	MaxMemory uint64
	// Slots says how the memories of instances are kept.
	Slots slot.Options
	// MaxMessage bounds the payload of an event and of a plain reply, in bytes; 0 is abi.DefaultMaxMessage.
	MaxMessage int
	// Describe bounds wasilo_describe, and the start of an instance; 0 is [DefaultDescribe].
	Describe time.Duration
	// Log takes warnings of the engine's own; nil discards them.
	Log *slog.Logger
}

// Engine loads modules. Its methods may be called from any goroutine.
type Engine struct {
	cfg   Config
	cache *diskCache // nil: none
	// wasi has the signature of each WASI function by name. They are the same for every module.
	wasi map[string]string
	// open counts modules that are not released; closed refuses further ones.
	open   atomic.Int64
	closed atomic.Bool
	// starts has room for the instances that start at once. The others wait for their turn, and their time does not run:
	// a thousand at once would each be too slow for Config.Describe, and all of them fail.
	starts chan struct{}
	// lines bounds what all guests together write to the log.
	lines *rate.Limiter
	// reaping discards instances that broke; Close waits for it.
	reaping sync.WaitGroup
	// encoder and decoder pack and unpack deltas; bulkEncoder packs large ones, of which bulk has room for so many at once.
	encoder, bulkEncoder *zstd.Encoder
	bulk                 chan struct{}
	decoder              *zstd.Decoder

	ledger  ledger
	mu      sync.Mutex
	modules map[*Module]struct{} // those that are not released
}

// startsAtOnce are few, so that each gets on, and more than there are CPUs, so that one that hangs holds up few others.
func startsAtOnce() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// New returns an engine, or an error for a Config that cannot be.
func New(cfg Config) (*Engine, error) {
	thisPace() // no turn waits for it
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Memory == 0 {
		cfg.Memory = abi.DefaultMemory
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = abi.DefaultMaxMessage
	}
	if cfg.Describe == 0 {
		cfg.Describe = DefaultDescribe
	}
	cfg.MaxMemory = max(cfg.MaxMemory, cfg.Memory)
	switch {
	case cfg.MaxMemory > MaxMemory || cfg.Memory < pageSize:
		return nil, fmt.Errorf("engine: guest memory of %d bytes, or up to %d; it must be between 64 KiB and 64 KiB less than 4 GiB", cfg.Memory,
			cfg.MaxMemory)
	case cfg.MaxMessage < 0 || cfg.MaxMessage > 1<<30:
		return nil, fmt.Errorf("engine: messages of %d bytes; the limit must be between 1 byte and 1 GiB", cfg.MaxMessage)
	case cfg.Describe < 0:
		return nil, fmt.Errorf("engine: a describe time of %v", cfg.Describe)
	}
	prime()
	e := &Engine{cfg: cfg, wasi: wasiSignatures(), starts: make(chan struct{}, startsAtOnce()), lines: rate.NewLimiter(allLinesSecond, allLinesBurst),
		modules: make(map[*Module]struct{})}
	if cfg.CacheDir != "" {
		e.cache = openDiskCache(cfg.CacheDir, cfg.Log)
	}
	var err error
	if e.encoder, err = newEncoder(); err == nil {
		e.bulkEncoder, err = newEncoder()
	}
	if err == nil {
		e.decoder, err = newDecoder(cfg.MaxMemory)
	}
	if err != nil {
		return nil, err
	}
	e.bulk = make(chan struct{}, 2)
	return e, nil
}

// prime has wazero find out its own version, which it does at first use and without a lock.
var prime = sync.OnceFunc(func() {
	ctx := context.Background()
	wazero.NewRuntime(ctx).Close(ctx)
})

// Close refuses further loads. It fails while modules or instances are open: they keep working, and the memory they run
// in is released by closing them.
func (e *Engine) Close() error {
	e.closed.Store(true)
	e.reaping.Wait()
	if n := e.open.Load(); n > 0 {
		return fmt.Errorf("engine: closed while %d modules are still in use", n)
	}
	return nil
}

// newRuntime returns a runtime with every host function. Each module gets one of its own: it costs 0.3 ms, its cache can
// be checked before it is trusted, closing it frees all that belongs to the module, and modules share no lock.
func newRuntime(ctx context.Context, cache wazero.CompilationCache) (wazero.Runtime, error) {
	cfg := wazero.NewRuntimeConfig().WithDebugInfoEnabled(false)
	if cache != nil {
		cfg = cfg.WithCompilationCache(cache)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, cfg)
	err := provideWASI(ctx, rt)
	if err == nil {
		err = provideImports(ctx, rt)
	}
	if err == nil {
		_, err = rt.NewHostModuleBuilder(forge.RefillModule).NewFunctionBuilder().
			WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(forge.RefillName).Instantiate(ctx)
	}
	if err != nil {
		rt.Close(ctx)
		return nil, fmt.Errorf("engine: providing host functions: %w", err)
	}
	return rt, nil
}
