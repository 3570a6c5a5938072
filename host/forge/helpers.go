package forge

import "fmt"

// Instructions on whole ranges take time in proportion to a number that the guest chooses, up to seconds, in which
// nothing can stop it. Each becomes the call of an injected function, one for each instruction and its immediates: it
// checks the whole range first, by leaving an invalid one to the original instruction, which then traps before it writes;
// then it works in chunks, paying for each and testing the fuel.

const (
	chunkBytes   = 64 << 10
	chunkEntries = chunkBytes / 8 // of a table
)

// replaces reports whether an instruction does not stay as it is.
func (w *rewriter) replaces(op opcode) bool {
	switch op {
	case opMemoryInit, opDataDrop:
		return true // segments are renumbered
	case opMemoryCopy, opMemoryFill, opMemoryGrow, opTableInit, opTableCopy, opTableGrow, opTableFill:
		return w.opt.Meter
	}
	return false
}

// replace writes what takes the place of an instruction.
func (w *rewriter) replace(p *asm, in *instr) {
	use := bulkUse{op: in.op}
	switch in.op {
	case opDataDrop:
		switch {
		case w.tier != Image:
			p.i(opDataDrop, in.x)
		case w.flags[in.x] != none:
			p.const32(1)
			p.i(opGlobalSet, w.flags[in.x])
		}
		return
	case opMemoryInit:
		if !w.opt.Meter && w.flags[in.x] == none && w.m.data[in.x].mode == passive {
			p.i(opMemoryInit, w.dataMap[in.x], 0)
			return
		}
		use.x = in.x
	case opTableGrow, opTableFill:
		use.x = in.x
	case opTableInit, opTableCopy:
		use.x, use.y = in.x, in.y
	}
	f, ok := w.byUse[use]
	if !ok {
		f = w.addHelper(w.helperFor(use))
		w.calls += helperCalls
		w.byUse[use] = f
	}
	p.i(opCall, f)
}

func (w *rewriter) helperFor(use bulkUse) helper {
	switch use.op {
	case opMemoryGrow:
		return w.growHelper(use, []valType{i32}, w.memory0().max, weightPageGrown)
	case opTableGrow:
		t := w.m.tables[use.x]
		return w.growHelper(use, []valType{t.elem, i32}, w.opt.Limits.TableElems, weightEntryGrown)
	}
	r := rangeOp{use: use, second: i32, shift: weightShift, chunk: chunkBytes, dest: memorySize}
	indices := []uint32{}
	switch use.op {
	case opMemoryFill:
		indices = []uint32{0}
	case opMemoryCopy:
		indices, r.source, r.overlap = []uint32{0, 0}, memorySize, true
	case opMemoryInit:
		indices, r.source = []uint32{w.dataMap[use.x], 0}, fixedSize(len(w.m.data[use.x].bytes))
		r.prologue = func(a *asm) { w.ifDropped(a, use.x) }
		if w.m.data[use.x].mode == active {
			return helper{name: r.name(), typ: w.typ(r.params(), nil), locals: []byte{0}, code: w.emptyInit()}
		}
	default:
		r.chunk, r.shift, r.dest = chunkEntries, entryShift, tableSize(use.x)
		switch use.op {
		case opTableFill:
			indices, r.second = []uint32{use.x}, w.m.tables[use.x].elem
		case opTableCopy:
			indices, r.source, r.overlap = []uint32{use.x, use.y}, tableSize(use.y), true
		case opTableInit:
			e := w.m.elements[use.x]
			indices, r.dest, r.source = []uint32{use.x, use.y}, tableSize(use.y), fixedSize(len(e.funcs)+len(e.exprs))
		}
	}
	r.indices = indices
	return helper{name: r.name(), typ: w.typ(r.params(), nil), locals: []byte{0}, code: r.code(w)}
}

// memory0 is the memory as the rewritten module declares it.
func (w *rewriter) memory0() limits {
	if w.m.importedMemories > 0 {
		return limits{max: maxPages}
	}
	return w.memory()
}

// size pushes the size of a range's space as an i64.
type size func(a *asm)

func memorySize(a *asm) {
	a.i(opMemorySize, 0)
	a.i(opI64ExtendU)
	a.const64(16)
	a.i(opI64Shl)
}

