package bomb

import "bytes"

// Compile returns modules of which each byte costs the compiler much: what they take grows faster than they do. Those that have Words
// are refused by the forge; the others are what remains. They are no guests;
// compiling is all that there is to them.
func Compile() []Module {
	wide := wideType(1000, 1000)
	stack := func(n int, b ...byte) []byte { return cat([]byte{1, 1, 0x7f}, repeat(n, 0x20, 0, 0x28, 0, 0), b) }
	return []Module{
		{Name: "calls of 1,000 values for 1,000", Words: "values together", Wasm: module(section(1, cat(leb(1), wide)), section(3, []byte{1, 0}),
			section(10, leb(1), sized(cat([]byte{0}, repeat(1000, 0x41, 0), repeat(400, 0x10, 0), []byte{0x0b}))))},
		{Name: "br_table of 4,000 targets, 1,000 values", Words: "values together", Wasm: typed(cat(leb(2), []byte{0x60, 0, 0}, wideType(0, 1000)),
			cat([]byte{0, 0x02, 1}, repeat(1000, 0x41, 0), []byte{0x41, 0, 0x0e}, leb(4000), make([]byte, 4001), []byte{0x0b}, repeat(1000, 0x1a), []byte{0x0b}))},
		{Name: "blocks of 1,000 values", Words: "values together", Wasm: typed(cat(leb(2), []byte{0x60, 0, 0}, wide),
			cat([]byte{0}, repeat(1000, 0x41, 0), repeat(1000, 0x02, 1, 0x0b), repeat(1000, 0x1a), []byte{0x0b}))},
		{Name: "ifs of 1,000 values", Words: "values together", Wasm: typed(cat(leb(2), []byte{0x60, 0, 0}, wide),
			cat([]byte{0}, repeat(1000, 0x41, 0), repeat(1000, 0x41, 1, 0x04, 1, 0x05, 0x0b), repeat(1000, 0x1a), []byte{0x0b}))},
		{Name: "4,000 functions of 5,000 locals", Words: "locals and parameters", Wasm: functions(4000, []byte{1, 0x88, 0x27, 0x7e, 0x0b})},
		{Name: "1,000 calls, 1,000 globals", Words: "calls × mutable globals", Wasm: globals(1, 1000, cat([]byte{0}, repeat(1000, 0x10, 0), []byte{0x0b}))},
		{Name: "4,000 functions, 4,000 globals", Words: "calls × mutable globals", Wasm: globals(4000, 4000, []byte{0, 0x0b})},
		{Name: "4,000 vector globals, which are no image", Wasm: module(section(6, leb(4000), repeat(4000, cat([]byte{0x7b, 1, 0xfd, 12}, make([]byte, 16), []byte{0x0b})...)))},
		{Name: "20,000 functions, 8,000 types", Words: "functions × types, globals", Wasm: module(section(1, leb(8000), repeat(8000, 0x60, 0, 0)),
			section(3, leb(20_000), make([]byte, 20_000)), section(10, leb(20_000), repeat(20_000, 2, 0, 0x0b)))},
		{Name: "10,000 functions behind a br_table of 60,000", Words: "behind one with many branches", Wasm: module(types, section(3, leb(10_001), make([]byte, 10_001)),
			section(10, leb(10_001), sized(cat([]byte{0, 0x41, 0, 0x0e}, leb(60_000), make([]byte, 60_001), []byte{0x0b})), repeat(10_000, 2, 0, 0x0b)))},
		{Name: "a br_table of 40,000 behind 8,000 ifs", Words: "blocks and branches", Wasm: function(cat([]byte{1, 1, 0x7f}, repeat(8000, 0x20, 0, 0x04, 0x40, 0x0b),
			[]byte{0x41, 0, 0x0e}, leb(40_000), make([]byte, 40_001), []byte{0x0b}))},
		{Name: "15,000 br_ifs", Words: "blocks and branches", Wasm: function(cat([]byte{1, 1, 0x7f, 0x02, 0x40}, repeat(15_000, 0x20, 0, 0x0d, 0), []byte{0x0b, 0x0b}))},
		{Name: "1,000 loops inside one another, 2,000 locals", Words: "blocks and branches", Wasm: function(loops(1000, 2000))},
		{Name: "100 loops inside one another, 1,000 locals", Words: "too many loops", Wasm: function(loops(100, 1000))},
		{Name: "700 locals behind 700 br_ifs", Words: "searching for what they hold", Wasm: function(meeting(700, 700))},
		{Name: "8,000 addresses over 4,000 br_ifs", Words: "values held over", Wasm: inMemory(cat([]byte{1, 1, 0x7f, 0x20, 0}, repeat(8000, 0x28, 0, 0),
			[]byte{0x1a, 0x02, 0x40}, repeat(4000, 0x20, 0, 0x0d, 0), []byte{0x0b, 0x0b}))},
		{Name: "4,000 values over 4,000 ifs", Words: "values held over", Wasm: inMemory(cat(stack(4000), repeat(4000, 0x20, 0, 0x04, 0x40, 0x0b), repeat(3999, 0x6a),
			[]byte{0x1a, 0x0b}))},
		{Name: "1,000 loops one behind the other, 60 locals", Words: "loops one behind the other", Wasm: inMemory(chain(1000, 60, 0))},
		{Name: "6,000 ifs behind 100 loops, 120 locals", Words: "loops one behind the other", Wasm: inMemory(chain(100, 120, 6000))},
		{Name: "4,000 blocks, 4,900 locals set in them, a br_table to each", Words: "following them takes", Wasm: function(leaving(3990, 3990, 4900, 1))},
		{Name: "300 blocks, 400 locals set in each, br_tables to them", Words: "following them takes", Wasm: function(leaving(300, 1, 400, 80))},
		{Name: "one way out of blocks of 100,000 sets for each of 8,000 br_ifs", Words: "following them takes", Wasm: function(cat(leaving(20, 1, 4900, 0),
			repeat(8000, 0x41, 0, 0x0d, 19), repeat(21, 0x0b)))},
		{Name: "40,000 globals, 60,000 calls", Words: "following them takes", Wasm: manyGlobals(40_000, cat(repeat(10, 0x03, 0x40), repeat(60_000, 0x10, 0)),
			repeat(10, 0x41, 0, 0x0d, 0, 0x0b), 0)},
		{Name: "40,000 globals in one function, 80,000 of one", Words: "functions × types, globals", Wasm: manyGlobals(40_000, nil, nil, 80_000)},
		{Name: "2,000,000 nops in one function", Words: "split it", Wasm: function(cat([]byte{0}, repeat(2_000_000, 0x01), []byte{0x0b}))},
		{Name: "4,000 segments that are dropped", Words: "calls × mutable globals", Wasm: segments(4000)},
		{Name: "100,000 calls through a table in one function", Words: "split it", Wasm: indirect(100_000)},
		{Name: "30,000 calls through a table in one function", Wasm: indirect(30_000)},
		{Name: "200 functions of 5,000 locals", Wasm: functions(200, []byte{1, 0x88, 0x27, 0x7e, 0x0b})},
		{Name: "250 calls of 1,000 values for 1,000", Wasm: module(section(1, cat(leb(1), wide)), section(3, []byte{1, 0}),
			section(10, leb(1), sized(cat([]byte{0}, repeat(1000, 0x41, 0), repeat(250, 0x10, 0), []byte{0x0b}))))},
		{Name: "75 loops inside one another, 100 locals", Wasm: function(loops(75, 100))},
		{Name: "250 locals behind 250 br_ifs", Wasm: function(meeting(250, 250))},
		{Name: "120 values over 8,000 ifs", Wasm: inMemory(cat(stack(120), repeat(8000, 0x20, 0, 0x04, 0x40, 0x0b), repeat(119, 0x6a), []byte{0x1a, 0x0b}))},
		{Name: "a br_table of 4,000 behind 6,000 ifs", Wasm: function(cat([]byte{1, 1, 0x7f}, repeat(6000, 0x20, 0, 0x04, 0x40, 0x0b),
			[]byte{0x41, 0, 0x0e}, leb(4000), make([]byte, 4001), []byte{0x0b}))},
		{Name: "br_tables of 1,000 targets", Wasm: function(cat([]byte{0}, repeat(40, cat([]byte{0x02, 0x40, 0x41, 0, 0x0e}, leb(1000), make([]byte, 1001),
			[]byte{0x0b})...), []byte{0x0b}))},
		{Name: "conversions that trap", Wasm: function(cat([]byte{2, 1, 0x7f, 1, 0x7c}, repeat(12_000, 0x20, 1, 0xaa, 0x21, 0), []byte{0x0b}))},
		{Name: "150 loops one behind the other, 60 locals", Wasm: inMemory(chain(150, 60, 0))},
		{Name: "2,000 groups of 40 values that do not fit in registers", Wasm: inMemory(spilling(2000, 40))},
		{Name: "40,000 functions", Wasm: functions(40_000, []byte{0, 0x0b})},
		{Name: "additions", Wasm: function(cat([]byte{1, 1, 0x7f}, repeat(20_000, 0x20, 0, 0x41, 1, 0x6a, 0x21, 0), []byte{0x0b}))},
	}
}

