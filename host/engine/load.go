package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"

	"github.com/tetratelabs/wazero"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/forge"
)

// The stages of a load, in order.
const (
	StageRead     = "read"     // it is no WebAssembly module, or too large
	StageCompile  = "compile"  // it is malformed, or beyond what this host compiles
	StageExports  = "exports"  // it lacks what a guest exports
	StageImports  = "imports"  // it wants what this host does not provide
	StageDescribe = "describe" // its wasilo_describe failed, or returned nonsense
	StageVersion  = "version"  // it speaks another version of the ABI
)

// LoadError says why a module cannot be used.
type LoadError struct {
	Stage  string // one of the Stage constants
	Reason string // for people: what is wrong, and what to do where that is known
	Err    error  // what lies beneath, or nil
}

func (e *LoadError) Error() string { return e.Stage + ": " + e.Reason }

func (e *LoadError) Unwrap() error { return e.Err }

// WireCode classifies the failure: unsupported for a version this host does not speak, the code of the error beneath
// where there is one, else invalid_argument.
func (e *LoadError) WireCode() abi.Code {
	switch {
	case e.Stage == StageVersion:
		return abi.ErrUnsupported
	case errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded):
		return abi.CodeOf(e.Err)
	}
	return abi.ErrInvalidArgument
}

// Load makes a module of the content of a .wasm file, which must not change during the call and is not kept. The error is
// a [*LoadError]. Compiling does not heed ctx: it ends the load before and after.
func (e *Engine) Load(ctx context.Context, wasm []byte) (m *Module, err error) {
	l := &load{e: e, ctx: ctx, wasm: wasm, stage: StageRead}
	defer func() {
		if p := recover(); p != nil {
			e.cfg.Log.Error("loading a module panicked", "stage", l.stage, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("the compiler failed on this module: %v", p)
		}
		if err == nil {
			return
		}
		l.abandon()
		var le *LoadError
		if !errors.As(err, &le) {
			le = &LoadError{Stage: l.stage, Reason: err.Error(), Err: err}
		}
		le.Reason = oneLine(le.Reason)
		m, err = nil, le
	}()
	if e.closed.Load() {
		return nil, errors.New("the engine is closed")
	}
	return l.run()
}

// load is the state of one call of Load.
type load struct {
	e     *Engine
	ctx   context.Context
	wasm  []byte
	stage string // that runs, for its error

	runtime wazero.Runtime
	cache   wazero.CompilationCache
	entry   *cacheEntry
	code    int64 // bytes of what was compiled; 0: not known
	module  *Module
}

func (l *load) run() (*Module, error) {
	if err := checkHeader(l.wasm); err != nil {
		return nil, err
	}
	if len(l.wasm) > MaxModule {
		return nil, fmt.Errorf("%d bytes; a module may have at most %d MiB", len(l.wasm), MaxModule>>20)
	}
	l.stage = StageCompile
	forged, err := forge.Prepare(l.wasm, forgeOptions)
	if err != nil {
		return nil, err
	}
	if least := uint64(forged.MemoryMin) * pageSize; least > l.e.cfg.MaxMemory {
		return nil, fmt.Errorf("it starts with %s of memory; the limit is %s (limits.memory, or that of the kind)", byteSize(least),
			byteSize(l.e.cfg.MaxMemory))
	}
	l.stage = StageImports
	if err := l.e.checkImportNames(forged.Imports); err != nil {
		return nil, err
	}
	l.stage = StageCompile
	if err := l.ctx.Err(); err != nil {
		return nil, err
	}
	m := &Module{eng: l.e, sha: hex.EncodeToString(forged.InputSHA256[:]), size: len(l.wasm), prepared: len(forged.Wasm), forged: forged}
	l.wasm = forged.Wasm
	if m.code, err = l.compile(hex.EncodeToString(forged.OutputSHA256[:])); err != nil {
		return nil, err
	}
	forged.Wasm, l.wasm = nil, nil
	l.stage = StageExports
	if err := m.checkExports(); err != nil {
		return nil, err
	}
	l.stage = StageImports
	if err := m.checkImports(l.e.wasi); err != nil {
		return nil, err
	}
	l.stage = StageDescribe
	if err := l.ctx.Err(); err != nil {
		return nil, err
	}
	m.runtime, m.cache = l.runtime, l.cache
	m.refs.Store(1)
	l.e.open.Add(1)
	m.codeBytes = l.code
	if m.codeBytes == 0 {
		m.codeBytes = int64(m.prepared) * codeFactor
	}
	l.module, l.runtime, l.cache = m, nil, nil
	if forged.Tier == forge.Image {
		if err := m.prepareTemplate(l.ctx); err != nil {
			return nil, &LoadError{Stage: StageDescribe, Reason: "its start failed: " + abi.AsError(err).Message, Err: err}
		}
		forged.Data = nil
	}
	if m.desc, err = m.describe(l.ctx); err != nil {
		return nil, err
	}
	l.stage = StageVersion
	if err := m.desc.CheckVersion(); err != nil {
		return nil, &LoadError{Stage: StageVersion, Reason: abi.AsError(err).Message, Err: err}
	}
	l.e.mu.Lock()
	l.e.modules[m] = struct{}{}
	l.e.mu.Unlock()
	return m, nil
}

// compile compiles with the cache on disk if there is one, and without it when the cache turns out to be the problem.
func (l *load) compile(sha string) (wazero.CompiledModule, error) {
	if c := l.e.cache; c != nil {
		l.entry = c.entry(sha)
	}
	if l.entry != nil {
		code, err := l.compileIn(l.entry.dir)
		if err == nil {
			l.code = dirBytes(l.entry.dir)
			l.entry.commit()
			l.entry = nil
			return code, nil
		}
		l.abandon()
		if !isCacheError(err) {
			return nil, err
		}
		l.e.cache.unusable(err)
	}
	return l.compileIn("")
}

// compileIn compiles on a new runtime, whose cache is in dir; "" is none.
func (l *load) compileIn(dir string) (code wazero.CompiledModule, err error) {
	ctx := context.WithoutCancel(l.ctx)
	if dir != "" {
		if l.cache, err = wazero.NewCompilationCacheWithDir(dir); err != nil {
			return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
		}
	}
	if l.runtime, err = newRuntime(ctx, l.cache); err != nil {
		return nil, err
	}
	if code, err = l.runtime.CompileModule(ctx, l.wasm); err != nil {
		return nil, err
	}
	return code, nil
}

// isCacheError reports whether compiling failed for the cache's sake and not the module's.
func isCacheError(err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	return errors.As(err, &path) || errors.As(err, &link) || strings.HasPrefix(err.Error(), "compilationcache:")
}

// abandon releases what a failed load holds.
func (l *load) abandon() {
	ctx := context.Background()
	if l.entry != nil {
		l.entry.discard()
		l.entry = nil
	}
	if l.module != nil {
		l.module.Close()
		l.module = nil
	}
	if l.runtime != nil {
		l.runtime.Close(ctx)
		l.runtime = nil
	}
	if l.cache != nil {
		l.cache.Close(ctx)
		l.cache = nil
	}
}
