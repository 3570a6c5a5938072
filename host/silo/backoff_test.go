package silo

import (
	"fmt"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"pgregory.net/rapid"
)

func TestPauses(t *testing.T) {
	for _, c := range []struct {
		nth    int
		chance float64
		want   time.Duration
	}{
		{1, 0, 50 * time.Millisecond}, {1, 0.5, 75 * time.Millisecond}, {2, 0, 100 * time.Millisecond}, {5, 0, 800 * time.Millisecond},
		{9, 0, 12800 * time.Millisecond}, {10, 0, 15 * time.Second}, {1000, 0, 15 * time.Second}, {1 << 40, 0.5, 22500 * time.Millisecond},
	} {
		if got := pauseFor(c.nth, c.chance); got != c.want {
			t.Errorf("pause %d, chance %v: %v, want %v", c.nth, c.chance, got, c.want)
		}
	}
}

// ward drives a backoff by a clock of its own.
type ward struct {
	t   *testing.T
	b   backoff
	now time.Time
}

func newWard(t *testing.T) *ward { return &ward{t: t, now: time.Unix(1e9, 0)} }

// start asks for a start of an actor: "" is that it is held back.
func (w *ward) start(name string) (attempt, bool) {
	if held := w.b.holds(id(name), w.now); held != nil {
		return attempt{}, false
	}
	return w.b.begin(id(name), w.now), true
}

// fails starts actors that fail, each of which must be let through.
func (w *ward) fails(names ...string) {
	w.t.Helper()
	for _, name := range names {
		a, ok := w.start(name)
		if !ok {
			w.t.Fatalf("%s is held back", name)
		}
		w.b.failed(a, "no "+name, w.now, 0)
	}
}

func (w *ward) held(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if w.b.holds(id(name), w.now) == nil {
			w.t.Errorf("%s is not held back", name)
		}
	}
}

func (w *ward) free(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if held := w.b.holds(id(name), w.now); held != nil {
			w.t.Errorf("%s is held back: %+v", name, held)
		}
	}
}

// state is what is held back: "kind", the name of an actor, or "".
func (w *ward) state() string {
	switch s := w.b.state(w.now); {
	case s == nil:
		return ""
	case s.Actor.IsZero():
		return "kind"
	default:
		return s.Actor.ID()
	}
}

func (w *ward) is(want string) {
	w.t.Helper()
	if got := w.state(); got != want {
		w.t.Errorf("held back is %q, want %q", got, want)
	}
}

func TestSeveralActorsThatFailHoldTheKindBack(t *testing.T) {
	w := newWard(t)
	w.fails("a", "b")
	w.is("")
	w.fails("c")
	w.is("kind")
	w.held("a", "b", "c", "d")
	if s := w.b.state(w.now); s.Failures != 3 || s.Wait != 50*time.Millisecond || s.Trying || s.Err != "no c" {
		t.Errorf("%+v", s)
	}
	// Each trial that fails doubles the pause.
	for i, pause := range []time.Duration{50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000} {
		pause *= time.Millisecond
		w.now = w.now.Add(pause - 1)
		w.held("d")
		w.now = w.now.Add(1)
		name := fmt.Sprint("new", i)
		a, ok := w.start(name)
		if !ok {
			t.Fatalf("no trial after %v", pause)
		}
		if w.held("d", name); !w.b.state(w.now).Trying {
			t.Error("nothing is said of the trial")
		}
		w.b.failed(a, "still", w.now, 0)
		w.held("d")
	}
	w.now = w.now.Add(time.Hour)
	w.is("kind") // for nobody has seen it start
	a, _ := w.start("e")
	w.b.started(a, w.now)
	w.is("")
	w.free("a", "d", "e")
	if !w.b.healthy() {
		t.Errorf("%+v", w.b)
	}
	w.fails("a", "b")
	w.is("")
}

// A single actor that does not start is held back; the others are not, whether it is asked for more often than they or not.
func TestOneActorThatFailsDoesNotHoldTheOthersBack(t *testing.T) {
	w := newWard(t)
	w.fails("bad", "bad", "bad")
	w.is("bad")
	w.held("bad")
	w.free("good")
	for range 1000 {
		w.now = w.now.Add(time.Second)
		if a, ok := w.start("bad"); ok {
			w.b.failed(a, "bad", w.now, 0)
		}
		a, ok := w.start("good")
		if !ok {
			t.Fatal("the good one is held back")
		}
		w.b.started(a, w.now)
		w.is("bad")
	}
	if s := w.b.state(w.now); s.Failures > 3+9+1000/15 || s.Failures < 50 {
		t.Errorf("%d starts", s.Failures)
	}
	w.now = w.now.Add(longestPause)
	a, ok := w.start("bad")
	if !ok {
		t.Fatal("no trial")
	}
	w.b.started(a, w.now)
	if w.is(""); !w.b.healthy() {
		t.Errorf("%+v", w.b)
	}
}

// Two of them hold the kind back only until another one starts, and do not get at its trials in between.
func TestSickActorsDoNotTakeTheTrials(t *testing.T) {
	w := newWard(t)
	w.fails("x", "y", "x")
	w.is("kind")
	w.now = w.now.Add(50 * time.Millisecond)
	w.fails("x") // the third time: it is held back by itself, beside the kind
	w.now = w.now.Add(100 * time.Millisecond)
	w.fails("x")
	w.now = w.now.Add(200 * time.Millisecond)
	w.fails("x")
	if n := w.b.kind.pauses; n != 4 {
		t.Errorf("%d pauses of the kind", n)
	}
	w.now = w.now.Add(400 * time.Millisecond)
	a, ok := w.start("good")
	if !ok {
		t.Fatal("the good one is held back")
	}
	w.b.started(a, w.now)
	w.is("")
	w.free("x", "y", "good")
}

