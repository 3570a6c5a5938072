package forge

// checker validates the body of one function: the algorithm of the specification's appendix, with a stack of operand
// types and a stack of blocks, in which code that cannot be reached takes operands of any type from nowhere.
type checker struct {
	d      *decoder
	m      *module
	r      *reader
	fn     uint32
	locals []valType
	stack  []valType
	blocks []block
	in     instr
	info   bodyInfo
	parts  int // blocks and branches so far, for MaxBlocks
	edges  int // targets of br_tables
	flow   flow
	moves  moves

	versions versions
	trace    trace
	frame    frame
	steps    int       // that may be taken in this function: see Limits.MaxSteps
	floats   []uint32  // of each operand: how many up to it, itself included, are no integers
	numbers  []uint32  // of each operand: two that have the same are one value
	taken    uint32    // that of the operand that was taken last
	low      int       // how short the stack has been since the instruction began
	shutting flowBlock // the block that an else or an end shuts
}

// block is an open block; its label is what a branch to it must bring.
type block struct {
	op      opcode
	typ     funcType
	height  int  // of the operand stack beneath
	dead    bool // what follows cannot be reached
	started int
	loop    int // the innermost loop: its place in bodyInfo.loops, or -1
	flow    flowBlock
}

func (b *block) label() []valType {
	if b.op == opLoop {
		return b.typ.params
	}
	return b.typ.results
}

func (c *checker) fail(format string, args ...any) { c.r.failAt(c.in.at, format, args...) }

// body validates up to the last end.
func (c *checker) body(t funcType) bodyInfo {
	c.stack, c.blocks, c.info = c.stack[:0], c.blocks[:0], bodyInfo{}
	c.parts, c.edges, c.flow = 0, 0, flow{calls: 1, made: len(c.locals)}
	c.moves.reset(len(c.locals))
	c.versions.reset(len(c.locals))
	c.trace.reset(c.locals)
	for _, l := range c.locals {
		c.info.vectors = c.info.vectors || l == v128
	}
	c.steps = c.d.limits.MaxSteps + stepsPerByte*(len(c.r.b)-c.d.m.sectionAt["code"]) - c.d.cost.steps
	c.in.at = c.r.off
	c.moved(len(t.params))
	c.open(opBlock, funcType{results: t.results})
	for len(c.blocks) > 0 && c.r.err == nil {
		if c.r.left() == 0 {
			c.r.failAt(c.r.off, "the body ends with %d blocks open (unexpected end)", len(c.blocks))
			break
		}
		c.in.next(c.r, c.d.limits.MaxBrTable)
		if c.r.err == nil {
			c.low = len(c.stack)
			dead := c.flow.dead
			c.instruction()
			c.note(dead)
			if c.flow.memory > c.d.limits.MaxCompiler { // before the trace takes much itself
				c.spend()
			}
		}
	}
	c.spend()
	c.places()
	return c.info
}

// part counts a block or a branch.
func (c *checker) part(n int) {
	if c.parts += n; c.parts > c.d.limits.MaxBlocks {
		c.fail("more than %d blocks and branches in one function (a loop counts for eight): split it", c.d.limits.MaxBlocks)
	}
}

func (c *checker) push(t valType) {
	if !c.flow.dead {
		floats := uint32(0)
		if n := len(c.stack); n > 0 {
			floats = c.floats[n-1]
		}
		if t.float() {
			floats++
		}
		c.floats = append(c.floats[:len(c.stack)], floats)
		c.numbers = append(c.numbers[:len(c.stack)], c.versions.number())
	}
	c.stack = append(c.stack, t)
	if len(c.stack) > c.info.height {
		c.info.height = len(c.stack)
	}
	if t == v128 {
		c.info.vectors = true
	}
}

func (c *checker) pushAll(types []valType) {
	c.moved(len(types))
	for _, t := range types {
		c.push(t)
	}
}

// pop takes an operand of type want, or of any for unknown.
func (c *checker) pop(want valType) valType {
	top := &c.blocks[len(c.blocks)-1]
	if len(c.stack) == top.height {
		if !top.dead && c.r.err == nil {
			c.fail("%s takes %s, but the stack holds nothing more in this block (type mismatch)", c.in.op, want)
		}
		return want
	}
	have := c.stack[len(c.stack)-1]
	c.stack = c.stack[:len(c.stack)-1]
	if !c.flow.dead {
		c.taken = c.numbers[len(c.stack)]
	}
	c.low = min(c.low, len(c.stack))
	if have != want && have != unknown && want != unknown {
		c.fail("%s takes %s, but the stack holds %s (type mismatch)", c.in.op, want, have)
	}
	return have
}

func (c *checker) popAll(types []valType) {
	c.moved(len(types))
	for i := len(types) - 1; i >= 0; i-- {
		c.pop(types[i])
	}
}