func tableSize(table uint32) size {
	return func(a *asm) {
		a.i(opTableSize, table)
		a.i(opI64ExtendU)
	}
}

func fixedSize(n int) size { return func(a *asm) { a.const64(int64(n)) } }

// rangeOp describes an instruction that takes a destination, something, and a length: locals 0, 1 and 2.
type rangeOp struct {
	use      bulkUse
	indices  []uint32 // the immediates in the rewritten module
	second   valType  // a source address, or a value
	dest     size
	source   size // nil: the second operand is a value
	overlap  bool // source and destination may be of one space: copied backwards where needed
	chunk    int32
	shift    int64 // of the length, for its weight
	prologue func(a *asm)
}

func (r *rangeOp) params() []valType { return []valType{i32, r.second, i32} }

func (r *rangeOp) name() string {
	switch r.use.op {
	case opMemoryInit, opTableFill:
		return fmt.Sprintf("%s.%s.%d", Reserved, r.use.op, r.use.x)
	case opTableInit, opTableCopy:
		return fmt.Sprintf("%s.%s.%d.%d", Reserved, r.use.op, r.use.x, r.use.y)
	}
	return Reserved + "." + r.use.op.String()
}

func (r *rangeOp) code(w *rewriter) []byte {
	const dest, second, length = 0, 1, 2
	a := &asm{}
	if r.prologue != nil {
		r.prologue(a)
	}
	if !w.opt.Meter {
		a.get(dest, second, length)
		a.i(r.use.op, r.indices...)
		a.i(opEnd)
		return a.b
	}
	more := func() { // is more than a chunk left?
		a.get(length)
		a.const32(r.chunk)
		a.i(opI32GtU)
	}
	beyond := func(address uint32, size size) {
		a.get(address)
		a.i(opI64ExtendU)
		a.get(length)
		a.ops(opI64ExtendU, opI64Add)
		size(a)
		a.i(opI64GtU)
	}
	step := func(local uint32, op opcode) {
		a.get(local)
		a.const32(r.chunk)
		a.i(op)
		a.set(local)
	}
	pay := func() {
		w.pay(a, func() { a.const64(int64(r.chunk) >> r.shift) })
	}

	more()
	a.block(opIf)
	beyond(dest, r.dest)
	if r.source != nil {
		beyond(second, r.source)
		a.i(opI32Or)
	}
	a.block(opIf)
	a.get(dest, second, length)
	a.i(r.use.op, r.indices...)
	a.ops(opUnreachable, opEnd)
	if r.overlap {
		a.get(dest, second)
		a.i(opI32GtU)
		a.block(opIf)
		a.block(opLoop)
		step(length, opI32Sub)
		pay()
		a.get(dest, length)
		a.i(opI32Add)
		a.get(second, length)
		a.i(opI32Add)
		a.const32(r.chunk)
		a.i(r.use.op, r.indices...)
		more()
		a.i(opBrIf, 0)
		a.ops(opEnd, opEnd)
		more()
		a.block(opIf)
	}
	a.block(opLoop)
	pay()
	a.get(dest, second)
	a.const32(r.chunk)
	a.i(r.use.op, r.indices...)
	step(dest, opI32Add)
	if r.source != nil {
		step(second, opI32Add)
	}
	step(length, opI32Sub)
	more()
	a.i(opBrIf, 0)
	a.i(opEnd)
	if r.overlap {
		a.i(opEnd)
	}
	a.i(opEnd)
	w.pay(a, func() {
		a.get(length)
		a.i(opI64ExtendU)
		if r.shift > 0 {
			a.const64(r.shift)
			a.i(opI64ShrU)
		}
	})
	a.get(dest, second, length)
	a.i(r.use.op, r.indices...)
	a.i(opEnd)
	return a.b
}

// pay takes off the fuel what amount pushes, and tests it.
func (w *rewriter) pay(a *asm, amount func()) {
	a.i(opGlobalGet, w.fuel)
	amount()
	a.i(opI64Sub)
	a.i(opGlobalSet, w.fuel)
	a.i(opGlobalGet, w.fuel)
	a.const64(0)
	a.i(opI64LtS)
	a.block(opIf)
	a.i(opCall, w.refill)
	a.i(opEnd)
}

