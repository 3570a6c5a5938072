package forge

// asm appends instructions to a body.
type asm struct{ b []byte }

// i appends an instruction with its indices.
func (a *asm) i(op opcode, indices ...uint32) {
	if op < 0x100 {
		a.b = append(a.b, byte(op))
	} else {
		a.b = appendU32(append(a.b, byte(op>>8)), uint32(op&0xff))
	}
	for _, x := range indices {
		a.b = appendU32(a.b, x)
	}
}

// ops appends instructions without immediates.
func (a *asm) ops(ops ...opcode) {
	for _, op := range ops {
		a.i(op)
	}
}

func (a *asm) get(locals ...uint32) {
	for _, l := range locals {
		a.i(opLocalGet, l)
	}
}

func (a *asm) set(local uint32) { a.i(opLocalSet, local) }

func (a *asm) const32(v int32) { a.b = appendSigned(append(a.b, byte(opI32Const)), int64(v)) }
func (a *asm) const64(v int64) { a.b = appendSigned(append(a.b, byte(opI64Const)), v) }

// block opens a block, loop or if without parameters and results.
func (a *asm) block(op opcode) { a.b = append(a.b, byte(op), 0x40) }

// Opcodes that only injected code names.
const (
	opI32Eq        opcode = 0x46
	opI32LtU       opcode = 0x49
	opI32LeU       opcode = 0x4d
	opI32GtU       opcode = 0x4b
	opI64LtS       opcode = 0x53
	opI64GtU       opcode = 0x56
	opI32Add       opcode = 0x6a
	opI32Sub       opcode = 0x6b
	opI32Or        opcode = 0x72
	opI32ShrU      opcode = 0x76
	opI64Add       opcode = 0x7c
	opI64Sub       opcode = 0x7d
	opI64Mul       opcode = 0x7e
	opI64And       opcode = 0x83
	opI64Or        opcode = 0x84
	opI64Shl       opcode = 0x86
	opI64ShrU      opcode = 0x88
	opI64ExtendU   opcode = 0xad
	opI64x2Splat   opcode = 0xfd12
	opI64x2Extract opcode = 0xfd1d
	opI64x2Replace opcode = 0xfd1e
)
