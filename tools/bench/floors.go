package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wasilo/wasilo/abi"
)

// payloadSize is that of every request here, in bytes.
const payloadSize = 64

// channelActor is the least that an actor on a goroutine of its own costs in Go.
type channelActor struct{ in chan channelCall }

type channelCall struct {
	payload []byte
	reply   chan []byte
}

func newChannelActor() *channelActor {
	a := &channelActor{in: make(chan channelCall)}
	go func() {
		for c := range a.in {
			c.reply <- c.payload
		}
	}()
	return a
}

func (a *channelActor) call(payload []byte, reply chan []byte) []byte {
	a.in <- channelCall{payload, reply}
	return <-reply
}

// rawModule is a compiled guest without any of the host around it: no deadline, no limits, no fuel.
type rawModule struct {
	rt   wazero.Runtime
	code wazero.CompiledModule
}

func compileRaw(ctx context.Context, name string) (*rawModule, error) {
	wasm, err := os.ReadFile(filepath.Join("testdata", "wasm", name))
	if err != nil {
		return nil, fmt.Errorf("run from the project's root: %w", err)
	}
	m := &rawModule{rt: wazero.NewRuntime(ctx)}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, m.rt); err != nil {
		return nil, err
	}
	b := m.rt.NewHostModuleBuilder(abi.ImportModule)
	for _, s := range abi.Imports() {
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(context.Context, api.Module, []uint64) {}), types(s.Params), types(s.Results)).Export(s.Name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return nil, err
	}
	m.code, err = m.rt.CompileModule(ctx, wasm)
	return m, err
}

func types(vs []abi.ValType) []api.ValueType {
	out := make([]api.ValueType, len(vs))
	for i, v := range vs {
		out[i] = api.ValueType(v)
	}
	return out
}

// rawGuest is an instance under a mutex.
type rawGuest struct {
	mu    sync.Mutex
	mod   api.Module
	turn  api.Function
	mem   api.Memory
	inbox uint32
	stack [1]uint64
}

var rawConfig = wazero.NewModuleConfig().WithName("").WithStartFunctions(abi.ExportInitialize).WithRandSource(zeros{})

// zeros is a source of randomness for floors: the default costs 10 µs an instance.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (m *rawModule) instantiate(ctx context.Context) (*rawGuest, error) {
	mod, err := m.rt.InstantiateModule(ctx, m.code, rawConfig)
	if err != nil {
		return nil, err
	}
	g := &rawGuest{mod: mod, turn: mod.ExportedFunction(abi.ExportTurn), mem: mod.ExportedMemory(abi.ExportMemory)}
	g.stack[0] = 4096
	if err := mod.ExportedFunction(abi.ExportInbox).CallWithStack(ctx, g.stack[:]); err != nil {
		return nil, err
	}
	g.inbox = uint32(g.stack[0])
	return g, nil
}

// call copies an event in and the output out.
func (g *rawGuest) call(ctx context.Context, event []byte) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mem.Write(g.inbox, event)
	g.stack[0] = uint64(len(event))
	if err := g.turn.CallWithStack(ctx, g.stack[:]); err != nil {
		return nil, err
	}
	ptr, n := abi.Unpack(g.stack[0])
	out, ok := g.mem.Read(ptr, n)
	if !ok || n == 0 || out[0] != abi.OutReply {
		return nil, fmt.Errorf("the guest answered %x", out)
	}
	return append(make([]byte, 0, n), out...), nil
}

func rawEvent(method string, payload []byte) []byte {
	id, err := abi.NewIdentity("k", "i")
	if err != nil {
		panic(err) // a constant
	}
	return abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: method, Payload: payload, Token: 1,
		Self: &abi.Self{Identity: id, Reason: "bench"}})
}
