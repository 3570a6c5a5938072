package actor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// shelf keeps the states of a world.
type shelf struct {
	mu    sync.Mutex
	kept  map[abi.Identity][]byte
	full  error // Keep's answer
	worse error // Take's
	why   []error
	stays func() // when the activation goes on after Keep's; nil: nothing
}

// place is one actor's on a shelf.
type place struct {
	*shelf
	id abi.Identity
}

func (p place) Take() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.worse != nil {
		return nil, p.worse
	}
	b := p.kept[p.id]
	delete(p.kept, p.id)
	return b, nil
}

func (p place) Return(state []byte, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept[p.id] = state
	p.why = append(p.why, why)
}

func (p place) Stays() {
	if p.stays != nil {
		p.stays()
	}
}

func (p place) Keep(capture func([]byte) ([]byte, error)) error {
	b, err := capture([]byte("garbage of another")[:0])
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full != nil {
		return p.full
	}
	p.kept[p.id] = append([]byte(nil), b...)
	return nil
}

func (s *shelf) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// tally counts what it is sent, and can be kept.
type tally struct {
	w       *world
	h       *Host
	n       uint64
	turn    func(t *tally, ev *abi.Event, out *abi.Output) error // nil: count
	capture func() error
	resting bool
	closed  bool
}

func (t *tally) Turn(ev *abi.Event, deadline time.Time, out *abi.Output) error {
	if t.closed {
		t.w.t.Error("a turn after the end")
	}
	t.resting = false
	if t.turn != nil {
		return t.turn(t, ev, out)
	}
	t.n++
	reason := ""
	if ev.Self != nil {
		reason = ev.Self.Reason
	}
	return reply(out, fmt.Sprint(t.n, " ", reason))
}

func (t *tally) Close() error { t.closed = true; return nil }
func (t *tally) Rest()        { t.resting = true }
func (t *tally) Weight() int64 {
	return 100
}

func (t *tally) Capture(dst []byte) ([]byte, error) {
	if t.closed {
		t.w.t.Error("a capture after the end")
	}
	if t.capture != nil {
		if err := t.capture(); err != nil {
			return dst, err
		}
	}
	return binary.BigEndian.AppendUint64(dst, t.n), nil
}

// sleepy is a world whose actors can sleep; change, which may be nil, alters each new instance.
func sleepy(t *testing.T, change func(*tally)) *world {
	w := newWorld(t)
	w.shelf = &shelf{kept: map[abi.Identity][]byte{}}
	w.tally("a", change)
	return w
}

func (w *world) tally(name string, change func(*tally)) {
	w.wake[w.id(name)] = func(h *Host, state []byte) (Instance, error) {
		t := &tally{w: w, h: h}
		if state != nil {
			if len(state) != 8 {
				return nil, abi.NewError(abi.ErrStateUnusable, "damaged")
			}
			t.n = binary.BigEndian.Uint64(state)
		}
		if change != nil {
			change(t)
		}
		return t, nil
	}
}

func (w *world) want(name, reply string) {
	w.t.Helper()
	if got, err := w.call(name, "m", "", time.Minute); err != nil || got != reply {
		w.t.Fatalf("%q, %v; want %q", got, err, reply)
	}
}

// sleep hibernates an actor and waits until it has ended.
func (w *world) sleep(name string) {
	w.t.Helper()
	if !w.at(w.id(name)).Hibernate("idle") {
		w.t.Fatal("it was not idle")
	}
	w.work.Wait()
}

func TestHibernateAndWake(t *testing.T) {
	for _, quick := range []bool{false, true} {
		w := sleepy(t, nil)
		w.quick = quick
		w.want("a", "1 test")
		w.want("a", "2 ")
		if !w.at(w.id("a")).Rest() || w.at(w.id("a")).Rest() {
			t.Error("it rests once")
		}
		w.work.Wait()
		if st := w.at(w.id("a")).Status(); !st.Warm || !st.Sleeps {
			t.Errorf("%+v", st)
		}
		w.sleep("a")
		if e := w.ended(); len(e) != 1 || e[0].Reason != "hibernated" || e[0].Err != nil || e[0].Failed {
			t.Errorf("%+v", e)
		}
		w.want("a", "3 wake")
		w.want("a", "4 ")
		if w.shelf.len() != 0 {
			t.Error("the state is still on the shelf")
		}
		if h, k := w.count.Hibernations.Load(), w.count.Wakes.Load(); h != 1 || k != 1 {
			t.Errorf("%d hibernations, %d wakes", h, k)
		}
		if n, inline := w.starts, w.count.Inline.Load(); n != 2 || (inline == 4) != quick {
			t.Errorf("%d starts, %d turns inline", n, inline)
		}
	}
}

