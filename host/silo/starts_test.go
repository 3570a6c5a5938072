package silo

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/actor"
)

// journal is a log as a test reads it.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s := string(p); strings.Contains(s, "held back") {
		j.lines = append(j.lines, strings.TrimSpace(s))
	}
	return len(p), nil
}

func (j *journal) want(t *testing.T, words ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.lines) != len(words) {
		t.Fatalf("%d lines, want %d: %q", len(j.lines), len(words), j.lines)
	}
	for i, w := range words {
		if !strings.Contains(j.lines[i], w) {
			t.Errorf("line %d is %q and lacks %q", i, j.lines[i], w)
		}
	}
}

func newPatient(t *testing.T) (*node, *journal) {
	j := &journal{}
	n := newNode(t, func(c *Config, _ *Kind) { c.Log = slog.New(slog.NewTextHandler(j, nil)) })
	return n, j
}

// A kind that never starts costs its callers an answer at once and the node a start now and then; it says so once, and serves
// again as soon as it starts.
func TestKindThatDoesNotStartBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newPatient(t)
		starts := 0
		var broken error = errors.New("no db")
		n.start = func() error { starts++; return broken }
		for i := range 3 {
			_, err := n.call(numbered("a", i), "m", "")
			if !errors.Is(err, abi.ErrActivationFailed) || !strings.Contains(err.Error(), "no db") {
				t.Errorf("%v", err)
			}
		}
		synctest.Wait()
		log.want(t, "a kind does not start")

		began := time.Now()
		for i := range 1000 {
			_, err := n.call(numbered("b", i), "m", "")
			if !errors.Is(err, abi.ErrOverloaded) || !strings.Contains(err.Error(), "kind k are held back, since 3 in a row failed; next try in ") ||
				!strings.Contains(err.Error(), "no db") {
				t.Fatalf("%v", err)
			}
		}
		if d := time.Since(began); d != 0 || starts != 3 {
			t.Errorf("1000 refusals took %v and %d starts", d, starts)
		}
		if b := n.silo.Backoff(n.kind); b == nil || b.Failures != 3 || b.Wait <= 0 || b.Err != "no db" || !b.Actor.IsZero() {
			t.Errorf("%+v", b)
		}
		if got := n.silo.HeldBack("k"); got != 1000 {
			t.Errorf("%d refused", got)
		}
		if got := n.kind.Counters.StartFailures.Load(); got != 3 {
			t.Errorf("%d failures counted", got)
		}

		// A caller every 10 ms, for ten minutes.
		for i := range 60_000 {
			n.call(numbered("c", i%100), "m", "")
			time.Sleep(10 * time.Millisecond)
		}
		if starts < 3+9+600/30 || starts > 3+10+600/15 {
			t.Errorf("%d starts in 10 minutes", starts)
		}
		broken = nil
		time.Sleep(longestPause)
		n.must("d", "m", "")
		n.must("e", "m", "")
		if b := n.silo.Backoff(n.kind); b != nil {
			t.Errorf("%+v", b)
		}
		log.want(t, "level=WARN msg=\"a kind does not start", "level=INFO msg=\"the kind's starts are no longer held back")
	})
}

// Of many that come when the pause is over, one is tried, and the others are told so.
func TestOneStartIsTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newPatient(t)
		var broken error = errors.New("no")
		slow := make(chan struct{})
		n.start = func() error {
			if broken == nil {
				<-slow
			}
			return broken
		}
		for i := range 3 {
			n.call(numbered("a", i), "m", "")
		}
		time.Sleep(time.Second)
		broken = nil
		var wg sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for i := range 50 {
			wg.Go(func() {
				_, err := n.call(numbered("b", i), "m", "")
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if refused++; !errors.Is(err, abi.ErrOverloaded) || !strings.Contains(err.Error(), "held back") {
						t.Errorf("%v", err)
					}
				}
			})
		}
		synctest.Wait()
		if b := n.silo.Backoff(n.kind); b == nil || !b.Trying {
			t.Errorf("%+v", b)
		}
		close(slow)
		wg.Wait()
		if refused != 49 {
			t.Errorf("%d of 50 were refused", refused)
		}
		if got := n.kind.Counters.StartFailures.Load(); got != 3 {
			t.Errorf("%d failures counted", got)
		}
		n.must("b0001", "m", "")
	})
}

