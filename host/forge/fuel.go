package forge

// What the bodies are charged with: the injected code takes nothing from the operand stack and leaves nothing on it.
//
// In functions with loops the fuel is kept in a local, which the compiler keeps in a register: the global is written
// before whatever may look at it, which is every call, and read after. So the global is not exact where a trap left a
// function; the instance is discarded then.

// flush ends the basic block: what it costs is charged before it.
func (b *bodyWriter) flush() {
	if b.w.opt.Meter {
		if b.entry {
			b.enter()
		} else if b.cost > 0 || b.test {
			b.debit()
			if b.since += b.cost; b.test || b.since >= testCost {
				b.testFuel()
				b.test = false
			}
		}
	}
	b.entry = false
	b.out.b = append(b.out.b, b.pend.b...)
	b.pend.b, b.cost = b.pend.b[:0], 0
}

// enter writes what every call of the function begins with. One test serves fuel and stack: it is below zero if either
// is.
func (b *bodyWriter) enter() {
	s, w, o := b.shape, b.w, &b.out
	if s.stack > 0 {
		b.charge(w.stack, s.stack)
	}
	if s.local {
		o.i(opGlobalGet, w.fuel)
		o.set(s.fuel)
	}
	b.debit()
	b.since += b.cost
	switch {
	case b.late:
	case s.stack > 0:
		b.testBoth()
	case s.test:
		b.testFuel()
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
	b.flush()
	if b.shape.wrap {
		b.out.i(opEnd)
		b.publish(&b.out)
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

// debit charges the block that pend holds.
func (b *bodyWriter) debit() {
	switch o := &b.out; {
	case b.cost == 0:
	case b.shape.local:
		o.get(b.shape.fuel)
		o.const64(b.cost)
		o.i(opI64Sub)
		o.set(b.shape.fuel)
	default:
		b.charge(b.w.fuel, b.cost)
	}
}

// getFuel pushes what is left.
func (b *bodyWriter) getFuel(a *asm) {
	if b.shape.local {
		a.get(b.shape.fuel)
	} else {
		a.i(opGlobalGet, b.w.fuel)
	}
}

// publish writes the fuel to the global, where it is kept in a local.
func (b *bodyWriter) publish(a *asm) {
	if b.shape.local {
		a.get(b.shape.fuel)
		a.i(opGlobalSet, b.w.fuel)
	}
}

// reload reads the fuel from the global again.
func (b *bodyWriter) reload(a *asm) {
	if b.shape.local {
		a.i(opGlobalGet, b.w.fuel)
		a.set(b.shape.fuel)
	}
}

// testBoth calls the host if fuel or stack are spent.
func (b *bodyWriter) testBoth() {
	b.getFuel(&b.out)
	b.out.i(opGlobalGet, b.w.stack)
	b.out.i(opI64Or)
	b.testTop()
}

// testFuel calls the host if the fuel is spent.
func (b *bodyWriter) testFuel() {
	b.getFuel(&b.out)
	b.testTop()
}

// testTop calls the host if the number on the stack is below zero.
func (b *bodyWriter) testTop() {
	b.since = 0
	o := &b.out
	o.const64(0)
	o.i(opI64LtS)
	o.block(opIf)
	b.publish(o)
	o.i(opCall, b.w.refill)
	b.reload(o)
	o.i(opEnd)
}
