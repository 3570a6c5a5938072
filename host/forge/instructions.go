package forge

// instruction validates one.
func (c *checker) instruction() {
	in := &c.in
	if !c.flow.dead {
		c.flow.memory += takes(in.op)
	}
	switch op := in.op; {
	case op >= opI32Eqz && op <= opI64Extend32:
		s := &plainOps[op-opI32Eqz]
		c.popAll(s.params)
		c.push(s.result[0])
	case op == opLocalGet:
		c.push(c.local())
		c.flow.gets++
		c.flowUse(1)
	case op == opLocalSet:
		c.pop(c.local())
		c.set()
	case op == opLocalTee:
		t := c.local()
		c.pop(t)
		c.set()
		c.push(t)
	case op >= opBlock && op <= opReturn:
		c.control()
	case op == opNop:
	case op == opUnreachable:
		c.die()
	case op == opCall:
		if c.index("function", in.x, len(c.m.funcs)) {
			c.call(c.m.funcType(in.x))
		}
	case op == opCallIndirect:
		if c.index("table", in.y, len(c.m.tables)) && c.index("type", in.x, len(c.m.types)) {
			if t := c.m.tables[in.y].elem; t != funcRef {
				c.fail("call_indirect through table %d of type %s (type mismatch)", in.y, t)
			}
			c.pop(i32)
			t := c.m.types[in.x]
			c.info.indirect = max(c.info.indirect, len(t.params)+len(t.results)+1)
			c.call(t)
		}
	case op == opDrop:
		c.pop(unknown)
	case op == opSelect:
		c.pop(i32)
		a, b := c.pop(unknown), c.pop(unknown)
		if a.reference() || b.reference() {
			c.fail("a select of references must name their type (type mismatch)")
		}
		if a != b && a != unknown && b != unknown {
			c.fail("select takes %s and %s (type mismatch)", b, a)
		}
		if a == unknown {
			a = b
		}
		c.push(a)
	case op == opSelectT:
		if len(in.types) != 1 {
			c.fail("a select of %d types (invalid result arity)", len(in.types))
			return
		}
		c.pop(i32)
		c.pop(in.types[0])
		c.pop(in.types[0])
		c.push(in.types[0])
	case op == opGlobalGet || op == opGlobalSet:
		c.global()
	case op == opTableGet || op == opTableSet || op>>8 == opBulk:
		c.bulk()
	case op >= opI32Load && op <= opI64Store32:
		a := accesses[op-opI32Load]
		c.memory(a.align)
		if a.store {
			c.pop(a.typ)
			c.pop(i32)
		} else {
			c.pop(i32)
			c.push(a.typ)
		}
	case op == opMemorySize:
		c.memory(0)
		c.push(i32)
	case op == opMemoryGrow:
		c.memory(0)
		c.pop(i32)
		c.push(i32)
		c.calling()
	case op >= opI32Const && op <= opF64Const:
		c.push([...]valType{i32, i64, f32, f64}[op-opI32Const])
	case op == opRefNull:
		c.push(valType(in.x))
	case op == opRefIsNull:
		if t := c.pop(unknown); !t.reference() && t != unknown {
			c.fail("ref.is_null takes a reference, but the stack holds %s (type mismatch)", t)
		}
		c.push(i32)
	case op == opRefFunc:
		if c.index("function", in.x, len(c.m.funcs)) {
			if c.m.declared == nil || !c.m.declared[in.x] {
				c.fail("ref.func of function %d, which no element segment, export or global names (undeclared function reference)", in.x)
			}
			c.push(funcRef)
		}
		c.m.uses.features |= ReferenceTypes
	case op>>8 == opVector:
		c.vector()
	}
}

func (c *checker) index(what string, i uint32, n int) bool {
	return c.d.index(c.r, c.in.at, what, i, n)
}

func (c *checker) local() valType {
	if c.index("local", c.in.x, len(c.locals)) {
		return c.locals[c.in.x]
	}
	return unknown
}

// set notes that a local is set.
func (c *checker) set() {
	c.flow.sets++
	c.flow.made++
	if !c.flow.dead && c.r.err == nil {
		c.moves.sets = append(c.moves.sets, c.in.x)
		if c.taken >= globalNumber || c.taken <= c.versions.head {
			c.taken = c.versions.number() // nobody knows whether it is what had this number before
		}
		c.versions.set(c.in.x, c.taken, c.blocks[len(c.blocks)-1].flow.begin)
	}
}

// calling counts a call in the innermost loop.
func (c *checker) calling() {
	c.flow.calls++
	c.flow.made += c.info.globals
	if !c.flow.dead {
		c.flow.live += c.flow.known / 8
	}
	if loop := c.blocks[len(c.blocks)-1].loop; loop >= 0 {
		c.info.loops[loop]++
	}
}

func (c *checker) call(t funcType) {
	c.calling()
	c.info.calls = true
	c.popAll(t.params)
	c.pushAll(t.results)
}

func (c *checker) global() {
	in := &c.in
	if !c.index("global", in.x, len(c.m.globals)) {
		return
	}
	g := c.m.globals[in.x]
	c.flowUse(1)
	if in.op == opGlobalGet {
		if g.mutable && c.info.globals < len(c.m.globals) {
			c.info.globals++
		}
		c.push(g.val)
		return
	}
	if !g.mutable {
		c.fail("global.set of global %d, which is immutable (global is immutable)", in.x)
	}
	c.flow.made++
	c.pop(g.val)
}

// memory checks that there is one, and the alignment of an access to it.
func (c *checker) memory(align uint32) {
	if c.in.op != opMemorySize && c.in.op>>8 != opBulk {
		c.flowAccess()
	}
	if len(c.m.memories) == 0 {
		c.fail("%s without a memory (unknown memory 0)", c.in.op)
	} else if c.in.op != opMemorySize && c.in.op != opMemoryGrow && c.in.op>>8 != opBulk && c.in.x > align {
		c.fail("%s with an alignment of 2^%d (alignment must not be larger than natural)", c.in.op, c.in.x)
	}
}

// access is a load or a store from 0x28 on.
type access struct {
	typ   valType
	align uint32 // of the access itself, as a power of two
	store bool
}

var accesses = [...]access{
	{i32, 2, false}, {i64, 3, false}, {f32, 2, false}, {f64, 3, false},
	{i32, 0, false}, {i32, 0, false}, {i32, 1, false}, {i32, 1, false},
	{i64, 0, false}, {i64, 0, false}, {i64, 1, false}, {i64, 1, false}, {i64, 2, false}, {i64, 2, false},
	{i32, 2, true}, {i64, 3, true}, {f32, 2, true}, {f64, 3, true},
	{i32, 0, true}, {i32, 1, true}, {i64, 0, true}, {i64, 1, true}, {i64, 2, true},
}
