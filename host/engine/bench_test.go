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

// BenchmarkInstantiate is the life of an instance: start, one turn, close.
func BenchmarkInstantiate(b *testing.B) {
	m := mustLoad(b, newEngine(b, Config{}), "echo.wasm")
	ev, out := call("echo", make([]byte, 64)), &abi.Output{}
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
