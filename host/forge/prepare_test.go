package forge_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/forge"
)

func TestRefusalsNameTheirPlace(t *testing.T) {
	codeAt := len(simple()) - 1 // of the first instruction of the only body, which ends the module
	for _, c := range []struct {
		what     string
		wasm     []byte
		section  string
		function int
		offset   int
		reason   string
	}{
		{"empty", nil, "", -1, 0, "magic"},
		{"text", []byte("(module)"), "", -1, 0, "magic"},
		{"component", cat("00 61 73 6d 0d 00 01 00"), "", -1, 4, "component"},
		{"version", cat("00 61 73 6d 02 00 00 00"), "", -1, 4, "version"},
		{"unknown section", module(cat("0e 00")), "", -1, 8, "section 14"},
		{"tags", module(cat("0d 01 00")), "", -1, 8, "exception handling"},
		{"truncated", module(cat("01 7f")), "", -1, 8, "truncated"},
		{"order", module(section(3), section(1)), "", -1, 11, "too late"},
		{"twice", module(section(1), section(1)), "", -1, 11, "second type section"},
		{"rest", module(cat("01 02 00 00")), "type", -1, 11, "1 bytes follow"},
		{"long number", module(cat("01 06 80 80 80 80 80 00")), "type", -1, 10, "too long"},
		{"large number", module(cat("01 05 80 80 80 80 7f")), "type", -1, 10, "too large"},
		{"struct type", module(section(1, cat("5f 00"))), "type", -1, 11, "GC"},
		{"bad UTF-8", module(section(2, cat(sized([]byte{0xff}), name("x"), "00 00"))), "import", -1, 12, "UTF-8"},
		{"memory64", module(section(5, cat("04 01"))), "memory", -1, 11, "memory64"},
		{"shared", module(section(5, cat("03 01 02"))), "memory", -1, 11, "threads"},
		{"two memories", module(section(5, cat("00 01"), cat("00 01"))), "memory", -1, 13, "multi-memory"},
		{"min above max", module(section(5, cat("01 02 01"))), "memory", -1, 11, "above its maximum"},
		{"extended constant", module(section(6, cat("7f 00 41 01 41 02 6a 0b"))), "global", -1, 15, "more than one"},
		{"constant call", module(section(6, cat("7f 00 10 00 0b"))), "global", -1, 13, "call in a constant"},
		{"duplicate export", module(section(5, cat("00 01")), section(7, cat(name("m"), "02 00"), cat(name("m"), "02 00"))),
			"export", -1, 20, "twice"},
		{"unknown export", module(section(7, cat(name("m"), "02 00"))), "export", -1, 14, "unknown memory 0"},
		{"no bodies", module(types, section(3, uleb(0))), "", -1, len(module(types, section(3, uleb(0)))), "have a body"},
		{"operand missing", simple("1a"), "code", 0, codeAt, "nothing more"},
		{"wrong operand", simple("42 01 45 1a"), "code", 0, codeAt + 2, "takes i32, but the stack holds i64"},
		{"left over", simple("41 01"), "code", 0, codeAt + 2, "1 operands are left"},
		{"unknown local", simple("20 00 1a"), "code", 0, codeAt, "unknown local 0"},
		{"unknown label", simple("0c 02"), "code", 0, codeAt, "unknown label 2"},
		{"unknown type", simple("02 07 0b"), "code", 0, codeAt, "unknown type 7"},
		{"alignment", simple("41 00 28 03 00 1a"), "code", 0, codeAt + 2, "alignment"},
		{"tail call", simple("12 00"), "code", 0, codeAt, "tail calls"},
		{"exceptions", simple("06 40 0b"), "code", 0, codeAt, "exception handling"},
		{"atomics", simple("fe 03 00"), "code", 0, codeAt, "threads"},
		{"relaxed SIMD", simple("fd 80 02"), "code", 0, codeAt, "relaxed SIMD"},
		{"GC", simple("fb 00"), "code", 0, codeAt, "GC"},
		{"no instruction", simple("ff"), "code", 0, codeAt, "no instruction"},
		{"second memory", simple("41 00 28 42 00 00 1a"), "code", 0, codeAt + 3, "multi-memory"},
		{"undeclared", module(types, section(3, uleb(0)), section(10, body("d2 00 1a"))), "code", 0, -1, "undeclared"},
		{"init without a count", simple("41 00 41 00 41 00 fc 08 00 00"), "code", 0, codeAt + 6, "data count"},
		{"unclosed", module(types, section(3, uleb(0)), section(10, sized(cat("00 02 40 0b")))), "code", 0, -1, "1 blocks open"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := forge.Prepare(c.wasm, metered)
			var e *forge.Error
			if !errors.As(err, &e) {
				t.Fatalf("%v", err)
			}
			if e.Section != c.section || e.Function != c.function || !strings.Contains(e.Reason, c.reason) ||
				c.offset >= 0 && e.Offset != c.offset {
				t.Errorf("%#v; want section %q, function %d, offset %d, %q", e, c.section, c.function, c.offset, c.reason)
			}
			if abi.CodeOf(err) != abi.ErrInvalidArgument {
				t.Errorf("code %v", abi.CodeOf(err))
			}
		})
	}
}

