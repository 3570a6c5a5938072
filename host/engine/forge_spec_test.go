package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wasilo/wasilo/host/forge"
)

// The official WebAssembly core test suite, which the wazero module carries: each script runs on the original modules and
// on the rewritten ones, side by side. What passes on the original must pass on the rewritten.

type specScript struct {
	Commands []specCommand `json:"commands"`
}

type specCommand struct {
	Type       string      `json:"type"`
	Line       int         `json:"line"`
	Name       string      `json:"name"`
	Filename   string      `json:"filename"`
	As         string      `json:"as"`
	Text       string      `json:"text"`
	ModuleType string      `json:"module_type"`
	Expected   []specValue `json:"expected"`
	Action     struct {
		Type   string      `json:"type"`
		Field  string      `json:"field"`
		Module string      `json:"module"`
		Args   []specValue `json:"args"`
	} `json:"action"`
}

type specValue struct {
	Type     string `json:"type"`
	LaneType string `json:"lane_type"`
	Value    any    `json:"value"`
}

// bits is a value as wazero takes it; a v128 is two.
func (v specValue) bits() []uint64 {
	lanes, ok := v.Value.([]any)
	if !ok {
		return []uint64{specBits(v.Type, v.Value)}
	}
	width := 128 / len(lanes)
	out := make([]uint64, 2)
	for i, lane := range lanes {
		b := specBits(v.LaneType, lane)
		if width < 64 {
			b &= 1<<width - 1
		}
		out[i*width/64] |= b << (i * width % 64)
	}
	return out
}

func specBits(typ string, value any) uint64 {
	s, ok := value.(string)
	if !ok || s == "null" {
		return 0
	}
	if strings.HasPrefix(s, "nan:") {
		if typ == "f32" {
			return 0x7fc00000
		}
		return 0x7ff8000000000000
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		signed, _ := strconv.ParseInt(s, 10, 64)
		n = uint64(signed)
	}
	switch typ {
	case "externref":
		return n + 1 // wazero takes 0 for null
	case "i32", "f32":
		return uint64(uint32(n))
	}
	return n
}

// matches compares a result, which may be one of many NaNs.
func (v specValue) matches(have []uint64) bool {
	lanes, ok := v.Value.([]any)
	if !ok {
		if v.Value == nil && strings.HasSuffix(v.Type, "ref") {
			return true
		}
		return specMatch(v.Type, v.Value, have[0])
	}
	width := 128 / len(lanes)
	for i, lane := range lanes {
		h := have[i*width/64] >> (i * width % 64)
		if width < 64 {
			h &= 1<<width - 1
		}
		want := specBits(v.LaneType, lane)
		if width < 64 {
			want &= 1<<width - 1
		}
		if s, _ := lane.(string); strings.HasPrefix(s, "nan:") {
			if !specMatch(v.LaneType, lane, h) {
				return false
			}
		} else if h != want {
			return false
		}
	}
	return true
}

func specMatch(typ string, value any, have uint64) bool {
	s, _ := value.(string)
	switch {
	case s == "nan:canonical" && typ == "f32":
		return have&0x7fffffff == 0x7fc00000
	case s == "nan:canonical":
		return have&math.MaxInt64 == 0x7ff8000000000000
	case s == "nan:arithmetic" && typ == "f32":
		return have&0x7fc00000 == 0x7fc00000
	case s == "nan:arithmetic":
		return have&0x7ff8000000000000 == 0x7ff8000000000000
	case typ == "i32" || typ == "f32":
		have = uint64(uint32(have))
	}
	return have == specBits(typ, value)
}

// specWorld runs a script on originals, or on what the forge makes of them.
type specWorld struct {
	rewrite *forge.Options // nil: as they are
	runtime wazero.Runtime
	modules map[string]api.Module
	all     []api.Module
	last    api.Module

	refills, dispatched int
}

var errStackSpent = errors.New("stack overflow")

