package forge

// constant reads a constant expression of type t.
func (d *decoder) constant(r *reader, t valType) constant {
	c := constant{at: r.off}
	start := r.off
	c.op = opcode(r.byte())
	if c.op == opVector {
		sub := r.u32()
		if sub == 12 {
			c.op = opV128Const
		}
	}
	var have valType
	switch c.op {
	case opI32Const:
		have, c.value = i32, int32(r.signed(32))
	case opI64Const:
		have = i64
		r.signed(64)
	case opF32Const:
		have = f32
		r.bytes(4)
	case opF64Const:
		have = f64
		r.bytes(8)
	case opV128Const:
		have = v128
		r.bytes(16)
	case opRefNull:
		have = r.refType()
	case opRefFunc:
		have, c.index = funcRef, r.u32()
		if d.index(r, c.at, "function", c.index, len(d.m.funcs)) {
			d.declare(c.index)
		}
	case opGlobalGet:
		c.index = r.u32()
		if d.index(r, c.at, "global", c.index, len(d.m.globals)) {
			g := d.m.globals[c.index]
			have = g.val
			switch {
			case int(c.index) >= d.m.importedGlobals:
				r.failAt(c.at, "a constant expression reads global %d, which is not imported (unknown global)", c.index)
			case g.mutable:
				r.failAt(c.at, "a constant expression reads global %d, which is mutable (constant expression required)", c.index)
			}
		}
	case opEnd:
		r.failAt(c.at, "an empty constant expression, where %s is wanted (type mismatch)", t)
	default:
		d.notConstant(r, c.at, c.op)
	}
	if r.err != nil {
		return c
	}
	if have != t {
		r.failAt(c.at, "a constant of type %s, where %s is wanted (type mismatch)", have, t)
		return c
	}
	c.raw = r.b[start:r.off]
	at := r.off
	switch op := opcode(r.byte()); {
	case r.err != nil || op == opEnd:
	case op >= 0x6a && op <= 0x6c || op >= 0x7c && op <= 0x7e:
		r.failAt(at, "arithmetic in a constant expression (the extended constants proposal) is not part of WebAssembly 2.0 "+
			"(constant expression required)")
	default:
		r.failAt(at, "a constant expression has more than one instruction (type mismatch)")
	}
	return c
}

func (d *decoder) notConstant(r *reader, at int, op opcode) {
	if why := foreign(op); why != "" {
		r.failAt(at, "%s", why)
		return
	}
	r.failAt(at, "the instruction %s in a constant expression (constant expression required)", op)
}

// element reads a segment of a table, in one of eight forms.
func (d *decoder) element(r *reader) {
	e := element{at: r.off, typ: funcRef}
	flags := r.u32()
	if flags > 7 {
		r.failAt(e.at, "an element segment of the unknown form %d (malformed elements segment kind)", flags)
		return
	}
	switch {
	case flags&1 == 0:
		e.mode = active
	case flags&2 == 0:
		e.mode = passive
	default:
		e.mode = declared
	}
	if e.mode == active {
		at := r.off
		if flags&2 != 0 {
			e.table = r.u32()
		}
		if !d.index(r, at, "table", e.table, len(d.m.tables)) {
			return
		}
		e.offset = d.constant(r, i32)
	}
	exprs := flags&4 != 0
	if flags&3 != 0 {
		at := r.off
		if exprs {
			e.typ = r.refType()
		} else if kind := r.byte(); kind != 0 {
			r.failAt(at, "elements of the unknown kind %d (malformed element kind)", kind)
		}
	}
	if e.mode == active && r.err == nil && d.m.tables[e.table].elem != e.typ {
		r.failAt(e.at, "elements of type %s for table %d of type %s (type mismatch)", e.typ, e.table, d.m.tables[e.table].elem)
	}
	n := r.count("entries of element segments", d.limits.MaxElements-d.items)
	d.items += n
	if exprs {
		e.exprs = make([]reference, 0, n)
	} else {
		e.funcs = make([]uint32, 0, n)
	}
	for ; n > 0 && r.err == nil; n-- {
		if exprs {
			c := d.constant(r, e.typ)
			e.exprs = append(e.exprs, reference{c.op, c.index})
			continue
		}
		at := r.off
		f := r.u32()
		if d.index(r, at, "function", f, len(d.m.funcs)) {
			d.declare(f)
		}
		e.funcs = append(e.funcs, f)
	}
	d.m.elements = append(d.m.elements, e)
}

