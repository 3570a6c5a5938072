package forge_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/host/forge"
)

// find returns the body of a section of a module, or of a custom one by its name; nil for none.
func find(t *testing.T, wasm []byte, id byte, custom string) []byte {
	t.Helper()
	read := func() (v int) {
		for shift := 0; ; shift += 7 {
			c := wasm[0]
			wasm = wasm[1:]
			v |= int(c&0x7f) << shift
			if c < 0x80 {
				return v
			}
		}
	}
	wasm = wasm[8:]
	for len(wasm) > 0 {
		have := wasm[0]
		wasm = wasm[1:]
		n := read()
		body := wasm[:n]
		wasm = wasm[n:]
		if have == id && (id != 0 || bytes.HasPrefix(body, name(custom))) {
			return body
		}
	}
	return nil
}

func TestDataIsLifted(t *testing.T) {
	m := prepare(t, module(types, section(3, uleb(0)), section(5, cat("00 01")), dataCount(4),
		section(10, body("41 00 41 00 41 00 fc 08 03 00")),
		section(11, cat("00 41 08 0b", name("one")), cat("01", name("two")), cat("02 00 41 7f 0b", name("three")),
			cat("01", name("four")))), metered)
	if m.Tier != forge.Image || len(m.Data) != 2 {
		t.Fatalf("%s (%s), %v", m.Tier, m.TierReason, m.Data)
	}
	if d := m.Data[0]; d.Offset != 8 || string(d.Bytes) != "one" {
		t.Errorf("%v", d)
	}
	if d := m.Data[1]; d.Offset != 1<<32-1 || string(d.Bytes) != "three" {
		t.Errorf("%v", d)
	}
	if b := find(t, m.Wasm, 11, ""); !bytes.Equal(b, vec(cat("01", name("two")), cat("01", name("four")))) {
		t.Errorf("% x is left", b)
	}
	if b := find(t, m.Wasm, 12, ""); !bytes.Equal(b, []byte{2}) {
		t.Errorf("data count % x", b)
	}
	if !bytes.Contains(find(t, m.Wasm, 10, ""), cat("fc 08 01 00")) {
		t.Error("memory.init of segment 3 is not one of segment 1")
	}
	active := prepare(t, module(section(5, cat("00 01")), section(11, cat("00 41 08 0b", name("one")))), metered)
	if find(t, active.Wasm, 11, "") != nil || find(t, active.Wasm, 12, "") != nil {
		t.Error("an empty data section is left")
	}
}

func TestGlobalsAreExported(t *testing.T) {
	m := prepare(t, module(types, section(3, uleb(0)), section(5, cat("00 01")),
		section(6, cat("7f 01 41 05 0b"), cat("7e 00 42 05 0b"), cat("7b 01 fd 0c", make([]byte, 16), "0b"), cat("7c 01 44 0000000000000000 0b")),
		dataCount(1), section(10, body("41 00 41 00 41 00 fc 08 00 00 fc 09 00")), section(11, cat("01", name("x")))), metered)
	want := []forge.GlobalExport{
		{Index: 0, Type: "i32", Name: "wasilo_forge_global_0"},
		{Index: 2, Type: "v128", Get: "wasilo_forge_get_2", Set: "wasilo_forge_set_2"},
		{Index: 3, Type: "f64", Name: "wasilo_forge_global_3"},
		{Index: 4, Type: "i32", Name: "wasilo_forge_global_4"}, // says that segment 0 was dropped
	}
	if len(m.Globals) != len(want) {
		t.Fatalf("%+v", m.Globals)
	}
	for i, g := range m.Globals {
		if g != want[i] {
			t.Errorf("%+v, want %+v", g, want[i])
		}
	}
	if m.Fuel != "wasilo_forge_fuel" || m.Stack != "wasilo_forge_stack" || m.Start != "" {
		t.Errorf("%q %q %q", m.Fuel, m.Stack, m.Start)
	}
	exports := find(t, m.Wasm, 7, "")
	for _, e := range []string{m.Fuel, m.Stack, want[0].Name, want[1].Get, want[1].Set} {
		if !bytes.Contains(exports, name(e)) {
			t.Errorf("%s is not exported", e)
		}
	}
	if bytes.Contains(find(t, m.Wasm, 10, ""), cat("fc 09")) {
		t.Error("a segment of an image is dropped for good")
	}
}