// loops is a body of n loops inside one another, within which m locals are read.
func loops(n, m int) []byte {
	b := cat([]byte{1}, leb(m), []byte{0x7f}, repeat(n, 0x03, 0x40))
	for i := range m {
		b = cat(b, []byte{0x20}, leb(i), []byte{0x1a})
	}
	return cat(b, repeat(n, 0x20, 0, 0x0d, 0, 0x0b), []byte{0x0b})
}

// chain is a body of n loops one behind the other, each of which moves m locals on, and ifs behind them.
func chain(n, m, ifs int) []byte {
	b := cat([]byte{1}, leb(m+1), []byte{0x7f})
	for i := range m {
		b = cat(b, []byte{0x41, 0, 0x28, 0}, leb(4*i), []byte{0x21}, leb(i))
	}
	loop := cat([]byte{0x03, 0x40, 0x20, 0, 0x21}, leb(m))
	for i := range m {
		loop = cat(loop, []byte{0x20}, leb(i+1), []byte{0x21}, leb(i))
	}
	b = cat(b, repeat(n, cat(loop, []byte{0x41, 0, 0x28, 0, 0, 0x0d, 0, 0x0b})...), repeat(ifs, 0x20, 0, 0x04, 0x40, 0x0b), []byte{0x41, 0, 0x41, 0})
	for i := range m {
		b = cat(b, []byte{0x20}, leb(i), []byte{0x73})
	}
	return cat(b, []byte{0x36, 0, 0, 0x0b})
}

