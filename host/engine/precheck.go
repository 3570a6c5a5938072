package engine

import (
	"bytes"
	"fmt"
	"strconv"
)

// MaxModule is the size of a .wasm file that [Engine.Load] accepts, in bytes.
const MaxModule = 64 << 20

// Bounds that wazero's compiler needs: it ignores its context, and its time is quadratic in the nesting of blocks (60 KB
// of nested blocks take 1.7 s, 300 KB take 156 s). Go nests a block per call site of a function: a stock module of 5 MB
// nests 550 deep and sums up to 4 million, so both bounds leave room. At the bounds nesting costs half a second.
const (
	maxNesting    = 4000     // blocks inside blocks
	maxNestingSum = 64 << 20 // over all blocks of the module: the depth at which each stands
	maxBody       = 8 << 20  // bytes of one function
	maxLocals     = 5000     // of one function
	maxBrTable    = 65520    // targets of one br_table
	maxTable      = 1 << 20  // entries of a table: 8 bytes each, and a heap object each
)

// Bounds on what wazero decodes, which takes up to 50 times the memory of its bytes.
const (
	maxParams   = 1000    // of a function type; as many results
	maxElements = 2 << 20 // bytes of the element section
	maxNames    = 8 << 20 // bytes of the name section
)

// maxEntries bounds how many entries each section has.
var maxEntries = [...]uint32{sectionType: 20_000, sectionImport: 1_000, sectionFunction: 200_000, sectionTable: 16,
	sectionMemory: 1, sectionGlobal: 100_000, sectionExport: 100_000, sectionElement: 100_000, sectionCode: 200_000,
	sectionData: 200_000}

const (
	sectionCustom = iota
	sectionType
	sectionImport
	sectionFunction
	sectionTable
	sectionMemory
	sectionGlobal
	sectionExport
	sectionStart
	sectionElement
	sectionCode
	sectionData
	sectionDataCount
)

var sectionNames = [...]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start",
	"element", "code", "data", "data count"}

// importKinds name what an import can be, by its byte in the binary.
var importKinds = [...]string{"function", "table", "memory", "global"}

// importRef is an entry of the import section.
type importRef struct {
	Module, Name string
	Kind         byte
}

// checkHeader tells what a file is that does not start as a core WebAssembly module does.
func checkHeader(b []byte) error {
	switch {
	case len(b) == 0:
		return fmt.Errorf("not WebAssembly: the file is empty")
	case bytes.HasPrefix(b, []byte("\x00asm\x01\x00\x00\x00")):
		return nil
	case bytes.HasPrefix(b, []byte("\x00asm")) && len(b) >= 8 && b[6] == 1:
		return fmt.Errorf("a WebAssembly component, not a core module: build it without the component model " +
			"(for Rust the target wasm32-unknown-unknown or wasm32-wasip1)")
	case bytes.HasPrefix(b, []byte("\x00asm")):
		return fmt.Errorf("not WebAssembly 1: the version in its header is %s", hexBytes(b[4:min(len(b), 8)]))
	case isText(b):
		return fmt.Errorf("not WebAssembly but its text form (.wat): compile it with wat2wasm")
	}
	return fmt.Errorf("not WebAssembly: starts with %s, not with 00 61 73 6d", hexBytes(b[:min(len(b), 8)]))
}

