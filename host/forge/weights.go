package forge

// WeightsVersion numbers the table of weights. It grows whenever the fuel of any module changes: fuel of two versions
// must not be compared.
//
// Version 2 is calibrated: "go run ./tools/bench -only weights" measures each class of instructions by itself, on amd64 under
// wazero 1.12, and a unit is the time of an i32.add there, 0.1 ns. Weights are rounded; where the figure says little about
// what the instruction costs in a program, the table departs from it, and says so.
//
// Version 3 charges what no instruction says: see freeMoves.
const WeightsVersion = 3

// Weights of what is not one instruction, or is one that calls into the runtime, in units of fuel.
const (
	weightCall       = 12  // beside what the called function pays itself; measured 16 with the function's own work
	weightIndirect   = 16  // measured the same; its target is harder to guess in a program
	weightRefFunc    = 400 // leaves compiled code
	weightGrow       = 400 // so does this, before its pages or entries; not measured by itself
	weightFill       = 140 // memory.fill, before its bytes
	weightCopy       = 24  // memory.copy and init, before their bytes
	weightBulk       = 24  // instructions on a range of a table, before its entries; not measured
	weightShift      = 3   // of memory.fill, copy and init: 8 bytes a unit; measured 10 to 14 in the cache
	entryShift       = 0   // of a table: an entry a unit
	weightPageGrown  = 8192
	weightEntryGrown = 16
	weightVector     = 2 // of most
	weightHead       = 1 // of a loop
	weightMove       = 8 // a value that moves where ways meet, or as a parameter or result; measured 7 to 12, 170 among 4,999
	weightReload     = 1 // a global that a function reads, at each of its calls

	// freeMoves is how many values move for nothing: about what stays in registers; three stock Go programs have at most 22.
	freeMoves = 24
)

// weight is what an instruction costs. Those that the compiler makes disappear cost nothing; what takes a loop to
// repeat costs something, since the branch back does.
func weight(op opcode) int64 {
	switch {
	case op < 0x100:
		return int64(plainWeights[op])
	case op>>8 == opBulk:
		switch sub := op & 0xff; {
		case sub < 8: // conversions that saturate
			return truncation(sub)
		case op == opTableSize || op == opElemDrop || op == opDataDrop:
			return 2
		case op == opMemoryFill:
			return weightFill
		case op == opMemoryCopy || op == opMemoryInit:
			return weightCopy
		case op == opTableGrow:
			return weightGrow
		}
		return weightBulk
	case op>>8 == opVector:
		if w, ok := vectorWeights[op&0xff]; ok {
			return w
		}
	}
	return weightVector
}

// truncation is the weight of a conversion of a float; the unsigned ones are the odd in each list of them.
func truncation(n opcode) int64 {
	if n&1 == 1 {
		return 5
	}
	return 3
}

var plainWeights = func() (w [256]int16) {
	set := func(from, to opcode, v int16) {
		for op := from; op <= to; op++ {
			w[op] = v
		}
	}
	set(opBr, opBrIf, 1)
	w[opBrTable] = 3
	w[opReturn] = 1
	w[opIf] = 1
	w[opCall], w[opCallIndirect] = weightCall, weightIndirect
	set(opSelect, opSelectT, 2)
	set(opGlobalGet, opGlobalSet, 1)
	set(opTableGet, opTableSet, 3)
	set(opI32Load, opI64Store32, 1) // measured less for loads, beside other work
	w[opMemorySize], w[opMemoryGrow] = 1, weightGrow
	set(opI32Eqz, opI64Extend32, 1) // comparisons too, measured 2: mostly they are one with a branch
	set(0x6d, 0x70, 13)             // i32 division
	set(0x7f, 0x82, 15)             // i64 division
	for _, f := range []struct {
		compare, first        opcode // f32.eq, f32.abs ...
		divide, root, minimum int16
	}{{0x5b, 0x8b, 4, 8, 3}, {0x61, 0x99, 7, 15, 3}} {
		set(f.compare, f.compare+5, 5)
		set(f.first, f.first+13, 2)    // abs, neg, rounding, add, sub, mul; measured less for rounding, beside other work
		w[f.first+6] = f.root          // sqrt
		w[f.first+10] = f.divide       //
		set(f.first+11, f.first+12, 3) // min, max
		w[f.first+13] = 7              // copysign
	}
	for i := opcode(0); i < 4; i++ {
		w[0xa8+i], w[0xae+i] = int16(truncation(i)), int16(truncation(i)) // conversions that trap
	}
	set(0xbc, 0xbf, 2) // reinterpretation
	w[opRefIsNull], w[opRefFunc] = 1, weightRefFunc
	return w
}()

// vectorWeights are those of the vector instructions that cost more than most. Where one of a kind was measured, it stands for
// its kind.
var vectorWeights = func() map[opcode]int64 {
	w := map[opcode]int64{
		0xd5: 4,                               // i64x2.mul
		0x62: 4,                               // i8x16.popcnt
		0xe3: 14, 0xef: 23, 0xe7: 9, 0xf3: 18, // sqrt and div of f32x4 (half of those measured) and f64x2
		0xe8: 4, 0xe9: 4, 0xf4: 4, 0xf5: 4, // min, max
		0xf8: 4, 0xf9: 5, 0xfc: 4, 0xfd: 5, // trunc_sat
		0x0f: 9, 0x10: 9, 0x11: 9, 0x12: 9, 0x13: 2, // splats of integers, of f32
	}
	return w
}()