// What the forge adds stands behind what is there. An index just beyond the end of a space of the original must not reach
// it: a guest could give itself fuel.
func TestInjectedThingsAreOutOfReach(t *testing.T) {
	for what, wasm := range map[string][]byte{
		"fuel is read":         simple("23 01 1a"),
		"fuel is written":      simple("42 7f 24 01"),
		"stack is written":     simple("42 7f 24 02"),
		"refill is called":     simple("10 01"),
		"a helper is called":   simple("41 00 41 00 41 00 fc 0b 00 10 02"),
		"an added type":        simple("02 03 0b"),
		"fuel is exported":     module(types, section(6, cat("7f 01 41 05 0b")), section(7, cat(name("x"), "03 01"))),
		"refill is exported":   module(types, section(7, cat(name("x"), "00 00"))),
		"refill is an element": module(types, section(4, cat("70 00 02")), section(9, cat("00 41 00 0b 01 00"))),
		"refill is started":    module(types, cat(byte(8), 1, 0)),
	} {
		if _, err := forge.Prepare(wasm, metered); err == nil || !strings.Contains(err.Error(), "unknown") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestReservedNamesAreRefused(t *testing.T) {
	for what, wasm := range map[string][]byte{
		"import module": module(types, section(2, cat(name("wasilo_forge"), name("refill"), "00 00"))),
		"import name":   module(types, section(2, cat(name("env"), name("wasilo_forge_x"), "00 00"))),
		"export":        module(section(5, cat("00 01")), section(7, cat(name("wasilo_forge_fuel"), "02 00"))),
	} {
		if _, err := forge.Prepare(wasm, metered); err == nil || !strings.Contains(err.Error(), "reserved") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLimits(t *testing.T) {
	var hundred []byte // locals set
	for i := range 100 {
		hundred = append(hundred, 0x20, 0, 0x21, byte(i))
	}
	deep := bytes.Repeat(cat("02 40"), 101)
	deep = cat(deep, bytes.Repeat([]byte{0x0b}, 101))
	many := bytes.Repeat(cat("41 00 04 40 0b"), 1000)
	wide := module(section(1, cat("60", uleb(20), bytes.Repeat([]byte{0x7f}, 20), uleb(0))), section(3, uleb(0)), section(10, sized(cat("00 0b"))))
	local := func(body ...any) []byte {
		return module(types, section(3, uleb(0)), section(5, cat("00 01")), section(10, sized(cat("01 01 7f", cat(body...), "0b"))))
	}
	global := section(6, cat("7f 01 41 00 0b"), cat("7f 01 41 00 0b"), cat("7f 01 41 00 0b"))
	for what, c := range map[string]struct {
		limits forge.Limits
		wasm   []byte
		reason string
	}{
		"size":        {forge.Limits{MaxSize: 20}, simple(), "at most 20"},
		"types":       {forge.Limits{MaxTypes: 2}, simple(), "at most 2"},
		"functions":   {forge.Limits{MaxFunctions: 1}, module(types, section(3, uleb(0), uleb(0))), "at most 1"},
		"imports":     {forge.Limits{MaxImports: 1}, module(types, section(2, cat("00 00 00 00"), cat("00 00 00 00"))), "at most 1"},
		"globals":     {forge.Limits{MaxGlobals: 1}, module(section(6, cat("7f 00 41 00 0b"), cat("7f 00 41 00 0b"))), "at most 1"},
		"tables":      {forge.Limits{MaxTables: 1}, module(section(4, cat("70 00 00"), cat("70 00 00"))), "at most 1"},
		"segments":    {forge.Limits{MaxSegments: 1}, module(section(11, cat("01 00"), cat("01 00"))), "at most 1"},
		"params":      {forge.Limits{MaxParams: 2}, simple(), "at most 2"},
		"body":        {forge.Limits{MaxBody: 3}, simple("01 01"), "at most 3"},
		"nesting":     {forge.Limits{MaxNesting: 100}, simple(deep), "deeper than 100"},
		"nesting sum": {forge.Limits{MaxNestingSum: 1000}, simple(deep), "more than 1000"},
		"blocks":      {forge.Limits{MaxBlocks: 100}, simple(deep), "more than 100 blocks"},
		"squares":     {forge.Limits{MaxBlocksSquared: 10_000}, simple(many), "at most"},
		"compiler":    {forge.Limits{MaxCompiler: 50_000}, local(bytes.Repeat(cat("41 00 28 00 00 1a"), 20)), "split it"},
		"values":      {forge.Limits{MaxValues: 19}, wide, "more than 19 values"},
		"sum of locals": {forge.Limits{MaxLocalsSum: 1}, module(types, section(3, uleb(0)), section(10, sized(cat("01 64 7f 0b")))),
			"100 locals and parameters"},
		"walks": {forge.Limits{MaxWalks: 1}, local("02 40", bytes.Repeat(cat("20 00 0d 00"), 100), "0b"), "searching for what they hold"},
		"phis": {forge.Limits{MaxPhis: 1}, local(bytes.Repeat(cat("03 40"), 400), "20 00 1a", bytes.Repeat(cat("20 00 0d 00 0b"), 400)),
			"in too many loops"},
		"live": {forge.Limits{MaxLive: 1}, local("20 00", bytes.Repeat(cat("28 00 00"), 30), "1a", bytes.Repeat(cat("20 00 04 40 0b"), 30)),
			"values held over"},
		"wide": {forge.Limits{MaxWide: 1}, module(types, cat(byte(3), sized(cat(200, make([]byte, 200)))), cat(byte(10), sized(cat(200, sized(cat("00 41 00 0e", 20_000, make([]byte, 20_001), "0b")),
			bytes.Repeat(cat("02 00 0b"), 199))))), "behind one with many branches"},
		"loads": {forge.Limits{MaxGlobalLoads: 1}, module(types, section(3, uleb(0)), global,
			section(10, sized(cat("00", bytes.Repeat(cat("10 00"), 10), "0b")))), "calls × mutable globals"},
		"behind": {forge.Limits{MaxBehind: 1}, local(bytes.Repeat(cat("03 40 20 00 0d 00 0b"), 100)),
			"loops one behind the other"},
		"steps": {forge.Limits{MaxSteps: 1}, module(types, section(3, uleb(0)), section(10, sized(cat("01 64 7f 02 40", hundred,
			bytes.Repeat(cat("20 00 0d 00"), 1000), "0b 0b")))), "following them takes"},
		"pairs":    {forge.Limits{MaxPairs: 1}, simple(), "functions × types"},
		"br_table": {forge.Limits{MaxBrTable: 2}, simple("41 00 0e 03 00 00 00 00"), "at most 2"},
		"locals": {forge.Limits{MaxLocals: 9}, module(types, section(3, uleb(0)), section(10, sized(cat("01 0a 7f 0b")))),
			"more than 9 locals"},
		"elements": {forge.Limits{MaxElements: 1}, module(types, section(3, uleb(0)), section(9, cat("01 00 02 00 00"))), "at most 1"},
		"memory":   {forge.Limits{Memory: 1 << 16}, module(section(5, cat("00 02"))), "the limit is 65536"},
		"table":    {forge.Limits{TableElems: 10}, module(section(4, cat("70 00 0b"))), "the limit is 10"},
	} {
		_, err := forge.Prepare(c.wasm, forge.Options{Limits: c.limits})
		if err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A declared count must not decide what is allocated.
func TestLyingCountsAllocateLittle(t *testing.T) {
	var lies [][]byte
	for id := byte(1); id <= 12; id++ {
		lies = append(lies, module(cat(id, 5, "ff ff ff ff 0f")), module(cat(id, 4, "ff ff ff 00")))
	}
	lies = append(lies, simple("41 00 0e ff ff ff ff 0f"), simple("1c ff ff ff ff 0f"),
		module(types, section(3, uleb(0)), section(10, sized(cat("01 ff ff ff ff 0f 7f 0b")))),
		module(types, section(3, uleb(0)), section(9, cat("01 00 ff ff ff ff 0f"))))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, wasm := range lies {
		if _, err := forge.Prepare(wasm, metered); err == nil && len(wasm) < 20 {
			t.Errorf("% x accepted", wasm)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes for %d lies", took, len(lies))
	}
}

// fixtures are the modules of the repository that are WebAssembly 2.0.
func fixtures(t testing.TB) map[string][]byte {
	out := map[string][]byte{}
	for _, pattern := range []string{"*.wasm", "hostile/*.wasm"} {
		files, err := filepath.Glob(filepath.Join("../../testdata/wasm", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no fixtures: %v", err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Base(f)] = b
		}
	}
	return out
}

// notModules are the fixtures that no host can run.
var notModules = map[string]bool{"component.wasm": true, "empty.wasm": true, "notwasm.wasm": true, "text.wasm": true, "truncated.wasm": true}

func TestFixtures(t *testing.T) {
	for f, wasm := range fixtures(t) {
		if f == "large_memory.wasm" || f == "table_bomb.wasm" || f == "tables.wasm" {
			continue // have tests of their own
		}
		kept := bytes.Clone(wasm)
		m, err := forge.Prepare(wasm, metered)
		if notModules[f] {
			if err == nil {
				t.Errorf("%s: accepted", f)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		again := prepare(t, wasm, metered)
		switch {
		case !bytes.Equal(wasm, kept):
			t.Errorf("%s: the input was changed", f)
		case !bytes.Equal(m.Wasm, again.Wasm) || m.OutputSHA256 != again.OutputSHA256:
			t.Errorf("%s: two runs differ", f)
		case m.OutputSHA256 != sha256.Sum256(m.Wasm) || m.InputSHA256 != sha256.Sum256(wasm):
			t.Errorf("%s: wrong hashes", f)
		}
		if _, err := forge.Prepare(m.Wasm, forge.Options{AllowReserved: true}); err != nil {
			t.Errorf("%s: the output is not valid: %v", f, err)
		}
		if len(wasm) > 1<<20 {
			t.Logf("%s: %d -> %d bytes, %s (%s), %d segments lifted, uses %s", f, len(wasm), len(m.Wasm), m.Tier, m.TierReason,
				len(m.Data), m.Features)
		}
	}
}

// wide are limits for what the forge itself has written, which may be beyond those of what it reads: a function of 5,000 locals gets more.
var wide = forge.Limits{MaxSize: 1 << 40, MaxTypes: 1 << 40, MaxImports: 1 << 40, MaxFunctions: 1 << 40, MaxTables: 1 << 40, MaxGlobals: 1 << 40,
	MaxExports: 1 << 40, MaxSegments: 1 << 40, MaxElements: 1 << 40, MaxParams: 1 << 40, MaxLocals: 1 << 20, MaxBody: 1 << 40, MaxBrTable: 1 << 40,
	MaxNesting: 1 << 40, MaxNestingSum: 1 << 40, MaxBlocks: 1 << 40, MaxBlocksSquared: 1 << 40, MaxValues: 1 << 40, MaxLocalsSum: 1 << 40,
	MaxWalks: 1 << 40, MaxPhis: 1 << 40, MaxLive: 1 << 40, MaxGlobalLoads: 1 << 40, MaxWide: 1 << 40, MaxCompiler: 1 << 40, MaxPairs: 1 << 40,
	MaxBehind: 1 << 40, MaxSteps: 1 << 40}

func FuzzPrepare(f *testing.F) {
	for _, wasm := range fixtures(f) {
		if len(wasm) < 4096 {
			f.Add(wasm)
		}
	}
	f.Add(simple("02 40 03 40 0c 01 0b 0b"))
	f.Add(simple("41 00 41 00 41 00 fc 0b 00"))
	f.Add(simple("41 00 11 00 00"))
	f.Add(simple("01 41 00 11 00 00"))
	f.Add(module(types, section(3, uleb(0)), section(10, sized(cat(1, 5000, "7f 03 40 41 00 0d 00 0b 0b"))))) // as many locals as there may be
	f.Fuzz(func(t *testing.T, wasm []byte) {
		kept := bytes.Clone(wasm)
		opt := forge.Options{Meter: true, Dispatch: len(wasm) % 3}
		m, err := forge.Prepare(wasm, opt)
		if !bytes.Equal(kept, wasm) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			var e *forge.Error
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(wasm) || e.Reason == "" {
				t.Fatalf("%#v", err)
			}
			return
		}
		if again := prepare(t, wasm, opt); !bytes.Equal(m.Wasm, again.Wasm) {
			t.Fatal("two runs differ")
		}
		if _, err := forge.Prepare(m.Wasm, forge.Options{AllowReserved: true, Limits: wide}); err != nil {
			t.Fatalf("the output is not valid: %v", err)
		}
	})
}
