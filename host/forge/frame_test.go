package forge

import (
	"bytes"
	"testing"
)

// TestFrameValues: what has a place in the frame, beside the frameValues that every function has. The function takes an i32 and
// returns one, and has two locals; the other that it calls takes and returns nothing.
func TestFrameValues(t *testing.T) {
	call := []byte{0x10, 1}
	get := func(local byte) []byte { return []byte{0x20, local} }                         // and one of i32
	set := func(local byte) []byte { return []byte{0x20, 0, 0x41, 1, 0x6a, 0x21, local} } // to the parameter and one
	body := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	op := func(b ...byte) []byte { return b }
	sum := func(n int) []byte {
		return body(bytes.Repeat([]byte{0x20, 0, 0x45}, n), bytes.Repeat([]byte{0x6a}, n-1))
	}
	for _, test := range []struct {
		name string
		want int
		code []byte
	}{
		{"nothing", 0, op(0x41, 0)},
		{"a parameter", 1, get(0)},
		{"a parameter, over a call", 1, body(call, get(0))},
		{"a local that nobody reads", 1, body(set(1), call, get(0))},
		{"a local, over a call", 2, body(set(1), call, get(1))},
		{"a local, not over a call", 1, body(call, set(1), get(1))},
		{"a local that is set twice, over two calls", 3, body(set(1), call, get(1), op(0x1a), set(1), call, get(1))},
		{"a local that is set again behind the call", 1, body(set(1), call, set(1), get(1))},
		{"an operand, over a call", 2, body(get(0), call)},
		{"in one of two ways, over a call behind them", 2, body(set(1), get(0), op(0x04, 0x40), set(1), op(0x0b), call, get(1))},
		{"in both ways", 2, body(get(0), op(0x04, 0x40), set(1), op(0x05), set(1), op(0x0b), call, get(1))},
		{"in none", 2, body(set(1), get(0), op(0x04, 0x40), set(2), op(0x0b), call, get(1))},
		{"in a way that does not come there", 2, body(set(1), get(0), op(0x04, 0x40), set(1), op(0x00, 0x0b), call, get(1))},
		{"on two branches of one br_table", 2, body(set(1), op(0x02, 0x40, 0x02, 0x40), get(0), op(0x0e, 1, 0, 1, 0x0b, 0x0b), call, get(1))},
		{"from a loop to the next round", 1 + loopValues + 1, body(set(1), op(0x03, 0x40), get(1), op(0x41, 1, 0x6a, 0x22, 1, 0x0d, 0, 0x0b), get(0))},
		{"as many operands as there are registers", 1, sum(frameInts - 2)},
		{"two more: all but the last", 1 + frameInts + 1, sum(frameInts + 2)},
	} {
		code := append([]byte{1, 2, 0x7f}, append(test.code, 0x0b)...)
		wasm := append([]byte("\x00asm\x01\x00\x00\x00"), 1, 9, 2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 0, 0, 3, 3, 2, 0, 1, 10, byte(len(code)+5), 2, byte(len(code)))
		m, err := decode(append(append(wasm, code...), 2, 0, 0x0b), Limits{}.withDefaults(), true)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if have := m.bodies[0].info.values - frameValues; have != test.want {
			t.Errorf("%s: %d values have a place, want %d", test.name, have, test.want)
		}
	}
}
