package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
	"github.com/wasilo/wasilo/host/forge"
)

// body is a wazero instance with its memory: what an [Instance] runs in. Those of the image tier are used again by other
// instances of their module, once everything in them is as the template has it.
type body struct {
	module *Module
	user   *Instance // whose turns run in it; nil in the pool
	memory memory
	env    environment

	mod     api.Module
	mem     api.Memory
	fuel    api.MutableGlobal // nil only where a module could not be metered, which none is
	stack   api.MutableGlobal
	tables  api.MutableGlobal // how far tables may grow; nil where nothing grows one
	globals []global
	turn    api.Function // kept while the actor is hot: 12 KB

	captured []uint32 // where the pages lie that differed from the template when the body was captured last
	known    bool     // and nothing has run in it since, so these are all
	gauge    *Gauge   // of the user's kind
	overall  int64    // bytes of the Go heap that the ledger has for it, beside its memory
	turns    uint32   // of the user
	measure  uint32   // after so many of them
}

// global is a mutable global of the image tier.
type global struct {
	value    api.MutableGlobal // nil for v128
	get, set string            // of v128, whose upper half wazero's own access loses
}

// attach makes i the user.
func (b *body) attach(i *Instance) {
	b.user, i.body = i, b
	i.guard.inst = i
	b.env.guard = &i.guard
	b.env.ahead = 0
	b.memory.limit = i.memoryLimit
	b.memory.free = i.host == nil // while the module is loaded, for a moment
	if b.gauge = i.gauge; b.gauge == nil {
		b.gauge = b.module.Gauge("")
	}
	b.turns, b.measure = 0, sampleEarly
	if b.gauge.samplesFirst() || b.memory.slot != nil && b.memory.slot.Watched() {
		b.measure = 1
	}
	b.module.eng.ledger.live.Add(1)
	if b.memory.slot != nil {
		b.memory.rebase(max(b.memory.base, b.gauge.expect(int64(len(b.memory.slot.Bytes())))))
	}
}

// newBody returns a body whose memory lies in s, nil for the Go heap.
func (m *Module) newBody(s *slot.Slot) *body {
	l := &m.eng.ledger
	b := &body{module: m, overall: bodyBytes + m.held()}
	b.memory.slot, b.memory.engine, b.memory.where = s, m.eng, &l.heap
	if s == nil {
		b.overall = m.heapBytes()
	} else if m.template.pool.Mapped() {
		b.memory.where = &l.mapped
	}
	l.add(&l.heap, b.overall)
	return b
}

// sample measures what the user takes.
func (b *body) sample() {
	m := &b.memory
	if m.slot != nil {
		m.rebase(max(0, m.slot.DirtyBytes()-m.grown))
	}
	b.gauge.saw(m.base, m.private()+b.overall)
}

// turned counts a turn of the user's, and measures after some.
func (b *body) turned() {
	if b.turns++; b.turns != b.measure {
		return
	}
	if b.measure < sampleEarly {
		b.measure = sampleEarly
	} else {
		b.measure += sampleTurns
	}
	b.sample()
}

