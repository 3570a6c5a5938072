package forge

import (
	"bytes"
	"fmt"
	"strings"
)

// Sections by their id.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

var sectionNames = [...]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start",
	"element", "code", "data", "data count"}

// sectionOrder is the place of each section in a file: the data count stands before the code.
var sectionOrder = [...]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

var header = []byte("\x00asm\x01\x00\x00\x00")

// decoder reads a file into a module and validates it on the way.
type decoder struct {
	limits  Limits
	m       *module
	check   checker
	nesting int // sum over all blocks
	items   int // of all element segments
	cost    cost
	exports map[string]bool
	reserve bool // refuse reserved names
}

// decode reads and validates a file.
func decode(wasm []byte, limits Limits, reserve bool) (*module, error) {
	d := &decoder{limits: limits, m: &module{sectionAt: map[string]int{}}, reserve: reserve}
	r := &reader{b: wasm, function: -1}
	switch {
	case len(wasm) > limits.MaxSize:
		r.failAt(limits.MaxSize, "the file has %d bytes, at most %d are accepted", len(wasm), limits.MaxSize)
	case bytes.HasPrefix(wasm, header):
		r.off = len(header)
	case bytes.HasPrefix(wasm, header[:4]) && len(wasm) >= 8 && wasm[6] == 1:
		r.failAt(4, "a component, not a core module: build it without the component model")
	case bytes.HasPrefix(wasm, header[:4]):
		r.failAt(4, "the version in the header is not 1 (unknown binary version)")
	default:
		r.failAt(0, "the file does not start with 00 61 73 6d (magic header not detected)")
	}
	seen := [len(sectionNames)]bool{}
	last := 0
	for r.err == nil && r.off < len(wasm) {
		at := r.off
		id := r.byte()
		size := r.u32()
		switch {
		case r.err != nil:
		case int(id) >= len(sectionNames):
			r.failAt(at, "%s", unknownSection(id))
		case uint64(size) > uint64(r.left()):
			r.failAt(at, "the %s section has %d bytes, only %d are left: is the file truncated?", sectionNames[id], size, r.left())
		case id != secCustom && seen[id]:
			r.failAt(at, "a second %s section (unexpected content after last section)", sectionNames[id])
		case id != secCustom && sectionOrder[id] < last:
			r.failAt(at, "the %s section stands too late (unexpected content after last section)", sectionNames[id])
		}
		if r.err != nil {
			break
		}
		if id != secCustom {
			seen[id], last = true, sectionOrder[id]
		}
		body := &reader{b: wasm[:r.off+int(size)], off: r.off, section: sectionNames[id], function: -1}
		d.m.sectionAt[sectionNames[id]] = r.off
		r.off += int(size)
		d.section(id, body)
		if body.err == nil && body.off != len(body.b) {
			body.failAt(body.off, "%d bytes follow its entries (section size mismatch)", body.left())
		}
		if body.err != nil {
			return nil, body.err
		}
	}
	if r.err == nil {
		d.end(r)
	}
	if r.err != nil {
		return nil, r.err
	}
	d.m.cost = d.cost
	return d.m, nil
}

func unknownSection(id byte) string {
	if id == 13 {
		return "a tag section (the exception handling proposal) is not part of WebAssembly 2.0 (malformed section id)"
	}
	return fmt.Sprintf("section %d is not part of WebAssembly 2.0 (malformed section id)", id)
}

// end checks what only the whole file shows.
func (d *decoder) end(r *reader) {
	if defined := len(d.m.funcs) - d.m.importedFuncs; defined != len(d.m.bodies) {
		r.failAt(len(r.b), "%d functions are declared, %d have a body (function and code section have inconsistent lengths)",
			defined, len(d.m.bodies))
	}
	if d.m.hasCount && int(d.m.dataCount) != len(d.m.data) {
		r.failAt(len(r.b), "%d data segments are declared, there are %d (data count and data section have inconsistent lengths)",
			d.m.dataCount, len(d.m.data))
	}
}

