package forge

// bodyWriter rewrites one body after the other. The body is valid, which is relied upon.
//
// A body is gone through twice: to find its basic blocks and plan what each pays (plan.go) and where the fuel is (where.go),
// and to write it. What a basic block pays it pays where it begins, and it is as long as it can be: it ends where control
// parts (br_if, if, br_table ...) or meets (the end of a block that something branches to, an else, the head of a loop).
// Its instructions are held back in pend until it ends, since only then its weight is known.
//
// The body stands in a block of its own where something must be done at its exit, so that every exit leaves through the
// end of that block. Labels need no change for that: the function's own label has the depth that the block now has; a
// return becomes a branch to it.
type bodyWriter struct {
	w    *rewriter
	out  asm
	pend asm

	shape   shape
	results []valType
	loops   []uint32 // of the body: how many calls are in them
	meets   []uint32 // see bodyInfo
	globals int

	in     instr
	labels []label
	seen   int   // loops so far
	opened int   // blocks so far, the function too
	free   int   // values moved since the last instruction that costs something
	cost   int64 // of pend
	since  int64 // the last test of the fuel: the most that any path to the start of pend cost
	entry  bool  // pend is the first block
	called bool  // pend calls something
	late   bool  // the function begins with a loop, whose test is that of the entry too
	test   bool  // pend must begin with a test of the fuel
	dead   bool  // what comes cannot be reached

	plan     plan
	planning bool // the first of two passes, which only finds the blocks
	pays     int64
	at       holder // where the fuel is
	calls    bool   // pend calls
	block    int    // in the second: which of them comes next
	depth    int32
	head     bool // pend is the head of a loop
}

// label is an open block of the original.
type label struct {
	op       opcode
	targeted bool   // something branches to its end
	deadIn   bool   // it was out of reach where it was opened
	before   int64  // bodyWriter.since at the head of an if, for its else
	after    int64  // the most of since where something branches to its end
	double   bool   // a loop of two labels: see openLoop
	ways     int32  // what branches to its end: see plan.later
	moves    int    // values that are moved where ways to it meet
	start    int32  // the block that is the head of a loop, or ends with an if
	doubles  uint32 // how many of those are open up to here, this one included
}

// shape is how a body is treated.
type shape struct {
	stack int64  // bytes to charge; 0: none
	wrap  bool   // in a block, for what is done at the exit
	test  bool   // the fuel at the entry
	fuel  uint32 // the local that holds the fuel at times
}

// What decides about the shape, in bytes. Leaves are functions that call nothing.
const (
	leafFrame   = 4096 // a leaf with a frame of at most so much charges no stack: there is one leaf at a time
	leafTest    = 32   // a leaf without loops of at most so much code tests no fuel: who called it does
	inRegisters = 8    // parameters and results, about; each beyond takes up to three words, one of them in its own place
	frameConst  = 64   // of every frame: return address, saved registers
	doubleCalls = 1    // a loop with at most so many calls is opened twice; Go's has one, which makes room on the stack
	testCost    = 8192 // units; no path through a function costs much more between two tests of the fuel
	testValues  = 26   // put out by such a test, which frame does not know of: as many as there are registers
)

// body returns the rewritten body with its declarations of locals; it is valid until the next call.
func (b *bodyWriter) body(w *rewriter, index uint32, f *function) []byte {
	t := w.m.funcType(index)
	p := b.plan
	p.reset()
	for _, b.planning = range []bool{true, false} {
		if b.planning && !w.opt.Meter {
			continue
		}
		*b = bodyWriter{w: w, out: asm{b.out.b[:0]}, pend: asm{b.pend.b[:0]}, labels: b.labels[:0], in: b.in,
			results: t.results, loops: f.info.loops, meets: f.info.meets, globals: f.info.globals,
			opened: 1, entry: true, plan: p, planning: b.planning}
		b.shape = b.shapeOf(f, len(t.params), len(t.results))
		b.pass(f)
		if b.planning {
			b.plan.finish()
		}
		p = b.plan
	}
	return b.out.b
}

// pass goes through the body once.
func (b *bodyWriter) pass(f *function) {
	if b.w.opt.Meter {
		b.out.b = append(appendU32(b.out.b, uint32(f.groups)+1), f.locals...)
		b.out.b = append(b.out.b, 1, byte(i64))
	} else {
		b.out.b = append(appendU32(b.out.b, uint32(f.groups)), f.locals...)
	}
	b.begin()
	r := reader{b: f.code}
	for r.off < len(f.code) {
		b.in.next(&r, len(f.code))
		b.instruction(f.code[b.in.at:b.in.end])
	}
}

