package forge

// rewriter writes the prepared module. Types, functions and globals are only ever added at the end of their index
// spaces, but for the one import, which stands behind the imported functions and shifts those that are defined.
type rewriter struct {
	m    *module
	opt  Options
	out  *Module
	tier Tier

	types   []funcType
	typeIDs map[string]uint32

	refill  uint32 // function index of the injected import
	fuel    uint32 // global
	stack   uint32 // global
	tables  uint32 // global that says how far tables may grow; 0: not added, since the fuel comes first
	globals []byte // those that are added, as they stand in the section
	added   uint32 // how many

	helpers []helper // functions behind those of the module
	byUse   map[bulkUse]uint32
	dataMap []uint32 // new index of each data segment; none where it was lifted out
	flags   []uint32 // by data segment: global that says that it was dropped, or none
	exports []exportEntry

	dispatched []*dispatchTable // by table; nil for one that stays
	residual   uint32           // the table that is left of them
	mismatch   uint32           // the function in it
	refs       map[uint32]bool  // functions that ref.func names in bodies, where tables go

	calls   int // in helpers, at most
	widest  int // blocks and targets of the largest helper
	scratch bodyWriter
}

const none = ^uint32(0) // no index

// helper is an injected function.
type helper struct {
	name   string
	typ    uint32
	locals []byte // declarations with their count
	code   []byte // with the last end
}

// fn is the index of a function in the rewritten module.
func (w *rewriter) fn(f uint32) uint32 {
	if w.opt.Meter && int(f) >= w.m.importedFuncs {
		return f + 1
	}
	return f
}

// typ is the index of a type, which is added if the module lacks it.
func (w *rewriter) typ(params, results []valType) uint32 {
	if w.typeIDs == nil {
		w.typeIDs = make(map[string]uint32, len(w.m.types))
		for i := len(w.m.types) - 1; i >= 0; i-- {
			w.typeIDs[typeKey(w.m.types[i])] = uint32(i)
		}
		w.types = append(w.types, w.m.types...)
	}
	t := funcType{params, results}
	key := typeKey(t)
	id, ok := w.typeIDs[key]
	if !ok {
		id = uint32(len(w.types))
		w.types = append(w.types, t)
		w.typeIDs[key] = id
	}
	return id
}

func typeKey(t funcType) string {
	b := make([]byte, 0, len(t.params)+len(t.results)+1)
	for _, p := range t.params {
		b = append(b, byte(p))
	}
	b = append(b, 0)
	for _, r := range t.results {
		b = append(b, byte(r))
	}
	return string(b)
}

// addGlobal adds a mutable numeric global.
func (w *rewriter) addGlobal(t valType, init int64) uint32 {
	op := opI32Const
	if t == i64 {
		op = opI64Const
	}
	w.globals = append(w.globals, byte(t), 1, byte(op))
	w.globals = append(appendSigned(w.globals, init), byte(opEnd))
	w.added++
	return uint32(len(w.m.globals)) + w.added - 1
}

func (w *rewriter) export(name string, kind byte, index uint32) string {
	w.exports = append(w.exports, exportEntry{name, kind, index})
	return name
}

// addHelper adds a function and returns its index.
func (w *rewriter) addHelper(h helper) uint32 {
	w.helpers = append(w.helpers, h)
	return w.helperIndex(len(w.helpers) - 1)
}

func (w *rewriter) helperIndex(i int) uint32 {
	n := len(w.m.funcs) + i
	if w.opt.Meter {
		n++
	}
	return uint32(n)
}

// write writes all sections.
func (w *rewriter) write(code []byte) []byte {
	m := w.m
	b := append(make([]byte, 0, len(code)+len(code)/4+4096), header...)
	b = appendSection(b, secType, w.typeSection())
	b = appendSection(b, secImport, w.importSection())
	b = appendSection(b, secFunction, w.functionSection())
	b = appendSection(b, secTable, w.tableSection())
	if len(m.memories) > m.importedMemories {
		b = appendSection(b, secMemory, appendLimits([]byte{1}, w.memory()))
	}
	b = appendSection(b, secGlobal, w.globalSection())
	b = appendSection(b, secExport, w.exportSection())
	b = appendSection(b, secElement, w.elementSection())
	count, data := w.dataSection()
	if m.hasCount && count > 0 {
		b = appendSection(b, secDataCount, appendU32(nil, count))
	}
	b = appendSection(b, secCode, code)
	b = appendSection(b, secData, data)
	return appendSection(b, secCustom, w.nameSection())
}

