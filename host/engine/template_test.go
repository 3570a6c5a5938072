package engine

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// TestTemplatesAreTheSameEverywhere: engines, memories and processes make one template of a module; a child tells its own.
func TestTemplatesAreTheSameEverywhere(t *testing.T) {
	if os.Getenv("WASILO_TEST_TEMPLATES") != "" {
		for _, file := range []string{"tally.wasm", "examples.wasm"} {
			fmt.Printf("template %s %x\n", file, mustLoad(t, newEngine(t, Config{}), file).template.hash)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestTemplatesAreTheSameEverywhere$")
	cmd.Env = append(os.Environ(), "WASILO_TEST_TEMPLATES=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	bothSlots(t, func(t *testing.T, cfg Config) {
		for _, file := range []string{"tally.wasm", "examples.wasm"} {
			m := mustLoad(t, newEngine(t, cfg), file)
			if want := fmt.Sprintf("template %s %x\n", file, m.template.hash); !strings.Contains(string(out), want) {
				t.Errorf("another process made\n%s, this one %s", out, want)
			}
		}
	})
}

// TestStateGoesOnOnArm64 captures here and wakes in a process of another architecture, run by qemu: the state goes on there, since a
// template is the same whatever compiled it.
func TestStateGoesOnOnArm64(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		missing(t, "qemu", "qemu-aarch64-static (Debian: qemu-user-static)")
	}
	if runtime.GOARCH == "arm64" {
		t.Skip("this is arm64")
	}
	binary := t.TempDir() + "/engine.test"
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	i := instance(t, "tally.wasm", noHost{}, Options{})
	for range 41 {
		count(t, i, first("tally", "add", nil))
	}
	state, err := i.Capture(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/state"
	if err := os.WriteFile(path, state, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, binary, "-test.run=^TestStateGoesOnInAnotherProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "WASILO_TEST_STATE="+path, "WASILO_TEST_KIND=tally")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "woken in another process") {
		t.Errorf("%v\n%s", err, out)
	}
}

// missing skips a test for what the machine lacks, or fails where WASILO_REQUIRE lists it.
func missing(t *testing.T, what, how string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("WASILO_REQUIRE"), ","), what) {
		t.Fatalf("%s is required and missing", how)
	}
	t.Skipf("needs %s", how)
}

// TestNoByteOfOneActorReachesAnother: actors write a mark of their own all over their memory, grow, trap and end in every way, many at a
// time; whoever comes next in the same body finds the template and nothing else, to the last byte and global.
func TestNoByteOfOneActorReachesAnother(t *testing.T) {
	bothSlots(t, func(t *testing.T, cfg Config) {
		m := mustLoad(t, newEngine(t, cfg), "tally.wasm")
		fresh := instantiate(t, m, noHost{}, Options{})
		clean := bytes.Clone(must(fresh.mem.Read(0, fresh.mem.Size())))
		if hex.EncodeToString(clean) != hex.EncodeToString(m.template.pool.Image()) {
			t.Fatal("a fresh instance differs from its template")
		}
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(worker), 4))
				for range 150 {
					if err := mark(m, clean, byte(worker+1), rng); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if n := m.template.pool.Stats().Live; n > maxBodies+1 {
			t.Errorf("%d slots are held", n)
		}
	})
}

// mark lives the life of one actor.
func mark(m *Module, clean []byte, b byte, rng *rand.Rand) error {
	i, err := m.Instantiate(context.Background(), noHost{}, Options{})
	if err != nil {
		return err
	}
	defer i.Close()
	memory := must(i.mem.Read(0, i.mem.Size()))
	if !bytes.Equal(memory, clean) {
		return errors.New("the memory is not the template's")
	}
	values, err := i.read(nil)
	if err != nil || !slices.Equal(values, m.template.globals) {
		return fmt.Errorf("the globals are %v, the template's %v, %v", values, m.template.globals, err)
	}
	if i.env.fixed || i.env.ahead != 0 || i.memory.refused != notRefused || i.written != 0 {
		return errors.New("something of the last user is left")
	}
	out, err := turn(i, first("tally", "add", bytes.Repeat([]byte{b}, rng.IntN(3000))))
	if err != nil {
		return err
	}
	if out.Kind != abi.OutReply || !bytes.HasSuffix(out.Payload, []byte{0x1b, 0, 0, 0, 0, 0, 0, 0, 1}) {
		return fmt.Errorf("its first answer is %x", out.Payload)
	}
	for range rng.IntN(20) {
		at := rng.IntN(len(memory))
		n := min(rng.IntN(9000), len(memory)-at)
		copy(memory[at:], bytes.Repeat([]byte{b}, n))
	}
	i.env.ahead = 12345
	switch rng.IntN(4) {
	case 0: // it grows, and writes there
		if _, ok := i.mem.Grow(3); !ok {
			return errors.New("it cannot grow")
		}
		i.mem.Write(uint32(len(clean)), bytes.Repeat([]byte{b}, 3*pageSize))
	case 1: // it traps: its two counts differ now
		memory[1024] ^= 0xff
		if err := i.Turn(call("get", nil), time.Now().Add(time.Minute), &abi.Output{}); !errors.Is(err, abi.ErrTrap) {
			return fmt.Errorf("it should have trapped: %v", err)
		}
	case 2: // it is captured
		if _, err := i.Capture(nil); err != nil {
			return err
		}
	}
	return i.Close()
}

