package forge

// What the bodies are charged with: the injected code takes nothing from the operand stack and leaves nothing on it.
// The fuel is in a local where that is cheaper than the global: see where.go. So the global is not exact where a trap left
// a function; the instance is discarded then.

// flush ends the basic block: what it pays is charged before it. It falls through if the next one can be reached from it
// without a branch.
func (b *bodyWriter) flush(through bool) {
	switch {
	case b.planning:
		p := &b.plan
		if through && !b.dead {
			p.way(p.here(), p.here()+1)
		}
		p.blocks = append(p.blocks, planned{cost: b.cost, depth: b.depth, head: b.head, calls: b.calls, from: -1,
			table: b.in.op == opBrTable && !b.dead, trap: b.in.op == opUnreachable && !b.dead})
		b.since += b.cost
		switch {
		case b.entry && b.shape.test && !b.late, b.test:
			b.since = 0
		case !b.entry && b.since >= testCost:
			p.tests++
			b.since = 0
		}
	case b.w.opt.Meter && b.entry:
		b.enter()
	case b.w.opt.Meter:
		b.since += b.cost
		test := b.test || b.since >= testCost
		b.debit(test)
		if test {
			b.testFuel(b.plan.blocks[b.block].through)
		}
	}
	b.entry, b.test, b.head, b.calls = false, false, false, false
	b.out.b = append(b.out.b, b.pend.b...)
	b.pend.b, b.cost = b.pend.b[:0], 0
	b.block++
	b.begin()
}

// enter writes what every call of the function begins with. One test serves fuel and stack: it is below zero if either
// is.
func (b *bodyWriter) enter() {
	s, w, o := b.shape, b.w, &b.out
	if s.stack > 0 {
		b.charge(w.stack, s.stack)
	}
	b.debit(!b.late && (s.test || s.stack > 0))
	b.since += b.cost
	switch {
	case b.late:
	case s.stack > 0:
		b.testBoth(b.plan.blocks[0].through)
	case s.test:
		b.testFuel(b.plan.blocks[0].through)
	}
	if s.wrap {
		o.b = append(o.b, byte(opBlock))
		switch len(b.results) {
		case 0:
			o.b = append(o.b, 0x40)
		case 1:
			o.b = append(o.b, byte(b.results[0]))
		default:
			o.b = appendSigned(o.b, int64(w.typ(nil, b.results)))
		}
	}
}

// leave writes the end of the function.
func (b *bodyWriter) leave() {
	if b.planning && !b.dead {
		b.plan.way(b.plan.here(), -1)
	}
	b.settle()
	b.flush(false)
	if b.shape.wrap {
		b.out.i(opEnd)
	}
	if b.w.opt.Meter && b.plan.left == inLocal {
		b.store(&b.out)
	}
	if b.shape.stack > 0 {
		b.charge(b.w.stack, -b.shape.stack)
	}
	b.out.i(opEnd)
}

// charge takes an amount off a global.
func (b *bodyWriter) charge(global uint32, amount int64) {
	o := &b.out
	o.i(opGlobalGet, global)
	if amount >= 0 {
		o.const64(amount)
		o.i(opI64Sub)
	} else {
		o.const64(-amount)
		o.i(opI64Add)
	}
	o.i(opGlobalSet, global)
}

// debit charges what the block pays. If there is something to pay or to test, what is left is in the local behind it, for the
// test: outside of loops, where it came from the global, a copy.
func (b *bodyWriter) debit(test bool) {
	o := &b.out
	if b.pays == 0 && !test {
		return
	}
	if b.plan.blocks[b.block].fuel == inGlobal {
		b.load(o)
	}
	if b.pays != 0 {
		o.get(b.shape.fuel)
		o.const64(b.pays)
		o.i(opI64Sub)
		o.set(b.shape.fuel)
		if b.plan.blocks[b.block].through {
			b.store(o)
		}
	}
}

// testBoth calls the host if fuel or stack are spent.
func (b *bodyWriter) testBoth(copied bool) {
	b.out.get(b.shape.fuel)
	b.out.i(opGlobalGet, b.w.stack)
	b.out.i(opI64Or)
	b.testTop(copied)
}

// testFuel calls the host if the fuel is spent.
func (b *bodyWriter) testFuel(copied bool) {
	b.out.get(b.shape.fuel)
	b.testTop(copied)
}

// testTop calls the host if the number on the stack is below zero. If the local is a copy, the global is right before, and
// it alone behind.
func (b *bodyWriter) testTop(copied bool) {
	b.since = 0
	o := &b.out
	o.const64(0)
	o.i(opI64LtS)
	o.block(opIf)
	if !copied {
		b.store(o)
	}
	o.i(opCall, b.w.refill)
	if !copied {
		b.load(o)
	}
	o.i(opEnd)
}