func (b *bodyWriter) shapeOf(f *function, params, results int) (s shape) {
	if !b.w.opt.Meter {
		return s
	}
	width := int64(8)
	if f.info.vectors {
		width = 16
	}
	values := f.info.values + f.info.values/4 + 2*max(0, params-inRegisters) + 2*max(0, results-inRegisters) +
		max(0, f.info.height-2*inRegisters)
	values += b.plan.tests * testValues
	frame := width*int64(values) + frameConst + b.w.dispatchFrames(f.info.indirect, width)
	leaf := !f.info.calls
	if !leaf || frame > leafFrame {
		s.stack = frame
	}
	s.test = !leaf || len(f.code) > leafTest
	s.fuel = uint32(params + f.localCount)
	s.wrap = s.stack > 0 || b.plan.left == inLocal
	return s
}

// instruction takes one, whose bytes are raw.
func (b *bodyWriter) instruction(raw []byte) {
	in := &b.in
	switch in.op {
	case opBlock, opLoop, opIf:
		b.open(raw)
		return
	case opElse:
		b.alternative(raw)
		return
	case opEnd:
		b.end(raw)
		return
	case opReturn:
		b.target(uint32(len(b.labels)))
	case opBr, opBrIf:
		b.target(in.x)
	case opBrTable:
		for _, t := range in.targets {
			b.target(t)
		}
	}
	if b.dead {
		b.keep(raw)
		return
	}
	b.spend(weight(in.op) + b.passing())
	b.keep(raw)
	switch in.op {
	case opBr, opBrTable, opReturn, opUnreachable:
		b.flush(false)
		b.dead = true
	case opBrIf:
		b.flush(true)
	default:
		if b.cost >= testCost {
			b.settle()
			b.flush(true)
		}
	}
}

// keep appends an instruction to the block, renumbered, or replaced by the call of a helper.
func (b *bodyWriter) keep(raw []byte) {
	in, p, w := &b.in, &b.pend, b.w
	switch in.op {
	case opBr, opBrIf, opBrTable, opReturn:
		b.settle()
	}
	switch op := in.op; {
	case op == opBr, op == opBrIf:
		b.branch(op, in.x)
	case op == opBrTable:
		b.branchTable(in.targets)
	case op == opReturn && b.shape.wrap:
		p.i(opBr, uint32(len(b.labels))+b.doubles())
	case op == opRefFunc:
		w.noteRef(in.x)
		p.i(op, w.fn(in.x))
	case op == opCall:
		b.called = true
		b.publish(p)
		p.i(op, w.fn(in.x))
		b.reload(p)
	case op == opCallIndirect:
		b.called = true
		b.publish(p)
		if w.dispatches(in.y) {
			w.dispatch(p, in)
		} else {
			p.b = append(p.b, raw...)
		}
		b.reload(p)
	case w.replaces(op):
		b.called = true
		b.publish(p)
		w.replace(p, in)
		b.reload(p)
	default:
		p.b = append(p.b, raw...)
	}
}

// spend adds the weight of an instruction.
func (b *bodyWriter) spend(weight int64) {
	b.cost += weight
	if weight > 0 {
		b.free = 0
	}
}

// meet adds the weight of values that are moved to where pend begins. So many are free that programs hardly have more, but no more in
// a row: a way through the ends of a thousand blocks costs nothing else.
func (b *bodyWriter) meet(values int) {
	if b.dead {
		return
	}
	if b.free += values; b.free > freeMoves {
		b.spend(int64(b.free-freeMoves) * weightMove)
	}
}

// passing is what a call costs beside its weight, for parameters and results, and for globals, which the runtime's compiler loads again
// behind it.
func (b *bodyWriter) passing() int64 {
	in, m := &b.in, b.w.m
	var t funcType
	switch in.op {
	case opCall:
		t = m.funcType(in.x)
	case opCallIndirect:
		t = m.types[in.x]
	default:
		if !b.w.replaces(in.op) {
			return 0
		}
	}
	return int64(max(0, len(t.params)+len(t.results)-freeMoves))*weightMove + int64(max(0, b.globals-freeMoves))*weightReload
}

// doubles is how many loops of two labels are open.
func (b *bodyWriter) doubles() uint32 {
	if len(b.labels) == 0 {
		return 0
	}
	return b.labels[len(b.labels)-1].doubles
}

// number is that of a label in the rewritten body, where loops of two labels count twice, and whether it is such a
// one; it is the inner of the two.
func (b *bodyWriter) number(label uint32) (d uint32, double bool) {
	at := len(b.labels) - 1 - int(label)
	if at < 0 {
		return label + b.doubles(), false
	}
	l := &b.labels[at]
	return label + b.doubles() - l.doubles, l.double
}

// branch writes a br or br_if. Back to a loop of two labels it goes to the outer one if the fuel is spent.
func (b *bodyWriter) branch(op opcode, label uint32) {
	p := &b.pend
	d, double := b.number(label)
	if !double || b.dead {
		p.i(op, d)
		return
	}
	if op == opBrIf {
		p.block(opIf)
		d++
	}
	p.get(b.shape.fuel)
	p.const64(0)
	p.i(opI64LtS)
	p.i(opBrIf, d+1)
	p.i(opBr, d)
	if op == opBrIf {
		p.i(opEnd)
	}
}