// Nothing ends for the guest, so it gets no last turn; and what is owed, due or asked for keeps it from sleeping.
func TestWhoHibernates(t *testing.T) {
	w := sleepy(t, func(y *tally) {
		y.turn = func(y *tally, ev *abi.Event, out *abi.Output) error {
			switch {
			case ev.Tag == abi.EventPassivate:
				t.Error("a last turn")
			case ev.Method == "defer":
				return effects(out)
			case ev.Method == "timer":
				return effects(out, abi.Effect{Tag: abi.EffectRemind, Name: "t", After: time.Hour}, abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			case ev.Method == "call":
				return effects(out, abi.Effect{Tag: abi.EffectCall, Handle: 1, Target: w2(y, "other"), Method: "defer"},
					abi.Effect{Tag: abi.EffectReply, Token: ev.Token})
			}
			return reply(out, "")
		}
	})
	for _, name := range []string{"b", "c", "d", "other"} {
		w.wake[w.id(name)] = w.wake[w.id("a")]
	}
	for name, method := range map[string]string{"b": "defer", "c": "timer", "d": "call"} {
		if err := w.Post(w.env(name, method, "", time.Minute), func([]byte, error) {}); err != nil {
			t.Fatal(err)
		}
	}
	w.work.Wait()
	for _, name := range []string{"b", "c", "d"} {
		if w.at(w.id(name)).Hibernate("idle") {
			t.Errorf("%s was hibernated", name)
		}
	}
	w.want("a", "")
	w.sleep("a")
	if w.shelf.len() != 1 {
		t.Errorf("%d are kept", w.shelf.len())
	}
}

func w2(y *tally, name string) abi.Identity { return y.w.id(name) }

// Without anything to keep it is a passivation: of no instance, and of one that is no Sleeper.
func TestHibernateOfWhatCannotSleepIsAPassivation(t *testing.T) {
	w := sleepy(t, nil)
	var last []string
	w.define("b", func(h *Host, ev *abi.Event, out *abi.Output) error {
		last = append(last, ev.Tag.String()+" "+ev.Reason)
		return reply(out, "")
	})
	w.want("b", "")
	w.sleep("b")
	if s := strings.Join(last, ","); s != "call ,passivate idle" {
		t.Errorf("%s", s)
	}
	w.want("a", "1 test")
	w.sleep("a")
	w.sleep("a") // an activation that was only made, not started
	w.want("a", "2 wake")
	if e := w.ended(); len(e) != 3 || e[2].Reason != "idle" {
		t.Errorf("%+v", e)
	}
	w.at(w.id("a")).Passivate("idle")
	w.work.Wait()
	w.want("a", "1 test")
}

// Whoever ends an activation since nobody used it leaves one alone that was used since it looked.
func TestLeaveOfWhatWasUsedMeanwhile(t *testing.T) {
	for _, sleep := range []bool{false, true} {
		w := sleepy(t, nil)
		w.want("a", "1 test")
		a := w.at(w.id("a"))
		seen := a.LastUsed()
		w.want("a", "2 ")
		w.work.Wait()
		if !a.Idle() || a.Leave("idle", sleep, seen) {
			t.Fatal("it leaves though it was used")
		}
		w.want("a", "3 ")
		w.work.Wait()
		if !a.Leave("idle", sleep, a.LastUsed()) {
			t.Fatal("it does not leave")
		}
		w.work.Wait()
		if n := len(w.ended()); n != 1 {
			t.Errorf("%d ended", n)
		}
	}
}

// A state that cannot be captured, or finds no place, costs nothing: the activation goes on, and what came meanwhile has its turn.
func TestAFailedCaptureLosesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		capture func() error
		full    error
	}{
		"refused": {func() error { return errors.New("v128") }, nil},
		"panic":   {func() error { panic("oh") }, nil},
		"full":    {nil, errors.New("no room")},
	} {
		t.Run(name, func(t *testing.T) {
			gate, entered := make(chan struct{}), make(chan struct{})
			fail := true
			w := sleepy(t, func(y *tally) {
				y.capture = func() error {
					close(entered)
					<-gate
					if fail && tt.capture != nil {
						return tt.capture()
					}
					return nil
				}
			})
			w.shelf.full = tt.full
			w.want("a", "1 test")
			w.at(w.id("a")).Hibernate("idle")
			<-entered
			got := w.ask("a", "m")
			w.queued("a", 1)
			close(gate)
			if s := <-got; s != "2 " {
				t.Errorf("%q", s)
			}
			w.work.Wait()
			w.want("a", "3 ")
			if len(w.ended()) != 0 || w.shelf.len() != 0 || w.count.CaptureFailures.Load() != 1 {
				t.Errorf("%+v ended, %d kept", w.ended(), w.shelf.len())
			}
			fail, entered = false, make(chan struct{})
			w.shelf.full = nil
			w.sleep("a")
			w.want("a", "4 wake")
		})
	}
}

