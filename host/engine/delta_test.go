package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
)

// first is the first event of an actor of a kind.
func first(kind, method string, payload []byte) *abi.Event {
	id, err := abi.NewIdentity(kind, "a")
	if err != nil {
		panic(err)
	}
	ev := call(method, payload)
	ev.Self = &abi.Self{Identity: id, Reason: "call"}
	return ev
}

var addOne = abi.AppendInt(abi.AppendText(abi.AppendMap(nil, 1), "by"), 1)

// count runs a turn of a counter and returns what it answers.
func count(t testing.TB, i *Instance, ev *abi.Event) int64 {
	t.Helper()
	out, err := turn(i, ev)
	if err != nil || out.Kind != abi.OutReply {
		t.Fatalf("%+v, %v", out, err)
	}
	r := abi.NewReader(out.Payload)
	if r.Map() != 1 || r.Text() != "value" {
		t.Fatalf("answered %x", out.Payload)
	}
	return r.Int()
}

// counters are fixtures that count, by their kind.
var counters = map[string]string{"tally": "tally.wasm", "counter": "examples.wasm"}

// bothSlots runs f with mapped and with copied memories.
func bothSlots(t *testing.T, f func(t *testing.T, cfg Config)) {
	t.Run("mapped", func(t *testing.T) { f(t, Config{}) })
	t.Run("copied", func(t *testing.T) { f(t, Config{Slots: slot.Options{Portable: true}}) })
}

// TestStateGoesOnElsewhere: what is captured goes on in another instance, another engine, and again.
func TestStateGoesOnElsewhere(t *testing.T) {
	bothSlots(t, func(t *testing.T, cfg Config) {
		for kind, file := range counters {
			var state []byte
			for round := range 3 {
				m := mustLoad(t, newEngine(t, cfg), file)
				for step := range 3 {
					i := instantiate(t, m, noHost{}, Options{State: state})
					want := int64(round*3 + step + 1)
					if got := count(t, i, first(kind, "add", addOne)); got != want {
						t.Fatalf("%s: %d, want %d", kind, got, want)
					}
					var err error
					if state, err = i.Capture(nil); err != nil {
						t.Fatal(err)
					}
					if got := count(t, i, call("get", []byte{0xa0})); got != want {
						t.Errorf("%s: after its capture an instance answers %d, want %d", kind, got, want)
					}
					i.Close()
				}
			}
			t.Logf("%s: %d bytes", kind, len(state))
		}
	})
}

// TestOneStateManyTimes: capturing twice gives the same bytes but for the clock, and a captured state is not used up.
func TestOneStateManyTimes(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "tally.wasm")
	i := instantiate(t, m, noHost{}, Options{})
	count(t, i, first("tally", "add", nil))
	state, err := i.Capture([]byte("before"))
	if err != nil || !bytes.HasPrefix(state, []byte("beforewsl")) {
		t.Fatalf("%q, %v", state, err)
	}
	for range 3 {
		j := instantiate(t, m, noHost{}, Options{State: state[6:]})
		if got := count(t, j, first("tally", "add", nil)); got != 2 {
			t.Errorf("%d, want 2", got)
		}
	}
}

