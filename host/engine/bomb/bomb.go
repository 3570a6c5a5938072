// Package bomb writes modules that are hostile by what they are, where the text format cannot say it or would be large: lengths that
// lie, indices of what the forge adds, numbers and depths beyond reason. Tests of the engine and the benchmark load them; nothing else
// imports this.
package bomb

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Module is one of them.
type Module struct {
	Name string
	// Words are part of the error by which it is refused.
	Words string
	Wasm  []byte
}

// All returns them. It takes some milliseconds.
func All() []Module {
	return []Module{
		{"nesting", "blocks nested deeper than 4000", function(cat([]byte{0}, repeat(100_000, 0x02, 0x40), repeat(100_001, 0x0b)))},
		{"nesting in many functions", "blocks and branches on the whole", functions(100, cat([]byte{0}, repeat(3000, 0x02, 0x40), repeat(3001, 0x0b)))},
		{"branches", "blocks and branches", function(cat([]byte{0}, repeat(20_000, 0x41, 0, 0x0d, 0), []byte{0x0b}))},
		{"giant locals", "more than 5000 locals", function(cat([]byte{1}, leb(1<<32-1), []byte{0x7f, 0x0b}))},
		{"giant br_table", "70000 targets of a br_table", function(cat([]byte{0, 0x41, 0, 0x0e}, leb(70_000), make([]byte, 70_001), []byte{0x0b}))},
		{"functions", "300000 functions", functions(300_000, []byte{0, 0x0b})},
		{"globals", "globals, at most", module(section(6, leb(200_000), repeat(200_000, 0x7f, 1, 0x41, 0, 0x0b)))},
		{"exports", "exports, at most", module(types, section(3, []byte{1, 0}), section(7, leb(150_000), repeat(150_000, 1, 'x', 0, 0)),
			section(10, leb(1), sized([]byte{0, 0x0b})))},
		{"fuel by its index", "unknown global 0", function([]byte{0, 0x42, 0, 0x24, 0, 0x0b})},
		{"stack by its index", "unknown global 1", module(types, section(3, []byte{1, 0}), section(6, []byte{1, 0x7e, 1, 0x42, 0, 0x0b}),
			section(10, leb(1), sized([]byte{0, 0x42, 0, 0x24, 1, 0x0b})))},
		{"refill by its index", "unknown function 1", function([]byte{0, 0x10, 1, 0x0b})},
		{"refill in a table", "unknown function 1", module(types, section(3, []byte{1, 0}), section(4, []byte{1, 0x70, 0, 1}),
			section(9, []byte{1, 0, 0x41, 0, 0x0b, 1, 1}), section(10, leb(1), sized([]byte{0, 0x0b})))},
		{"fuel by its name", "reserved", module(section(2, cat([]byte{1}, name("wasilo_forge"), name("refill"), []byte{0, 0})))},
		{"fuel exported", "reserved", module(section(6, []byte{1, 0x7e, 1, 0x42, 0, 0x0b}),
			section(7, cat([]byte{1}, name("wasilo_forge_fuel"), []byte{3, 0})))},
		{"lying section", "section", []byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f\x00")},
		{"lying count of types", "types are declared", module(section(1, leb(1<<32-1)))},
		{"lying count of parameters", "parameters are declared, only", module(section(1, []byte{1, 0x60}, leb(1<<32-1)))},
		{"lying body", "only", module(types, section(3, []byte{1, 0}), section(10, []byte{1}, leb(1<<31), []byte{0, 0x0b}))},
		{"lying count of bodies", "", module(types, section(3, []byte{1, 0}), section(10, leb(1<<30)))},
		{"lying data", "", module(section(5, []byte{1, 0, 1}), section(11, []byte{1, 0, 0x41, 0, 0x0b}, leb(1<<32-1), []byte{0}))},
		{"lying elements", "", module(section(4, []byte{1, 0x70, 0, 1}), section(9, []byte{1, 0, 0x41, 0, 0x0b}, leb(1<<31)))},
		{"lying name", "a name of", module(section(7, []byte{1}, leb(1<<31), []byte{0}))},
		{"an endless number", "more bytes than", []byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff")},
		{"an import of a megabyte", "it imports wasilo_1.n", module(types,
			section(2, cat([]byte{1}, name("wasilo_1"), name(strings.Repeat("n\n", 1<<19)), []byte{0, 0})))},
	}
}

// LongNames is a guest of the kind given whose functions have names of a megabyte, with line feeds. Its turn traps thirty calls deep.
func LongNames(kind string) []byte {
	desc := cat([]byte("\xa2\x63abi\x82\x01\x00\x65kinds\x81\xa2\x64name"), []byte{0x78, byte(len(kind))}, []byte(kind), []byte("\x66events\x81\x64call"))
	long := strings.Repeat("x\n\x1b[31m", 1<<17)
	names := cat([]byte{4})
	for i := range 4 {
		names = cat(names, leb(i), name(long))
	}
	return module(
		section(1, []byte{4, 0x60, 0, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 1, 0x7e, 0x60, 1, 0x7f, 0}),
		section(3, []byte{4, 0, 1, 2, 3}),
		section(5, []byte{1, 0, 1}),
		section(7, cat([]byte{4}, name("memory"), []byte{2, 0}, name("wasilo_describe"), []byte{0, 0}, name("wasilo_inbox"), []byte{0, 1},
			name("wasilo_turn"), []byte{0, 2})),
		section(10, cat([]byte{4},
			sized(cat([]byte{0, 0x42}, signed(len(desc)), []byte{0x0b})),
			sized([]byte{0, 0x41, 0x80, 0x20, 0x0b}),                                                      // 4096
			sized([]byte{0, 0x41, 30, 0x10, 3, 0x42, 0, 0x0b}),                                            // 30 calls
			sized([]byte{0, 0x20, 0, 0x45, 0x04, 0x40, 0, 0x0b, 0x20, 0, 0x41, 1, 0x6b, 0x10, 3, 0x0b}))), // traps at 0
		section(11, cat([]byte{1, 0, 0x41, 0, 0x0b}, sized(desc))),
		section(0, cat(name("name"), []byte{1}, sized(names))))
}

// Recursion exports a function "run" that calls one for ever that takes and returns so many values, and a global "depth" of its calls.
func Recursion(params, results int, vectors, indirect bool) []byte {
	value, zero := byte(0x7e), []byte{0x42, 0}
	if vectors {
		value, zero = 0x7b, cat([]byte{0xfd, 12}, make([]byte, 16))
	}
	call, args := []byte{0x10, 0}, []byte{}
	if indirect {
		call = []byte{0x41, 0, 0x11, 0, 0}
	}
	for i := range params {
		args = cat(args, []byte{0x20}, leb(i))
	}
	return module(
		section(1, []byte{2, 0x60}, leb(params), repeat(params, value), leb(results), repeat(results, value), []byte{0x60, 0, 0}),
		section(3, []byte{2, 0, 1}),
		section(4, []byte{1, 0x70, 0, 32}),
		section(6, []byte{1, 0x7e, 1, 0x42, 0, 0x0b}),
		section(7, []byte{2}, name("depth"), []byte{3, 0}, name("run"), []byte{0, 1}),
		section(9, []byte{1, 0, 0x41, 0, 0x0b, 1, 0}),
		section(10, []byte{2}, sized(cat([]byte{0, 0x23, 0, 0x42, 1, 0x7c, 0x24, 0}, args, call, []byte{0x0b})),
			sized(cat([]byte{0}, bytes.Repeat(zero, params), []byte{0x10, 0}, repeat(results, 0x1a), []byte{0x0b}))))
}

// Spilling returns a module whose run calls a function that counts its calls in depth and calls itself without end; behind that call stand
// so many groups of 40 values each. A frame of it grows with each group, though no more than 40 operands are there at a time.
func Spilling(groups int) []byte {
	b := []byte{0, 0x23, 0, 0x42, 1, 0x7c, 0x24, 0, 0x20, 0, 0x10, 0, 0x21, 0}
	for range groups {
		for i := range 40 {
			b = cat(b, []byte{0x20, 0, 0x42, byte(i), 0x7c})
		}
		b = cat(b, repeat(39, 0x85), []byte{0x21, 0})
	}
	return Recursive(cat(b, []byte{0x20, 0, 0x0b}))
}

// Recursive returns a module whose run calls a function of the body that is given, which takes an i64 and returns one, and finds in
// global 0, depth, an i64. Function 2 returns an i64, function 3 takes 12 of them and returns one; there is a memory.
func Recursive(body []byte) []byte {
	return module(
		section(1, []byte{4, 0x60, 1, 0x7e, 1, 0x7e, 0x60, 0, 0, 0x60, 0, 1, 0x7e, 0x60, 12}, repeat(12, 0x7e), []byte{1, 0x7e}),
		section(3, []byte{4, 0, 1, 2, 3}),
		section(5, []byte{1, 0, 1}),
		section(6, []byte{1, 0x7e, 1, 0x42, 0, 0x0b}),
		section(7, []byte{2}, name("depth"), []byte{3, 0}, name("run"), []byte{0, 1}),
		section(10, []byte{4}, sized(body), sized([]byte{0, 0x42, 7, 0x10, 0, 0x1a, 0x0b}), sized([]byte{0, 0x42, 1, 0x0b}), sized([]byte{0, 0x20, 3, 0x0b})))
}

// types has one type, of no parameters and results.
var types = section(1, []byte{1, 0x60, 0, 0})

func function(body []byte) []byte { return functions(1, body) }

func functions(n int, body []byte) []byte {
	return module(types, section(3, leb(n), make([]byte, n)), section(10, leb(n), bytes.Repeat(sized(body), n)))
}

func module(sections ...[]byte) []byte {
	return cat([]byte("\x00asm\x01\x00\x00\x00"), cat(sections...))
}

func section(id byte, content ...[]byte) []byte { return cat([]byte{id}, sized(cat(content...))) }

func sized(b []byte) []byte { return cat(leb(len(b)), b) }

func name(s string) []byte { return sized([]byte(s)) }

func leb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// signed is a LEB128 of a small number that is not negative.
func signed(n int) []byte { return []byte{byte(n)&0x7f | 0x80, byte(n >> 7)} }

func cat(b ...[]byte) []byte { return bytes.Join(b, nil) }

func repeat(n int, b ...byte) []byte { return bytes.Repeat(b, n) }