func (c *checker) open(op opcode, t funcType) {
	loop := -1
	if op == opLoop {
		loop = len(c.info.loops)
		c.info.loops = append(c.info.loops, 0)
	} else if len(c.blocks) > 0 {
		loop = c.blocks[len(c.blocks)-1].loop
	}
	c.blocks = append(c.blocks, block{op: op, typ: t, height: len(c.stack), started: c.in.at, loop: loop})
	depth := len(c.blocks) - 1
	c.d.nesting += depth
	switch {
	case depth > c.d.limits.MaxNesting:
		c.fail("blocks nested deeper than %d", c.d.limits.MaxNesting)
	case c.d.nesting > c.d.limits.MaxNestingSum:
		c.fail("the blocks of the module are nested too deep on the whole: their depths add up to more than %d", c.d.limits.MaxNestingSum)
	}
	c.pushAll(t.params)
	if op != opElse {
		c.flowOpen(&c.blocks[depth])
	}
}

// shut takes the results of the innermost block off the stack, and the block.
func (c *checker) shut() block {
	b := c.blocks[len(c.blocks)-1]
	c.popAll(b.typ.results)
	if len(c.stack) != b.height {
		c.fail("%d operands are left at the end of the block at byte %d (type mismatch)", len(c.stack)-b.height, b.started)
	}
	c.stack = c.stack[:min(b.height, len(c.stack))]
	c.blocks = c.blocks[:len(c.blocks)-1]
	if b.op == opLoop && len(c.blocks) > 0 {
		if outer := c.blocks[len(c.blocks)-1].loop; outer >= 0 {
			c.info.loops[outer] += c.info.loops[b.loop]
		}
	}
	return b
}

// die marks the rest of the block as out of reach.
func (c *checker) die() {
	b := &c.blocks[len(c.blocks)-1]
	c.stack = c.stack[:b.height]
	c.low = min(c.low, b.height)
	b.dead = true
	c.flow.dead = true
}

// label finds the block that a branch names.
func (c *checker) label(depth uint32) *block {
	if uint64(depth) >= uint64(len(c.blocks)) {
		c.fail("unknown label %d: %d blocks are open", depth, len(c.blocks))
		return &c.blocks[0]
	}
	return &c.blocks[len(c.blocks)-1-int(depth)]
}

func (c *checker) blockType() funcType {
	switch b := c.in.block; {
	case b == emptyBlock:
		return funcType{}
	case b < 0:
		return funcType{results: list1(valType(b + 0x80))}
	case b >= int64(len(c.m.types)):
		c.fail("unknown type %d: there are %d", b, len(c.m.types))
		return funcType{}
	default:
		return c.m.types[b]
	}
}

// control checks blocks and branches.
func (c *checker) control() {
	in := &c.in
	switch in.op {
	case opBlock, opLoop, opIf:
		c.part(1)
		if in.op == opLoop {
			c.part(7)
		}
		t := c.blockType()
		if in.op == opIf {
			c.pop(i32)
		}
		c.popAll(t.params)
		if c.r.err == nil {
			c.open(in.op, t)
		}
	case opElse:
		if c.blocks[len(c.blocks)-1].op != opIf {
			c.fail("an else outside an if")
			return
		}
		b := c.shut()
		c.shutting = b.flow
		c.flowElse(&b)
		if c.r.err == nil {
			c.open(opElse, b.typ)
			c.blocks[len(c.blocks)-1].flow = b.flow
		}
	case opEnd:
		b := c.shut()
		c.shutting = b.flow
		c.flowEnd(&b)
		if b.op == opIf && !(funcType{params: b.typ.params}).equal(funcType{params: b.typ.results}) {
			c.fail("an if without else whose results are not its parameters (type mismatch)")
		}
		if len(c.blocks) > 0 {
			c.pushAll(b.typ.results)
		}
	case opBr:
		b := c.label(in.x)
		c.popAll(b.label())
		c.flowWay(b, 1)
		c.die()
	case opBrIf:
		c.part(1)
		c.pop(i32)
		b := c.label(in.x)
		t := b.label()
		c.popAll(t)
		c.pushAll(t)
		c.flowWay(b, 1)
		c.flow.chain++
		c.nextBlock(1)
	case opBrTable:
		c.pop(i32)
		c.brTable()
		c.die()
	case opReturn:
		c.popAll(c.blocks[0].typ.results)
		c.flowWay(&c.blocks[0], 1)
		c.die()
	default:
		c.fail("%s", foreign(in.op))
	}
}

// brTable checks that the operands fit every target, without taking them: they are taken as the default says.
func (c *checker) brTable() {
	targets := c.in.targets
	last := c.label(targets[len(targets)-1]).label()
	top := &c.blocks[len(c.blocks)-1]
	for _, target := range targets {
		b := c.label(target)
		types := b.label()
		c.moved(len(types))
		if c.r.err != nil {
			return
		}
		c.flowWay(b, 1)
		c.edges++
		if len(types) != len(last) {
			c.fail("br_table with targets of %d and %d operands (type mismatch)", len(types), len(last))
			return
		}
		for i, t := range types {
			at := len(c.stack) - len(types) + i
			if at < top.height {
				if !top.dead {
					c.fail("br_table takes %d operands, the stack holds less (type mismatch)", len(types))
					return
				}
				continue
			}
			if have := c.stack[at]; have != t && have != unknown {
				c.fail("br_table takes %s for target %d, but the stack holds %s (type mismatch)", t, target, have)
				return
			}
		}
	}
}
