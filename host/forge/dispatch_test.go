package forge_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/host/forge"
)

// A table goes only where all that is in it is known, and nothing else can look at it.
func TestTablesThatGo(t *testing.T) {
	const elem = "00 41 00 0b 01 00"
	build := func(code string, extra ...[]byte) []byte {
		sections := [][]byte{types, section(3, uleb(0)), section(4, cat("70 00 02"))}
		sections = append(sections, extra...)
		return module(append(sections, section(10, body(code)))...)
	}
	elements := func(e ...string) []byte {
		var entries [][]byte
		for _, e := range e {
			entries = append(entries, cat(e))
		}
		return section(9, entries...)
	}
	global := section(2, cat(name("a"), name("b"), "03 7f 00"))
	reference := section(2, cat(name("a"), name("b"), "03 70 00"))
	const call = "41 00 11 00 00"
	for what, c := range map[string]struct {
		wasm []byte
		goes int
	}{
		"called":             {build(call, elements(elem)), 1},
		"not called":         {build("", elements(elem)), 1},
		"empty":              {build(call), 1},
		"expressions":        {build(call, elements("04 41 00 0b 02 d2 00 0b d0 70 0b")), 1},
		"overlapping":        {build(call, elements(elem, elem)), 1},
		"two":                {module(types, section(3, uleb(0)), section(4, cat("70 00 02"), cat("70 00 03")), section(10, body(call, "41 00 11 00 01"))), 2},
		"one of two":         {module(types, section(3, uleb(0)), section(4, cat("70 00 02"), cat("70 00 03")), section(7, cat(name("t"), "01 00")), section(10, body(call, "41 00 11 00 01"))), 1},
		"of externref":       {module(types, section(4, cat("6f 00 02"))), 0},
		"exported":           {build(call, section(7, cat(name("t"), "01 00")), elements(elem)), 0},
		"read":               {build("41 00 25 00 1a"), 0},
		"measured":           {build("fc 10 00 1a"), 0},
		"written":            {build("41 00 d0 70 26 00", elements(elem)), 0},
		"beyond the end":     {build(call, elements("00 41 01 0b 02 00 00")), 0},
		"far beyond the end": {build(call, elements("00 41 7f 0b 01 00")), 0},
		"placed by a global": {module(types, global, section(3, uleb(0)), section(4, cat("70 00 02")), elements("00 23 00 0b 01 00"), section(10, body(call))), 0},
		"of a global":        {module(types, reference, section(3, uleb(0)), section(4, cat("70 00 02")), elements("04 41 00 0b 01 23 00 0b"), section(10, body(call))), 0},
		"small":              {module(types, section(3, uleb(0)), section(4, cat("70 00 01")), section(10, body(call))), 0},
	} {
		for _, meter := range []bool{true, false} {
			m := prepare(t, c.wasm, forge.Options{Meter: meter, Dispatch: 2})
			if m.Dispatched != c.goes {
				t.Errorf("%s: %d", what, m.Dispatched)
			}
			if _, err := forge.Prepare(m.Wasm, forge.Options{AllowReserved: true}); err != nil {
				t.Errorf("%s: the output is not valid: %v", what, err)
			}
			if without := prepare(t, c.wasm, forge.Options{Meter: meter}); without.Dispatched != 0 ||
				c.goes == 0 && !bytes.Equal(m.Wasm, without.Wasm) {
				t.Errorf("%s: a table that stays was changed", what)
			}
		}
	}
}

// What is left of a table has an entry for each way to trap, and what ref.func names is declared still.
func TestResidualTable(t *testing.T) {
	m := prepare(t, module(types, section(3, uleb(0), uleb(0)), section(4, cat("6f 00 01"), cat("70 00 08"), cat("70 00 09")),
		section(9, cat("02 01 41 03 0b 00 02 00 01"), cat("01 00 01 00")), section(10, body("41 03 11 00 01 d2 01 1a"), body("41 00 11 00 02"))),
		forge.Options{Dispatch: 8})
	if m.Dispatched != 2 {
		t.Fatal(m.Dispatched)
	}
	if b := find(t, m.Wasm, 4, ""); !bytes.Equal(b, vec(cat("6f 01 01 80 80 40"), cat("70 01 02 02"), cat("70 01 00 00"))) {
		t.Errorf("tables % x", b)
	}
	if b := find(t, m.Wasm, 9, ""); !bytes.Equal(b, vec(cat("03 00 01 01"), cat("02 01 41 01 0b 00 01 02"))) {
		t.Errorf("elements % x", b)
	}
	names := string(find(t, m.Wasm, 0, "name"))
	for _, n := range []string{"wasilo_forge.mismatch", "wasilo_forge.dispatch.0.1", "wasilo_forge.dispatch.0.2", "wasilo_forge.which.1"} {
		if !strings.Contains(names, n) || !forge.Injected(n) || !forge.Injected("guest."+n+"(i32)") {
			t.Errorf("%s is not named, or not known as injected", n)
		}
	}
}

// A large table takes time and code in proportion to what is in it, however often it is called and by how many types.
func TestDispatchIsLinear(t *testing.T) {
	const n = 50_000
	var many [][]byte
	var calls []byte
	for i := range 300 { // types that no function has, but for the first
		many = append(many, cat("60", i, bytes.Repeat([]byte{0x7f}, i), 0))
		calls = cat(calls, bytes.Repeat(cat("41 00"), i+1), "11", i, 0)
	}
	wasm := module(section(1, many...), section(3, uleb(0)), section(4, cat("70 00", n)),
		section(9, cat("00 41 00 0b", n, bytes.Repeat([]byte{0}, n))), section(10, body(calls)))
	m := prepare(t, wasm, forge.Options{Meter: true, Dispatch: 8})
	if m.Dispatched != 1 || len(m.Wasm) > 10*len(wasm) {
		t.Errorf("%d tables, %d -> %d bytes", m.Dispatched, len(wasm), len(m.Wasm))
	}
	if _, err := forge.Prepare(m.Wasm, forge.Options{AllowReserved: true}); err != nil {
		t.Errorf("the output is not valid: %v", err)
	}
}

func TestNamesOfInjectedFunctions(t *testing.T) {
	for name, want := range map[string]bool{
		"wasilo_forge.refill": true, "wasilo_forge.dispatch.0.1.3(i32,i32) i32": true, "mod.wasilo_forge.memory.fill": true,
		"wasilo_forge": false, "main.wasilo_forgery": false, "main.my_wasilo_forge.x": false, "": false,
	} {
		if forge.Injected(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
	m := prepare(t, module(types, section(3, uleb(0), uleb(0)), section(10, body(), body()),
		custom("name", cat(byte(1), sized(vec(cat(0, name("wasilo_forge.x")), cat(1, name("f"))))))), metered)
	if b := find(t, m.Wasm, 0, "name"); bytes.Contains(b, []byte("wasilo_forge.x")) || !bytes.Contains(b, name("f")) {
		t.Errorf("%q", b)
	}
}
