package forge_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/host/forge"
)

// A small assembler: modules are lists of sections, sections lists of entries, all of them bytes.

func uleb(v int) (b []byte) {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func cat(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case byte:
			b = append(b, p)
		case int:
			b = append(b, uleb(p)...)
		case string: // hexadecimal, with spaces
			raw, err := hex.DecodeString(strings.ReplaceAll(p, " ", ""))
			if err != nil {
				panic(err)
			}
			b = append(b, raw...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func vec(entries ...[]byte) []byte {
	b := uleb(len(entries))
	for _, e := range entries {
		b = append(b, e...)
	}
	return b
}

func sized(b []byte) []byte { return cat(len(b), b) }
func name(s string) []byte  { return sized([]byte(s)) }

func section(id byte, entries ...[]byte) []byte { return cat(id, sized(vec(entries...))) }
func custom(n string, body []byte) []byte       { return cat(byte(0), sized(cat(name(n), body))) }
func dataCount(n int) []byte                    { return cat(byte(12), sized(uleb(n))) }

func module(sections ...[]byte) []byte {
	return cat("00 61 73 6d 01 00 00 00", cat(anys(sections)...))
}

func anys(parts [][]byte) (out []any) {
	for _, p := range parts {
		out = append(out, p)
	}
	return out
}

// types is a type section of () -> (), (i32) -> i32 and (i32, i32, i32) -> ().
var types = section(1, cat("60 00 00"), cat("60 01 7f 01 7f"), cat("60 03 7f 7f 7f 00"))

// body is an entry of the code section without locals.
func body(code ...any) []byte { return sized(cat(byte(0), cat(code...), byte(0x0b))) }

// simple is a module of one function () -> () with a memory of one page, a global and a table of two entries.
func simple(code ...any) []byte {
	return module(types, section(3, uleb(0)), section(4, cat("70 00 02")), section(5, cat("00 01")),
		section(6, cat("7f 01 41 05 0b")), section(7, cat(name("run"), byte(0), 0)), section(10, body(code...)))
}

func prepare(t testing.TB, wasm []byte, opt forge.Options) *forge.Module {
	t.Helper()
	m, err := forge.Prepare(wasm, opt)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return m
}

var metered = forge.Options{Meter: true}
