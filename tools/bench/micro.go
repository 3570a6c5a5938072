package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
)

// microModule is the module of single instructions.
const microModule = "single"

// microCopies is how many times an instruction stands in its loop.
const microCopies = 128

// microOp is an instruction, or a few, whose cost is to be known.
type microOp struct {
	name   string
	params string // operands, a letter each: i32 is i, i64 I, f32 f, f64 F, v128 v
	result byte   // 0 for none
	code   []byte
}

const (
	tI32, tI64, tF32, tF64, tV128 = 0x7f, 0x7e, 0x7d, 0x7c, 0x7b
)

var microTypes = map[byte]byte{'i': tI32, 'I': tI64, 'f': tF32, 'F': tF64, 'v': tV128}

// microOps are one of each class of instructions that can cost differently.
func microOps() (ops []microOp) {
	add := func(name, params string, result byte, code ...byte) {
		ops = append(ops, microOp{name, params, result, code})
	}
	for _, t := range []struct {
		name            string
		letter          byte
		eqz, lt, clz    byte
		add, and, shift byte
	}{{"i32", 'i', 0x45, 0x49, 0x67, 0x6a, 0x71, 0x74}, {"i64", 'I', 0x50, 0x54, 0x79, 0x7c, 0x83, 0x86}} {
		two, one := strings.Repeat(string(t.letter), 2), string(t.letter)
		add(t.name+".eqz", one, 'i', t.eqz)
		add(t.name+".lt_u", two, 'i', t.lt)
		add(t.name+".clz", one, t.letter, t.clz)
		add(t.name+".ctz", one, t.letter, t.clz+1)
		add(t.name+".popcnt", one, t.letter, t.clz+2)
		add(t.name+".add", two, t.letter, t.add)
		add(t.name+".mul", two, t.letter, t.add+2)
		add(t.name+".div_s", two, t.letter, t.add+3)
		add(t.name+".div_u", two, t.letter, t.add+4)
		add(t.name+".rem_s", two, t.letter, t.add+5)
		add(t.name+".rem_u", two, t.letter, t.add+6)
		add(t.name+".and", two, t.letter, t.and)
		add(t.name+".shl", two, t.letter, t.shift)
		add(t.name+".rotl", two, t.letter, t.shift+3)
	}
	for _, t := range []struct {
		name          string
		letter        byte
		lt, abs, base byte
	}{{"f32", 'f', 0x5d, 0x8b, 0x8d}, {"f64", 'F', 0x63, 0x99, 0x9b}} {
		two, one := strings.Repeat(string(t.letter), 2), string(t.letter)
		add(t.name+".lt", two, 'i', t.lt)
		add(t.name+".abs", one, t.letter, t.abs)
		add(t.name+".ceil", one, t.letter, t.base)
		add(t.name+".nearest", one, t.letter, t.base+3)
		add(t.name+".sqrt", one, t.letter, t.base+4)
		add(t.name+".add", two, t.letter, t.base+5)
		add(t.name+".mul", two, t.letter, t.base+7)
		add(t.name+".div", two, t.letter, t.base+8)
		add(t.name+".min", two, t.letter, t.base+9)
		add(t.name+".copysign", two, t.letter, t.base+11)
	}
	add("i32.wrap_i64", "I", 'i', 0xa7)
	add("i64.extend_i32_u", "i", 'I', 0xad)
	add("i64.extend8_s", "I", 'I', 0xc2)
	add("i32.trunc_f64_s", "F", 'i', 0xaa)
	add("i32.trunc_f64_u", "F", 'i', 0xab)
	add("i64.trunc_f64_s", "F", 'I', 0xb0)
	add("i64.trunc_f64_u", "F", 'I', 0xb1)
	add("i32.trunc_sat_f64_s", "F", 'i', 0xfc, 2)
	add("i64.trunc_sat_f64_u", "F", 'I', 0xfc, 7)
	add("f64.convert_i32_s", "i", 'F', 0xb7)
	add("f64.convert_i64_u", "I", 'F', 0xba)
	add("f64.promote_f32", "f", 'F', 0xbb)
	add("i64.reinterpret_f64", "F", 'I', 0xbd)
	add("i32.load", "i", 'i', 0x28, 2, 8)
	add("i64.load", "i", 'I', 0x29, 3, 8)
	add("i32.load8_u", "i", 'i', 0x2d, 0, 8)
	add("f64.load", "i", 'F', 0x2b, 3, 8)
	add("v128.load", "i", 'v', 0xfd, 0, 4, 8)
	add("i32.store", "ii", 0, 0x36, 2, 8)
	add("i64.store", "iI", 0, 0x37, 3, 8)
	add("f64.store", "iF", 0, 0x39, 3, 8)
	add("memory.size", "", 'i', 0x3f, 0)
	add("global.get", "", 'i', 0x23, 0)
	add("global.set", "i", 0, 0x24, 0)
	add("select", "iii", 'i', 0x1b)
	add("select.f64", "FFi", 'F', 0x1b)
	add("table.get, ref.is_null", "", 'i', 0x41, 0, 0x25, 0, 0xd1)
	add("ref.func, table.set", "", 0, 0x41, 0, 0xd2, 0, 0x26, 0)
	add("call", "i", 'i', 0x10, 0)
	add("call_indirect", "i", 'i', 0x41, 0, 0x11, 0, 0)
	add("if, not taken", "i", 0, 0x45, 0x04, 0x40, 0x00, 0x0b)
	add("br_if, not taken", "i", 0, 0x45, 0x0d, 0)
	add("block, br_table", "i", 0, 0x02, 0x40, 0x02, 0x40, 0x20, 0, 0x0e, 1, 0, 1, 0x0b, 0x0b, 0x1a)
	add("block, br", "", 0, 0x02, 0x40, 0x0c, 0, 0x0b)
	add("i8x16.add", "vv", 'v', 0xfd, 0x6e)
	add("i8x16.swizzle", "vv", 'v', 0xfd, 0x0e)
	add("i32x4.add", "vv", 'v', 0xfd, 0xae, 1)
	add("i32x4.mul", "vv", 'v', 0xfd, 0xb5, 1)
	add("i64x2.mul", "vv", 'v', 0xfd, 0xd5, 1)
	add("i32x4.dot_i16x8_s", "vv", 'v', 0xfd, 0xba, 1)
	add("f32x4.add", "vv", 'v', 0xfd, 0xe4, 1)
	add("f64x2.div", "vv", 'v', 0xfd, 0xf3, 1)
	add("f64x2.sqrt", "v", 'v', 0xfd, 0xef, 1)
	add("f32x4.min", "vv", 'v', 0xfd, 0xe8, 1)
	add("v128.bitselect", "vvv", 'v', 0xfd, 0x52)
	add("i8x16.popcnt", "v", 'v', 0xfd, 0x62)
	add("i32x4.shl", "vi", 'v', 0xfd, 0xab, 1)
	add("i8x16.bitmask", "v", 'i', 0xfd, 0x64)
	add("i32x4.splat", "i", 'v', 0xfd, 0x11)
	add("i32x4.extract_lane", "v", 'i', 0xfd, 0x1b, 1)
	add("i32x4.trunc_sat_f32x4_s", "v", 'v', 0xfd, 0xf8, 1)
	add("memory.fill 16", "", 0, fill(16)...)
	add("memory.fill 1024", "", 0, fill(1024)...)
	add("memory.fill 32768", "", 0, fill(32768)...)
	add("memory.copy 16", "", 0, copied(16)...)
	add("memory.copy 1024", "", 0, copied(1024)...)
	add("memory.copy 32768", "", 0, copied(32768)...)
	return ops
}