func newSpecWorld(t *testing.T, dir string, rewrite *forge.Options) *specWorld {
	ctx := t.Context()
	w := &specWorld{rewrite: rewrite, runtime: wazero.NewRuntime(ctx), modules: map[string]api.Module{}}
	t.Cleanup(func() { w.runtime.Close(context.Background()) })
	spectest, err := os.ReadFile(filepath.Join(dir, "testdata/spectest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.runtime.Instantiate(ctx, spectest); err != nil {
		t.Fatal(err)
	}
	refill := func(_ context.Context, m api.Module) {
		w.refills++
		refillForge(m)
	}
	if _, err := w.runtime.NewHostModuleBuilder(forge.RefillModule).NewFunctionBuilder().WithFunc(refill).
		Export(forge.RefillName).Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	return w
}

// refillForge does the least that a host does when it is called: end what has no stack left, top up the rest.
func refillForge(m api.Module) {
	if int64(m.ExportedGlobal("wasilo_forge_stack").Get()) < 0 {
		panic(errStackSpent)
	}
	m.ExportedGlobal("wasilo_forge_fuel").(api.MutableGlobal).Set(1000)
}

func specOptions(meter bool, dispatch int) forge.Options {
	return forge.Options{Meter: meter, Dispatch: dispatch, AllowReserved: true,
		Limits: forge.Limits{Memory: 4 << 30, TableElems: math.MaxUint32}}
}

// instantiate does all of an instantiation, for a rewritten module in several steps.
func (w *specWorld) instantiate(ctx context.Context, wasm []byte, name string) (api.Module, error) {
	cfg := wazero.NewModuleConfig().WithName(name)
	if w.rewrite == nil {
		return w.runtime.InstantiateWithConfig(ctx, wasm, cfg)
	}
	p, err := forge.Prepare(wasm, *w.rewrite)
	if err != nil {
		return nil, err
	}
	w.dispatched += p.Dispatched
	m, err := w.runtime.InstantiateWithConfig(ctx, p.Wasm, cfg)
	if err != nil {
		return nil, err
	}
	w.all = append(w.all, m)
	return m, startForged(ctx, m, p)
}

// startForged applies the data that was lifted out, and runs the start function.
func startForged(ctx context.Context, m api.Module, p *forge.Module) error {
	for _, s := range p.Data {
		if !m.Memory().Write(s.Offset, s.Bytes) {
			return errors.New("out of bounds memory access")
		}
	}
	if p.Start == "" {
		return nil
	}
	_, err := m.ExportedFunction(p.Start).Call(ctx)
	return err
}

func (w *specWorld) act(ctx context.Context, c *specCommand) ([]uint64, error) {
	m := w.last
	if c.Action.Module != "" {
		m = w.modules[c.Action.Module]
	}
	if m == nil {
		return nil, errors.New("there is no such module")
	}
	if c.Action.Type == "get" {
		return []uint64{m.ExportedGlobal(c.Action.Field).Get()}, nil
	}
	var args []uint64
	for _, a := range c.Action.Args {
		args = append(args, a.bits()...)
	}
	f := m.ExportedFunction(c.Action.Field)
	if f == nil {
		return nil, errors.New("there is no such function")
	}
	out, err := f.Call(ctx, args...)
	if err != nil { // the suite goes on with instances that trapped, which hosts discard
		for _, m := range w.all {
			if !w.rewrite.Meter {
				break
			}
			m.ExportedGlobal("wasilo_forge_stack").(api.MutableGlobal).Set(1 << 20)
		}
	}
	return out, err
}

// trapOf is the first line of an error, which names the trap.
func trapOf(err error) string {
	if err == nil {
		return ""
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimSuffix(first, " (recovered by wazero)")
}

func specPasses(c *specCommand, have []uint64, err error) bool {
	if err != nil {
		return false
	}
	for _, v := range c.Expected {
		n := 1
		if v.Type == "v128" {
			n = 2
		}
		if len(have) < n || !v.matches(have[:n]) {
			return false
		}
		have = have[n:]
	}
	return len(have) == 0
}

func wazeroDir(t testing.TB) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatalf("go list does not find the wazero module, whose copy of the official suite is read here: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "internal/integration_test/spectest")
}

// validToday are assertions of the first version's suite that WebAssembly 2.0 made valid.
var validToday = map[string]bool{
	"func.json:493": true, "func.json:497": true, "type.json:53": true, "type.json:57": true, // several results
	"imports.json:310": true, "imports.json:314": true, "imports.json:318": true, // several tables
	"unreached-invalid.json:539": true, // any operand fits where code is out of reach
}

func TestForgeSpecSuite(t *testing.T) {
	dir := wazeroDir(t)
	total, dispatched := map[string]int{}, map[string]int{}
	for _, run := range []struct {
		version  string
		meter    bool
		dispatch int
	}{{"v1", true, 0}, {"v2", true, 0}, {"v2", false, 0}, {"v1", true, 1}, {"v2", true, 1}, {"v2", false, 1}} {
		version, opt := run.version, specOptions(run.meter, run.dispatch)
		files, _ := filepath.Glob(filepath.Join(dir, version, "testdata", "*.json"))
		if len(files) == 0 {
			t.Fatalf("no scripts in %s", dir)
		}
		for _, file := range files {
			name := fmt.Sprintf("%s/%s/%t/%d", version, strings.TrimSuffix(filepath.Base(file), ".json"), run.meter, run.dispatch)
			counts := total
			if run.dispatch > 0 {
				counts = dispatched
			}
			if !run.meter {
				counts = map[string]int{} // the same assertions again
			}
			t.Run(name, func(t *testing.T) { runSpecScript(t, dir, file, version, opt, counts) })
		}
	}
	t.Logf("%v", total)
	t.Logf("with dispatch functions: %v", dispatched)
	if dispatched["dispatched tables"] < 50 && !t.Failed() {
		t.Errorf("only %d tables became functions", dispatched["dispatched tables"])
	}
	if asserted := total["assert_return"] + total["assert_trap"] + total["assert_exhaustion"]; asserted < 40_000 && !t.Failed() {
		t.Errorf("only %d assertions", asserted)
	}
}

func runSpecScript(t *testing.T, dir, file, version string, opt forge.Options, total map[string]int) {
	ctx := t.Context()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var script specScript
	if err := json.Unmarshal(b, &script); err != nil {
		t.Fatal(err)
	}
	original, rewritten := newSpecWorld(t, dir, nil), newSpecWorld(t, dir, &opt)
	for i := 0; i < len(script.Commands); i++ {
		c := &script.Commands[i]
		where := fmt.Sprintf("%s:%d", filepath.Base(file), c.Line)
		if c.ModuleType == "text" {
			total["excluded: text format"]++
			continue
		}
		total[c.Type]++
		var wasm []byte
		if c.Filename != "" {
			if wasm, err = os.ReadFile(filepath.Join(filepath.Dir(file), c.Filename)); err != nil {
				t.Fatal(err)
			}
		}
		switch c.Type {
		case "module":
			name := ""
			if i+1 < len(script.Commands) && script.Commands[i+1].Type == "register" {
				name = script.Commands[i+1].As
				i++
				total["register"]++
			}
			for _, w := range []*specWorld{original, rewritten} {
				m, err := w.instantiate(ctx, wasm, name)
				if err != nil {
					t.Errorf("%s: rewritten %t: %v", where, w.rewrite != nil, err)
				}
				w.last = m
				if c.Name != "" {
					w.modules[c.Name] = m
				}
			}
		case "assert_return", "action", "assert_trap", "assert_exhaustion":
			a, errA := original.act(ctx, c)
			b, errB := rewritten.act(ctx, c)
			switch {
			case c.Type == "assert_exhaustion":
				if errB == nil || !strings.Contains(trapOf(errB), "stack overflow") {
					t.Errorf("%s: original %v, rewritten %v", where, errA, errB)
				}
			case trapOf(errA) != trapOf(errB):
				t.Errorf("%s: original %q, rewritten %q", where, trapOf(errA), errB)
			case c.Type == "assert_trap":
				if errA == nil {
					total["fails on the original"]++
				}
			case !specPasses(c, a, errA) && c.Type == "assert_return":
				total["fails on the original"]++
				t.Logf("%s: fails on the original: %x %v", where, a, errA)
			case !specPasses(c, b, errB) && c.Type == "assert_return":
				t.Errorf("%s: original %x, rewritten %x", where, a, b)
			}
		case "assert_malformed", "assert_invalid":
			_, err := forge.Prepare(wasm, opt)
			if validToday[where] && version == "v1" {
				total["valid since 2.0"]++
			} else if err == nil {
				t.Errorf("%s: accepted: %s", where, c.Text)
			}
		case "assert_unlinkable", "assert_uninstantiable":
			_, errA := original.instantiate(ctx, wasm, "")
			_, errB := rewritten.instantiate(ctx, wasm, "")
			if (errA == nil) != (errB == nil) {
				t.Errorf("%s: original %v, rewritten %v", where, errA, errB)
			}
		default:
			t.Errorf("%s: unknown command %q", where, c.Type)
		}
	}
	total["refills"] += rewritten.refills
	total["dispatched tables"] += rewritten.dispatched
}
