package forge

import (
	"fmt"
	"slices"
	"strings"
)

// valType is a value type by its byte in the binary.
type valType byte

const (
	unknown   valType = 0 // of an operand that code after an unconditional branch conjures up
	i32       valType = 0x7f
	i64       valType = 0x7e
	f32       valType = 0x7d
	f64       valType = 0x7c
	v128      valType = 0x7b
	funcRef   valType = 0x70
	externRef valType = 0x6f
)

func (t valType) valid() bool     { return t >= v128 && t <= i32 || t.reference() }
func (t valType) reference() bool { return t == funcRef || t == externRef }

// float says whether values of the type live in the registers for floating point.
func (t valType) float() bool { return t == f32 || t == f64 || t == v128 }

func (t valType) String() string {
	switch t {
	case unknown:
		return "any"
	case i32:
		return "i32"
	case i64:
		return "i64"
	case f32:
		return "f32"
	case f64:
		return "f64"
	case v128:
		return "v128"
	case funcRef:
		return "funcref"
	case externRef:
		return "externref"
	}
	return fmt.Sprintf("0x%02x", byte(t))
}

// refusal says what a byte is that stands where a type of WebAssembly 2.0 should.
func (t valType) refusal() string {
	switch {
	case t == 0x69 || t == 0x74:
		return "an exception reference (the exception handling proposal) is not part of WebAssembly 2.0"
	case t >= 0x63 && t <= 0x73:
		return fmt.Sprintf("the type 0x%02x (of the GC or function references proposals) is not part of WebAssembly 2.0", byte(t))
	}
	return fmt.Sprintf("0x%02x is no value type", byte(t))
}

// one holds a list of one type each, so that block types need no allocation.
var one = [...][]valType{{i32}, {i64}, {f32}, {f64}, {v128}, {funcRef}, {externRef}}

func list1(t valType) []valType {
	switch t {
	case funcRef:
		return one[5]
	case externRef:
		return one[6]
	}
	return one[i32-t]
}

// funcType is an entry of the type section.
type funcType struct{ params, results []valType }

func (t funcType) equal(u funcType) bool {
	return slices.Equal(t.params, u.params) && slices.Equal(t.results, u.results)
}

func (t funcType) String() string {
	list := func(types []valType) string {
		names := make([]string, len(types))
		for i, v := range types {
			names[i] = v.String()
		}
		return strings.Join(names, ", ")
	}
	results := list(t.results)
	if len(t.results) != 1 {
		results = "(" + results + ")"
	}
	return "(" + list(t.params) + ") -> " + results
}

type tableType struct {
	elem valType
	limits
}

type globalType struct {
	val     valType
	mutable bool
}

// The kinds of imports and exports, by their byte in the binary.
const (
	kindFunc = iota
	kindTable
	kindMemory
	kindGlobal
)

var kindNames = [...]string{"function", "table", "memory", "global"}

type importEntry struct {
	module, name string
	kind         byte
	typ          uint32 // of a function
	table        tableType
	memory       limits
	global       globalType
}

type exportEntry struct {
	name  string
	kind  byte
	index uint32
}

// constant is a constant expression of one instruction.
type constant struct {
	at    int
	op    opcode
	index uint32 // of global.get and ref.func
	value int32  // of i32.const
	raw   []byte // the instruction, without the end
}

type global struct {
	globalType
	init constant
}

// The modes of segments.
const (
	active = iota
	passive
	declared
)

// element is one segment of a table.
type element struct {
	at     int
	mode   byte
	table  uint32
	offset constant
	typ    valType
	funcs  []uint32
	exprs  []reference // instead of funcs
}

// reference is a constant expression of a reference type: ref.null, ref.func or global.get.
type reference struct {
	op    opcode
	index uint32
}

// datum is one segment of memory.
type datum struct {
	at     int
	mode   byte
	offset constant
	bytes  []byte
}

// function is a body of the code section.
type function struct {
	locals     []byte // their declarations, as they stand in the file
	groups     int    // how many declarations
	localCount int    // without the parameters
	code       []byte // with the last end
	at         int    // where code starts in the file
	info       bodyInfo
}

// bodyInfo is what the validator learns of a body that the rewriter wants to know.
type bodyInfo struct {
	globals  int      // reads of mutable ones, or their number if there are more
	height   int      // most operands on the stack, in values
	values   int      // that have a place in the frame: see frame
	vectors  bool     // a v128 is among the locals or operands
	calls    bool     // by call or call_indirect
	indirect int      // most parameters and results of a call_indirect, and one for the index
	loops    []uint32 // in order of their heads: how many instructions in them call something
	meets    []uint32 // of the function and its blocks, in order: values that are moved where ways to the label meet
}

// module is a decoded, valid module. Index spaces hold what is imported first.
type module struct {
	types    []funcType
	imports  []importEntry
	funcs    []uint32 // types
	tables   []tableType
	memories []limits
	globals  []global // init is unset where imported
	exports  []exportEntry
	elements []element
	data     []datum
	bodies   []function
	names    []byte // the body of the name section, nil for none

	start     uint32
	hasStart  bool
	dataCount uint32
	hasCount  bool

	importedFuncs, importedTables, importedMemories, importedGlobals int

	declared  []bool         // functions that ref.func may name
	sectionAt map[string]int // where the content of each section starts
	uses      uses
	cost      cost
}

// place is where an instruction stands.
type place struct {
	op       opcode
	function int // index
	table    uint32
	at       int
}

// uses are what the code of the module uses.
type uses struct {
	tableWrite *place // the first that changes a table
	tableRead  []bool // by table: something but call_indirect names it
	inits      []bool // memory.init, by data segment
	drops      []bool // data.drop, by data segment
	features   Features
}

// bulkUse is a bulk instruction with its immediates.
type bulkUse struct {
	op   opcode
	x, y uint32
}

// features are what the module uses beyond the first version of WebAssembly.
func (m *module) features() Features {
	f := m.uses.features
	for _, t := range m.types {
		if len(t.results) > 1 {
			f |= MultiValue
		}
	}
	return f
}

func (m *module) funcType(index uint32) funcType { return m.types[m.funcs[index]] }