func (d *decoder) section(id byte, r *reader) {
	m := d.m
	switch id {
	case secCustom:
		if r.name() == "name" && m.names == nil {
			m.names = r.b[r.off:]
		}
		r.off = len(r.b)
	case secType:
		n := r.count("types", d.limits.MaxTypes)
		m.types = make([]funcType, 0, n)
		for ; n > 0 && r.err == nil; n-- {
			m.types = append(m.types, d.funcType(r))
		}
	case secImport:
		for n := r.count("imports", d.limits.MaxImports); n > 0 && r.err == nil; n-- {
			d.importEntry(r)
		}
	case secFunction:
		for n := r.count("functions", d.limits.MaxFunctions); n > 0 && r.err == nil; n-- {
			m.funcs = append(m.funcs, d.typeIndex(r))
		}
	case secTable:
		for n := r.count("tables", d.limits.MaxTables); n > 0 && r.err == nil; n-- {
			m.tables = append(m.tables, d.tableType(r))
		}
	case secMemory:
		for n := r.count("memories", d.limits.MaxTables); n > 0 && r.err == nil; n-- {
			d.memory(r)
		}
	case secGlobal:
		d.globals(r)
	case secExport:
		d.exportSection(r)
	case secStart:
		at := r.off
		m.start, m.hasStart = r.u32(), true
		if d.index(r, at, "function", m.start, len(m.funcs)) {
			if t := m.funcType(m.start); len(t.params)+len(t.results) > 0 {
				r.failAt(at, "the start function %d has parameters or results", m.start)
			}
		}
	case secElement:
		for n := r.count("element segments", d.limits.MaxSegments); n > 0 && r.err == nil; n-- {
			d.element(r)
		}
	case secDataCount:
		m.dataCount, m.hasCount = r.u32(), true
		if int(m.dataCount) > d.limits.MaxSegments {
			r.failAt(r.off, "%d data segments, at most %d are accepted", m.dataCount, d.limits.MaxSegments)
		}
	case secCode:
		d.code(r)
	case secData:
		for n := r.count("data segments", d.limits.MaxSegments); n > 0 && r.err == nil; n-- {
			d.datum(r)
		}
	}
}

// index reports whether i names one of the n things there are, and fails otherwise.
func (d *decoder) index(r *reader, at int, what string, i uint32, n int) bool {
	if r.err == nil && uint64(i) >= uint64(n) {
		r.failAt(at, "unknown %s %d: there are %d", what, i, n)
	}
	return r.err == nil
}

func (d *decoder) typeIndex(r *reader) uint32 {
	at := r.off
	t := r.u32()
	d.index(r, at, "type", t, len(d.m.types))
	return t
}

func (d *decoder) funcType(r *reader) funcType {
	at := r.off
	switch form := r.byte(); {
	case r.err != nil || form == 0x60:
	case form == 0x5f || form == 0x5e || form == 0x50 || form == 0x4f || form == 0x4e:
		r.failAt(at, "a type of form 0x%02x (the GC proposal) is not part of WebAssembly 2.0", form)
	default:
		r.failAt(at, "a type of form 0x%02x is not part of WebAssembly 2.0", form)
	}
	list := func(what string) []valType {
		n := r.count(what, d.limits.MaxParams)
		if n == 0 {
			return nil
		}
		out := make([]valType, n)
		for i := range out {
			out[i] = r.valType()
		}
		return out
	}
	return funcType{params: list("parameters"), results: list("results")}
}

