package engine

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/forge"
)

// Import is something that a module asks its host for.
type Import struct {
	Module, Name string
	Type         string // "(i32, i32) -> (i64)"
	Cap          string // what it lets the module do, for people; "" is nothing worth telling
}

// Export is something that a module offers.
type Export struct {
	Name string
	Kind string // "function" or "memory"
	Type string // a function's signature, a memory's least and greatest size
}

// wasiCaps says what the WASI functions do that do anything here: there are no files, sockets, arguments or environment.
var wasiCaps = map[string]string{"clock_time_get": "read the clock", "random_get": "read random bytes",
	"fd_write": "write to the node's log", "poll_oneoff": "sleep within its turn", "proc_exit": "stop itself"}

// hints say what to do about namespaces that other hosts provide.
var hints = map[string]string{
	"env": "it was built for another host; AssemblyScript needs --use abort=…, C needs -nostdlib or wasi-libc, and every " +
		"function must be defined",
	"gojs":          "it was built for a browser: use GOOS=wasip1",
	"go":            "it was built for a browser: use GOOS=wasip1",
	"wasi_unstable": "it was built for an old WASI: use preview 1",
	"wbg":           "it was built with wasm-bindgen: build without it",
}

// signature writes a function's type the way abi.Signature does.
func signature(def api.FunctionDefinition) string {
	list := func(ts []api.ValueType) string {
		names := make([]string, len(ts))
		for i, t := range ts {
			names[i] = api.ValueTypeName(t)
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	s := list(def.ParamTypes())
	if r := def.ResultTypes(); len(r) > 0 {
		s += " -> " + list(r)
	}
	return s
}

// hostSignatures are those of the host's functions, by name.
func hostSignatures() map[string]string {
	out := make(map[string]string)
	for _, s := range abi.Imports() {
		out[s.Name] = s.String()
	}
	return out
}

// checkImportNames refuses what this host does not provide. It comes before compiling, which is slow.
func (e *Engine) checkImportNames(refs []forge.Import) error {
	host := hostSignatures()
	for _, ref := range refs {
		full := ref.Module + "." + ref.Name
		var known map[string]string
		switch {
		case ref.Module == abi.ImportModule:
			known = host
		case ref.Module == wasiModule:
			known = e.wasi
		case strings.HasPrefix(ref.Module, "wasilo_"):
			return &LoadError{Stage: StageVersion, Reason: fmt.Sprintf("it imports %s; this host speaks ABI %d and provides %s: "+
				"rebuild it with an SDK for ABI %d, or use a node of its version", full, abi.Major, abi.ImportModule, abi.Major)}
		default:
			hint := hints[ref.Module]
			if strings.HasPrefix(ref.Module, "wasi:") {
				hint = "it was built for WASI preview 2: use preview 1"
			}
			if hint != "" {
				hint = "; " + hint
			}
			return fmt.Errorf("it imports %s, which nothing here provides; a module may import from %s and %s%s", full,
				abi.ImportModule, wasiModule, hint)
		}
		if _, ok := known[ref.Name]; !ok {
			return fmt.Errorf("it imports %s, which does not exist; %s", full, suggest(ref.Module, ref.Name, known))
		}
		if ref.Kind != "function" {
			return fmt.Errorf("it imports %s as a %s; it is a function", full, ref.Kind)
		}
	}
	return nil
}

// maxGuess is the length up to which a name may be meant for another.
const maxGuess = 64

// suggest names the nearest of the known functions, or all if none is near.
func suggest(module, name string, known map[string]string) string {
	names := make([]string, 0, len(known))
	for n := range known {
		names = append(names, n)
	}
	sort.Strings(names)
	best, least := "", len(name)/3+2
	if len(name) > maxGuess {
		names = nil // nobody mistyped that, and comparing takes as long as it is
	}
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	if best != "" {
		return "did you mean " + module + "." + best + "?"
	}
	return module + " has " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

// distance is the number of single-byte edits between a and b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			d := diagonal
			if a[i-1] != b[j-1] {
				d++
			}
			diagonal = row[j]
			row[j] = min(d, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// checkImports compares the types of the imports, whose names are known to be good, and notes them for inspection.
func (m *Module) checkImports(wasi map[string]string) error {
	caps := make(map[string]string)
	for _, s := range abi.Imports() {
		caps[s.Name] = s.Cap
	}
	host := hostSignatures()
	for _, def := range m.code.ImportedFunctions() {
		module, name, _ := def.Import()
		if module == forge.RefillModule {
			continue
		}
		want, use := wasi[name], wasiCaps[name]
		if module == abi.ImportModule {
			want, use = host[name], caps[name]
		}
		got := signature(def)
		if got != want {
			return fmt.Errorf("it imports %s.%s as %s; its type is %s", module, name, got, want)
		}
		if i := (Import{Module: module, Name: name, Type: got, Cap: use}); !slices.Contains(m.imports, i) {
			m.imports = append(m.imports, i) // compilers import the same function more than once
		}
	}
	return nil
}

// checkExports insists on what every guest exports, and notes what there is.
func (m *Module) checkExports() error {
	funcs, memories := m.code.ExportedFunctions(), m.code.ExportedMemories()
	var missing []string
	for _, want := range abi.Exports() {
		def, ok := funcs[want.Name]
		switch {
		case !ok && !want.Optional:
			missing = append(missing, want.Name+want.String())
		case ok && signature(def) != want.String():
			return fmt.Errorf("%s is exported as %s; its type is %s", want.Name, signature(def), want.String())
		}
	}
	if len(missing) > 0 {
		hint := ""
		if _, ok := funcs["_start"]; ok {
			hint = "; it is a program with a main function, where a library is wanted (Go: -buildmode=c-shared, C: -mexec-model=reactor)"
		}
		return fmt.Errorf("it does not export %s%s", strings.Join(missing, ", "), hint)
	}
	memory, ok := memories[abi.ExportMemory]
	if !ok {
		return fmt.Errorf("it does not export its memory under the name %q", abi.ExportMemory)
	}
	m.minMemory = uint64(memory.Min()) * pageSize
	for name, def := range funcs {
		if strings.HasPrefix(name, forge.Reserved) {
			continue
		}
		m.exports = append(m.exports, Export{Name: name, Kind: "function", Type: signature(def)})
	}
	for name, def := range memories {
		typ := "from " + byteSize(uint64(def.Min())*pageSize)
		if most, ok := def.Max(); ok {
			typ += " to " + byteSize(min(uint64(most)*pageSize, m.eng.cfg.MaxMemory))
		}
		m.exports = append(m.exports, Export{Name: name, Kind: "memory", Type: typ})
	}
	sort.Slice(m.exports, func(i, j int) bool { return m.exports[i].Name < m.exports[j].Name })
	return nil
}

// byteSize writes a number of bytes for people.
func byteSize(n uint64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
