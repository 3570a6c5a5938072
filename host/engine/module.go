package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/tetratelabs/wazero"

	"github.com/wasilo/wasilo/abi"
)

// Module is a compiled and described .wasm file. Its methods may be called from any goroutine.
type Module struct {
	eng     *Engine
	runtime wazero.Runtime
	cache   wazero.CompilationCache // nil: compiled without one
	code    wazero.CompiledModule

	desc      *abi.Description
	sha       string
	size      int
	minMemory uint64 // bytes that its memory starts with
	// startMemory is how many bytes an instance had after its start: stock Go grows there, and growing copies.
	startMemory atomic.Uint64
	imports     []Import
	exports     []Export

	refs   atomic.Int64 // one for the module until it is closed, one an instance
	closed atomic.Bool
}

// Options are what one instance may differ in.
type Options struct {
	Memory uint64       // bytes of linear memory, up to 4 GiB; 0 is that of Config
	Log    *slog.Logger // takes what the guest writes to stdout and stderr; nil discards it
}

// Description returns what the module says of itself; it is shared and must not be changed.
func (m *Module) Description() *abi.Description { return m.desc }

// SHA256 returns the hash of the file, in hex.
func (m *Module) SHA256() string { return m.sha }

// Size returns the length of the file in bytes.
func (m *Module) Size() int { return m.size }

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
	err := m.runtime.Close(ctx)
	if m.cache != nil {
		err = errors.Join(err, m.cache.Close(ctx))
	}
	m.eng.open.Add(-1)
	return err
}

// Instantiate starts an instance, which calls h during its turns. It runs the module's start function and _initialize,
// with every host function refused, and is bounded by ctx and Config.Describe. The error is an [*abi.Error]: trap,
// limit_exceeded, timeout or canceled (of ctx), or ownership_changed for a closed module: whoever asks anew finds its
// successor. A few instances start at once, the others wait, as ctx lets them; Config.Describe counts from the start.
func (m *Module) Instantiate(ctx context.Context, h Host, opt Options) (*Instance, error) {
	if h == nil {
		panic("engine: Instantiate without a host")
	}
	if opt.Memory > maxMemory {
		return nil, abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("guest memory of %d bytes; at most 4 GiB", opt.Memory))
	}
	if !m.acquire() {
		return nil, abi.NewError(abi.ErrOwnershipChanged, "the module was replaced by another version; nothing was done")
	}
	select {
	case m.eng.starts <- struct{}{}:
	case <-ctx.Done():
		m.release()
		return nil, abi.NewError(abi.CodeOf(ctx.Err()), "the instance was given up before it could start: "+ctx.Err().Error())
	}
	i, err := m.start(ctx, h, opt)
	<-m.eng.starts
	if err != nil {
		m.release()
		return nil, err
	}
	return i, nil
}

// describe asks the module what it is.
func (m *Module) describe(ctx context.Context) (*abi.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, m.eng.cfg.Describe)
	defer cancel()
	m.acquire()
	i, err := m.start(ctx, nil, Options{})
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

// moduleConfig is what all instances share: no files, arguments or environment; the system's clock and random source.
var moduleConfig = wazero.NewModuleConfig().WithName("").WithStartFunctions().
	WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader)
