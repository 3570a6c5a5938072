package delay

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestWithoutSettingsNothingSleeps(t *testing.T) {
	if now != (plan{}) {
		t.Errorf("%+v", now)
	}
	Perhaps()
}

func TestParse(t *testing.T) {
	if p, err := parse("300 8000000 7\n"); err != nil || p != (plan{300, 8000000, 7}) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "300 8000000", "0 8000000 7", "300 0 7", "300 -1 7", "x y z"} {
		if p, err := parse(bad); err == nil || p != (plan{}) {
			t.Errorf("%q: %+v, %v", bad, p, err)
		}
	}
}

// TestASeedIsASequence: the same seed gives the same delays, another one others; about one call in `every` sleeps, mostly below `most`.
func TestASeedIsASequence(t *testing.T) {
	const calls = 1_000_000
	draw := func(seed uint64) (all []time.Duration) {
		p := plan{every: 100, most: uint64(time.Millisecond), seed: seed}
		for n := range uint64(calls) {
			all = append(all, p.length(n))
		}
		return all
	}
	one := draw(1)
	if !slices.Equal(one, draw(1)) {
		t.Error("a seed gave two sequences")
	}
	for _, seed := range []uint64{0, 2, 1 << 40} {
		same := 0
		for n, d := range draw(seed) {
			if d > 0 && one[n] > 0 {
				same++
			}
		}
		if same > 300 { // one call in 10,000 by chance
			t.Errorf("seeds 1 and %d sleep at the same %d calls", seed, same)
		}
	}
	slept, long := 0, 0
	for _, d := range one {
		if d > longer*time.Millisecond {
			t.Fatalf("a delay of %v", d)
		}
		if d > 0 {
			slept++
		}
		if d > time.Millisecond {
			long++
		}
	}
	if slept < 9_000 || slept > 11_000 || long < 10 || long > 100 {
		t.Errorf("of %d calls %d sleep, %d of them long", calls, slept, long)
	}
}

// TestTheClockOfABubbleStandsStill: while one goroutine is delayed, the others' time does not go on.
func TestTheClockOfABubbleStandsStill(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there the delay is time.Sleep")
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		go time.Sleep(time.Millisecond)
		sleep(20 * time.Millisecond)
		if d := time.Since(began); d != 0 {
			t.Errorf("the clock went on by %v", d)
		}
		synctest.Wait()
		time.Sleep(time.Millisecond)
	})
}

// TestSleepSleeps: by the clock on the wall.
func TestSleepSleeps(t *testing.T) {
	began := time.Now()
	sleep(30 * time.Millisecond)
	if d := time.Since(began); runtime.GOOS != "darwin" && d < 25*time.Millisecond {
		t.Errorf("it slept %v", d)
	}
}