// datum reads a segment of memory.
func (d *decoder) datum(r *reader) {
	s := datum{at: r.off}
	flags := r.u32()
	if flags > 2 {
		r.failAt(s.at, "a data segment of the unknown form %d (malformed data segment kind)", flags)
		return
	}
	if flags == 1 {
		s.mode = passive
	} else {
		at := r.off
		memory := uint32(0)
		if flags == 2 {
			memory = r.u32()
		}
		if !d.index(r, at, "memory", memory, len(d.m.memories)) {
			return
		}
		s.offset = d.constant(r, i32)
	}
	n := r.u32()
	if r.err == nil {
		s.bytes = r.bytes(int(n))
	}
	d.m.data = append(d.m.data, s)
}

// code reads the bodies and validates them.
func (d *decoder) code(r *reader) {
	m := d.m
	n := r.count("bodies", d.limits.MaxFunctions)
	if r.err == nil && n != len(m.funcs)-m.importedFuncs {
		r.failAt(r.off, "%d functions are declared, %d have a body (function and code section have inconsistent lengths)",
			len(m.funcs)-m.importedFuncs, n)
		return
	}
	m.bodies = make([]function, 0, n)
	for i := 0; i < n && r.err == nil; i++ {
		at := r.off
		size := r.u32()
		switch {
		case r.err != nil:
			return
		case uint64(size) > uint64(r.left()):
			r.failAt(at, "function %d has %d bytes, only %d are left", m.importedFuncs+i, size, r.left())
			return
		case int(size) > d.limits.MaxBody:
			r.failAt(at, "function %d has %d bytes, at most %d are accepted", m.importedFuncs+i, size, d.limits.MaxBody)
			return
		}
		b := &reader{b: r.b[:r.off+int(size)], off: r.off, section: r.section, function: m.importedFuncs + i}
		r.off += int(size)
		m.bodies = append(m.bodies, d.body(b, uint32(m.importedFuncs+i)))
		if b.err != nil {
			r.err = b.err
			r.off = len(r.b)
		}
	}
}

// body reads the locals of a function and validates its code.
func (d *decoder) body(r *reader, index uint32) function {
	f := function{}
	t := d.m.funcType(index)
	c := &d.check
	c.locals = append(c.locals[:0], t.params...)
	total := uint64(0)
	f.groups = r.count("declarations of locals", d.limits.MaxBody)
	declarations := r.off
	for n := f.groups; n > 0 && r.err == nil; n-- {
		at := r.off
		count := r.u32()
		typ := r.valType()
		total += uint64(count)
		switch {
		case r.err != nil:
		case total > 1<<32-1:
			r.failAt(at, "more than 2^32 locals (too many locals)")
		case total > uint64(d.limits.MaxLocals):
			r.failAt(at, "more than %d locals", d.limits.MaxLocals)
		default:
			for range count {
				c.locals = append(c.locals, typ)
			}
		}
	}
	f.locals, f.localCount = r.b[declarations:r.off:r.off], int(total)
	f.at = r.off
	if r.err == nil {
		c.d, c.m, c.r, c.fn = d, d.m, r, index
		f.info = c.body(t)
	}
	if r.err == nil {
		f.code = r.b[f.at:r.off:r.off]
		if r.off != len(r.b) {
			r.failAt(r.off, "%d bytes follow the end of the body", r.left())
		}
	}
	return f
}
