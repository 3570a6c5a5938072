package actor

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// echoes returns an actor that has started and answers what it is sent.
func echoes(b *testing.B) *Activation {
	w := newWorld(&testing.T{})
	w.t = nil
	id, _ := abi.NewIdentity("k", "a")
	w.start[id] = func(h *Host) (Instance, error) {
		return &guest{host: h, turn: func(h *Host, ev *abi.Event, out *abi.Output) error {
			out.Kind, out.Payload = abi.OutReply, ev.Payload
			return nil
		}}, nil
	}
	b.Cleanup(w.close)
	a := w.at(id)
	if _, err := a.Deliver(b.Context(), echo(a)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return a
}

func echo(a *Activation) *abi.Envelope {
	return &abi.Envelope{Target: a.Identity(), Method: "m", Deadline: time.Now().Add(time.Hour)}
}

// One caller, an idle actor: the turn runs on the caller's goroutine.
func BenchmarkInlineTurn(b *testing.B) {
	a := echoes(b)
	env := echo(a)
	for b.Loop() {
		if _, err := a.Deliver(b.Context(), env); err != nil {
			b.Fatal(err)
		}
	}
}

// Many callers at one actor.
func BenchmarkContendedTurn(b *testing.B) {
	for _, callers := range []int{2, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			a := echoes(b)
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					env := echo(a)
					for range b.N / callers {
						if _, err := a.Deliver(b.Context(), env); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// A caller with less time than a turn may take: the turn runs on a runner's goroutine.
func BenchmarkQueuedTurn(b *testing.B) {
	a := echoes(b)
	a.cfg.Limits.Turn = 2 * time.Hour
	env := echo(a)
	for b.Loop() {
		if _, err := a.Deliver(b.Context(), env); err != nil {
			b.Fatal(err)
		}
	}
}
