package forge

// bulk checks the instructions on whole ranges, and those on tables.
func (c *checker) bulk() {
	in, m := &c.in, c.m
	if in.op>>8 == opBulk && in.op&0xff < 8 {
		s := &satOps[in.op&0xff]
		c.popAll(s.params)
		c.push(s.result[0])
		m.uses.features |= SaturatingFloatToInt
		return
	}
	c.calling()
	switch in.op {
	case opMemoryInit, opMemoryCopy, opMemoryFill:
		c.memory(0)
		if in.op == opMemoryInit && c.segment(in.x) {
			m.uses.inits[in.x] = true
		}
		c.pop3(i32)
	case opDataDrop:
		if c.segment(in.x) {
			m.uses.drops[in.x] = true
		}
	case opElemDrop:
		if c.index("elem segment", in.x, len(m.elements)) {
			c.writesTable(0)
		}
	case opTableInit:
		if c.index("table", in.y, len(m.tables)) && c.index("elem segment", in.x, len(m.elements)) {
			if e, t := m.elements[in.x].typ, m.tables[in.y].elem; e != t {
				c.fail("table.init of table %d of type %s with elements of type %s (type mismatch)", in.y, t, e)
			}
			c.pop3(i32)
			c.writesTable(in.y)
		}
	case opTableCopy:
		if c.index("table", in.x, len(m.tables)) && c.index("table", in.y, len(m.tables)) {
			if a, b := m.tables[in.x].elem, m.tables[in.y].elem; a != b {
				c.fail("table.copy from a table of %s to one of %s (type mismatch)", b, a)
			}
			c.pop3(i32)
			c.writesTable(in.x)
		}
	default:
		if c.index("table", in.x, len(m.tables)) {
			c.tableOp(m.tables[in.x].elem)
		}
	}
	m.uses.features |= BulkMemory
}

func (c *checker) pop3(last valType) {
	c.pop(i32)
	c.pop(last)
	c.pop(i32)
}

func (c *checker) tableOp(elem valType) {
	if c.m.uses.tableRead == nil {
		c.m.uses.tableRead = make([]bool, len(c.m.tables))
	}
	c.m.uses.tableRead[c.in.x] = true
	switch c.in.op {
	case opTableGet:
		c.pop(i32)
		c.push(elem)
	case opTableSet:
		c.pop(elem)
		c.pop(i32)
		c.writesTable(c.in.x)
	case opTableSize:
		c.push(i32)
	case opTableGrow:
		c.pop(i32)
		c.pop(elem)
		c.push(i32)
		c.writesTable(c.in.x)
	case opTableFill:
		c.pop3(elem)
		c.writesTable(c.in.x)
	}
	c.m.uses.features |= ReferenceTypes
}

// segment checks the index of a data segment, which needs the data count section, since the data stands after the code.
func (c *checker) segment(i uint32) bool {
	m := c.m
	if !m.hasCount {
		c.fail("%s in a module without a data count section (data count section required)", c.in.op)
		return false
	}
	if m.uses.inits == nil {
		m.uses.inits, m.uses.drops = make([]bool, m.dataCount), make([]bool, m.dataCount)
	}
	return c.index("data segment", i, int(m.dataCount))
}

func (c *checker) writesTable(table uint32) {
	if c.m.uses.tableWrite == nil {
		c.m.uses.tableWrite = &place{op: c.in.op, function: int(c.fn), table: table, at: c.in.at}
	}
}

// vector checks the SIMD instructions.
func (c *checker) vector() {
	in := &c.in
	c.m.uses.features |= SIMD
	switch sub := in.op & 0xff; {
	case sub <= 10:
		c.memory([...]uint32{4, 3, 3, 3, 3, 3, 3, 0, 1, 2, 3}[sub])
		c.pop(i32)
		c.push(v128)
	case sub == 11:
		c.memory(4)
		c.pop(v128)
		c.pop(i32)
	case sub == 12:
		c.push(v128)
	case sub == 13:
		c.pop(v128)
		c.pop(v128)
		c.push(v128)
	case sub >= 21 && sub <= 34:
		shape := lanes[sub-21]
		c.lane(shape.n)
		if shape.replace {
			c.pop(shape.typ)
			c.pop(v128)
			c.push(v128)
		} else {
			c.pop(v128)
			c.push(shape.typ)
		}
	case sub >= 84 && sub <= 91:
		align := uint32(sub-84) & 3
		c.memory(align)
		c.lane(16 >> align)
		c.pop(v128)
		c.pop(i32)
		if sub < 88 {
			c.push(v128)
		}
	case sub == 92 || sub == 93:
		c.memory(uint32(sub) - 90)
		c.pop(i32)
		c.push(v128)
	default:
		s := &vectorOps[sub]
		c.popAll(s.params)
		c.push(s.result[0])
	}
}

func (c *checker) lane(n int) {
	if c.in.value >= int64(n) {
		c.fail("lane %d of %d (invalid lane index)", c.in.value, n)
	}
}

// lanes are the accesses to one lane from 0xfd 21 on.
var lanes = [...]struct {
	typ     valType
	n       int
	replace bool
}{
	{i32, 16, false}, {i32, 16, false}, {i32, 16, true},
	{i32, 8, false}, {i32, 8, false}, {i32, 8, true},
	{i32, 4, false}, {i32, 4, true},
	{i64, 2, false}, {i64, 2, true},
	{f32, 4, false}, {f32, 4, true},
	{f64, 2, false}, {f64, 2, true},
}
