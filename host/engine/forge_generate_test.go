package engine_test

import "fmt"

const (
	rI32, rI64, rF32, rF64, rV128 = 0x7f, 0x7e, 0x7d, 0x7c, 0x7b
	rFuncRef                      = 0x70
)

type rType struct{ params, results []byte }

// randomModule generates one module. The choices come from a source that may be a fuzzer's input.
type randomModule struct {
	next  func(n int) int
	types []rType
	funcs []int // types; function 0 is imported
	data  int   // segments: even ones are active
	drops bool

	b      []byte // code of the body at hand
	locals []byte // types, parameters first
	labels [][]byte
	fn     int
	budget int
	hidden int // locals from here on count loops
}

func (g *randomModule) op(b ...byte)      { g.b = append(g.b, b...) }
func (g *randomModule) u32(v int)         { g.b = uleb(g.b, uint64(v)) }
func (g *randomModule) i32(v int32)       { g.b = sleb(append(g.b, 0x41), int64(v)) }
func (g *randomModule) chance(n int) bool { return g.next(n) == 0 }

func uleb(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func sleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func vec(items ...[]byte) []byte {
	b := uleb(nil, uint64(len(items)))
	for _, i := range items {
		b = append(b, i...)
	}
	return b
}

func str(s string) []byte { return append(uleb(nil, uint64(len(s))), s...) }

func sec(id byte, body []byte) []byte {
	return append(uleb([]byte{id}, uint64(len(body))), body...)
}

var rTypes = []byte{rI32, rI32, rI64, rF32, rF64, rV128}

func (g *randomModule) someType() byte { return rTypes[g.next(len(rTypes))] }

// module builds the binary. Globals are one of each numeric type, exported, and a v128. The table holds all functions.
func (g *randomModule) module() []byte {
	list := func(n int) (out []byte) {
		for range g.next(n) {
			out = append(out, g.someType())
		}
		return out
	}
	g.types = []rType{{[]byte{rI32}, nil}, {[]byte{rI32, rI32}, []byte{rI32}}}
	for range 1 + g.next(4) {
		g.types = append(g.types, rType{list(4), list(4)})
	}
	g.funcs = []int{0}
	for range 2 + g.next(4) {
		g.funcs = append(g.funcs, g.next(len(g.types)))
	}
	g.funcs = append(g.funcs, 1)
	g.data = g.next(5)
	mutate := g.chance(4)
	var types, funcs, exports, bodies, elems, data [][]byte
	for _, t := range g.types {
		b := append(uleb([]byte{0x60}, uint64(len(t.params))), t.params...)
		types = append(types, append(uleb(b, uint64(len(t.results))), t.results...))
	}
	for i, t := range g.funcs {
		elems = append(elems, uleb(nil, uint64(i)))
		if i > 0 {
			funcs = append(funcs, uleb(nil, uint64(t)))
			exports = append(exports, append(append(str(fmt.Sprintf("f%d", i)), 0), uleb(nil, uint64(i))...))
		}
	}
	for i := range 4 {
		exports = append(exports, append(str(fmt.Sprintf("g%d", i)), 3, byte(i)))
	}
	exports = append(exports, append(str("memory"), 2, 0))
	for i := range g.data {
		s := []byte{1}
		if i%2 == 0 {
			s = append(sleb([]byte{0, 0x41}, int64(g.next(70000)-16)), 0x0b)
			if g.next(8) > 0 { // most fit
				s = append(sleb([]byte{0, 0x41}, int64(g.next(60000))), 0x0b)
			}
		}
		data = append(data, append(s, str("some data of a segment"[:g.next(22)])...))
	}
	for i := 1; i < len(g.funcs); i++ {
		b := g.body(i, mutate)
		bodies = append(bodies, append(uleb(nil, uint64(len(b))), b...))
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	out = append(out, sec(1, vec(types...))...)
	out = append(out, sec(2, vec(append(append(str("host"), str("note")...), 0, 0)))...)
	out = append(out, sec(3, vec(funcs...))...)
	out = append(out, sec(4, vec(append([]byte{rFuncRef, 1}, append(uleb(nil, uint64(len(elems)+2)), 20)...)))...)
	out = append(out, sec(5, []byte{1, 1, 1, 4})...)
	out = append(out, sec(6, vec([]byte{rI32, 1, 0x41, 7, 0x0b}, []byte{rI64, 1, 0x42, 9, 0x0b},
		[]byte{rF32, 1, 0x43, 0, 0, 0, 0x40, 0x0b}, []byte{rF64, 1, 0x44, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x0b},
		append(append([]byte{rV128, 1, 0xfd, 12}, make([]byte, 16)...), 0x0b)))...)
	out = append(out, sec(7, vec(exports...))...)
	out = append(out, sec(9, vec(append([]byte{0, 0x41, 0, 0x0b}, vec(elems...)...), append([]byte{1, 0}, vec(elems...)...)))...)
	out = append(out, sec(12, uleb(nil, uint64(g.data)))...)
	out = append(out, sec(10, vec(bodies...))...)
	return append(out, sec(11, vec(data...))...)
}

func (g *randomModule) body(i int, mutate bool) []byte {
	t := g.types[g.funcs[i]]
	g.fn, g.b, g.budget = i, nil, 20+g.next(150)
	g.locals = append([]byte(nil), t.params...)
	for range g.next(6) {
		g.locals = append(g.locals, g.someType())
	}
	g.hidden = len(g.locals)
	g.labels = [][]byte{t.results}
	g.drops = mutate
	g.sequence(t.results)
	g.op(0x0b)
	var groups [][]byte
	for _, l := range g.locals[len(t.params):] {
		groups = append(groups, []byte{1, l})
	}
	return append(vec(groups...), g.b...)
}

// sequence writes some statements, then values of the types.
func (g *randomModule) sequence(results []byte) {
	for range 1 + g.next(5) {
		if g.budget <= 0 {
			break
		}
		g.statement()
	}
	for _, t := range results {
		g.expr(t, 3)
	}
	if g.chance(24) { // the end is out of reach
		g.op([]byte{0x00}...)
		if g.chance(2) {
			for _, t := range results {
				g.expr(t, 1)
			}
		}
	}
}

func (g *randomModule) local(t byte, max int) (int, bool) {
	from := g.next(max + 1)
	for i := range max {
		if at := (from + i) % max; g.locals[at] == t {
			return at, true
		}
	}
	return 0, false
}

func (g *randomModule) blockType(results []byte) {
	for i, t := range g.types {
		if len(t.params) == 0 && string(t.results) == string(results) {
			g.b = sleb(g.b, int64(i))
			return
		}
	}
	switch len(results) {
	case 0:
		g.op(0x40)
	case 1:
		g.op(results[0])
	}
}

func (g *randomModule) blockResults() []byte {
	t := g.types[g.next(len(g.types))]
	if len(t.params) == 0 {
		return t.results
	}
	if g.chance(2) {
		return nil
	}
	return []byte{g.someType()}
}

func (g *randomModule) dropAll(n int) {
	for range n {
		g.op(0x1a)
	}
}