// What comes while the state is captured waits, and goes in order to the successor, which has the state.
func TestMessagesDuringACapture(t *testing.T) {
	for _, stop := range []bool{false, true} {
		gate, entered := make(chan struct{}), make(chan struct{})
		var once sync.Once
		var got []string
		w := sleepy(t, func(y *tally) {
			y.capture = func() error { once.Do(func() { close(entered); <-gate }); return nil }
			y.turn = func(y *tally, ev *abi.Event, out *abi.Output) error {
				if ev.Tag == abi.EventPassivate {
					return effects(out)
				}
				y.n++
				got = append(got, fmt.Sprint(y.n, string(ev.Payload)))
				return reply(out, "")
			}
		})
		w.want("a", "")
		a := w.at(w.id("a"))
		a.Hibernate("idle")
		<-entered
		for i := range 5 {
			env := w.env("a", "m", fmt.Sprint("-", i), time.Minute)
			env.Flags = abi.OneWay
			if err := w.Post(env, nil); err != nil {
				t.Fatal(err)
			}
		}
		if stop { // it is to leave no successor, so it wakes in its own place
			a.Stop("shutdown")
		}
		close(gate)
		w.work.Wait()
		if s := strings.Join(got, " "); s != "1 2-0 3-1 4-2 5-3 6-4" {
			t.Errorf("stop %v: %s", stop, s)
		}
		if e := w.ended(); stop && (len(e) != 1 || e[0].Reason != "shutdown") || !stop && (len(e) != 1 || e[0].Reason != "hibernated") {
			t.Errorf("stop %v: %+v", stop, e)
		}
	}
}

// A state of which no instance can be made is kept, callers are told, and no fresh actor takes its place.
func TestAFailedWakeLosesNothing(t *testing.T) {
	for _, quick := range []bool{false, true} {
		w := sleepy(t, nil)
		w.quick = quick
		good := w.wake[w.id("a")]
		w.want("a", "1 test")
		w.sleep("a")
		for name, tt := range map[string]struct {
			start func(*Host, []byte) (Instance, error)
			code  abi.Code
		}{
			"damaged":  {func(*Host, []byte) (Instance, error) { return nil, abi.NewError(abi.ErrStateUnusable, "checksum") }, abi.ErrStateUnusable},
			"no room":  {func(*Host, []byte) (Instance, error) { return nil, abi.NewError(abi.ErrOverloaded, "no slot") }, abi.ErrOverloaded},
			"panic":    {func(*Host, []byte) (Instance, error) { panic("oh") }, abi.ErrActivationFailed},
			"vanishes": {func(*Host, []byte) (Instance, error) { runtime.Goexit(); return nil, nil }, abi.ErrTrap},
		} {
			if name == "vanishes" && quick {
				continue // it would take the test's goroutine
			}
			w.wake[w.id("a")] = tt.start
			_, err := w.call("a", "m", "", time.Minute)
			if abi.CodeOf(err) != tt.code {
				t.Errorf("%s: %v", name, err)
			}
			w.work.Wait()
			if w.shelf.len() != 1 || len(w.all()) != 0 {
				t.Errorf("%s: %d kept, %d activations", name, w.shelf.len(), len(w.all()))
			}
		}
		w.wake[w.id("a")] = good
		w.shelf.worse = abi.NewError(abi.ErrInternal, "the disk")
		if _, err := w.call("a", "m", "", time.Minute); abi.CodeOf(err) != abi.ErrActivationFailed {
			t.Errorf("%v", err)
		}
		w.shelf.worse = nil
		w.work.Wait()
		w.want("a", "2 wake")
		if n := w.count.WakeFailures.Load(); n != 2 && n != 3 {
			t.Errorf("%d failed wakes", n)
		}
		w.sleep("a")
		w.shelf.kept[w.id("a")] = []byte{} // not even a beginning
		if _, err := w.call("a", "m", "", time.Minute); abi.CodeOf(err) != abi.ErrStateUnusable {
			t.Errorf("%v", err)
		}
		w.work.Wait()
	}
}