// growHelper pays for what is asked for before it is given, unless it is more than there can ever be.
func (w *rewriter) growHelper(use bulkUse, params []valType, most uint32, weight int64) helper {
	a := &asm{}
	length := uint32(len(params) - 1)
	if use.op == opTableGrow {
		w.ifFull(a, length)
	}
	a.get(length)
	a.const32(int32(most))
	a.i(opI32LeU)
	a.block(opIf)
	w.pay(a, func() {
		a.get(length)
		a.i(opI64ExtendU)
		a.const64(weight)
		a.i(opI64Mul)
	})
	a.i(opEnd)
	for i := range params {
		a.get(uint32(i))
	}
	a.i(use.op, use.x)
	a.i(opEnd)
	return helper{name: Reserved + "." + use.op.String(), typ: w.typ(params, []valType{i32}), locals: []byte{0}, code: a.b}
}

// ifFull begins the table.grow of a table: beyond what the host allows all tables together it is answered -1, and the host can tell. A
// module that grows tables is no image, so none of them has become a function.
func (w *rewriter) ifFull(a *asm, length uint32) {
	if w.tables == 0 {
		w.tables = w.addGlobal(i64, int64(w.opt.Limits.TableElems))
		w.out.TableLimit = w.export(Reserved+"_tables", kindGlobal, w.tables)
	}
	a.get(length)
	a.i(opI64ExtendU)
	for table := range w.m.tables {
		tableSize(uint32(table))(a)
		a.i(opI64Add)
	}
	a.i(opGlobalGet, w.tables)
	a.const64(1<<32 - 1)
	a.ops(opI64And, opI64GtU)
	a.block(opIf)
	a.i(opGlobalGet, w.tables)
	a.const64(1 << 32)
	a.i(opI64Or)
	a.i(opGlobalSet, w.tables)
	a.const32(-1)
	a.ops(opReturn, opEnd)
}

// ifDropped begins the memory.init of a segment that the module drops. The runtime's own mark of a dropped segment can be
// neither read nor set, so the segment is never dropped; a global says that it was.
func (w *rewriter) ifDropped(a *asm, segment uint32) {
	if w.flags[segment] == none {
		return
	}
	a.i(opGlobalGet, w.flags[segment])
	a.block(opIf)
	initEmpty(a)
	a.ops(opReturn, opEnd)
}

// emptyInit is the memory.init of an active segment, which by the specification is dropped once it was applied; the
// runtime keeps it.
func (w *rewriter) emptyInit() []byte {
	a := &asm{}
	initEmpty(a)
	a.i(opEnd)
	return a.b
}

// initEmpty does what a memory.init of an empty segment does: nothing, or a trap.
func initEmpty(a *asm) {
	a.get(1, 2)
	a.i(opI32Or)
	a.block(opIf)
	a.const32(-1)
	a.i(opI32Load, 0, 1<<32-1) // always beyond a memory of 4 GiB
	a.ops(opDrop, opEnd)
	a.get(0)
	a.const32(0)
	a.const32(0)
	a.i(opMemoryFill, 0)
}

// vectorAccess adds the pair of functions that read and set a v128 global as two i64: the low half first.
func (w *rewriter) vectorAccess(global uint32) (get, set uint32) {
	a := &asm{}
	for lane := range 2 {
		a.i(opGlobalGet, global)
		a.i(opI64x2Extract)
		a.b = append(a.b, byte(lane))
	}
	a.i(opEnd)
	pair := []valType{i64, i64}
	get = w.addHelper(helper{name: fmt.Sprintf("%s.get.%d", Reserved, global), typ: w.typ(nil, pair), locals: []byte{0}, code: a.b})
	a = &asm{}
	a.get(0)
	a.i(opI64x2Splat)
	a.get(1)
	a.i(opI64x2Replace)
	a.b = append(a.b, 1)
	a.i(opGlobalSet, global)
	a.i(opEnd)
	set = w.addHelper(helper{name: fmt.Sprintf("%s.set.%d", Reserved, global), typ: w.typ(pair, nil), locals: []byte{0}, code: a.b})
	return get, set
}