// branchTable writes a br_table. The outer of two labels tests the fuel itself.
func (b *bodyWriter) branchTable(targets []uint32) {
	b.pend.i(opBrTable, uint32(len(targets)-1))
	for _, t := range targets {
		d, double := b.number(t)
		if double {
			d++
		}
		b.pend.b = appendU32(b.pend.b, d)
	}
}

// target notes a branch.
func (b *bodyWriter) target(depth uint32) {
	if b.planning && !b.dead {
		switch at := int32(len(b.labels)) - 1 - int32(depth); {
		case at < 0:
			b.plan.way(b.plan.here(), -1)
		case b.labels[at].op == opLoop:
			b.plan.way(b.plan.here(), b.labels[at].start)
		default:
			b.plan.later(b.plan.here(), &b.labels[at].ways)
		}
	}
	if at := len(b.labels) - 1 - int(depth); at >= 0 && !b.dead && b.labels[at].op != opLoop {
		b.labels[at].targeted = true
		b.labels[at].after = max(b.labels[at].after, b.since+b.cost)
	}
}

func (b *bodyWriter) open(raw []byte) {
	l := label{op: b.in.op, deadIn: b.dead, start: b.plan.here(), ways: -1, moves: int(b.meets[b.opened])}
	b.opened++
	switch {
	case l.op == opLoop:
		l.double = b.openLoop(raw)
		l.start = b.plan.here()
		b.depth++
		b.meet(l.moves)
	case l.op == opIf && !b.dead:
		b.spend(weight(opIf))
		b.settle()
		b.pend.b = append(b.pend.b, raw...)
		b.flush(true)
	default:
		b.pend.b = append(b.pend.b, raw...)
	}
	l.doubles, l.before = b.doubles(), b.since
	if l.double {
		l.doubles++
	}
	b.labels = append(b.labels, l)
}

// openLoop opens a loop, which tests the fuel at its head. One that hardly calls anything is opened twice, as two loops one in
// the other: the outer one tests the fuel and calls the host; the inner one is the loop of the original, and its branches
// back go to the outer one only if the fuel is spent. A call within the inner loop, made or not, would have the compiler
// keep in memory what lives in registers there.
func (b *bodyWriter) openLoop(raw []byte) (double bool) {
	calls := b.loops[b.seen]
	b.seen++
	if b.dead {
		b.pend.b = append(b.pend.b, raw...)
		return false
	}
	takes := b.in.block >= 0 && len(b.w.m.types[b.in.block].params) > 0
	double = b.w.opt.Meter && calls <= doubleCalls && !takes
	b.late = double && b.entry && !b.called
	b.settle()
	b.flush(true)
	b.out.b = append(b.out.b, raw...)
	b.head = true
	b.spend(weightHead)
	switch {
	case !double:
		b.test = true
		return false
	case b.late && b.shape.stack > 0:
		b.testBoth(false)
	default:
		b.testFuel(false)
	}
	b.out.b = append(b.out.b, raw...)
	return true
}

func (b *bodyWriter) alternative(raw []byte) {
	l := &b.labels[len(b.labels)-1]
	if b.planning && !b.dead {
		b.plan.later(b.plan.here(), &l.ways)
	}
	b.settle()
	b.flush(false)
	if b.planning && !l.deadIn {
		b.plan.way(l.start, b.plan.here())
	}
	b.out.b = append(b.out.b, raw...)
	if !b.dead {
		l.targeted = true
		l.after = max(l.after, b.since)
	}
	l.op, b.dead, b.since = opElse, l.deadIn, l.before
}

func (b *bodyWriter) end(raw []byte) {
	if len(b.labels) == 0 {
		b.leave()
		return
	}
	l := b.labels[len(b.labels)-1]
	b.labels = b.labels[:len(b.labels)-1]
	if l.op == opLoop {
		b.depth--
	}
	to := &b.pend
	if l.op == opIf && !l.deadIn || l.targeted { // what comes is reached from more than one place
		b.settle()
		b.flush(!b.dead)
		if b.planning {
			b.plan.shut(l.ways)
			if l.op == opIf && !l.deadIn {
				b.plan.way(l.start, b.plan.here())
			}
		}
		if b.dead {
			b.since = 0
		}
		if b.since = max(b.since, l.after); l.op == opIf {
			b.since = max(b.since, l.before)
		}
		b.dead = false
		b.meet(l.moves)
		to = &b.out // the next block begins behind it
	}
	to.b = append(to.b, raw...)
	if l.double {
		to.b = append(to.b, raw...)
	}
}
