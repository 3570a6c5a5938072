package forge

import (
	"crypto/sha256"
	"fmt"
)

// Options are what a host chooses. The zero value validates and prepares without metering.
type Options struct {
	Limits Limits

	// Meter charges fuel and stack. Without it a module can run for ever.
	Meter bool

	// Stack is the budget that instances start with, in bytes as estimated; 0 means 8 MiB. The runtime keeps a guest's
	// stack on the Go heap, doubles it, and for a while holds both.
	Stack int64

	// Dispatch is how many entries, null or not, a table must have to be taken out of the instances of an image and
	// turned into functions; 0 means none. That saves each instance 8 bytes an entry, and an object a function.
	Dispatch int

	// AllowReserved accepts names with the reserved prefix: for tests of the forge with its own output.
	AllowReserved bool
}

// defaultStack lets a Go program recurse some 40,000 calls deep.
const defaultStack = 8 << 20

// Module is a prepared module. It is not changed after Prepare and shares no memory with the input.
type Module struct {
	Wasm           []byte // what is compiled instead of the input
	Tier           Tier
	TierReason     string // for people
	Features       Features
	WeightsVersion uint32
	InputSHA256    [32]byte
	OutputSHA256   [32]byte

	// Names of reserved exports: mutable i64 globals. "" without metering.
	Fuel, Stack string

	// TableLimit is the reserved name of a mutable i64 global, "" in a module that grows no table. Its low half is how many entries
	// the tables may have together for one to grow, [Limits].TableElems at first; bit 32 says that growth was refused for that.
	TableLimit string

	// Start is the reserved name under which the start function is exported, "" for none. The host calls it after it
	// applied Data, and before anything else.
	Start string

	// Globals are all mutable globals in order of their index, in the image tier. Fuel and stack are not among them.
	Globals []GlobalExport

	// Data are the active data segments, in the image tier: the rewritten module has none. The host copies them into
	// the memory in this order, and fails where one does not fit, as instantiating the original would have.
	Data []Segment

	// The memory in pages of 64 KiB, its maximum lowered; both 0 without memory. HasMemory tells those apart.
	HasMemory            bool
	MemoryMin, MemoryMax uint32

	// Dispatched is how many tables became functions: code outside that knows a table by its index must not look at it.
	Dispatched   int
	TableEntries int // that an instance starts with, in all its tables together: eight bytes each

	Imports []Import // of the original: without the forge's own
	Exports []Export // of the original
}

// GlobalExport is a mutable global of the image tier.
type GlobalExport struct {
	Index uint32 // in the original and in the rewritten module
	Type  string // i32, i64, f32, f64 or v128
	Name  string // under which it is exported; "" for v128

	// For v128, which the runtime's own access cuts in half: the names of two exported functions, () -> (low, high i64)
	// and (low, high i64) -> ().
	Get, Set string
}

// Segment is what an active data segment writes.
type Segment struct {
	Offset uint32
	Bytes  []byte
}

// Import is an entry of the import section.
type Import struct {
	Module, Name string
	Kind         string // function, table, memory or global
	Type         string // of a function: "(i32, i64) -> i32"
}

// Export is an entry of the export section.
type Export struct {
	Name string
	Kind string
	Type string // of a function
}

// Prepare validates a file and makes a prepared module of it. The error is an [*Error]. The input is not kept.
func Prepare(wasm []byte, opt Options) (*Module, error) {
	opt.Limits = opt.Limits.withDefaults()
	if opt.Stack == 0 {
		opt.Stack = defaultStack
	}
	m, err := decode(wasm, opt.Limits, !opt.AllowReserved)
	if err != nil {
		return nil, err
	}
	if err := fits(m, opt.Limits); err != nil {
		return nil, err
	}
	w := &rewriter{m: m, opt: opt, byUse: map[bulkUse]uint32{}, out: &Module{InputSHA256: sha256.Sum256(wasm)}}
	if err := w.prepare(); err != nil {
		return nil, err
	}
	return w.out, nil
}

// fits holds the minima of memory and tables against the limits.
func fits(m *module, l Limits) error {
	refuse := func(section, format string, args ...any) error {
		return &Error{Section: section, Function: -1, Offset: m.sectionAt[section], Reason: fmt.Sprintf(format, args...)}
	}
	if len(m.memories) > m.importedMemories && uint64(m.memories[0].min)*pageSize > l.Memory {
		return refuse("memory", "a memory of at least %d pages (%d bytes), the limit is %d bytes", m.memories[0].min,
			uint64(m.memories[0].min)*pageSize, l.Memory)
	}
	total := uint64(0)
	for i, t := range m.tables[m.importedTables:] {
		total += uint64(t.min)
		if t.min > l.TableElems {
			return refuse("table", "table %d has at least %d entries, the limit is %d", m.importedTables+i, t.min, l.TableElems)
		}
		if total > uint64(l.TableElems) {
			return refuse("table", "the tables up to table %d have at least %d entries together, the limit is %d", m.importedTables+i, total,
				l.TableElems)
		}
	}
	return nil
}