// A newer version in a woken one's place: the state is returned, and the successor decides.
func TestAReplacedWakeReturnsTheState(t *testing.T) {
	w := sleepy(t, nil)
	w.quick = true
	w.want("a", "1 test")
	w.sleep("a")
	good, tries := w.wake[w.id("a")], 0
	w.wake[w.id("a")] = func(h *Host, state []byte) (Instance, error) {
		if tries++; tries < 3 {
			return nil, abi.NewError(abi.ErrOwnershipChanged, "replaced")
		}
		return good(h, state)
	}
	w.want("a", "2 wake")
	if n := w.count.WakeFailures.Load(); n != 0 || tries != 3 {
		t.Errorf("%d failed wakes, %d tries", n, tries)
	}
}

// A node that loses the actor while it is captured answers nothing more of it.
func TestRevokedDuringACapture(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{})
	w := sleepy(t, func(y *tally) { y.capture = func() error { close(entered); <-gate; return nil } })
	w.want("a", "1 test")
	a := w.at(w.id("a"))
	a.Hibernate("idle")
	<-entered
	a.Revoke()
	close(gate)
	w.work.Wait()
	if e := w.ended(); len(e) != 1 || e[0].Reason != "revoked" || !e[0].Released {
		t.Errorf("%+v", e)
	}
}

// A token of a call that has long expired must not come to name a later call, of another caller.
func TestTokensGoOnAfterAWake(t *testing.T) {
	var tokens []uint64
	w := sleepy(t, func(y *tally) {
		y.turn = func(y *tally, ev *abi.Event, out *abi.Output) error {
			tokens = append(tokens, ev.Token)
			return reply(out, "")
		}
	})
	for range 3 {
		w.want("a", "")
		w.want("a", "")
		w.sleep("a")
	}
	if fmt.Sprint(tokens) != "[1 2 3 4 5 6]" {
		t.Errorf("%d", tokens)
	}
}

// A rest that breaks the instance ends it, and what waited goes to the successor.
func TestARestThatBreaks(t *testing.T) {
	w := sleepy(t, nil)
	w.wake[w.id("a")] = func(h *Host, state []byte) (Instance, error) { return &restless{tally{w: w, h: h}}, nil }
	w.want("a", "1 test")
	w.at(w.id("a")).Rest()
	w.work.Wait()
	if e := w.ended(); len(e) != 1 || e[0].Reason != "trap" {
		t.Errorf("%+v", e)
	}
	w.want("a", "1 test")
}

type restless struct{ tally }

func (r *restless) Rest() { panic("no rest") }

// A quick start runs where the first turn runs. One that takes long after all holds no caller beyond its deadline.
func TestAQuickStart(t *testing.T) {
	w := sleepy(t, nil)
	w.quick = true
	w.want("a", "1 test")
	if n := w.count.Inline.Load(); n != 1 {
		t.Errorf("%d turns inline", n)
	}
	w.tally("b", nil)
	if _, err := w.call("b", "m", "", w.limits.Turn-time.Millisecond); err != nil || w.count.Inline.Load() != 1 { // it has no time for a whole turn
		t.Errorf("%v, %d turns inline", err, w.count.Inline.Load())
	}
	w.tally("c", func(y *tally) {
		for until := time.Now().Add(20 * time.Millisecond); time.Now().Before(until); {
			runtime.Gosched()
		}
	})
	if got, err := w.call("c", "m", "", w.limits.Turn+10*time.Millisecond); err != nil || got != "1 test" || w.count.Inline.Load() != 1 {
		t.Errorf("%q, %v, %d turns inline", got, err, w.count.Inline.Load())
	}
	w.start[w.id("d")] = func(*Host) (Instance, error) { return nil, errors.New("no memory") }
	if _, err := w.call("d", "m", "", time.Minute); abi.CodeOf(err) != abi.ErrActivationFailed {
		t.Errorf("%v", err)
	}
}
