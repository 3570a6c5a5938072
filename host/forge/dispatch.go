package forge

import (
	"fmt"
	"slices"
)

// An instance allocates 8 bytes for each entry of its tables and an object for each function in them: a stock Go guest has
// some 6,800 entries, most of them null, of which 2,700 are functions. Where nothing can change or look at a table, which
// function stands at which index is known here, so that no instance needs it: a call_indirect becomes the call of a
// dispatch function, one for each type and table, which takes the operands and the index and goes by a br_table to the
// direct call of each function of that type. An instance of examples.wasm takes 2.2 µs and 3.4 KB so, instead of 122 µs and
// 150 KB; compiling it takes 2 % longer. A call takes 3.2 ns instead of 2.7 where its target is well predicted; of Go's kernels
// the sorting, encoding, formatting and channels ones stay within 4 %, a loop of nothing but interface calls takes a third more.
//
// An index with no function of the type ends in a call_indirect on a residual table that has one entry for each way to
// trap, so that the runtime says what it would have said.
//
// Why not ...
//   - a table that is filled as it is used? It still takes 8 bytes an entry, and is state that an image must then keep.
//   - functions of 64 targets, called by one that chooses among those? Compiling a target takes 2 µs then instead of 8, but
//     that is 2 % of the time for a whole module, and a call takes twice as long.
//   - a tree of ifs? It takes more than a br_table, at compile time as well: the compiler's time goes by blocks, not by nesting.

const (
	dispatchTargets = 3_900   // of one function: what compiling takes grows faster than they do, and validation nests at most 4,000
	dispatchLeast   = 256     // of one function
	dispatchSquare  = 1 << 25 // targets of a table, times those of one function: a quarter of a second of compiling
	dispatchGap     = 4       // from a target to the next in one br_table, at most
	dispatchSize    = 1 << 19 // of all dispatch functions, in bytes, about
	dispatchRuns    = 500     // of entries that are null, or not, side by side
)

// dispatchTable is a table that no instance has.
type dispatchTable struct {
	index   uint32
	min     uint32
	entries []tableEntry            // by index, without those that are null
	byType  map[uint32][]tableEntry // by the type of the function, one number for equal types
	runs    []uint32                // where entries begin to be functions, then to be null, and so on
	which   uint32                  // helper that says how an index traps, or none
}

// tableEntry says that a function stands in a table.
type tableEntry struct{ at, fn uint32 }

// Entries of the residual table. Beyond them is what is beyond the table.
const (
	residualNull = iota
	residualOther
	residualSize
)

// planDispatch finds the tables that go.
func (w *rewriter) planDispatch() {
	m := w.m
	if w.opt.Dispatch <= 0 || w.tier != Image {
		return
	}
	for i := range m.elements { // where one does not fit, the runtime leaves out those behind it
		e := &m.elements[i]
		if e.mode != active {
			continue
		}
		end := uint64(uint32(e.offset.value)) + uint64(e.len())
		if e.offset.op != opI32Const || end > uint64(m.tables[e.table].min) {
			return
		}
	}
	size := 0
	for i, t := range m.tables {
		if t.elem != funcRef || uint64(t.min) < uint64(w.opt.Dispatch) || m.uses.tableRead != nil && m.uses.tableRead[i] ||
			slices.ContainsFunc(m.exports, func(e exportEntry) bool { return e.kind == kindTable && e.index == uint32(i) }) {
			continue
		}
		d := w.dispatchTable(uint32(i), &size)
		if d == nil {
			continue
		}
		if w.dispatched == nil {
			w.dispatched = make([]*dispatchTable, len(m.tables))
			w.residual = uint32(i)
			w.mismatch = w.addHelper(helper{name: Reserved + ".mismatch", typ: w.foreignType(), locals: []byte{0},
				code: []byte{byte(opUnreachable), byte(opEnd)}})
		}
		w.dispatched[i] = d
		w.out.Dispatched++
	}
}

func (e *element) len() int { return len(e.funcs) + len(e.exprs) }

// dispatchTable finds out what is in a table. It is nil where that is not known or too much.
func (w *rewriter) dispatchTable(index uint32, size *int) *dispatchTable {
	m := w.m
	d := &dispatchTable{index: index, min: m.tables[index].min, which: none}
	var all []tableEntry // later ones take the place of earlier ones
	for _, e := range m.elements {
		if e.mode != active || e.table != index {
			continue
		}
		at := uint32(e.offset.value)
		for i, f := range e.funcs {
			all = append(all, tableEntry{at + uint32(i), f})
		}
		for i, x := range e.exprs {
			switch x.op {
			case opRefFunc:
				all = append(all, tableEntry{at + uint32(i), x.index})
			case opRefNull:
				all = append(all, tableEntry{at + uint32(i), none})
			default:
				return nil // an imported global
			}
		}
	}
	slices.SortStableFunc(all, func(a, b tableEntry) int { return int(int64(a.at) - int64(b.at)) })
	d.byType = map[uint32][]tableEntry{}
	next := uint32(0)
	for i, e := range all {
		if i+1 < len(all) && all[i+1].at == e.at || e.fn == none {
			continue
		}
		t := m.funcType(e.fn)
		if *size += 8 + 2*len(t.params); *size > dispatchSize {
			return nil
		}
		if len(d.runs) == 0 || next != e.at {
			if len(d.runs) > 0 {
				d.runs = append(d.runs, next)
			}
			d.runs = append(d.runs, e.at)
		}
		next = e.at + 1
		d.entries = append(d.entries, e)
		id := w.typ(t.params, t.results)
		d.byType[id] = append(d.byType[id], e)
	}
	if len(d.runs) > 0 {
		d.runs = append(d.runs, next)
	}
	if len(d.runs) > 2*dispatchRuns {
		return nil
	}
	return d
}

