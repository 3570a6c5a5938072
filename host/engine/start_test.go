package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// plainModule has no template: its instances start in the ordinary way, a few at once.
const plainModule = "hostile/table_grow.wasm"

// TestStartsWaitForTheirTurn: while every place is taken a start waits, its time does not run, and its context ends it. The clock stands
// while anything runs, so nobody is late but who waits on the clock.
func TestStartsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const describe = time.Second
		e, err := New(Config{Describe: describe})
		if err != nil {
			t.Fatal(err)
		}
		m, err := e.Load(t.Context(), fixture(t, plainModule))
		if err != nil {
			t.Fatal(err)
		}
		if m.Images() {
			t.Fatal("its instances are copies, which wait for nothing")
		}
		for range cap(e.starts) {
			e.starts <- struct{}{}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.Instantiate(ctx, &bookHost{}, Options{}); abi.CodeOf(err) != abi.ErrCanceled {
			t.Errorf("got %v", err)
		}

		const n = 100
		var started atomic.Int32
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				i, err := m.Instantiate(t.Context(), &bookHost{}, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				started.Add(1)
				i.Close()
			})
		}
		time.Sleep(2 * describe) // longer than a start may take
		if s := started.Load(); s != 0 {
			t.Errorf("%d have started without a place", s)
		}
		for range cap(e.starts) {
			<-e.starts
		}
		wg.Wait()
		if len(e.starts) != 0 || started.Load() != n {
			t.Errorf("%d places are still taken, %d of %d started", len(e.starts), started.Load(), n)
		}
		if err := errors.Join(m.Close(), e.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestAFailedStartGivesItsPlaceBack.
func TestAFailedStartGivesItsPlaceBack(t *testing.T) {
	e := newEngine(t, Config{})
	m := mustLoad(t, e, plainModule)
	for range cap(e.starts) + 1 {
		if _, err := m.Instantiate(context.Background(), &bookHost{}, Options{Memory: 1}); abi.CodeOf(err) != abi.ErrLimitExceeded {
			t.Fatalf("got %v", err)
		}
	}
	if len(e.starts) != 0 {
		t.Errorf("%d places are still taken", len(e.starts))
	}
}
