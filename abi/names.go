package abi

// The version of this ABI. A module says its own in its description; a higher minor than the host's is refused.
const (
	Major = 1
	Minor = 0
)

// ImportModule is the namespace of the host's functions. The number is the major version.
const ImportModule = "wasilo_1"

// Names of a guest's exports.
const (
	ExportMemory     = "memory"
	ExportInitialize = "_initialize"
	ExportDescribe   = "wasilo_describe"
	ExportInbox      = "wasilo_inbox"
	ExportTurn       = "wasilo_turn"
	ExportSave       = "wasilo_save"
	ExportLoad       = "wasilo_load"
)

// ValType is a WebAssembly value type as it stands in a binary.
type ValType byte

// The two value types that ABI v1 uses.
const (
	I32 ValType = 0x7f
	I64 ValType = 0x7e
)

func (v ValType) String() string {
	switch v {
	case I32:
		return "i32"
	case I64:
		return "i64"
	}
	return "?"
}

// Signature is the name and type of an import or export. Pointers, lengths and handles are i32 and unsigned.
type Signature struct {
	Name     string
	Params   []ValType
	Results  []ValType
	Optional bool   // exports: a guest may lack it
	Cap      string // imports: what using it lets a module do, for `inspect`
}

func (s Signature) String() string {
	list := func(vs []ValType) string {
		t := "("
		for i, v := range vs {
			if i > 0 {
				t += ", "
			}
			t += v.String()
		}
		return t + ")"
	}
	out := list(s.Params)
	if len(s.Results) > 0 {
		out += " -> " + list(s.Results)
	}
	return out
}

// Exports returns every function a guest exports, required ones first.
func Exports() []Signature {
	return []Signature{
		{Name: ExportDescribe, Results: []ValType{I64}},
		{Name: ExportInbox, Params: []ValType{I32}, Results: []ValType{I32}},
		{Name: ExportTurn, Params: []ValType{I32}, Results: []ValType{I64}},
		{Name: ExportInitialize, Optional: true},
		{Name: ExportSave, Results: []ValType{I64}, Optional: true},
		{Name: ExportLoad, Params: []ValType{I32, I32}, Results: []ValType{I64}, Optional: true},
	}
}

// Imports returns every host function of ABI v1, in namespace [ImportModule].
func Imports() []Signature {
	return []Signature{
		{Name: "request", Params: []ValType{I32, I32, I32, I32}, Results: []ValType{I64}, Cap: "call other actors"},
		{Name: "start", Params: []ValType{I32, I32}, Results: []ValType{I64}, Cap: "call other actors in parallel"},
		{Name: "wait", Params: []ValType{I32, I32, I32, I64}, Results: []ValType{I64}, Cap: "call other actors in parallel"},
		{Name: "take", Params: []ValType{I32, I32, I32}, Results: []ValType{I64}, Cap: "call other actors"},
		{Name: "kv_get", Params: []ValType{I32, I32, I32, I32}, Results: []ValType{I64}, Cap: "read its own key-value state"},
		{Name: "kv_range", Params: []ValType{I32, I32, I32, I32}, Results: []ValType{I64}, Cap: "read its own key-value state"},
		{Name: "now", Results: []ValType{I64}, Cap: "read the clock"},
		{Name: "random", Params: []ValType{I32, I32}, Results: []ValType{I64}, Cap: "read random bytes"},
		{Name: "log", Params: []ValType{I32, I32, I32}, Cap: "write to the node's log"},
	}
}

// PendingCode is what `take` answers (negated) for a handle whose outcome is not there yet. It is no error of the table.
const PendingCode = 0x7fff

// Pack joins a pointer and a length the way the i64 results of the exports do.
func Pack(ptr, n uint32) uint64 { return uint64(ptr)<<32 | uint64(n) }

// Unpack splits what [Pack] joined.
func Unpack(v uint64) (ptr, n uint32) { return uint32(v >> 32), uint32(v) }