func (w *rewriter) typeSection() []byte {
	if w.types == nil {
		w.types = w.m.types
	}
	if len(w.types) == 0 {
		return nil
	}
	b := appendU32(nil, uint32(len(w.types)))
	for _, t := range w.types {
		b = append(b, 0x60)
		for _, list := range [][]valType{t.params, t.results} {
			b = appendU32(b, uint32(len(list)))
			for _, v := range list {
				b = append(b, byte(v))
			}
		}
	}
	return b
}

func appendLimits(b []byte, l limits) []byte {
	if !l.bounded {
		return appendU32(append(b, 0), l.min)
	}
	return appendU32(appendU32(append(b, 1), l.min), l.max)
}

func (w *rewriter) importSection() []byte {
	n := len(w.m.imports)
	if w.opt.Meter {
		n++
	}
	if n == 0 {
		return nil
	}
	b := appendU32(nil, uint32(n))
	for _, e := range w.m.imports {
		b = append(appendName(appendName(b, e.module), e.name), e.kind)
		switch e.kind {
		case kindFunc:
			b = appendU32(b, e.typ)
		case kindTable:
			b = appendLimits(append(b, byte(e.table.elem)), e.table.limits)
		case kindMemory:
			b = appendLimits(b, e.memory)
		case kindGlobal:
			b = appendGlobalType(b, e.global)
		}
	}
	if w.opt.Meter {
		b = append(appendName(appendName(b, RefillModule), RefillName), kindFunc)
		b = appendU32(b, w.typ(nil, nil))
	}
	return b
}

func appendGlobalType(b []byte, g globalType) []byte {
	if g.mutable {
		return append(b, byte(g.val), 1)
	}
	return append(b, byte(g.val), 0)
}

func (w *rewriter) functionSection() []byte {
	defined := w.m.funcs[w.m.importedFuncs:]
	if len(defined)+len(w.helpers) == 0 {
		return nil
	}
	b := appendU32(nil, uint32(len(defined)+len(w.helpers)))
	for _, t := range defined {
		b = appendU32(b, t)
	}
	for _, h := range w.helpers {
		b = appendU32(b, h.typ)
	}
	return b
}

// tableSection lowers the maxima.
func (w *rewriter) tableSection() []byte {
	defined := w.m.tables[w.m.importedTables:]
	if len(defined) == 0 {
		return nil
	}
	b := appendU32(nil, uint32(len(defined)))
	for i, t := range defined {
		l := t.limits
		if index := uint32(w.m.importedTables + i); w.dispatches(index) {
			l = w.dispatchLimits(index)
		} else if !l.bounded || l.max > w.opt.Limits.TableElems {
			l.bounded, l.max = true, w.opt.Limits.TableElems
		}
		b = appendLimits(append(b, byte(t.elem)), l)
	}
	return b
}

// memory is the module's own, with its maximum lowered.
func (w *rewriter) memory() limits {
	l := w.m.memories[0]
	if most := uint32(w.opt.Limits.Memory / pageSize); !l.bounded || l.max > most {
		l.bounded, l.max = true, most
	}
	return l
}

func (w *rewriter) globalSection() []byte {
	defined := w.m.globals[w.m.importedGlobals:]
	n := uint32(len(defined)) + w.added
	if n == 0 {
		return nil
	}
	b := appendU32(nil, n)
	for _, g := range defined {
		b = w.appendConstant(appendGlobalType(b, g.globalType), g.init)
	}
	return append(b, w.globals...)
}