func TestTiers(t *testing.T) {
	const set, elem = "41 00 d0 70 26 00", "01 00 00"
	table := func(code string) []byte {
		return module(types, section(3, uleb(0)), section(4, cat("70 00 02")), section(9, cat(elem)), section(10, body(code)))
	}
	vectors := func(n int) []byte {
		globals := make([][]byte, n)
		for i := range globals {
			globals[i] = cat("7b 01 fd 0c", make([]byte, 16), "0b")
		}
		return module(section(6, globals...))
	}
	for what, c := range map[string]struct {
		wasm   []byte
		reason string // "" for the image tier
	}{
		"vectors":        {vectors(256), ""},
		"many vectors":   {vectors(257), "global 256 is one of more than 256 mutable v128"},
		"nothing":        {module(), ""},
		"read table":     {table("41 00 25 00 1a"), ""},
		"table.size":     {table("fc 10 00 1a"), ""},
		"call_indirect":  {table("41 00 11 00 00"), ""},
		"table.set":      {table(set), "function 0 changes table 0 by table.set at byte"},
		"table.grow":     {table("d0 70 41 01 fc 0f 00 1a"), "by table.grow"},
		"table.fill":     {table("41 00 d0 70 41 01 fc 11 00"), "by table.fill"},
		"table.copy":     {table("41 00 41 00 41 00 fc 0e 00 00"), "by table.copy"},
		"table.init":     {table("41 00 41 00 41 00 fc 0c 00 00"), "by table.init"},
		"elem.drop":      {table("fc 0d 00"), "drops elements by elem.drop"},
		"out of reach":   {table("00 " + set), "by table.set"},
		"funcref global": {module(section(6, cat("70 01 d0 70 0b"))), "global 0 is a mutable funcref"},
		"constant ref":   {module(section(6, cat("6f 00 d0 6f 0b"))), ""},
		"memory":         {module(section(2, cat(name("a"), name("b"), "02 00 01"))), `the memory "a"."b" is imported`},
		"table":          {module(section(2, cat(name("a"), name("b"), "01 70 00 01"))), `the table "a"."b" is imported`},
		"global":         {module(section(2, cat(name("a"), name("b"), "03 7f 01"))), `the mutable global "a"."b" is imported`},
		"constant":       {module(section(2, cat(name("a"), name("b"), "03 7f 00"))), ""},
		"placed data": {module(section(2, cat(name("a"), name("b"), "03 7f 00")), section(5, cat("00 01")),
			section(11, cat("00 23 00 0b", name("x")))), "data segment 0 at byte"},
	} {
		m := prepare(t, c.wasm, metered)
		if (c.reason == "") != (m.Tier == forge.Image) || !strings.Contains(m.TierReason, c.reason) {
			t.Errorf("%s: %s: %s", what, m.Tier, m.TierReason)
		}
		if m.Tier == forge.Plain && len(m.Data)+len(m.Globals) > 0 {
			t.Errorf("%s: a plain module has %d data and %d globals", what, len(m.Data), len(m.Globals))
		}
	}
}

func TestMaximaAreLowered(t *testing.T) {
	opt := forge.Options{Limits: forge.Limits{Memory: 5<<16 + 100, TableElems: 100}}
	for _, c := range []struct{ memory, want string }{
		{"00 01", "01 01 05"}, {"01 01 08", "01 01 05"}, {"01 01 04", "01 01 04"}, {"00 05", "01 05 05"},
	} {
		m := prepare(t, module(section(5, cat(c.memory))), opt)
		if b := find(t, m.Wasm, 5, ""); !bytes.Equal(b, vec(cat(c.want))) {
			t.Errorf("memory %s: % x", c.memory, b)
		}
		if !m.HasMemory || m.MemoryMax != uint32(cat(c.want)[2]) || m.MemoryMin != uint32(cat(c.want)[1]) {
			t.Errorf("memory %s: %d to %d", c.memory, m.MemoryMin, m.MemoryMax)
		}
	}
	for _, c := range []struct{ table, want string }{
		{"70 00 01", "70 01 01 64"}, {"70 01 01 7f", "70 01 01 64"}, {"6f 01 01 04", "6f 01 01 04"},
	} {
		if b := find(t, prepare(t, module(section(4, cat(c.table))), opt).Wasm, 4, ""); !bytes.Equal(b, vec(cat(c.want))) {
			t.Errorf("table %s: % x", c.table, b)
		}
	}
}

// What grows a table can be told how far; other modules carry nothing for it.
func TestTableLimit(t *testing.T) {
	grows := module(types, section(3, uleb(0)), section(4, cat("70 00 05"), cat("6f 01 07 08")), section(10, body("d0 70 41 01 fc 0f 00 1a")))
	m := prepare(t, grows, metered)
	if m.TableLimit != "wasilo_forge_tables" || m.TableEntries != 12 || m.Tier != forge.Plain {
		t.Errorf("%q %d %s", m.TableLimit, m.TableEntries, m.Tier)
	}
	if again := prepare(t, grows, metered); again.OutputSHA256 != m.OutputSHA256 {
		t.Error("two outputs")
	}
	for _, m := range []*forge.Module{prepare(t, grows, forge.Options{}),
		prepare(t, module(types, section(3, uleb(0)), section(4, cat("70 00 05")), section(10, body("d0 70 1a"))), metered)} {
		if m.TableLimit != "" {
			t.Errorf("%q in a module that grows none, or is not metered", m.TableLimit)
		}
	}
}

