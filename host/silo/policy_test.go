package silo

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestTerms(t *testing.T) {
	const s = time.Second
	kind := func(keep abi.Keep, level abi.Level, hibernate time.Duration) *Kind {
		return &Kind{Desc: &abi.KindDescription{State: abi.State{Keep: keep, Level: level}}, Idle: 600 * s, Hibernate: hibernate}
	}
	volatile := kind(abi.KeepImage, abi.LevelVolatile, 30*s)
	stays := kind(abi.KeepImage, abi.LevelHibernating, 30*s)
	never := kind(abi.KeepImage, abi.LevelHibernating, 0)
	long := kind(abi.KeepImage, abi.LevelDurable, 3600*s)
	tests := []struct {
		kind   *Kind
		sleeps bool
		idle   time.Duration
		warm   bool
		do     action
		again  time.Duration
	}{
		{kind("", "", 30*s), false, 0, false, stay, 5 * s},
		{kind("", "", 30*s), false, 5 * s, false, rest, 0},
		{kind("", "", 30*s), false, 5 * s, true, stay, 595 * s},
		{kind("", "", 30*s), false, 600 * s, false, passivate, 0},
		{volatile, true, 0, false, stay, 5 * s},
		{volatile, true, 5 * s, false, rest, 0},
		{volatile, true, 5 * s, true, stay, 595 * s},
		{volatile, true, 600 * s, true, passivate, 0},
		{volatile, false, 599 * s, true, stay, s},
		{stays, true, 4 * s, false, stay, s},
		{stays, true, 29 * s, true, stay, s},
		{stays, true, 30 * s, true, hibernate, 0},
		{stays, true, 30 * s, false, hibernate, 0},
		{stays, false, 30 * s, true, stay, 570 * s},
		{stays, false, 600 * s, false, passivate, 0},
		{never, true, 599 * s, true, stay, s},
		{never, true, 600 * s, true, hibernate, 0},
		{long, true, 600 * s, true, hibernate, 0},
	}
	for i, tt := range tests {
		do, again := tt.kind.terms(tt.sleeps).next(tt.idle, tt.warm)
		if do != tt.do || do == stay && again != tt.again {
			t.Errorf("%d: %d in %v, want %d in %v", i, do, again, tt.do, tt.again)
		}
	}
	for _, tt := range []struct {
		k *Kind
		d time.Duration
	}{{kind("", "", 0), 600 * s}, {stays, 5 * s}, {never, 5 * s}} {
		if d := tt.k.first(); tt.k.keeps() && d != tt.d {
			t.Errorf("%v, want %v", d, tt.d)
		}
	}
}

func TestUses(t *testing.T) {
	var u uses
	for range 600 { // one a second
		u = u.after(time.Second, 1)
	}
	if want := 60 / math.Ln2; math.Abs(float64(u)-want) > 1 {
		t.Errorf("%v, want about %v", u, want)
	}
	if v := u.after(halfLife, 0); math.Abs(float64(v-u/2)) > 0.01 {
		t.Errorf("%v of %v after a half-life", v, u)
	}
	for _, u := range []uses{0, 1, 2, 10, 86.5, 1000, 60000} {
		if v := unpack(u.pack()); math.Abs(float64(v-u)) > 0.03*float64(u)+0.03 {
			t.Errorf("%v of %v", v, u)
		}
	}
	if uses(1e9).pack() != 255 || unpack(0) != 0 {
		t.Error("the ends")
	}
}

// Each list begins with who goes first.
func TestWorth(t *testing.T) {
	const s = time.Second
	type a struct {
		idle  time.Duration
		uses  uses
		bytes int64
		lost  bool
	}
	for i, order := range [][]a{
		{{30 * s, 0, 0, false}, {10 * s, 0, 0, false}, {s, 0, 0, false}, {0, 0, 0, false}}, // recency
		{{s, 0, 0, false}, {s, 1, 0, false}, {s, 100, 0, false}},                           // frequency
		{{60 * s, 100, 0, false}, {s, 0, 0, false}, {10 * s, 1000, 0, false}},              // one against the other
		{{s, 0, 4 << 20, false}, {s, 0, 64 << 10, false}},                                  // size
		{{3 * s, 0, 0, false}, {4 * s, 0, 0, true}, {s, 0, 0, false}},                      // what is lost by it
	} {
		if !slices.IsSortedFunc(order, func(x, y a) int {
			if worth(x.idle, x.uses, x.bytes, x.lost) < worth(y.idle, y.uses, y.bytes, y.lost) {
				return -1
			}
			return 1
		}) {
			t.Errorf("%d: %v", i, order)
		}
	}
}

func TestPressure(t *testing.T) {
	for _, tt := range []struct {
		p     float64
		n     int64
		after time.Duration
	}{{0, 0, 30 * time.Second}, {0.74, 0, 30 * time.Second}, {0.75, 1, 30 * time.Second}, {0.875, 501, 15 * time.Second},
		{1, 1001, minIdle}, {7, 1001, minIdle}} {
		if n := share(8000, tt.p); n != tt.n {
			t.Errorf("share at %v: %d, want %d", tt.p, n, tt.n)
		}
		if d := shortened(30*time.Second, tt.p); d != tt.after {
			t.Errorf("at %v: %v, want %v", tt.p, d, tt.after)
		}
	}
	if share(0, 1) != 0 {
		t.Error("of nobody")
	}
}

// Whatever is put in and taken out, each entry is due when it was to be, once.
func TestWheel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, rand.Uint64()))
	var w wheel
	due := map[*entry]int{}
	all := make([]*entry, 200)
	for i := range all {
		all[i] = &entry{}
	}
	for now := 1; now < 2000; now++ {
		for range rnd.IntN(20) {
			e := all[rnd.IntN(len(all))]
			w.remove(e)
			delete(due, e)
			if rnd.IntN(4) > 0 {
				in := rnd.IntN(2 * wheelSlots)
				w.put(e, in)
				due[e] = now - 1 + min(max(in, 1), wheelSlots-1)
			}
		}
		for _, e := range w.due(nil) {
			if due[e] != now {
				t.Fatalf("due at %d, was to be at %d", now, due[e])
			}
			delete(due, e)
		}
		for e, at := range due {
			if at <= now {
				t.Fatalf("%p was due at %d", e, at)
			}
		}
	}
	if n := looks(1500*time.Millisecond, time.Second); n != 2 {
		t.Errorf("%d looks", n)
	}
}
