package engine_test

// expr writes a value of type t.
func (g *randomModule) expr(t byte, depth int) {
	g.budget--
	if depth == 0 || g.budget <= 0 || g.chance(3) {
		if l, ok := g.local(t, g.hidden); ok && g.next(3) > 0 {
			g.op(0x20)
			g.u32(l)
			return
		}
		switch t {
		case rI32:
			g.i32(int32(g.next(1<<20)) - 1000)
		case rI64:
			g.b = sleb(append(g.b, 0x42), int64(g.next(1<<30))*1000003)
		case rF32:
			g.op(0x43, byte(g.next(256)), byte(g.next(256)), 0x80, 0x3f)
		case rF64:
			g.op(0x44, 0, byte(g.next(256)), 0, byte(g.next(256)), 0, 0, 0xf0, 0x3f)
		case rV128:
			g.op(0xfd, 12)
			for range 16 {
				g.op(byte(g.next(256)))
			}
		}
		return
	}
	if g.chance(8) && t != rV128 { // an if, or a select
		if g.chance(2) {
			g.expr(rI32, depth-1)
			g.op(0x04, t)
			g.labels = append(g.labels, []byte{t})
			g.expr(t, depth-1)
			g.op(0x05)
			g.expr(t, depth-1)
			g.labels = g.labels[:len(g.labels)-1]
			g.op(0x0b)
			return
		}
		g.expr(t, depth-1)
		g.expr(t, depth-1)
		g.expr(rI32, depth-1)
		g.op(0x1b)
		return
	}
	binary := func(ops ...byte) {
		g.expr(t, depth-1)
		g.expr(t, depth-1)
		g.op(ops[g.next(len(ops))])
	}
	switch t {
	case rI32:
		switch g.next(7) {
		case 0:
			g.address()
			g.op([]byte{0x2c, 0x2d}[g.next(2)], 0)
			g.u32(g.next(50))
		case 1:
			g.expr(rI64, depth-1)
			g.op(0xa7)
		case 2:
			g.op(0x23, 0)
		case 3:
			g.expr(rF64, depth-1)
			g.op(0xfc, 2)
		case 4:
			g.op(0x3f, 0)
		case 5:
			g.expr(rV128, depth-1)
			g.op(0xfd, 27, byte(g.next(4)))
		default:
			binary(0x6a, 0x6b, 0x6c, 0x71, 0x72, 0x73, 0x74, 0x75, 0x46, 0x48, 0x4b, 0x6d, 0x70)
		}
	case rI64:
		switch g.next(4) {
		case 0:
			g.expr(rI32, depth-1)
			g.op(0xac)
		case 1:
			g.address()
			g.op(0x29, 0)
			g.u32(g.next(50))
		case 2:
			g.op(0x23, 1)
		default:
			binary(0x7c, 0x7d, 0x7e, 0x83, 0x84, 0x85, 0x86, 0x89, 0x80)
		}
	case rF32:
		binary(0x92, 0x93, 0x94)
	case rF64:
		if g.chance(2) {
			g.expr(rI32, depth-1)
			g.op(0xb7)
		} else {
			binary(0xa0, 0xa1, 0xa2)
		}
	case rV128:
		if g.chance(2) {
			g.op(0x23, 4)
			return
		}
		g.expr(rV128, depth-1)
		g.expr(rV128, depth-1)
		g.op(0xfd)
		g.u32([]int{78, 80, 81, 110, 174, 206}[g.next(6)])
	}
}
