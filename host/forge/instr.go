package forge

// instr is one instruction with its immediates.
type instr struct {
	at, end int // its bytes in the file
	op      opcode
	x, y    uint32    // indices, alignment and offset of an access to memory, a lane
	value   int64     // of i32.const and i64.const
	block   int64     // the type of a block: a type index, or a value type less 0x80, or emptyBlock
	types   []valType // of a select
	targets []uint32  // of a br_table, the default last
}

// emptyBlock is the type of a block without parameters and results.
const emptyBlock = 0x40 - 0x80

// next reads an instruction. It is the one place that knows how long each is; brTable bounds the targets of a br_table.
func (in *instr) next(r *reader, brTable int) {
	in.at = r.off
	in.op = opcode(r.byte())
	switch op := in.op; {
	case op >= opI32Eqz && op <= opI64Extend32:
	case op == opLocalGet || op == opLocalSet || op == opLocalTee || op == opGlobalGet || op == opGlobalSet,
		op == opBr, op == opBrIf, op == opCall, op == opTableGet, op == opTableSet, op == opRefFunc:
		in.x = r.u32()
	case op == opI32Const:
		in.value = r.signed(32)
	case op >= opI32Load && op <= opI64Store32:
		in.memarg(r)
	case op >= opBlock && op <= opIf:
		in.blockType(r)
	case op == opEnd || op == opElse || op == opReturn || op == opUnreachable || op == opNop || op == opDrop || op == opSelect,
		op == opRefIsNull:
	case op == opBrTable:
		n := r.count("targets of a br_table", brTable)
		in.targets = in.targets[:0]
		for ; n >= 0 && r.err == nil; n-- {
			in.targets = append(in.targets, r.u32())
		}
	case op == opCallIndirect:
		in.x, in.y = r.u32(), r.u32()
	case op == opSelectT:
		n := r.count("types of a select", 1000)
		in.types = in.types[:0]
		for ; n > 0 && r.err == nil; n-- {
			in.types = append(in.types, r.valType())
		}
	case op == opMemorySize || op == opMemoryGrow:
		in.zero(r)
	case op == opI64Const:
		in.value = r.signed(64)
	case op == opF32Const:
		r.bytes(4)
	case op == opF64Const:
		r.bytes(8)
	case op == opRefNull:
		in.x = uint32(r.refType())
	case op == opBulk:
		in.bulk(r)
	case op == opVector:
		in.vector(r)
	case r.err == nil:
		r.failAt(in.at, "%s", foreign(op))
	}
	in.end = r.off
}

func (in *instr) memarg(r *reader) {
	at := r.off
	in.x = r.u32()
	if in.x >= 0x40 && in.x < 0x80 && r.err == nil {
		r.failAt(at, "an access to a further memory (the multi-memory proposal) is not part of WebAssembly 2.0 (malformed memop flags)")
	}
	in.y = r.u32()
}

// zero reads the byte that names the only memory there can be.
func (in *instr) zero(r *reader) {
	at := r.off
	if c := r.byte(); c != 0 && r.err == nil {
		r.failAt(at, "multiple memories (the multi-memory proposal) are not part of WebAssembly 2.0 (zero byte expected)")
	}
}

func (in *instr) blockType(r *reader) {
	if r.left() > 0 {
		if c := r.b[r.off]; c >= 0x40 && c < 0x80 {
			if c == 0x40 {
				r.off++
				in.block = emptyBlock
			} else {
				in.block = int64(r.valType()) - 0x80
			}
			return
		}
	}
	at := r.off
	in.block = r.signed(33)
	if in.block < 0 && r.err == nil {
		r.failAt(at, "a block type that is neither a type nor an index (unexpected end or malformed)")
	}
}

// bulk reads what follows 0xfc.
func (in *instr) bulk(r *reader) {
	sub := r.u32()
	in.op = opBulk<<8 | opcode(sub&0xff)
	switch {
	case r.err != nil:
	case sub >= uint32(len(bulkNames)):
		r.failAt(in.at, "0xfc %d is no instruction of WebAssembly 2.0 (illegal opcode)", sub)
	case sub < 8:
	case in.op == opMemoryInit:
		in.x = r.u32()
		in.zero(r)
	case in.op == opMemoryCopy:
		in.zero(r)
		in.zero(r)
	case in.op == opMemoryFill:
		in.zero(r)
	case in.op == opTableInit || in.op == opTableCopy:
		in.x, in.y = r.u32(), r.u32()
	default:
		in.x = r.u32()
	}
}

// vector reads what follows 0xfd. x and y are as for memory; the lane is in value.
func (in *instr) vector(r *reader) {
	sub := r.u32()
	in.op = opVector<<8 | opcode(sub&0xff)
	switch {
	case r.err != nil:
	case sub > 0xff:
		proposal := ""
		if sub < 0x120 {
			proposal = " (the relaxed SIMD proposal)"
		}
		r.failAt(in.at, "0xfd %d%s is no instruction of WebAssembly 2.0 (illegal opcode)", sub, proposal)
	case sub <= 11 || sub == 92 || sub == 93:
		in.memarg(r)
	case sub == 12:
		r.bytes(16)
	case sub == 13:
		for range 16 {
			at := r.off
			if lane := r.byte(); lane >= 32 && r.err == nil {
				r.failAt(at, "lane %d of a shuffle (invalid lane index)", lane)
			}
		}
	case sub >= 21 && sub <= 34:
		in.value = int64(r.byte())
	case sub >= 84 && sub <= 91:
		in.memarg(r)
		in.value = int64(r.byte())
	case vectorSignatures[sub] == "":
		r.failAt(in.at, "0xfd %d is no instruction (illegal opcode)", sub)
	}
}
