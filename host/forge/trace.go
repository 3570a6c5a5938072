package forge

// trace is what a body does with the values that the runtime's compiler keeps in registers or in the frame, code out of reach left out.
// It is written while the body is validated, and read by frame.
type trace struct {
	events  []event
	blocks  []traced // by number, the function first
	sets    []uint32 // see traced.from
	targets []uint32 // of br_tables: how many, and the numbers of their blocks
	globals []uint32 // by index, the variables that stand for those that are used, and 1 more; 0 is none
	used    []uint32 // those globals
	floats  set      // variables that are no integers
	locals  int
	vars    int    // locals, and behind them the globals that are used, and base and length of the memory, which are read like globals
	memory  uint32 // the variable of the base, and 1 more; the length is the next; 0: it is not used

	addresses []address
	known     [2][]int32 // of a number of versions, and of a global variable: the last address and 1, or 0
	since     uint32     // the event from which on addresses are good
}

// event is an instruction.
type event struct {
	kind   eventKind
	dead   bool   // of an else or an end: control does not come to it from the instruction before
	x      uint32 // a variable, the number of a block, the place of a br_table's targets, or how many registers it wants
	low    uint32 // operands on the stack once it has taken its own
	high   uint32 // and behind it
	floats uint32 // of high, those that are no integers

	address int32 // the place of its address in trace.addresses, or -1
}

type eventKind byte

const (
	tracePlain eventKind = iota
	traceGet             // a local or a global
	traceSet             // or tee
	traceCall            // of a function, of the host or of the runtime: no register is kept
	traceFixed           // it wants registers of its own
	traceBlock
	traceLoop
	traceIf
	traceElse
	traceEnd
	traceBr
	traceBrIf
	traceBrTable
	traceLeave
)

// traced is a block of a body.
type traced struct {
	loop bool
	ways int // to its label
	from int // the variables of which there is another value behind that: trace.sets[from:to]
	to   int
	head set // of a loop: what is live there, as far as it is known
	at   int // while the block is open in frame: the place of its label's state
	arm  int // of an if, likewise: that of the state at the beginning of its else, or -1
}

func (t *trace) reset(locals []valType) {
	t.events, t.blocks, t.sets, t.targets = t.events[:0], t.blocks[:0], t.sets[:0], t.targets[:0]
	for _, i := range t.used { // there may be many more that other functions used
		t.globals[i] = 0
	}
	t.used = t.used[:0]
	t.addresses, t.since = t.addresses[:0], 0
	t.known[0], t.known[1] = t.known[0][:0], t.known[1][:0]
	t.locals, t.vars, t.memory = len(locals), len(locals), 0
	t.floats = t.floats.sized(len(locals))
	for i, l := range locals {
		if l.float() {
			t.floats.add(uint32(i))
		}
	}
}

// global returns the variable that stands for a global.
func (t *trace) global(i uint32, typ valType) uint32 {
	for len(t.globals) <= int(i) {
		t.globals = append(t.globals, 0)
	}
	if t.globals[i] == 0 {
		x := t.variable()
		t.globals[i] = x + 1
		t.used = append(t.used, i)
		if typ.float() {
			t.floats.add(x)
		}
	}
	return t.globals[i] - 1
}

// variable returns a new one.
func (t *trace) variable() uint32 {
	t.vars++
	if t.vars > 64*len(t.floats) {
		t.floats = append(t.floats, 0)
	}
	return uint32(t.vars - 1)
}

// address is one of the memory that the compiler makes of an operand, to take it again at the next access by the same value: see access.
type address struct {
	first, last uint32 // events
	before      int32  // the one of the same value that it took the place of, or -1
	crowds      int    // of frame, at its last use
}

// globalNumber is from where on numbers of values are those of the variables of globals: it is not followed when these are set.
const globalNumber = 1 << 31