// appendConstant appends a constant expression with its end.
func (w *rewriter) appendConstant(b []byte, c constant) []byte {
	if c.op == opRefFunc {
		b = appendU32(append(b, byte(opRefFunc)), w.fn(c.index))
	} else {
		b = append(b, c.raw...)
	}
	return append(b, byte(opEnd))
}

func (w *rewriter) exportSection() []byte {
	n := len(w.m.exports) + len(w.exports)
	if n == 0 {
		return nil
	}
	b := appendU32(nil, uint32(n))
	for _, e := range w.m.exports {
		if e.kind == kindFunc {
			e.index = w.fn(e.index)
		}
		b = appendU32(append(appendName(b, e.name), e.kind), e.index)
	}
	for _, e := range w.exports {
		b = appendU32(append(appendName(b, e.name), e.kind), e.index)
	}
	return b
}

func (w *rewriter) elementSection() []byte {
	elements := w.m.elements
	n := 0
	if w.dispatched != nil {
		elements, n = w.residualElements(), 1
	}
	if n += len(elements); n == 0 {
		return nil
	}
	b := appendU32(nil, uint32(n))
	for _, e := range elements {
		b = w.appendElement(b, e)
	}
	if w.dispatched != nil {
		b = w.appendResidual(b)
	}
	return b
}

func (w *rewriter) appendElement(b []byte, e element) []byte {
	flags := byte(0)
	if e.exprs != nil {
		flags = 4
	}
	switch {
	case e.mode == passive:
		flags |= 1
	case e.mode == declared:
		flags |= 3
	case e.table != 0 || e.typ != funcRef:
		flags |= 2
	}
	b = append(b, flags)
	if e.mode == active {
		if flags&2 != 0 {
			b = appendU32(b, e.table)
		}
		b = w.appendConstant(b, e.offset)
	}
	if flags&3 != 0 {
		if e.exprs != nil {
			b = append(b, byte(e.typ))
		} else {
			b = append(b, 0)
		}
	}
	if e.exprs != nil {
		b = appendU32(b, uint32(len(e.exprs)))
		for _, c := range e.exprs {
			b = append(b, byte(c.op))
			switch c.op {
			case opRefNull:
				b = append(b, byte(e.typ))
			case opRefFunc:
				b = appendU32(b, w.fn(c.index))
			default:
				b = appendU32(b, c.index)
			}
			b = append(b, byte(opEnd))
		}
		return b
	}
	b = appendU32(b, uint32(len(e.funcs)))
	for _, f := range e.funcs {
		b = appendU32(b, w.fn(f))
	}
	return b
}

// dataSection holds the segments that were not lifted out, and their number.
func (w *rewriter) dataSection() (count uint32, b []byte) {
	for i := range w.m.data {
		if w.dataMap[i] != none {
			count++
		}
	}
	if count == 0 {
		return 0, nil
	}
	b = appendU32(nil, count)
	for i, s := range w.m.data {
		switch {
		case w.dataMap[i] == none:
			continue
		case s.mode == passive:
			b = append(b, 1)
		default:
			b = w.appendConstant(append(b, 0), s.offset)
		}
		b = append(appendU32(b, uint32(len(s.bytes))), s.bytes...)
	}
	return count, b
}

// code writes the bodies, and those of the helpers behind them.
func (w *rewriter) code() []byte {
	m := w.m
	if len(m.bodies)+len(w.helpers) == 0 {
		return nil // without bodies there is nothing that would add one
	}
	size := 0
	for i := range m.bodies {
		size += len(m.bodies[i].code) + len(m.bodies[i].locals)
	}
	b := make([]byte, 0, size+size/2+1024)
	for i := range m.bodies {
		body := w.scratch.body(w, uint32(m.importedFuncs+i), &m.bodies[i])
		b = append(appendU32(b, uint32(len(body))), body...)
	}
	for _, h := range w.helpers {
		b = appendU32(b, uint32(len(h.locals)+len(h.code)))
		b = append(append(b, h.locals...), h.code...)
	}
	return append(appendU32(nil, uint32(len(m.bodies)+len(w.helpers))), b...) // bodies add helpers
}
