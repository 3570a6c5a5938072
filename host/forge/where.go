package forge

import "slices"

// Where the fuel is: calls find it in the global, debits and tests are cheapest on a local, which the compiler keeps in a
// register. It is moved from one to the other when it must be: before a call, and before the first debit behind one. So code
// that calls much and pays ahead does not move it at all, and a loop without calls keeps it in its register.
//
// Blocks agree on where it is when they begin, planned.fuel: what ends a block moves it to where those that follow look for
// it.

// holder says which of the two is right.
type holder uint8

const (
	inGlobal holder = iota // the local is stale
	inLocal                // the global is
	inBoth
)

// settle chooses the place at the start of each block, in order of the code. Heads of loops have it in the local.
func (p *plan) settle() {
	n := int32(len(p.blocks))
	p.left = inGlobal
	loops := slices.ContainsFunc(p.blocks, func(b planned) bool { return b.head })
	for i := range n {
		b := &p.blocks[i]
		switch {
		case i == 0:
			b.fuel = inGlobal
		case b.head:
			b.fuel = inLocal
		case b.from < 0: // never reached
			b.fuel = inGlobal
		}
		b.through = !loops && b.fuel == inGlobal
		out := b.fuel
		if b.debit != 0 && !b.through {
			out = inLocal
		}
		if b.calls {
			out = inGlobal
		}
		ways := p.follow(i)
		for _, s := range ways {
			if s >= 0 && s <= i || s >= 0 && p.blocks[s].head {
				if out == inGlobal {
					out = inBoth
				}
			}
		}
		for _, s := range ways {
			if s < 0 { // a store at the end of the function, or one for each round of a loop that can end there
				if len(ways) > 1 && out == inLocal && b.depth > 0 {
					p.left = inLocal
				}
			} else if s > i && !p.blocks[s].head {
				p.blocks[s].meet(out, b.depth)
			}
		}
	}
}

// meet takes note of where a block leaves the fuel that leads to this one. If two differ the one in more loops counts.
func (b *planned) meet(at holder, depth int32) {
	switch {
	case b.from < 0:
		b.fuel, b.from = at, depth
		return
	case at == b.fuel || at == inBoth:
	case b.fuel == inBoth:
		b.fuel = at
	case depth > b.from || depth == b.from && at == inLocal && depth > 0 || depth == 0 && at == inGlobal:
		b.fuel = at
	}
	b.from = max(b.from, depth)
}

// begin notes where the fuel is when the block that comes begins, and what it pays.
func (b *bodyWriter) begin() {
	if b.planning || !b.w.opt.Meter || b.block >= len(b.plan.blocks) {
		return
	}
	p := &b.plan.blocks[b.block]
	b.pays, b.at = p.debit, p.fuel
	if b.pays != 0 && !p.through {
		b.at = inLocal
	}
}

// settle moves the fuel to where the blocks that follow look for it.
func (b *bodyWriter) settle() {
	if b.planning || b.dead || !b.w.opt.Meter {
		return
	}
	for _, s := range b.plan.follow(int32(b.block)) {
		want := b.plan.left
		if s >= 0 {
			want = b.plan.blocks[s].fuel
		}
		if want != inLocal {
			b.toGlobal(&b.pend)
		}
		if want != inGlobal {
			b.toLocal(&b.pend)
		}
	}
}

// toGlobal has the global right.
func (b *bodyWriter) toGlobal(a *asm) {
	if b.at == inLocal {
		b.store(a)
		b.at = inBoth
	}
}

// toLocal has the local right.
func (b *bodyWriter) toLocal(a *asm) {
	if b.at == inGlobal {
		b.load(a)
		b.at = inBoth
	}
}

// store copies the local to the global.
func (b *bodyWriter) store(a *asm) {
	a.get(b.shape.fuel)
	a.i(opGlobalSet, b.w.fuel)
}

// load copies the global to the local.
func (b *bodyWriter) load(a *asm) {
	a.i(opGlobalGet, b.w.fuel)
	a.set(b.shape.fuel)
}

// publish comes before a call.
func (b *bodyWriter) publish(a *asm) {
	if b.w.opt.Meter && !b.dead {
		b.toGlobal(a)
	}
}

// reload comes behind a call, which may have changed the global.
func (b *bodyWriter) reload(*asm) {
	b.at, b.calls = inGlobal, true
}