// foreignType is one that no function of the module has.
func (w *rewriter) foreignType() uint32 {
	for params := []valType{i64}; ; params = append(params, i64) {
		if have := len(w.types); w.typ(params, nil) == uint32(have) {
			return uint32(have)
		}
	}
}

// dispatches reports whether a table is one that goes.
func (w *rewriter) dispatches(table uint32) bool {
	return w.dispatched != nil && w.dispatched[table] != nil
}

// dispatch writes what takes the place of a call_indirect.
func (w *rewriter) dispatch(p *asm, in *instr) {
	d, t := w.dispatched[in.y], w.m.types[in.x]
	id := w.typ(t.params, t.results)
	use := bulkUse{op: opCallIndirect, x: id, y: in.y}
	f, ok := w.byUse[use]
	if !ok {
		f = w.dispatcher(d, id, t)
		w.byUse[use] = f
	}
	p.i(opCall, f)
}

// noteRef notes that a body names a function by ref.func.
func (w *rewriter) noteRef(f uint32) {
	if w.dispatched == nil {
		return
	}
	if w.refs == nil {
		w.refs = map[uint32]bool{}
	}
	w.refs[f] = true
}

// dispatchFrames is what the frames of dispatch functions between a caller and what it calls take on the stack at most. values
// is the most parameters and results, with the index, of a call_indirect of the caller, 0 for none. Measured on amd64: 40
// bytes while all values are in registers, 22 to 28 bytes a value from there on.
func (w *rewriter) dispatchFrames(values int, width int64) int64 {
	if w.dispatched == nil || values == 0 {
		return 0
	}
	frames := int64(1)
	for _, d := range w.dispatched {
		if d != nil && len(d.entries) > dispatchTargets {
			frames = 2
		}
	}
	return frames * (80 + 4*width*int64(max(0, values-4)))
}

// dispatcher adds the function that calls what stands at an index, if it is of a type.
func (w *rewriter) dispatcher(d *dispatchTable, id uint32, t funcType) uint32 {
	entries := d.byType[id]
	most := min(dispatchTargets, max(dispatchLeast, dispatchSquare/max(1, len(d.entries))))
	name := fmt.Sprintf("%s.dispatch.%d.%d", Reserved, id, d.index)
	dispatch := helper{name: name, typ: w.typ(append(slices.Clone(t.params), i32), t.results), locals: []byte{0}}
	c := dispatchCode{index: uint32(len(t.params))}
	n := (len(entries) + most - 1) / most
	if n <= 1 {
		c.tree(spans(entries), func(s []tableEntry) { c.span(w, s) })
	} else {
		var parts [][]tableEntry
		for i := range n {
			parts = append(parts, entries[len(entries)*i/n:len(entries)*(i+1)/n])
		}
		part := 0
		c.tree(parts, func(s []tableEntry) {
			sub := dispatchCode{index: c.index}
			sub.tree(spans(s), func(s []tableEntry) { sub.span(w, s) })
			sub.trap(w, d, id)
			h := dispatch
			h.name, h.code = fmt.Sprintf("%s.%d", name, part), sub.b
			part++
			c.operands()
			c.get(c.index)
			c.i(opCall, w.addHelper(h))
			c.i(opReturn)
		})
	}
	c.trap(w, d, id)
	dispatch.code = c.b
	return w.addHelper(dispatch)
}

// spans cuts entries where the gap to the next is large: what is between them needs entries of a br_table too.
func spans(entries []tableEntry) (out [][]tableEntry) {
	from := 0
	for i := range entries {
		if i+1 == len(entries) || entries[i+1].at-entries[i].at > dispatchGap {
			out = append(out, entries[from:i+1])
			from = i + 1
		}
	}
	return out
}

// dispatchCode is the body of a dispatch function, whose parameters are the operands and, last, the index.
type dispatchCode struct {
	asm
	index uint32
}

