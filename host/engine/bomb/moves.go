package bomb

// Moving is a module whose export "run" goes so many rounds, in each of which that many values at least move from place to place without an
// instruction that says so.
type Moving struct {
	Name   string
	Values int
	Wasm   []byte
}

// Moves returns them, all of n values.
func Moves(n int) []Moving {
	wide := cat([]byte{0x60}, leb(n), repeat(n, 0x7e), leb(n), repeat(n, 0x7e))
	// run is a loop over its parameter, local 0, in a block, and then code that is to have a use for what moved; other locals are i64.
	run := func(locals, globals int, round, use []byte) []byte {
		return module(
			section(1, []byte{3, 0x60, 1, 0x7f, 0}, wide, []byte{0x60, 0, 0}),
			section(3, []byte{3, 0, 1, 2}),
			section(4, []byte{1, 0x70, 0, 32}),
			section(6, leb(globals), repeat(globals, 0x7e, 1, 0x42, 0, 0x0b)),
			section(7, []byte{1}, name("run"), []byte{0, 0}),
			section(9, []byte{1, 0, 0x41, 0, 0x0b, 1, 1}),
			section(10, []byte{3},
				sized(cat([]byte{1}, leb(locals), []byte{0x7e, 0x02, 0x40, 0x03, 0x40}, round, []byte{0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x0b}, use, []byte{0x0b})),
				sized(cat([]byte{0}, each(0x20, 0, n), []byte{0x0b})),
				sized([]byte{0, 0x0b})))
	}
	call := func(call ...byte) []byte { return cat(repeat(n, 0x42, 0), call, repeat(n, 0x1a)) }
	sum := func(op byte, from, n int) []byte { return cat(each(op, from, n), repeat(n-1, 0x7c), []byte{0x1a}) }
	blocks := cat(repeat(n/20, 0x02, 0x40), []byte{0x41, 0, 0x0e}, leb(n/20-1))
	for i := range n / 20 {
		blocks = cat(blocks, leb(i))
	}
	return []Moving{
		{"to the head of a loop", n, run(n, 0, rotate(n), sum(0x20, 1, n))},
		{"to a loop that reads none of them", n, run(n+1, 0, cat([]byte{0x20, 0, 0x41, 1, 0x46, 0x0d, 1}, copies(n)), sum(0x20, 1, n))},
		{"on a way that sets none of them", 2 * n, run(n, 0, cat([]byte{0x02, 0x40, 0x20, 0, 0x0d, 0}, rotate(n), []byte{0x0b}), sum(0x20, 1, n))},
		{"around an if", 2 * n, run(n, 0, cat([]byte{0x20, 0, 0x45, 0x04, 0x40}, rotate(n), []byte{0x0b}), sum(0x20, 1, n))},
		{"through the ends of blocks", n, run(20, 0, cat(blocks, repeat(n/20, cat([]byte{0x0b}, rotate(20))...)), sum(0x20, 1, 20))},
		{"to a function and back", 2 * n, run(0, 0, call(0x10, 1), nil)},
		{"through a table and back", 2 * n, run(0, 0, call(0x41, 0, 0x11, 1, 0), nil)},
		{"from globals, behind a call", n, run(0, n, []byte{0x10, 2}, sum(0x23, 0, n))},
	}
}

// Restless is a guest whose turn turns n locals around for ever.
func Restless(n int) []byte {
	const desc = "\xa2\x63abi\x82\x01\x00\x65kinds\x81\xa2\x64name\x6dhostile_moves\x66events\x81\x64call"
	return module(
		section(1, []byte{3, 0x60, 0, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 1, 0x7e}),
		section(3, []byte{3, 0, 1, 2}),
		section(5, []byte{1, 0, 1}),
		section(7, cat([]byte{4}, name("memory"), []byte{2, 0}, name("wasilo_describe"), []byte{0, 0}, name("wasilo_inbox"), []byte{0, 1},
			name("wasilo_turn"), []byte{0, 2})),
		section(10, []byte{3},
			sized([]byte{0, 0x42, byte(len(desc)), 0x0b}),
			sized([]byte{0, 0x41, 0x80, 0x20, 0x0b}), // 4096
			// While the parameter is not 0; it is the address of a message.
			sized(cat([]byte{1}, leb(n), []byte{0x7e, 0x03, 0x40}, rotate(n), []byte{0x20, 0, 0x0d, 0, 0x0b}, each(0x20, 1, n), repeat(n-1, 0x7c), []byte{0x0b}))),
		section(11, cat([]byte{1, 0, 0x41, 0, 0x0b}, name(desc))))
}

// rotate turns the locals from 1 to n around.
func rotate(n int) []byte {
	b := []byte{0x20, 1}
	for i := 1; i < n; i++ {
		b = cat(b, []byte{0x20}, leb(i+1), []byte{0x21}, leb(i))
	}
	return cat(b, []byte{0x21}, leb(n))
}

// copies sets the locals from 1 to n to the one behind them.
func copies(n int) (b []byte) {
	for i := range n {
		b = cat(b, []byte{0x20}, leb(n+1), []byte{0x21}, leb(i+1))
	}
	return b
}

// each is an instruction on each of n indices.
func each(op byte, from, n int) (b []byte) {
	for i := range n {
		b = cat(b, []byte{op}, leb(from+i))
	}
	return b
}
