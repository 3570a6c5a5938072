package engine

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// warden is a host that is asked whether the turn may go on.
type warden struct {
	noHost
	asked atomic.Int64
	say   func(n int64) error // at the n-th question, from 1
}

func (w *warden) Permitted() error { return w.say(w.asked.Add(1)) }

// A guest in an endless loop is stopped at its next look once its permit has ended, long before its time is up.
func TestALoopLosesItsPermit(t *testing.T) {
	lost := abi.NewError(abi.ErrOwnershipChanged, "lost")
	for _, file := range []string{"hostile/loop.wasm", "hostile/sleep.wasm", "hostile/log_flood.wasm"} {
		t.Run(file, func(t *testing.T) {
			var gone atomic.Bool
			w := &warden{say: func(int64) error {
				if gone.Load() {
					return lost
				}
				return nil
			}}
			i := instance(t, file, w, Options{Memory: 2 << 20})
			go func() {
				for w.asked.Load() < 5 {
					time.Sleep(time.Millisecond)
				}
				gone.Store(true)
			}()
			err := i.Turn(call("run", []byte{}), time.Now().Add(5*time.Minute), &abi.Output{})
			if err == nil || abi.CodeOf(err) == abi.ErrLimitExceeded {
				t.Fatal(err)
			}
			if !gone.Load() {
				t.Error("it ended by itself")
			}
			if _, err := turn(i, call("run", nil)); abi.CodeOf(err) != abi.ErrInternal {
				t.Errorf("a broken instance ran on: %v", err)
			}
		})
	}
}

// mortal is a host that may end.
type mortal struct {
	warden
	ctx context.Context
}

func (m *mortal) Context() context.Context { return m.ctx }

// A guest ends with its host, in the midst of its turn.
func TestALoopEndsWithItsHost(t *testing.T) {
	for _, file := range []string{"hostile/loop.wasm", "hostile/sleep.wasm", "hostile/log_flood.wasm"} {
		t.Run(file, func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			m := &mortal{warden{say: func(n int64) error {
				if n == 5 {
					end()
				}
				return nil
			}}, ctx}
			i := instance(t, file, m, Options{Memory: 2 << 20})
			err := i.Turn(call("run", []byte{}), time.Now().Add(5*time.Minute), &abi.Output{})
			if abi.CodeOf(err) != abi.ErrInternal || !strings.Contains(err.Error(), "the turn was cut off") {
				t.Errorf("%v", err)
			}
			if n := m.asked.Load(); n != 5 {
				t.Errorf("it looked %d times", n)
			}
		})
	}
}

// One that is made to wait in the midst of its turn goes on, as if nothing had been.
func TestASuspendedGuestGoesOn(t *testing.T) {
	const at, bytes = 140_000, 100 << 10 // beyond what the script is read from
	w := &warden{say: func(n int64) error {
		if n == 2 {
			time.Sleep(50 * time.Millisecond)
		}
		return nil
	}}
	i := instance(t, "hostcalls.wasm", w, Options{})
	began := time.Now()
	run(t, i, nil, record{opRandom, at, bytes, 0, 0}, record{opRandom, at, bytes, 0, 0})
	if w.asked.Load() < 2 || time.Since(began) < 50*time.Millisecond {
		t.Errorf("it was asked %d times, and took %s", w.asked.Load(), time.Since(began))
	}
	run(t, i, nil, record{opRandom, at, 16, 0, 0}) // the instance is whole
}

// Waiting does not give a guest more time than its turn has.
func TestAWaitIsOnTheTurnsTime(t *testing.T) {
	w := &warden{say: func(n int64) error {
		time.Sleep(20 * time.Millisecond)
		return nil
	}}
	i := instance(t, "hostile/loop.wasm", w, Options{Memory: 2 << 20})
	err := i.Turn(call("run", []byte{}), time.Now().Add(100*time.Millisecond), &abi.Output{})
	if abi.CodeOf(err) != abi.ErrLimitExceeded {
		t.Errorf("%v", err)
	}
}
