package engine_test

func (g *randomModule) statement() {
	g.budget--
	switch g.next(18) {
	case 0, 1, 2:
		t := g.someType()
		g.expr(t, 3)
		if l, ok := g.local(t, g.hidden); ok {
			g.op(0x21)
			g.u32(l)
		} else {
			g.op(0x1a)
		}
	case 3: // store
		g.address()
		switch g.next(4) {
		case 0:
			g.expr(rI32, 2)
			g.op(0x36, 0)
		case 1:
			g.expr(rI64, 2)
			g.op(0x37, 3)
		case 2:
			g.expr(rF64, 2)
			g.op(0x39, 0)
		case 3:
			g.expr(rV128, 2)
			g.op(0xfd, 11, 0)
		}
		g.u32(g.next(100))
	case 4, 5: // block
		r := g.blockResults()
		g.op(0x02)
		g.blockType(r)
		g.labels = append(g.labels, r)
		g.sequence(r)
		g.labels = g.labels[:len(g.labels)-1]
		g.op(0x0b)
		g.dropAll(len(r))
	case 6, 7: // loop, left after some rounds
		g.loop()
	case 8, 9: // if
		r := g.blockResults()
		g.expr(rI32, 2)
		g.op(0x04)
		g.blockType(r)
		g.labels = append(g.labels, r)
		g.sequence(r)
		if len(r) > 0 || g.chance(2) {
			g.op(0x05)
			g.sequence(r)
		}
		g.labels = g.labels[:len(g.labels)-1]
		g.op(0x0b)
		g.dropAll(len(r))
	case 10: // br_if
		d := g.next(len(g.labels))
		r := g.labels[len(g.labels)-1-d]
		for _, t := range r {
			g.expr(t, 1)
		}
		g.expr(rI32, 2)
		g.op(0x0d)
		g.u32(d)
		g.dropAll(len(r))
	case 11: // in a block that is left for good
		g.op(0x02, 0x40)
		g.labels = append(g.labels, nil)
		g.leave()
		if g.chance(2) {
			g.statement()
		}
		g.labels = g.labels[:len(g.labels)-1]
		g.op(0x0b)
	case 12:
		i := g.next(5)
		g.expr(g.globalType(i), 3)
		g.op(0x24, byte(i))
	case 13: // ranges
		g.ranges()
	case 14:
		g.expr(rI32, 1)
		g.op(0x10, 0)
	case 15:
		g.i32(int32(g.next(3)))
		g.op(0x40, 0, 0x1a)
	case 16:
		if g.drops {
			g.table()
		}
	case 17:
		g.call()
	}
}

func (g *randomModule) globalType(i int) byte { return []byte{rI32, rI64, rF32, rF64, rV128}[i] }

func (g *randomModule) loop() {
	counter := len(g.locals)
	g.locals = append(g.locals, rI32)
	g.op(0x02, 0x40)
	g.labels = append(g.labels, nil)
	params := g.chance(3) // (loop (param i32 i32) (result i32)
	if params {
		g.i32(1)
		g.i32(2)
		g.op(0x03, 1)
	} else {
		g.op(0x03, 0x40)
	}
	count := func() {
		g.op(0x20)
		g.u32(counter)
		g.i32(1)
		g.op(0x6a, 0x22)
		g.u32(counter)
		g.i32(int32(2 + g.next(40)))
		g.op(0x4b)
	}
	if params {
		g.op(0x6a) // two become one
		count()
		g.op(0x0d, 1) // out
		g.labels = append(g.labels, []byte{rI32, rI32})
		g.statement()
		g.i32(3)
		g.expr(rI32, 1)
		g.op(0x0d, 0) // back, with two
		g.op(0x1a)    // one of them; the other is the result
		g.labels = g.labels[:len(g.labels)-1]
		g.op(0x0b, 0x1a)
	} else {
		count()
		g.op(0x0d, 1)
		g.labels = append(g.labels, nil)
		g.statement()
		g.statement()
		g.labels = g.labels[:len(g.labels)-1]
		if g.chance(2) {
			g.expr(rI32, 1)
			g.op(0x0d, 0)
		} else {
			g.op(0x0c, 0)
		}
		g.op(0x0b)
	}
	g.labels = g.labels[:len(g.labels)-1]
	g.op(0x0b)
}