// access notes one to the memory, by the value of a number. Addresses are good on the way to the next call, and to where ways meet. It
// is not followed which way that is: where one might be good no longer, there is another from then on, and the first one lives up to it.
func (t *trace) access(number uint32) int32 {
	known := &t.known[0]
	global := number >= globalNumber
	if global {
		known = &t.known[1]
		number -= globalNumber
	}
	for len(*known) <= int(number) {
		*known = append(*known, 0)
	}
	now := uint32(len(t.events))
	a := (*known)[number] - 1
	if a >= 0 {
		t.addresses[a].last = now
	}
	if a < 0 || t.addresses[a].first < t.since || global {
		t.addresses = append(t.addresses, address{first: now, last: now, before: a})
		a = int32(len(t.addresses) - 1)
		(*known)[number] = a + 1
	}
	return a
}

// open adds a block.
func (t *trace) open(loop bool) {
	n := len(t.blocks)
	if n < cap(t.blocks) {
		t.blocks = t.blocks[:n+1]
	} else {
		t.blocks = append(t.blocks, traced{})
	}
	t.blocks[n] = traced{loop: loop, head: t.blocks[n].head}
}

// meet notes how many ways come to the label of a block, and which variables have other values behind it.
func (t *trace) meet(number, ways int, sets []uint32) {
	b := &t.blocks[number]
	b.ways, b.from = ways, len(t.sets)
	t.sets = append(t.sets, sets...)
	b.to = len(t.sets)
}

// note adds an instruction that has been validated; dead says whether it was out of reach.
func (c *checker) note(dead bool) {
	if c.r.err != nil {
		return
	}
	in, t := &c.in, &c.trace
	e := event{dead: dead, address: -1, low: uint32(c.low), high: uint32(len(c.stack))}
	if n := int(e.high); n > 0 && n <= len(c.floats) { // else it is of code out of reach
		e.floats = c.floats[e.high-1]
	}
	number := func(depth uint32) uint32 { return uint32(c.label(depth).flow.number) }
	switch op := in.op; {
	case op == opElse || op == opEnd:
		if c.shutting.skip {
			return
		}
		e.kind, e.x = traceEnd, uint32(c.shutting.number)
		if op == opElse {
			e.kind = traceElse
		}
	case dead:
		return
	case op == opBlock || op == opLoop || op == opIf:
		e.kind, e.x = traceBlock+eventKind(op-opBlock), number(0)
	case op == opBr || op == opBrIf:
		e.kind, e.x = traceBr+eventKind(op-opBr), number(in.x)
	case op == opBrTable:
		e.kind, e.x = traceBrTable, uint32(len(t.targets))
		t.targets = append(t.targets, uint32(len(in.targets)))
		for _, target := range in.targets {
			t.targets = append(t.targets, number(target))
		}
	case op == opReturn || op == opUnreachable:
		e.kind = traceLeave
	case op == opLocalGet:
		e.kind, e.x = traceGet, in.x
		c.numbers[e.high-1] = c.versions.now[in.x]
	case op == opLocalSet || op == opLocalTee:
		e.kind, e.x = traceSet, in.x
		if op == opLocalTee {
			c.numbers[e.high-1] = c.taken
		}
	case op == opGlobalGet:
		e.kind, e.x = traceGet, t.global(in.x, c.m.globals[in.x].val)
		c.numbers[e.high-1] = globalNumber + e.x
	case op == opGlobalSet:
		e.kind, e.x = traceSet, t.global(in.x, c.m.globals[in.x].val)
	case op == opCall || op == opCallIndirect || op == opMemoryGrow || op == opTableGet || op == opTableSet || op == opRefFunc ||
		op>>8 == opBulk && op >= opMemoryInit:
		e.kind = traceCall
	case op.divides(), op.truncates(), op>>8 == opBulk: // which is a truncation, too
		e.kind, e.x = traceFixed, 2
	case op >= opI32Shl && op <= opI32Rotr || op >= opI64Shl && op <= opI64Rotr || op>>8 == opVector:
		e.kind, e.x = traceFixed, 1
	}
	switch e.kind {
	case traceCall, traceLoop, traceElse, traceEnd:
		t.since = uint32(len(t.events))
	}
	if op := in.op; !dead && (op >= opI32Load && op <= opI64Store32 || op>>8 == opVector && (op&0xff <= 11 || op&0xff >= 84 && op&0xff <= 93)) {
		if t.memory == 0 {
			t.memory = t.variable() + 1
			t.variable()
		}
		e.address = t.access(c.taken)
	}
	t.events = append(t.events, e)
}