func fill(n int64) []byte {
	return slices.Concat([]byte{0x41, 16, 0x41, 0, 0x41}, signed(n), []byte{0xfc, 0x0b, 0})
}

func copied(n int64) []byte {
	return slices.Concat([]byte{0x41}, signed(65536), []byte{0x41, 16, 0x41}, signed(n), []byte{0xfc, 0x0a, 0, 0})
}

// microBase are the loops that the others are compared with: no instruction, but what adds up the results.
var microBase = []byte{0, 'i', 'I', 'f', 'F', 'v'}

func unsigned(v uint64) []byte { return binary.AppendUvarint(nil, v) }

func signed(v int64) (b []byte) {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func sized(b []byte) []byte { return append(unsigned(uint64(len(b))), b...) }

// microKernels is a module with an export k_ for each of microOps, and k_none, k_i ... for what is the same in all.
func microKernels() []byte {
	list := func(items ...[]byte) []byte {
		return append(unsigned(uint64(len(items))), slices.Concat(items...)...)
	}
	section := func(id byte, body []byte) []byte { return append([]byte{id}, sized(body)...) }
	bodies := [][]byte{sized([]byte{0, 0x20, 0, 0x0b})} // function 0 gives back what it gets
	funcs := [][]byte{{0}}
	exports := [][]byte{}
	define := func(name string, code []byte) {
		exports = append(exports, slices.Concat(sized([]byte("k_"+name)), []byte{0}, unsigned(uint64(len(funcs)))))
		funcs = append(funcs, []byte{0})
		bodies = append(bodies, sized(code))
	}
	for _, base := range microBase {
		op := microOp{params: string(base), result: base}
		if base == 0 {
			op.params = ""
		}
		define(baseName(base), op.loop())
	}
	for _, op := range microOps() {
		define(op.name, op.loop())
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{1, 0x60, 1, tI32, 1, tI32}),
		section(3, list(funcs...)),
		section(4, []byte{1, 0x70, 0, 1}),
		section(5, []byte{1, 0, 4}),
		section(6, slices.Concat([]byte{1, tI32, 1, 0x41, 0, 0x0b})),
		section(7, list(exports...)),
		section(9, []byte{1, 0, 0x41, 0, 0x0b, 1, 0}),
		section(10, list(bodies...)))
}