// leave goes somewhere else.
func (g *randomModule) leave() {
	switch g.next(4) {
	case 0:
		for _, t := range g.labels[0] {
			g.expr(t, 1)
		}
		g.op(0x0f)
	case 1:
		d := g.next(len(g.labels))
		for _, t := range g.labels[len(g.labels)-1-d] {
			g.expr(t, 1)
		}
		g.op(0x0c)
		g.u32(d)
	case 2: // to the innermost, which takes nothing, or further out with nothing too
		var targets []int
		for d := range g.labels {
			if len(g.labels[len(g.labels)-1-d]) == 0 {
				targets = append(targets, d)
			}
		}
		g.expr(rI32, 2)
		g.op(0x0e)
		n := g.next(4)
		g.u32(n)
		for range n + 1 {
			g.u32(targets[g.next(len(targets))])
		}
	case 3:
		if g.chance(6) {
			g.op(0x00)
		} else {
			g.op(0x0c, 0)
		}
	}
}

// address is mostly within the memory.
func (g *randomModule) address() {
	g.expr(rI32, 2)
	if !g.chance(30) {
		g.i32(0x7fff)
		g.op(0x71)
	}
}

func (g *randomModule) ranges() {
	g.address()
	switch g.next(4) {
	case 0:
		g.expr(rI32, 1)
		g.length()
		g.op(0xfc, 11, 0)
	case 1:
		g.address()
		g.length()
		g.op(0xfc, 10, 0, 0)
	default:
		if g.data < 2 {
			g.op(0x1a)
			return
		}
		passive := 1 + g.next(g.data/2)*2 // active ones are dropped by the specification, but not by wazero
		g.i32(int32(g.next(4)))
		g.i32(int32(g.next(6)))
		g.op(0xfc, 8)
		g.u32(passive)
		g.op(0)
		if g.chance(3) {
			g.op(0xfc, 9)
			g.u32(g.next(g.data))
		}
	}
}

// length is sometimes more than a chunk, of the 4 pages that the memory can have.
func (g *randomModule) length() {
	switch g.next(4) {
	case 0:
		g.i32(int32(60000 + g.next(140000)))
		g.op(0x3f, 0)
		g.i32(16)
		g.op(0x74, 0x3f, 0)
		g.i32(15)
		g.op(0x74, 0x6b, 0x71)
	case 1:
		g.expr(rI32, 1)
	default:
		g.i32(int32(g.next(300)))
	}
}

func (g *randomModule) table() {
	switch g.next(6) {
	case 0:
		g.i32(int32(g.next(8)))
		g.op(0xd2)
		g.u32(g.next(len(g.funcs)))
		g.op(0x26, 0)
	case 1:
		g.op(0xd0, rFuncRef)
		g.i32(int32(g.next(3)))
		g.op(0xfc, 15, 0, 0x1a)
	case 2:
		g.i32(int32(g.next(8)))
		g.i32(int32(g.next(8)))
		g.i32(int32(g.next(4)))
		g.op(0xfc, 14, 0, 0)
	case 3:
		g.i32(int32(g.next(6)))
		g.i32(int32(g.next(3)))
		g.i32(int32(g.next(3)))
		g.op(0xfc, 12, 1, 0)
	case 4:
		g.i32(int32(g.next(8)))
		g.op(0xd0, rFuncRef)
		g.i32(int32(g.next(3)))
		g.op(0xfc, 17, 0)
	case 5:
		g.op(0xfc, 13, 1)
	}
}

// call calls a function further down directly, so that it ends, or any through the table while global 0 is small.
func (g *randomModule) call() {
	if g.chance(3) {
		t := g.next(len(g.types))
		for _, p := range g.types[t].params {
			g.expr(p, 1)
		}
		g.i32(int32(g.fn + 1 + g.next(len(g.funcs)+3)))
		g.op(0x11)
		g.u32(t)
		g.op(0)
		g.dropAll(len(g.types[t].results))
		return
	}
	if g.fn+1 >= len(g.funcs) {
		return
	}
	f := g.fn + 1 + g.next(len(g.funcs)-g.fn-1)
	t := g.types[g.funcs[f]]
	for _, p := range t.params {
		g.expr(p, 1)
	}
	g.op(0x10)
	g.u32(f)
	g.dropAll(len(t.results))
}