// instantiate makes the wazero instance; no code of the guest runs. wazero panics on some modules.
func (b *body) instantiate() (err error) {
	b.memory.making = true
	defer func() {
		b.memory.making = false
		if p := recover(); p != nil {
			err = fmt.Errorf("instantiating failed: %v", p)
		}
	}()
	m := b.module
	ctx := experimental.WithMemoryAllocator(context.Background(), &b.memory)
	if b.mod, err = m.runtime.InstantiateModule(ctx, m.code, moduleConfig); err != nil {
		return err
	}
	b.mem = b.mod.ExportedMemory(abi.ExportMemory)
	if b.fuel, err = b.global(m.forged.Fuel); err == nil {
		b.stack, err = b.global(m.forged.Stack)
	}
	if err == nil && m.forged.TableLimit != "" {
		b.tables, err = b.global(m.forged.TableLimit)
	}
	if err != nil {
		return err
	}
	b.globals = make([]global, len(m.forged.Globals))
	for i, g := range m.forged.Globals {
		if b.globals[i] = (global{get: g.Get, set: g.Set}); g.Name != "" {
			if b.globals[i].value, err = b.global(g.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *body) global(name string) (api.MutableGlobal, error) {
	g, ok := b.mod.ExportedGlobal(name).(api.MutableGlobal)
	if !ok {
		return nil, fmt.Errorf("the forge's global %s is missing", name)
	}
	return g, nil
}

// call calls an export that has no parameters and no results, if it is there.
func (b *body) call(name string) error {
	if name == "" {
		return nil
	}
	f := b.mod.ExportedFunction(name)
	if f == nil {
		return nil
	}
	return f.CallWithStack(&b.user.guard, nil)
}

// initialize does what instantiating does by the specification, and then what the ABI says: data, start function, _initialize.
func (b *body) initialize() error {
	for i, s := range b.module.forged.Data {
		if !b.mod.Memory().Write(s.Offset, s.Bytes) {
			return &breach{fmt.Sprintf("data segment %d (%d bytes at %#x) does not fit into the memory", i, len(s.Bytes), s.Offset)}
		}
	}
	if err := b.call(b.module.forged.Start); err != nil {
		return err
	}
	return b.call(abi.ExportInitialize)
}

// value is what a global holds; hi is the upper half of a v128.
type value struct{ lo, hi uint64 }

// read returns the values of all globals.
func (b *body) read(dst []value) ([]value, error) {
	for i := range b.globals {
		g := &b.globals[i]
		if g.value != nil {
			dst = append(dst, value{lo: g.value.Get()})
			continue
		}
		var halves [2]uint64
		if err := b.mod.ExportedFunction(g.get).CallWithStack(&b.user.guard, halves[:]); err != nil {
			return nil, err
		}
		dst = append(dst, value{halves[0], halves[1]})
	}
	return dst, nil
}

// write sets all globals.
func (b *body) write(src []value) error {
	for i := range b.globals {
		g := &b.globals[i]
		if g.value != nil {
			g.value.Set(src[i].lo)
			continue
		}
		halves := [2]uint64{src[i].lo, src[i].hi}
		if err := b.mod.ExportedFunction(g.set).CallWithStack(&b.user.guard, halves[:]); err != nil {
			return err
		}
	}
	return nil
}

// discard ends the body for good. Nothing of it runs.
func (b *body) discard() {
	if b.mod != nil {
		b.mod.Close(context.Background()) // there is nothing to flush: it has no files
	}
	if b.memory.slot != nil {
		b.memory.slot.Discard()
	}
	if l := &b.module.eng.ledger; b.memory.engine != nil { // once
		b.memory.forget()
		l.heap.Add(-b.overall)
		if b.user != nil {
			l.live.Add(-1)
		} else {
			l.idle.Add(-1)
		}
	}
	b.mod, b.mem, b.turn, b.fuel, b.stack, b.tables, b.globals, b.memory = nil, nil, nil, nil, nil, nil, nil, memory{}
}

// moduleConfig is what all instances share: none of it is used, since WASI is served here. Without a source of randomness wazero makes one
// for each instance.
var moduleConfig = wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(strings.NewReader(""))

// forgeOptions are those that every module is prepared with, on every node: a template is the same wherever it is made. So memory is bounded
// by the engine, for each instance, and here by what there can be at all.
var forgeOptions = forge.Options{Meter: true, Stack: DefaultStack, Dispatch: dispatchFrom,
	Limits: forge.Limits{MaxSize: MaxModule, Memory: MaxMemory, TableElems: MaxTable}}

// ForgeOptions are those that every module is prepared with: for tools that measure what runs.
func ForgeOptions() forge.Options { return forgeOptions }

// dispatchFrom is how many entries a table must have for the forge to make a function of it: each entry is an object of every instance's.
const dispatchFrom = 32