func baseName(result byte) string {
	if result == 0 {
		return "none"
	}
	return "add_" + string(result)
}

// loop is a body: the parameter counts down; in each round the instruction stands microCopies times, on operands that do not
// depend on one another, and its results are added up in turn into four locals.
func (op microOp) loop() []byte {
	// local 0: rounds; 1 to 4: accumulators; from 5 on operands, one of each type
	letters := "iIfFv"
	result := op.result
	if result == 0 {
		result = 'i'
	}
	var b []byte
	b = append(b, 6, 4, microTypes[result])
	for _, l := range letters {
		b = append(b, 1, microTypes[byte(l)])
	}
	operand := func(l byte) byte { return 5 + byte(strings.IndexByte(letters, l)) }
	b = append(b, 0x41, 3, 0x21, operand('i'), 0x42, 5, 0x21, operand('I'))
	b = append(binary.LittleEndian.AppendUint32(append(b, 0x43), math.Float32bits(2.5)), 0x21, operand('f'))
	b = append(binary.LittleEndian.AppendUint64(append(b, 0x44), math.Float64bits(3.5)), 0x21, operand('F'))
	b = append(b, 0x41, 3, 0xfd, 0x11, 0x21, operand('v'))
	b = append(b, 0x03, 0x40)
	for i := range byte(microCopies) {
		acc := 1 + i%4
		if op.result != 0 {
			b = append(b, 0x20, acc)
		}
		for _, p := range []byte(op.params) {
			b = append(b, 0x20, operand(p))
		}
		b = append(b, op.code...)
		switch op.result {
		case 'i':
			b = append(b, 0x6a)
		case 'I':
			b = append(b, 0x7c)
		case 'f':
			b = append(b, 0x92)
		case 'F':
			b = append(b, 0xa0)
		case 'v':
			b = append(b, 0xfd, 0x51)
		}
		if op.result != 0 {
			b = append(b, 0x21, acc)
		}
	}
	b = append(b, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b)
	switch op.result {
	case 'i': // so that nothing is left out as unused
		b = append(b, 0x20, 1, 0x20, 2, 0x6a, 0x20, 3, 0x6a, 0x20, 4, 0x6a, 0x0b)
	default:
		for acc := byte(1); acc <= 4; acc++ {
			switch op.result {
			case 'I':
				b = append(b, 0x41, 0, 0x20, acc, 0x37, 3, 0)
			case 'f':
				b = append(b, 0x41, 0, 0x20, acc, 0x38, 2, 0)
			case 'F':
				b = append(b, 0x41, 0, 0x20, acc, 0x39, 3, 0)
			case 'v':
				b = append(b, 0x41, 0, 0x20, acc, 0xfd, 11, 4, 0)
			}
		}
		b = append(b, 0x20, 0, 0x0b)
	}
	return b
}

const weightsNote = `What the table of weights in host/forge was taken from: loops of 128 times one instruction on operands that do not depend on one
another, less a loop that only adds up as many. So it is throughput, with what the compiler makes of it: bounds checks, traps,
calls. A unit is the time of one i32.add in four chains of them.`

// weights measures single instructions.
func weights(ctx context.Context, b *bench) (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	kernels, err := b.kernels(ctx, microModule, microKernels(), false)
	if err != nil {
		return "", err
	}
	for range b.rounds * 8 {
		for n, k := range kernels {
			if err := k.pair(ctx, n); err != nil {
				return "", err
			}
		}
	}
	best := map[string]float64{}
	charged := map[string]float64{}
	for _, k := range kernels {
		best[k.name] = slices.Min(k.ns) / microCopies
		charged[k.name] = k.fuel / microCopies
	}
	unit := best[baseName('i')] - best[baseName(0)]
	var doc strings.Builder
	fmt.Fprintf(&doc, "\nA unit is %.3f ns.\n\n| instruction | ns | units | charged |\n|---|---|---|---|\n", unit)
	for _, op := range microOps() {
		ns := best[op.name] - best[baseName(op.result)]
		fmt.Fprintf(&doc, "| %s | %.3f | %.1f | %.1f |\n", op.name, ns, ns/unit, charged[op.name]-charged[baseName(op.result)])
	}
	return doc.String(), nil
}
