package forge

// WeightsVersion numbers the table of weights. It grows whenever the fuel of any module changes: fuel of two versions
// must not be compared.
const WeightsVersion = 1

// Weights of what is not one instruction, in units of fuel. A unit is about the time of an addition in compiled code.
const (
	weightCall       = 4 // beside what the called function pays itself
	weightIndirect   = 8
	weightBulk       = 16 // an instruction on a range, before its bytes
	weightShift      = 3  // of memory.fill, copy and init: 8 bytes a unit
	entryShift       = 0  // of a table: an entry a unit
	weightPageGrown  = 8192
	weightEntryGrown = 16
)

// weight is what an instruction costs. Those that the compiler makes disappear cost nothing; what takes a loop to
// repeat costs something, since the branch back does.
func weight(op opcode) int64 {
	switch {
	case op < 0x100:
		return int64(plainWeights[op])
	case op>>8 == opBulk:
		if op&0xff < 8 {
			return 4
		}
		if op == opTableSize || op == opElemDrop || op == opDataDrop {
			return 2
		}
		return weightBulk
	default:
		return 2
	}
}

var plainWeights = func() (w [256]byte) {
	set := func(from, to opcode, v byte) {
		for op := from; op <= to; op++ {
			w[op] = v
		}
	}
	set(opBr, opBrIf, 1)
	w[opBrTable] = 3
	w[opReturn] = 1
	w[opIf] = 1
	w[opCall], w[opCallIndirect] = weightCall, weightIndirect
	set(opSelect, opSelectT, 1)
	set(opGlobalGet, opGlobalSet, 1)
	set(opTableGet, opTableSet, 3)
	set(opI32Load, opI64Store32, 1)
	w[opMemorySize], w[opMemoryGrow] = 1, weightBulk
	set(opI32Eqz, opI64Extend32, 1)
	set(0x6d, 0x70, 8)                  // i32 division
	set(0x7f, 0x82, 12)                 // i64 division
	set(0x95, 0x95, 4)                  // f32.div
	set(0xa3, 0xa3, 4)                  // f64.div
	w[0x91], w[0x9f] = 6, 6             // sqrt
	set(0x8d, 0x90, 2)                  // rounding
	set(0x9b, 0x9e, 2)                  //
	w[0x96], w[0x97] = 3, 3             // f32.min, f32.max
	w[0xa4], w[0xa5] = 3, 3             //
	set(0xa8, 0xab, 3)                  // conversions that trap
	set(0xae, 0xb1, 3)                  //
	w[opRefIsNull], w[opRefFunc] = 1, 2 //
	return w
}()
