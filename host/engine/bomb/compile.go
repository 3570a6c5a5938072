package bomb

// Compile returns modules that the forge accepts, or accepted when they were written, and of which each byte costs the compiler much: what
// they take grows faster than they do. They are no guests; compiling is all that there is to them.
func Compile() []Module {
	wide := wideType(1000, 1000)
	return []Module{
		{Name: "calls of 1,000 values for 1,000", Wasm: module(section(1, cat(leb(1), wide)), section(3, []byte{1, 0}),
			section(10, leb(1), sized(cat([]byte{0}, repeat(1000, 0x41, 0), repeat(400, 0x10, 0), []byte{0x0b}))))},
		{Name: "br_table of 4,000 targets, 1,000 values", Wasm: typed(cat(leb(2), []byte{0x60, 0, 0}, wideType(0, 1000)),
			cat([]byte{0, 0x02, 1}, repeat(1000, 0x41, 0), []byte{0x41, 0, 0x0e}, leb(4000), make([]byte, 4001), []byte{0x0b}, repeat(1000, 0x1a), []byte{0x0b}))},
		{Name: "blocks of 1,000 values", Wasm: typed(cat(leb(2), []byte{0x60, 0, 0}, wide),
			cat([]byte{0}, repeat(1000, 0x41, 0), repeat(1000, 0x02, 1, 0x0b), repeat(1000, 0x1a), []byte{0x0b}))},
		{Name: "ifs of 1,000 values", Wasm: typed(cat(leb(2), []byte{0x60, 0, 0}, wide),
			cat([]byte{0}, repeat(1000, 0x41, 0), repeat(1000, 0x41, 1, 0x04, 1, 0x05, 0x0b), repeat(1000, 0x1a), []byte{0x0b}))},
		{Name: "800 functions of 5,000 locals", Wasm: functions(800, []byte{1, 0x88, 0x27, 0x7e, 0x0b})},
		{Name: "4,000 functions, 4,000 globals", Wasm: module(types, section(3, leb(4000), make([]byte, 4000)),
			section(6, leb(4000), repeat(4000, 0x7f, 1, 0x41, 0, 0x0b)), section(10, leb(4000), repeat(4000, 2, 0, 0x0b)))},
		{Name: "4,000 vector globals", Wasm: module(section(6, leb(4000), repeat(4000, cat([]byte{0x7b, 1, 0xfd, 12}, make([]byte, 16), []byte{0x0b})...)))},
		{Name: "15,000 br_ifs", Wasm: function(cat([]byte{1, 1, 0x7f, 0x02, 0x40}, repeat(15_000, 0x20, 0, 0x0d, 0), []byte{0x0b, 0x0b}))},
		{Name: "1,000 loops inside one another, 2,000 locals", Wasm: function(loops(1000))},
		{Name: "br_tables of 1,000 targets", Wasm: function(cat([]byte{0}, repeat(40, cat([]byte{0x02, 0x40, 0x41, 0, 0x0e}, leb(1000), make([]byte, 1001),
			[]byte{0x0b})...), []byte{0x0b}))},
		{Name: "conversions that trap", Wasm: function(cat([]byte{2, 1, 0x7f, 1, 0x7c}, repeat(12_000, 0x20, 1, 0xaa, 0x21, 0), []byte{0x0b}))},
		{Name: "40,000 functions", Wasm: functions(40_000, []byte{0, 0x0b})},
		{Name: "additions", Wasm: function(cat([]byte{1, 1, 0x7f}, repeat(20_000, 0x20, 0, 0x41, 1, 0x6a, 0x21, 0), []byte{0x0b}))},
	}
}

// loops is a body of n loops inside one another, each of which writes a local and branches.
func loops(n int) []byte {
	b := cat([]byte{1}, leb(2000), []byte{0x7f})
	for i := range n {
		b = cat(b, []byte{0x03, 0x40, 0x20, 0, 0x21}, leb(i%2000))
	}
	return cat(b, repeat(n, 0x20, 0, 0x0d, 0, 0x0b), []byte{0x0b})
}

// typed is a module of one function of type 0 of the types given.
func typed(types, body []byte) []byte {
	return module(section(1, types), section(3, []byte{1, 0}), section(10, leb(1), sized(body)))
}

// wideType takes n i32 and returns m.
func wideType(n, m int) []byte {
	return cat([]byte{0x60}, leb(n), repeat(n, 0x7f), leb(m), repeat(m, 0x7f))
}