// tree writes a search for the part that an index lies in: what is below the first is searched for in that one.
func (c *dispatchCode) tree(parts [][]tableEntry, leaf func([]tableEntry)) {
	switch n := len(parts); n {
	case 0:
	case 1:
		leaf(parts[0])
	default:
		c.get(c.index)
		c.const32(int32(parts[n/2][0].at))
		c.i(opI32LtU)
		c.block(opIf)
		c.tree(parts[:n/2], leaf)
		c.i(opElse)
		c.tree(parts[n/2:], leaf)
		c.i(opEnd)
	}
}

// span writes the calls of the functions that stand close to each other, and goes on behind them for other indices.
func (c *dispatchCode) span(w *rewriter, s []tableEntry) {
	if len(s) == 1 {
		c.get(c.index)
		c.const32(int32(s[0].at))
		c.i(opI32Eq)
		c.block(opIf)
		c.call(w, s[0].fn)
		c.i(opEnd)
		return
	}
	labels := make(map[uint32]uint32, len(s))
	var fns []uint32
	for _, e := range s {
		if _, ok := labels[e.fn]; !ok {
			labels[e.fn] = uint32(len(fns))
			fns = append(fns, e.fn)
		}
	}
	for range len(fns) + 1 {
		c.block(opBlock)
	}
	first := s[0].at
	c.get(c.index)
	if first != 0 {
		c.const32(int32(first))
		c.i(opI32Sub)
	}
	width := s[len(s)-1].at - first + 1
	c.i(opBrTable, width)
	w.widest = max(w.widest, len(fns)+int(width))
	for i, at := 0, first; at < first+width; at++ {
		label := uint32(len(fns))
		if s[i].at == at {
			label = labels[s[i].fn]
			i++
		}
		c.b = appendU32(c.b, label)
	}
	c.b = appendU32(c.b, uint32(len(fns)))
	for _, f := range fns {
		c.i(opEnd)
		c.call(w, f)
	}
	c.i(opEnd)
}

// operands pushes what the caller gave.
func (c *dispatchCode) operands() {
	for i := range c.index {
		c.get(i)
	}
}

func (c *dispatchCode) call(w *rewriter, f uint32) {
	w.calls++
	c.operands()
	c.i(opCall, w.fn(f))
	c.i(opReturn)
}

// trap writes the end of a dispatch function.
func (c *dispatchCode) trap(w *rewriter, d *dispatchTable, id uint32) {
	if d.which == none {
		d.which = w.addHelper(helper{name: fmt.Sprintf("%s.which.%d", Reserved, d.index), typ: w.typ([]valType{i32}, []valType{i32}),
			locals: []byte{0}, code: d.whichTrap()})
	}
	w.calls += 3 // one is that of the function above, if this is a part
	c.operands()
	c.get(c.index)
	c.i(opCall, d.which)
	c.i(opCallIndirect, id, w.residual)
	c.i(opEnd)
}

// whichTrap is a function from an index to the entry of the residual table that traps as the index does, if it is not of
// the wanted type.
func (d *dispatchTable) whichTrap() []byte {
	a := &asm{}
	a.get(0)
	a.const32(int32(d.min))
	a.i(opI32LtU)
	a.i(opI32Eqz)
	a.block(opIf)
	a.const32(-1)
	a.ops(opReturn, opEnd)
	var tree func(from, to int) // indices lie in one of the runs from, from+1 ... to: the odd ones are functions
	tree = func(from, to int) {
		if from == to {
			a.const32([]int32{residualNull, residualOther}[from%2])
			return
		}
		half := (from + to + 1) / 2
		a.get(0)
		a.const32(int32(d.runs[half-1]))
		a.i(opI32LtU)
		a.b = append(a.b, byte(opIf), byte(i32))
		tree(from, half-1)
		a.i(opElse)
		tree(half, to)
		a.i(opEnd)
	}
	tree(0, len(d.runs))
	a.i(opEnd)
	return a.b
}

// residualElements are the element segments in place of those of an image whose tables went: passive ones are out of use
// there, which the tier says. What ref.func names must stand in one.
func (w *rewriter) residualElements() (out []element) {
	for _, e := range w.m.elements {
		if e.mode == active && !w.dispatches(e.table) {
			out = append(out, e)
		}
	}
	if len(w.refs) > 0 {
		refs := element{mode: declared, typ: funcRef, funcs: []uint32{}}
		for f := range w.refs {
			refs.funcs = append(refs.funcs, f)
		}
		slices.Sort(refs.funcs)
		out = append(out, refs)
	}
	return out
}

// appendResidual appends the segment of the residual table.
func (w *rewriter) appendResidual(b []byte) []byte {
	a := asm{appendU32(append(b, 2), w.residual)}
	a.const32(residualOther)
	return appendU32(append(a.b, byte(opEnd), 0, 1), w.mismatch)
}

// dispatchLimits are those of what is left of a table.
func (w *rewriter) dispatchLimits(table uint32) limits {
	if table == w.residual {
		return limits{min: residualSize, max: residualSize, bounded: true}
	}
	return limits{bounded: true}
}
