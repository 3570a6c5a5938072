package engine

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// TestStartsWaitForTheirTurn: while every place is taken a start waits, its time does not run, and its context ends it.
func TestStartsWaitForTheirTurn(t *testing.T) {
	e := newEngine(t, Config{Describe: time.Second})
	m := mustLoad(t, e, "echo.wasm")
	for range cap(e.starts) {
		e.starts <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Instantiate(ctx, &bookHost{}, Options{}); abi.CodeOf(err) != abi.ErrCanceled {
		t.Errorf("got %v", err)
	}

	const n = 100
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			i, err := m.Instantiate(context.Background(), &bookHost{}, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			i.Close()
		})
	}
	time.Sleep(1100 * time.Millisecond) // longer than a start may take
	for range cap(e.starts) {
		<-e.starts
	}
	wg.Wait()
	if len(e.starts) != 0 {
		t.Errorf("%d places are still taken", len(e.starts))
	}
}

// TestAFailedStartGivesItsPlaceBack.
func TestAFailedStartGivesItsPlaceBack(t *testing.T) {
	e := newEngine(t, Config{})
	m := mustLoad(t, e, "echo.wasm")
	for range cap(e.starts) + 1 {
		if _, err := m.Instantiate(context.Background(), &bookHost{}, Options{Memory: 1}); abi.CodeOf(err) != abi.ErrLimitExceeded {
			t.Fatalf("got %v", err)
		}
	}
}