func (d *decoder) importEntry(r *reader) {
	at := r.off
	m := d.m
	e := importEntry{module: r.name(), name: r.name()}
	if d.reserve && (strings.HasPrefix(e.module, Reserved) || strings.HasPrefix(e.name, Reserved)) {
		r.failAt(at, "the import %q.%q uses the reserved prefix %s", e.module, e.name, Reserved)
	}
	kindAt := r.off
	e.kind = r.byte()
	switch e.kind {
	case kindFunc:
		e.typ = d.typeIndex(r)
		m.funcs = append(m.funcs, e.typ)
		m.importedFuncs++
	case kindTable:
		e.table = d.tableType(r)
		m.tables = append(m.tables, e.table)
		m.importedTables++
	case kindMemory:
		d.memory(r)
		m.importedMemories++
		if len(m.memories) > 0 {
			e.memory = m.memories[len(m.memories)-1]
		}
	case kindGlobal:
		e.global = d.globalType(r)
		m.globals = append(m.globals, global{globalType: e.global})
		m.importedGlobals++
	case 4:
		r.failAt(kindAt, "an imported tag (the exception handling proposal) is not part of WebAssembly 2.0 (malformed import kind)")
	default:
		r.failAt(kindAt, "the import %q.%q is of an unknown kind (malformed import kind)", e.module, e.name)
	}
	m.imports = append(m.imports, e)
}

func (d *decoder) tableType(r *reader) tableType {
	at := r.off
	if r.left() > 0 && r.b[r.off] == 0x40 {
		r.failAt(at, "a table with an initial value (the function references proposal) is not part of WebAssembly 2.0")
	}
	return tableType{elem: r.refType(), limits: r.limits("table")}
}

func (d *decoder) memory(r *reader) {
	at := r.off
	l := r.limits("memory")
	switch {
	case r.err != nil:
	case l.min > maxPages || l.bounded && l.max > maxPages:
		r.failAt(at, "a memory of more than %d pages (memory size must be at most 65536 pages (4GiB))", maxPages)
	case len(d.m.memories) == 1:
		r.failAt(at, "multiple memories (the multi-memory proposal) are not part of WebAssembly 2.0")
	default:
		d.m.memories = append(d.m.memories, l)
	}
}

func (d *decoder) globalType(r *reader) globalType {
	t := globalType{val: r.valType()}
	at := r.off
	switch mut := r.byte(); {
	case r.err != nil:
	case mut > 1:
		r.failAt(at, "0x%02x is neither const nor var (malformed mutability)", mut)
	default:
		t.mutable = mut == 1
	}
	return t
}

func (d *decoder) globals(r *reader) {
	for n := r.count("globals", d.limits.MaxGlobals); n > 0 && r.err == nil; n-- {
		t := d.globalType(r)
		init := d.constant(r, t.val)
		d.m.globals = append(d.m.globals, global{globalType: t, init: init})
	}
}

func (d *decoder) exportSection(r *reader) {
	m := d.m
	n := r.count("exports", d.limits.MaxExports)
	d.exports = make(map[string]bool, min(n, 1024))
	for ; n > 0 && r.err == nil; n-- {
		at := r.off
		e := exportEntry{name: r.name()}
		kindAt := r.off
		e.kind = r.byte()
		indexAt := r.off
		e.index = r.u32()
		switch {
		case r.err != nil:
			return
		case d.exports[e.name]:
			r.failAt(at, "%q is exported twice (duplicate export name)", e.name)
		case d.reserve && strings.HasPrefix(e.name, Reserved):
			r.failAt(at, "the export %q uses the reserved prefix %s", e.name, Reserved)
		case e.kind == 4:
			r.failAt(kindAt, "an exported tag (the exception handling proposal) is not part of WebAssembly 2.0")
		case int(e.kind) >= len(kindNames):
			r.failAt(kindAt, "the export %q is of an unknown kind (malformed export kind)", e.name)
		default:
			have := [...]int{len(m.funcs), len(m.tables), len(m.memories), len(m.globals)}[e.kind]
			d.index(r, indexAt, kindNames[e.kind], e.index, have)
		}
		if r.err == nil && e.kind == kindFunc {
			d.declare(e.index)
		}
		d.exports[e.name] = true
		m.exports = append(m.exports, e)
	}
}

// declare makes a function one that ref.func may name.
func (d *decoder) declare(f uint32) {
	if d.m.declared == nil {
		d.m.declared = make([]bool, len(d.m.funcs))
	}
	d.m.declared[f] = true
}
