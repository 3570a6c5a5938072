package engine

// code walks the instructions of one body up to its last end, and bounds their nesting. An instruction that is not part
// of WebAssembly 2.0 is refused here, since its length is unknown; wazero would refuse it too.
func (s *scan) code(r *reader) {
	depth := 1
	for depth > 0 && r.err == "" {
		at := r.off
		switch op := r.byte(); {
		case op >= 0x45 && op <= 0xc4: // arithmetic
		case op == 0x20 || op == 0x21 || op == 0x22 || op == 0x41: // local.get, local.set, local.tee, i32.const
			r.leb(5)
		case op >= 0x28 && op <= 0x3e: // loads and stores
			r.memarg()
		case op >= 0x02 && op <= 0x04: // block, loop, if
			r.leb(5)
			depth++
			s.nesting += depth
			if depth > maxNesting {
				r.fail("blocks nested deeper than %d", maxNesting)
			}
			if s.nesting > maxNestingSum {
				r.fail("the blocks of the module are nested too deep on the whole")
			}
		case op == 0x0b: // end
			depth--
		case op <= 0x01, op == 0x05, op == 0x0f, op == 0x1a, op == 0x1b, op == 0xd1: // no immediate
		case op == 0x0c, op == 0x0d, op == 0x10, op >= 0x23 && op <= 0x26, op == 0xd2: // an index
			r.leb(5)
		case op == 0x0e: // br_table
			n := r.u32()
			if n > maxBrTable {
				r.fail("a br_table of %d targets, at most %d are accepted", n, maxBrTable)
			}
			for i := uint32(0); i <= n && r.err == ""; i++ {
				r.leb(5)
			}
		case op == 0x11: // call_indirect
			r.leb(5)
			r.leb(5)
		case op == 0x1c: // select with types
			r.skip(r.count())
		case op == 0x3f, op == 0x40, op == 0xd0: // memory.size, memory.grow, ref.null
			r.skip(1)
		case op == 0x42: // i64.const
			r.leb(10)
		case op == 0x43: // f32.const
			r.skip(4)
		case op == 0x44: // f64.const
			r.skip(8)
		case op == 0xfc:
			s.bulk(r, at)
		case op == 0xfd:
			r.vector(at)
		default:
			r.off = at
			r.fail("instruction 0x%02x is not part of WebAssembly 2.0", op)
		}
	}
	if r.err == "" && r.off != len(r.b) {
		r.fail("bytes follow the end of the body")
	}
}

func (r *reader) memarg() {
	r.leb(5)
	r.leb(5)
}

// bulk skips the immediates of the saturating conversions, bulk memory and table instructions.
func (s *scan) bulk(r *reader, at int) {
	switch op := r.u32(); {
	case op <= 7: // trunc_sat
	case op == 8: // memory.init
		r.leb(5)
		r.skip(1)
	case op == 9, op == 13: // data.drop, elem.drop
		r.leb(5)
	case op == 10: // memory.copy
		r.skip(2)
	case op == 11: // memory.fill
		r.skip(1)
	case op == 12, op == 14: // table.init, table.copy
		r.leb(5)
		r.leb(5)
	case op >= 15 && op <= 17: // table.grow, table.size, table.fill
		s.growsTable = s.growsTable || op == 15
		r.leb(5)
	default:
		r.off = at
		r.fail("instruction 0xfc %d is not part of WebAssembly 2.0", op)
	}
}

// vector skips the immediates of the SIMD instructions.
func (r *reader) vector(at int) {
	switch op := r.u32(); {
	case op <= 11, op == 92, op == 93: // loads and stores
		r.memarg()
	case op == 12, op == 13: // v128.const, i8x16.shuffle
		r.skip(16)
	case op >= 21 && op <= 34: // lane access
		r.skip(1)
	case op >= 84 && op <= 91: // lane loads and stores
		r.memarg()
		r.skip(1)
	case op <= 255:
	default:
		r.off = at
		r.fail("instruction 0xfd %d is not part of WebAssembly 2.0", op)
	}
}