// TestTurnsHaveTheirOwnLimits: fuel, host calls, stack and message size of one instance, beside one with the defaults.
func TestTurnsHaveTheirOwnLimits(t *testing.T) {
	e := newEngine(t, Config{})
	for _, c := range []struct {
		file string
		opt  Options
		want string
	}{
		{"hostile/loop.wasm", Options{Fuel: 20_000}, "the turn used more than its 20000 units of fuel (limits.fuel, or that of the kind)"},
		{"hostile/recursion.wasm", Options{Stack: 128 << 10}, "the turn used more than its 128 KiB of stack (limits.stack, or that of the kind)"},
	} {
		i := instantiate(t, mustLoad(t, e, c.file), noHost{}, c.opt)
		_, err := turn(i, call("run", nil))
		if !errors.Is(err, abi.ErrLimitExceeded) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.file, err, c.want)
		}
	}
	full := mustLoad(t, e, "hostile/table_full.wasm")
	for table, want := range map[uint32]string{0: "limit 131072", 5010: "limit 5010", 10: "limit 10", MaxTable + 1: "limit 1048576"} {
		i := instantiate(t, full, noHost{}, Options{Table: table})
		_, err := turn(i, call("run", nil))
		if !errors.Is(err, abi.ErrLimitExceeded) || !strings.Contains(err.Error(), "out of table entries ("+want+"; limits.table, or that of the kind): wasm unreachable") {
			t.Errorf("tables of %d: %v", table, err)
		}
	}
	if _, err := full.Instantiate(t.Context(), noHost{}, Options{Table: 9}); !errors.Is(err, abi.ErrLimitExceeded) ||
		!strings.Contains(err.Error(), "starts with 10 entries of tables; its limit is 9 (limits.table") {
		t.Errorf("a table that starts with too much: %v", err)
	}
	m := mustLoad(t, e, "hostcalls.wasm")
	calls := make([]record, 11)
	for k := range calls {
		calls[k] = record{op: opNow}
	}
	i := instantiate(t, m, noHost{}, Options{HostCalls: 10})
	if _, err := turn(i, script(t, nil, calls[:10]...)); err != nil {
		t.Error(err)
	}
	if _, err := turn(i, script(t, nil, calls...)); !errors.Is(err, abi.ErrLimitExceeded) || !strings.Contains(err.Error(), "made more than 10 host calls (limits.host_calls, or that of the kind)") {
		t.Errorf("got %v", err)
	}
	j := instantiate(t, mustLoad(t, e, "echo.wasm"), noHost{}, Options{MaxMessage: 100})
	if out, err := turn(j, call("echo", make([]byte, 200))); err != nil || !errors.Is(out.Err, abi.ErrPayloadTooLarge) {
		if out, err = turn(j, call("echo", make([]byte, 200+abi.MaxEnvelopeExtra))); err != nil || !errors.Is(out.Err, abi.ErrPayloadTooLarge) {
			t.Errorf("%+v, %v", out, err)
		}
	}
}

// TestFuelIsCounted: what a turn used is known, and of one order for one and the same work.
func TestFuelIsCounted(t *testing.T) {
	i := instance(t, "echo.wasm", noHost{}, Options{})
	var used [2]int64
	for k := range used {
		if _, err := turn(i, call("echo", make([]byte, 64))); err != nil {
			t.Fatal(err)
		}
		used[k] = i.Fuel()
	}
	if i.Rest(); i.Fuel() != used[1] {
		t.Errorf("at rest it is %d units, were %d", i.Fuel(), used[1])
	}
	if out, err := turn(i, call("echo", make([]byte, 2<<20))); err != nil || out.Err == nil || i.Fuel() != 0 {
		t.Errorf("a turn that did not run used %d units (%+v, %v)", i.Fuel(), out, err)
	}
	if used[0] != used[1] || used[0] < 20 || used[0] > 10_000 {
		t.Errorf("the same turn used %v units", used)
	}
}

// TestCyclesLeaveNothing lives many lives; what the process holds afterwards is what it held before.
func TestCyclesLeaveNothing(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "tally.wasm")
	life := func(n int) {
		var state []byte
		for k := range n {
			i, err := m.Instantiate(context.Background(), noHost{}, Options{State: state})
			if err != nil {
				t.Fatal(err)
			}
			if k%500 == 0 {
				state = nil
			}
			if _, err := turn(i, first("tally", "add", nil)); err != nil {
				t.Fatal(err)
			}
			if state, err = i.Capture(nil); err != nil {
				t.Fatal(err)
			}
			if k%7 == 0 {
				i.state.Store(stateBroken) // its body is not used again
			}
			if err := i.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	life(1000)
	before := holds(t)
	life(5000)
	// What is gone need not be at once: finalizers run on a goroutine, and late. What a life left behind stays. The runtime starts threads as
	// it likes, each with a stack and an arena.
	var after held
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
		if after = holds(t); after.mappings <= before.mappings+200 && after.files <= before.files && after.goroutines <= before.goroutines &&
			after.heap <= before.heap+4<<20 {
			return
		}
	}
	t.Errorf("before %+v, after %+v", before, after)
}

// held is what a process holds.
type held struct {
	mappings, files, goroutines int
	heap                        uint64
}

func holds(t *testing.T) (h held) {
	t.Helper()
	runtime.GC()
	runtime.GC()
	if b, err := os.ReadFile("/proc/self/maps"); err == nil {
		h.mappings = bytes.Count(b, []byte("\n"))
	}
	if d, err := os.ReadDir("/proc/self/fd"); err == nil {
		h.files = len(d)
	}
	h.goroutines = runtime.NumGoroutine()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	h.heap = ms.HeapAlloc
	return h
}