// Whatever was under way when the pause began neither makes it longer nor ends a trial.
func TestStartsUnderWayAtTheFirstPause(t *testing.T) {
	w := newWard(t)
	var under []attempt
	for i := range 100 {
		a, ok := w.start(numbered("a", i))
		if !ok {
			t.Fatal("held back")
		}
		under = append(under, a)
	}
	for _, a := range under[:98] {
		w.b.failed(a, "all at once", w.now, 0)
	}
	if s := w.b.state(w.now); s.Failures != 98 || s.Wait != 50*time.Millisecond || w.b.kind.pauses != 1 {
		t.Errorf("%+v", s)
	}
	w.now = w.now.Add(50 * time.Millisecond)
	trial, _ := w.start("trial")
	w.b.failed(under[98], "late", w.now, 0)
	if s := w.b.state(w.now); !s.Trying || w.b.kind.pauses != 1 {
		t.Errorf("%+v", s)
	}
	w.b.failed(trial, "too", w.now, 0)
	if w.b.kind.pauses != 2 {
		t.Errorf("%d pauses", w.b.kind.pauses)
	}
	w.b.started(under[99], w.now) // it is proof, however late
	w.is("")
}

func TestATrialThatTellsNothing(t *testing.T) {
	w := newWard(t)
	w.fails("a", "b", "c")
	w.now = w.now.Add(50 * time.Millisecond)
	a, _ := w.start("d")
	w.held("e")
	w.b.passed(a, w.now)
	w.free("e")
	lost, _ := w.start("e") // and is never heard of again
	w.now = w.now.Add(trialTime - 1)
	w.held("f")
	w.now = w.now.Add(1)
	again, ok := w.start("f")
	if !ok {
		t.Fatal("one trial that is never over keeps all from starting")
	}
	w.b.failed(again, "no", w.now, 0)
	w.b.failed(lost, "no", w.now, 0)
	if n := w.b.kind.pauses; n != 2 {
		t.Errorf("%d pauses", n)
	}
}

// What is remembered of single actors is bounded, and passes.
func TestSickActorsAreForgotten(t *testing.T) {
	w := newWard(t)
	for i := range 3 * mostSick {
		name := numbered("a", i)
		w.fails(name, name, name)
		good, _ := w.start("good")
		w.b.started(good, w.now)
		w.now = w.now.Add(time.Second)
	}
	if s := w.b.state(w.now); s.Actors != mostSick || s.Actor.ID() != numbered("a", 3*mostSick-1) {
		t.Errorf("%+v", s)
	}
	w.now = w.now.Add(longestPause + forgetAfter)
	w.is("")
	last := numbered("a", 3*mostSick-1)
	w.fails(last, last)
	w.is("")
}

// Whatever comes: nobody is held back for longer than the longest pause, or a trial's time; a success frees the one that had it; and
// without two actors that failed, only those that failed are held back.
func TestBackoffProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, now := backoff{}, time.Unix(1e9, 0)
		var under []attempt
		failed := map[string]bool{}
		names := []string{"a", "b", "c", "d"}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			if n := len(under); n > 0 && rapid.Bool().Draw(t, "end") {
				a := under[n-1]
				under = under[:n-1]
				switch rapid.IntRange(0, 2).Draw(t, "how") {
				case 0:
					b.started(a, now)
					if held := b.holds(a.id, now); held != nil {
						t.Fatalf("%s has started, and is held back: %+v", a.id.ID(), held)
					}
					clear(failed)
				case 1:
					b.failed(a, "e", now, rapid.Float64Range(0, 0.999).Draw(t, "chance"))
					failed[a.id.ID()] = true
				default:
					b.passed(a, now)
				}
				continue
			}
			name := rapid.SampledFrom(names).Draw(t, "name")
			if held := b.holds(id(name), now); held == nil {
				under = append(under, b.begin(id(name), now))
			} else if held.Wait > longestPause {
				t.Fatalf("%+v", held)
			} else if held.Actor.IsZero() && len(failed) < 2 {
				t.Fatalf("the failures of %v hold back %s", failed, name)
			}
			if b.holds(id(name), now.Add(max(longestPause, trialTime))) != nil {
				t.Fatalf("%s is held back for too long: %+v", name, b)
			}
		}
	})
}

func TestRefusalSaysWhatAndWhenAndWhy(t *testing.T) {
	for _, c := range []struct {
		b    Backoff
		want string
	}{
		{Backoff{Failures: 5, Wait: 3210 * time.Millisecond, Err: "no db"},
			"overloaded: starts of kind k are held back, since 5 in a row failed; next try in 3.2s; the last error: no db"},
		{Backoff{Actor: id("a"), Failures: 3, Wait: 50*time.Millisecond + 1, Err: "no db"},
			"overloaded: starts of k/a are held back, since 3 in a row failed; next try in 50ms; the last error: no db"},
		{Backoff{Failures: 3, Trying: true, Err: "no db"},
			"overloaded: starts of kind k are held back, since 3 in a row failed; one is tried just now; the last error: no db"},
	} {
		err := c.b.refusal("k")
		if err.Error() != c.want || !abi.CodeOf(err).Retryable() {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
}
