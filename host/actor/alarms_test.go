package actor

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestAlarms: each goes off at its time and once, in the order of their times, unless it was stopped; and nothing is left of them.
func TestAlarms(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			var s alarms
			began := time.Now()
			var rung, want []time.Duration
			set := map[time.Duration]*alarm{}
			for range 100 {
				d := time.Duration(rnd.IntN(1000)) * time.Millisecond
				if set[d] == nil {
					set[d] = s.set(began.Add(d), func() { rung = append(rung, time.Since(began)) })
				}
				if rnd.IntN(10) == 0 {
					time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
					synctest.Wait()
				}
			}
			now := time.Since(began)
			for d, a := range set {
				if d > now && rnd.IntN(3) == 0 {
					a.stop()
					a.stop()
				} else {
					want = append(want, d)
				}
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			slices.Sort(want)
			due := slices.Clone(rung)
			slices.Sort(due)
			if len(rung) != len(want) || !slices.Equal(rung, due) {
				t.Fatalf("seed %d: %d of %d went off, at %v, want %v", seed, len(rung), len(want), rung, want)
			}
			for i := range want { // one that was set for a time that had passed goes off at once
				if rung[i] < want[i] {
					t.Errorf("seed %d: one of %v went off at %v", seed, want[i], rung[i])
				}
			}
			if len(s.queue) != 0 || !s.armed.IsZero() {
				t.Errorf("seed %d: %d are left, the clock is set for %v", seed, len(s.queue), s.armed)
			}
		})
	}
}

// TestAlarmsOfOneTime: a thousand that go off at once make no goroutine each, and one that sets another does not hang.
func TestAlarmsOfOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s alarms
		at, most, rung := time.Now().Add(time.Second), 0, 0
		before := runtime.NumGoroutine()
		for range 1000 {
			s.set(at, func() {
				most = max(most, runtime.NumGoroutine()-before)
				if rung++; rung == 1000 {
					s.set(at, func() { rung++ })
				}
			})
		}
		(*alarm)(nil).stop()
		time.Sleep(time.Second)
		synctest.Wait()
		if rung != 1001 || most > 10 {
			t.Errorf("%d went off, on up to %d goroutines", rung, most)
		}
	})
}