func TestNames(t *testing.T) {
	build := func(names []byte) []byte {
		return module(types, section(2, cat(name("env"), name("f"), 0, 0), cat(name("env"), name("g"), 0, 0)), section(3, uleb(0), uleb(0)),
			section(5, cat("00 01")), section(10, body("10 01 10 03"), body("41 00 41 00 41 00 fc 0b 00")),
			custom(".debug_info", []byte("dwarf")), custom("name", names), custom("producers", []byte("x")))
	}
	function := func(entries ...[]byte) []byte { return cat(byte(1), sized(vec(entries...))) }
	m := prepare(t, build(cat(cat(byte(0), sized(name("mod"))), function(cat(1, name("g")), cat(2, name("h")), cat(3, name("i"))),
		cat(byte(2), sized(vec(cat(2, vec(cat(0, name("local"))))))))), metered)
	want := cat(name("name"), cat(byte(0), sized(name("mod"))), function(cat(1, name("g")), cat(2, name("wasilo_forge.refill")),
		cat(3, name("h")), cat(4, name("i")), cat(5, name("wasilo_forge.memory.fill"))))
	if b := find(t, m.Wasm, 0, "name"); !bytes.Equal(b, want) {
		t.Errorf("%q\nwant %q", b, want)
	}
	if bytes.Contains(m.Wasm, []byte("dwarf")) || bytes.Contains(m.Wasm, []byte("producers")) {
		t.Error("a custom section is left")
	}
	if !bytes.Contains(find(t, m.Wasm, 10, ""), cat("10 01 10 04")) {
		t.Error("calls are not renumbered")
	}
	injected := cat(name("name"), function(cat(2, name("wasilo_forge.refill")), cat(5, name("wasilo_forge.memory.fill"))))
	for what, names := range map[string][]byte{
		"cut":         cat(byte(1), 50),
		"unordered":   function(cat(3, name("h")), cat(2, name("i"))),
		"no function": function(cat(4, name("h"))),
		"bad UTF-8":   function(cat(2, sized([]byte{0xff}))),
		"rest":        cat(byte(1), sized(cat(vec(cat(2, name("h"))), byte(0)))),
	} {
		if b := find(t, prepare(t, build(names), metered).Wasm, 0, "name"); !bytes.Equal(b, injected) {
			t.Errorf("%s: %q", what, b)
		}
	}
}

func TestStartAndExportsAreRenumbered(t *testing.T) {
	m := prepare(t, module(types, section(2, cat(name("env"), name("f"), 0, 0)), section(3, uleb(0)), section(4, cat("70 00 02")),
		section(6, cat("70 00 d2 01 0b")), section(7, cat(name("a"), 0, 0), cat(name("b"), 0, 1)), cat(byte(8), 1, 1),
		section(9, cat("00 41 00 0b 02 00 01")), section(10, body())), metered)
	if find(t, m.Wasm, 8, "") != nil || m.Start != "wasilo_forge_start" {
		t.Errorf("start %q", m.Start)
	}
	if b := find(t, m.Wasm, 9, ""); !bytes.Equal(b, vec(cat("00 41 00 0b 02 00 02"))) {
		t.Errorf("elements % x", b)
	}
	exports := find(t, m.Wasm, 7, "")
	for _, e := range [][]byte{cat(name("a"), 0, 0), cat(name("b"), 0, 2), cat(name("wasilo_forge_start"), 0, 2)} {
		if !bytes.Contains(exports, e) {
			t.Errorf("%q lacks %q", exports, e)
		}
	}
	if !bytes.HasPrefix(find(t, m.Wasm, 6, ""), cat(3, "70 00 d2 02 0b")) {
		t.Error("the ref.func of a global is not renumbered")
	}
	if len(m.Imports) != 1 || m.Imports[0] != (forge.Import{Module: "env", Name: "f", Kind: "function", Type: "() -> ()"}) {
		t.Errorf("%+v", m.Imports)
	}
	if len(m.Exports) != 2 || m.Exports[1] != (forge.Export{Name: "b", Kind: "function", Type: "() -> ()"}) {
		t.Errorf("%+v", m.Exports)
	}
}

func TestWithoutMeteringNothingIsInjected(t *testing.T) {
	wasm := simple("03 40 0b 41 00 41 00 41 00 fc 0b 00 10 00")
	m := prepare(t, wasm, forge.Options{})
	if a, b := find(t, wasm, 10, ""), find(t, m.Wasm, 10, ""); !bytes.Equal(a, b) {
		t.Errorf("% x became % x", a, b)
	}
	if m.Fuel != "" || m.Stack != "" || find(t, m.Wasm, 2, "") != nil {
		t.Errorf("%q %q", m.Fuel, m.Stack)
	}
}