// An actor that does not start does not keep others of its kind from it.
func TestActorThatDoesNotStartBacksOffAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newPatient(t)
		start := n.kind.Start
		tried := 0
		n.kind.Start = func(h *actor.Host, state []byte) (actor.Instance, error) {
			if h.Identity().ID() == "bad" {
				tried++
				panic("what a name")
			}
			return start(h, state)
		}
		for i := range 10_000 {
			_, err := n.call("bad", "m", "")
			if err == nil {
				t.Fatal("it started")
			}
			n.must(numbered("good", i%500), "m", "")
			if i%400 == 399 {
				if err := n.silo.PassivateIdle(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if tried > 3+10+100/15 {
			t.Errorf("%d starts of one that does not start, in 100 s", tried)
		}
		b := n.silo.Backoff(n.kind)
		if b == nil || b.Actor != id("bad") || b.Failures != tried || !strings.Contains(b.Err, "panicked") {
			t.Errorf("%+v", b)
		}
		_, err := n.call("bad", "m", "")
		if !errors.Is(err, abi.ErrOverloaded) || !strings.Contains(err.Error(), "starts of k/bad are held back") {
			t.Errorf("%v", err)
		}
		log.want(t, "an actor does not start")
	})
}

// A new version of the module has done nothing wrong yet, and what the old one still does is not its fault.
func TestNewVersionStartsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newPatient(t)
		hold := make(chan struct{})
		n.start = func() error { return errors.New("v1 is bad") }
		old := *n.kind
		start := old.Start
		old.Start = func(h *actor.Host, state []byte) (actor.Instance, error) {
			if h.Identity().ID() == "late" {
				<-hold
			}
			return start(h, state)
		}
		n.kind = &old
		if err := n.api.Post(n.env("late", "m", ""), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // its start has begun
		for i := range 3 {
			n.call(numbered("a", i), "m", "")
		}
		if _, err := n.call("b", "m", ""); !errors.Is(err, abi.ErrOverloaded) {
			t.Errorf("%v", err)
		}
		next := old
		next.Version = "v2"
		n.mu.Lock()
		n.kind = &next
		n.mu.Unlock()
		n.start = func() error { return nil }
		if b := n.silo.Backoff(&next); b != nil {
			t.Errorf("%+v", b)
		}
		n.must("b", "m", "")
		synctest.Wait()
		log.want(t, "a kind does not start", "no longer held back")

		n.start = func() error { return errors.New("still v1") }
		close(hold) // and the start of the old version fails
		synctest.Wait()
		if b := n.silo.Backoff(&next); b != nil || n.silo.startsOf("k").ill.Load() {
			t.Errorf("%+v", b)
		}
	})
}

// Who looked the kind up just before it was replaced does not take the new version's back-off away.
func TestAnOldVersionDoesNotRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newPatient(t)
		old := n.kind
		next := *old
		next.Version = "v2"
		n.mu.Lock()
		n.kind = &next
		n.mu.Unlock()
		n.start = func() error { return errors.New("v2 is bad") }
		for i := range 3 {
			n.call(numbered("a", i), "m", "")
		}
		held := n.silo.Backoff(&next)
		if held == nil || !held.Actor.IsZero() {
			t.Fatalf("%+v", held)
		}
		if err := n.silo.mayStart(old, id("b")); err != nil {
			t.Errorf("%v", err)
		}
		if now := n.silo.Backoff(&next); now == nil || *now != *held {
			t.Errorf("%+v, before %+v", now, held)
		}
		log.want(t, "a kind does not start")
	})
}

// What is no failure of the kind is none: a node without room, a newer version, a shutdown; and a turn that breaks is a matter of its
// actor and message.
func TestWhatDoesNotCountAsAFailedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newPatient(t)
		n.start = func() error { return abi.NewError(abi.ErrOverloaded, "no memory for it") }
		for i := range 10 {
			if _, err := n.call(numbered("a", i), "m", ""); !errors.Is(err, abi.ErrOverloaded) || !strings.Contains(err.Error(), "no memory") {
				t.Errorf("%v", err)
			}
		}
		n.start = func() error { return nil }
		n.turn = func(*actor.Host, *abi.Event, *abi.Output) error { return abi.NewError(abi.ErrTrap, "poison") }
		for range 10 {
			if _, err := n.call("a", "m", ""); !errors.Is(err, abi.ErrTrap) {
				t.Errorf("%v", err)
			}
		}
		if n.silo.startsOf("k").ill.Load() || n.kind.Counters.StartFailures.Load() != 0 {
			t.Errorf("%+v", n.silo.Backoff(n.kind))
		}
		log.want(t)
	})
}

// The log does not follow a kind that comes and goes.
func TestLogOfAKindThatFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newPatient(t)
		broken := false
		n.start = func() error {
			if broken {
				return errors.New("no")
			}
			return nil
		}
		for i := range 40 { // 20 s
			broken = i%2 == 0
			for j := range 4 {
				n.call(numbered("a", 4*i+j), "m", "")
			}
			time.Sleep(500 * time.Millisecond)
		}
		log.mu.Lock()
		defer log.mu.Unlock()
		if len(log.lines) < 2 || len(log.lines) > 5 {
			t.Errorf("%d lines: %q", len(log.lines), log.lines)
		}
	})
}