// isText reports whether b looks like a .wat: a parenthesis after white space and comments.
func isText(b []byte) bool {
	for range 64 {
		b = bytes.TrimLeft(b, " \t\r\n")
		if !bytes.HasPrefix(b, []byte(";;")) {
			break
		}
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	return bytes.HasPrefix(b, []byte("(module")) || bytes.HasPrefix(b, []byte("(;"))
}

func hexBytes(b []byte) string {
	s := fmt.Sprintf("% x", b)
	for _, c := range b {
		if c < 0x20 || c >= 0x7f {
			return s
		}
	}
	return s + " (" + strconv.Quote(string(b)) + ")"
}

// precheck walks a module once, in linear time, and refuses what would make decoding, compiling or instantiating it take
// time or memory out of proportion: wazero allocates what a count asks for before it looks whether the file holds it, so
// that 20 bytes could take 4 GiB. It is no validator: wazero's comes after it. It returns the imports, which wazero does
// not list in full.
func precheck(wasm []byte) (imports []importRef, err error) {
	r := reader{b: wasm, off: 8}
	s := scan{}
	for r.off < len(r.b) && r.err == "" {
		at := r.off
		id := r.byte()
		n := r.u32()
		if r.err == "" && int(n) > len(r.b)-r.off {
			return nil, fmt.Errorf("the %s section at byte %d has %d bytes, only %d are left: is the file truncated?",
				sectionName(id), at, n, len(r.b)-r.off)
		}
		if r.err != "" {
			break
		}
		body := reader{b: r.b[:r.off+int(n)], off: r.off}
		r.off += int(n)
		s.section(id, n, &body)
		if body.err != "" {
			return nil, fmt.Errorf("%s section, byte %d: %s", sectionName(id), body.off, body.err)
		}
	}
	if r.err != "" {
		return nil, fmt.Errorf("byte %d: %s", r.off, r.err)
	}
	if s.growsTable && s.unboundedTable {
		return nil, fmt.Errorf("the module grows a table (table.grow) that declares no maximum of at most %d entries", maxTable)
	}
	return s.imports, nil
}

func sectionName(id byte) string {
	if int(id) < len(sectionNames) {
		return sectionNames[id]
	}
	return "unknown (" + strconv.Itoa(int(id)) + ")"
}

// scan is what precheck learns on its way.
type scan struct {
	imports        []importRef
	nesting        int // sum of the depths of all blocks so far
	growsTable     bool
	unboundedTable bool
}

func (s *scan) section(id byte, size uint32, r *reader) {
	switch {
	case id == sectionCustom:
		r.custom(size)
		return
	case id == sectionStart || int(id) >= len(maxEntries):
		return
	case id == sectionElement && size > maxElements:
		r.fail("%d bytes, at most %d are accepted", size, maxElements)
		return
	}
	n := r.count()
	if most := maxEntries[id]; uint32(n) > most {
		r.fail("%d entries, at most %d are accepted", n, most)
		return
	}
	for i := 0; i < n && r.err == ""; i++ {
		switch id {
		case sectionType:
			r.funcType()
		case sectionImport:
			s.imports = append(s.imports, s.importEntry(r))
		case sectionTable:
			s.table(r)
		case sectionExport:
			r.name()
			r.skip(1)
			r.u32()
		case sectionElement:
			r.element()
		case sectionCode:
			s.function(r, i)
		case sectionData:
			r.data()
		default: // functions, memories and globals take little
			return
		}
	}
}

func (s *scan) importEntry(r *reader) importRef {
	ref := importRef{Module: r.name(), Name: r.name(), Kind: r.byte()}
	switch ref.Kind {
	case 0:
		r.u32()
	case 1:
		s.table(r)
	case 2:
		r.limits()
	case 3:
		r.skip(2)
	default:
		r.fail("import %q.%q is of an unknown kind", ref.Module, ref.Name)
	}
	return ref
}

func (s *scan) table(r *reader) {
	r.skip(1)
	least, most, bounded := r.limits()
	if least > maxTable {
		r.fail("a table of %d entries, at most %d are accepted", least, maxTable)
	}
	if !bounded || most > maxTable {
		s.unboundedTable = true
	}
}

// function walks the body of the i-th function that the module defines.
func (s *scan) function(r *reader, i int) {
	size := r.u32()
	switch {
	case r.err != "":
		return
	case int(size) > len(r.b)-r.off:
		r.fail("function %d has %d bytes, only %d are left", i, size, len(r.b)-r.off)
		return
	case size > maxBody:
		r.fail("function %d has %d bytes, at most %d are accepted", i, size, maxBody)
		return
	}
	body := reader{b: r.b[:r.off+int(size)], off: r.off}
	r.off += int(size)
	locals := uint64(0)
	for n := body.u32(); n > 0 && body.err == "" && locals <= maxLocals; n-- {
		locals += uint64(body.u32())
		body.skip(1)
	}
	if locals > maxLocals {
		body.fail("more than %d locals", maxLocals)
	}
	s.code(&body)
	if body.err != "" {
		r.off = body.off
		r.fail("function %d: %s", i, body.err)
	}
}
