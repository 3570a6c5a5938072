package engine

import (
	"context"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// BenchmarkTurn is a whole turn of the echo: the event into guest memory, the call, the output out of it.
func BenchmarkTurn(b *testing.B) {
	i := instance(b, "echo.wasm", noHost{}, Options{})
	for name, n := range map[string]int{"64B": 64, "64KiB": 64<<10 - 512, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			ev, out := call("echo", make([]byte, n)), &abi.Output{}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if err := i.Turn(ev, time.Now().Add(abi.DefaultTurn), out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRawCall is the same call into the guest with nothing around it.
func BenchmarkRawCall(b *testing.B) {
	i := instance(b, "echo.wasm", noHost{}, Options{})
	out := &abi.Output{}
	ev := call("echo", make([]byte, 64))
	if err := i.Turn(ev, time.Now().Add(abi.DefaultTurn), out); err != nil {
		b.Fatal(err)
	}
	i.guard.arm(time.Now().Add(time.Hour))
	room, _ := i.mem.Read(i.inbox, i.inboxSize)
	n := uint64(len(abi.AppendEvent(room[:0], ev)))
	b.ReportAllocs()
	for b.Loop() {
		i.args[0] = n
		if err := i.turn.CallWithStack(&i.guard, i.args[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInstantiate is the life of an instance: start, one turn, close. "kept" closes each before the next starts, "fresh" keeps all.
func BenchmarkInstantiate(b *testing.B) {
	for _, c := range []struct {
		kind, file, method string
		payload            []byte
	}{{"echo", "echo.wasm", "echo", make([]byte, 64)}, {"counter", "examples.wasm", "add", addOne}} {
		m := mustLoad(b, newEngine(b, Config{}), c.file)
		ev, out := first(c.kind, c.method, c.payload), &abi.Output{}
		b.Run(c.kind+"/kept", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				i, err := m.Instantiate(context.Background(), noHost{}, Options{})
				if err == nil {
					err = i.Turn(ev, time.Now().Add(abi.DefaultTurn), out)
				}
				if err == nil {
					err = i.Close()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.kind+"/fresh", func(b *testing.B) {
			b.ReportAllocs()
			var all []*Instance
			for b.Loop() {
				i, err := m.Instantiate(context.Background(), noHost{}, Options{})
				if err == nil {
					err = i.Turn(ev, time.Now().Add(abi.DefaultTurn), out)
				}
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, i)
			}
			b.StopTimer()
			for _, i := range all {
				i.Close()
			}
		})
	}
}

// BenchmarkRest is a turn of an actor at rest, and its going to rest again.
func BenchmarkRest(b *testing.B) {
	for kind, file := range counters {
		i := instantiate(b, mustLoad(b, newEngine(b, Config{}), file), noHost{}, Options{})
		ev, out := first(kind, "add", addOne), &abi.Output{}
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := i.Turn(ev, time.Now().Add(abi.DefaultTurn), out); err != nil {
					b.Fatal(err)
				}
				i.Rest()
			}
		})
	}
}

// BenchmarkSleep is the life of a sleeper: wake, one turn, capture, close.
func BenchmarkSleep(b *testing.B) {
	for kind, file := range counters {
		m := mustLoad(b, newEngine(b, Config{}), file)
		ev, out := first(kind, "add", addOne), &abi.Output{}
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			var state, spare []byte
			for b.Loop() {
				i, err := m.Instantiate(context.Background(), noHost{}, Options{State: state})
				if err == nil {
					err = i.Turn(ev, time.Now().Add(abi.DefaultTurn), out)
				}
				if err == nil {
					state, spare, err = nil, state, nil
					state, err = i.Capture(spare[:0])
				}
				if err == nil {
					err = i.Close()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(state)), "bytes")
		})
	}
}

// BenchmarkLoad is a load with the compiled module on disk.
func BenchmarkLoad(b *testing.B) {
	e := newEngine(b, Config{CacheDir: b.TempDir()})
	wasm := fixture(b, "hostcalls.wasm")
	for b.Loop() {
		m, err := e.Load(context.Background(), wasm)
		if err != nil {
			b.Fatal(err)
		}
		m.Close()
	}
}