// leaving is a body of n blocks, m of whose locals are set behind the head of every step-th, and br_tables to all of them. Without those
// the blocks are left open.
func leaving(n, step, m, tables int) []byte {
	sets := []byte{0x41, 0}
	for i := range m {
		sets = cat(sets, []byte{0x22}, leb(i))
	}
	b := cat([]byte{1}, leb(4900), []byte{0x7f}, repeat(n/step, cat(repeat(step, 0x02, 0x40), sets, []byte{0x1a})...))
	if tables == 0 {
		return b
	}
	table := cat([]byte{0x02, 0x40, 0x41, 0, 0x0e}, leb(n))
	for i := range n + 1 {
		table = cat(table, leb(i))
	}
	return cat(b, repeat(tables, cat(table, []byte{0x0b})...), repeat(n+1, 0x0b))
}

// manyGlobals has a function that reads n of them between what is given, and as many more functions as are said, which read one.
func manyGlobals(n int, begin, end []byte, more int) []byte {
	b := cat([]byte{0}, begin)
	for i := range n {
		b = append(append(append(b, 0x23), leb(i)...), 0x1a)
	}
	return module(types, section(3, leb(more+1), make([]byte, more+1)), section(6, leb(n), repeat(n, 0x7f, 0, 0x41, 0, 0x0b)),
		section(10, leb(more+1), sized(cat(b, end, []byte{0x0b})), repeat(more, 5, 0, 0x23, 0, 0x1a, 0x0b)))
}

// spilling is a body that computes m values n times, all of which are wanted at once.
func spilling(n, m int) []byte {
	var b []byte
	for i := range m {
		b = cat(b, []byte{0x20, 0, 0x41}, leb(i&63), []byte{0x6a})
	}
	return cat([]byte{1, 1, 0x7f}, repeat(n, cat(b, repeat(m-1, 0x73), []byte{0x21, 0})...), []byte{0x41, 0, 0x20, 0, 0x36, 0, 0, 0x0b})
}

// meeting is a body that reads m locals where n br_ifs meet.
func meeting(n, m int) []byte {
	b := cat([]byte{1}, leb(m), []byte{0x7f, 0x02, 0x40}, repeat(n, 0x20, 0, 0x0d, 0), []byte{0x0b})
	for i := range m {
		b = cat(b, []byte{0x20}, leb(i), []byte{0x1a})
	}
	return cat(b, []byte{0x0b})
}

// segments has n of them, each with a memory.init and a data.drop.
func segments(n int) []byte {
	b := []byte{0}
	for i := range n {
		b = cat(b, []byte{0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 8}, leb(i), []byte{0, 0xfc, 9}, leb(i))
	}
	return module(types, section(3, []byte{1, 0}), section(5, []byte{1, 0, 1}), section(12, leb(n)),
		section(10, leb(1), sized(cat(b, []byte{0x0b}))), section(11, leb(n), repeat(n, 1, 0)))
}

// indirect has a function of n calls through a table that is too small for the forge to take it away.
func indirect(n int) []byte {
	return module(types, section(3, []byte{1, 0}), section(4, []byte{1, 0x70, 0, 1}),
		section(10, leb(1), sized(cat([]byte{0}, repeat(n, 0x41, 0, 0x11, 0, 0), []byte{0x0b}))))
}

// globals has n functions and m mutable globals.
func globals(n, m int, body []byte) []byte {
	return module(types, section(3, leb(n), make([]byte, n)), section(6, leb(m), repeat(m, 0x7f, 1, 0x41, 0, 0x0b)),
		section(10, leb(n), bytes.Repeat(sized(body), n)))
}

// inMemory is a function of a module that has one.
func inMemory(body []byte) []byte {
	return module(types, section(3, []byte{1, 0}), section(5, []byte{1, 0, 1}), section(10, leb(1), sized(body)))
}

// typed is a module of one function of type 0 of the types given.
func typed(types, body []byte) []byte {
	return module(section(1, types), section(3, []byte{1, 0}), section(10, leb(1), sized(body)))
}

// wideType takes n i32 and returns m.
func wideType(n, m int) []byte {
	return cat([]byte{0x60}, leb(n), repeat(n, 0x7f), leb(m), repeat(m, 0x7f))
}