// prepare fills the result.
func (w *rewriter) prepare() error {
	m, out := w.m, w.out
	w.tier, out.TierReason = tierOf(m)
	out.Tier, out.Features, out.WeightsVersion = w.tier, m.features(), WeightsVersion
	w.typ(nil, nil)
	w.refill = uint32(m.importedFuncs)
	w.lift()
	w.planDispatch()
	if w.opt.Meter {
		w.fuel = w.addGlobal(i64, 0)
		w.stack = w.addGlobal(i64, w.opt.Stack)
		out.Fuel = w.export(Reserved+"_fuel", kindGlobal, w.fuel)
		out.Stack = w.export(Reserved+"_stack", kindGlobal, w.stack)
	}
	if m.hasStart {
		out.Start = w.export(Reserved+"_start", kindFunc, w.fn(m.start))
	}
	if w.tier == Image {
		w.exportGlobals()
	}
	if len(m.memories) > 0 {
		l := m.memories[0]
		if m.importedMemories == 0 {
			l = w.memory()
		}
		out.HasMemory, out.MemoryMin, out.MemoryMax = true, l.min, l.max
	}
	for i, t := range m.tables[m.importedTables:] {
		if w.dispatches(uint32(m.importedTables + i)) {
			continue
		}
		out.TableEntries += int(t.min)
	}
	w.interfaces()
	code := w.code() // first: bodies add types and helpers
	if err := w.affordable(); err != nil {
		return err
	}
	out.Wasm = w.write(code)
	out.OutputSHA256 = sha256.Sum256(out.Wasm)
	return nil
}

// lift takes the active data segments out of an image, and gives those that remain their new indices.
func (w *rewriter) lift() {
	m := w.m
	w.dataMap, w.flags = make([]uint32, len(m.data)), make([]uint32, len(m.data))
	next, total := uint32(0), 0
	for i, s := range m.data {
		w.flags[i] = none
		if w.tier == Image && s.mode == active {
			w.dataMap[i] = none
			total += len(s.bytes)
			continue
		}
		w.dataMap[i] = next
		next++
	}
	if w.tier != Image {
		return
	}
	room := make([]byte, 0, total)
	for i, s := range m.data {
		if s.mode == active {
			room = append(room, s.bytes...)
			w.out.Data = append(w.out.Data, Segment{uint32(s.offset.value), room[len(room)-len(s.bytes) : len(room) : len(room)]})
		} else if m.uses.inits != nil && m.uses.inits[i] && m.uses.drops[i] {
			w.flags[i] = w.addGlobal(i32, 0)
		}
	}
}

// exportGlobals exports all mutable globals, those that say that a segment was dropped too.
func (w *rewriter) exportGlobals() {
	add := func(index uint32, t valType) {
		g := GlobalExport{Index: index, Type: t.String()}
		if t == v128 {
			get, set := w.vectorAccess(index)
			g.Get = w.export(fmt.Sprintf("%s_get_%d", Reserved, index), kindFunc, get)
			g.Set = w.export(fmt.Sprintf("%s_set_%d", Reserved, index), kindFunc, set)
		} else {
			g.Name = w.export(fmt.Sprintf("%s_global_%d", Reserved, index), kindGlobal, index)
		}
		w.out.Globals = append(w.out.Globals, g)
	}
	for i, g := range w.m.globals {
		if g.mutable {
			add(uint32(i), g.val)
		}
	}
	for _, flag := range w.flags {
		if flag != none {
			add(flag, i32)
		}
	}
}

// interfaces tells what the module imports and exports.
func (w *rewriter) interfaces() {
	m := w.m
	for _, e := range m.imports {
		i := Import{Module: e.module, Name: e.name, Kind: kindNames[e.kind]}
		if e.kind == kindFunc {
			i.Type = m.types[e.typ].String()
		}
		w.out.Imports = append(w.out.Imports, i)
	}
	for _, e := range m.exports {
		x := Export{Name: e.name, Kind: kindNames[e.kind]}
		if e.kind == kindFunc {
			x.Type = m.funcType(e.index).String()
		}
		w.out.Exports = append(w.out.Exports, x)
	}
}