// TestGrownStateGoesOn: memory that was grown comes back, and what lies in it.
func TestGrownStateGoesOn(t *testing.T) {
	bothSlots(t, func(t *testing.T, cfg Config) {
		m := mustLoad(t, newEngine(t, cfg), "tally.wasm")
		i := instantiate(t, m, noHost{}, Options{})
		count(t, i, first("tally", "add", make([]byte, 300<<10)))
		was := bytes.Clone(must(i.mem.Read(0, i.mem.Size())))
		state, err := i.Capture(nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(was) <= pageSize || len(state) > 1<<10 {
			t.Errorf("%d bytes of memory became %d", len(was), len(state))
		}
		j := instantiate(t, m, noHost{}, Options{State: state})
		now := must(j.mem.Read(0, j.mem.Size()))
		clear(was[i.inbox : i.inbox+i.inboxSize])
		if !bytes.Equal(was[:4096], now[:4096]) || len(was) != len(now) {
			t.Errorf("%d bytes came back as %d", len(was), len(now))
		}
		if got := count(t, j, first("tally", "add", nil)); got != 2 {
			t.Errorf("%d, want 2", got)
		}
		if _, err := m.Instantiate(context.Background(), noHost{}, Options{State: state, Memory: 2 * pageSize}); abi.CodeOf(err) != abi.ErrLimitExceeded {
			t.Errorf("a state larger than the memory: %v", err)
		}
	})
}

func must(b []byte, ok bool) []byte {
	if !ok {
		panic("out of range")
	}
	return b
}

// sealed makes a delta of parts with the right checksum.
func sealed(m *Module, flags byte, body []byte) []byte {
	b := append([]byte(deltaMagic), m.template.hash[:deltaHash]...)
	b = append(b, make([]byte, 8)...)
	b = append(append(b, flags), body...)
	binary.LittleEndian.PutUint64(b[deltaHead-8:], xxhash.Sum64(b[deltaHead:]))
	return b
}

// TestBadStatesAreRefused: damaged, foreign and stale states, each with its own error, and the module serves on.
func TestBadStatesAreRefused(t *testing.T) {
	e := newEngine(t, Config{})
	m, other := mustLoad(t, e, "tally.wasm"), mustLoad(t, e, "examples.wasm")
	i := instantiate(t, m, noHost{}, Options{Epoch: abi.Epoch{Index: 7}})
	count(t, i, first("tally", "add", nil))
	state, err := i.Capture(nil)
	if err != nil {
		t.Fatal(err)
	}
	body := state[deltaHead+1:]
	refused := func(name string, m *Module, opt Options, want error) {
		t.Helper()
		j, err := m.Instantiate(context.Background(), noHost{}, opt)
		var se *StateError
		if !errors.Is(err, want) || !errors.As(err, &se) || abi.CodeOf(err) != abi.ErrStateUnusable || j != nil {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	now := Options{Epoch: abi.Epoch{Index: 8}}
	with := func(state []byte) Options { o := now; o.State = state; return o }
	for k := range state {
		bad := bytes.Clone(state)
		bad[k] ^= 0x10
		want := ErrDamaged
		if k >= len(deltaMagic) && k < len(deltaMagic)+deltaHash {
			want = ErrForeign
		}
		refused(fmt.Sprintf("byte %d", k), m, with(bad), want)
		refused(fmt.Sprintf("cut at %d", k), m, with(state[:k:k]), ErrDamaged)
	}
	refused("another module", other, with(state), ErrForeign)
	refused("a later epoch", m, Options{State: state, Epoch: abi.Epoch{Index: 6}}, ErrStale)
	refused("flags", m, with(sealed(m, 2, body)), ErrDamaged)
	refused("no frame", m, with(sealed(m, flagZstd, body)), ErrDamaged)
	refused("a byte too many", m, with(sealed(m, 0, append(bytes.Clone(body), 0))), ErrDamaged)
	refused("a page too many", m, with(sealed(m, 0, append(bytes.Clone(body), 15, 0, 1, 9, 255, 31))), ErrDamaged)
	refused("no memory", m, with(sealed(m, 0, []byte{0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})), ErrDamaged)
	refused("too much memory", m, with(sealed(m, 0, []byte{0, 7, 0, 0, 0, 128, 128, 4, 0, 0, 0, 0, 0, 0})), ErrDamaged)
	refused("an inbox outside", m, with(sealed(m, 0, []byte{0, 7, 0, 255, 255, 3, 2, 1, 0, 0, 0, 0, 0, 0})), ErrDamaged)
	if j := instantiate(t, m, noHost{}, with(state)); count(t, j, first("tally", "add", nil)) != 2 {
		t.Error("the good one is lost")
	}
}

// TestALargeStateIsAsGoodAsBefore: where a node allows less memory a state is not damaged for that, and wakes where there is more.
func TestALargeStateIsAsGoodAsBefore(t *testing.T) {
	bothSlots(t, func(t *testing.T, cfg Config) {
		cfg.Memory = 64 << 20
		large := mustLoad(t, newEngine(t, cfg), "hostcalls.wasm")
		cfg.Memory = 1 << 20
		small := mustLoad(t, newEngine(t, cfg), "hostcalls.wasm")
		i := instantiate(t, large, noHost{}, Options{})
		grow(t, i, 32<<20/pageSize-4)
		state := capture(t, i)
		// Packed, it is not even unpacked where that takes more than all that a state may have there.
		packed := sealed(large, flagZstd, large.eng.encoder.EncodeAll(make([]byte, 18<<20), nil))
		for words, state := range map[string][]byte{"has 32 MiB of memory": state, "has more than 1 MiB of memory": packed} {
			_, err := small.Instantiate(context.Background(), noHost{}, Options{State: state})
			if abi.CodeOf(err) != abi.ErrLimitExceeded || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), words+"; its limit is 1 MiB") {
				t.Errorf("%d bytes: %v", len(state), err)
			}
		}
		if mem := small.eng.Memory(); small.eng.Held() != 0 || mem.Live+mem.Grown != 0 {
			t.Errorf("%+v, %d held", mem, small.eng.Held())
		}
		if j := instantiate(t, large, noHost{}, Options{State: state}); grow(t, j, 0) != 32<<20/pageSize {
			t.Error("it is not as it was")
		}
		if _, err := large.Instantiate(context.Background(), noHost{}, Options{State: packed}); !errors.Is(err, ErrDamaged) {
			t.Errorf("zeros: %v", err)
		}
	})
}

// TestRestFolds: an instance at rest holds no memory of its own, and goes on as if nothing had been; so does what is captured of it.
func TestRestFolds(t *testing.T) {
	bothSlots(t, func(t *testing.T, cfg Config) {
		for kind, file := range counters {
			m := mustLoad(t, newEngine(t, cfg), file)
			i := instantiate(t, m, noHost{}, Options{})
			for n := range int64(5) {
				if got := count(t, i, first(kind, "add", addOne)); got != n+1 {
					t.Fatalf("%s: %d, want %d", kind, got, n+1)
				}
				heavy := i.Weight()
				i.Rest()
				i.Rest()
				if i.body != nil || i.Weight() >= heavy {
					t.Errorf("%s: at rest it weighs %d, before %d", kind, i.Weight(), heavy)
				}
			}
			state, err := i.Capture(nil)
			if err != nil {
				t.Fatal(err)
			}
			j := instantiate(t, m, noHost{}, Options{State: state})
			if a, b := count(t, i, call("get", []byte{0xa0})), count(t, j, call("get", []byte{0xa0})); a != 5 || b != 5 {
				t.Errorf("%s: %d and %d, want 5", kind, a, b)
			}
			i.Rest()
			if err := i.Close(); err != nil {
				t.Error(err)
			}
			if _, err := i.Capture(nil); err == nil {
				t.Error("a closed instance was captured")
			}
		}
	})
}

// TestPlainModulesAreNotCaptured: a module that changes its table says why it cannot be.
func TestPlainModulesAreNotCaptured(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "hostile/table_grow.wasm")
	i := instantiate(t, m, noHost{}, Options{})
	if _, err := i.Capture(nil); abi.CodeOf(err) != abi.ErrUnsupported || !strings.Contains(err.Error(), "changes table 0") {
		t.Errorf("got %v", err)
	}
	if _, err := m.Instantiate(context.Background(), noHost{}, Options{State: []byte{1}}); abi.CodeOf(err) != abi.ErrUnsupported {
		t.Errorf("got %v", err)
	}
}

