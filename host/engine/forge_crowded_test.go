package engine

import (
	"encoding/binary"
	"math/rand/v2"
)

// crowdedBody writes random code of many values: integers in the first locals, floats in those behind them.
type crowdedBody struct {
	r            *rand.Rand
	b            []byte
	ints, floats int
	left         int // statements and operations, about
	labels       int
	// How often, of a hundred.
	calls, fixed, loads, blocks, tees int
}

// crowded returns the body of a function for bomb.Recursive. It sets its locals, calls itself, and goes on.
func crowded(seed uint64) []byte {
	g := &crowdedBody{r: rand.New(rand.NewPCG(seed, 0))}
	g.ints, g.floats = g.one(1, 4, 10, 13, 16, 24), g.one(1, 4, 14, 18, 24)
	g.left = g.one(20, 200, 1000, 3000)
	g.calls, g.fixed, g.loads, g.blocks, g.tees = g.one(0, 1, 5, 20), g.one(0, 5, 30), g.one(0, 5, 30), g.one(0, 10, 30), g.one(0, 5, 20)
	g.b = []byte{2, byte(g.ints - 1), 0x7e, byte(g.floats), 0x7c, 0x23, 0, 0x42, 1, 0x7c, 0x24, 0} // depth++
	for i := 1; i < g.ints+g.floats; i++ {
		g.op(0x23, 0, 0x42, byte(i), 0x7c)
		if i >= g.ints {
			g.op(0xb9) // f64.convert_i64_s
		}
		g.op(0x21, byte(i))
	}
	g.op(0x20, 0, 0x10, 0, 0x1a)
	for g.left > 0 {
		g.statement()
	}
	g.int(3)
	return append(g.b, 0x0b)
}

func (g *crowdedBody) op(b ...byte)          { g.b = append(g.b, b...) }
func (g *crowdedBody) one(of ...int) int     { return of[g.r.IntN(len(of))] }
func (g *crowdedBody) chance(of100 int) bool { return g.r.IntN(100) < of100 }
func (g *crowdedBody) anInt() byte           { return byte(g.r.IntN(g.ints)) }
func (g *crowdedBody) aFloat() byte          { return byte(g.ints + g.r.IntN(g.floats)) }

// int computes an i64.
func (g *crowdedBody) int(depth int) {
	g.left--
	if depth <= 0 || g.left < 0 {
		if g.chance(10) {
			g.op(0x42, byte(g.r.IntN(60)))
		} else {
			g.op(0x20, g.anInt())
		}
		return
	}
	switch n := g.r.IntN(100); {
	case n < g.calls/2:
		g.op(0x10, 2)
	case n < g.calls:
		for range 12 {
			g.int(depth - 3)
		}
		g.op(0x10, 3)
	case n < g.calls+g.fixed:
		g.int(depth - 1)
		g.int(depth - 2)
		g.op(byte(g.one(0x86, 0x87, 0x8a, 0x80, 0x82, 0x7f))) // shifts and divisions
	case n < g.calls+g.fixed+g.loads:
		g.int(depth - 1)
		g.op(0xa7, 0x29, 0, byte(g.r.IntN(64)))
	case n < g.calls+g.fixed+g.loads+g.tees:
		g.int(depth - 1)
		g.op(0x22, g.anInt())
	case n > 96:
		g.float(depth - 1)
		g.op(0xbd) // i64.reinterpret_f64
	case n > 94:
		g.op(0x23, 0)
	default:
		a, b := depth-1, depth-2
		if g.chance(30) {
			a, b = b, a
		}
		g.int(a)
		g.int(b)
		g.op(byte(g.one(0x7c, 0x7d, 0x7e, 0x83, 0x84, 0x85)))
	}
}

// float computes an f64.
func (g *crowdedBody) float(depth int) {
	g.left--
	if depth <= 0 || g.left < 0 {
		g.op(0x20, g.aFloat())
		return
	}
	switch n := g.r.IntN(100); {
	case n < g.tees:
		g.float(depth - 1)
		g.op(0x22, g.aFloat())
	case n > 94:
		g.int(depth - 1)
		g.op(0xbf) // f64.reinterpret_i64
	default:
		g.float(depth - 1)
		g.float(depth - 2)
		g.op(byte(g.one(0xa0, 0xa1, 0xa2)))
	}
}

func (g *crowdedBody) condition() {
	g.int(2)
	g.op(0xa7)
}

func (g *crowdedBody) statement() {
	g.left--
	switch n := g.r.IntN(100); {
	case n < g.blocks && g.labels < 30 && g.left > 0:
		g.block()
	case n < g.blocks+5 && g.labels > 0:
		g.condition()
		g.op(0x0d, byte(g.r.IntN(g.labels)))
	case n < g.blocks+10:
		g.int(2)
		g.op(0xa7)
		g.int(3)
		g.op(0x37, 0, 8) // i64.store
	case n < g.blocks+12: // copies
		g.op(0x20, g.anInt(), 0x21, g.anInt())
	case n < g.blocks+14:
		g.op(0x23, 0, 0x21, g.anInt(), 0x20, g.anInt(), 0x24, 0)
	case n < g.blocks+30:
		g.float(4)
		g.op(0x21, g.aFloat())
	default:
		g.int(5)
		g.op(0x21, g.anInt())
	}
}

func (g *crowdedBody) statements(most int) {
	for range 1 + g.r.IntN(most) {
		g.statement()
	}
}

func (g *crowdedBody) block() {
	before := g.labels
	switch g.r.IntN(4) {
	case 0:
		g.open(0x02)
		g.statements(8)
	case 1:
		g.open(0x03)
		g.statements(8)
		g.condition()
		g.op(0x0d, 0)
	case 2:
		g.condition()
		g.open(0x04)
		g.statements(6)
		if g.chance(50) {
			g.op(0x05)
			g.statements(6)
		}
	case 3: // as Go does it: a br_table in blocks in a loop
		g.open(0x03)
		n := 1 + g.r.IntN(6)
		for range n {
			g.open(0x02)
		}
		g.condition()
		g.op(0x0e)
		g.b = binary.AppendUvarint(g.b, uint64(n))
		for i := range n + 1 {
			g.op(byte(i))
		}
		for range n {
			g.op(0x0b)
			g.labels--
			g.statements(5)
			if g.chance(40) {
				g.condition()
				g.op(0x0d, byte(g.r.IntN(g.labels)))
			}
		}
	}
	g.op(0x0b)
	g.labels = before
}

func (g *crowdedBody) open(op byte) {
	g.op(op, 0x40)
	g.labels++
}
