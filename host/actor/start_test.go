package actor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// A start that takes long is not on the turn's time, and holds no caller beyond its deadline.
func TestASlowStart(t *testing.T) {
	tests := map[string]struct {
		start, timeout, ends time.Duration
		code                 abi.Code
	}{
		"quick":                   {0, 10 * time.Second, time.Second, abi.ErrNone},
		"leaves time for a turn":  {7 * time.Second, 10 * time.Second, 8 * time.Second, abi.ErrNone},
		"the turn takes the rest": {9500 * time.Millisecond, 10 * time.Second, 10 * time.Second, abi.ErrTimeout},
		"leaves none":             {20 * time.Second, 10 * time.Second, 10 * time.Second, abi.ErrTimeout},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.limits.Turn = 5 * time.Second
				began := time.Now()
				w.start[w.id("a")] = func(h *Host) (Instance, error) {
					time.Sleep(tt.start)
					return &guest{host: h, turn: func(h *Host, ev *abi.Event, out *abi.Output) error {
						if left := time.Until(began.Add(tt.timeout)); ev.Remaining != min(left, w.limits.Turn) {
							t.Errorf("%v remain of %v", ev.Remaining, left)
						}
						time.Sleep(time.Second)
						return reply(out, "")
					}}, nil
				}
				_, err := w.call("a", "m", "", tt.timeout)
				wantCode(t, err, tt.code)
				if d := time.Since(began); d != tt.ends {
					t.Errorf("it ended after %v, want %v", d, tt.ends)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := w.count.Turns.Load() + w.count.Expired.Load(); n != 1 {
					t.Errorf("%d turns and expired messages, want 1", n)
				}
			})
		})
	}
}

// A kind that was replaced while its instance was to start: everything waits for the new version, one-way messages and
// all, and keeps its order.
func TestAReplacedStartMovesEverythingOn(t *testing.T) {
	w := newWorld(t)
	gate, entered := make(chan struct{}), make(chan struct{})
	starts := 0
	var got []string
	w.start[w.id("a")] = func(h *Host) (Instance, error) {
		if starts++; starts == 1 {
			close(entered)
			<-gate
		}
		if starts < 3 {
			return nil, abi.NewError(abi.ErrOwnershipChanged, "replaced")
		}
		return &guest{host: h, turn: func(h *Host, ev *abi.Event, out *abi.Output) error {
			got = append(got, string(ev.Payload))
			return reply(out, string(ev.Payload))
		}}, nil
	}
	first := w.env("a", "m", "0", time.Minute)
	first.Flags = abi.OneWay
	if err := w.Post(first, nil); err != nil {
		t.Fatal(err)
	}
	<-entered
	replies := make(chan string, 10)
	for i := range 5 {
		env := w.env("a", "m", fmt.Sprint(i+1), time.Minute)
		if i%2 == 0 {
			env.Flags = abi.OneWay
		}
		if err := w.Post(env, func(b []byte, err error) { replies <- fmt.Sprint(string(b), err) }); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	if s, err := w.call("a", "m", "end", time.Minute); err != nil || s != "end" {
		t.Errorf("%q, %v", s, err)
	}
	if s := strings.Join(got, " "); s != "0 1 2 3 4 5 end" {
		t.Errorf("order %q", s)
	}
	close(replies)
	var all []string
	for r := range replies {
		all = append(all, r)
	}
	if slices.Sort(all); strings.Join(all, " ") != "2<nil> 4<nil> <nil> <nil> <nil>" {
		t.Errorf("replies %q", all)
	}
	if n := w.count.StartFailures.Load(); n != 0 {
		t.Errorf("%d failed starts: a newer version is none", n)
	}
}

// A start fails with a code that makes nobody, and no cluster, try the same again at once.
func TestStartErrors(t *testing.T) {
	tests := map[string]struct {
		start func(h *Host) (Instance, error)
		code  abi.Code
		words string
	}{
		"plain":    {func(*Host) (Instance, error) { return nil, errors.New("no memory") }, abi.ErrActivationFailed, "no memory"},
		"trap":     {func(*Host) (Instance, error) { return nil, abi.NewError(abi.ErrTrap, "oh") }, abi.ErrActivationFailed, "oh"},
		"time":     {func(*Host) (Instance, error) { return nil, context.DeadlineExceeded }, abi.ErrActivationFailed, "deadline"},
		"not yet":  {func(*Host) (Instance, error) { return nil, abi.ErrNotReady }, abi.ErrActivationFailed, "not ready"},
		"leaving":  {func(*Host) (Instance, error) { return nil, abi.ErrShuttingDown }, abi.ErrActivationFailed, "shutting down"},
		"its own":  {func(*Host) (Instance, error) { return nil, abi.NewActorError("bad_config", "x") }, abi.ErrActor, "bad_config"},
		"no room":  {func(*Host) (Instance, error) { return nil, abi.ErrOverloaded }, abi.ErrOverloaded, "no more"},
		"panic":    {func(*Host) (Instance, error) { panic("oh no") }, abi.ErrActivationFailed, "oh no"},
		"nothing":  {func(*Host) (Instance, error) { return nil, nil }, abi.ErrActivationFailed, "neither"},
		"vanishes": {func(*Host) (Instance, error) { runtime.Goexit(); return nil, nil }, abi.ErrTrap, "Goexit"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start[w.id("a")] = tt.start
			got := make(chan error, 1)
			if err := w.Post(w.env("a", "m", "", time.Minute), func(_ []byte, err error) { got <- err }); err != nil {
				t.Fatal(err)
			}
			err := <-got
			wantCode(t, err, tt.code)
			if !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%v lacks %q", err, tt.words)
			}
			w.work.Wait()
			failures := uint64(1)
			if tt.code == abi.ErrOverloaded { // which says that none was tried
				failures = 0
			}
			if n := w.count.StartFailures.Load(); n != failures || len(w.all()) != 0 {
				t.Errorf("%d failed starts, %d activations left", n, len(w.all()))
			}
		})
	}
}