// TestStateGoesOnInAnotherProcess captures in this process and wakes in a child, which is this test binary.
func TestStateGoesOnInAnotherProcess(t *testing.T) {
	if file := os.Getenv("WASILO_TEST_STATE"); file != "" {
		state, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		kind := os.Getenv("WASILO_TEST_KIND")
		i := instance(t, counters[kind], noHost{}, Options{State: state})
		if got := count(t, i, first(kind, "add", addOne)); got != 42 {
			t.Fatalf("%d, want 42", got)
		}
		fmt.Println("woken in another process")
		return
	}
	for kind, file := range counters {
		i := instance(t, file, noHost{}, Options{})
		for range 41 {
			count(t, i, first(kind, "add", addOne))
		}
		state, err := i.Capture(nil)
		if err != nil {
			t.Fatal(err)
		}
		path := t.TempDir() + "/state"
		if err := os.WriteFile(path, state, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestStateGoesOnInAnotherProcess$", "-test.v")
		cmd.Env = append(os.Environ(), "WASILO_TEST_STATE="+path, "WASILO_TEST_KIND="+kind)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "woken in another process") {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
	}
}

// TestClocksGoOn: a guest's monotonic clock never goes back, whatever that of the node says where it wakes.
func TestClocksGoOn(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "tally.wasm")
	i := instantiate(t, m, noHost{}, Options{})
	i.env.ahead = int64(time.Hour)
	state, err := i.Capture(nil)
	if err != nil {
		t.Fatal(err)
	}
	before := i.env.nanotime()
	j := instantiate(t, m, noHost{}, Options{State: state})
	if after := j.env.nanotime(); after < before-int64(time.Minute) || j.env.ahead <= 0 {
		t.Errorf("the clock went back by %v", time.Duration(before-after))
	}
	j.Close()
	if k := instantiate(t, m, noHost{}, Options{}); k.env.ahead != 0 {
		t.Error("the next user of the body has the clock of the last")
	}
}

// FuzzDelta gives arbitrary bytes, sealed, to the decoder: it neither crashes nor takes memory out of proportion, and what it accepts can
// be applied.
func FuzzDelta(f *testing.F) {
	e, err := New(Config{MaxMemory: 64 << 20})
	if err != nil {
		f.Fatal(err)
	}
	m, err := e.Load(context.Background(), fixture(f, "tally.wasm"))
	if err != nil {
		f.Fatal(err)
	}
	i, err := m.Instantiate(context.Background(), noHost{}, Options{})
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range []int{0, 100, 300 << 10} {
		if _, err := turn(i, first("tally", "add", bytes.Repeat([]byte{7}, n))); err != nil {
			f.Fatal(err)
		}
		state, err := i.Capture(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(state[deltaHead], state[deltaHead+1:])
	}
	i.Close()
	f.Fuzz(func(t *testing.T, flags byte, body []byte) {
		state := sealed(m, flags, body)
		i, err := m.Instantiate(context.Background(), noHost{}, Options{State: state, Memory: 4 << 20, Epoch: abi.Epoch{Generation: 1<<32 - 1, Index: 1<<64 - 1}})
		if err != nil {
			return
		}
		again, err := i.Capture(nil)
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.decodeDelta(again)
		if err != nil {
			t.Fatalf("what was captured does not decode: %v", err)
		}
		if was, err := m.decodeDelta(state); err != nil || was.pages != d.pages || was.inbox != d.inbox {
			t.Fatalf("%+v became %+v, %v", was, d, err)
		}
		if err := i.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRunsOfPages: every page comes back from its runs.
func TestRunsOfPages(t *testing.T) {
	for _, sparse := range []int{1, 2, 3, 5, 6, 7, 9, 100, 4000} {
		page := make([]byte, slot.Page)
		for k := 0; k < len(page); k += sparse {
			page[k] = byte(k/sparse%255) + 1
		}
		for _, p := range [][]byte{page, append(bytes.Clone(page[1:]), 0), append(bytes.Clone(page[9:]), make([]byte, 9)...)} {
			back := make([]byte, slot.Page)
			r := deltaReader{b: appendRuns(nil, p, zeroPage[:])}
			if r.runs(back); r.err != nil || len(r.b) != 0 || !bytes.Equal(p, back) {
				t.Fatalf("every %d bytes: %v, %d left", sparse, r.err, len(r.b))
			}
			copy(back, page)
			r = deltaReader{b: appendRuns(nil, p, page)}
			if r.runs(back); r.err != nil || len(r.b) != 0 || !bytes.Equal(p, back) {
				t.Fatalf("every %d bytes, against another page: %v, %d left", sparse, r.err, len(r.b))
			}
		}
	}
}
